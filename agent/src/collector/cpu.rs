//! How long each CPU spent in each mode, and what kind of CPU it is.

mod info;
mod topology;

use info::Info;
use topology::Topology;

use super::{CollectError, Collector, NodeCollector, OptionDesc, OptionKind, Run};
use crate::metric::{NamedDesc, Writer, families};
use crate::source::file::NodeFile;
use crate::source::shared::SharedFile;
use crate::source::text::{label, lines, number, whole_lines, words};

/// `cpu`
pub(super) const COLLECTOR: Collector = Collector {
    name: "cpu",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[NamedDesc {
        prefix: info::FREQUENCY,
        help: "CPU frequency in hertz from `/proc/cpuinfo`, where `info` is on.",
    }],
    options: &[
        OptionDesc::new(
            "guest",
            OptionKind::Bool,
            "true",
            "Whether to give the time spent in guests, which is also part of the modes user and nice.",
        ),
        OptionDesc::new(
            "info",
            OptionKind::Bool,
            "false",
            "Whether to give what /proc/cpuinfo says of each CPU.",
        ),
        OptionDesc::new(
            "infoFlagsInclude",
            OptionKind::Regex,
            "",
            "Flags of the CPU to give; switches info on.",
        )
        .flag("info.flags-include"),
        OptionDesc::new(
            "infoBugsInclude",
            OptionKind::Regex,
            "",
            "Bugs of the CPU to give; switches info on.",
        )
        .flag("info.bugs-include"),
    ],
    exclusive: &[],
    run: Run::Node {
        start: |paths, options| {
            let (flags, bugs) =
                (options.regex(&COLLECTOR, "infoFlagsInclude"), options.regex(&COLLECTOR, "infoBugsInclude"));
            let info = options.flag(&COLLECTOR, "info") || flags.is_some() || bugs.is_some();
            Box::new(Cpu {
                file: paths.shared.whole(paths.procfs.join("stat")),
                guest: options.flag(&COLLECTOR, "guest"),
                cpus: Vec::new(),
                info: info.then(|| Info { file: NodeFile::new(paths.procfs.join("cpuinfo")), flags, bugs }),
                topology: Topology::new(paths),
            })
        },
        can_block: false,
    },
};

families! {
    Seconds Counter "node_cpu_seconds_total" "Seconds the CPUs spent in each mode.";
    Guest Counter "node_cpu_guest_seconds_total" "Seconds the CPUs spent in guests (VMs) for each mode.";
    Info Gauge "node_cpu_info" "CPU information from /proc/cpuinfo.";
    FlagInfo Gauge "node_cpu_flag_info" "The `flags` field of CPU information from /proc/cpuinfo taken from the first core.";
    BugInfo Gauge "node_cpu_bug_info" "The `bugs` field of CPU information from /proc/cpuinfo taken from the first core.";
    CoreThrottles Counter "node_cpu_core_throttles_total" "Number of times this CPU core has been throttled.";
    PackageThrottles Counter "node_cpu_package_throttles_total" "Number of times this CPU package has been throttled.";
    Isolated Gauge "node_cpu_isolated" "Whether each core is isolated, information from /sys/devices/system/cpu/isolated.";
    Online Gauge "node_cpu_online" "CPUs that are online and being scheduled.";
}

/// The columns after the name, in ticks of USER_HZ, which is 100 on every architecture that Kubernetes runs on
/// (Documentation/filesystems/proc.rst, section 1.7).
const COLUMNS: [(F, &str); 10] = [
    (F::Seconds, "user"),
    (F::Seconds, "nice"),
    (F::Seconds, "system"),
    (F::Seconds, "idle"),
    (F::Seconds, "iowait"),
    (F::Seconds, "irq"),
    (F::Seconds, "softirq"),
    (F::Seconds, "steal"),
    (F::Guest, "user"),
    (F::Guest, "nice"),
];
const IDLE: usize = 3;
const TICKS_PER_SECOND: u64 = 100;

/// Idle time that goes back by this much is that of a CPU which was taken away and came back.
const HOTPLUG: u64 = 3 * TICKS_PER_SECOND;

struct Cpu {
    file: SharedFile,
    guest: bool,
    /// The last reading: idle and iowait may go back (proc.rst), which a counter must not, and only one who knows
    /// the value before can hold it. It lives and ends with the collector; nothing else depends on it.
    cpus: Vec<Times>,
    info: Option<Info>,
    topology: Topology,
}

struct Times {
    name: String,
    ticks: [u64; COLUMNS.len()],
    is_present: bool,
}

impl NodeCollector for Cpu {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let times = self.times(out);
        let info = self.info.as_mut().map_or(Ok(()), |info| info.collect(out));
        let topology = self.topology.collect(out);
        times.and(info).and(topology)
    }
}

impl Cpu {
    fn times(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let guest = self.guest && out.wants(F::Guest);
        if !guest && !out.wants(F::Seconds) {
            return Ok(());
        }
        let text = self.file.read()?;
        let result = update(&mut self.cpus, text);
        for cpu in &self.cpus {
            for ((family, mode), ticks) in COLUMNS.into_iter().zip(cpu.ticks) {
                if out.wants(family) && (guest || !matches!(family, F::Guest)) {
                    let labels = out.labels(&[("cpu", &cpu.name), ("mode", mode)]);
                    out.node(family, labels, ticks as f64 / TICKS_PER_SECOND as f64);
                }
            }
        }
        result.map_err(|what| CollectError::parse(self.file.path(), what))
    }
}

/// Takes up the lines `cpuN`, which come before all others but the sum; a CPU without a line is offline and forgotten.
fn update(cpus: &mut Vec<Times>, text: &[u8]) -> Result<(), String> {
    let (text, is_whole) = whole_lines(text);
    cpus.iter_mut().for_each(|cpu| cpu.is_present = false);
    let mut result = Ok(());
    let mut place = 0;
    for line in lines(text).take_while(|line| line.starts_with(b"cpu")) {
        match parse(line) {
            Some((b"", _)) => {}
            Some((name, ticks)) => {
                take_up(cpus, place, name, ticks);
                place += 1;
            }
            None => result = Err(format!("`{}` is not the times of a CPU", label(line))),
        }
    }
    cpus.retain(|cpu| cpu.is_present);
    if result.is_ok() && cpus.is_empty() {
        return Err("no CPU in it".to_owned());
    }
    // The lines of CPUs are whole where another follows them.
    if result.is_ok() && !is_whole && lines(text).all(|line| line.starts_with(b"cpu")) {
        return Err("ends in the middle".to_owned());
    }
    result
}

/// A CPU is nearly always where it was the last time.
fn take_up(cpus: &mut Vec<Times>, place: usize, name: &[u8], ticks: [u64; COLUMNS.len()]) {
    let is_it = |cpu: &Times| cpu.name.as_bytes() == name;
    let known = if cpus.get(place).is_some_and(is_it) { Some(place) } else { cpus.iter().position(is_it) };
    match known.map(|place| &mut cpus[place]) {
        Some(cpu) => {
            cpu.is_present = true;
            let came_back = cpu.ticks[IDLE].saturating_sub(ticks[IDLE]) >= HOTPLUG;
            for (known, new) in cpu.ticks.iter_mut().zip(ticks) {
                *known = if came_back { new } else { new.max(*known) };
            }
        }
        None => cpus.push(Times { name: label(name).into_owned(), ticks, is_present: true }),
    }
}

/// `cpu0 1279636934 73759586 192327563 12184330186 543227057 56603 68503253 0 0 0`
fn parse(line: &[u8]) -> Option<(&[u8], [u64; COLUMNS.len()])> {
    let mut words = words(line);
    let name = words.next()?.strip_prefix(b"cpu")?;
    let mut ticks = [0; COLUMNS.len()];
    for column in &mut ticks {
        *column = number(words.next()?)?;
    }
    name.iter().all(u8::is_ascii_digit).then_some((name, ticks))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(cpus: &mut Vec<Times>, text: &str, expected: &[(&str, u64, u64)]) -> Result<(), String> {
        let result = update(cpus, text.as_bytes());
        let found: Vec<_> = cpus.iter().map(|c| (c.name.as_str(), c.ticks[IDLE], c.ticks[4])).collect();
        assert_eq!(found, expected);
        result
    }

    #[test]
    fn a_counter_that_goes_back_a_little_stays_and_one_that_goes_back_far_begins_again() {
        let mut cpus = Vec::new();
        check(&mut cpus, "cpu0 1 1 1 1000 50 1 1 1 1 1\nintr 1\n", &[("0", 1000, 50)]).unwrap();
        check(&mut cpus, "cpu0 1 1 1 990 40 1 1 1 1 1\nintr 1\n", &[("0", 1000, 50)]).unwrap();
        check(&mut cpus, "cpu0 1 1 1 1010 60 1 1 1 1 1\nintr 1\n", &[("0", 1010, 60)]).unwrap();
        check(&mut cpus, "cpu0 1 1 1 710 5 1 1 1 1 1\nintr 1\n", &[("0", 710, 5)]).unwrap();
    }

    #[test]
    fn a_cpu_that_is_offline_has_no_series_and_begins_anew() {
        let mut cpus = Vec::new();
        let (a, b) = ("cpu0 1 1 1 9 9 1 1 1 1 1\n", "cpu3 1 1 1 9 9 1 1 1 1 1\n");
        check(&mut cpus, &format!("cpu 2 2 2 18 18 2 2 2 2 2\n{a}{b}intr 1\n"), &[("0", 9, 9), ("3", 9, 9)])
            .unwrap();
        check(&mut cpus, &format!("{a}intr 1\n"), &[("0", 9, 9)]).unwrap();
        check(&mut cpus, "cpu3 1 1 1 4 4 1 1 1 1 1\nintr 1\n", &[("3", 4, 4)]).unwrap();
    }

    #[test]
    fn of_a_truncated_file_the_whole_lines_count() {
        let mut cpus = Vec::new();
        let text = "cpu0 1 1 1 9 9 1 1 1 1 1\ncpu1 1 1 1 9 9 1 1 1 1 1";
        check(&mut cpus, text, &[("0", 9, 9)]).unwrap_err();
        check(&mut cpus, "cpu0 1 1 1 9\ncpu1 1 1 1 9 9 1 1 1 1 1\nintr 1\n", &[("1", 9, 9)]).unwrap_err();
        check(&mut cpus, "", &[]).unwrap_err();
        check(&mut cpus, "intr 1\n", &[]).unwrap_err();
    }
}
