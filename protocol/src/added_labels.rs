//! What policies add to the labels of a pod's series.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// Labels to add to the series of pods. Several policies add up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AddedLabels {
    /// Keys of the pod's labels.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub pod_labels: BTreeSet<String>,
    /// Keys of the pod's annotations.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub pod_annotations: BTreeSet<String>,
    /// Keys of the labels of the pod's namespace; their values are facts.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub namespace_labels: BTreeSet<String>,
    /// Keys of the labels of the node; their values are facts.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub node_labels: BTreeSet<String>,
    /// The workload that made the pod, and of what type it is.
    #[serde(skip_serializing_if = "is_false")]
    pub workload: bool,
    /// The pod's quality-of-service class.
    #[serde(skip_serializing_if = "is_false")]
    pub qos_class: bool,
    /// The name of the pod's priority class.
    #[serde(skip_serializing_if = "is_false")]
    pub priority_class: bool,
}

impl AddedLabels {
    /// Adds what another policy asks for.
    pub fn merge(&mut self, other: &Self) {
        for (ours, theirs) in [
            (&mut self.pod_labels, &other.pod_labels),
            (&mut self.pod_annotations, &other.pod_annotations),
            (&mut self.namespace_labels, &other.namespace_labels),
            (&mut self.node_labels, &other.node_labels),
        ] {
            ours.extend(theirs.iter().cloned());
        }
        self.workload |= other.workload;
        self.qos_class |= other.qos_class;
        self.priority_class |= other.priority_class;
    }

    /// Of an object's labels those with these keys.
    pub fn select(keys: &BTreeSet<String>, labels: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        keys.iter().filter_map(|key| labels.get_key_value(key)).map(|(k, v)| (k.clone(), v.clone())).collect()
    }
}

fn is_false(flag: &bool) -> bool {
    !flag
}
