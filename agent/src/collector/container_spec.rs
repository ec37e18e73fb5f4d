//! The limits that each cgroup was given, and when it started.

use std::time::SystemTime;

use super::{CgroupCollector, Cgroups, CollectError, Collector, Run};
use crate::metric::{Labels, Subject, Writer, families};
use crate::source::cgroup::{CgroupFile, CgroupKind, Fixed, Version};
use crate::source::text::{number, words};

/// `container_spec`
pub(super) const COLLECTOR: Collector = Collector {
    name: "container_spec",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[],
    options: &[],
    exclusive: &[],
    run: Run::Cgroups { start: |_, _| Box::new(ContainerSpec::default()) },
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

/// The families that are read from files, in the order in which their values are kept.
const LIMITS: [F; 6] =
    [F::CpuPeriod, F::CpuQuota, F::CpuShares, F::MemoryLimit, F::SwapLimit, F::Reservation];

/// A value for each of [`LIMITS`].
type Limits = [Option<f64>; LIMITS.len()];

#[derive(Default)]
struct ContainerSpec {
    limits: Fixed<Limits>,
    /// Which of [`LIMITS`] they were read for.
    wanted: [bool; LIMITS.len()],
}

impl CgroupCollector for ContainerSpec {
    fn collect(&mut self, cgroups: &mut Cgroups<'_>, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let wanted = LIMITS.map(|family| out.wants(family));
        if self.wanted != wanted {
            self.wanted = wanted;
            self.limits.clear();
        }
        for slot in cgroups.slots() {
            let Some(cgroup) = cgroups.get(slot) else { continue };
            if let Ok(age) = cgroup.started.duration_since(SystemTime::UNIX_EPOCH) {
                out.push(F::StartTime, Subject::cgroup(slot), Labels::NONE, age.as_secs() as f64);
            }
            // The root has no limits but the machine's own.
            if cgroup.kind == CgroupKind::Root {
                continue;
            }
            let limits = cgroups.fixed(&mut self.limits, slot, |cgroups| match cgroups.version() {
                Version::V1 => v1(cgroups, slot, wanted),
                Version::V2 => v2(cgroups, slot, wanted),
            });
            for (family, value) in LIMITS.into_iter().zip(limits) {
                if let Some(value) = value {
                    out.push(family, Subject::cgroup(slot), Labels::NONE, value);
                }
            }
        }
        cgroups.result()
    }
}

/// `cpu.cfs_period_us` and the like each hold one number (Documentation/scheduler/sched-bwc.rst,
/// Documentation/admin-guide/cgroup-v1/memory.rst).
fn v1(cgroups: &mut Cgroups<'_>, slot: usize, wanted: [bool; LIMITS.len()]) -> Limits {
    let mut number = |place: usize, file| if wanted[place] { cgroups.number(slot, file) } else { None };
    let cpu = [CgroupFile::CpuCfsPeriod, CgroupFile::CpuCfsQuota, CgroupFile::CpuShares];
    let memory = [CgroupFile::MemoryLimit, CgroupFile::MemoryMemswLimit, CgroupFile::MemorySoftLimit];
    let mut limits = Limits::default();
    for (place, file) in cpu.into_iter().chain(memory).enumerate() {
        let limit = if place < cpu.len() { |value| value } else { v1_limit };
        limits[place] = number(place, file).map(|value| limit(value) as f64);
    }
    limits
}

/// No limit is the largest multiple of the page size below 2^63 on v1 (PAGE_COUNTER_MAX); cAdvisor gives 0 for it.
fn v1_limit(value: u64) -> u64 {
    if value >= 1 << 62 { 0 } else { value }
}

fn v2(cgroups: &mut Cgroups<'_>, slot: usize, wanted: [bool; LIMITS.len()]) -> Limits {
    let mut limits = Limits::default();
    let [period, quota, shares, memory @ ..] = &mut limits;
    if (wanted[0] || wanted[1])
        && let Some(text) = cgroups.read(slot, CgroupFile::CpuMax)
    {
        // `max 100000` or `20000 100000` (Documentation/admin-guide/cgroup-v2.rst, cpu.max)
        let mut words = words(text.trim_ascii());
        *quota = words.next().and_then(number).map(|quota| quota as f64);
        *period = words.next().and_then(number).map(|period| period as f64);
    }
    if wanted[2] {
        *shares = cgroups.number(slot, CgroupFile::CpuWeight).map(|weight| shares_of(weight) as f64);
    }
    let files = [CgroupFile::MemoryMax, CgroupFile::MemorySwapMax, CgroupFile::MemoryMin];
    for ((limit, file), is_wanted) in memory.iter_mut().zip(files).zip(&wanted[3..]) {
        if *is_wanted {
            // No limit is 0 to cAdvisor.
            *limit = cgroups.limit(slot, file).map(|limit| limit.unwrap_or(0) as f64);
        }
    }
    limits
}

/// Back from the weight to the shares it was made of, as cAdvisor does: [1, 10000] onto [2, 262144].
fn shares_of(weight: u64) -> u64 {
    2 + weight.clamp(1, 10_000).saturating_sub(1) * 262_142 / 9_999
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_becomes_the_shares_that_cadvisor_gives() {
        assert_eq!([1, 2, 79, 10_000].map(shares_of), [2, 28, 2046, 262_144]);
    }
}
