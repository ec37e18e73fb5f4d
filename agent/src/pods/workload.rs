//! Which workload made a pod, told from names alone: the kubelet knows only the object that controls the pod itself.

use std::borrow::Cow;

use crate::source::kubelet::Pod;

/// The workload of a pod, with the types that the stock dashboards have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload<'a> {
    /// Its name; of a pod that nothing made, the pod's.
    pub name: &'a str,
    /// Its kind in lower case, or `barepod` or `staticpod`.
    pub kind: Cow<'a, str>,
}

/// What made the pod, as far as names tell.
pub fn workload(pod: &Pod) -> Workload<'_> {
    let Some(controller) = &pod.controller else {
        // The kubelet writes this annotation: https://kubernetes.io/docs/reference/labels-annotations-taints/
        let source = pod.annotations.get("kubernetes.io/config.source");
        let is_static = source.is_some_and(|source| source != "api");
        let kind = if is_static { "staticpod" } else { "barepod" };
        return Workload { name: &pod.name, kind: kind.into() };
    };
    let found = match controller.kind.as_str() {
        "ReplicaSet" => of_deployment(&controller.name, pod).map(|name| ("deployment", name)),
        "Job" => of_cron_job(&controller.name).map(|name| ("cronjob", name)),
        // What stands in the API server for a static pod.
        "Node" => Some(("staticpod", pod.name.as_str())),
        _ => None,
    };
    match found {
        Some((kind, name)) => Workload { name, kind: kind.into() },
        None => Workload { name: &controller.name, kind: controller.kind.to_lowercase().into() },
    }
}

/// A Deployment names its ReplicaSets by itself and the hash that its pods carry as a label, and nothing else makes
/// that label: https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#pod-template-hash-label
fn of_deployment<'a>(replica_set: &'a str, pod: &Pod) -> Option<&'a str> {
    let hash = pod.labels.get("pod-template-hash")?;
    replica_set.strip_suffix(hash.as_str())?.strip_suffix('-').filter(|name| !name.is_empty())
}

/// A CronJob names its Jobs by itself and the minute since 1970 for which they were planned: eight digits until 2160.
/// https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/
fn of_cron_job(job: &str) -> Option<&str> {
    let (name, minute) = job.rsplit_once('-')?;
    let is_minute = minute.len() == 8 && minute.bytes().all(|b| b.is_ascii_digit());
    (is_minute && !name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::kubelet::Controller;

    #[track_caller]
    fn check(controller: Option<(&str, &str)>, hash: Option<&str>, source: &str, expected: (&str, &str)) {
        let pod = Pod {
            name: "pod".to_owned(),
            controller: controller
                .map(|(kind, name)| Controller { kind: kind.to_owned(), name: name.to_owned() }),
            labels: hash.map(|hash| ("pod-template-hash".to_owned(), hash.to_owned())).into_iter().collect(),
            annotations: [("kubernetes.io/config.source".to_owned(), source.to_owned())].into(),
            ..Pod::default()
        };
        let Workload { name, kind } = workload(&pod);
        assert_eq!((kind.as_ref(), name), expected);
    }

    #[test]
    fn the_workload_is_told_from_the_names_of_owners() {
        let hash = Some("5d69f5b9b7");
        check(Some(("ReplicaSet", "web-front-5d69f5b9b7")), hash, "api", ("deployment", "web-front"));
        check(Some(("ReplicaSet", "web-front-abc")), hash, "api", ("replicaset", "web-front-abc"));
        check(Some(("ReplicaSet", "web-front")), None, "api", ("replicaset", "web-front"));
        check(Some(("ReplicaSet", "-5d69f5b9b7")), hash, "api", ("replicaset", "-5d69f5b9b7"));
        check(Some(("Job", "backup-29876543")), None, "api", ("cronjob", "backup"));
        check(Some(("Job", "backup-2987654")), None, "api", ("job", "backup-2987654"));
        check(Some(("Job", "-29876543")), None, "api", ("job", "-29876543"));
        check(Some(("StatefulSet", "db")), None, "api", ("statefulset", "db"));
        check(Some(("DaemonSet", "agent")), None, "api", ("daemonset", "agent"));
        check(Some(("Rollout", "web")), None, "api", ("rollout", "web"));
        check(Some(("Node", "n1")), None, "api", ("staticpod", "pod"));
        check(None, None, "api", ("barepod", "pod"));
        check(None, None, "file", ("staticpod", "pod"));
    }
}
