//! The kubelet's part of the cgroup tree, kept up to date without walking it.

mod ends;
mod file;
mod fixed;
mod follow;
mod name;
mod still;
mod watch;

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rustix::fd::OwnedFd;
use rustix::io::Errno;

use super::Paths;
use super::file::{HandleBudget, KeptFile};
use ends::{Ends, Texts};
pub use file::CgroupFile;
use file::{below, file_path};
pub use fixed::Fixed;
use still::Still;
use watch::Watcher;

/// Which of the kernel's two interfaces the node has its controllers on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// One tree for each controller.
    V1,
    /// One tree.
    V2,
}

/// What a cgroup is to the kubelet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CgroupKind {
    /// The whole machine, `/`.
    Root,
    /// `kubepods` and the quality-of-service slices below it.
    Slice,
    /// A pod, by the UID in its name.
    Pod {
        /// As `metadata.uid` has it; for a static pod the hash of its file.
        uid: String,
    },
    /// A container or the sandbox of a pod.
    Container {
        /// The slot of the pod.
        pod: usize,
        /// The runtime's id.
        id: String,
    },
}

/// One cgroup.
#[derive(Debug)]
pub struct Cgroup {
    /// The path below the mount, which is the `id` label.
    pub path: String,
    /// What it is to the kubelet.
    pub kind: CgroupKind,
    /// With the path, tells a cgroup from a later one of the same name.
    pub inode: u64,
    /// When it was made: the time of its directory.
    pub started: SystemTime,
    /// When the tree first saw it.
    pub seen: Instant,
    files: [KeptFile; CgroupFile::COUNT],
    still: Still,
    children: Vec<usize>,
    gone: bool,
    end: Option<End>,
}

/// A container that is over, and whose counters are still told.
#[derive(Debug)]
struct End {
    at: Instant,
    uid: String,
    texts: Texts,
}

impl Cgroup {
    /// Whether it is a container of CRI-O, whose pods need not have a sandbox, by its name.
    pub fn may_lack_sandbox(&self) -> bool {
        self.path.rsplit('/').next().is_some_and(|name| name.starts_with("crio-"))
    }

    /// Whether it may still lack files that it will have: on v1 the runtime makes a container's directory in one
    /// controller's tree after the other.
    pub fn is_being_made(&self) -> bool {
        self.seen.elapsed() < BEING_MADE
    }

    /// Of a container that is over, the UID of its pod: it has counters and nothing else.
    pub fn ended_in(&self) -> Option<&str> {
        self.end.as_ref().map(|end| end.uid.as_str())
    }
}

/// Why a file of a cgroup could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// The cgroup has ended; it leaves the tree at the next [`CgroupTree::refresh`].
    Gone,
    /// This kernel, or this cgroup, has no such file.
    Absent,
    /// Anything else.
    Failed(Errno),
}

/// The root, the kubelet's slices, its pods and their containers, each in a slot that stays its own while it lives.
#[derive(Debug)]
pub struct CgroupTree {
    mount: PathBuf,
    /// The directories of the kubelet's tree are looked for in one hierarchy: of v1, the memory controller's.
    directories: PathBuf,
    /// The cgroup below which the kubelet has its own: empty for the root.
    above: String,
    version: Version,
    /// Whether a cgroup's memory is also that of the cgroups above it: always on v2, and on v1 since Linux 5.11, before
    /// where somebody chose it (Documentation/admin-guide/cgroup-v1/memory.rst, 6).
    is_memory_nested: bool,
    slots: Vec<Option<Cgroup>>,
    free: Vec<usize>,
    by_path: HashMap<String, usize>,
    watcher: Watcher,
    is_folder_watched: bool,
    ends: Ends,
    /// The slots of containers that are over, the first to end first.
    ended: VecDeque<usize>,
    missed_ends: u64,
    /// How many cgroups there may be, and of the directories that have more, how many more.
    most: usize,
    left_out: HashMap<usize, usize>,
    budget: HandleBudget,
    /// Whether handles are also left for files that are read once a minute.
    is_budget_ample: bool,
    generation: u64,
    in_order: Arc<[usize]>,
    /// The generation that `in_order` is of.
    ordered: u64,
    /// When the reading began that goes on.
    now: Instant,
}

/// The slots of the cgroups by their paths, so that those of a pod follow each other.
#[derive(Clone, Debug)]
pub struct InOrder(Arc<[usize]>, std::ops::Range<usize>);

impl Iterator for InOrder {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        Some(self.0[self.1.next()?])
    }
}

/// Far more than a kubelet starts pods for; a bound on what a scrape costs, whatever somebody does with cgroups.
const MOST_CGROUPS: usize = 20_000;
/// How many of [`CgroupFile`] a cgroup has, on either version.
const FILES: usize = 20;
/// How long making a cgroup takes at most.
const BEING_MADE: Duration = Duration::from_secs(10);

impl CgroupTree {
    /// The tree below the mounts; nothing is read before the first [`Self::refresh`].
    pub fn new(paths: &Paths, budget: HandleBudget) -> Self {
        let mount = paths.cgroups();
        let version = if mount.join("cgroup.controllers").exists() { Version::V2 } else { Version::V1 };
        let directories = match version {
            Version::V2 => mount.clone(),
            Version::V1 => {
                let first = ["memory", "cpu", "cpuacct", "pids"]
                    .into_iter()
                    .map(|c| mount.join(c))
                    .find(|p| p.is_dir());
                first.unwrap_or_else(|| mount.join("memory"))
            }
        };
        let is_nested =
            || fs::read(directories.join("memory.use_hierarchy")).is_ok_and(|text| text == b"1\n");
        let is_memory_nested = version == Version::V2 || is_nested();
        let above = paths.cgroup_root.as_deref().unwrap_or_default().trim_matches('/').to_owned();
        CgroupTree {
            mount,
            directories,
            above: if above.is_empty() { above } else { format!("/{above}") },
            version,
            is_memory_nested,
            slots: Vec::new(),
            free: Vec::new(),
            by_path: HashMap::new(),
            watcher: Watcher::new(),
            is_folder_watched: false,
            ends: Ends::default(),
            ended: VecDeque::new(),
            missed_ends: 0,
            most: MOST_CGROUPS,
            left_out: HashMap::new(),
            budget,
            is_budget_ample: true,
            generation: 0,
            in_order: Arc::default(),
            ordered: 0,
            now: Instant::now(),
        }
    }

    /// Which interface the node has.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Changes whenever a cgroup came or went.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The slots; an empty one is free.
    pub fn slots(&self) -> &[Option<Cgroup>] {
        &self.slots
    }

    /// The slots of all cgroups that there were at the last [`Self::refresh`].
    pub fn in_order(&self) -> InOrder {
        InOrder(self.in_order.clone(), 0..self.in_order.len())
    }

    fn put_in_order(&mut self) {
        if self.ordered != self.generation {
            let mut slots: Vec<(&str, usize)> =
                self.iter().map(|(slot, c)| (c.path.as_str(), slot)).collect();
            slots.sort_unstable();
            self.in_order = slots.into_iter().map(|(_, slot)| slot).collect();
            self.ordered = self.generation;
            self.share_handles();
        }
    }

    /// Leaves the handles to what every scrape reads, where there may be too few for all.
    fn share_handles(&mut self) {
        self.is_budget_ample = self.by_path.len().saturating_mul(FILES) <= self.budget.most();
        if self.is_budget_ample {
            return;
        }
        for cgroup in self.slots.iter_mut().flatten() {
            for file in CgroupFile::ALL.iter().filter(|file| file.is_fixed()) {
                if let open @ KeptFile::Open(_) = &mut cgroup.files[*file as usize] {
                    open.close(&self.budget);
                }
            }
        }
    }

    /// The cgroups with their slots.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &Cgroup)> {
        self.slots.iter().enumerate().filter_map(|(i, slot)| Some((i, slot.as_ref()?)))
    }

    /// Whether a pod of this UID has a cgroup, or a container that has ended.
    pub fn has_pod(&self, uid: &str) -> bool {
        let is_it = |c: &Cgroup| matches!(&c.kind, CgroupKind::Pod { uid: u } if u == uid);
        self.iter().any(|(_, c)| is_it(c) || c.ended_in() == Some(uid))
    }

    /// Whether a container of this id has a cgroup, or has ended.
    pub fn has_container(&self, id: &str) -> bool {
        self.iter().any(|(_, c)| matches!(&c.kind, CgroupKind::Container { id: i, .. } if i == id))
    }

    /// The cgroups right below the one in a slot.
    pub fn children(&self, slot: usize) -> impl Iterator<Item = &Cgroup> {
        let children = self.slots[slot].as_ref().map_or(&[][..], |c| &c.children);
        children.iter().filter_map(|child| self.slots[*child].as_ref())
    }

    /// The handles that are kept.
    pub fn budget(&self) -> &HandleBudget {
        &self.budget
    }

    /// Whether the kernel tells of new cgroups, so that none is looked for.
    pub fn is_watched(&self) -> bool {
        self.watcher.is_complete()
    }

    /// Whether the last figures of a cgroup that lives have been read.
    #[cfg(test)]
    pub(crate) fn has_read_end(&self, slot: usize) -> bool {
        self.slots[slot].as_ref().is_some_and(|c| self.ends.has(c.inode))
    }

    /// How many containers are over whose counters are still told.
    pub fn ended(&self) -> usize {
        self.ended.len()
    }

    /// How many containers have gone before their last figures could be read, where the kernel tells of the end.
    pub fn missed_ends(&self) -> u64 {
        self.missed_ends
    }

    /// How many cgroups are left out, not counting what is below them, since there are too many.
    pub fn truncated(&self) -> usize {
        self.left_out.values().sum()
    }

    /// A handle that becomes readable when a cgroup comes or goes; another one each time.
    pub fn changes(&self) -> Option<OwnedFd> {
        self.watcher.handle()
    }

    /// Reads a file as it is now.
    fn read_now(&mut self, slot: usize, file: CgroupFile, buffer: &mut Vec<u8>) -> Result<(), ReadError> {
        let Some(cgroup) = self.slots.get_mut(slot).and_then(Option::as_mut) else {
            return Err(ReadError::Gone);
        };
        if let Some(end) = &cgroup.end {
            let text = end.texts.get(file).ok_or(ReadError::Gone)?;
            buffer.clear();
            buffer.extend_from_slice(text);
            return Ok(());
        }
        if cgroup.gone {
            return Err(ReadError::Gone);
        }
        let was_absent = matches!(cgroup.files[file as usize], KeptFile::Absent);
        let path = || file_path(&self.mount, self.version, &cgroup.path, file);
        let none = HandleBudget::new(0);
        let budget = if file.is_fixed() && !self.is_budget_ample { &none } else { &self.budget };
        match cgroup.files[file as usize].read(budget, path, buffer, file.made()) {
            Ok(()) => Ok(()),
            // Known to be absent: it was asked for before.
            Err(Errno::NOENT) if was_absent => Err(ReadError::Absent),
            // kernfs answers a handle of a removed cgroup so.
            Err(Errno::NODEV) => {
                cgroup.gone = true;
                Err(ReadError::Gone)
            }
            Err(Errno::NOENT) if !below(&self.directories, &cgroup.path).exists() => {
                cgroup.gone = true;
                Err(ReadError::Gone)
            }
            Err(Errno::NOENT) => {
                if cgroup.is_being_made() {
                    cgroup.files[file as usize] = KeptFile::Closed;
                }
                Err(ReadError::Absent)
            }
            Err(Errno::OPNOTSUPP) => Err(ReadError::Absent),
            Err(error) => Err(ReadError::Failed(error)),
        }
    }

    /// The files that are kept open, and whether each scrape reads them.
    pub fn open_files(&self) -> impl Iterator<Item = (PathBuf, bool)> {
        self.iter().flat_map(move |(slot, cgroup)| {
            let open =
                CgroupFile::ALL.iter().filter(|f| matches!(cgroup.files[**f as usize], KeptFile::Open(_)));
            open.map(move |file| (self.file_path(slot, *file), !file.is_fixed()))
        })
    }

    /// Where the kubelet's cgroups are looked for.
    pub fn folder(&self) -> PathBuf {
        below(&self.directories, &self.above)
    }

    /// Where the cgroup in a slot is, on v1 in the tree of this controller.
    pub fn cgroup_folder(&self, slot: usize, controller: &str) -> PathBuf {
        let cgroup = self.slots.get(slot).and_then(Option::as_ref).map_or("", |c| c.path.as_str());
        match self.version {
            Version::V1 => below(&self.mount.join(controller), cgroup),
            Version::V2 => below(&self.mount, cgroup),
        }
    }

    /// Where a file of the cgroup in a slot is.
    pub fn file_path(&self, slot: usize, file: CgroupFile) -> PathBuf {
        let cgroup = self.slots.get(slot).and_then(Option::as_ref).map_or("", |c| c.path.as_str());
        file_path(&self.mount, self.version, cgroup, file)
    }
}

#[cfg(test)]
mod tests;
