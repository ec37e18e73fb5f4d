//! The `ExporterPolicy` resource.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::transform::transform_subschemas;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};

use crate::bounds::*;
use crate::selector::LabelSelector;

/// What the agents on a set of nodes measure and expose. Several policies may cover one node or pod: the one with
/// the higher `priority` decides, then the older one, then the one whose name sorts first. Added labels add up instead.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, CustomResource, JsonSchema)]
#[kube(
    group = "exporter-operator.dev",
    version = "v1alpha1",
    kind = "ExporterPolicy",
    plural = "exporterpolicies",
    shortname = "xp",
    category = "exporter-operator",
    status = "ExporterPolicyStatus",
    derive = "PartialEq",
    doc = "Says what the agents on a set of nodes measure and expose, for the nodes and for the pods on them. \
           Cluster-scoped.",
    printcolumn = r#"{"name": "Accepted", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Accepted\")].status",
        "description": "Whether the policy is valid and no agent rejects it."}"#,
    printcolumn = r#"{"name": "Programmed", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Programmed\")].status",
        "description": "Whether the policy is in force on the nodes that it selects."}"#,
    printcolumn = r#"{"name": "Selected", "type": "integer", "jsonPath": ".status.nodes.selected",
        "description": "Nodes that the policy selects."}"#,
    printcolumn = r#"{"name": "Updated", "type": "integer", "jsonPath": ".status.nodes.updated",
        "description": "Nodes on which this content of the policy is in force."}"#,
    printcolumn = r#"{"name": "Priority", "type": "integer", "jsonPath": ".spec.priority",
        "description": "The higher one decides where two policies set the same thing."}"#,
    printcolumn = r#"{"name": "Degraded", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Degraded\")].reason",
        "description": "Why nodes that the policy selects expose less than it says.", "priority": 1}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "!has(self.collectors) || size(self.collectors) == 0 || !has(self.namespaceSelector) \
                 || ((!has(self.namespaceSelector.matchLabels) || size(self.namespaceSelector.matchLabels) == 0) \
                 && (!has(self.namespaceSelector.matchExpressions) || size(self.namespaceSelector.matchExpressions) == 0))",
        "message": "collectors may not be set together with namespaceSelector: a collector runs for the whole \
                    node; put the collectors into a policy without it",
        "fieldPath": ".collectors",
        "reason": "FieldValueForbidden",
    },
    {
        "rule": "!has(self.collectors) || size(self.collectors) == 0 || !has(self.podSelector) \
                 || ((!has(self.podSelector.matchLabels) || size(self.podSelector.matchLabels) == 0) \
                 && (!has(self.podSelector.matchExpressions) || size(self.podSelector.matchExpressions) == 0))",
        "message": "collectors may not be set together with podSelector: a collector runs for the whole \
                    node; put the collectors into a policy without it",
        "fieldPath": ".collectors",
        "reason": "FieldValueForbidden",
    },
]))]
#[schemars(transform = join_lines)]
#[serde(rename_all = "camelCase")]
pub struct ExporterPolicySpec {
    /// Decides where several policies set the same thing: the higher one does, then the older policy, then the name
    /// that sorts first. From -1000000 to 1000000; 0 by default.
    #[serde(default)]
    #[schemars(range(min = MIN_PRIORITY, max = MAX_PRIORITY))]
    pub priority: i32,
    /// The nodes that the policy is for, by the labels of the Node object. Absent or empty: every node. A selector
    /// that matches no node is not an error; the `Accepted` condition says so.
    #[serde(default, skip_serializing_if = "LabelSelector::is_empty")]
    pub node_selector: LabelSelector,
    /// The namespaces whose pods the policy is for, by the labels of the Namespace object. Absent or empty: pods of
    /// every namespace, and the node itself. May not be set together with `collectors`.
    #[serde(default, skip_serializing_if = "LabelSelector::is_empty")]
    pub namespace_selector: LabelSelector,
    /// The pods that the policy is for, by their labels. Absent or empty: every pod, and the node itself. May not be
    /// set together with `collectors`.
    #[serde(default, skip_serializing_if = "LabelSelector::is_empty")]
    pub pod_selector: LabelSelector,
    /// Collectors to switch on or off on the selected nodes, and their options. One that is not listed runs as
    /// another policy or the agent's default has it. One that an agent does not know is skipped there; the `Accepted`
    /// condition says so and the rest of the policy applies. At most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = MAX_COLLECTORS),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub collectors: Vec<Collector>,
    /// Families to expose or to drop, of the nodes and pods that the policy is for. A family that no policy speaks of
    /// is exposed.
    #[serde(default, skip_serializing_if = "Metrics::is_empty")]
    pub metrics: Metrics,
    /// Labels to add to the series of the pods that the policy is for. What several policies ask for adds up.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
}

/// One collector's setting.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Collector {
    /// The collector's name, such as `filesystem` or `container_memory`. Those of the node have node_exporter's names.
    #[schemars(length(max = MAX_COLLECTOR_NAME), regex(pattern = COLLECTOR_NAME))]
    pub name: String,
    /// Whether the collector runs. Absent: as a policy of less precedence has it, else as the agent's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub enabled: Option<bool>,
    /// The collector's options: node_exporter's flags without `collector.NAME.`, in camel case, such as
    /// `mountPointsExclude`. All options of a collector come from the first policy in order of precedence that has any.
    /// A key that an agent does not know is skipped there, a value that it cannot use makes it reject the policy; the
    /// `Accepted` condition says so. At most 16, with keys of at most 63 and values of at most 8192 characters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend(
        "maxProperties" = MAX_OPTIONS,
        "additionalProperties" = {"type": "string", "maxLength": MAX_OPTION_VALUE},
        "x-kubernetes-validations" = [{
            "rule": "self.all(key, size(key) <= 63)",
            "message": "a key of options has at most 63 characters",
        }],
    ))]
    pub options: BTreeMap<String, String>,
}

/// Families to expose or to drop.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Metrics {
    /// Which container families (`container_*`) are exposed: `Full`, all; `Dashboards`, the 17 that the stock
    /// dashboards, rules and alerts query; `Minimal`, the 6 that alerts on CPU and memory need: CPU use and
    /// throttling, working set, OOM events and start. What `include` names comes on top, what `exclude` names goes.
    /// What nobody exposes is not read either. Absent: as a policy of less precedence has it, else all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Profile")]
    pub profile: Option<Profile>,
    /// Families to expose although the profile or a policy of less precedence drops them: regular expressions that
    /// must match the whole name, in RE2 syntax without backreferences and look-around. At most 64, of at most 512
    /// characters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = MAX_PATTERNS),
        inner(length(min = 1, max = MAX_PATTERN)),
        extend("x-kubernetes-list-type" = "atomic")
    )]
    pub include: Vec<String>,
    /// Families to drop, written as in `include`. Within one policy `exclude` decides over `include` and the profile. At
    /// most 64, of at most 512 characters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = MAX_PATTERNS),
        inner(length(min = 1, max = MAX_PATTERN)),
        extend("x-kubernetes-list-type" = "atomic")
    )]
    pub exclude: Vec<String>,
}

/// A named choice of the container families.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "a text here would turn the enum into a oneOf")]
pub enum Profile {
    Full,
    Dashboards,
    Minimal,
}

/// Labels to add to series.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Labels {
    /// Keys of pod labels that become labels of the pod's series: `app.kubernetes.io/name` is exposed as
    /// `label_app_kubernetes_io_name`, as kube-state-metrics names it. A pod without the label has none. Keys that
    /// become the same name are numbered, `_conflict1` first; so it is with the other lists. At most 32.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    #[schemars(
        length(max = MAX_ADDED_LABELS),
        inner(length(max = MAX_LABEL_KEY), regex(pattern = LABEL_KEY)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub pod_labels: BTreeSet<String>,
    /// Keys of pod annotations that become labels of the pod's series: `example.com/owner` is exposed as
    /// `annotation_example_com_owner`. One whose value has more than 1024 bytes is not exposed. At most 32.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    #[schemars(
        length(max = MAX_ADDED_LABELS),
        inner(length(max = MAX_LABEL_KEY), regex(pattern = LABEL_KEY)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub pod_annotations: BTreeSet<String>,
    /// Keys of labels of the pod's namespace that become labels of the pod's series: `team` is exposed as
    /// `namespace_label_team`. At most 32.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    #[schemars(
        length(max = MAX_ADDED_LABELS),
        inner(length(max = MAX_LABEL_KEY), regex(pattern = LABEL_KEY)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub namespace_labels: BTreeSet<String>,
    /// Keys of labels of the pod's node that become labels of the pod's series: `topology.kubernetes.io/zone` is
    /// exposed as `node_label_topology_kubernetes_io_zone`. At most 32.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    #[schemars(
        length(max = MAX_ADDED_LABELS),
        inner(length(max = MAX_LABEL_KEY), regex(pattern = LABEL_KEY)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub node_labels: BTreeSet<String>,
    /// Adds the labels `workload` and `workload_type`, with the types of the stock dashboards: `deployment`,
    /// `statefulset`, `daemonset`, `job`, `cronjob`, `replicaset`, `barepod`, `staticpod` or another owner's kind in
    /// lower case. The agent does not ask the API server, so this is a heuristic: a ReplicaSet whose name ends with its
    /// pods' label `pod-template-hash` counts as that of a Deployment, and a Job whose name ends with eight digits,
    /// the minute for which it was planned, as that of a CronJob.
    #[serde(default, skip_serializing_if = "is_false")]
    pub workload: bool,
    /// Adds the label `qos_class`: `Guaranteed`, `Burstable` or `BestEffort`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub qos_class: bool,
    /// Adds the label `priority_class`, the name of the pod's priority class, where it has one.
    #[serde(default, skip_serializing_if = "is_false")]
    pub priority_class: bool,
}

/// What became of the policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = join_lines)]
#[serde(rename_all = "camelCase")]
pub struct ExporterPolicyStatus {
    /// The generation of the policy that this status speaks of.
    pub observed_generation: i64,
    /// `Accepted`: the policy is valid and no agent rejects it. `Programmed`: it is in force on the nodes that it
    /// selects. `Degraded`, only while it is true: some of these nodes expose less than the policy says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 8),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"])
    )]
    pub conditions: Vec<Condition>,
    /// How many nodes there are in each state.
    pub nodes: NodeCounts,
    /// Some of the nodes that reject the policy, at most 10, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_EXAMPLES), extend("x-kubernetes-list-type" = "atomic"))]
    pub examples: Vec<NodeExample>,
}

/// How many nodes there are in each state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NodeCounts {
    /// Nodes that the policy selects.
    pub selected: i32,
    /// Nodes on which this content of the policy is in force.
    pub updated: i32,
    /// Nodes whose agent rejects it, or refuses the whole configuration of the node.
    pub rejected: i32,
}

/// A node that rejects the policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NodeExample {
    /// The node's name.
    pub node: String,
    /// The agent's reason, a CamelCase word.
    pub reason: String,
    /// What is wrong, with the field.
    pub message: String,
}

impl Metrics {
    /// Whether nothing is selected.
    pub fn is_empty(&self) -> bool {
        self.profile.is_none() && self.include.is_empty() && self.exclude.is_empty()
    }
}

impl Labels {
    /// Whether nothing is added.
    pub fn is_empty(&self) -> bool {
        *self == Labels::default()
    }
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// Makes one line of each paragraph, because `kubectl explain` keeps the line breaks that it finds.
fn join_lines(schema: &mut Schema) {
    if let Some(serde_json::Value::String(text)) = schema.get_mut("description") {
        *text = text.split("\n\n").map(|p| p.replace('\n', " ")).collect::<Vec<_>>().join("\n\n");
    }
    transform_subschemas(&mut join_lines, schema);
}
