//! How long each CPU ran tasks, and how long tasks waited for it.

use super::{CollectError, Collector, NodeCollector, Run};
use crate::metric::{Writer, families};
use crate::source::file::NodeFile;
use crate::source::text::{label, lines, number, whole_lines, words};

/// `schedstat`
pub(super) const COLLECTOR: Collector = Collector {
    name: "schedstat",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[],
    options: &[],
    exclusive: &[],
    run: Run::Node {
        start: |paths, _| Box::new(Schedstat(NodeFile::new(paths.procfs.join("schedstat")))),
        can_block: false,
    },
};

families! {
    Running Counter "node_schedstat_running_seconds_total" "Number of seconds CPU spent running a process.";
    Waiting Counter "node_schedstat_waiting_seconds_total" "Number of seconds spent by processing waiting for this CPU.";
    Timeslices Counter "node_schedstat_timeslices_total" "Number of timeslices executed by CPU.";
}

struct Schedstat(NodeFile);

impl NodeCollector for Schedstat {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        if !out.wants_any([F::Running, F::Waiting, F::Timeslices]) {
            return Ok(());
        }
        let (text, is_whole) = whole_lines(self.0.read()?);
        let mut fault = (!is_whole).then(|| "ends in the middle".to_owned());
        // Among them stand the lines of scheduling domains.
        for line in lines(text).filter(|line| line.starts_with(b"cpu")) {
            let Some((cpu, [running, waiting, timeslices])) = parse(line) else {
                fault = Some(format!("`{}` is not the times of a CPU", label(line)));
                continue;
            };
            let labels = out.labels(&[("cpu", &label(cpu))]);
            out.node(F::Running, labels, running as f64 / 1e9);
            out.node(F::Waiting, labels, waiting as f64 / 1e9);
            out.node(F::Timeslices, labels, timeslices as f64);
        }
        fault.map_or(Ok(()), |what| Err(CollectError::parse(self.0.path(), what)))
    }
}

/// `cpu0 0 0 0 0 0 0 8520871523 1092163242 18123`: of nine numbers the last three are nanoseconds running, nanoseconds
/// waiting, and timeslices (Documentation/scheduler/sched-stats.rst).
fn parse(line: &[u8]) -> Option<(&[u8], [u64; 3])> {
    let mut words = words(line);
    let cpu = words
        .next()?
        .strip_prefix(b"cpu")
        .filter(|cpu| !cpu.is_empty() && cpu.iter().all(u8::is_ascii_digit))?;
    let mut words = words.skip(6).map(number);
    Some((cpu, [words.next()??, words.next()??, words.next()??]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::shown::gives;

    #[test]
    fn domains_are_passed_over_and_a_bad_line_costs_its_own_cpu() {
        let text = "version 17\ntimestamp 4296\ncpu0 0 0 0 0 0 0 8500000000 1000000000 18 new\n\
                    domain0 MC 3 1 2 3 4 5 6 7\ncpu12 0 0 0 0 0 0 1 2\ncpu200 0 0 0 0 0 0 0 0 18446744073709551615\ncpu201 0 0";
        let (lines, result) = gives(&COLLECTOR, &[("proc/schedstat", text)], &[]);
        let expected = [
            r#"node_schedstat_running_seconds_total{cpu="0"} 8.5"#,
            r#"node_schedstat_running_seconds_total{cpu="200"} 0"#,
            r#"node_schedstat_waiting_seconds_total{cpu="0"} 1"#,
            r#"node_schedstat_waiting_seconds_total{cpu="200"} 0"#,
            r#"node_schedstat_timeslices_total{cpu="0"} 18"#,
            r#"node_schedstat_timeslices_total{cpu="200"} 18446744073709552000"#,
        ];
        assert_eq!(lines, expected);
        assert!(matches!(result, Err(CollectError::Parse { .. })));
    }
}
