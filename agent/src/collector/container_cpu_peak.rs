//! The most CPU time that each cgroup used in any one second of the last minute, which an average between two scrapes hides.

use std::time::{Duration, Instant};

use super::{CgroupCollector, Cgroups, CollectError, Collector, Run};
use crate::metric::{Labels, Subject, Writer, families};
use crate::source::cgroup::{CgroupFile, Version};
use crate::source::text::pairs;

/// `container_cpu_peak`
pub(super) const COLLECTOR: Collector = Collector {
    name: "container_cpu_peak",
    // It wakes the agent each second.
    enabled_by_default: false,
    families: FAMILIES,
    named: &[],
    options: &[],
    exclusive: &[],
    run: Run::Cgroups { start: |_, _| Box::<ContainerCpuPeak>::default() },
};

families! {
    Peak Gauge "container_cpu_usage_peak_cores" "The most CPU time used in any one second of the last minute, in cores.";
}

/// A minute of them covers what lies between two scrapes, whoever scrapes.
const SAMPLES: usize = 60;

/// By slot of the tree.
#[derive(Default)]
struct ContainerCpuPeak(Vec<Option<Seconds>>);

/// What a cgroup used in the last seconds.
struct Seconds {
    inode: u64,
    at: Instant,
    used: Duration,
    /// In cores, in a circle.
    cores: [f32; SAMPLES],
    next: usize,
}

impl Seconds {
    fn new(inode: u64, at: Instant, used: Duration) -> Self {
        Seconds { inode, at, used, cores: [0.0; SAMPLES], next: 0 }
    }

    /// Takes up how much CPU time the cgroup has used until now, in all.
    fn push(&mut self, at: Instant, used: Duration) {
        let (elapsed, more) = (at.duration_since(self.at), used.saturating_sub(self.used));
        if elapsed.is_zero() {
            return;
        }
        self.cores[self.next] = more.div_duration_f32(elapsed);
        self.next = (self.next + 1) % SAMPLES;
        (self.at, self.used) = (at, used);
    }

    fn peak(&self) -> f32 {
        self.cores.iter().copied().fold(0.0, f32::max)
    }
}

impl CgroupCollector for ContainerCpuPeak {
    fn collect(&mut self, cgroups: &mut Cgroups<'_>, out: &mut Writer<'_>) -> Result<(), CollectError> {
        for slot in cgroups.slots() {
            // Another cgroup may have the slot since the last look.
            let is_it = |seconds: &&Seconds| cgroups.get(slot).is_some_and(|c| c.inode == seconds.inode);
            if let Some(seconds) = self.0.get(slot).and_then(Option::as_ref).filter(is_it) {
                out.push(F::Peak, Subject::cgroup(slot), Labels::NONE, f64::from(seconds.peak()));
            }
        }
        Ok(())
    }

    fn sample(&mut self, cgroups: &mut Cgroups<'_>) -> bool {
        let now = Instant::now();
        self.0.resize_with(cgroups.slot_count(), || None);
        for (slot, seconds) in self.0.iter_mut().enumerate() {
            let inode = cgroups.get(slot).filter(|c| c.ended_in().is_none()).map(|c| c.inode);
            let used = inode.and_then(|inode| Some((inode, used(cgroups, slot)?)));
            match (used, &mut *seconds) {
                (Some((inode, used)), Some(seconds)) if seconds.inode == inode => seconds.push(now, used),
                (Some((inode, used)), _) => *seconds = Some(Seconds::new(inode, now, used)),
                (None, _) => *seconds = None,
            }
        }
        true
    }
}

/// The CPU time that a cgroup has used (Documentation/admin-guide/cgroup-v1/cpuacct.rst, cgroup-v2.rst).
fn used(cgroups: &mut Cgroups<'_>, slot: usize) -> Option<Duration> {
    match cgroups.version() {
        Version::V1 => cgroups.number(slot, CgroupFile::CpuacctUsage).map(Duration::from_nanos),
        Version::V2 => {
            let text = cgroups.read(slot, CgroupFile::CpuStat)?;
            let usage = pairs(text).find(|(key, _)| *key == b"usage_usec");
            usage.map(|(_, microseconds)| Duration::from_micros(microseconds))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_second_is_the_peak_until_a_minute_has_passed() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut seconds = Seconds::new(1, start, Duration::from_secs(100));
        let mut used = Duration::from_secs(100);
        for n in 1..=3 {
            used += Duration::from_millis(if n == 2 { 1500 } else { 100 });
            seconds.push(start + second * n, used);
        }
        assert_eq!(seconds.peak(), 1.5);
        for n in 4..=61 {
            seconds.push(start + second * n, used);
        }
        assert_eq!(seconds.peak(), 1.5, "the last minute has it still");
        seconds.push(start + second * 62, used);
        assert!((seconds.peak() - 0.1).abs() < 1e-6);
    }

    #[test]
    fn a_sample_that_comes_late_is_spread_over_the_time_it_took() {
        let start = Instant::now();
        let mut seconds = Seconds::new(1, start, Duration::ZERO);
        seconds.push(start + Duration::from_secs(4), Duration::from_secs(2));
        assert_eq!(seconds.peak(), 0.5);
    }
}
