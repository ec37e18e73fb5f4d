//! How many files a container's processes may open, as its first process was told.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::file::read_once;
use super::pid;
use super::text::{lines, number, words};

/// The limit of each container, by slot. It is looked up once: a process inherits its limits, a runtime sets those of
/// the first one before it starts the program, and only prlimit(2) changes them later.
#[derive(Debug)]
pub struct FileLimits {
    procfs: PathBuf,
    /// See [`pid::own_cgroup`].
    own: Option<u64>,
    /// By slot: of the container with this inode.
    containers: Vec<Option<Known>>,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Known {
    inode: u64,
    limit: Option<f64>,
    /// When to look for a process again; a runtime in a virtual machine never shows one.
    look_again: Instant,
    looked: u32,
}

/// Before that the process that is found may be the runtime's own, on its way into the container.
const BEING_STARTED: Duration = Duration::from_secs(2);

impl FileLimits {
    /// None yet.
    pub fn new(procfs: &Path) -> Self {
        let own = pid::own_cgroup();
        FileLimits { procfs: procfs.to_owned(), own, containers: Vec::new(), buffer: Vec::new() }
    }

    /// Looks up the limits of those containers that are new, of all that there are: slot, inode, start and id.
    pub fn update<'a>(&mut self, containers: impl Iterator<Item = (usize, u64, SystemTime, &'a str)>) {
        let now = Instant::now();
        let mut wanted = HashMap::new();
        for (slot, inode, started, id) in containers {
            if self.containers.len() <= slot {
                self.containers.resize_with(slot + 1, || None);
            }
            let known = &mut self.containers[slot];
            if known.as_ref().is_some_and(|k| k.inode == inode && (k.limit.is_some() || now < k.look_again)) {
                continue;
            }
            // A clock that was set back says nothing.
            if started.elapsed().is_ok_and(|age| age < BEING_STARTED) {
                *known = None;
                continue;
            }
            if self.own == Some(inode) {
                let limit = of(&self.procfs.join("self"), &mut self.buffer);
                *known = Some(Known { inode, limit, look_again: now, looked: 0 });
                continue;
            }
            let looked = known.as_ref().filter(|k| k.inode == inode).map_or(0, |k| k.looked) + 1;
            // 2, 4 … 64 s: the walk over all processes is not for every scrape.
            let look_again = now + Duration::from_secs(1 << looked.min(6));
            *known = Some(Known { inode, limit: None, look_again, looked });
            wanted.insert(id.to_owned(), slot);
        }
        if wanted.is_empty() {
            return;
        }
        let found: HashMap<usize, u32> = pid::find(&self.procfs, &wanted).into_iter().collect();
        for (id, slot) in &wanted {
            let Some(process) = found.get(slot) else { continue };
            let limit = self.of_process(*process);
            // The number may have gone to another process between looking and reading.
            let is_same = pid::container_of(&self.procfs, *process, &mut self.buffer).as_ref() == Some(id);
            if let Some(known) = self.containers[*slot].as_mut().filter(|_| is_same) {
                known.limit = limit;
            }
        }
    }

    /// The limit of the container in a slot, where a process of it was found.
    pub fn get(&self, slot: usize, inode: u64) -> Option<f64> {
        self.containers.get(slot)?.as_ref().filter(|known| known.inode == inode)?.limit
    }

    /// The limit of a process; -1 where there is none.
    pub fn of_process(&mut self, process: u32) -> Option<f64> {
        of(&self.procfs.join(process.to_string()), &mut self.buffer)
    }
}

fn of(process: &Path, buffer: &mut Vec<u8>) -> Option<f64> {
    read_once(&process.join("limits"), buffer).ok()?;
    lines(buffer).find_map(soft_limit)
}

/// `Max open files            1024                 524288               files` (proc_pid_limits(5)): the soft limit.
fn soft_limit(line: &[u8]) -> Option<f64> {
    match words(line.strip_prefix(b"Max open files")?).next()? {
        b"unlimited" => Some(-1.0),
        word => Some(number(word)? as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::shown::Tree;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn limits(soft: &str) -> String {
        format!("Limit Soft Limit Hard Limit Units\nMax open files            {soft}  4096  files\n")
    }

    #[test]
    fn a_container_s_limit_is_that_of_its_process_and_another_container_in_its_slot_has_its_own() {
        let other = ID.replace('0', "f");
        let line = |id: &str| format!("0::/kubepods/pod1/{id}\n");
        let tree = Tree::new(&[
            ("proc/7/cgroup", &line(ID)),
            ("proc/7/limits", &limits("1024")),
            ("proc/8/cgroup", &line(&other)),
            ("proc/8/limits", &limits("unlimited")),
        ]);
        let mut known = FileLimits::new(&tree.paths().procfs);
        let long_ago = SystemTime::UNIX_EPOCH;
        known.update([(3, 30, long_ago, ID)].into_iter());
        assert_eq!([known.get(3, 30), known.get(3, 31), known.get(4, 30)], [Some(1024.0), None, None]);
        known.update([(3, 31, long_ago, other.as_str())].into_iter());
        assert_eq!([known.get(3, 30), known.get(3, 31)], [None, Some(-1.0)]);
    }

    #[test]
    fn the_agent_s_own_container_is_known_by_its_cgroup() {
        let tree = Tree::new(&[("proc/self/cgroup", "0::/\n"), ("proc/self/limits", &limits("4096"))]);
        let mut known = FileLimits { own: Some(30), ..FileLimits::new(&tree.paths().procfs) };
        known.update([(3, 30, SystemTime::UNIX_EPOCH, ID)].into_iter());
        assert_eq!(known.get(3, 30), Some(4096.0));
    }

    #[test]
    fn a_container_that_is_just_being_started_is_not_looked_at() {
        let tree = Tree::new(&[
            ("proc/7/cgroup", &format!("0::/kubepods/pod1/{ID}\n")),
            ("proc/7/limits", &limits("1024")),
        ]);
        let mut known = FileLimits::new(&tree.paths().procfs);
        known.update([(0, 30, SystemTime::now(), ID)].into_iter());
        assert_eq!(known.get(0, 30), None);
        known.update([(0, 30, SystemTime::now() - BEING_STARTED, ID)].into_iter());
        assert_eq!(known.get(0, 30), Some(1024.0));
    }

    #[test]
    fn other_lines_are_no_limit_of_files() {
        assert_eq!(soft_limit(b"Max open files            1024  4096  files"), Some(1024.0));
        assert_eq!(soft_limit(b"Max processes             1024  4096  processes"), None);
        assert_eq!(soft_limit(b"Max open files"), None);
        assert_eq!(soft_limit(b"Max open files x"), None);
    }
}
