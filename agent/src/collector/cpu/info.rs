//! What `/proc/cpuinfo` says of each CPU; the kernel takes long to write it, so it is read only where it is asked for.

use regex::Regex;

use super::F;
use crate::collector::CollectError;
use crate::metric::{Kind, Suffix, Writer};
use crate::source::file::NodeFile;
use crate::source::text::{float, label, lines, whole_lines, words};

/// The labels, and by which keys the architectures write them (arch/x86/kernel/cpu/proc.c, arch/arm64/kernel/cpuinfo.c,
/// arch/riscv/kernel/cpu.c).
const LABELS: [(&str, &[&[u8]]); 10] = [
    ("cachesize", &[b"cache size"]),
    ("core", &[b"core id", b"hart"]),
    ("cpu", &[b"processor"]),
    ("family", &[b"cpu family"]),
    ("microcode", &[b"microcode"]),
    ("model", &[b"model"]),
    ("model_name", &[b"model name", b"isa"]),
    ("package", &[b"physical id"]),
    ("stepping", &[b"stepping"]),
    ("vendor", &[b"vendor_id", b"vendor"]),
];
const CORE: usize = 1;
const CPU: usize = 2;
const PACKAGE: usize = 7;

/// Written also by cpufreq, where the hardware tells.
pub(super) const FREQUENCY: &str = "node_cpu_frequency_hertz";

pub(super) struct Info {
    pub(super) file: NodeFile,
    pub(super) flags: Option<Regex>,
    pub(super) bugs: Option<Regex>,
}

/// One CPU, as far as it has been read.
#[derive(Default)]
struct Cpu<'a> {
    labels: [&'a [u8]; LABELS.len()],
    mhz: Option<f64>,
    flags: &'a [u8],
    bugs: &'a [u8],
}

impl Info {
    pub(super) fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        if !out.wants_any([F::Info, F::FlagInfo, F::BugInfo]) {
            return Ok(());
        }
        let text = self.file.read()?;
        let (flags, bugs) = (self.flags.as_ref(), self.bugs.as_ref());
        let mut is_first = true;
        let result = parse(text, |cpu| {
            write(cpu, out);
            if std::mem::take(&mut is_first) {
                fields(cpu.flags, flags, F::FlagInfo, "flag", out);
                fields(cpu.bugs, bugs, F::BugInfo, "bug", out);
            }
        });
        result.map_err(|what| CollectError::parse(self.file.path(), what))
    }
}

fn write(cpu: &Cpu<'_>, out: &mut Writer<'_>) {
    let values = cpu.labels.map(label);
    let mut labels = [("", ""); LABELS.len()];
    for ((to, (name, _)), value) in labels.iter_mut().zip(LABELS).zip(&values) {
        *to = (name, value);
    }
    let all = out.labels(&labels);
    out.node(F::Info, all, 1.0);
    if let Some(mhz) = cpu.mhz {
        let family = out.named(FREQUENCY, Kind::Gauge, "CPU frequency in hertz from /proc/cpuinfo.");
        let labels = out.labels(&[labels[CORE], labels[CPU], labels[PACKAGE]]);
        out.add(family, labels, Suffix::None, mhz * 1e6);
    }
}

/// Of the words of a field those that match; without a pattern none.
fn fields(text: &[u8], pattern: Option<&Regex>, family: F, name: &str, out: &mut Writer<'_>) {
    let Some(pattern) = pattern else { return };
    for word in words(text).map(label).filter(|word| pattern.is_match(word)) {
        let labels = out.labels(&[(name, &word)]);
        out.node(family, labels, 1.0);
    }
}

/// `model name : AMD EPYC 7B12`; each CPU begins with its number.
fn parse<'a>(text: &'a [u8], mut found: impl FnMut(&Cpu<'a>)) -> Result<(), String> {
    let (text, is_whole) = whole_lines(text);
    let mut cpu = None::<Cpu<'a>>;
    for line in lines(text) {
        let Some(colon) = line.iter().position(|b| *b == b':') else { continue };
        let key = line[..colon].trim_ascii();
        let value = line[colon + 1..].strip_prefix(b" ").unwrap_or_default();
        if key == b"processor"
            && let Some(whole) = cpu.replace(Cpu::default())
        {
            found(&whole);
        }
        // What stands before the first speaks of the machine.
        let Some(cpu) = &mut cpu else { continue };
        match key {
            b"cpu MHz" => cpu.mhz = float(value),
            b"flags" | b"Features" => cpu.flags = value,
            b"bugs" => cpu.bugs = value,
            key => {
                if let Some(i) = LABELS.iter().position(|(_, keys)| keys.contains(&key)) {
                    cpu.labels[i] = value;
                }
            }
        }
    }
    match cpu {
        Some(last) if is_whole => {
            found(&last);
            Ok(())
        }
        Some(_) => Err("ends in the middle".to_owned()),
        None => Err("no CPU in it".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[[&str; 4]]) -> Result<(), String> {
        let mut cpus = Vec::new();
        let result = parse(text.as_bytes(), |cpu| {
            let [core, number, name] = [CORE, CPU, 6].map(|i| label(cpu.labels[i]).into_owned());
            cpus.push([core, number, name, label(cpu.flags).into_owned()]);
        });
        assert_eq!(cpus, expected);
        result
    }

    #[test]
    fn each_architecture_has_its_keys() {
        let x86 = "processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel\t\t: 49\nmodel name\t: AMD EPYC: 7B12\nmicrocode\t: \
                   \ncpu MHz\t\t: 2250.000\ncore id\t\t: 3\nflags\t\t: fpu vme\n\nprocessor\t: 200\npower management:\n\n";
        check(x86, &[["3", "0", "AMD EPYC: 7B12", "fpu vme"], ["", "200", "", ""]]).unwrap();
        let arm = "processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\n\n";
        check(arm, &[["", "0", "", "fp asimd"]]).unwrap();
        let riscv = "processor\t: 1\nhart\t\t: 2\nisa\t\t: rv64imafdc\n\n";
        check(riscv, &[["2", "1", "rv64imafdc", ""]]).unwrap();
    }

    #[test]
    fn a_cpu_that_is_cut_off_is_not_given() {
        check("processor\t: 0\ncore id\t: 1\n\nprocessor\t: 1\ncore", &[["1", "0", "", ""]]).unwrap_err();
        check("", &[]).unwrap_err();
        check("system type : x\n", &[]).unwrap_err();
    }
}
