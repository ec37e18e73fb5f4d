//! An object of the operator's own in its namespace, by name: read, and written unless another replica was quicker.

use std::collections::BTreeMap;
use std::fmt::{self, Debug, Display};

use kube::api::{Api, PostParams};
use kube::core::NamespaceResourceScope;
use kube::{Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::AuthorityError;

pub(super) struct Stored<K> {
    api: Api<K>,
    name: String,
}

impl<K> Stored<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Default
        + DeserializeOwned
        + Serialize,
{
    pub(super) fn new(client: &Client, namespace: &str, name: String) -> Self {
        Stored { api: Api::namespaced(client.clone(), namespace), name }
    }

    pub(super) async fn find(&self) -> Result<Option<K>, AuthorityError> {
        self.api.get_opt(&self.name).await.map_err(|error| self.error(error))
    }

    /// Replaces what was found, or creates what was not; false when another replica was quicker.
    pub(super) async fn write(&self, mut object: K) -> Result<bool, AuthorityError> {
        let params = PostParams::default();
        let written = if object.meta().resource_version.is_some() {
            self.api.replace(&self.name, &params, &object).await
        } else {
            let metadata = object.meta_mut();
            metadata.name = Some(self.name.clone());
            metadata.labels = Some(labels());
            self.api.create(&params, &object).await
        };
        match written {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => Ok(false),
            Err(error) => Err(self.error(error)),
        }
    }

    fn error(&self, error: kube::Error) -> AuthorityError {
        AuthorityError::Api { object: self.to_string(), source: Box::new(error) }
    }
}

/// Kind and name, as errors and the log call it.
impl<K: Resource<DynamicType = ()>> Display for Stored<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {} {}", K::kind(&()), self.name)
    }
}

/// What says whose the operator's own objects are.
fn labels() -> BTreeMap<String, String> {
    let labels = [
        ("app.kubernetes.io/part-of", "exporter-operator"),
        ("app.kubernetes.io/managed-by", crds::FIELD_MANAGER),
    ];
    labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}
