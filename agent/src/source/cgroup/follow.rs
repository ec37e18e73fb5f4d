//! How the tree follows what comes and goes below it.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant, SystemTime};

use rustix::io::Errno;

use super::{Cgroup, CgroupKind, CgroupTree, End, Still, Version, below, name};
use crate::source::file::KeptFile;

/// ENODEV, as the standard library gives it.
const NODEV: i32 = Errno::NODEV.raw_os_error();
/// How long the counters of a container that is over are told: for two scrapes a minute apart, whoever scrapes.
pub(super) const TOLD_AFTER_END: Duration = Duration::from_secs(120);
/// Of how many such containers.
const MOST_ENDED: usize = 1000;

fn errno(error: io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

impl CgroupTree {
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
        let is_told = self.watcher.is_complete();
        if !is_told {
            // All are read and watched again: there may be room by now.
            self.watcher.incomplete = false;
            self.is_folder_watched = false;
        }
        if !self.is_folder_watched
            && let Some(root) = self.by_path.get("/")
        {
            self.watcher.add(&self.folder(), *root);
            self.is_folder_watched = true;
        }
        self.find_kubepods();
        let changed = if is_told { self.watcher.changed() } else { None };
        let mut dirty = changed.unwrap_or_else(|| self.directories_of_pods());
        dirty.extend(self.gone_parents());
        if self.by_path.len() < self.most {
            dirty.extend(self.left_out.keys());
        }
        dirty.sort_unstable();
        dirty.dedup();
        while let Some(slot) = dirty.pop() {
            dirty.extend(self.rescan(slot));
        }
        self.forget_ended(Instant::now());
        self.put_in_order();
        Ok(())
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
        let (mut new, mut left_out) = (Vec::new(), 0);
        for (path, kind, metadata) in found {
            if self.by_path.contains_key(&path) {
                continue;
            }
            if self.by_path.len() >= self.most {
                left_out += 1;
                continue;
            }
            new.push(self.insert(path, kind, &metadata));
        }
        match left_out {
            0 => self.left_out.remove(&slot),
            _ => self.left_out.insert(slot, left_out),
        };
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
            started: self.started(&path, metadata),
            seen: Instant::now(),
            files: std::array::from_fn(|_| KeptFile::default()),
            still: Still::default(),
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

    /// The time of the directory, which the kernel may move when something comes or goes below it, or of a file that is
    /// there from the beginning and is not written to, as cAdvisor has it.
    fn started(&self, path: &str, metadata: &fs::Metadata) -> SystemTime {
        let file = match self.version {
            Version::V1 => "cgroup.clone_children",
            Version::V2 => "cgroup.events",
        };
        let of_file =
            fs::metadata(below(&self.directories, path).join(file)).and_then(|file| file.modified());
        let both = [metadata.modified(), of_file];
        both.into_iter().filter_map(Result::ok).min().unwrap_or(SystemTime::UNIX_EPOCH)
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
        self.left_out.remove(&slot);
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

    pub(super) fn forget_ended(&mut self, now: Instant) {
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
