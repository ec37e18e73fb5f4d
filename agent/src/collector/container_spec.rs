//! The limits that each cgroup was given, and when it started.

use std::time::SystemTime;

use super::{CgroupCollector, Cgroups, CollectError, Collector, Run};
use crate::metric::{Labels, Subject, Writer, families};
use crate::source::cgroup::{CgroupFile, CgroupKind, Version};
use crate::source::text::{number, words};

/// `container_spec`
pub(super) const COLLECTOR: Collector = Collector {
    name: "container_spec",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[],
    options: &[],
    exclusive: &[],
    run: Run::Cgroups { start: |_, _| Box::new(ContainerSpec) },
};

families! {
    StartTime Gauge "container_start_time_seconds" "Start time of the container since unix epoch in seconds.";
    CpuPeriod Gauge "container_spec_cpu_period" "CPU period of the container.";
    CpuQuota Gauge "container_spec_cpu_quota" "CPU quota of the container.";
    CpuShares Gauge "container_spec_cpu_shares" "CPU share of the container.";
    MemoryLimit Gauge "container_spec_memory_limit_bytes" "Memory limit for the container.";
    SwapLimit Gauge "container_spec_memory_swap_limit_bytes" "Memory swap limit for the container.";
    Reservation Gauge "container_spec_memory_reservation_limit_bytes" "Memory reservation limit for the container.";
}

struct ContainerSpec;

impl CgroupCollector for ContainerSpec {
    fn collect(&mut self, cgroups: &mut Cgroups<'_>, out: &mut Writer<'_>) -> Result<(), CollectError> {
        for slot in cgroups.slots() {
            let Some(cgroup) = cgroups.get(slot) else { continue };
            if let Ok(age) = cgroup.started.duration_since(SystemTime::UNIX_EPOCH) {
                out.push(F::StartTime, Subject::cgroup(slot), Labels::NONE, age.as_secs() as f64);
            }
            // The root has no limits but the machine's own.
            if cgroup.kind != CgroupKind::Root {
                match cgroups.version() {
                    Version::V1 => v1(cgroups, slot, out),
                    Version::V2 => v2(cgroups, slot, out),
                }
            }
        }
        cgroups.result()
    }
}

fn v1(cgroups: &mut Cgroups<'_>, slot: usize, out: &mut Writer<'_>) {
    for (family, file) in [
        (F::CpuShares, CgroupFile::CpuShares),
        (F::CpuPeriod, CgroupFile::CpuCfsPeriod),
        (F::CpuQuota, CgroupFile::CpuCfsQuota),
        (F::MemoryLimit, CgroupFile::MemoryLimit),
        (F::SwapLimit, CgroupFile::MemoryMemswLimit),
        (F::Reservation, CgroupFile::MemorySoftLimit),
    ] {
        if !out.wants(family) {
            continue;
        }
        let Some(value) = cgroups.number(slot, file) else { continue };
        let is_memory = matches!(family, F::MemoryLimit | F::SwapLimit | F::Reservation);
        let value = if is_memory { v1_limit(value) } else { value };
        out.push(family, Subject::cgroup(slot), Labels::NONE, value as f64);
    }
}

/// No limit is the largest multiple of the page size below 2^63 on v1 (PAGE_COUNTER_MAX); cAdvisor gives 0 for it.
fn v1_limit(value: u64) -> u64 {
    if value >= 1 << 62 { 0 } else { value }
}

fn v2(cgroups: &mut Cgroups<'_>, slot: usize, out: &mut Writer<'_>) {
    let subject = Subject::cgroup(slot);
    if out.wants(F::CpuShares)
        && let Some(weight) = cgroups.number(slot, CgroupFile::CpuWeight)
    {
        out.push(F::CpuShares, subject, Labels::NONE, shares(weight) as f64);
    }
    if out.wants_any([F::CpuPeriod, F::CpuQuota])
        && let Some(text) = cgroups.read(slot, CgroupFile::CpuMax)
    {
        // `max 100000` or `20000 100000` (Documentation/admin-guide/cgroup-v2.rst, cpu.max)
        let mut words = words(text.trim_ascii());
        if let Some(quota) = words.next().and_then(number) {
            out.push(F::CpuQuota, subject, Labels::NONE, quota as f64);
        }
        if let Some(period) = words.next().and_then(number) {
            out.push(F::CpuPeriod, subject, Labels::NONE, period as f64);
        }
    }
    for (family, file) in [
        (F::MemoryLimit, CgroupFile::MemoryMax),
        (F::SwapLimit, CgroupFile::MemorySwapMax),
        (F::Reservation, CgroupFile::MemoryMin),
    ] {
        if !out.wants(family) {
            continue;
        }
        let Some(text) = cgroups.read(slot, file) else { continue };
        // `max` is no limit, which cAdvisor gives as 0.
        let value = if text.starts_with(b"max") { Some(0) } else { cgroups.number(slot, file) };
        if let Some(value) = value {
            out.push(family, subject, Labels::NONE, value as f64);
        }
    }
}

/// Back from the weight to the shares it was made of, as cAdvisor does: [1, 10000] onto [2, 262144].
fn shares(weight: u64) -> u64 {
    2 + weight.clamp(1, 10_000).saturating_sub(1) * 262_142 / 9_999
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_becomes_the_shares_that_cadvisor_gives() {
        assert_eq!([1, 2, 79, 10_000].map(shares), [2, 28, 2046, 262_144]);
    }
}
