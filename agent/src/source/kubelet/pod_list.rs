//! The kubelet's list of pods, reduced to what series are labelled with.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use jiff::Timestamp;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

use super::quantity::bytes;

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
    /// `metadata.annotations`, those that are not too long for a label.
    pub annotations: BTreeMap<String, String>,
    /// Of `metadata.ownerReferences` the one that controls the pod.
    pub controller: Option<Controller>,
    /// `status.qosClass`
    pub qos_class: String,
    /// `spec.priorityClassName`
    pub priority_class: String,
    /// `spec.hostNetwork`
    pub host_network: bool,
    /// `status.startTime`: when the kubelet took it up, before any of its containers.
    pub started: Option<Timestamp>,
    /// Limits of ephemeral storage in bytes, by the names of containers.
    pub storage_limits: BTreeMap<String, u64>,
    /// The limit of ephemeral storage of the pod as a whole.
    pub storage_limit: Option<u64>,
    /// Names of volumes that are emptyDirs.
    pub empty_dirs: BTreeSet<String>,
    /// Whether `spec` has one container, and neither an init container nor an ephemeral one.
    pub has_one_container: bool,
    /// The containers that have an id: init, ephemeral and others, also those that have ended.
    pub containers: Vec<PodContainer>,
}

/// The object that made a pod and keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Controller {
    /// `kind`
    pub kind: String,
    /// `name`
    pub name: String,
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
    /// Whether the kernel killed it, or a process in it, for want of memory.
    pub was_oom_killed: bool,
}

/// What is longer was not written to be a label: `kubectl apply` keeps the whole object in one.
const LONGEST_ANNOTATION: usize = 1024;

/// Reads a PodList.
///
/// # Errors
/// When it is not JSON or not a list. A pod without name or UID is passed over, and one that is there already.
pub fn parse(json: &[u8]) -> Result<Vec<Pod>, serde_json::Error> {
    let list: PodList = serde_json::from_slice(json)?;
    let mut uids = HashSet::new();
    let pods = list.items.into_iter().filter_map(PodObject::into_pod);
    Ok(pods.filter(|pod| uids.insert(pod.uid.clone())).collect())
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
    #[serde(default, deserialize_with = "null_is_default")]
    annotations: BTreeMap<String, String>,
    #[serde(default, rename = "ownerReferences", deserialize_with = "null_is_default")]
    owners: Vec<OwnerReference>,
}

#[derive(Deserialize)]
struct OwnerReference {
    #[serde(default, rename = "controller")]
    is_controller: bool,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    host_network: bool,
    #[serde(default)]
    priority_class_name: String,
    #[serde(default, deserialize_with = "null_is_default")]
    containers: Vec<Container>,
    #[serde(default, deserialize_with = "null_is_default")]
    init_containers: Vec<Container>,
    #[serde(default, deserialize_with = "null_is_default")]
    ephemeral_containers: Vec<IgnoredAny>,
    #[serde(default, deserialize_with = "null_is_default")]
    volumes: Vec<Volume>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Container {
    name: String,
    #[serde(default)]
    restart_policy: String,
    #[serde(default)]
    resources: Resources,
}

#[derive(Default, Deserialize)]
struct Resources {
    #[serde(default, deserialize_with = "null_is_default")]
    limits: Limits,
}

#[derive(Default, Deserialize)]
struct Limits {
    #[serde(rename = "ephemeral-storage")]
    ephemeral_storage: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Volume {
    name: String,
    empty_dir: Option<IgnoredAny>,
}

impl Container {
    fn storage_limit(&self) -> Option<u64> {
        self.resources.limits.ephemeral_storage.as_deref().and_then(bytes)
    }
}

impl Spec {
    fn storage_limits(&self) -> BTreeMap<String, u64> {
        let containers = self.containers.iter().chain(&self.init_containers);
        containers.filter_map(|c| Some((c.name.clone(), c.storage_limit()?))).collect()
    }

    /// What the kubelet evicts the pod by: what its containers and sidecars may take together, or an init container with
    /// the sidecars before it, where that is more.
    /// https://kubernetes.io/docs/concepts/workloads/pods/init-containers/#resource-sharing-within-containers
    fn storage_limit(&self) -> Option<u64> {
        let (mut sidecars, mut most_before) = (0u64, 0u64);
        for init in &self.init_containers {
            let limit = init.storage_limit().unwrap_or(0);
            if init.restart_policy == "Always" {
                sidecars = sidecars.saturating_add(limit);
            }
            let plain = if init.restart_policy == "Always" { 0 } else { limit };
            most_before = most_before.max(sidecars.saturating_add(plain));
        }
        let together =
            self.containers.iter().filter_map(Container::storage_limit).fold(sidecars, u64::saturating_add);
        let has_any = !self.storage_limits().is_empty();
        has_any.then_some(together.max(most_before))
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    #[serde(default)]
    qos_class: String,
    start_time: Option<String>,
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
    state: ContainerState,
    #[serde(default)]
    last_state: ContainerState,
}

#[derive(Default, Deserialize)]
struct ContainerState {
    terminated: Option<Terminated>,
}

#[derive(Deserialize)]
struct Terminated {
    #[serde(default, rename = "containerID")]
    container_id: String,
    #[serde(default)]
    reason: String,
}

impl Terminated {
    /// The reason that the runtime gives (`OOMKilled` of ContainerStatus in
    /// https://github.com/kubernetes/cri-api/blob/master/pkg/apis/runtime/v1/api.proto): its cgroup counted a kill.
    fn is_oom(&self) -> bool {
        self.reason == "OOMKilled"
    }
}

impl PodObject {
    fn into_pod(self) -> Option<Pod> {
        let Metadata { uid, namespace, name, labels, mut annotations, owners } = self.metadata;
        if uid.is_empty() || name.is_empty() {
            return None;
        }
        annotations.retain(|_, value| value.len() <= LONGEST_ANNOTATION);
        let controller = owners.into_iter().find(|owner| owner.is_controller);
        let controller = controller.map(|owner| Controller { kind: owner.kind, name: owner.name });
        let status = self.status;
        let statuses =
            [status.container_statuses, status.init_container_statuses, status.ephemeral_container_statuses];
        let containers = statuses
            .into_iter()
            .flatten()
            .flat_map(|s| {
                let before = s.last_state.terminated;
                let now = (s.container_id, s.state.terminated.is_some_and(|t| t.is_oom()));
                let before = before.map(|t| (t.container_id.clone(), t.is_oom())).unwrap_or_default();
                [now, before].map(|(id, was_oom_killed)| PodContainer {
                    id: id.rsplit_once("://").map_or(id.as_str(), |(_, id)| id).to_owned(),
                    name: s.name.clone(),
                    image: s.image.clone(),
                    was_oom_killed,
                })
            })
            .filter(|c| !c.id.is_empty())
            .collect();
        Some(Pod {
            uid,
            namespace,
            name,
            labels,
            annotations,
            controller,
            qos_class: status.qos_class,
            storage_limits: self.spec.storage_limits(),
            storage_limit: self.spec.storage_limit(),
            priority_class: self.spec.priority_class_name,
            empty_dirs: {
                let volumes = self.spec.volumes.into_iter();
                volumes.filter(|v| v.empty_dir.is_some()).map(|v| v.name).collect()
            },
            host_network: self.spec.host_network,
            has_one_container: matches!(
                (&self.spec.containers[..], &self.spec.init_containers[..]),
                ([_], [])
            ) && self.spec.ephemeral_containers.is_empty(),
            started: status.start_time.and_then(|time| time.parse().ok()),
            containers,
        })
    }
}

fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_container_is_the_only_one_without_init_and_ephemeral_ones() {
        let has_one = |spec: &str| {
            let json = format!(r#"{{"items":[{{"metadata":{{"name":"a","uid":"u"}},"spec":{{{spec}}}}}]}}"#);
            parse(json.as_bytes()).unwrap()[0].has_one_container
        };
        assert!(has_one(r#""containers":[{"name":"a"}]"#));
        for spec in [
            "",
            r#""containers":[{"name":"a"},{"name":"b"}]"#,
            r#""containers":[{"name":"a"}],"initContainers":[{"name":"b"}]"#,
            r#""containers":[{"name":"a"}],"ephemeralContainers":[{"name":"b"}]"#,
        ] {
            assert!(!has_one(spec), "{spec}");
        }
    }

    #[test]
    fn a_pod_has_the_ids_of_all_its_containers_and_of_the_one_before() {
        let pods = parse(
            br#"{"kind":"PodList","items":[{"metadata":{"name":"web","namespace":"shop","uid":"u",
                "labels":{"app":"web"},
                "ownerReferences":[{"kind":"Other","name":"x"},
                    {"kind":"DaemonSet","name":"web","controller":true,"uid":"w"}]},
                "spec":{"hostNetwork":true,"priorityClassName":"high"},
                "status":{"qosClass":"Burstable","startTime":"2026-01-31T12:00:00Z","containerStatuses":[{"name":"main","image":"i:1","containerID":"containerd://aa",
                    "lastState":{"terminated":{"containerID":"containerd://bb","reason":"OOMKilled"}}}],
                  "initContainerStatuses":[{"name":"init","image":"i:2","containerID":"cri-o://cc",
                    "state":{"terminated":{"containerID":"cri-o://cc","reason":"Completed"}}}],
                  "ephemeralContainerStatuses":[{"name":"debug","image":"i:3","containerID":"containerd://dd",
                    "state":{"terminated":{"containerID":"containerd://dd","reason":"OOMKilled"}}}]}},
                {"metadata":{"name":"pending","namespace":"shop","uid":"v"},"spec":{},"status":{"startTime":"soon"}},
                {"metadata":{"name":"no uid"}}]}"#,
        )
        .unwrap();
        assert_eq!(pods.len(), 2);
        let ids: Vec<_> = pods[0].containers.iter().map(|c| (c.id.as_str(), c.name.as_str())).collect();
        assert_eq!(ids, [("aa", "main"), ("bb", "main"), ("cc", "init"), ("dd", "debug")]);
        assert_eq!(
            pods[0].containers.iter().map(|c| c.was_oom_killed).collect::<Vec<_>>(),
            [false, true, false, true]
        );
        assert!(pods[0].host_network);
        assert_eq!(pods[0].controller, Some(Controller { kind: "DaemonSet".into(), name: "web".into() }));
        assert_eq!((pods[0].qos_class.as_str(), pods[0].priority_class.as_str()), ("Burstable", "high"));
        let started = pods.iter().map(|pod| pod.started.map(Timestamp::as_second));
        assert_eq!(started.collect::<Vec<_>>(), [Some(1_769_860_800), None]);
        assert_eq!((&pods[1].controller, pods[1].priority_class.as_str()), (&None, ""));
    }

    #[test]
    fn an_annotation_that_is_too_long_for_a_label_is_not_kept() {
        let annotations = format!(r#""at most":"{}","too long":"{}""#, "a".repeat(1024), "a".repeat(1025));
        let list = format!(
            r#"{{"items":[{{"metadata":{{"name":"web","uid":"u","annotations":{{{annotations}}}}}}}]}}"#
        );
        let pods = parse(list.as_bytes()).unwrap();
        assert_eq!(pods[0].annotations.keys().collect::<Vec<_>>(), ["at most"]);
    }

    #[track_caller]
    fn check_limit(spec: &str, expected: Option<u64>, by_container: &[(&str, u64)]) {
        let list = format!(r#"{{"items":[{{"metadata":{{"name":"web","uid":"u"}},"spec":{spec}}}]}}"#);
        let pods = parse(list.as_bytes()).unwrap();
        let found: Vec<_> =
            pods[0].storage_limits.iter().map(|(name, limit)| (name.as_str(), *limit)).collect();
        assert_eq!((pods[0].storage_limit, found.as_slice()), (expected, by_container), "{spec}");
    }

    #[test]
    fn the_limit_of_a_pod_is_what_its_containers_may_take_at_once() {
        let limited = |name: &str, limit: &str, policy: &str| {
            let limits = format!(r#""resources":{{"limits":{{"cpu":"1","ephemeral-storage":"{limit}"}}}}"#);
            format!(r#"{{"name":"{name}","restartPolicy":"{policy}",{limits}}}"#)
        };
        let (a, b) = (limited("a", "1Ki", ""), limited("b", "2Ki", ""));
        let free = r#"{"name":"free","resources":{}}"#;
        check_limit(&format!(r#"{{"containers":[{free}]}}"#), None, &[]);
        check_limit(r#"{"containers":null,"volumes":null}"#, None, &[]);
        check_limit(&format!(r#"{{"containers":[{a},{free}]}}"#), Some(1024), &[("a", 1024)]);
        check_limit(&format!(r#"{{"containers":[{a},{b}]}}"#), Some(3072), &[("a", 1024), ("b", 2048)]);
        let init = limited("i", "4Ki", "");
        let spec = format!(r#"{{"containers":[{a}],"initContainers":[{init}]}}"#);
        check_limit(&spec, Some(4096), &[("a", 1024), ("i", 4096)]);
        let sidecar = limited("s", "4Ki", "Always");
        let spec = format!(r#"{{"containers":[{a}],"initContainers":[{sidecar}]}}"#);
        check_limit(&spec, Some(5120), &[("a", 1024), ("s", 4096)]);
        check_limit(&format!(r#"{{"containers":[{}]}}"#, limited("a", "much", "")), None, &[]);
    }

    #[test]
    fn the_volumes_that_are_empty_dirs_are_known() {
        let volumes = r#"[{"name":"tmp","emptyDir":{}},{"name":"token","projected":{"sources":[]}}]"#;
        let list = format!(
            r#"{{"items":[{{"metadata":{{"name":"web","uid":"u"}},"spec":{{"volumes":{volumes}}}}}]}}"#
        );
        assert_eq!(parse(list.as_bytes()).unwrap()[0].empty_dirs, ["tmp".to_owned()].into());
    }

    #[test]
    fn an_empty_node_answers_null_and_garbage_is_an_error() {
        assert_eq!(parse(br#"{"items":null}"#).unwrap(), []);
        assert!(parse(b"<html>").is_err());
        assert!(parse(b"{}").is_err());
    }
}
