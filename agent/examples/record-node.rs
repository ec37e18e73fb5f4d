//! Records a node: copies exactly the files that collectors read into a folder that the golden tests can use.
//!
//! On a node: `curl -sk -H "Authorization: Bearer $TOKEN" https://localhost:10250/pods > pods.json`, the same for
//! `/metrics/cadvisor` into `cadvisor.prom`, then `record-node --pods pods.json --cadvisor cadvisor.prom FOLDER`.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use agent::collector::COLLECTORS;
use agent::source::cgroup::{CgroupFile, CgroupKind, CgroupTree, Version};
use agent::source::file::HandleBudget;
use agent::source::{Paths, pid};
use anyhow::Context as _;
use clap::Parser;

/// What node collectors read below `--path.procfs`, but for the network's, which depend on how it is mounted.
const NODE_FILES: [&str; 5] = ["stat", "meminfo", "loadavg", "diskstats", "1/mountinfo"];

/// What not every kernel has.
const NODE_FILES_OF_SOME: [&str; 13] = [
    "cpuinfo",
    "mdstat",
    "pressure/cpu",
    "pressure/io",
    "pressure/irq",
    "pressure/memory",
    "schedstat",
    "sys/fs/file-nr",
    "sys/kernel/hung_task_detect_count",
    "sys/kernel/random/entropy_avail",
    "sys/kernel/random/poolsize",
    "sys/net/netfilter/nf_conntrack_max",
    "vmstat",
];

/// The network's, of which not every kernel has all either; addresses stay out of fixtures.
const NETWORK_FILES_OF_SOME: [&str; 9] = [
    "netstat",
    "rpc/nfs",
    "rpc/nfsd",
    "snmp",
    "snmp6",
    "sockstat",
    "sockstat6",
    "softnet_stat",
    "stat/nf_conntrack",
];

#[derive(Parser)]
struct Arguments {
    /// Where the node's procfs is mounted.
    #[arg(long = "path.procfs", default_value = "/proc")]
    procfs: PathBuf,
    /// Where the node's sysfs is mounted.
    #[arg(long = "path.sysfs", default_value = "/sys")]
    sysfs: PathBuf,
    /// The cgroup that holds the kubelet's own, where that is not the root.
    #[arg(long = "path.cgroup-root")]
    cgroup_root: Option<String>,
    /// The kubelet's answer to /pods.
    #[arg(long)]
    pods: PathBuf,
    /// The kubelet's answer to /metrics/cadvisor, taken at about the same time.
    #[arg(long)]
    cadvisor: Option<PathBuf>,
    /// Record only these pods, by name; may be repeated.
    #[arg(long)]
    keep: Vec<String>,
    /// The folder to make.
    out: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let paths = Paths {
        procfs: arguments.procfs.clone(),
        sysfs: arguments.sysfs.clone(),
        rootfs: PathBuf::from("/"),
        cgroup_root: arguments.cgroup_root.clone(),
        ..Paths::default()
    };
    let out = &arguments.out;
    for file in NODE_FILES {
        copy(&paths.procfs.join(file), &out.join("proc").join(file))?;
    }
    // A real directory here says that it is the machine's.
    copy(&paths.net("dev"), &out.join("proc/net/dev"))?;
    let network = NETWORK_FILES_OF_SOME.map(|file| (paths.net(file), format!("net/{file}")));
    let others = NODE_FILES_OF_SOME.map(|file| (paths.procfs.join(file), file.to_owned()));
    for (from, to) in network.into_iter().chain(others).filter(|(from, _)| from.exists()) {
        copy(&from, &out.join("proc").join(to))?;
    }

    let uids = record_pods(&arguments)?;
    let mut tree = CgroupTree::new(&paths, HandleBudget::new(0));
    tree.refresh().context("the cgroup file systems")?;
    let kept = kept_cgroups(&tree, &uids);
    record_cgroups(&paths, &tree, &kept, out)?;
    record_processes(&paths, &tree, &kept, out)?;
    if let Some(cadvisor) = &arguments.cadvisor {
        let ids = kept.iter().filter_map(|slot| tree.slots()[*slot].as_ref()).map(|c| c.path.as_str());
        let text = fs::read_to_string(cadvisor).with_context(|| cadvisor.display().to_string())?;
        write(&out.join("kubelet/cadvisor.prom"), trimmed(&text, &ids.collect()).as_bytes())?;
    }
    Ok(())
}

/// Writes the pods that are kept, as the kubelet answered; returns their UIDs.
fn record_pods(arguments: &Arguments) -> anyhow::Result<HashSet<String>> {
    let text = fs::read(&arguments.pods).with_context(|| arguments.pods.display().to_string())?;
    let mut list: serde_json::Value = serde_json::from_slice(&text).context("the kubelet's pods")?;
    let items = list["items"].as_array_mut().context("no items")?;
    let keep = &arguments.keep;
    items.retain(|pod| keep.is_empty() || keep.iter().any(|name| pod["metadata"]["name"] == **name));
    let text = serde_json::to_vec_pretty(&list)?;
    write(&arguments.out.join("kubelet/pods.json"), &text)?;
    let pods = agent::source::kubelet::parse(&text)?;
    Ok(pods.into_iter().map(|pod| pod.uid).collect())
}

/// The root, the slices, the pods that are kept and what is in them.
fn kept_cgroups(tree: &CgroupTree, uids: &HashSet<String>) -> HashSet<usize> {
    let is_kept = |slot: usize| match &tree.slots()[slot] {
        Some(cgroup) => match &cgroup.kind {
            CgroupKind::Pod { uid } => uids.contains(uid),
            _ => true,
        },
        None => false,
    };
    let slots = tree.iter().filter(|(slot, cgroup)| match &cgroup.kind {
        CgroupKind::Container { pod, .. } => is_kept(*pod),
        _ => is_kept(*slot),
    });
    slots.map(|(slot, _)| slot).collect()
}

fn record_cgroups(paths: &Paths, tree: &CgroupTree, kept: &HashSet<usize>, out: &Path) -> anyhow::Result<()> {
    let below = |path: &Path| path.strip_prefix(&paths.sysfs).map(|path| out.join("sys").join(path));
    if tree.version() == Version::V2 {
        let controllers = paths.cgroups().join("cgroup.controllers");
        copy(&controllers, &below(&controllers)?)?;
    }
    let mut started = Vec::new();
    for (slot, cgroup) in tree.iter().filter(|(slot, _)| kept.contains(slot)) {
        for file in CgroupFile::ALL {
            let path = tree.file_path(slot, *file);
            // Not each cgroup has each file, and a write-only one says so only when read.
            if let Ok(text) = fs::read(&path) {
                write(&below(&path)?, &text)?;
            }
        }
        let seconds = cgroup.started.duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
        started.push(format!("{seconds} {}\n", cgroup.path));
    }
    // Copies, archives and version control do not keep the times of directories, which tell when a cgroup began.
    started.sort();
    write(&out.join("cgroups-started.txt"), started.concat().as_bytes())
}

fn record_processes(
    paths: &Paths,
    tree: &CgroupTree,
    kept: &HashSet<usize>,
    out: &Path,
) -> anyhow::Result<()> {
    let containers = tree.iter().filter(|(slot, _)| kept.contains(slot));
    let wanted: HashMap<String, usize> = containers
        .filter_map(|(slot, cgroup)| match &cgroup.kind {
            CgroupKind::Container { id, .. } => Some((id.clone(), slot)),
            _ => None,
        })
        .collect();
    for (_, pid) in pid::find(&paths.procfs, &wanted) {
        for file in ["cgroup", "cmdline", "io", "net/dev", "stat", "status"] {
            let file = Path::new(&pid.to_string()).join(file);
            copy(&paths.procfs.join(&file), &out.join("proc").join(&file))?;
        }
    }
    Ok(())
}

/// The families that we have too, of the cgroups that are kept or are nobody's.
fn trimmed(text: &str, ids: &HashSet<&str>) -> String {
    let ours: HashSet<_> = COLLECTORS.iter().flat_map(|c| c.families).map(|f| f.name).collect();
    let is_kept = |line: &&str| {
        let name =
            line.strip_prefix("# ").map_or(*line, |comment| comment.split(' ').nth(1).unwrap_or_default());
        let name = name.split(['{', ' ']).next().unwrap_or_default();
        let id = line.split_once("id=\"").and_then(|(_, rest)| rest.split('"').next());
        ours.contains(name) && id.is_none_or(|id| ids.contains(id) || !id.contains("kubepods"))
    };
    text.lines().filter(is_kept).flat_map(|line| [line, "\n"]).collect()
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    // Not fs::copy, which goes by the size that these files do not tell.
    let text = fs::read(from).with_context(|| from.display().to_string())?;
    write(to, &text)
}

fn write(to: &Path, text: &[u8]) -> anyhow::Result<()> {
    let folder = to.parent().context("no folder")?;
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    fs::write(to, text).with_context(|| to.display().to_string())
}
