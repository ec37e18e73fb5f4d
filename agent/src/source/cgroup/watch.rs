//! The kernel's word on which directories changed, so that the tree need not be walked.

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::path::Path;

use rustix::fd::OwnedFd;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

/// An inotify instance over the directories of pods, where the node has one to give.
#[derive(Debug)]
pub(super) struct Watcher {
    inotify: Option<OwnedFd>,
    /// Some directory could not be watched when it was last tried: the limit of watches was reached.
    pub(super) incomplete: bool,
    slots: HashMap<i32, usize>,
    buffer: Box<[MaybeUninit<u8>; 4096]>,
}

impl Watcher {
    pub(super) fn new() -> Self {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok();
        Watcher {
            inotify,
            incomplete: false,
            slots: HashMap::new(),
            buffer: Box::new([MaybeUninit::uninit(); 4096]),
        }
    }

    /// Whether every directory is watched; otherwise all of them must be read.
    pub(super) fn is_complete(&self) -> bool {
        self.inotify.is_some() && !self.incomplete
    }

    /// Another handle on the kernel's word, which can be read when there is any.
    pub(super) fn handle(&self) -> Option<OwnedFd> {
        self.inotify.as_ref()?.try_clone().ok()
    }

    /// Watches the directory of a slot; watching it again changes nothing.
    pub(super) fn add(&mut self, directory: &Path, slot: usize) {
        let Some(inotify) = &self.inotify else { return };
        let flags = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVE | WatchFlags::ONLYDIR;
        match inotify::add_watch(inotify, directory, flags) {
            Ok(watch) => {
                self.slots.insert(watch, slot);
            }
            // It has gone since; its parent tells.
            Err(Errno::NOENT) => {}
            Err(_) => self.incomplete = true,
        }
    }

    /// Forgets a slot. Before Linux 7.1 the watch of a cgroup outlives it, with what the kernel keeps for it (fs/kernfs: no
    /// inode of it is ever said to be removed).
    pub(super) fn remove(&mut self, slot: usize) {
        let Some(inotify) = &self.inotify else { return };
        for (watch, _) in self.slots.extract_if(|_, s| *s == slot) {
            // Where the kernel has ended it, it knows of none.
            let _ = inotify::remove_watch(inotify, watch);
        }
    }

    /// The slots whose directories changed; nothing when the kernel lost count and all must be read.
    pub(super) fn changed(&mut self) -> Option<Vec<usize>> {
        let mut changed = Vec::new();
        let Some(inotify) = &self.inotify else { return None };
        let mut reader = inotify::Reader::new(inotify, &mut self.buffer[..]);
        loop {
            match reader.next() {
                Ok(event) => {
                    if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                        return None;
                    }
                    changed.extend(self.slots.get(&event.wd()));
                }
                Err(Errno::INTR) => {}
                Err(_) => return Some(changed),
            }
        }
    }
}
