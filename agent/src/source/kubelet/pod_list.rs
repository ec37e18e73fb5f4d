//! The kubelet's list of pods, reduced to what series are labelled with.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

/// A pod as the kubelet has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// `metadata.uid`; of a static pod the hash of its file, which is also in the name of its cgroup.
    pub uid: String,
    /// `metadata.namespace`
    pub namespace: String,
    /// `metadata.name`
    pub name: String,
    /// `metadata.labels`
    pub labels: BTreeMap<String, String>,
    /// `spec.hostNetwork`
    pub host_network: bool,
    /// The containers that have an id: init, ephemeral and others, also those that have ended.
    pub containers: Vec<PodContainer>,
}

/// One container of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodContainer {
    /// The runtime's id, without its scheme.
    pub id: String,
    /// The container's name.
    pub name: String,
    /// The image as the runtime resolved it.
    pub image: String,
}

/// Reads a PodList.
///
/// # Errors
/// When it is not JSON or not a list. A pod without name or UID is passed over.
pub fn parse(json: &[u8]) -> Result<Vec<Pod>, serde_json::Error> {
    let list: PodList = serde_json::from_slice(json)?;
    Ok(list.items.into_iter().filter_map(PodObject::into_pod).collect())
}

#[derive(Deserialize)]
struct PodList {
    // The kubelet of a node without pods answers null.
    #[serde(deserialize_with = "null_is_default")]
    items: Vec<PodObject>,
}

#[derive(Deserialize)]
struct PodObject {
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    uid: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    name: String,
    #[serde(default, deserialize_with = "null_is_default")]
    labels: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    host_network: bool,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    #[serde(default, deserialize_with = "null_is_default")]
    container_statuses: Vec<ContainerStatus>,
    #[serde(default, deserialize_with = "null_is_default")]
    init_container_statuses: Vec<ContainerStatus>,
    #[serde(default, deserialize_with = "null_is_default")]
    ephemeral_container_statuses: Vec<ContainerStatus>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContainerStatus {
    name: String,
    #[serde(default)]
    image: String,
    #[serde(default, rename = "containerID")]
    container_id: String,
    #[serde(default)]
    last_state: LastState,
}

#[derive(Default, Deserialize)]
struct LastState {
    terminated: Option<Terminated>,
}

#[derive(Deserialize)]
struct Terminated {
    #[serde(default, rename = "containerID")]
    container_id: String,
}

impl PodObject {
    fn into_pod(self) -> Option<Pod> {
        let Metadata { uid, namespace, name, labels } = self.metadata;
        if uid.is_empty() || name.is_empty() {
            return None;
        }
        let status = self.status;
        let statuses =
            [status.container_statuses, status.init_container_statuses, status.ephemeral_container_statuses];
        let containers = statuses
            .into_iter()
            .flatten()
            .flat_map(|s| {
                let before = s.last_state.terminated.map(|t| t.container_id).unwrap_or_default();
                [s.container_id, before].map(|id| PodContainer {
                    id: id.rsplit_once("://").map_or(id.as_str(), |(_, id)| id).to_owned(),
                    name: s.name.clone(),
                    image: s.image.clone(),
                })
            })
            .filter(|c| !c.id.is_empty())
            .collect();
        Some(Pod { uid, namespace, name, labels, host_network: self.spec.host_network, containers })
    }
}

fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_has_the_ids_of_all_its_containers_and_of_the_one_before() {
        let pods = parse(
            br#"{"kind":"PodList","items":[{"metadata":{"name":"web","namespace":"shop","uid":"u",
                "labels":{"app":"web"}},
                "spec":{"hostNetwork":true},
                "status":{"containerStatuses":[{"name":"main","image":"i:1","containerID":"containerd://aa",
                    "lastState":{"terminated":{"containerID":"containerd://bb"}}}],
                  "initContainerStatuses":[{"name":"init","image":"i:2","containerID":"cri-o://cc"}],
                  "ephemeralContainerStatuses":null}},
                {"metadata":{"name":"pending","namespace":"shop","uid":"v"},"spec":{},"status":{}},
                {"metadata":{"name":"no uid"}}]}"#,
        )
        .unwrap();
        assert_eq!(pods.len(), 2);
        let ids: Vec<_> = pods[0].containers.iter().map(|c| (c.id.as_str(), c.name.as_str())).collect();
        assert_eq!(ids, [("aa", "main"), ("bb", "main"), ("cc", "init")]);
        assert!(pods[0].host_network);
    }

    #[test]
    fn an_empty_node_answers_null_and_garbage_is_an_error() {
        assert_eq!(parse(br#"{"items":null}"#).unwrap(), []);
        assert!(parse(b"<html>").is_err());
        assert!(parse(b"{}").is_err());
    }
}
