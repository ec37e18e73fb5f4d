//! What the operator says to an agent, what an agent answers, and what a set of policies means for one subject.

mod added_labels;
mod credential;
mod effective;
mod message;
mod profile;
mod revision;
mod snapshot;
mod wire;

pub use added_labels::AddedLabels;
pub use credential::{AUDIENCE, Access, MAX_TOKEN, Token};
pub use effective::{CollectorEffective, Effective, FamilyRule, FamilySelector, Subject, effective};
pub use message::{
    Capabilities, CollectorCapability, Finding, Hello, Outcome, Refusal, Report, Verdict, Verdicts,
};
pub use profile::{DASHBOARDS, MINIMAL, Profile};
pub use revision::{Digest, Revision};
pub use snapshot::{
    CollectorSetting, Facts, LabelOperator, LabelRequirement, LabelSelector, MetricSelection, NodeFacts,
    Policy, PolicyContent, Snapshot,
};
pub use wire::DecodeError;

/// The generated messages and the gRPC service; everything else in this crate is plain Rust.
#[expect(
    missing_docs,
    clippy::allow_attributes_without_reason,
    clippy::large_enum_variant,
    reason = "generated from agent_config.proto"
)]
pub mod proto {
    include!("proto.rs");
}

/// The version of the contract in `agent_config.proto`; a side that cannot speak the other's closes the stream.
pub const PROTOCOL: u32 = 1;

/// The longest message either side takes: a snapshot of a few hundred large policies.
pub const MAX_MESSAGE_BYTES: usize = 16 << 20;
