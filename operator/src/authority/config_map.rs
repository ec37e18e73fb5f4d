//! The ConfigMap from which agents learn whom to believe; the operator makes it, mends it, and writes only what differs.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Client, ResourceExt as _};

use super::AuthorityError;

/// The key in the ConfigMap.
const KEY: &str = "ca.crt";
/// An annotation: when it was last changed, in seconds since the epoch, which all replicas go by.
const SINCE: &str = "exporter-operator.dev/believed-since";

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

    /// Whom agents believe now, in PEM; nobody where there is none. And since when there has been nobody else.
    pub(super) async fn known(&self) -> Result<(String, SystemTime), AuthorityError> {
        let Some(found) = self.find().await? else { return Ok((String::new(), SystemTime::now())) };
        let since = found.annotations().get(SINCE).and_then(|seconds| seconds.parse().ok());
        let since = SystemTime::UNIX_EPOCH + Duration::from_secs(since.unwrap_or_default());
        Ok((found.data.and_then(|mut data| data.remove(KEY)).unwrap_or_default(), since))
    }

    /// Makes these the ones that agents believe.
    pub(super) async fn hold(&self, bundle: &str) -> Result<(), AuthorityError> {
        let data: BTreeMap<_, _> = [(KEY.to_owned(), bundle.to_owned())].into();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let since: BTreeMap<_, _> = [(SINCE.to_owned(), now.to_string())].into();
        loop {
            let params = PostParams::default();
            let written = match self.find().await? {
                Some(found) if found.data.as_ref() == Some(&data) => return Ok(()),
                Some(found) => {
                    let mut wanted = ConfigMap { data: Some(data.clone()), binary_data: None, ..found };
                    wanted.annotations_mut().extend(since.clone());
                    self.config_maps.replace(&self.name, &params, &wanted).await
                }
                None => {
                    let name = Some(self.name.clone());
                    let (labels, annotations) = (Some(labels()), Some(since.clone()));
                    let metadata = ObjectMeta { name, labels, annotations, ..ObjectMeta::default() };
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
