//! Huge pages of each cgroup, where the machine has any to give.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;

use super::{CgroupCollector, Cgroups, CollectError, Collector, Run};
use crate::metric::{Subject, Writer, families};
use crate::source::Paths;
use crate::source::cgroup::Version;
use crate::source::file::{HandleBudget, KeptFile, Made, NodeFile};
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

/// The files of the cgroup with this inode, one size after the other.
#[derive(Default)]
struct Kept {
    inode: u64,
    files: Vec<KeptFile>,
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
        for slot in cgroups.slots() {
            let inode = cgroups.get(slot).map_or(0, |cgroup| cgroup.inode);
            if self.cgroups.len() <= slot {
                self.cgroups.resize_with(slot + 1, Kept::default);
            }
            if self.cgroups[slot].inode != inode {
                self.cgroups[slot].files.iter_mut().for_each(|file| file.close(&self.handles));
                let mut files = Vec::new();
                files.resize_with(self.sizes.len() * names.len(), KeptFile::default);
                self.cgroups[slot] = Kept { inode, files };
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
                    let kept = &mut self.cgroups[slot].files[size * names.len() + at];
                    match kept.read(&self.handles, path, &mut self.buffer, Made::Whole) {
                        Ok(()) => match value(*family, &self.buffer) {
                            Some(value) => out.push(*family, Subject::cgroup(slot), labels, value),
                            None => fault = Some(CollectError::parse(path(), "not a number")),
                        },
                        // The root has no limits, and a cgroup may have gone.
                        Err(Errno::NOENT | Errno::NODEV | Errno::OPNOTSUPP) => {}
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
    let text = text.strip_suffix(b"\n")?;
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

    fn lines(tree: &Tree) -> Vec<String> {
        let paths = tree.paths();
        let mut cgroups = CgroupTree::new(&paths, HandleBudget::new(100));
        cgroups.refresh().unwrap();
        let mut networks = Networks::new(&paths, HandleBudget::new(100));
        let (facts, mut buffer) = (protocol::NodeFacts::default(), Vec::new());
        let mut samples = Samples::new(FAMILIES.len());
        let mut running = ContainerHugetlb::new(&paths);
        for _ in 0..2 {
            samples.clear();
            let mut cgroups = Cgroups::new(&mut cgroups, &mut networks, &facts, &mut buffer);
            running.collect(&mut cgroups, &mut samples.writer(0, &[true; FAMILIES.len()])).unwrap();
        }
        let of = |(i, family): (usize, &crate::metric::FamilyDesc)| -> Vec<String> {
            let labels = |sample: &crate::metric::Sample| {
                String::from_utf8(samples.labels(sample.labels).to_vec()).unwrap()
            };
            let line = |s| format!("{}{{{}}} {}", family.name, labels(s), s.value);
            samples.family(i).iter().map(line).collect()
        };
        FAMILIES.iter().enumerate().flat_map(of).collect()
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
