//! What is said beside snapshots: an agent's first message and its reports, in plain types.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::revision::{Digest, Revision};

/// An agent's first message.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hello {
    /// The version of the contract that the agent speaks.
    pub protocol: u32,
    /// The agent's software version.
    pub agent_version: String,
    /// The node that it measures.
    pub node: String,
    /// What it can collect.
    pub capabilities: Capabilities,
    /// Policy name to the revision in force.
    pub in_force: BTreeMap<String, Revision>,
    /// The last snapshot that it took up; empty for none.
    pub digest: Digest,
}

/// The collectors that an agent knows, in the order of its list.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Capabilities(pub Vec<CollectorCapability>);

/// One collector that an agent knows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CollectorCapability {
    /// Its public name.
    pub name: String,
    /// Whether it runs when no policy speaks of it.
    pub enabled_by_default: bool,
    /// The keys of its options.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// The families that it yields.
    pub families: Vec<String>,
}

/// What an agent answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    /// What it makes of each policy of a snapshot.
    Verdicts(Verdicts),
    /// It refused a snapshot whole.
    Refusal(Refusal),
    /// What keeps it from measuring all that it should, whatever the policies say; empty: nothing any more.
    Health(Vec<Finding>),
}

/// What an agent makes of each policy of one snapshot.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdicts {
    /// The snapshot.
    pub digest: Digest,
    /// One for each of its policies.
    pub policies: Vec<Verdict>,
}

/// What an agent makes of one policy.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// The policy.
    pub policy: String,
    /// The revision that was judged.
    pub revision: Revision,
    /// Whether it is taken.
    pub outcome: Outcome,
    /// Why not, or what was skipped.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
    /// The revision of the policy that is in force now; empty for none.
    #[serde(skip_serializing_if = "Revision::is_empty")]
    pub in_force: Revision,
}

/// Whether a policy is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Outcome {
    /// All of it.
    Accepted,
    /// All but what the findings name.
    AcceptedWithWarnings,
    /// Nothing of it; the revision that was in force stays.
    Rejected,
}

/// One thing that is wrong, with a policy or with the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Path below `spec`, as a user writes it; empty where it is not about a field.
    pub field: String,
    /// One of a fixed set of CamelCase words.
    pub reason: String,
    /// A sentence for the person who wrote the policy.
    pub message: String,
}

/// A snapshot was refused whole and changed nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// The snapshot.
    pub digest: Digest,
    /// One of a fixed set of CamelCase words.
    pub reason: String,
    /// A sentence for the administrator.
    pub message: String,
}
