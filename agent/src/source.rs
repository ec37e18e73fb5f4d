//! The node as collectors see it, under given roots; only the files below this one read it.

pub mod cgroup;
pub mod dbus;
pub mod file;
pub mod folder;
pub mod kubelet;
pub mod limits;
pub mod links;
pub mod listed;
pub mod mounts;
pub mod netlink;
pub mod network;
pub mod pid;
pub mod process;
pub mod recent;
pub mod shared;
pub mod stuck;
pub mod text;
pub mod user_file;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use file::HandleBudget;
use shared::SharedFiles;
use stuck::StuckThreads;

/// Where the node's file systems are mounted, how many of the machine's files may stay open, and how long one may take.
#[derive(Clone, Debug)]
pub struct Paths {
    /// `--path.procfs`
    pub procfs: PathBuf,
    /// `--path.sysfs`
    pub sysfs: PathBuf,
    /// `--path.rootfs`
    pub rootfs: PathBuf,
    /// `--path.udev.data`
    pub udev: PathBuf,
    /// `--path.cgroup-root`: the cgroup below which the kubelet has its pods, where that is not the root.
    pub cgroup_root: Option<String>,
    /// `--node-name`, where it is given.
    pub node: Option<String>,
    /// `--collector.timeout`: how long a collector that can block is waited for. All are waited for together.
    pub timeout: Duration,
    /// Handles on files below [`folder::Folder`]s.
    pub handles: Arc<HandleBudget>,
    /// Threads that wait for a file system which does not answer.
    pub stuck: Arc<StuckThreads>,
    /// Files that several collectors read.
    pub shared: Arc<SharedFiles>,
}

impl Default for Paths {
    /// Those of the machine on which the program itself runs; no file below a folder stays open.
    fn default() -> Self {
        Paths {
            procfs: "/proc".into(),
            sysfs: "/sys".into(),
            rootfs: "/".into(),
            udev: "/run/udev/data".into(),
            cgroup_root: None,
            node: None,
            timeout: Paths::TIMEOUT,
            handles: Arc::new(HandleBudget::new(0)),
            stuck: Arc::default(),
            shared: Arc::default(),
        }
    }
}

impl Paths {
    /// How long a collector that can block is waited for, where nobody says.
    pub const TIMEOUT: Duration = Duration::from_secs(2);

    /// The machine's network files: those of process 1, since `net` alone follows the reader's own namespace.
    ///
    /// A recorded tree has a real directory `net`, and the agent's own /proc is its own namespace anyway.
    pub fn net(&self, file: &str) -> PathBuf {
        let own = self.procfs.join("net");
        let is_link = std::fs::symlink_metadata(&own).is_ok_and(|m| m.is_symlink());
        if is_link && self.procfs != std::path::Path::new("/proc") {
            self.procfs.join("1/net").join(file)
        } else {
            own.join(file)
        }
    }

    /// Whether this program is in the machine's own network namespace: only then do sockets and `/proc/sys/net` speak of
    /// the machine, since both follow who asks (fs/proc/proc_sysctl.c, net_ctl_header_lookup).
    ///
    /// Each namespace has its own files below /proc/PID/net, and the numbers of these are never used twice
    /// (fs/proc/generic.c, proc_alloc_inum), whoever mounted procfs.
    pub fn is_own_network(&self) -> bool {
        let file = |path: &std::path::Path| {
            let is_procfs = rustix::fs::statfs(path).is_ok_and(|s| s.f_type == rustix::fs::PROC_SUPER_MAGIC);
            std::fs::metadata(path)
                .ok()
                .filter(|_| is_procfs)
                .map(|m| std::os::unix::fs::MetadataExt::ino(&m))
        };
        let machine = file(&self.net("dev"));
        machine.is_some() && machine == file(std::path::Path::new("/proc/self/net/dev"))
    }

    /// Whether the files are those of a machine, or of a recorded tree.
    pub fn is_recorded(&self) -> bool {
        !rustix::fs::statfs(&self.procfs).is_ok_and(|s| s.f_type == rustix::fs::PROC_SUPER_MAGIC)
    }

    /// Where the cgroup file systems are mounted.
    pub fn cgroups(&self) -> PathBuf {
        self.sysfs.join("fs/cgroup")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::shown::Tree;

    #[test]
    fn a_recorded_tree_is_in_no_network_namespace() {
        let own = Paths::default();
        assert!(own.is_own_network() && !own.is_recorded());
        let recorded = Tree::new(&[("proc/net/dev", "")]).paths();
        assert!(!recorded.is_own_network() && recorded.is_recorded());
    }
}
