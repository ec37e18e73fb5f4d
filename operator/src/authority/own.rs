//! The operator's own authority, in a Secret that all replicas share: whoever comes first makes it or takes the next step.

use std::collections::BTreeMap;
use std::time::SystemTime;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::{Client, ResourceExt as _};

use super::generations::{Generations, LEAF_LIFETIME, Schedule, Signer};
use super::stored::Stored;
use super::x509::{self, Pair};
use super::{AuthorityError, leaf};

/// Annotate the Secret with this to have the next authority at once; the operator takes the annotation away.
const ROTATE: &str = "exporter-operator.dev/rotate";

pub(super) struct Own {
    secret: Stored<Secret>,
    names: Vec<String>,
    schedule: Schedule,
    /// What was signed last, and by whom.
    served: Option<(Signer, SystemTime)>,
}

impl Own {
    pub(super) fn new(
        client: &Client,
        namespace: &str,
        name: String,
        names: Vec<String>,
        schedule: Schedule,
    ) -> Self {
        Own { secret: Stored::new(client, namespace, name), names, schedule, served: None }
    }

    /// The authorities that there are now, after the steps that it is time for.
    pub(super) async fn keep(&self, now: SystemTime) -> Result<Generations, AuthorityError> {
        loop {
            let (mut secret, next) = match self.secret.find().await? {
                None => (Secret::default(), Generations::first(self.subject(), now, &self.schedule)?),
                Some(secret) => {
                    let is_asked = secret.annotations().contains_key(ROTATE);
                    let generations = self.read(&secret)?;
                    let next = generations.step(self.subject(), now, &self.schedule, is_asked)?;
                    match next {
                        // Asked while the next one is on its way already.
                        None if is_asked => (secret, generations),
                        None => return Ok(generations),
                        Some(next) => (secret, next),
                    }
                }
            };
            let bytes = |(key, text): (String, String)| (key, ByteString(text.into_bytes()));
            secret.data = Some(next.to_data().into_iter().map(bytes).collect());
            secret.annotations_mut().remove(ROTATE);
            if self.secret.write(secret).await? {
                tracing::info!("the authority in {} has taken a step", self.secret);
            }
        }
    }

    /// A new certificate, where it is time for one.
    pub(super) fn leaf(&mut self, signer: &Signer, now: SystemTime) -> Result<Option<Pair>, AuthorityError> {
        let is_good = |(by, at): &(Signer, SystemTime)| {
            by == signer && now.duration_since(*at).unwrap_or_default() < LEAF_LIFETIME / 2
        };
        if self.served.as_ref().is_some_and(is_good) {
            return Ok(None);
        }
        let leaf = leaf::sign(signer, &self.names, now, LEAF_LIFETIME)?;
        let pair = x509::pair(&leaf.certificate, &leaf.key).map_err(|what| self.content("ca.crt", what))?;
        self.served = Some((signer.clone(), now));
        Ok(Some(pair))
    }

    /// As [`Self::leaf`], by the authority that signed last.
    pub(super) fn leaf_again(&mut self, now: SystemTime) -> Result<Option<Pair>, AuthorityError> {
        match self.served.clone() {
            Some((signer, _)) => self.leaf(&signer, now),
            None => Ok(None),
        }
    }

    fn subject(&self) -> &str {
        self.names.first().map_or("exporter-operator", String::as_str)
    }

    fn read(&self, secret: &Secret) -> Result<Generations, AuthorityError> {
        let mut data = BTreeMap::new();
        for (key, value) in secret.data.iter().flatten() {
            let text =
                String::from_utf8(value.0.clone()).map_err(|_| self.content(key, "is not text".into()))?;
            data.insert(key.clone(), text);
        }
        Generations::from_data(&data).map_err(|(key, what)| self.content(key, what))
    }

    fn content(&self, key: &str, what: String) -> AuthorityError {
        let what = format!("{what}; mend it, or delete the Secret for a new authority");
        AuthorityError::Content { place: format!("{}: {key}", self.secret), what }
    }
}
