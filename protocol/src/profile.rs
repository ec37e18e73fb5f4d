//! Profiles: named choices of the container families, as ordinary rules about families.

use serde::{Deserialize, Serialize};

/// A named choice of the container families; those of the machine and of the node are not concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Profile {
    /// All of them.
    Full,
    /// Those of [`DASHBOARDS`].
    Dashboards,
    /// Those of [`MINIMAL`].
    Minimal,
}

/// What a profile speaks of.
const CONTAINERS: &str = "container_.*";

/// The container families that the dashboards, rules and alerts of kubernetes-mixin query (commit aa38e2b of
/// 2026-08-06, Windows aside); kube-prometheus and its Helm chart ship the same ones. No other is used there.
pub const DASHBOARDS: &[&str] = &[
    "container_cpu_cfs_periods_total",
    "container_cpu_cfs_throttled_periods_total",
    "container_cpu_usage_seconds_total",
    "container_fs_reads_bytes_total",
    "container_fs_reads_total",
    "container_fs_writes_bytes_total",
    "container_fs_writes_total",
    "container_memory_cache",
    "container_memory_rss",
    "container_memory_swap",
    "container_memory_working_set_bytes",
    "container_network_receive_bytes_total",
    "container_network_receive_packets_dropped_total",
    "container_network_receive_packets_total",
    "container_network_transmit_bytes_total",
    "container_network_transmit_packets_dropped_total",
    "container_network_transmit_packets_total",
];

/// What an alert on the CPU and the memory of a container needs: its use, the two that the one stock alert on
/// container families (`CPUThrottlingHigh`) divides, the memory that the kubelet evicts by, the kills for want of
/// memory, and the start, which tells a restart from a quiet container. Limits and requests come from
/// kube-state-metrics. One series of each per container: nothing by device, interface or kind of failure.
pub const MINIMAL: &[&str] = &[
    "container_cpu_cfs_periods_total",
    "container_cpu_cfs_throttled_periods_total",
    "container_cpu_usage_seconds_total",
    "container_memory_working_set_bytes",
    "container_oom_events_total",
    "container_start_time_seconds",
];

impl Profile {
    /// The rules that it comes to, in order: whether families that match the pattern are exposed.
    pub fn rules(self) -> Vec<(bool, String)> {
        let only = |families: &[&str]| vec![(true, families.join("|")), (false, CONTAINERS.to_owned())];
        match self {
            Profile::Full => vec![(true, CONTAINERS.to_owned())],
            Profile::Dashboards => only(DASHBOARDS),
            Profile::Minimal => only(MINIMAL),
        }
    }
}
