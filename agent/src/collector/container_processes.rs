//! How many processes and threads each cgroup has, how many it may have, and how many files they may open.

use super::{CgroupCollector, Cgroups, CollectError, Collector, Run};
use crate::metric::{Labels, Subject, Writer, families};
use crate::source::cgroup::{CgroupFile, CgroupKind, Fixed, Version};
use crate::source::limits::FileLimits;
use crate::source::text::lines;

/// `container_processes`
pub(super) const COLLECTOR: Collector = Collector {
    name: "container_processes",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[],
    options: &[],
    exclusive: &[],
    run: Run::Cgroups {
        start: |paths, _| {
            let limits = FileLimits::new(&paths.procfs);
            Box::new(ContainerProcesses { threads_max: Fixed::default(), limits, init: None })
        },
    },
};

families! {
    Processes Gauge "container_processes" "Number of processes running inside the container.";
    Threads Gauge "container_threads" "Number of threads running inside the container.";
    ThreadsMax Gauge "container_threads_max" "Maximum number of threads allowed inside the container, infinity if value is zero.";
    Ulimits Gauge "container_ulimits_soft" "Soft ulimit values for the container root process, unlimited if value is -1.";
}

struct ContainerProcesses {
    threads_max: Fixed<Option<Option<u64>>>,
    limits: FileLimits,
    /// The limit of the machine's first process, which stands for the root, once it could be read.
    init: Option<f64>,
}

impl CgroupCollector for ContainerProcesses {
    fn collect(&mut self, cgroups: &mut Cgroups<'_>, out: &mut Writer<'_>) -> Result<(), CollectError> {
        if out.wants(F::Processes) {
            processes(cgroups, out);
        }
        for slot in cgroups.slots() {
            // The root has no such files: what is the machine's is not counted by a cgroup.
            if cgroups.get(slot).is_none_or(|cgroup| cgroup.kind == CgroupKind::Root) {
                continue;
            }
            let subject = Subject::cgroup(slot);
            if out.wants(F::Threads)
                && let Some(threads) = cgroups.number(slot, CgroupFile::PidsCurrent)
            {
                out.push(F::Threads, subject, Labels::NONE, threads as f64);
            }
            if out.wants(F::ThreadsMax)
                && let Some(most) = cgroups
                    .fixed(&mut self.threads_max, slot, |cgroups| cgroups.limit(slot, CgroupFile::PidsMax))
            {
                // No limit is 0 to cAdvisor.
                out.push(F::ThreadsMax, subject, Labels::NONE, most.unwrap_or(0) as f64);
            }
        }
        if out.wants(F::Ulimits) {
            self.ulimits(cgroups, out);
        }
        cgroups.result()
    }
}

/// A line for each process of the cgroup itself, whatever is below it.
///
/// On v2 a process of another pid namespace has a line too, with 0 in it; on v1 it has none (kernel/cgroup/cgroup.c,
/// cgroup_procs_show; cgroup-v1.c, pidlist_array_load), so that in a pod all of these files are empty, which says nothing.
fn processes(cgroups: &mut Cgroups<'_>, out: &mut Writer<'_>) {
    if cgroups.version() == Version::V1 {
        let root = cgroups.root();
        if root.and_then(|root| cgroups.read(root, CgroupFile::Processes)).is_none_or(<[u8]>::is_empty) {
            return;
        }
    }
    for slot in cgroups.slots() {
        if let Some(text) = cgroups.read(slot, CgroupFile::Processes) {
            out.push(F::Processes, Subject::cgroup(slot), Labels::NONE, lines(text).count() as f64);
        }
    }
}

impl ContainerProcesses {
    fn ulimits(&mut self, cgroups: &mut Cgroups<'_>, out: &mut Writer<'_>) {
        if self.init.is_none() {
            self.init = self.limits.of_process(1);
        }
        let containers = cgroups.slots().filter_map(|slot| {
            let cgroup = cgroups.get(slot)?;
            match &cgroup.kind {
                CgroupKind::Container { id, .. } => Some((slot, cgroup.inode, cgroup.started, id.as_str())),
                _ => None,
            }
        });
        self.limits.update(containers);
        let labels = out.labels(&[("ulimit", "max_open_files")]);
        for slot in cgroups.slots() {
            let limit = cgroups.get(slot).and_then(|cgroup| match cgroup.kind {
                CgroupKind::Root => self.init,
                _ => self.limits.get(slot, cgroup.inode),
            });
            if let Some(limit) = limit {
                out.push(F::Ulimits, Subject::cgroup(slot), labels, limit);
            }
        }
    }
}
