//! The kubelet's `/stats/summary`, reduced to what it says of storage.

use std::collections::{BTreeSet, HashMap, HashSet};

use serde::Deserialize;

use crate::metric::push_label;

/// What the kubelet says of the storage of its pods.
#[derive(Debug, Default)]
pub struct StatsSummary {
    pods: Vec<PodStorage>,
    by_uid: HashMap<String, usize>,
    /// Each claim once, though several pods may have it.
    claims: Vec<VolumeStats>,
}

/// Of one pod.
#[derive(Debug)]
pub struct PodStorage {
    /// What counts against its limit: writable layers, logs and emptyDirs that are not in memory.
    pub ephemeral: Usage,
    /// Its containers.
    pub containers: Vec<ContainerStorage>,
    /// Its volumes, each once.
    pub volumes: Vec<VolumeStats>,
}

/// Of one container.
#[derive(Debug)]
pub struct ContainerStorage {
    /// The container's name.
    pub name: String,
    /// Its writable layer.
    pub root: Usage,
    /// Its logs.
    pub logs: Usage,
}

/// Of one volume.
#[derive(Debug)]
pub struct VolumeStats {
    /// The name in the pod.
    pub name: String,
    /// Whether it belongs to a claim.
    pub has_claim: bool,
    /// The labels, escaped, without braces: of a pod's volume its name and claim, of a claim namespace and name.
    pub labels: Box<[u8]>,
    /// The file system, and what is used of it.
    pub size: Size,
    /// What is wrong with it, where the driver says.
    pub is_abnormal: Option<bool>,
}

/// How much of a file system something uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// Bytes.
    pub used_bytes: Option<u64>,
    /// Files and folders.
    pub inodes_used: Option<u64>,
}

/// How large a file system is, and what is used of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "named as in the answer")]
pub struct Size {
    pub capacity_bytes: Option<u64>,
    pub available_bytes: Option<u64>,
    pub used_bytes: Option<u64>,
    pub inodes: Option<u64>,
    pub inodes_free: Option<u64>,
    pub inodes_used: Option<u64>,
}

impl StatsSummary {
    /// Reads an answer.
    ///
    /// # Errors
    /// When it is not JSON or not a summary. Of what is there twice the first counts.
    pub fn parse(json: &[u8]) -> Result<Self, serde_json::Error> {
        let answer: Answer = serde_json::from_slice(json)?;
        let mut summary = StatsSummary::default();
        let mut claims = HashSet::new();
        for pod in answer.pods {
            if pod.reference.uid.is_empty() || summary.by_uid.contains_key(&pod.reference.uid) {
                continue;
            }
            let claimed = pod.volumes.iter().filter_map(|v| Some((v.claim.as_ref()?, v)));
            let new = claimed.filter(|(claim, _)| claims.insert((*claim).clone()));
            let claim = |(claim, v): (&Claim, &Volume)| {
                v.stats(&[("namespace", &claim.namespace), ("persistentvolumeclaim", &claim.name)])
            };
            summary.claims.extend(new.map(claim));
            summary.by_uid.insert(pod.reference.uid.clone(), summary.pods.len());
            summary.pods.push(pod.into_storage());
        }
        Ok(summary)
    }

    /// What is said of the pod with this UID, by its place.
    pub fn find(&self, uid: &str) -> Option<usize> {
        self.by_uid.get(uid).copied()
    }

    /// A pod by its place.
    pub fn pod(&self, index: usize) -> &PodStorage {
        &self.pods[index]
    }

    /// The claims.
    pub fn claims(&self) -> &[VolumeStats] {
        &self.claims
    }

    /// How many pods there are.
    pub fn len(&self) -> usize {
        self.pods.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pods.is_empty()
    }
}

#[derive(Deserialize)]
struct Answer {
    pods: Vec<AnswerPod>,
}

#[derive(Deserialize)]
struct AnswerPod {
    #[serde(rename = "podRef")]
    reference: Reference,
    #[serde(default)]
    containers: Vec<AnswerContainer>,
    #[serde(default, rename = "volume")]
    volumes: Vec<Volume>,
    #[serde(default, rename = "ephemeral-storage")]
    ephemeral: Usage,
}

#[derive(Deserialize)]
struct Reference {
    #[serde(default)]
    uid: String,
}

#[derive(Deserialize)]
struct AnswerContainer {
    name: String,
    #[serde(default, rename = "rootfs")]
    root: Usage,
    #[serde(default)]
    logs: Usage,
}

#[derive(Deserialize)]
struct Volume {
    name: String,
    #[serde(rename = "pvcRef")]
    claim: Option<Claim>,
    #[serde(flatten)]
    size: Size,
    #[serde(rename = "volumeHealthStats")]
    health: Option<VolumeHealth>,
}

#[derive(Clone, PartialEq, Eq, Hash, Deserialize)]
struct Claim {
    namespace: String,
    name: String,
}

#[derive(Deserialize)]
struct VolumeHealth {
    abnormal: bool,
}

impl AnswerPod {
    fn into_storage(self) -> PodStorage {
        let mut names = BTreeSet::new();
        let volumes = self.volumes.iter().filter(|v| names.insert(v.name.as_str()));
        let volume = |v: &Volume| {
            let claim = v.claim.as_ref().map_or("", |claim| claim.name.as_str());
            v.stats(&[("persistentvolumeclaim", claim), ("volume", &v.name)])
        };
        let container = |c: AnswerContainer| ContainerStorage { name: c.name, root: c.root, logs: c.logs };
        PodStorage {
            ephemeral: self.ephemeral,
            volumes: volumes.map(volume).collect(),
            containers: self.containers.into_iter().map(container).collect(),
        }
    }
}

impl Volume {
    fn stats(&self, labels: &[(&str, &str)]) -> VolumeStats {
        let mut text = Vec::new();
        for (i, (name, value)) in labels.iter().enumerate() {
            if i > 0 {
                text.push(b',');
            }
            push_label(&mut text, name, value);
        }
        VolumeStats {
            name: self.name.clone(),
            has_claim: self.claim.is_some(),
            labels: text.into(),
            size: self.size,
            is_abnormal: self.health.as_ref().map(|health| health.abnormal),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_found_by_uid_and_what_is_there_twice_counts_once() {
        let pod = |uid: &str, used: u64| {
            format!(
                r#"{{"podRef":{{"name":"db","namespace":"shop","uid":"{uid}"}},
                    "containers":[{{"name":"main","rootfs":{{"usedBytes":7,"inodesUsed":2}},"logs":{{}}}}],
                    "ephemeral-storage":{{"usedBytes":{used}}},
                    "volume":[{{"name":"data","capacityBytes":10,"usedBytes":{used},
                        "pvcRef":{{"name":"d\"b","namespace":"shop"}},"volumeHealthStats":{{"abnormal":true}}}},
                      {{"name":"data","usedBytes":0}},{{"name":"tmp","usedBytes":1}}]}}"#
            )
        };
        let json = format!(r#"{{"node":{{}},"pods":[{},{},{}]}}"#, pod("u", 3), pod("u", 4), pod("v", 5));
        let summary = StatsSummary::parse(json.as_bytes()).unwrap();
        assert_eq!((summary.len(), summary.find("v"), summary.find("w")), (2, Some(1), None));
        let first = summary.pod(0);
        assert_eq!(first.ephemeral.used_bytes, Some(3));
        assert_eq!(first.containers[0].root, Usage { used_bytes: Some(7), inodes_used: Some(2) });
        assert_eq!(first.containers[0].logs, Usage::default());
        let label = |v: &VolumeStats| String::from_utf8(v.labels.to_vec()).unwrap();
        let volumes: Vec<_> = first.volumes.iter().map(label).collect();
        let expected =
            [r#"persistentvolumeclaim="d\"b",volume="data""#, r#"persistentvolumeclaim="",volume="tmp""#];
        assert_eq!(volumes, expected);
        let claims: Vec<_> =
            summary.claims().iter().map(|v| (label(v), v.size.used_bytes, v.is_abnormal)).collect();
        assert_eq!(
            claims,
            [(r#"namespace="shop",persistentvolumeclaim="d\"b""#.to_owned(), Some(3), Some(true))]
        );
    }

    #[test]
    fn what_is_no_summary_is_an_error() {
        assert!(StatsSummary::parse(b"{}").is_err());
        assert!(StatsSummary::parse(br#"{"items":null}"#).is_err());
        assert!(StatsSummary::parse(b"<html>").is_err());
        assert!(StatsSummary::parse(br#"{"pods":[]}"#).unwrap().is_empty());
    }
}
