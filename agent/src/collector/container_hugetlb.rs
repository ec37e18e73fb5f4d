//! Huge pages of each cgroup, where the machine has any to give.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;

use super::{CgroupCollector, Cgroups, CollectError, Collector, Run};
use crate::metric::{Subject, Writer, families};
use crate::source::Paths;
use crate::source::cgroup::{Cgroup, Version};
use crate::source::file::{HandleBudget, NodeFile};
use crate::source::listed::DeviceFile;
use crate::source::text::{only_number, pairs};

/// `container_hugetlb`
pub(super) const COLLECTOR: Collector = Collector {
    name: "container_hugetlb",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[],
    options: &[],
    exclusive: &[],
    run: Run::Cgroups { start: |paths, _| Box::new(ContainerHugetlb::new(paths)) },
};

families! {
    Failcnt Counter "container_hugetlb_failcnt" "Number of hugepage usage hits limits.";
    Limit Gauge "container_hugetlb_limit_bytes" "How much the cgroup may use of huge pages of this size, no limit if value is zero.";
    MaxUsage Gauge "container_hugetlb_max_usage_bytes" "Maximum hugepage usages recorded in bytes (cgroup v1).";
    Usage Gauge "container_hugetlb_usage_bytes" "Current hugepage usage in bytes.";
}

/// What follows `hugetlb.<size>.` in the names of files (Documentation/admin-guide/cgroup-v1/hugetlb.rst, cgroup-v2.rst).
const V1: &[(F, &str)] = &[
    (F::Usage, "usage_in_bytes"),
    (F::Limit, "limit_in_bytes"),
    (F::Failcnt, "failcnt"),
    (F::MaxUsage, "max_usage_in_bytes"),
];
const V2: &[(F, &str)] = &[(F::Usage, "current"), (F::Limit, "max"), (F::Failcnt, "events")];

struct ContainerHugetlb {
    sizes: Vec<PageSize>,
    handles: Arc<HandleBudget>,
    /// By slot.
    cgroups: Vec<Kept>,
    buffer: Vec<u8>,
}

/// A size of huge pages that this kernel knows, and how many of it there are: reserved, and to be had when asked for.
struct PageSize {
    /// As the kernel has it in the names of files.
    name: String,
    pages: [NodeFile; 2],
}

/// The files of the cgroup with this inode, one size after the other; of none when there is no such cgroup any more.
#[derive(Default)]
struct Kept {
    inode: u64,
    files: Vec<DeviceFile>,
}

impl ContainerHugetlb {
    fn new(paths: &Paths) -> Self {
        let folder = paths.sysfs.join("kernel/mm/hugepages");
        let mut sizes: Vec<_> = std::fs::read_dir(folder).into_iter().flatten().flatten().collect();
        sizes.sort_by_key(std::fs::DirEntry::file_name);
        let sizes = sizes.iter().filter_map(|entry| PageSize::new(&entry.path())).collect();
        ContainerHugetlb { sizes, handles: paths.handles.clone(), cgroups: Vec::new(), buffer: Vec::new() }
    }
}

impl CgroupCollector for ContainerHugetlb {
    fn collect(&mut self, cgroups: &mut Cgroups<'_>, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let names = if cgroups.version() == Version::V1 { V1 } else { V2 };
        self.cgroups.resize_with(cgroups.slot_count(), Kept::default);
        for (slot, kept) in self.cgroups.iter_mut().enumerate() {
            let living = cgroups.get(slot).filter(|cgroup| cgroup.ended_in().is_none());
            let inode = living.map_or(0, |cgroup| cgroup.inode);
            if kept.inode != inode {
                let count = if inode == 0 { 0 } else { self.sizes.len() * names.len() };
                let files = std::iter::repeat_with(|| DeviceFile::new(&self.handles)).take(count).collect();
                *kept = Kept { inode, files };
            }
        }
        let mut fault = None;
        for (size, PageSize { name, pages }) in self.sizes.iter_mut().enumerate() {
            let of_size = |file: &mut NodeFile| file.read().ok().and_then(only_number).unwrap_or(0);
            if pages.iter_mut().map(of_size).all(|pages| pages == 0) {
                continue;
            }
            let labels = out.labels(&[("pagesize", name)]);
            for slot in cgroups.slots() {
                for (at, (family, file)) in names.iter().enumerate() {
                    if !out.wants(*family) {
                        continue;
                    }
                    let path = || cgroups.folder(slot, "hugetlb").join(format!("hugetlb.{name}.{file}"));
                    let Some(kept) = self.cgroups[slot].files.get_mut(size * names.len() + at) else {
                        continue;
                    };
                    match kept.read(path, &mut self.buffer) {
                        Ok(text) => match value(*family, text) {
                            Some(value) => out.push(*family, Subject::cgroup(slot), labels, value),
                            None => fault = Some(CollectError::parse(path(), "not a number")),
                        },
                        // The root has no limits, and a cgroup may have gone.
                        Err(Errno::NOENT | Errno::OPNOTSUPP) => {
                            if cgroups.get(slot).is_some_and(Cgroup::is_being_made) {
                                *kept = DeviceFile::new(&self.handles);
                            }
                        }
                        Err(source) => fault = Some(CollectError::read(path(), source)),
                    }
                }
            }
        }
        fault.map_or(Ok(()), Err)
    }
}

/// `max` and, on v1, the largest number of whole pages are no limit; of the events only those at the limit are counted.
fn value(family: F, text: &[u8]) -> Option<f64> {
    let value = match family {
        F::Failcnt => match pairs(text).find(|(key, _)| *key == b"max") {
            Some((_, times)) => times,
            None => only_number(text)?,
        },
        F::Limit if text == b"max" => 0,
        F::Limit => only_number(text).map(|limit| if limit >= 1 << 62 { 0 } else { limit })?,
        F::Usage | F::MaxUsage => only_number(text)?,
    };
    Some(value as f64)
}

impl PageSize {
    /// A folder such as `hugepages-2048kB` (Documentation/ABI/testing/sysfs-kernel-mm-hugepages).
    fn new(folder: &Path) -> Option<Self> {
        let name = folder.file_name()?.to_str()?;
        let kibibytes: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        // mm/hugetlb_cgroup.c, mem_fmt
        let name = match kibibytes {
            n if n >= 1 << 20 => format!("{}GB", n >> 20),
            n if n >= 1 << 10 => format!("{}MB", n >> 10),
            n => format!("{n}KB"),
        };
        let file = |name: &str| -> NodeFile { NodeFile::whole(PathBuf::from(folder).join(name)) };
        Some(PageSize { name, pages: ["nr_hugepages", "nr_overcommit_hugepages"].map(file) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Samples;
    use crate::metric::shown::Tree;
    use crate::source::cgroup::CgroupTree;
    use crate::source::network::Networks;

    struct Node {
        cgroups: CgroupTree,
        networks: Networks,
        running: ContainerHugetlb,
    }

    impl Node {
        fn new(paths: &Paths) -> Self {
            Node {
                cgroups: CgroupTree::new(paths, HandleBudget::new(100)),
                networks: Networks::new(paths, HandleBudget::new(100)),
                running: ContainerHugetlb::new(paths),
            }
        }

        fn lines(&mut self) -> Vec<String> {
            self.cgroups.refresh().unwrap();
            let (facts, mut buffer) = (protocol::NodeFacts::default(), Vec::new());
            let mut samples = Samples::new(FAMILIES.len());
            let mut cgroups = Cgroups::new(&mut self.cgroups, &mut self.networks, &facts, &mut buffer);
            self.running.collect(&mut cgroups, &mut samples.writer(0, &[true; FAMILIES.len()])).unwrap();
            let of = |(i, family): (usize, &crate::metric::FamilyDesc)| -> Vec<String> {
                let labels = |sample: &crate::metric::Sample| {
                    String::from_utf8(samples.labels(sample.labels).to_vec()).unwrap()
                };
                let line = |s| format!("{}{{{}}} {}", family.name, labels(s), s.value);
                samples.family(i).iter().map(line).collect()
            };
            FAMILIES.iter().enumerate().flat_map(of).collect()
        }
    }

    fn lines(tree: &Tree) -> Vec<String> {
        let mut node = Node::new(&tree.paths());
        let first = node.lines();
        assert_eq!(node.lines(), first, "from handles that were kept");
        first
    }

    #[test]
    fn handles_are_given_back_when_a_cgroup_goes_and_when_the_collector_does() {
        let of = |cgroup: &str| format!("sys/fs/cgroup/{cgroup}/hugetlb.2MB.current");
        let tree = Tree::new(&[
            ("sys/fs/cgroup/cgroup.controllers", "hugetlb\n"),
            ("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "8\n"),
            (&of("kubepods"), "1\n"),
            (&of("kubepods/poda"), "1\n"),
        ]);
        let paths = tree.paths();
        let mut node = Node::new(&paths);
        assert_eq!((node.lines().len(), paths.handles.open()), (2, 2));
        std::fs::remove_dir_all(tree.path().join("sys/fs/cgroup/kubepods/poda")).unwrap();
        assert_eq!((node.lines().len(), paths.handles.open()), (1, 1));
        drop(node);
        assert_eq!(paths.handles.open(), 0);
    }

    #[test]
    fn a_file_that_comes_later_is_found_while_the_cgroup_is_young() {
        let pages = "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
        let tree = Tree::new(&[
            ("sys/fs/cgroup/memory/kubepods/poda/memory.stat", "\n"),
            ("sys/fs/cgroup/hugetlb/kubepods/hugetlb.2MB.failcnt", "1\n"),
            (pages, "8\n"),
        ]);
        let mut node = Node::new(&tree.paths());
        assert_eq!(node.lines().len(), 1);
        tree.write("sys/fs/cgroup/hugetlb/kubepods/poda/hugetlb.2MB.failcnt", b"2\n");
        assert_eq!(node.lines().len(), 2);
    }

    #[test]
    fn sizes_of_which_the_machine_has_no_page_are_not_read() {
        let pages = "sys/kernel/mm/hugepages/hugepages";
        let of_pod = "sys/fs/cgroup/kubepods/hugetlb";
        let tree = Tree::new(&[
            ("sys/fs/cgroup/cgroup.controllers", "hugetlb\n"),
            (&format!("{pages}-2048kB/nr_hugepages"), "8\n"),
            (&format!("{pages}-2048kB/nr_overcommit_hugepages"), "0\n"),
            (&format!("{pages}-1048576kB/nr_hugepages"), "0\n"),
            (&format!("{of_pod}.2MB.current"), "4194304\n"),
            (&format!("{of_pod}.2MB.max"), "max\n"),
            (&format!("{of_pod}.2MB.events"), "max 3\n"),
            (&format!("{of_pod}.1GB.current"), "0\n"),
        ]);
        let two =
            |family: &str, value: u64| format!("container_hugetlb_{family}{{pagesize=\"2MB\"}} {value}");
        assert_eq!(lines(&tree), [two("failcnt", 3), two("limit_bytes", 0), two("usage_bytes", 4_194_304)]);
        tree.write(&format!("{pages}-1048576kB/nr_overcommit_hugepages"), b"1\n");
        assert_eq!(lines(&tree).len(), 4);
    }

    #[test]
    fn on_v1_there_is_a_peak_and_no_limit_is_a_number() {
        let of_pod = "sys/fs/cgroup/hugetlb/kubepods/hugetlb.64KB";
        let tree = Tree::new(&[
            ("sys/kernel/mm/hugepages/hugepages-64kB/nr_hugepages", "8\n"),
            ("sys/fs/cgroup/memory/kubepods/memory.stat", "\n"),
            (&format!("{of_pod}.usage_in_bytes"), "65536\n"),
            (&format!("{of_pod}.max_usage_in_bytes"), "131072\n"),
            (&format!("{of_pod}.limit_in_bytes"), "9223372036854710272\n"),
            (&format!("{of_pod}.failcnt"), "1\n"),
        ]);
        let values = lines(&tree).into_iter().map(|line| line.rsplit(' ').next().unwrap().to_owned());
        assert_eq!(values.collect::<Vec<_>>(), ["1", "0", "131072", "65536"]);
    }
}
