//! What a collector is, and the list of them.

mod arp;
mod bcache;
mod bcachefs;
mod bonding;
mod btrfs;
mod buddyinfo;
mod cgroups;
mod conntrack;
mod container_cpu;
mod container_cpu_peak;
mod container_filesystem;
mod container_hugetlb;
mod container_io;
mod container_memory;
mod container_network;
mod container_oom;
mod container_pressure;
mod container_processes;
mod container_spec;
mod container_state;
mod container_storage;
mod cpu;
mod cpu_vulnerabilities;
mod cpufreq;
mod diskstats;
mod dmi;
mod dmmultipath;
mod drm;
mod edac;
mod entropy;
mod ethtool;
mod fibrechannel;
mod filefd;
mod filesystem;
mod hwmon;
mod infiniband;
mod interrupts;
mod ipvs;
mod kernel_hung;
mod ksmd;
mod kubelet_volumes;
mod lnstat;
mod loadavg;
mod logind;
mod machine;
mod mdadm;
mod meminfo;
mod meminfo_numa;
mod mountstats;
mod netclass;
mod netdev;
mod netstat;
mod network_route;
mod nfs;
mod nfsd;
mod nvme;
mod nvmesubsystem;
mod os;
mod pcidevice;
mod powersupplyclass;
mod pressure;
mod process_groups;
mod processes;
mod qdisc;
mod rapl;
mod schedstat;
mod selinux;
mod slabinfo;
mod sockstat;
mod softirqs;
mod softnet;
mod stat;
mod swap;
mod sysctl;
mod systemd;
mod tapestats;
mod tcpstat;
mod textfile;
mod thermal_zone;
mod time;
mod timex;
mod udp_queues;
mod uname;
mod vmstat;
mod watchdog;
mod xfrm;
mod xfs;
mod zfs;
mod zoneinfo;

use std::path::PathBuf;
use std::time::Instant;

use protocol::{Capabilities, CollectorCapability, NodeFacts};

use crate::metric::{FamilyDesc, NamedDesc, Writer};
use crate::oom_kills::OomKills;
use crate::process_groups::Whose;
use crate::scrape::Part;
use crate::source::Paths;
use crate::source::cgroup::{Cgroup, CgroupFile, CgroupKind, CgroupTree, Fixed, InOrder, ReadError, Version};
use crate::source::network::Networks;
use crate::source::text::only_number;
use crate::storage::Storage;

pub use crate::option::{OptionDesc, OptionKind, Options, Pattern};

/// THE LIST: every collector there is, in the order in which they are exposed.
pub const COLLECTORS: &[&Collector] = &[
    &arp::COLLECTOR,
    &bcache::COLLECTOR,
    &bcachefs::COLLECTOR,
    &bonding::COLLECTOR,
    &btrfs::COLLECTOR,
    &buddyinfo::COLLECTOR,
    &cgroups::COLLECTOR,
    &conntrack::COLLECTOR,
    &cpu::COLLECTOR,
    &cpu_vulnerabilities::COLLECTOR,
    &cpufreq::COLLECTOR,
    &diskstats::COLLECTOR,
    &dmi::COLLECTOR,
    &dmmultipath::COLLECTOR,
    &drm::COLLECTOR,
    &edac::COLLECTOR,
    &entropy::COLLECTOR,
    &ethtool::COLLECTOR,
    &fibrechannel::COLLECTOR,
    &filefd::COLLECTOR,
    &filesystem::COLLECTOR,
    &hwmon::COLLECTOR,
    &infiniband::COLLECTOR,
    &interrupts::COLLECTOR,
    &ipvs::COLLECTOR,
    &kernel_hung::COLLECTOR,
    &ksmd::COLLECTOR,
    &lnstat::COLLECTOR,
    &loadavg::COLLECTOR,
    &logind::COLLECTOR,
    &mdadm::COLLECTOR,
    &meminfo::COLLECTOR,
    &meminfo_numa::COLLECTOR,
    &mountstats::COLLECTOR,
    &netclass::COLLECTOR,
    &netdev::COLLECTOR,
    &netstat::COLLECTOR,
    &network_route::COLLECTOR,
    &nfs::COLLECTOR,
    &nfsd::COLLECTOR,
    &nvme::COLLECTOR,
    &nvmesubsystem::COLLECTOR,
    &os::COLLECTOR,
    &pcidevice::COLLECTOR,
    &powersupplyclass::COLLECTOR,
    &pressure::COLLECTOR,
    &processes::COLLECTOR,
    &qdisc::COLLECTOR,
    &rapl::COLLECTOR,
    &schedstat::COLLECTOR,
    &selinux::COLLECTOR,
    &slabinfo::COLLECTOR,
    &sockstat::COLLECTOR,
    &softirqs::COLLECTOR,
    &softnet::COLLECTOR,
    &stat::COLLECTOR,
    &swap::COLLECTOR,
    &sysctl::COLLECTOR,
    &systemd::COLLECTOR,
    &tapestats::COLLECTOR,
    &tcpstat::COLLECTOR,
    &thermal_zone::COLLECTOR,
    &time::COLLECTOR,
    &timex::COLLECTOR,
    &udp_queues::COLLECTOR,
    &uname::COLLECTOR,
    &vmstat::COLLECTOR,
    &watchdog::COLLECTOR,
    &xfrm::COLLECTOR,
    &xfs::COLLECTOR,
    &zfs::COLLECTOR,
    &zoneinfo::COLLECTOR,
    // After all others of the machine: what they give stays where a textfile gives it too.
    &textfile::COLLECTOR,
    &container_cpu::COLLECTOR,
    &container_cpu_peak::COLLECTOR,
    &container_filesystem::COLLECTOR,
    &container_hugetlb::COLLECTOR,
    &container_io::COLLECTOR,
    &container_memory::COLLECTOR,
    &container_network::COLLECTOR,
    &container_oom::COLLECTOR,
    &container_pressure::COLLECTOR,
    &container_processes::COLLECTOR,
    &container_spec::COLLECTOR,
    &container_state::COLLECTOR,
    &container_storage::COLLECTOR,
    &kubelet_volumes::COLLECTOR,
    &machine::COLLECTOR,
    &process_groups::COLLECTOR,
];

pub use crate::collect_error::CollectError;

/// The collector for which handles on network namespaces are kept.
pub const CONTAINER_NETWORK: &str = container_network::COLLECTOR.name;

/// One collector: what it yields, what can be set, and how it runs.
pub struct Collector {
    /// The public name, in policies and flags.
    pub name: &'static str,
    /// Whether it runs where nobody says otherwise.
    pub enabled_by_default: bool,
    /// Every family that it can yield; `METRICS.md` and the capabilities are made from these.
    pub families: &'static [FamilyDesc],
    /// The families that are named by what it reads.
    pub named: &'static [NamedDesc],
    /// What can be set: node_exporter's flag names without `collector.NAME.`, in camel case.
    pub options: &'static [OptionDesc],
    /// Options of which only one may be set.
    pub exclusive: &'static [(&'static str, &'static str)],
    /// What it reads.
    pub run: Run,
}

impl Collector {
    /// Checks options that only make sense together.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn check(&self, options: &Options) -> Result<(), String> {
        match self.run {
            Run::Processes { check, .. } => check(options),
            _ => Ok(()),
        }
    }
}

/// What a collector reads, which decides where its series are exposed.
pub enum Run {
    /// Files of the machine: `/metrics/node`.
    Node {
        /// Makes it ready to run with options that have been checked.
        start: fn(&Paths, &Options) -> Box<dyn NodeCollector>,
        /// Whether a read can hang, as on a dead mount; then it runs on a thread of its own, which can be abandoned.
        can_block: bool,
    },
    /// The cgroups of the kubelet: `/metrics/cadvisor`.
    Cgroups {
        /// Makes it ready to run with options that have been checked.
        start: fn(&Paths, &Options) -> Box<dyn CgroupCollector>,
    },
    /// OOM kills, which are remembered from scrape to scrape: `/metrics/cadvisor`.
    OomKills {
        /// Writes them.
        collect: fn(&mut OomKills, &mut Writer<'_>),
    },
    /// Every process, with what tells whose it is: `/metrics/processes`.
    Processes {
        /// Checks options that only make sense together.
        check: fn(&Options) -> Result<(), String>,
        /// Makes it ready to run with options that have been checked.
        start: fn(&Paths, &Options) -> Box<dyn ProcessCollector>,
    },
    /// What the kubelet last said of storage; it is asked once a minute while somebody scrapes this.
    Storage {
        /// Where its series are exposed.
        part: Part,
        /// Writes them.
        collect: fn(&Storage, &mut Writer<'_>),
    },
}

/// A collector of the machine, ready to run; it keeps handles and buffers, and of earlier values only what it needs to
/// keep a counter from going back.
pub trait NodeCollector: Send {
    /// Reads, and writes the samples of now.
    ///
    /// # Errors
    /// See [`CollectError`]; what was written before the error stays.
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError>;
}

/// A collector of cgroups, ready to run.
pub trait CgroupCollector: Send {
    /// Reads, and writes the samples of now. A cgroup that has gone meanwhile is passed over.
    ///
    /// # Errors
    /// See [`CollectError`]; what was written before the error stays.
    fn collect(&mut self, cgroups: &mut Cgroups<'_>, out: &mut Writer<'_>) -> Result<(), CollectError>;

    /// Looks at what only shows between two scrapes, once a second; answers whether it wants to.
    fn sample(&mut self, _: &mut Cgroups<'_>) -> bool {
        false
    }
}

/// A collector of processes, ready to run; it remembers what each had counted.
pub trait ProcessCollector: Send {
    /// Reads, and writes the samples of now; of its families the first has this number in the plan.
    ///
    /// # Errors
    /// See [`CollectError`]; what could be read is written.
    fn collect(
        &mut self,
        whose: &mut Whose<'_>,
        first_family: usize,
        out: &mut Writer<'_>,
    ) -> Result<(), CollectError>;

    /// How many processes, groups and folded groups there are.
    fn counts(&self) -> (usize, usize, usize);
}

/// The cgroups as a collector reads them: what goes wrong with one of them keeps no other from being read.
pub struct Cgroups<'a> {
    tree: &'a mut CgroupTree,
    networks: &'a mut Networks,
    node: &'a NodeFacts,
    buffer: &'a mut Vec<u8>,
    now: Instant,
    fault: Option<CollectError>,
}

impl<'a> Cgroups<'a> {
    /// The cgroups of this tree, read into this buffer.
    pub fn new(
        tree: &'a mut CgroupTree,
        networks: &'a mut Networks,
        node: &'a NodeFacts,
        buffer: &'a mut Vec<u8>,
    ) -> Self {
        Cgroups { tree, networks, node, buffer, now: Instant::now(), fault: None }
    }

    /// What the API server says of the node; empty without an operator.
    pub fn node(&self) -> &'a NodeFacts {
        self.node
    }

    /// Which interface the node has.
    pub fn version(&self) -> Version {
        self.tree.version()
    }

    /// The slots to go through.
    pub fn slots(&self) -> InOrder {
        self.tree.in_order()
    }

    /// How many slots there are, free ones included.
    pub fn slot_count(&self) -> usize {
        self.tree.slots().len()
    }

    /// The slot of the root, which stands for the machine.
    pub fn root(&self) -> Option<usize> {
        self.slots().find(|slot| self.get(*slot).is_some_and(|cgroup| cgroup.kind == CgroupKind::Root))
    }

    /// The cgroup in a slot.
    pub fn get(&self, slot: usize) -> Option<&Cgroup> {
        self.tree.slots()[slot].as_ref()
    }

    /// The folder of a cgroup, on v1 in the tree of this controller.
    pub fn folder(&self, slot: usize, controller: &str) -> PathBuf {
        self.tree.cgroup_folder(slot, controller)
    }

    /// The text of a file; nothing where the cgroup has gone or has no such file.
    pub fn read(&mut self, slot: usize, file: CgroupFile) -> Option<&[u8]> {
        match self.tree.read(slot, file, self.buffer) {
            // What the kernel writes of a cgroup ends with its line; half a number is not to be taken for one.
            Ok(()) if self.buffer.last().is_none_or(|b| *b == b'\n') => Some(self.buffer),
            Ok(()) => {
                self.parse_fault(slot, file, "ends in the middle");
                None
            }
            Err(ReadError::Gone | ReadError::Absent) => None,
            Err(ReadError::Failed(source)) => {
                self.fail(CollectError::Read { path: self.tree.file_path(slot, file), source });
                None
            }
        }
    }

    /// The number of a file that holds one; nothing where it says `max`.
    pub fn number(&mut self, slot: usize, file: CgroupFile) -> Option<u64> {
        self.limit(slot, file).flatten()
    }

    /// The number of a file that holds a limit, where `max` and -1 are none; nothing where there is no such file.
    pub fn limit(&mut self, slot: usize, file: CgroupFile) -> Option<Option<u64>> {
        let text = self.read(slot, file)?;
        let number = only_number(text);
        if number.is_none() && text.trim_ascii() != b"max" && text.trim_ascii() != b"-1" {
            self.parse_fault(slot, file, "not a number");
            return None;
        }
        Some(number)
    }

    /// What is fixed of the cgroup in a slot: as it is known, or as it is read now.
    pub fn fixed<T: Copy>(
        &mut self,
        known: &mut Fixed<T>,
        slot: usize,
        read: impl FnOnce(&mut Self) -> T,
    ) -> T {
        let now = self.now;
        if let Some(what) = self.get(slot).and_then(|cgroup| known.get(slot, cgroup, now)) {
            return what;
        }
        let before = self.fault.take();
        let what = read(self);
        // What could not be read may be there the next time.
        if self.fault.is_none()
            && let Some(cgroup) = self.get(slot)
        {
            known.set(slot, cgroup, now, what);
        }
        self.fault = before.or(self.fault.take());
        what
    }

    /// The interfaces of the network namespace of a pod's sandbox, or of the machine for the root.
    pub fn network(&mut self, slot: usize) -> Option<&[u8]> {
        self.networks.read(slot, self.buffer).then_some(self.buffer)
    }

    /// Notes that a file does not read as it should.
    pub fn parse_fault(&mut self, slot: usize, file: CgroupFile, what: &str) {
        self.fail(CollectError::parse(self.tree.file_path(slot, file), what));
    }

    /// The first thing that went wrong.
    ///
    /// # Errors
    /// That thing.
    pub fn result(&mut self) -> Result<(), CollectError> {
        self.fault.take().map_or(Ok(()), Err)
    }

    fn fail(&mut self, error: CollectError) {
        self.fault.get_or_insert(error);
    }
}

/// Collectors of node_exporter that this agent has not, and what there is instead.
pub const NOT_HERE: &[(&str, &str)] = &[
    ("drbd", "it reads /proc/drbd, which DRBD has not since version 9; drbd-reactor exports what DRBD does"),
    (
        "ntp",
        "it asks a server over the network; the collector `timex` says whether the clock is synchronized",
    ),
    ("perf", "it opens hardware counters, for which the agent would need CAP_PERFMON"),
    ("runit", "it asks a process supervisor; what that knows can be given to the collector `textfile`"),
    ("supervisord", "it asks a process supervisor; what that knows can be given to the collector `textfile`"),
    (
        "wifi",
        "it asks nl80211, which servers have not; the collectors `netdev` and `netclass` know wireless interfaces too",
    ),
];

/// Why node_exporter's collector of this name is not in this agent; nothing where node_exporter has none or the agent has it.
pub fn not_here(name: &str) -> Option<String> {
    let (name, why) = NOT_HERE.iter().find(|(known, _)| *known == name)?;
    Some(format!("collector `{name}` of node_exporter is not in this agent: {why}"))
}

/// The collector of this name.
pub fn find(name: &str) -> Option<&'static Collector> {
    COLLECTORS.iter().copied().find(|c| c.name == name)
}

/// What this build can collect, as it says in its first message.
pub fn capabilities() -> Capabilities {
    Capabilities(
        COLLECTORS
            .iter()
            .map(|c| CollectorCapability {
                name: c.name.to_owned(),
                enabled_by_default: c.enabled_by_default,
                options: c.options.iter().map(|o| o.key.to_owned()).collect(),
                families: c.families.iter().map(|f| f.name.to_owned()).collect(),
            })
            .collect(),
    )
}
