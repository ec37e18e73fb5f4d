//! Memory of each cgroup, its parts and its limits' hits.

use super::{CgroupCollector, Cgroups, CollectError, Collector, Run};
use crate::metric::{Labels, Subject, Writer, families};
use crate::source::cgroup::{CgroupFile, CgroupKind, Version};
use crate::source::text::pairs;

/// `container_memory`
pub(super) const COLLECTOR: Collector = Collector {
    name: "container_memory",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[],
    options: &[],
    exclusive: &[],
    run: Run::Cgroups { start: |_, _| Box::new(ContainerMemory) },
};

families! {
    Cache Gauge "container_memory_cache" "Number of bytes of page cache memory.";
    Rss Gauge "container_memory_rss" "Size of RSS in bytes.";
    Kernel Gauge "container_memory_kernel_usage" "Size of kernel memory allocated in bytes.";
    MappedFile Gauge "container_memory_mapped_file" "Size of memory mapped files in bytes.";
    Swap Gauge "container_memory_swap" "Container swap usage in bytes.";
    Failcnt Counter "container_memory_failcnt" "Number of memory usage hits limits.";
    Usage Gauge "container_memory_usage_bytes" "Current memory usage in bytes, including all memory regardless of when it was accessed.";
    MaxUsage Gauge "container_memory_max_usage_bytes" "Maximum memory usage recorded in bytes.";
    WorkingSet Gauge "container_memory_working_set_bytes" "Current working set in bytes.";
    ActiveFile Gauge "container_memory_total_active_file_bytes" "Current total active file in bytes.";
    InactiveFile Gauge "container_memory_total_inactive_file_bytes" "Current total inactive file in bytes.";
    Failures Counter "container_memory_failures_total" "Cumulative count of memory allocation failures.";
    EventsHigh Counter "container_memory_events_high_total" "How often processes were throttled to reclaim memory, since usage was above the high boundary (cgroup v2).";
    EventsMax Counter "container_memory_events_max_total" "How often usage was about to go over the limit (cgroup v2).";
    FileDirty Gauge "container_memory_file_dirty_bytes" "Page cache that was changed and is not yet being written to disk.";
    FileWriteback Gauge "container_memory_file_writeback_bytes" "Page cache that was changed and is being written to disk.";
    PagesScanned Counter "container_memory_pgscan_total" "Pages that were looked at for reclaiming (cgroup v2).";
    PagesReclaimed Counter "container_memory_pgsteal_total" "Pages that were reclaimed (cgroup v2).";
    RefaultsFile Counter "container_memory_workingset_refault_file_total" "Pages of files that were read again soon after they had been reclaimed.";
    RefaultsAnon Counter "container_memory_workingset_refault_anon_total" "Pages without a file that were read again from swap soon after they had been reclaimed.";
}

/// The families that `memory.stat` is read for.
const IN_STAT: [F; 14] = [
    F::Cache,
    F::Rss,
    F::MappedFile,
    F::Swap,
    F::WorkingSet,
    F::ActiveFile,
    F::InactiveFile,
    F::Failures,
    F::FileDirty,
    F::FileWriteback,
    F::PagesScanned,
    F::PagesReclaimed,
    F::RefaultsFile,
    F::RefaultsAnon,
];

/// The families that `memory.events` is read for.
const IN_EVENTS: [F; 3] = [F::Failcnt, F::EventsHigh, F::EventsMax];

struct ContainerMemory;

/// The labels of `container_memory_failures_total`.
struct FailureLabels {
    faults: [Labels; 2],
    major_faults: [Labels; 2],
}

impl FailureLabels {
    /// Of the lines of a v1 `memory.stat` that count faults.
    fn v1(&self, key: &[u8]) -> Option<Labels> {
        match key {
            b"pgfault" => Some(self.faults[0]),
            b"total_pgfault" => Some(self.faults[1]),
            b"pgmajfault" => Some(self.major_faults[0]),
            b"total_pgmajfault" => Some(self.major_faults[1]),
            _ => None,
        }
    }
}

impl CgroupCollector for ContainerMemory {
    fn collect(&mut self, cgroups: &mut Cgroups<'_>, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let mut scopes = |kind| {
            ["container", "hierarchy"].map(|scope| out.labels(&[("failure_type", kind), ("scope", scope)]))
        };
        let labels = FailureLabels { faults: scopes("pgfault"), major_faults: scopes("pgmajfault") };
        for slot in cgroups.slots() {
            let Some(cgroup) = cgroups.get(slot) else { continue };
            let is_root = cgroup.kind == CgroupKind::Root;
            match cgroups.version() {
                Version::V1 => v1(cgroups, slot, &labels, out),
                Version::V2 => v2(cgroups, slot, is_root, &labels, out),
            }
        }
        cgroups.result()
    }
}

/// Documentation/admin-guide/cgroup-v1/memory.rst; the `total_` lines speak of the cgroup and all below it.
fn v1(cgroups: &mut Cgroups<'_>, slot: usize, labels: &FailureLabels, out: &mut Writer<'_>) {
    let subject = Subject::cgroup(slot);
    let mut usage = None;
    if out.wants_any([F::Usage, F::WorkingSet]) {
        usage = cgroups.number(slot, CgroupFile::MemoryUsage);
    }
    if let Some(usage) = usage {
        out.push(F::Usage, subject, Labels::NONE, usage as f64);
    }
    for (family, file) in [
        (F::MaxUsage, CgroupFile::MemoryMaxUsage),
        (F::Failcnt, CgroupFile::MemoryFailcnt),
        (F::Kernel, CgroupFile::MemoryKmemUsage),
    ] {
        if out.wants(family)
            && let Some(value) = cgroups.number(slot, file)
        {
            out.push(family, subject, Labels::NONE, value as f64);
        }
    }
    if !out.wants_any(IN_STAT) {
        return;
    }
    let Some(text) = cgroups.read(slot, CgroupFile::MemoryStat) else { return };
    let mut inactive_file = None;
    for (key, value) in pairs(text) {
        if let Some(scope) = labels.v1(key) {
            out.push(F::Failures, subject, scope, value as f64);
            continue;
        }
        let family = match key {
            b"total_cache" => F::Cache,
            b"total_rss" => F::Rss,
            b"total_mapped_file" => F::MappedFile,
            b"total_swap" => F::Swap,
            b"total_active_file" => F::ActiveFile,
            b"total_dirty" => F::FileDirty,
            b"total_writeback" => F::FileWriteback,
            b"total_workingset_refault_file" => F::RefaultsFile,
            b"total_workingset_refault_anon" => F::RefaultsAnon,
            b"total_inactive_file" => {
                inactive_file = Some(value);
                F::InactiveFile
            }
            _ => continue,
        };
        out.push(family, subject, Labels::NONE, value as f64);
    }
    working_set(cgroups, slot, usage, inactive_file, out);
}

/// Documentation/admin-guide/cgroup-v2.rst, section Memory Interface Files; `memory.stat` speaks of all below.
fn v2(cgroups: &mut Cgroups<'_>, slot: usize, is_root: bool, labels: &FailureLabels, out: &mut Writer<'_>) {
    let subject = Subject::cgroup(slot);
    let mut usage = None;
    if !is_root {
        if out.wants_any([F::Usage, F::WorkingSet]) {
            usage = cgroups.number(slot, CgroupFile::MemoryCurrent);
        }
        if let Some(usage) = usage {
            out.push(F::Usage, subject, Labels::NONE, usage as f64);
        }
        for (family, file) in
            [(F::MaxUsage, CgroupFile::MemoryPeak), (F::Swap, CgroupFile::MemorySwapCurrent)]
        {
            if out.wants(family)
                && let Some(value) = cgroups.number(slot, file)
            {
                out.push(family, subject, Labels::NONE, value as f64);
            }
        }
        if out.wants_any(IN_EVENTS)
            && let Some(text) = cgroups.read(slot, CgroupFile::MemoryEvents)
        {
            for (key, times) in pairs(text) {
                let families: &[F] = match key {
                    b"high" => &[F::EventsHigh],
                    b"max" => &[F::EventsMax, F::Failcnt],
                    _ => continue,
                };
                for family in families {
                    out.push(*family, subject, Labels::NONE, times as f64);
                }
            }
        }
    }
    if out.wants_any(IN_STAT) || out.wants(F::Kernel) || (is_root && out.wants(F::Usage)) {
        let Some(text) = cgroups.read(slot, CgroupFile::MemoryStat) else { return };
        let (mut inactive_file, mut anon, mut file) = (None, None, None);
        for (key, value) in pairs(text) {
            let family = match key {
                b"anon" => {
                    anon = Some(value);
                    F::Rss
                }
                b"file" => {
                    file = Some(value);
                    F::Cache
                }
                b"kernel" => F::Kernel,
                b"file_mapped" => F::MappedFile,
                b"active_file" => F::ActiveFile,
                b"file_dirty" => F::FileDirty,
                b"file_writeback" => F::FileWriteback,
                b"pgscan" => F::PagesScanned,
                b"pgsteal" => F::PagesReclaimed,
                b"workingset_refault_file" => F::RefaultsFile,
                b"workingset_refault_anon" => F::RefaultsAnon,
                b"inactive_file" => {
                    inactive_file = Some(value);
                    F::InactiveFile
                }
                // v2 does not tell a cgroup's own faults from those below it; cAdvisor gives the same number twice.
                b"pgfault" | b"pgmajfault" => {
                    let both = if key == b"pgfault" { labels.faults } else { labels.major_faults };
                    for scope in both {
                        out.push(F::Failures, subject, scope, value as f64);
                    }
                    continue;
                }
                _ => continue,
            };
            out.push(family, subject, Labels::NONE, value as f64);
        }
        // The root has no memory.current; runc and so cAdvisor take the sum.
        if is_root && let (Some(anon), Some(file)) = (anon, file) {
            usage = Some(anon + file);
            out.push(F::Usage, subject, Labels::NONE, (anon + file) as f64);
        }
        working_set(cgroups, slot, usage, inactive_file, out);
    }
}

/// What the kubelet evicts by: usage without the file pages that can be given up at once.
fn working_set(
    cgroups: &mut Cgroups<'_>,
    slot: usize,
    usage: Option<u64>,
    inactive_file: Option<u64>,
    out: &mut Writer<'_>,
) {
    match (usage, inactive_file) {
        (Some(usage), Some(inactive)) => {
            let value = usage.saturating_sub(inactive) as f64;
            out.push(F::WorkingSet, Subject::cgroup(slot), Labels::NONE, value);
        }
        (_, None) => cgroups.parse_fault(slot, CgroupFile::MemoryStat, "no inactive_file"),
        (None, _) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Samples;
    use crate::metric::shown::Tree;
    use crate::source::cgroup::CgroupTree;
    use crate::source::file::HandleBudget;
    use crate::source::network::Networks;

    #[test]
    fn usage_is_told_although_what_it_consists_of_cannot_be_read() {
        for files in [
            [("cgroup.controllers", "memory\n"), ("kubepods/memory.current", "7\n")],
            [("memory/kubepods/memory.usage_in_bytes", "7\n"), ("memory/memory.stat", "\n")],
        ] {
            let files = files.map(|(path, text)| (format!("sys/fs/cgroup/{path}"), text));
            let tree = Tree::new(&files.each_ref().map(|(path, text)| (path.as_str(), *text)));
            let paths = tree.paths();
            let mut cgroups = CgroupTree::new(&paths, HandleBudget::new(100));
            cgroups.refresh().unwrap();
            let mut networks = Networks::new(&paths, HandleBudget::new(100));
            let (facts, mut buffer) = (protocol::NodeFacts::default(), Vec::new());
            let mut cgroups = Cgroups::new(&mut cgroups, &mut networks, &facts, &mut buffer);
            let mut samples = Samples::new(FAMILIES.len());
            // Of the root there is nothing.
            let _ = ContainerMemory.collect(&mut cgroups, &mut samples.writer(0, &[true; FAMILIES.len()]));
            let usage = samples.family(F::Usage as usize);
            assert_eq!(usage.iter().map(|sample| sample.value).collect::<Vec<_>>(), [7.0]);
        }
    }
}
