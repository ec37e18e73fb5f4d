//! Any bytes in place of what the programs read: each entry must come back without a panic and with a whole answer.
//!
//! The fuzzer (`libfuzzer/`, nightly) and the tests, which replay the recorded nodes with mutations, both enter here.

mod machine;
mod mutation;

pub use machine::Machine;
pub use mutation::mutations;

/// The kubelet's list of pods.
pub fn pod_list(bytes: &[u8]) {
    let _ = agent::source::kubelet::parse(bytes);
}

/// What the kubelet says of storage.
pub fn stats_summary(bytes: &[u8]) {
    let _ = agent::source::kubelet::StatsSummary::parse(bytes);
}
