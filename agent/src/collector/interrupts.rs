//! How often each CPU was interrupted, by interrupt and device.

use super::{CollectError, Collector, NodeCollector, OptionDesc, OptionKind, Pattern, Run};
use crate::metric::{Writer, families};
use crate::source::file::NodeFile;
use crate::source::text::{label, number, words};

/// `interrupts`
pub(super) const COLLECTOR: Collector = Collector {
    name: "interrupts",
    enabled_by_default: false,
    families: FAMILIES,
    named: &[],
    options: &[
        OptionDesc::new(
            "nameInclude",
            OptionKind::Regex,
            "",
            "Interrupts to give, and no others; matched against NAME;INFO;DEVICES.",
        ),
        OptionDesc::new(
            "nameExclude",
            OptionKind::Regex,
            "",
            "Interrupts to leave out; matched against NAME;INFO;DEVICES.",
        ),
        OptionDesc::new(
            "includeZeros",
            OptionKind::Bool,
            "true",
            "Whether to give interrupts that a CPU never had.",
        ),
    ],
    exclusive: &[],
    run: Run::Node {
        start: |paths, options| {
            Box::new(Interrupts {
                file: NodeFile::new(paths.procfs.join("interrupts")),
                names: options.both(&COLLECTOR, "nameInclude", "nameExclude"),
                zeros: options.flag(&COLLECTOR, "includeZeros"),
                cpus: Vec::new(),
                row: Row::default(),
            })
        },
        can_block: false,
    },
};

families! {
    Interrupts Counter "node_interrupts_total" "Interrupt details.";
}

struct Interrupts {
    file: NodeFile,
    names: Pattern,
    zeros: bool,
    /// The line of headings.
    cpus: Vec<u8>,
    row: Row,
}

/// What one interrupt is called; the texts are used again for the next.
#[derive(Default)]
struct Row {
    info: String,
    devices: String,
    all: String,
}

impl NodeCollector for Interrupts {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        if !out.wants(F::Interrupts) {
            return Ok(());
        }
        let Interrupts { file, names, zeros, cpus, row } = self;
        cpus.clear();
        let mut result = Ok(());
        // With many CPUs and queues the file has megabytes.
        let is_whole = file.each_line(|line| {
            if cpus.is_empty() {
                cpus.extend_from_slice(line);
            } else if let Err(what) = interrupt(line, cpus, row, names, *zeros, out) {
                result = Err(what);
            }
        })?;
        if result.is_ok() && (!is_whole || cpus.is_empty()) {
            result = Err("ends in the middle".to_owned());
        }
        result.map_err(|what| CollectError::parse(self.file.path(), what))
    }
}

/// ` 24:    1    0  IO-APIC   5-edge      ACPI:Ged` or `NMI:    0    0   Non-maskable interrupts` (proc_interrupts(5)).
/// The columns are of the CPUs that the headings name, `CPU0  CPU2`: one that is offline has none.
fn interrupt(
    line: &[u8],
    cpus: &[u8],
    row: &mut Row,
    names: &Pattern,
    zeros: bool,
    out: &mut Writer<'_>,
) -> Result<(), String> {
    let Some(colon) = line.iter().position(|b| *b == b':') else { return Ok(()) };
    let (name, columns) = (label(line[..colon].trim_ascii_start()), &line[colon + 1..]);
    let count = words(cpus).count();
    // ERR and MIS have one number for the machine, and nothing that says what it is.
    if words(columns).count() <= count {
        return Ok(());
    }
    row.set(words(columns).skip(count), number(name.as_bytes()).is_some());
    row.all.clear();
    row.all.extend([&name, ";", &row.info, ";", &row.devices]);
    if names.ignores(&row.all) {
        return Ok(());
    }
    for (cpu, word) in words(cpus).zip(words(columns)) {
        let value = number(word).ok_or_else(|| format!("`{}` in `{name}` is not a number", label(word)))?;
        if zeros || value != 0 {
            let cpu = label(cpu.strip_prefix(b"CPU").unwrap_or(cpu));
            let labels = [("cpu", &*cpu), ("type", &name), ("info", &row.info), ("devices", &row.devices)];
            let labels = out.labels(&labels);
            out.node(F::Interrupts, labels, value as f64);
        }
    }
    Ok(())
}

impl Row {
    /// The words after the columns: with a number for a name the first is the chip, and devices follow.
    fn set<'a>(&mut self, details: impl Iterator<Item = &'a [u8]>, is_numbered: bool) {
        self.info.clear();
        self.devices.clear();
        for (i, word) in details.enumerate() {
            let text = if is_numbered && i > 0 { &mut self.devices } else { &mut self.info };
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(&label(word));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::shown::gives;

    const FILE: &str = "           CPU0       CPU2\n 24:   1   0  IO-APIC   5-edge  ACPI:Ged\n\
        IPI0:3  4   Rescheduling interrupts\nERR:          0\n 26:     7     0  none\n";

    fn check(options: &[(&str, &str)], expected: &[&str]) {
        let (lines, result) = gives(&COLLECTOR, &[("proc/interrupts", FILE)], options);
        result.unwrap();
        let expected: Vec<_> = expected.iter().map(|line| format!("node_interrupts_total{line}")).collect();
        assert_eq!(lines, expected);
    }

    #[test]
    fn columns_are_of_the_cpus_that_are_online() {
        check(
            &[],
            &[
                r#"{cpu="0",type="24",info="IO-APIC",devices="5-edge ACPI:Ged"} 1"#,
                r#"{cpu="2",type="24",info="IO-APIC",devices="5-edge ACPI:Ged"} 0"#,
                r#"{cpu="0",type="IPI0",info="Rescheduling interrupts",devices=""} 3"#,
                r#"{cpu="2",type="IPI0",info="Rescheduling interrupts",devices=""} 4"#,
                r#"{cpu="0",type="26",info="none",devices=""} 7"#,
                r#"{cpu="2",type="26",info="none",devices=""} 0"#,
            ],
        );
    }

    #[test]
    fn a_name_is_chosen_with_its_details_and_both_patterns_hold() {
        let options = [("nameInclude", "^2|Resch"), ("nameExclude", "Ged$"), ("includeZeros", "false")];
        check(
            &options,
            &[
                r#"{cpu="0",type="IPI0",info="Rescheduling interrupts",devices=""} 3"#,
                r#"{cpu="2",type="IPI0",info="Rescheduling interrupts",devices=""} 4"#,
                r#"{cpu="0",type="26",info="none",devices=""} 7"#,
            ],
        );
    }

    #[test]
    fn what_is_cut_is_an_error_and_no_number() {
        for text in ["", "CPU0\n 1: 5 a\n 2: 5", "CPU0\n 1: 5 a\n 2: x a\n"] {
            let (lines, result) = gives(&COLLECTOR, &[("proc/interrupts", text)], &[]);
            assert!(matches!(result, Err(CollectError::Parse { .. })), "{text}");
            assert_eq!(lines.len(), usize::from(!text.is_empty()), "{text}");
        }
    }
}
