//! The complete configuration of one node: its policies and the facts that only the API server knows.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::added_labels::AddedLabels;
use crate::profile::Profile;
use crate::revision::{Digest, Revision};

/// Everything an agent needs to know, internally consistent.
///
/// Its YAML form is what `exporter-agent --config FILE` reads; there the identity fields may be left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Snapshot {
    /// UID of the cluster's kube-system namespace; empty in a file.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cluster: String,
    /// The node that this snapshot is for; empty in a file.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub node: String,
    /// The term of the leader that made it; grows with each leader.
    #[serde(skip_serializing_if = "is_zero")]
    pub term: u64,
    /// The policies that touch the node, in order of precedence.
    pub policies: Vec<Policy>,
    /// Policies whose present content the operator rejects; the revision that an agent last accepted stays in force.
    /// By name, with the creation time: a policy of the same name that was made since inherits nothing.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub held: BTreeMap<String, i64>,
    /// What the files of a node do not tell.
    pub facts: Facts,
}

/// One policy as it holds on a node: checked, and without Kubernetes selectors but for the pod's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// The name of the `ExporterPolicy`.
    pub name: String,
    /// When it was created, in seconds since the epoch; 0 for a file, which counts as newest.
    #[serde(default, skip_serializing_if = "is_zero_i64")]
    pub created: i64,
    /// What identifies the content; computed where a file leaves it out.
    #[serde(default, skip_serializing_if = "Revision::is_empty")]
    pub revision: Revision,
    /// What the policy says.
    #[serde(flatten)]
    pub content: PolicyContent,
}

/// What a policy says; two policies that say the same have the same revision.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyContent {
    /// The higher one decides where two policies set the same thing.
    pub priority: i32,
    /// Canonical text of the namespace selector, a key of [`Facts::namespaces`]; absent: every namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<String>,
    /// Which pods; absent: every pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<LabelSelector>,
    /// Collectors switched on or off, and their options.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub collectors: Vec<CollectorSetting>,
    /// Families kept or dropped.
    #[serde(skip_serializing_if = "MetricSelection::is_empty")]
    pub metrics: MetricSelection,
    /// Labels added to the series of pods.
    #[serde(flatten)]
    pub labels: AddedLabels,
}

/// One collector's setting in a policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CollectorSetting {
    /// The collector's public name.
    pub name: String,
    /// On or off; absent: as a policy of less precedence, or the agent, has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// The collector's options, in node_exporter's flag names in camel case.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
}

/// Families kept or dropped, as anchored regular expressions; within one policy `exclude` wins over `include`, and
/// that over the profile.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetricSelection {
    /// Which container families are exposed; absent: as a policy of less precedence has it, else all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,
    /// Families to expose although a policy of less precedence drops them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<String>,
    /// Families to drop.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
}

/// A Kubernetes label selector with `matchLabels` written as requirements.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LabelSelector {
    /// All of them must hold.
    pub requirements: Vec<LabelRequirement>,
}

/// One requirement of a label selector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelRequirement {
    /// The label's key.
    pub key: String,
    /// How the label's value is judged.
    pub operator: LabelOperator,
    /// For `In` and `NotIn`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

/// The operators of a Kubernetes label selector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LabelOperator {
    /// The label has one of the values.
    In,
    /// The label is absent or has none of the values.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is absent.
    DoesNotExist,
}

/// What only the API server knows. Facts reach an agent at once and change no revision.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Facts {
    /// The node as its `Node` object has it.
    pub node: NodeFacts,
    /// Canonical text of a namespace selector to the namespaces that it matches now.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub namespaces: BTreeMap<String, BTreeSet<String>>,
    /// Of the labels of each namespace those that a policy of the node adds, where there are any.
    #[serde(rename = "namespaceLabels", skip_serializing_if = "BTreeMap::is_empty")]
    pub namespace_labels: BTreeMap<String, BTreeMap<String, String>>,
    /// Whether the node is in emergency, which only takes away: see [`effective`](crate::effective()).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub emergency: bool,
}

/// The node as its `Node` object has it; the files that tell the same need root.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NodeFacts {
    /// The node's name.
    pub name: String,
    /// `status.nodeInfo.systemUUID`
    #[serde(rename = "systemUUID")]
    pub system_uuid: String,
    /// `status.nodeInfo.machineID`
    #[serde(rename = "machineID")]
    pub machine_id: String,
    /// `status.nodeInfo.bootID`
    #[serde(rename = "bootID")]
    pub boot_id: String,
    /// Of the node's labels those that a policy adds.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl Snapshot {
    /// Identifies the content, whoever leads; equal digests mean that nothing needs to be sent.
    pub fn digest(&self) -> Digest {
        Digest::of(&(&self.cluster, &self.node, &self.policies, &self.held, &self.facts))
    }

    /// Puts the policies in order of precedence: priority, then older, then name.
    pub fn sort(&mut self) {
        self.policies.sort_by(|a, b| a.precedence().cmp(&b.precedence()));
    }
}

impl Policy {
    /// A policy whose revision is that of its content.
    pub fn new(name: impl Into<String>, created: i64, content: PolicyContent) -> Self {
        Policy { name: name.into(), created, revision: content.revision(), content }
    }

    /// Orders policies: what compares less decides.
    pub fn precedence(&self) -> impl Ord + '_ {
        let created = if self.created == 0 { i64::MAX } else { self.created };
        (std::cmp::Reverse(self.content.priority), created, self.name.as_str())
    }
}

impl PolicyContent {
    /// Identifies the content.
    pub fn revision(&self) -> Revision {
        Revision::of(self)
    }

    /// Whether the policy speaks of some pods only, and so not of the node.
    pub fn is_pod_scoped(&self) -> bool {
        self.namespace_selector.is_some() || self.pod_selector.is_some()
    }
}

impl MetricSelection {
    /// Whether nothing is selected.
    pub fn is_empty(&self) -> bool {
        self.profile.is_none() && self.include.is_empty() && self.exclude.is_empty()
    }
}

impl LabelSelector {
    /// Whether the labels meet every requirement.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.requirements.iter().all(|r| {
            let value = labels.get(&r.key);
            match r.operator {
                LabelOperator::In => value.is_some_and(|v| r.values.contains(v)),
                LabelOperator::NotIn => value.is_none_or(|v| !r.values.contains(v)),
                LabelOperator::Exists => value.is_some(),
                LabelOperator::DoesNotExist => value.is_none(),
            }
        })
    }
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

fn is_zero_i64(n: &i64) -> bool {
    *n == 0
}
