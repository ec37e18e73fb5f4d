//! The certificate that agents serve their metrics with, in a Secret that their pods mount: signed by the operator's own
//! authority, and renewed with it.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;

use super::generations::Signer;
use super::stored::Stored;
use super::{AuthorityError, leaf, x509};

/// Which Secret, and for which names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentsCertificate {
    /// Name of the Secret, of type `kubernetes.io/tls`.
    pub secret: String,
    /// The names that a scraper knows the agents by.
    pub names: Vec<String>,
}

pub(super) struct Agents {
    secret: Stored<Secret>,
    names: Vec<String>,
}

/// Long, for nobody reads metrics once it is over, and renewed at half; a new authority signs another one at once.
const LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);
const CHAIN: &str = "tls.crt";
const KEY: &str = "tls.key";
/// Says who signed, so that a new authority is seen.
const AUTHORITY: &str = "ca.crt";

impl Agents {
    pub(super) fn new(client: &Client, namespace: &str, wanted: AgentsCertificate) -> Self {
        Agents { secret: Stored::new(client, namespace, wanted.secret), names: wanted.names }
    }

    /// Sees to it that the Secret has a certificate of this authority with half of its life before it.
    pub(super) async fn keep(&self, signer: &Signer, now: SystemTime) -> Result<(), AuthorityError> {
        let found = self.secret.find().await?;
        if found.as_ref().is_some_and(|found| is_good(found, signer, now)) {
            return Ok(());
        }
        let leaf = leaf::sign(signer, &self.names, now, LIFETIME)?;
        let data = [(CHAIN, leaf.certificate), (KEY, leaf.key), (AUTHORITY, signer.certificate.clone())];
        let data: BTreeMap<_, _> =
            data.into_iter().map(|(key, text)| (key.to_owned(), ByteString(text.into_bytes()))).collect();
        let made = || Secret { type_: Some("kubernetes.io/tls".to_owned()), ..Secret::default() };
        let wanted = Secret { data: Some(data), ..found.unwrap_or_else(made) };
        // What another replica wrote is looked at next time.
        if self.secret.write(wanted).await? {
            tracing::info!("agents have a new certificate in {}", self.secret);
        }
        Ok(())
    }
}

fn is_good(secret: &Secret, signer: &Signer, now: SystemTime) -> bool {
    let text = |key: &str| {
        let bytes = secret.data.as_ref().and_then(|data| data.get(key));
        bytes.and_then(|bytes| std::str::from_utf8(&bytes.0).ok()).unwrap_or_default()
    };
    let ends = x509::pair(text(CHAIN), text(KEY)).map(|pair| pair.ends);
    text(AUTHORITY) == signer.certificate
        && ends.is_ok_and(|ends| ends > now + LIFETIME / 2 || ends >= signer.validity.until)
}
