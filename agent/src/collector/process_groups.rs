//! Processes in groups by name, as process-exporter has them, with the pod and container that they are in.

mod config;

use super::{CollectError, Collector, OptionDesc, OptionKind, ProcessCollector, Run};
use crate::metric::{Labels, Subject, Writer, families};
use crate::plan::Plan;
use crate::process_groups::{Count, Group, ProcessGroups, STATES, TICKS, Wanted, Whose};
use crate::rights;
use crate::source::Paths;
use config::Config;

/// `process_groups`
pub(super) const COLLECTOR: Collector = Collector {
    name: "process_groups",
    enabled_by_default: false,
    families: FAMILIES,
    named: &[],
    options: &[
        OptionDesc::new(
            "config",
            OptionKind::ProcessNames,
            "",
            "Which processes belong together, in the YAML of process-exporter; every program by its short name where \
             neither this nor a file is given. In a policy at most 8192 characters.",
        ),
        OptionDesc::new(
            "configPath",
            OptionKind::Text,
            "",
            "File on the node with the same, of at most 1 MiB, read again when it changes.",
        ),
        OptionDesc::new(
            "exposeCommandLines",
            OptionKind::Bool,
            "false",
            "Whether names of groups may have parts of command lines in them: ExeBase, ExeFull and Matches.",
        ),
        OptionDesc::new(
            "redact",
            OptionKind::RegexLines,
            "",
            "Patterns of what is taken out of command lines before they are matched, beside passwords, tokens and the like.",
        ),
        OptionDesc::new(
            "children",
            OptionKind::Bool,
            "true",
            "Whether a process that no name matches is in the group of its parent.",
        ),
        OptionDesc::new(
            "threads",
            OptionKind::Bool,
            "true",
            "Whether threads are read, of processes that have several.",
        ),
        OptionDesc::new(
            "smaps",
            OptionKind::Bool,
            "false",
            "Whether proportional memory is read, which is slow.",
        )
        .flag("gather-smaps")
        .privileged(),
        OptionDesc::new(
            "recheck",
            OptionKind::Bool,
            "false",
            "Whether a process that no name matches is matched again at each scrape.",
        ),
        OptionDesc::new(
            "recheckTimeLimit",
            OptionKind::Duration,
            "",
            "For how long after its start a process is matched again; this alone switches `recheck` on. 0 is off: then \
             `recheck` decides, and has no limit.",
        )
        .flag("recheck-with-time-limit"),
        OptionDesc::new(
            "removeEmptyGroups",
            OptionKind::Bool,
            "true",
            "Whether a group ends with its last process.",
        ),
        OptionDesc::new(
            "topPerPod",
            OptionKind::Number,
            "10",
            "How many groups of a pod stay whole, the largest of them; the others are one more, `_other`. 0 is all.",
        ),
        OptionDesc::new(
            "topOutsidePods",
            OptionKind::Number,
            "1000",
            "The same of processes that are in no pod.",
        ),
        OptionDesc::new(
            "topByCpu",
            OptionKind::Bool,
            "false",
            "Whether the largest are those with the most CPU time, which their processes had since they began, and not \
             those with the most resident memory.",
        ),
        OptionDesc::new(
            "leastMemoryBytes",
            OptionKind::Number,
            "0",
            "A group with less resident memory is not kept whole, unless its CPU time is enough; 0 is no limit.",
        ),
        OptionDesc::new(
            "leastCpuSeconds",
            OptionKind::Number,
            "0",
            "A group whose processes had less CPU time is not kept whole, unless its memory is enough; 0 is no limit.",
        ),
    ],
    exclusive: &[("config", "configPath")],
    run: Run::Processes {
        check: config::check,
        start: |paths, options| Box::new(Processes::new(paths, Config::new(options))),
    },
};

families! {
    Processes Gauge "namedprocess_namegroup_num_procs" "Number of processes in this group.";
    Cpu Counter "namedprocess_namegroup_cpu_seconds_total" "CPU time that this group has used, by mode.";
    Read Counter "namedprocess_namegroup_read_bytes_total" "Bytes that this group has read from disks; needs the privileged profile.";
    Written Counter "namedprocess_namegroup_write_bytes_total" "Bytes that this group has written to disks; needs the privileged profile.";
    MajorFaults Counter "namedprocess_namegroup_major_page_faults_total" "Page faults that read from a disk.";
    MinorFaults Counter "namedprocess_namegroup_minor_page_faults_total" "Page faults that needed no disk.";
    Switches Counter "namedprocess_namegroup_context_switches_total" "Context switches, by type; of the first thread only where threads are not read.";
    Memory Gauge "namedprocess_namegroup_memory_bytes" "Memory in use, by type; the proportional ones need the option smaps and the privileged profile.";
    OpenFiles Gauge "namedprocess_namegroup_open_filedesc" "Number of open file descriptors; needs the privileged profile.";
    WorstRatio Gauge "namedprocess_namegroup_worst_fd_ratio" "Open file descriptors in proportion to how many may be, of the process nearest to its limit; needs the privileged profile.";
    Oldest Gauge "namedprocess_namegroup_oldest_start_time_seconds" "When the oldest process in this group started, in seconds since 1970.";
    NumThreads Gauge "namedprocess_namegroup_num_threads" "Number of threads.";
    States Gauge "namedprocess_namegroup_states" "Number of processes in each state, and where threads are read of each thread of those that have several.";
    Wchan Gauge "namedprocess_namegroup_threads_wchan" "Number of threads that wait in each function of the kernel; needs the privileged profile.";
    ThreadCount Gauge "namedprocess_namegroup_thread_count" "Number of threads with this name.";
    ThreadCpu Counter "namedprocess_namegroup_thread_cpu_seconds_total" "CPU time that threads with this name have used, by mode.";
    ThreadIo Counter "namedprocess_namegroup_thread_io_bytes_total" "Bytes that threads with this name have read from and written to disks; needs the privileged profile.";
    ThreadMajorFaults Counter "namedprocess_namegroup_thread_major_page_faults_total" "Page faults of threads with this name that read from a disk.";
    ThreadMinorFaults Counter "namedprocess_namegroup_thread_minor_page_faults_total" "Page faults of threads with this name that needed no disk.";
    ThreadSwitches Counter "namedprocess_namegroup_thread_context_switches_total" "Context switches of threads with this name, by type.";
}

/// The families of threads by their names.
const OF_THREADS: [F; 6] = [
    F::ThreadCount,
    F::ThreadCpu,
    F::ThreadIo,
    F::ThreadMajorFaults,
    F::ThreadMinorFaults,
    F::ThreadSwitches,
];

struct Processes {
    paths: Paths,
    config: Config,
    groups: Option<ProcessGroups>,
    may_trace: bool,
}

impl Processes {
    fn new(paths: &Paths, config: Config) -> Self {
        // Of a recorded tree whoever owns it may read everything.
        let may_trace = paths.is_recorded() || rights::may_trace();
        if !may_trace && config.smaps {
            tracing::warn!(
                collector = COLLECTOR.name,
                "option `smaps`: {}; it is skipped",
                rights::HOW_TO_TRACE
            );
        }
        if !may_trace {
            tracing::info!(
                collector = COLLECTOR.name,
                "families that need CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH are absent: open files, bytes read and written, \
                 proportional memory, wchan"
            );
        }
        Processes { paths: paths.clone(), config, groups: None, may_trace }
    }

    /// What has to be read for what anybody sees.
    fn wanted(&self, out: &Writer<'_>) -> Wanted {
        let may = self.may_trace;
        let threads = self.config.threads
            && (out.wants_any(OF_THREADS) || out.wants_any([F::States, F::Switches, F::Wchan]));
        Wanted {
            swapped: out.wants(F::Memory),
            switches: out.wants_any([F::Switches, F::ThreadSwitches]),
            io: may && out.wants_any([F::Read, F::Written, F::ThreadIo]),
            open_files: may && out.wants(F::OpenFiles),
            limits: may && out.wants(F::WorstRatio),
            smaps: may && self.config.smaps && out.wants(F::Memory),
            wchan: may && out.wants(F::Wchan),
            threads,
        }
    }
}

impl ProcessCollector for Processes {
    fn collect(
        &mut self,
        whose: &mut Whose<'_>,
        first_family: usize,
        out: &mut Writer<'_>,
    ) -> Result<(), CollectError> {
        let read = self.config.refresh();
        if let Some(settings) = self.config.take_changed()? {
            match &mut self.groups {
                Some(groups) => groups.set(settings),
                None => self.groups = Some(ProcessGroups::new(&self.paths, settings)),
            }
        }
        let wanted = self.wanted(out);
        // Without names, nothing is known of what may be shown.
        let Some(groups) = &mut self.groups else { return read };
        let updated = groups.update(whose, wanted);
        let shown = Shown { plan: whose.plan, first_family, wanted, smaps: wanted.smaps };
        for (group, view) in groups.shown() {
            shown.write(groups, group, view, out);
        }
        updated.and(read)
    }

    fn counts(&self) -> (usize, usize, usize) {
        self.groups.as_ref().map_or_else(Default::default, ProcessGroups::counts)
    }
}

/// What of a group is exposed, and to whom.
struct Shown<'a> {
    plan: &'a Plan,
    first_family: usize,
    wanted: Wanted,
    smaps: bool,
}

const MODES: [(&str, Count); 2] = [("user", Count::User), ("system", Count::System)];
const SWITCHES: [(&str, Count); 2] = [("voluntary", Count::Voluntary), ("nonvoluntary", Count::Nonvoluntary)];
const IO_MODES: [(&str, Count); 2] = [("read", Count::Read), ("write", Count::Written)];

impl Shown<'_> {
    fn has(&self, out: &Writer<'_>, view: usize, family: F) -> bool {
        out.wants(family) && self.plan.view(view).exposes[self.first_family + family as usize]
    }

    fn write(&self, groups: &ProcessGroups, group: &Group, view: usize, out: &mut Writer<'_>) {
        let (now, counted) = (&group.now, |count| group.counted(count) as f64);
        let labels = out.escaped(&group.labels);
        let mut each = |family: F, name: &str, values: &[(&str, f64)]| {
            if !self.has(out, view, family) {
                return;
            }
            for (value, number) in values {
                let labels = if name.is_empty() { labels } else { out.with(labels, name, value) };
                out.push(family, Subject::NODE, labels, *number);
            }
        };
        let one = |value: f64| [("", value)];
        let seconds = |count| counted(count) / TICKS as f64;
        each(F::Processes, "", &one(now.processes as f64));
        each(F::Cpu, "mode", &MODES.map(|(mode, count)| (mode, seconds(count))));
        each(F::MajorFaults, "", &one(counted(Count::MajorFaults)));
        each(F::MinorFaults, "", &one(counted(Count::MinorFaults)));
        each(F::Switches, "ctxswitchtype", &SWITCHES.map(|(kind, count)| (kind, counted(count))));
        let memory = [
            ("resident", now.resident),
            ("virtual", now.virtual_bytes),
            ("swapped", now.swapped),
            ("proportionalResident", now.proportional),
            ("proportionalSwapped", now.proportional_swapped),
        ];
        let memory = memory.map(|(kind, bytes)| (kind, bytes as f64));
        each(F::Memory, "memtype", &memory[..if self.smaps { 5 } else { 3 }]);
        if let Some(oldest) = now.oldest {
            each(F::Oldest, "", &one(groups.began(oldest)));
        }
        each(F::NumThreads, "", &one(now.threads as f64));
        let mut states = STATES.map(|state| (state, 0.0));
        states.iter_mut().zip(now.states).for_each(|(to, count)| to.1 = count as f64);
        each(F::States, "state", &states);
        if self.wanted.io {
            each(F::Read, "", &one(counted(Count::Read)));
            each(F::Written, "", &one(counted(Count::Written)));
        }
        if self.wanted.open_files {
            each(F::OpenFiles, "", &one(now.open_files as f64));
        }
        if self.wanted.limits {
            each(F::WorstRatio, "", &one(now.worst_ratio));
        }
        for (wchan, threads) in &group.wchans {
            each(F::Wchan, "wchan", &[(groups.wchan(*wchan), f64::from(*threads))]);
        }
        // Names of threads have no meaning across groups.
        if !group.is_fold {
            self.write_threads(group, view, out);
        }
    }

    fn write_threads(&self, group: &Group, view: usize, out: &mut Writer<'_>) {
        for threads in &group.threads {
            let labels = out.escaped(&threads.labels);
            let counted = |count| threads.counted(count) as f64;
            self.one(out, view, F::ThreadCount, labels, threads.now as f64);
            self.one(out, view, F::ThreadMajorFaults, labels, counted(Count::MajorFaults));
            self.one(out, view, F::ThreadMinorFaults, labels, counted(Count::MinorFaults));
            let ticks = TICKS as f64;
            for (family, name, values, unit) in [
                (F::ThreadCpu, "mode", MODES, ticks),
                (F::ThreadSwitches, "ctxswitchtype", SWITCHES, 1.0),
                (F::ThreadIo, "iomode", IO_MODES, 1.0),
            ] {
                if self.has(out, view, family) && (self.wanted.io || !matches!(family, F::ThreadIo)) {
                    for (value, count) in values {
                        let labels = out.with(labels, name, value);
                        out.push(family, Subject::NODE, labels, counted(count) / unit);
                    }
                }
            }
        }
    }

    fn one(&self, out: &mut Writer<'_>, view: usize, family: F, labels: Labels, value: f64) {
        if self.has(out, view, family) {
            out.push(family, Subject::NODE, labels, value);
        }
    }
}
