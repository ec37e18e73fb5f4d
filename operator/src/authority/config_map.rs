//! The ConfigMap from which agents learn whom to believe; the operator makes it, mends it, and writes only what differs.

use std::time::{Duration, SystemTime};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Client, ResourceExt as _};

use super::AuthorityError;
use super::stored::Stored;

/// The key in the ConfigMap.
const KEY: &str = "ca.crt";
/// An annotation: when it was last changed, in seconds since the epoch, which all replicas go by.
const SINCE: &str = "exporter-operator.dev/believed-since";

pub(super) struct Bundle {
    config_map: Stored<ConfigMap>,
}

/// What agents are told.
pub(super) struct Told {
    /// Whom to believe, in PEM.
    pub(super) authorities: String,
    /// Since when nothing else.
    pub(super) since: SystemTime,
}

impl Bundle {
    pub(super) fn new(client: &Client, namespace: &str, name: &str) -> Self {
        Bundle { config_map: Stored::new(client, namespace, name.to_owned()) }
    }

    /// Makes agents believe whom they should, in PEM, given whom they believe now.
    pub(super) async fn hold(&self, wanted: impl Fn(&str) -> String) -> Result<Told, AuthorityError> {
        loop {
            let mut config_map = self.config_map.find().await?.unwrap_or_default();
            let known = config_map.data.as_ref().and_then(|data| data.get(KEY)).map_or("", String::as_str);
            let authorities = wanted(known);
            let data = [(KEY.to_owned(), authorities.clone())].into();
            if config_map.data.as_ref() == Some(&data) {
                let since = config_map.annotations().get(SINCE).and_then(|seconds| seconds.parse().ok());
                let since = SystemTime::UNIX_EPOCH + Duration::from_secs(since.unwrap_or_default());
                return Ok(Told { authorities, since });
            }
            (config_map.data, config_map.binary_data) = (Some(data), None);
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
            config_map.annotations_mut().insert(SINCE.to_owned(), now.to_string());
            // Another replica that was quicker says the same.
            if self.config_map.write(config_map).await? {
                tracing::info!("agents are told whom to believe by {}", self.config_map);
            }
        }
    }
}
