//! The types of conditions and their reasons: the only place where they are spelled.

use std::fmt;

use serde::Serialize;

/// The conditions of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConditionType {
    /// The policy is valid and no agent rejects it.
    Accepted,
    /// The policy is in force on the nodes that it selects.
    Programmed,
    /// Nodes that the policy selects expose less than it says. There only as long as that is so.
    Degraded,
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident)*) => {
        /// Why a condition has the status that it has.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
        pub enum Reason { $($(#[doc = $doc])+ $name,)* }

        impl Reason {
            /// Every reason.
            pub const ALL: &[Reason] = &[$(Reason::$name),*];

            /// The reason as it is written.
            pub fn as_str(self) -> &'static str {
                match self { $(Reason::$name => stringify!($name),)* }
            }

            /// What the reason means.
            pub fn meaning(self) -> &'static str {
                match self { $(Reason::$name => concat!($($doc,)+).trim_ascii(),)* }
            }
        }
    };
}

reasons! {
    /// Accepted=True: the policy is valid, and no agent that judged it has anything to say.
    Accepted
    /// Accepted=True: the policy applies but for the parts that the message names, which some agents do not know.
    AcceptedWithWarnings
    /// Accepted=False: the stored object cannot be read as an ExporterPolicy.
    Unreadable
    /// Accepted=False: a list, a string or a number is outside of its bounds.
    OutOfBounds
    /// Accepted=False: fields that may not be set together are.
    ScopeConflict
    /// Accepted=False: a selector is not valid.
    InvalidSelector
    /// Accepted=False: a collector's name is not valid, or it is listed twice.
    InvalidCollector
    /// Accepted=False: a pattern in `metrics` is not a regular expression, or is too large.
    InvalidPattern
    /// Accepted=False: a key in `labels` is not valid.
    InvalidLabel
    /// Accepted=False: at least one agent rejects the policy without a usable reason. Where agents give one, that is
    /// the reason, such as `InvalidOption`; the message has the field and the number of nodes.
    RejectedByAgent
    /// Programmed=True: the policy is in force on every selected node that has an agent connected.
    Programmed
    /// Programmed=True: no node is selected.
    NoNodes
    /// Programmed=False: agents have yet to answer.
    Pending
    /// Programmed=False: none of the selected nodes has an agent connected.
    NoAgents
    /// Programmed=False: the policy is not accepted; where an earlier content of it was accepted, that stays in force.
    NotAccepted
    /// Programmed=False: an agent refused the whole configuration of its node, for the reason that the message gives.
    SnapshotRefused
    /// Degraded=True: selected nodes are in emergency, by the annotation `exporter-operator.dev/emergency` or the
    /// operator's `--emergency`: they expose the machine and the profile `Minimal`, less what policies exclude.
    Emergency
    /// Degraded=True: kubelets refuse their agents, which the message names with the missing grant; until that is mended,
    /// pods are known there as they last were.
    KubeletRefused
    /// Degraded=True: agents say of themselves that they cannot do all of their work, without a usable reason. Where they
    /// give one, that is the reason.
    AgentDegraded
}

impl ConditionType {
    /// The type as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            ConditionType::Accepted => "Accepted",
            ConditionType::Programmed => "Programmed",
            ConditionType::Degraded => "Degraded",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
