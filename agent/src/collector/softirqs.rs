//! How often each CPU ran each kind of software interrupt.

use super::{CollectError, Collector, NodeCollector, Run};
use crate::metric::{Writer, families};
use crate::source::file::NodeFile;
use crate::source::text::{label, lines, number, whole_lines, words};

/// `softirqs`
pub(super) const COLLECTOR: Collector = Collector {
    name: "softirqs",
    enabled_by_default: false,
    families: FAMILIES,
    named: &[],
    options: &[],
    exclusive: &[],
    run: Run::Node {
        start: |paths, _| Box::new(Softirqs(NodeFile::whole(paths.procfs.join("softirqs")))),
        can_block: false,
    },
};

families! {
    Functions Counter "node_softirqs_functions_total" "Softirq counts per CPU.";
}

struct Softirqs(NodeFile);

impl NodeCollector for Softirqs {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let text = self.0.read()?;
        parse(text, |kind, cpu, value| {
            let labels = out.labels(&[("cpu", &label(cpu)), ("type", &label(kind))]);
            out.node(F::Functions, labels, value as f64);
        })
        .map_err(|what| CollectError::parse(self.0.path(), what))
    }
}

/// `      NET_RX:     173703     199121` below the names of all CPUs that there can be (fs/proc/softirqs.c).
fn parse(text: &[u8], mut found: impl FnMut(&[u8], &[u8], u64)) -> Result<(), String> {
    let (text, is_whole) = whole_lines(text);
    let mut result = if is_whole { Ok(()) } else { Err("ends in the middle".to_owned()) };
    let mut lines = lines(text);
    let cpus = lines.next().unwrap_or_default();
    for line in lines {
        let mut row = words(line);
        let Some(kind) = row.next().and_then(|word| word.strip_suffix(b":")) else {
            result = Err(format!("`{}` has no name", label(line)));
            continue;
        };
        for (cpu, word) in words(cpus).zip(row) {
            match number(word) {
                Some(value) => found(kind, cpu.strip_prefix(b"CPU").unwrap_or(cpu), value),
                None => result = Err(format!("`{}` in `{}` is not a number", label(word), label(kind))),
            }
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(&str, &str, u64)]) -> Result<(), String> {
        let mut found = Vec::new();
        let result = parse(text.as_bytes(), |kind, cpu, value| {
            found.push((label(kind).into_owned(), label(cpu).into_owned(), value));
        });
        let found: Vec<_> =
            found.iter().map(|(kind, cpu, value)| (kind.as_str(), cpu.as_str(), *value)).collect();
        assert_eq!(found, expected);
        result
    }

    #[test]
    fn columns_are_of_the_cpus_that_the_headings_name() {
        let text = "      CPU0   CPU4\n  HI:  1  2\nNEW: 3 18446744073709551615\n";
        check(text, &[("HI", "0", 1), ("HI", "4", 2), ("NEW", "0", 3), ("NEW", "4", u64::MAX)]).unwrap();
    }

    #[test]
    fn a_bad_number_costs_itself() {
        check(
            "CPU0 CPU1\nHI: x 2\nTIMER: 3 4\nRCU: 1",
            &[("HI", "1", 2), ("TIMER", "0", 3), ("TIMER", "1", 4)],
        )
        .unwrap_err();
        check("", &[]).unwrap_err();
    }
}
