//! A process of each container, found without the host's pid namespace.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::file::read_once;
use super::process::containers_in;

/// Looks through all processes for one of each container, by the ids that are the keys.
///
/// `cgroup.procs` is of no use without hostPID: through the host mount it is empty on v1 and zeros on v2. What
/// `/proc/PID/cgroup` says is relative to the reader's own cgroup namespace (cgroup_namespaces(7)), so only the
/// directory names in it are compared: a container's holds its id, which is unique on a node.
pub fn find(procfs: &Path, wanted: &HashMap<String, usize>) -> Vec<(usize, u32)> {
    let mut found = HashMap::new();
    let mut buffer = Vec::new();
    let Ok(entries) = std::fs::read_dir(procfs) else { return Vec::new() };
    for entry in entries.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        if found.len() == wanted.len() {
            break;
        }
        if let Some(slot) = container_of(procfs, pid, &mut buffer).and_then(|id| wanted.get(&id)) {
            found.entry(*slot).or_insert(pid);
        }
    }
    found.into_iter().collect()
}

/// The inode of our own cgroup, where we are in a cgroup namespace of our own: of the processes there the files of /proc
/// say only that they are at its root (cgroup_namespaces(7)).
pub fn own_cgroup() -> Option<u64> {
    // The root of the namespace, wherever the machine's is mounted.
    std::fs::metadata("/sys/fs/cgroup").ok().map(|root| root.ino())
}

/// The id of the container that a process is directly in. Below it there may be containers of its own, with other
/// networks and other limits.
pub fn container_of(procfs: &Path, pid: u32, buffer: &mut Vec<u8>) -> Option<String> {
    read_once(&procfs.join(pid.to_string()).join("cgroup"), buffer).ok()?;
    innermost(buffer)
}

/// `4:memory:/kubepods/pod<uid>/<id>`: the last of the containers.
fn innermost(cgroup: &[u8]) -> Option<String> {
    containers_in(cgroup).last().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_found_in_paths_of_both_drivers_and_of_another_namespace() {
        let id = "0123456789abcdef".repeat(4);
        for line in [
            format!("4:memory:/kubepods/besteffort/pod20278a2f-19e0/{id}"),
            format!("0::/kubepods.slice/kubepods-pod1_2.slice/cri-containerd-{id}.scope"),
            format!("0::/../../kubepods-burstable-pod1_2.slice/crio-{id}.scope/init.scope"),
        ] {
            assert_eq!(innermost(line.as_bytes()).as_deref(), Some(id.as_str()), "{line}");
        }
        assert_eq!(innermost(b"0::/system.slice/containerd.service"), None);
        assert_eq!(innermost(b"garbage"), None);
    }
}
