//! A cgroup of its own for each node, in every hierarchy that the machine has.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::Pid;

use crate::process::kill_all;
use crate::wait::settled;

/// One mounted cgroup file system of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    mount: PathBuf,
    /// What to give to `mount -o`, such as `cpu,cpuacct` or `none,name=systemd`; empty on v2.
    options: String,
    unified: bool,
}

impl Hierarchy {
    /// The lines from which a node mounts its own view: folder below /sys/fs/cgroup, type, options.
    pub fn mount_line(&self) -> String {
        let folder = self.mount.strip_prefix(ROOT).unwrap_or(Path::new(""));
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let kind = if self.unified { "cgroup2" } else { "cgroup" };
        let options = if self.options.is_empty() { "rw" } else { &self.options };
        format!("{} {kind} {options}", folder.display())
    }
}

/// The hierarchies of this machine.
pub fn hierarchies() -> Result<Vec<Hierarchy>> {
    Ok(parse(&fs::read_to_string("/proc/self/mountinfo").context("cannot read /proc/self/mountinfo")?))
}

/// The cgroup of one node, removed when dropped.
#[derive(Debug)]
pub struct NodeCgroup {
    name: String,
    folders: Vec<PathBuf>,
    delegated: Vec<PathBuf>,
}

impl NodeCgroup {
    /// Makes it at the top of every hierarchy, ready to be entered.
    pub fn create(name: &str) -> Result<Self> {
        let mut made = Self { name: name.to_owned(), folders: Vec::new(), delegated: Vec::new() };
        for hierarchy in hierarchies()? {
            if hierarchy.unified {
                delegate(&hierarchy.mount);
            }
            let folder = hierarchy.mount.join(name);
            fs::create_dir(&folder)
                .with_context(|| format!("cannot create the cgroup {}", folder.display()))?;
            made.folders.push(folder.clone());
            let controllers = fs::read_to_string(folder.join("cgroup.controllers")).unwrap_or_default();
            if !controllers.trim().is_empty() {
                made.delegated.push(folder.clone());
            }
            for file in ["cpuset.cpus", "cpuset.mems"] {
                // On v1 nobody may enter a cpuset cgroup while these are empty; v2 inherits them.
                if !hierarchy.unified && folder.join(file).exists() {
                    let value = fs::read_to_string(hierarchy.mount.join(file))?;
                    fs::write(folder.join(file), value.trim())
                        .with_context(|| format!("cannot fill {file} of {name}"))?;
                }
            }
        }
        Ok(made)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its v2 folders that have controllers to hand on.
    pub fn delegated(&self) -> &[PathBuf] {
        &self.delegated
    }

    /// The files into which a process writes itself to enter it.
    pub fn doors(&self) -> impl Iterator<Item = PathBuf> {
        self.folders.iter().map(|folder| folder.join("cgroup.procs"))
    }
}

impl Drop for NodeCgroup {
    fn drop(&mut self) {
        // Nothing can be done about a failure here; the check for leftovers finds it.
        let _ = remove(&self.name);
    }
}

/// Removes the cgroup with this name from every hierarchy, after killing what runs in it.
pub fn remove(name: &str) -> Result<()> {
    let folders: Vec<PathBuf> =
        hierarchies()?.into_iter().map(|hierarchy| hierarchy.mount.join(name)).collect();
    kill_all(&format!("the cgroup {name}"), || {
        folders.iter().flat_map(|folder| processes(folder)).collect()
    })?;
    for folder in folders {
        // The kernel lets go of a cgroup some moments after its last process.
        if !settled(Duration::from_secs(10), || remove_tree(&folder)) {
            anyhow::bail!("cannot remove the cgroup {}", folder.display());
        }
    }
    Ok(())
}

/// The folders at the top of every hierarchy whose name begins with `stem-`.
pub fn named(stem: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for hierarchy in hierarchies()? {
        for entry in fs::read_dir(&hierarchy.mount).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.strip_prefix(stem).is_some_and(|rest| rest.starts_with('-')) {
                found.push(entry.path());
            }
        }
    }
    Ok(found)
}

const ROOT: &str = "/sys/fs/cgroup";

fn parse(mountinfo: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mountinfo.lines() {
        // proc_pid_mountinfo(5): the mount point is the fifth field; type, source, super options follow a lone dash.
        let Some((before, after)) = line.split_once(" - ") else { continue };
        let Some(mount) = before.split(' ').nth(4).filter(|mount| mount.starts_with(ROOT)) else { continue };
        let mut after = after.split(' ');
        let unified = match after.next() {
            Some("cgroup") => false,
            Some("cgroup2") => true,
            _ => continue,
        };
        let options = if unified { String::new() } else { v1_options(after.nth(1).unwrap_or_default()) };
        if !found.iter().any(|known| known.unified == unified && known.options == options) {
            found.push(Hierarchy { mount: mount.into(), options, unified });
        }
    }
    found
}

/// Controllers and name, without the read-write flag and other words that a second mount may not repeat.
fn v1_options(options: &str) -> String {
    let known = ["rw", "ro", "xattr", "clone_children"];
    let words =
        options.split(',').filter(|word| !known.contains(word) && !word.starts_with("release_agent="));
    let words: Vec<&str> = words.collect();
    match words.as_slice() {
        [name] if name.starts_with("name=") => format!("none,{name}"),
        words => words.join(","),
    }
}

/// Offers every controller of a v2 root to its children, as systemd does; what is refused is missed by the kubelet,
/// which then says so.
fn delegate(root: &Path) {
    let controllers = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
    let offered = fs::read_to_string(root.join("cgroup.subtree_control")).unwrap_or_default();
    for controller in controllers.split_whitespace() {
        if !offered.split_whitespace().any(|known| known == controller) {
            let _ = fs::write(root.join("cgroup.subtree_control"), format!("+{controller}"));
        }
    }
}

fn processes(folder: &Path) -> Vec<Pid> {
    let mut found: Vec<Pid> = fs::read_to_string(folder.join("cgroup.procs"))
        .unwrap_or_default()
        .lines()
        .filter_map(|line| Pid::from_raw(line.parse().ok()?))
        .collect();
    for child in children(folder) {
        found.extend(processes(&child));
    }
    found
}

fn remove_tree(folder: &Path) -> bool {
    children(folder).iter().all(|child| remove_tree(child))
        && match fs::remove_dir(folder) {
            Ok(()) => true,
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        }
}

fn children(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(mountinfo: &str, expected: &[&str]) {
        let lines: Vec<String> = parse(mountinfo).iter().map(Hierarchy::mount_line).collect();
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_v1_machine_has_a_line_for_each_controller_the_systemd_tree_and_the_unified_one() {
        check(
            "30 25 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
             31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid - cgroup cgroup rw,cpu,cpuacct\n\
             32 30 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/a,name=systemd\n\
             33 30 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n\
             34 90 0:27 / /mnt/other rw - cgroup cgroup rw,cpu,cpuacct",
            &["cpu,cpuacct cgroup cpu,cpuacct", "systemd cgroup none,name=systemd", "unified cgroup2 rw"],
        );
    }

    #[test]
    fn a_v2_machine_has_one_line_for_the_root() {
        check("30 25 0:26 / /sys/fs/cgroup rw shared:9 - cgroup2 cgroup2 rw,nsdelegate", &[". cgroup2 rw"]);
    }
}
