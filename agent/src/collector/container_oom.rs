//! OOM kills of each container and pod, from their cgroups and from what the kubelet says of containers that have ended.

use std::time::Instant;

use super::{Collector, Run};
use crate::metric::{Writer, families};
use crate::oom_kills::OomKills;

/// `container_oom`
pub(super) const COLLECTOR: Collector = Collector {
    name: "container_oom",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[],
    options: &[],
    exclusive: &[],
    run: Run::OomKills { collect },
};

families! {
    Events Counter "container_oom_events_total" "Count of out of memory events observed for the container.";
}

fn collect(kills: &mut OomKills, out: &mut Writer<'_>) {
    kills.write(F::Events, Instant::now(), out);
}
