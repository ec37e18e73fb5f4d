//! What the machine has, as cAdvisor tells it beside the containers, with the ids of the machine.

mod inventory;

use super::os::pretty_name;
use super::{CgroupCollector, Cgroups, CollectError, Collector, Run};
use crate::metric::{Labels, Writer, families};
use crate::source::Paths;
use crate::source::file::{NodeFile, read_in_root};
use crate::source::text::{label, lines, number, whole_lines, words};
use inventory::{Ids, Inventory};

/// `machine`
pub(super) const COLLECTOR: Collector = Collector {
    name: "machine",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[],
    options: &[],
    exclusive: &[],
    run: Run::Cgroups { start: |paths, _| Box::new(Machine::new(paths)) },
};

families! {
    Version Gauge "cadvisor_version_info" "A metric with a constant '1' value labeled by kernel version and OS version.";
    Books Gauge "machine_cpu_books" "Number of CPU books.";
    Cores Gauge "machine_cpu_cores" "Number of logical CPU cores.";
    Drawers Gauge "machine_cpu_drawers" "Number of CPU drawers.";
    PhysicalCores Gauge "machine_cpu_physical_cores" "Number of physical CPU cores.";
    Sockets Gauge "machine_cpu_sockets" "Number of CPU sockets.";
    DimmCapacity Gauge "machine_dimm_capacity_bytes" "Total RAM DIMM capacity by the type of the modules.";
    Dimms Gauge "machine_dimm_count" "Number of RAM DIMMs by the type of the modules.";
    Memory Gauge "machine_memory_bytes" "Amount of memory installed on the machine.";
    NvmPower Gauge "machine_nvm_avg_power_budget_watts" "NVM power budget, which is always 0, as the kubelet gives it.";
    Nvm Gauge "machine_nvm_capacity" "NVM capacity by mode, which is always 0, as the kubelet gives it.";
    Error Gauge "machine_scrape_error" "1 if there was an error while getting machine metrics, 0 otherwise.";
    Swap Gauge "machine_swap_bytes" "Amount of swap memory available on the machine.";
}

const ABOUT_CPUS: [F; 5] = [F::Books, F::Cores, F::Drawers, F::PhysicalCores, F::Sockets];
const ABOUT_DIMMS: [F; 2] = [F::DimmCapacity, F::Dimms];

struct Machine {
    paths: Paths,
    ids: Option<Ids>,
    inventory: Inventory,
    meminfo: NodeFile,
    release: NodeFile,
    /// What `os-release` holds, and the name in it.
    os: (Vec<u8>, String),
    buffer: Vec<u8>,
}

impl Machine {
    fn new(paths: &Paths) -> Self {
        Machine {
            paths: paths.clone(),
            ids: None,
            inventory: Inventory::new(paths),
            meminfo: NodeFile::whole(paths.procfs.join("meminfo")),
            release: NodeFile::whole(paths.procfs.join("sys/kernel/osrelease")),
            os: Default::default(),
            buffer: Vec::new(),
        }
    }
}

impl CgroupCollector for Machine {
    fn collect(&mut self, cgroups: &mut Cgroups<'_>, out: &mut Writer<'_>) -> Result<(), CollectError> {
        if out.wants(F::Version) {
            self.version(out);
        }
        let ids = self.ids.get_or_insert_with(|| Ids::read(&self.paths)).told(cgroups.node());
        let ids =
            out.labels(&[("boot_id", ids.boot), ("machine_id", ids.machine), ("system_uuid", ids.system)]);
        let memory = self.memory(ids, out);
        let inventory = self.inventory(ids, out);
        let result = memory.and(inventory);
        out.node(F::Error, Labels::NONE, f64::from(result.is_err()));
        result
    }
}

impl Machine {
    /// The kubelet tells no version of its cAdvisor; it has the labels all the same.
    fn version(&mut self, out: &mut Writer<'_>) {
        for file in super::os::FILES {
            if read_in_root(&self.paths.rootfs, file, &mut self.buffer).is_ok() {
                if self.buffer != self.os.0 {
                    self.os = (self.buffer.clone(), pretty_name(&self.buffer).unwrap_or_default());
                }
                break;
            }
        }
        let kernel = self.release.read().map(|text| label(text.trim_ascii())).unwrap_or_default();
        let labels = out.labels(&[
            ("cadvisorRevision", ""),
            ("cadvisorVersion", ""),
            ("dockerVersion", ""),
            ("kernelVersion", &kernel),
            ("osVersion", &self.os.1),
        ]);
        out.node(F::Version, labels, 1.0);
    }

    fn memory(&mut self, ids: Labels, out: &mut Writer<'_>) -> Result<(), CollectError> {
        if !out.wants_any([F::Memory, F::Swap]) {
            return Ok(());
        }
        let (text, _) = whole_lines(self.meminfo.read()?);
        let (mut memory, mut swap) = (None, None);
        for line in lines(text) {
            let mut words = words(line);
            let amount = match words.next() {
                Some(b"MemTotal:") => &mut memory,
                Some(b"SwapTotal:") => &mut swap,
                _ => continue,
            };
            *amount = words.next().and_then(number);
        }
        for (family, amount) in [(F::Memory, memory), (F::Swap, swap)] {
            if let Some(kibibytes) = amount {
                out.node(family, ids, kibibytes as f64 * 1024.0);
            }
        }
        match memory.and(swap) {
            Some(_) => Ok(()),
            None => Err(CollectError::parse(self.meminfo.path(), "no MemTotal or SwapTotal")),
        }
    }

    fn inventory(&mut self, ids: Labels, out: &mut Writer<'_>) -> Result<(), CollectError> {
        for (family, mode) in
            [(F::NvmPower, None), (F::Nvm, Some("app_direct_mode")), (F::Nvm, Some("memory_mode"))]
        {
            if out.wants(family) {
                let labels = mode.map_or(ids, |mode| out.with(ids, "mode", mode));
                out.node(family, labels, 0.0);
            }
        }
        if !out.wants_any(ABOUT_CPUS) && !out.wants_any(ABOUT_DIMMS) {
            return Ok(());
        }
        let found = self.inventory.get()?;
        for (family, count) in ABOUT_CPUS.into_iter().zip([
            Some(found.books),
            Some(found.cpus),
            Some(found.drawers),
            found.cores,
            found.sockets,
        ]) {
            if let Some(count) = count {
                out.node(family, ids, count as f64);
            }
        }
        for (kind, dimms) in &found.dimms {
            let labels = out.with(ids, "type", kind);
            out.node(F::Dimms, labels, dimms.count as f64);
            out.node(F::DimmCapacity, labels, dimms.bytes as f64);
        }
        Ok(())
    }
}
