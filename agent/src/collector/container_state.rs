//! What the kubelet gives of each cgroup although it never changes, for queries that join or filter by it.

use std::time::SystemTime;

use super::{CgroupCollector, Cgroups, CollectError, Collector, Run};
use crate::metric::{Labels, Subject, Writer, families};

/// `container_state`
pub(super) const COLLECTOR: Collector = Collector {
    name: "container_state",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[],
    options: &[],
    exclusive: &[],
    run: Run::Cgroups { start: |_, _| Box::new(ContainerState) },
};

families! {
    LastSeen Gauge "container_last_seen" "Last time a container was seen by the exporter.";
    Health Gauge "container_health_state" "The result of the container's health check, which with Kubernetes is always -1: it has none that a runtime knows.";
    Load Gauge "container_cpu_load_average_10s" "Value of container cpu load average over the last 10 seconds, which is always 0, as the kubelet gives it.";
    UninterruptibleLoad Gauge "container_cpu_load_d_average_10s" "Value of container cpu load.d average over the last 10 seconds, which is always 0, as the kubelet gives it.";
    Error Gauge "container_scrape_error" "1 if there was an error while getting container metrics, 0 otherwise.";
    Tasks Gauge "container_tasks_state" "Number of tasks in given state, which is always 0, as the kubelet gives it.";
}

const STATES: [&str; 5] = ["sleeping", "running", "stopped", "uninterruptible", "iowaiting"];

struct ContainerState;

impl CgroupCollector for ContainerState {
    fn collect(&mut self, cgroups: &mut Cgroups<'_>, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |now| now.as_secs());
        let states = STATES.map(|state| out.labels(&[("state", state)]));
        for slot in cgroups.slots() {
            let subject = Subject::cgroup(slot);
            out.push(F::LastSeen, subject, Labels::NONE, now as f64);
            out.push(F::Health, subject, Labels::NONE, -1.0);
            // The kubelet would have them by taskstats, but does not start that.
            out.push(F::Load, subject, Labels::NONE, 0.0);
            out.push(F::UninterruptibleLoad, subject, Labels::NONE, 0.0);
            for state in states {
                out.push(F::Tasks, subject, state, 0.0);
            }
        }
        // Without the tree of cgroups nothing is here; what one collector cannot read, it says itself.
        out.node(F::Error, Labels::NONE, 0.0);
        Ok(())
    }
}
