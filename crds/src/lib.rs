//! What users write: the `ExporterPolicy` resource, its bounds and rules, and the conditions that answer it.

mod bounds;
mod conditions;
mod exporter_policy;
mod selector;

pub use bounds::*;
pub use conditions::{ConditionType, Reason};
pub use exporter_policy::{
    Collector, ExporterPolicy, ExporterPolicySpec, ExporterPolicyStatus, Labels, Metrics, NodeCounts,
    NodeExample, Profile,
};
pub use selector::{LabelSelector, SelectorOperator, SelectorRequirement};

/// The API group of every resource here.
pub const GROUP: &str = "exporter-operator.dev";

/// The annotation of a Node that, with the value `true`, puts it in emergency.
pub const EMERGENCY: &str = "exporter-operator.dev/emergency";

/// Who owns the status fields, in server-side apply.
pub const FIELD_MANAGER: &str = "exporter-operator";
