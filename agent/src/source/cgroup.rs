//! The kubelet's part of the cgroup tree, kept up to date without walking it.

mod ends;
mod file;
mod name;
mod watch;

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use rustix::fd::OwnedFd;
use rustix::io::Errno;

use super::Paths;
use super::file::{HandleBudget, KeptFile};
use ends::{Ends, Texts};
pub use file::CgroupFile;
use file::{below, file_path};
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
    slots: Vec<Option<Cgroup>>,
    free: Vec<usize>,
    by_path: HashMap<String, usize>,
    watcher: Watcher,
    is_folder_watched: bool,
    ends: Ends,
    /// The slots of containers that are over, the first to end first.
    ended: VecDeque<usize>,
    missed_ends: u64,
    budget: HandleBudget,
    generation: u64,
}

fn errno(error: io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

/// ENODEV, as the standard library gives it.
const NODEV: i32 = Errno::NODEV.raw_os_error();
/// How long the counters of a container that is over are told: for two scrapes a minute apart, whoever scrapes.
const TOLD_AFTER_END: Duration = Duration::from_secs(120);
/// Of how many such containers.
const MOST_ENDED: usize = 1000;
/// How long a new cgroup may lack files that it will have.
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
        let above = paths.cgroup_root.as_deref().unwrap_or_default().trim_matches('/').to_owned();
        CgroupTree {
            mount,
            directories,
            above: if above.is_empty() { above } else { format!("/{above}") },
            version,
            slots: Vec::new(),
            free: Vec::new(),
            by_path: HashMap::new(),
            watcher: Watcher::new(),
            is_folder_watched: false,
            ends: Ends::default(),
            ended: VecDeque::new(),
            missed_ends: 0,
            budget,
            generation: 0,
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

    /// A handle that becomes readable when a cgroup comes or goes; another one each time.
    pub fn changes(&self) -> Option<OwnedFd> {
        self.watcher.handle()
    }

    /// Takes up what came and went since the last time.
    ///
    /// # Errors
    /// When there is no cgroup file system in [`Self::folder`], or not the cgroup that the kubelet's are said to be below.
    pub fn refresh(&mut self) -> Result<(), Errno> {
        if !self.by_path.contains_key("/") {
            let metadata = fs::metadata(&self.directories).map_err(errno)?;
            self.insert("/".to_owned(), CgroupKind::Root, &metadata);
        }
        if !self.above.is_empty() {
            fs::metadata(self.folder()).map_err(errno)?;
        }
        if !self.is_folder_watched
            && let Some(root) = self.by_path.get("/")
        {
            self.watcher.add(&self.folder(), *root);
            self.is_folder_watched = true;
        }
        self.find_kubepods();
        let changed = if self.watcher.is_complete() { self.watcher.changed() } else { None };
        let mut dirty = changed.unwrap_or_else(|| self.directories_of_pods());
        dirty.extend(self.gone_parents());
        dirty.sort_unstable();
        dirty.dedup();
        while let Some(slot) = dirty.pop() {
            dirty.extend(self.rescan(slot));
        }
        self.forget_ended(Instant::now());
        Ok(())
    }

    /// Reads a file of the cgroup in a slot into the buffer.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn read(&mut self, slot: usize, file: CgroupFile, buffer: &mut Vec<u8>) -> Result<(), ReadError> {
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
        match cgroup.files[file as usize].read(&self.budget, path, buffer, false) {
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
                // On v1 the runtime makes a container's directory in one controller's tree after the other.
                if cgroup.seen.elapsed() < BEING_MADE {
                    cgroup.files[file as usize] = KeptFile::Closed;
                }
                Err(ReadError::Absent)
            }
            Err(Errno::OPNOTSUPP) => Err(ReadError::Absent),
            Err(error) => Err(ReadError::Failed(error)),
        }
    }

    /// The files that are kept open.
    pub fn open_files(&self) -> impl Iterator<Item = PathBuf> {
        self.iter().flat_map(move |(slot, cgroup)| {
            let open =
                CgroupFile::ALL.iter().filter(|f| matches!(cgroup.files[**f as usize], KeptFile::Open(_)));
            open.map(move |file| self.file_path(slot, *file))
        })
    }

    /// Where the kubelet's cgroups are looked for.
    pub fn folder(&self) -> PathBuf {
        below(&self.directories, &self.above)
    }

    /// Where a file of the cgroup in a slot is.
    pub fn file_path(&self, slot: usize, file: CgroupFile) -> PathBuf {
        let cgroup = self.slots.get(slot).and_then(Option::as_ref).map_or("", |c| c.path.as_str());
        file_path(&self.mount, self.version, cgroup, file)
    }

    /// The kubelet's first cgroup, which may be made anew while nothing below tells of it.
    fn find_kubepods(&mut self) {
        for name in ["kubepods.slice", "kubepods"] {
            let path = format!("{}/{name}", self.above);
            let metadata = fs::metadata(below(&self.directories, &path)).ok();
            if let Some(slot) = self.by_path.get(&path).copied() {
                let inode = self.slots[slot].as_ref().map(|c| c.inode);
                if metadata.as_ref().map(|m| m.ino()) == inode {
                    return;
                }
                self.remove(slot);
            }
            if let Some(metadata) = metadata {
                let mut dirty = vec![self.insert(path, CgroupKind::Slice, &metadata)];
                while let Some(slot) = dirty.pop() {
                    dirty.extend(self.rescan(slot));
                }
                return;
            }
        }
    }

    fn directories_of_pods(&self) -> Vec<usize> {
        self.iter()
            .filter(|(_, c)| matches!(c.kind, CgroupKind::Slice | CgroupKind::Pod { .. }))
            .map(|(i, _)| i)
            .collect()
    }

    fn gone_parents(&self) -> Vec<usize> {
        let gone = |slot: &usize| self.slots[*slot].as_ref().is_none_or(|c| c.gone);
        self.iter().filter(|(_, c)| c.gone || c.children.iter().any(gone)).map(|(i, _)| i).collect()
    }

    /// Compares a directory with what is known of it; returns the slots of new directories, whose own are to be read.
    fn rescan(&mut self, slot: usize) -> Vec<usize> {
        let Some(cgroup) = self.slots.get(slot).and_then(Option::as_ref) else { return Vec::new() };
        if matches!(cgroup.kind, CgroupKind::Root | CgroupKind::Container { .. }) {
            return Vec::new();
        }
        let parent = cgroup.path.clone();
        let directory = below(&self.directories, &parent);
        self.watcher.add(&directory, slot);
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) => {
                // Out of handles, for one, is no reason to forget who is there.
                if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(NODEV) {
                    self.remove(slot);
                }
                return Vec::new();
            }
        };
        let mut found = Vec::new();
        for entry in entries.flatten() {
            if !entry.file_type().is_ok_and(|t| t.is_dir()) {
                continue;
            }
            let Some(kind) = name::kind(&entry.file_name(), slot) else { continue };
            let (Ok(metadata), Some(name)) =
                (entry.metadata(), entry.file_name().to_str().map(str::to_owned))
            else {
                continue;
            };
            found.push((format!("{parent}/{name}"), kind, metadata));
        }
        // A controller that was switched on since has new files here.
        if let Some(cgroup) = &mut self.slots[slot] {
            cgroup
                .files
                .iter_mut()
                .filter(|f| matches!(f, KeptFile::Absent))
                .for_each(|f| *f = KeptFile::Closed);
        }
        let known = self.slots[slot].as_ref().map(|c| c.children.clone()).unwrap_or_default();
        for child in known {
            let still = self.slots[child].as_ref().is_some_and(|c| {
                !c.gone && found.iter().any(|(path, _, m)| *path == c.path && m.ino() == c.inode)
            });
            if !still {
                self.remove(child);
            }
        }
        let paths: Vec<_> = found.iter().map(|(path, ..)| path.clone()).collect();
        let mut new = Vec::new();
        for (path, kind, metadata) in found {
            if !self.by_path.contains_key(&path) {
                let child = self.insert(path, kind, &metadata);
                new.push(child);
            }
        }
        let children = paths.iter().filter_map(|path| self.by_path.get(path).copied()).collect();
        if let Some(cgroup) = &mut self.slots[slot] {
            cgroup.children = children;
        }
        new
    }

    fn insert(&mut self, path: String, kind: CgroupKind, metadata: &fs::Metadata) -> usize {
        let cgroup = Cgroup {
            path: path.clone(),
            kind,
            inode: metadata.ino(),
            started: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
            seen: Instant::now(),
            files: Default::default(),
            children: Vec::new(),
            gone: false,
            end: None,
        };
        if self.version == Version::V2 && matches!(cgroup.kind, CgroupKind::Container { .. }) {
            self.ends.watch(&below(&self.directories, &cgroup.path), cgroup.inode);
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[slot] = Some(cgroup);
        self.by_path.insert(path, slot);
        self.generation += 1;
        slot
    }

    fn remove(&mut self, slot: usize) {
        // Before their pod, by whose UID a container that is over is known.
        let children = self.slots[slot].as_mut().map(|c| std::mem::take(&mut c.children));
        for child in children.unwrap_or_default() {
            self.remove(child);
        }
        let Some(mut cgroup) = self.slots[slot].take() else { return };
        for file in &mut cgroup.files {
            file.close(&self.budget);
        }
        self.watcher.remove(slot);
        self.by_path.remove(&cgroup.path);
        // The slot may be another's soon, who is no child of this parent.
        let parent = cgroup.path.rsplit_once('/').and_then(|(parent, _)| self.by_path.get(parent).copied());
        if let Some(parent) = parent.and_then(|p| self.slots[p].as_mut()) {
            parent.children.retain(|child| *child != slot);
        }
        self.generation += 1;
        cgroup.end = self.end_of(&cgroup);
        if cgroup.end.is_none() {
            self.free.push(slot);
            return;
        }
        cgroup.gone = false;
        self.slots[slot] = Some(cgroup);
        self.ended.push_back(slot);
    }

    fn end_of(&mut self, cgroup: &Cgroup) -> Option<End> {
        let CgroupKind::Container { pod, .. } = cgroup.kind else { return None };
        let Some(CgroupKind::Pod { uid }) = self.slots[pod].as_ref().map(|p| &p.kind) else { return None };
        // Of v1 the kernel tells nothing (Documentation/admin-guide/cgroup-v1/cgroups.rst).
        if self.version == Version::V1 {
            return None;
        }
        let texts = self.ends.take(cgroup.inode);
        self.missed_ends += u64::from(texts.is_none());
        Some(End { at: Instant::now(), uid: uid.clone(), texts: texts? })
    }

    fn forget_ended(&mut self, now: Instant) {
        while let Some(slot) = self.ended.front().copied() {
            let end = self.slots[slot].as_ref().and_then(|c| c.end.as_ref());
            let is_told = end.is_some_and(|end| now.duration_since(end.at) < TOLD_AFTER_END);
            if is_told && self.ended.len() <= MOST_ENDED {
                return;
            }
            self.ended.pop_front();
            self.slots[slot] = None;
            self.free.push(slot);
            self.generation += 1;
        }
    }
}

#[cfg(test)]
mod tests;
