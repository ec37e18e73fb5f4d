//! Nodes that never were: the files of any number of pods, the same at every run.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use agent::plan::{Overlay, Plan};
use agent::scrape::Scraper;
use agent::source::Paths;
use agent::source::file::HandleBudget;
use agent::source::kubelet::{Pod, PodContainer};
use agent::telemetry::Telemetry;
use anyhow::{Context as _, Result};

/// A tree of ordinary files with a cgroup v1 node's pods, each with a sandbox and one container; gone when dropped.
#[derive(Debug)]
pub struct Node {
    root: PathBuf,
    pods: Vec<Pod>,
}

impl Node {
    /// So many pods.
    pub fn new(pods: usize) -> Result<Self> {
        let root = std::env::temp_dir().join(format!("synthetic-node-{}-{pods}", std::process::id()));
        let mut node = Node { root, pods: Vec::new() };
        let _ = fs::remove_dir_all(&node.root);
        node.write("proc/diskstats", "   8       0 sda 1 0 8 1 1 0 8 1 0 1 1\n")?;
        node.write("proc/1/net/dev", &net_dev(1))?;
        node.write("proc/1/limits", LIMITS)?;
        node.write("proc/1/mountinfo", "22 1 8:0 / / rw,relatime - ext4 /dev/sda rw\n")?;
        node.write("proc/cpuinfo", "processor\t: 0\nphysical id\t: 0\ncore id\t\t: 0\n")?;
        node.write("proc/meminfo", "MemTotal: 16384 kB\nSwapTotal: 0 kB\n")?;
        std::os::unix::fs::symlink("self/net", node.root.join("proc/net"))?;
        node.cgroup("", 1)?;
        node.cgroup("kubepods", 2)?;
        node.cgroup("kubepods/burstable", 3)?;
        for i in 0..pods {
            node.pod(i)?;
        }
        Ok(node)
    }

    /// A scraper of this node that knows its pods, under the policies of this plan.
    pub fn scraper(&self, plan: Plan) -> Result<Scraper> {
        // Half of the handles: the floor opens the same files once more.
        let budget = HandleBudget::from_limits().most() / 2;
        let mut scraper =
            Scraper::new(self.paths(), "pause:1".to_owned(), budget, plan, Arc::new(Telemetry::new()?));
        scraper.set_pods(self.pods.clone());
        scraper.refresh();
        Ok(scraper)
    }

    /// Where its files are.
    pub fn paths(&self) -> Paths {
        Paths {
            procfs: self.root.join("proc"),
            sysfs: self.root.join("sys"),
            rootfs: self.root.clone(),
            ..Paths::default()
        }
    }

    /// Its pods as the kubelet would list them.
    pub fn pods(&self) -> &[Pod] {
        &self.pods
    }

    /// What lets all cgroups use processor time, without which they stand still.
    pub fn clock(&self) -> Result<Clock> {
        let mut usage = Vec::new();
        let mut folders = vec![self.root.join("sys/fs/cgroup/cpuacct")];
        while let Some(folder) = folders.pop() {
            usage.push(File::options().write(true).open(folder.join("cpuacct.usage"))?);
            for entry in fs::read_dir(folder)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    folders.push(entry.path());
                }
            }
        }
        // No number that was there is longer.
        Ok(Clock { usage, nanoseconds: 1_000_000_000_000 })
    }

    fn pod(&mut self, i: usize) -> Result<()> {
        let uid = format!("{i:08x}-0000-4000-8000-000000000000");
        let pod = format!("kubepods/burstable/pod{uid}");
        self.cgroup(&pod, i as u64)?;
        for (kind, name) in ["sandbox", "main"].into_iter().enumerate() {
            let id = format!("{:064x}", i * 2 + kind);
            self.cgroup(&format!("{pod}/{id}"), i as u64 + 1)?;
            let pid = 1000 + i * 2 + kind;
            self.write(&format!("proc/{pid}/cgroup"), &format!("4:memory:/{pod}/{id}\n"))?;
            self.write(&format!("proc/{pid}/limits"), LIMITS)?;
            if name == "sandbox" {
                self.write(&format!("proc/{pid}/net/dev"), &net_dev(i as u64))?;
            }
        }
        self.pods.push(Pod {
            uid,
            namespace: format!("namespace-{}", i % 7),
            name: format!("web-6f7c6bb64c-{i:05}"),
            labels: [("app.kubernetes.io/name".to_owned(), format!("app-{}", i % 10))].into(),
            containers: vec![PodContainer {
                id: format!("{:064x}", i * 2 + 1),
                name: "main".to_owned(),
                image: "registry.example/team/app:1.2.3".to_owned(),
                was_oom_killed: false,
            }],
            ..Pod::default()
        });
        Ok(())
    }

    fn cgroup(&self, path: &str, seed: u64) -> Result<()> {
        let number = |n: u64| format!("{n}\n");
        let stat: String = MEMORY_STAT
            .iter()
            .enumerate()
            .flat_map(|(i, key)| {
                let value = (seed * 7919 + i as u64 * 104_729) % (1 << 30);
                [format!("{key} {value}\n"), format!("total_{key} {value}\n")]
            })
            .collect();
        let io = "8:0 Read 4096\n8:0 Write 8192\n8:0 Sync 4096\n8:0 Async 8192\n8:0 Discard 0\n8:0 Total 12288\nTotal 12288\n";
        for (controller, name, text) in [
            ("cpuacct", "cpuacct.usage", number(seed * 1_000_003)),
            ("cpuacct", "cpuacct.stat", format!("user {seed}\nsystem {}\n", seed + 1)),
            ("cpu", "cpu.stat", format!("nr_periods {seed}\nnr_throttled 0\nthrottled_time 0\n")),
            ("cpu", "cpu.shares", number(1024)),
            ("cpu", "cpu.cfs_quota_us", number(50_000)),
            ("cpu", "cpu.cfs_period_us", number(100_000)),
            ("memory", "memory.stat", stat),
            ("memory", "memory.usage_in_bytes", number((2 << 30) + seed)),
            ("memory", "memory.max_usage_in_bytes", number((3 << 30) + seed)),
            ("memory", "memory.failcnt", number(0)),
            ("memory", "memory.kmem.usage_in_bytes", number(seed)),
            ("memory", "memory.limit_in_bytes", number(4 << 30)),
            ("memory", "memory.memsw.limit_in_bytes", number(9_223_372_036_854_771_712)),
            ("memory", "memory.soft_limit_in_bytes", number(9_223_372_036_854_771_712)),
            ("memory", "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n".to_owned()),
            ("blkio", "blkio.throttle.io_service_bytes_recursive", io.to_owned()),
            ("blkio", "blkio.throttle.io_serviced_recursive", io.to_owned()),
            ("pids", "pids.current", number(seed)),
            ("pids", "pids.max", "max\n".to_owned()),
            ("cpu", "cgroup.procs", number(seed)),
        ] {
            self.write(&format!("sys/fs/cgroup/{controller}/{path}/{name}"), &text)?;
        }
        // Nobody of them is being started.
        File::open(self.root.join("sys/fs/cgroup/memory").join(path))?.set_modified(UNIX_EPOCH)?;
        Ok(())
    }

    fn write(&self, path: &str, text: &str) -> Result<()> {
        let path = self.root.join(path);
        let folder = path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(folder)?;
        fs::write(&path, text).with_context(|| path.display().to_string())
    }
}

const LIMITS: &str = "Limit Soft Limit Hard Limit Units\nMax open files 1024 4096 files\n";

/// The processor time of the cgroups of a [`Node`].
#[derive(Debug)]
pub struct Clock {
    usage: Vec<File>,
    nanoseconds: u64,
}

impl Clock {
    /// Lets each of them have used more.
    pub fn advance(&mut self) -> Result<()> {
        self.nanoseconds += 1;
        let text = format!("{}\n", self.nanoseconds);
        self.usage.iter().try_for_each(|file| file.write_all_at(text.as_bytes(), 0))?;
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// The plan of an agent without policies.
pub fn everything() -> Plan {
    Plan::new(Vec::new(), Default::default(), &Overlay::default())
}

const MEMORY_STAT: [&str; 17] = [
    "cache",
    "rss",
    "rss_huge",
    "shmem",
    "mapped_file",
    "dirty",
    "writeback",
    "swap",
    "pgpgin",
    "pgpgout",
    "pgfault",
    "pgmajfault",
    "inactive_anon",
    "active_anon",
    "inactive_file",
    "active_file",
    "unevictable",
];

fn net_dev(seed: u64) -> String {
    let line = |device: &str| format!("{device:>6}: {seed} 2 0 0 0 0 0 0 {seed} 4 0 0 0 0 0 0\n");
    format!(
        "Inter-|   Receive                                                |  Transmit\n face |bytes    packets errs drop fifo frame \
         compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n{}{}",
        line("lo"),
        line("eth0")
    )
}
