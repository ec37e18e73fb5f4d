//! How long work waited for CPU, memory and I/O.

use rustix::io::Errno;

use super::{CollectError, Collector, NodeCollector, Run};
use crate::metric::{Labels, Writer, families};
use crate::source::file::NodeFile;
use crate::source::text::{lines, number, words};

/// `pressure`
pub(super) const COLLECTOR: Collector = Collector {
    name: "pressure",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[],
    options: &[],
    exclusive: &[],
    run: Run::Node {
        start: |paths, _| {
            let folder = paths.procfs.join("pressure");
            Box::new(Pressure(
                RESOURCES.map(|(name, some, full)| (NodeFile::whole(folder.join(name)), some, full)),
            ))
        },
        can_block: false,
    },
};

families! {
    CpuWaiting Counter "node_pressure_cpu_waiting_seconds_total" "Total time in seconds that processes have waited for CPU time.";
    IoWaiting Counter "node_pressure_io_waiting_seconds_total" "Total time in seconds that processes have waited due to IO congestion.";
    IoStalled Counter "node_pressure_io_stalled_seconds_total" "Total time in seconds no process could make progress due to IO congestion.";
    MemoryWaiting Counter "node_pressure_memory_waiting_seconds_total" "Total time in seconds that processes have waited for memory.";
    MemoryStalled Counter "node_pressure_memory_stalled_seconds_total" "Total time in seconds no process could make progress due to memory congestion.";
    IrqStalled Counter "node_pressure_irq_stalled_seconds_total" "Total time in seconds no process could make progress due to IRQ congestion.";
}

/// The families of each resource's lines `some` and `full`. The line `full` of the CPU is not defined for the machine as a
/// whole; of interrupts, since Linux 6.1, there is no other (Documentation/accounting/psi.rst).
const RESOURCES: [(&str, Option<F>, Option<F>); 4] = [
    ("cpu", Some(F::CpuWaiting), None),
    ("io", Some(F::IoWaiting), Some(F::IoStalled)),
    ("memory", Some(F::MemoryWaiting), Some(F::MemoryStalled)),
    ("irq", None, Some(F::IrqStalled)),
];

struct Pressure([(NodeFile, Option<F>, Option<F>); 4]);

impl NodeCollector for Pressure {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let (mut result, mut is_any) = (Ok(()), false);
        for (file, some, full) in &mut self.0 {
            let text = match file.read() {
                Ok(text) => text,
                Err(error) if error.source == Errno::NOENT => continue,
                // With `psi=0` the files are there, and say that they do not work.
                Err(error) if error.source == Errno::OPNOTSUPP => {
                    return Err(CollectError::Absent("pressure, which psi=1 would switch on".to_owned()));
                }
                Err(error) => {
                    result = Err(error.into());
                    continue;
                }
            };
            is_any = true;
            let totals =
                [(&b"some"[..], *some), (b"full", *full)].map(|(kind, family)| (family, total(text, kind)));
            for (family, total) in totals {
                match (family, total) {
                    (Some(family), Some(micros)) => {
                        out.node(family, Labels::NONE, micros as f64 / 1000.0 / 1000.0);
                    }
                    (Some(_), None) => {
                        result = Err(CollectError::parse(file.path(), "a line without a total"))
                    }
                    (None, _) => {}
                }
            }
        }
        if !is_any && result.is_ok() {
            return Err(CollectError::Absent("/proc/pressure, since Linux 4.20 with CONFIG_PSI".to_owned()));
        }
        result
    }
}

/// The microseconds of `some avg10=0.06 avg60=0.21 avg300=0.99 total=8537362`.
fn total(text: &[u8], kind: &[u8]) -> Option<u64> {
    let text = text.strip_suffix(b"\n")?;
    let line = lines(text).find(|line| words(line).next() == Some(kind))?;
    words(line).find_map(|word| number(word.strip_prefix(b"total=")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::shown::gives;

    const SOME: &str = "some avg10=97.14 avg60=96.42 avg300=96.05 total=2792177251\n";
    const FULL: &str = "full avg10=0.00 avg60=0.00 avg300=0.00 total=1500000\n";

    #[test]
    fn each_resource_has_the_lines_that_mean_something() {
        let both = [SOME, FULL].concat();
        let files =
            [("proc/pressure/cpu", both.as_str()), ("proc/pressure/irq", FULL), ("proc/pressure/io", &both)];
        let (lines, result) = gives(&COLLECTOR, &files, &[]);
        let expected = [
            "node_pressure_cpu_waiting_seconds_total 2792.177251",
            "node_pressure_io_waiting_seconds_total 2792.177251",
            "node_pressure_io_stalled_seconds_total 1.5",
            "node_pressure_irq_stalled_seconds_total 1.5",
        ];
        assert_eq!(lines, expected);
        result.unwrap();
    }

    #[test]
    fn a_cut_file_costs_its_own_resource_and_a_kernel_without_pressure_is_absent() {
        let files =
            [("proc/pressure/cpu", SOME), ("proc/pressure/memory", "some avg10=0.00 avg60=0.00 total=12")];
        let (lines, result) = gives(&COLLECTOR, &files, &[]);
        assert_eq!(lines, ["node_pressure_cpu_waiting_seconds_total 2792.177251"]);
        assert!(matches!(result, Err(CollectError::Parse { .. })));
        let (_, result) = gives(&COLLECTOR, &[], &[]);
        assert!(matches!(result, Err(CollectError::Absent(_))));
    }
}
