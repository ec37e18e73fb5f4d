//! How long the processes of each cgroup waited for the CPU, for memory and for disks (PSI).

use super::{CgroupCollector, Cgroups, CollectError, Collector, Run};
use crate::metric::{Labels, Subject, Writer, families};
use crate::source::cgroup::{CgroupFile, Version};
use crate::source::text::{lines, number, words};

/// `container_pressure`
pub(super) const COLLECTOR: Collector = Collector {
    name: "container_pressure",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[],
    options: &[],
    exclusive: &[],
    run: Run::Cgroups { start: |_, _| Box::new(ContainerPressure) },
};

families! {
    CpuStalled Counter "container_pressure_cpu_stalled_seconds_total" "Total time duration no tasks in the container could make progress due to CPU congestion.";
    CpuWaiting Counter "container_pressure_cpu_waiting_seconds_total" "Total time duration tasks in the container have waited due to CPU congestion.";
    MemoryStalled Counter "container_pressure_memory_stalled_seconds_total" "Total time duration no tasks in the container could make progress due to memory congestion.";
    MemoryWaiting Counter "container_pressure_memory_waiting_seconds_total" "Total time duration tasks in the container have waited due to memory congestion.";
    IoStalled Counter "container_pressure_io_stalled_seconds_total" "Total time duration no tasks in the container could make progress due to IO congestion.";
    IoWaiting Counter "container_pressure_io_waiting_seconds_total" "Total time duration tasks in the container have waited due to IO congestion.";
}

/// The families of each file's lines `some` and `full`.
const RESOURCES: [(CgroupFile, F, F); 3] = [
    (CgroupFile::CpuPressure, F::CpuWaiting, F::CpuStalled),
    (CgroupFile::MemoryPressure, F::MemoryWaiting, F::MemoryStalled),
    (CgroupFile::IoPressure, F::IoWaiting, F::IoStalled),
];

struct ContainerPressure;

impl CgroupCollector for ContainerPressure {
    fn collect(&mut self, cgroups: &mut Cgroups<'_>, out: &mut Writer<'_>) -> Result<(), CollectError> {
        // The kernel keeps it for the cgroups of the unified hierarchy only (Documentation/accounting/psi.rst).
        if cgroups.version() == Version::V1 {
            return Ok(());
        }
        for (file, some, full) in RESOURCES {
            if !out.wants_any([some, full]) {
                continue;
            }
            for slot in cgroups.slots() {
                let Some(text) = cgroups.read(slot, file) else { continue };
                let mut is_whole = true;
                for line in lines(text) {
                    let family = match words(line).next() {
                        Some(b"some") => some,
                        Some(b"full") => full,
                        _ => continue,
                    };
                    match total(line) {
                        Some(microseconds) => {
                            let seconds = microseconds as f64 / 1e6;
                            out.push(family, Subject::cgroup(slot), Labels::NONE, seconds);
                        }
                        None => is_whole = false,
                    }
                }
                if !is_whole {
                    cgroups.parse_fault(slot, file, "a line without its total");
                }
            }
        }
        cgroups.result()
    }
}

/// The microseconds of `some avg10=0.06 avg60=0.21 avg300=0.99 total=8537362`.
fn total(line: &[u8]) -> Option<u64> {
    words(line).find_map(|word| number(word.strip_prefix(b"total=")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_without_a_total_has_none() {
        assert_eq!(total(b"some avg10=0.06 avg60=0.21 avg300=0.99 total=8537362"), Some(8_537_362));
        assert_eq!(total(b"full avg10=0.00 total="), None);
        assert_eq!(total(b"full"), None);
    }
}
