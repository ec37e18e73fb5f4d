//! CPU time of each cgroup, and how often its quota stopped it.

use super::{CgroupCollector, Cgroups, CollectError, Collector, Run};
use crate::metric::{Labels, Subject, Writer, families};
use crate::source::cgroup::{CgroupFile, CgroupKind, Fixed, Version};
use crate::source::text::pairs;

/// `container_cpu`
pub(super) const COLLECTOR: Collector = Collector {
    name: "container_cpu",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[],
    options: &[],
    exclusive: &[],
    run: Run::Cgroups { start: |_, _| Box::new(ContainerCpu::default()) },
};

families! {
    User Counter "container_cpu_user_seconds_total" "Cumulative user cpu time consumed in seconds.";
    System Counter "container_cpu_system_seconds_total" "Cumulative system cpu time consumed in seconds.";
    Usage Counter "container_cpu_usage_seconds_total" "Cumulative cpu time consumed in seconds.";
    Periods Counter "container_cpu_cfs_periods_total" "Number of elapsed enforcement period intervals.";
    ThrottledPeriods Counter "container_cpu_cfs_throttled_periods_total" "Number of throttled period intervals.";
    Throttled Counter "container_cpu_cfs_throttled_seconds_total" "Total time duration the container has been throttled.";
    BurstPeriods Counter "container_cpu_cfs_burst_periods_total" "Number of periods when burst occurs.";
    Burst Counter "container_cpu_cfs_burst_seconds_total" "Total time duration the container has been bursted.";
}

const THROTTLING: [F; 5] = [F::Periods, F::ThrottledPeriods, F::Throttled, F::BurstPeriods, F::Burst];

#[derive(Default)]
struct ContainerCpu {
    has_quota: Fixed<bool>,
}

impl CgroupCollector for ContainerCpu {
    fn collect(&mut self, cgroups: &mut Cgroups<'_>, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let total = out.labels(&[("cpu", "total")]);
        for slot in cgroups.slots() {
            let Some(cgroup) = cgroups.get(slot) else { continue };
            // The root has no quota, and cAdvisor gives the throttling of cgroups that have one only.
            let throttling = cgroup.kind != CgroupKind::Root
                && out.wants_any(THROTTLING)
                && cgroups.fixed(&mut self.has_quota, slot, |cgroups| has_quota(cgroups, slot));
            match cgroups.version() {
                Version::V1 => v1(cgroups, slot, total, throttling, out),
                Version::V2 => v2(cgroups, slot, total, throttling, out),
            }
        }
        cgroups.result()
    }
}

fn has_quota(cgroups: &mut Cgroups<'_>, slot: usize) -> bool {
    let file = match cgroups.version() {
        Version::V1 => CgroupFile::CpuCfsQuota,
        Version::V2 => CgroupFile::CpuMax,
    };
    cgroups.read(slot, file).is_some_and(|text| !text.starts_with(b"max") && !text.starts_with(b"-1"))
}

fn v1(cgroups: &mut Cgroups<'_>, slot: usize, total: Labels, throttling: bool, out: &mut Writer<'_>) {
    let subject = Subject::cgroup(slot);
    if out.wants(F::Usage)
        && let Some(nanoseconds) = cgroups.number(slot, CgroupFile::CpuacctUsage)
    {
        out.push(F::Usage, subject, total, nanoseconds as f64 / 1e9);
    }
    if out.wants_any([F::User, F::System])
        && let Some(text) = cgroups.read(slot, CgroupFile::CpuacctStat)
    {
        // In ticks of USER_HZ, which is 100 on every architecture that Kubernetes runs on
        // (Documentation/admin-guide/cgroup-v1/cpuacct.rst).
        for (key, ticks) in pairs(text) {
            match key {
                b"user" => out.push(F::User, subject, Labels::NONE, ticks as f64 / 100.0),
                b"system" => out.push(F::System, subject, Labels::NONE, ticks as f64 / 100.0),
                _ => {}
            }
        }
    }
    if throttling && let Some(text) = cgroups.read(slot, CgroupFile::CpuStat) {
        throttled(text, subject, out);
    }
}

fn v2(cgroups: &mut Cgroups<'_>, slot: usize, total: Labels, throttling: bool, out: &mut Writer<'_>) {
    let subject = Subject::cgroup(slot);
    if !throttling && !out.wants_any([F::Usage, F::User, F::System]) {
        return;
    }
    let Some(text) = cgroups.read(slot, CgroupFile::CpuStat) else { return };
    let mut has_usage = false;
    for (key, microseconds) in pairs(text) {
        let seconds = microseconds as f64 / 1e6;
        match key {
            b"usage_usec" => {
                has_usage = true;
                out.push(F::Usage, subject, total, seconds);
            }
            b"user_usec" => out.push(F::User, subject, Labels::NONE, seconds),
            b"system_usec" => out.push(F::System, subject, Labels::NONE, seconds),
            _ => {}
        }
    }
    if throttling {
        throttled(text, subject, out);
    }
    if !has_usage {
        cgroups.parse_fault(slot, CgroupFile::CpuStat, "no usage_usec");
    }
}

/// The lines of `cpu.stat` about the quota: times are in nanoseconds on v1 (`_time`), in microseconds on v2 (`_usec`).
fn throttled(text: &[u8], subject: Subject, out: &mut Writer<'_>) {
    for (key, value) in pairs(text) {
        let value = value as f64;
        let (family, value) = match key {
            b"nr_periods" => (F::Periods, value),
            b"nr_throttled" => (F::ThrottledPeriods, value),
            b"throttled_time" => (F::Throttled, value / 1e9),
            b"throttled_usec" => (F::Throttled, value / 1e6),
            b"nr_bursts" => (F::BurstPeriods, value),
            b"burst_time" => (F::Burst, value / 1e9),
            b"burst_usec" => (F::Burst, value / 1e6),
            _ => continue,
        };
        out.push(family, subject, Labels::NONE, value);
    }
}
