//! The files of a cgroup that collectors read, and where they are on v1 and v2.

use std::path::{Path, PathBuf};

use super::Version;
use crate::source::file::Made;
use crate::source::text::pairs;

macro_rules! cgroup_files {
    ($($id:ident $controller:literal $name:literal;)*) => {
        /// The files of a cgroup that collectors read: the controller in whose tree it is on v1, and its name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "each is named for its file")]
        pub enum CgroupFile { $($id),* }

        impl CgroupFile {
            /// All of them.
            pub const ALL: &'static [CgroupFile] = &[$(CgroupFile::$id),*];
            pub(super) const COUNT: usize = Self::ALL.len();

            /// Its name in the folder of a cgroup.
            pub fn name(self) -> &'static str {
                self.place().1
            }

            /// Whether it says what is fixed until somebody changes it, so that not every scrape reads it.
            pub fn is_fixed(self) -> bool {
                use CgroupFile::*;
                matches!(
                    self,
                    CpuShares | CpuCfsQuota | CpuCfsPeriod | CpuWeight | CpuMax | MemoryLimit | MemoryMemswLimit
                        | MemorySoftLimit | MemoryMax | MemoryMin | MemorySwapMax | PidsMax
                )
            }

            /// How the kernel makes it; a list of processes has a record for each (kernel/cgroup/cgroup.c, cgroup_procs_show).
            pub(super) fn made(self) -> Made {
                match self {
                    CgroupFile::Processes => Made::InShortRecords,
                    _ => Made::Whole,
                }
            }

            /// What has to be looked at to know whether it is likely to have changed; nothing where it changes by itself.
            ///
            /// Other than by its own processes, the memory of a cgroup changes by reclaim, which its usage shows, and what it
            /// counts of I/O on v2 when its pages are written back. What these do not show is rare or small: pages that are
            /// aged or mapped by others, a process that is moved here and sleeps or whose end its parent elsewhere notes late,
            /// a kill of one that the kernel does not let run.
            pub(super) fn signs(self, version: Version) -> &'static [CgroupFile] {
                use CgroupFile::*;
                match (version, self) {
                    (
                        Version::V1,
                        CpuacctUsage | CpuacctStat | CpuStat | PidsCurrent | Processes | MemoryOomControl
                        | BlkioServiceBytes | BlkioServiced,
                    ) => &[CpuacctUsage],
                    // Two collectors look at it, which is no reason to read it twice.
                    (Version::V1, CpuCfsQuota) => &[CpuCfsQuota],
                    (Version::V2, CpuMax) => &[CpuMax],
                    (Version::V1, MemoryUsage) => &[MemoryUsage],
                    (Version::V1, MemoryStat | MemoryMaxUsage | MemoryFailcnt | MemoryKmemUsage) => {
                        &[CpuacctUsage, MemoryUsage]
                    }
                    (Version::V2, CpuStat | PidsCurrent | Processes | MemoryEvents) => &[CpuStat],
                    (Version::V2, MemoryCurrent) => &[MemoryCurrent],
                    (Version::V2, MemoryStat | MemoryPeak | MemorySwapCurrent) => &[CpuStat, MemoryCurrent],
                    _ => &[],
                }
            }

            /// Whether its text tells of pages that have yet to be written back, which takes neither CPU time nor memory of
            /// the cgroup.
            pub(super) fn is_on_its_way(self, text: &[u8]) -> bool {
                let is_it = |key: &[u8]| {
                    matches!(key, b"file_dirty" | b"file_writeback" | b"total_dirty" | b"total_writeback")
                };
                self == CgroupFile::MemoryStat && pairs(text).any(|(key, pages)| pages != 0 && is_it(key))
            }

            /// Of a file that others are told by, what has to be looked at of the pod to know whether it has changed in any of
            /// its containers; nothing where the pod does not tell.
            pub(super) fn signs_of_pod(self, version: Version) -> &'static [CgroupFile] {
                use CgroupFile::*;
                match (version, self) {
                    (Version::V1, CpuacctUsage) => &[CpuacctUsage],
                    (Version::V1, MemoryUsage) => &[CpuacctUsage, MemoryUsage],
                    (Version::V2, CpuStat) => &[CpuStat],
                    (Version::V2, MemoryCurrent) => &[CpuStat, MemoryCurrent],
                    _ => &[],
                }
            }

            /// Whether nobody but its own processes can change it, by running.
            pub(super) fn is_cpu_time(self) -> bool {
                matches!(self, CgroupFile::CpuacctStat | CgroupFile::CpuStat)
            }

            fn place(self) -> (&'static str, &'static str) {
                match self { $(CgroupFile::$id => ($controller, $name)),* }
            }
        }
    };
}
// Documentation/admin-guide/cgroup-v1/{cpuacct,memory,blkio-controller,pids}.rst, Documentation/admin-guide/cgroup-v2.rst
cgroup_files! {
    CpuacctUsage "cpuacct" "cpuacct.usage";
    CpuacctStat "cpuacct" "cpuacct.stat";
    CpuStat "cpu" "cpu.stat";
    CpuShares "cpu" "cpu.shares";
    CpuCfsQuota "cpu" "cpu.cfs_quota_us";
    CpuCfsPeriod "cpu" "cpu.cfs_period_us";
    CpuWeight "cpu" "cpu.weight";
    CpuMax "cpu" "cpu.max";
    Processes "cpu" "cgroup.procs";
    CpuPressure "cpu" "cpu.pressure";
    MemoryStat "memory" "memory.stat";
    MemoryUsage "memory" "memory.usage_in_bytes";
    MemoryMaxUsage "memory" "memory.max_usage_in_bytes";
    MemoryFailcnt "memory" "memory.failcnt";
    MemoryKmemUsage "memory" "memory.kmem.usage_in_bytes";
    MemoryLimit "memory" "memory.limit_in_bytes";
    MemoryMemswLimit "memory" "memory.memsw.limit_in_bytes";
    MemorySoftLimit "memory" "memory.soft_limit_in_bytes";
    MemoryOomControl "memory" "memory.oom_control";
    MemoryCurrent "memory" "memory.current";
    MemoryPeak "memory" "memory.peak";
    MemoryEvents "memory" "memory.events";
    MemorySwapCurrent "memory" "memory.swap.current";
    MemoryMax "memory" "memory.max";
    MemoryMin "memory" "memory.min";
    MemorySwapMax "memory" "memory.swap.max";
    MemoryPressure "memory" "memory.pressure";
    BlkioServiceBytes "blkio" "blkio.throttle.io_service_bytes_recursive";
    BlkioServiced "blkio" "blkio.throttle.io_serviced_recursive";
    IoStat "io" "io.stat";
    IoPressure "io" "io.pressure";
    PidsCurrent "pids" "pids.current";
    PidsMax "pids" "pids.max";
}

/// Where a file of a cgroup is below the mount.
pub(super) fn file_path(mount: &Path, version: Version, cgroup: &str, file: CgroupFile) -> PathBuf {
    let (controller, name) = file.place();
    let tree = match version {
        Version::V1 => mount.join(controller),
        Version::V2 => mount.to_owned(),
    };
    below(&tree, cgroup).join(name)
}

/// A path of a cgroup, which begins with a slash, below a folder.
pub(super) fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}
