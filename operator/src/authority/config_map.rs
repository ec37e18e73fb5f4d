//! The ConfigMap from which agents learn whom to believe; the operator makes it, mends it, and writes only what differs.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};

use super::AuthorityError;

/// The key in the ConfigMap.
const KEY: &str = "ca.crt";

pub(super) struct Bundle {
    config_maps: Api<ConfigMap>,
    name: String,
}

/// What says whose the operator's own objects are.
pub(super) fn labels() -> BTreeMap<String, String> {
    let labels = [
        ("app.kubernetes.io/part-of", "exporter-operator"),
        ("app.kubernetes.io/managed-by", crds::FIELD_MANAGER),
    ];
    labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

impl Bundle {
    pub(super) fn new(client: &Client, namespace: &str, name: &str) -> Self {
        Bundle { config_maps: Api::namespaced(client.clone(), namespace), name: name.to_owned() }
    }

    /// Whom agents believe now, in PEM; nobody where there is none.
    pub(super) async fn known(&self) -> Result<String, AuthorityError> {
        let found = self.find().await?.and_then(|found| found.data);
        Ok(found.and_then(|mut data| data.remove(KEY)).unwrap_or_default())
    }

    /// Makes these the ones that agents believe.
    pub(super) async fn hold(&self, bundle: &str) -> Result<(), AuthorityError> {
        let data: BTreeMap<_, _> = [(KEY.to_owned(), bundle.to_owned())].into();
        loop {
            let params = PostParams::default();
            let written = match self.find().await? {
                Some(found) if found.data.as_ref() == Some(&data) => return Ok(()),
                Some(found) => {
                    let wanted = ConfigMap { data: Some(data.clone()), binary_data: None, ..found };
                    self.config_maps.replace(&self.name, &params, &wanted).await
                }
                None => {
                    let name = Some(self.name.clone());
                    let metadata = ObjectMeta { name, labels: Some(labels()), ..ObjectMeta::default() };
                    let wanted = ConfigMap { metadata, data: Some(data.clone()), ..ConfigMap::default() };
                    self.config_maps.create(&params, &wanted).await
                }
            };
            match written {
                Ok(_) => tracing::info!(config_map = self.name, "agents are told whom to believe"),
                // Another replica was quicker, and says the same.
                Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => {}
                Err(error) => return Err(self.api(error)),
            }
        }
    }

    async fn find(&self) -> Result<Option<ConfigMap>, AuthorityError> {
        self.config_maps.get_opt(&self.name).await.map_err(|error| self.api(error))
    }

    fn api(&self, error: kube::Error) -> AuthorityError {
        AuthorityError::Api { object: format!("the ConfigMap {}", self.name), source: Box::new(error) }
    }
}
