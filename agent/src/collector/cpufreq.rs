//! The frequency of each CPU, its bounds, and who governs it.

use super::{CollectError, Collector, NodeCollector, Run};
use crate::devices::Devices;
use crate::metric::{Writer, families};
use crate::source::file::NodeFile;
use crate::source::text::number;

/// `cpufreq`
pub(super) const COLLECTOR: Collector = Collector {
    name: "cpufreq",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[],
    options: &[],
    exclusive: &[],
    run: Run::Node {
        start: |paths, _| {
            let folder = paths.sysfs.join("devices/system/cpu");
            Box::new(Cpufreq {
                offline: NodeFile::whole(folder.join("offline")),
                cpus: Devices::new(folder, FILES, &paths.handles).only(|name| {
                    name.starts_with("cpu") && name[3..].starts_with(|c: char| c.is_ascii_digit())
                }),
                governor: String::new(),
            })
        },
        // Drivers ask firmware, and before Linux 5.17 x86 sleeps 10 ms for each busy CPU
        // (arch/x86/kernel/cpu/aperfmperf.c, arch_freq_get_on_cpu).
        can_block: true,
    },
};

families! {
    Frequency Gauge "node_cpu_frequency_hertz" "Current CPU thread frequency in hertz.";
    FrequencyAverage Gauge "node_cpu_frequency_avg_hertz" "Average CPU thread frequency in hertz.";
    FrequencyMin Gauge "node_cpu_frequency_min_hertz" "Minimum CPU thread frequency in hertz.";
    FrequencyMax Gauge "node_cpu_frequency_max_hertz" "Maximum CPU thread frequency in hertz.";
    ScalingFrequency Gauge "node_cpu_scaling_frequency_hertz" "Current scaled CPU thread frequency in hertz.";
    ScalingMin Gauge "node_cpu_scaling_frequency_min_hertz" "Minimum scaled CPU thread frequency in hertz.";
    ScalingMax Gauge "node_cpu_scaling_frequency_max_hertz" "Maximum scaled CPU thread frequency in hertz.";
    Governor Gauge "node_cpu_scaling_governor" "Current enabled CPU frequency governor.";
}

/// Documentation/admin-guide/pm/cpufreq.rst, "Policy Interface in sysfs".
const FILES: &[&str] = &[
    "cpufreq/scaling_governor",
    "cpufreq/scaling_available_governors",
    "cpufreq/cpuinfo_cur_freq",
    "cpufreq/cpuinfo_avg_freq",
    "cpufreq/cpuinfo_min_freq",
    "cpufreq/cpuinfo_max_freq",
    "cpufreq/scaling_cur_freq",
    "cpufreq/scaling_min_freq",
    "cpufreq/scaling_max_freq",
];
const GOVERNOR: usize = 0;
const AVAILABLE: usize = 1;

/// The families of the files after the governors.
const KILOHERTZ: [F; 7] = [
    F::Frequency,
    F::FrequencyAverage,
    F::FrequencyMin,
    F::FrequencyMax,
    F::ScalingFrequency,
    F::ScalingMin,
    F::ScalingMax,
];

struct Cpufreq {
    offline: NodeFile,
    cpus: Devices,
    governor: String,
}

impl NodeCollector for Cpufreq {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        self.cpus.list()?;
        let offline = self.offline.read()?.trim_ascii();
        for i in 0..self.cpus.len() {
            let cpu = &self.cpus.name(i)[3..];
            if number(cpu.as_bytes()).is_some_and(|cpu| is_in(offline, cpu)) {
                continue;
            }
            let labels = out.labels(&[("cpu", cpu)]);
            // Every policy has one, so that a CPU without it has none.
            let Some(governor) = self.cpus.text(i, GOVERNOR) else { continue };
            self.governor.clear();
            self.governor.push_str(&governor);
            if out.wants(F::Governor)
                && !self.governor.is_empty()
                && let Some(available) = self.cpus.text(i, AVAILABLE)
            {
                for governor in available.split(' ') {
                    let labels = out.with(labels, "governor", governor);
                    out.node(F::Governor, labels, f64::from(governor == self.governor));
                }
            }
            for (family, file) in KILOHERTZ.into_iter().zip(AVAILABLE + 1..) {
                if out.wants(family)
                    && let Some(kilohertz) = self.cpus.number(i, file)
                {
                    out.node(family, labels, kilohertz as f64 * 1000.0);
                }
            }
        }
        self.cpus.result()?;
        match self.cpus.is_empty() {
            true => Err(CollectError::Absent("no CPU in /sys/devices/system/cpu".to_owned())),
            false => Ok(()),
        }
    }
}

/// Whether a list of CPUs such as `0-3,8` has this one (Documentation/admin-guide/cputopology.rst).
fn is_in(list: &[u8], cpu: u64) -> bool {
    list.split(|b| *b == b',').any(|range| {
        let mut ends = range.splitn(2, |b| *b == b'-').map(number);
        let first = ends.next().flatten();
        let last = ends.next().unwrap_or(first);
        first.is_some_and(|first| first <= cpu) && last.is_some_and(|last| cpu <= last)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_cpus_has_ranges_or_nothing() {
        let found = |list: &str| (0..10).filter(|cpu| is_in(list.as_bytes(), *cpu)).collect::<Vec<_>>();
        assert_eq!(found("1,3-5,8"), [1, 3, 4, 5, 8]);
        assert_eq!(found("0-9").len(), 10);
        assert!(["", "x", "-", "3-", "-3", "5-3", "1-2-3"].iter().all(|list| found(list).is_empty()));
    }
}
