//! Interrupts, context switches, processes, and when the machine was booted.

use super::{CollectError, Collector, NodeCollector, OptionDesc, OptionKind, Run};
use crate::metric::{Labels, Writer, families};
use crate::source::shared::SharedFile;
use crate::source::text::{label, lines, number, whole_lines, words};

/// `stat`
pub(super) const COLLECTOR: Collector = Collector {
    name: "stat",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[],
    options: &[OptionDesc::new(
        "softirq",
        OptionKind::Bool,
        "false",
        "Whether to give the number of soft interrupts of each kind.",
    )],
    exclusive: &[],
    run: Run::Node {
        start: |paths, options| {
            Box::new(Stat {
                file: paths.shared.whole(paths.procfs.join("stat")),
                softirq: options.flag(&COLLECTOR, "softirq"),
            })
        },
        can_block: false,
    },
};

families! {
    Interrupts Counter "node_intr_total" "Total number of interrupts serviced.";
    Switches Counter "node_context_switches_total" "Total number of context switches.";
    Forks Counter "node_forks_total" "Total number of forks.";
    BootTime Gauge "node_boot_time_seconds" "Node boot time, in unixtime.";
    Running Gauge "node_procs_running" "Number of processes in runnable state.";
    Blocked Gauge "node_procs_blocked" "Number of processes blocked waiting for I/O to complete.";
    SoftInterrupts Counter "node_softirqs_total" "Number of softirq calls.";
}

/// The family of each line that begins with a key and one number that matters (Documentation/filesystems/proc.rst,
/// section 1.7).
const KEYS: [(&[u8], F); 6] = [
    (b"intr", F::Interrupts),
    (b"ctxt", F::Switches),
    (b"btime", F::BootTime),
    (b"processes", F::Forks),
    (b"procs_running", F::Running),
    (b"procs_blocked", F::Blocked),
];

/// The columns of the line `softirq` after the sum (include/linux/interrupt.h, softirq_to_name).
const VECTORS: [&str; 10] =
    ["hi", "timer", "net_tx", "net_rx", "block", "block_iopoll", "tasklet", "sched", "hrtimer", "rcu"];

struct Stat {
    file: SharedFile,
    softirq: bool,
}

impl NodeCollector for Stat {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let softirq = self.softirq && out.wants(F::SoftInterrupts);
        if !softirq && !out.wants_any(KEYS.map(|(_, family)| family)) {
            return Ok(());
        }
        let text = self.file.read()?;
        write(text, softirq, out).map_err(|what| CollectError::parse(self.file.path(), what))
    }
}

fn write(text: &[u8], softirq: bool, out: &mut Writer<'_>) -> Result<(), String> {
    let (text, is_whole) = whole_lines(text);
    let mut result = if is_whole { Ok(()) } else { Err("ends in the middle".to_owned()) };
    let mut is_there = [false; KEYS.len()];
    for line in lines(text).filter(|line| !line.starts_with(b"cpu")) {
        // The line of interrupts is long, and only its first number is read.
        let mut words = words(line);
        let key = words.next().unwrap_or_default();
        if let Some(i) = KEYS.iter().position(|(known, _)| *known == key) {
            match words.next().and_then(number) {
                Some(value) => out.node(KEYS[i].1, Labels::NONE, value as f64),
                None => result = Err(format!("`{}` is not a key with a number", label(line))),
            }
            is_there[i] = true;
        } else if softirq && key == b"softirq" {
            words.next();
            for vector in VECTORS {
                let Some(value) = words.next().and_then(number) else {
                    result = Err(format!("`{}` is not the numbers of soft interrupts", label(line)));
                    break;
                };
                let labels = out.labels(&[("vector", vector)]);
                out.node(F::SoftInterrupts, labels, value as f64);
            }
        }
    }
    if let (Ok(()), Some(i)) = (&result, is_there.iter().position(|there| !there)) {
        return Err(format!("no line `{}`", label(KEYS[i].0)));
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::shown::gives;

    const TEXT: &str = "cpu  1 1 1 1 1 1 1 1 1 1\ncpu0 1 1 1 1 1 1 1 1 1 1\nintr 8885917 17 0 0\nctxt 38014093\n\
                        btime 1418183276\nprocesses 26442\nprocs_running 2\nprocs_blocked 1\n\
                        softirq 5057579 250191 1481983 1647 211099 186066 0 1783454 622196 12499 508444 7\n";

    #[test]
    fn soft_interrupts_are_given_when_asked_for() {
        let (lines, result) = gives(&COLLECTOR, &[("proc/stat", TEXT)], &[]);
        let expected = [
            "node_intr_total 8885917",
            "node_context_switches_total 38014093",
            "node_forks_total 26442",
            "node_boot_time_seconds 1418183276",
            "node_procs_running 2",
            "node_procs_blocked 1",
        ];
        assert_eq!(lines, expected);
        result.unwrap();
        let (lines, _) = gives(&COLLECTOR, &[("proc/stat", TEXT)], &[("softirq", "true")]);
        assert_eq!(lines.len(), 16);
        assert_eq!(lines[15], r#"node_softirqs_total{vector="rcu"} 508444"#);
    }

    #[test]
    fn what_is_missing_is_an_error_and_not_a_zero() {
        let (lines, result) = gives(&COLLECTOR, &[("proc/stat", "intr 5 1\nctxt x\nbtime 12")], &[]);
        assert_eq!(lines, ["node_intr_total 5"]);
        assert!(matches!(result, Err(CollectError::Parse { .. })));
        let (_, result) = gives(&COLLECTOR, &[("proc/stat", &TEXT.replace("procs_blocked 1\n", ""))], &[]);
        assert!(result.unwrap_err().to_string().contains("procs_blocked"));
    }
}
