//! What containers have counted to their end: read between the end of their last process, of which cgroup v2 tells, and
//! the removal of their cgroup.

use std::collections::HashMap;
use std::fmt;
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fd::OwnedFd;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use super::CgroupFile;
use crate::source::file::read_once;
use crate::source::text::pairs;

/// The files that counters are made of, and the quota, without which `cpu.stat` is not told in full.
const FILES: [CgroupFile; 8] = [
    CgroupFile::CpuStat,
    CgroupFile::CpuMax,
    CgroupFile::MemoryStat,
    CgroupFile::MemoryEvents,
    CgroupFile::IoStat,
    CgroupFile::CpuPressure,
    CgroupFile::MemoryPressure,
    CgroupFile::IoPressure,
];

/// The texts of the files of a cgroup whose last process has ended.
#[derive(Debug, Default)]
pub(super) struct Texts([Option<Box<[u8]>>; FILES.len()]);

impl Texts {
    /// The text of a file, where it was there.
    pub(super) fn get(&self, file: CgroupFile) -> Option<&[u8]> {
        self.0[FILES.iter().position(|f| *f == file)?].as_deref()
    }

    /// Nothing where the cgroup goes before all of its files are read; some it may never have had.
    fn read(folder: &Path, buffer: &mut Vec<u8>) -> Option<Self> {
        let mut texts = Texts::default();
        for (file, text) in FILES.iter().zip(&mut texts.0) {
            match read_once(&folder.join(file.name()), buffer) {
                Ok(()) => *text = Some(buffer[..].into()),
                Err(Errno::NODEV) => return None,
                Err(_) if !folder.exists() => return None,
                Err(_) => {}
            }
        }
        Some(texts)
    }
}

/// Watches containers, on a thread that starts with the first of them.
#[derive(Debug, Default)]
pub(super) struct Ends {
    watching: Option<Watching>,
    /// The node has no more inotify instances or watches.
    refused: bool,
}

struct Watching {
    shared: Arc<Shared>,
}

struct Shared {
    inotify: OwnedFd,
    /// Written to when the tree goes.
    stop: OwnedFd,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By number of the watch: the inode of the cgroup's directory, and the directory.
    watched: HashMap<i32, (u64, PathBuf)>,
    /// By inode.
    texts: HashMap<u64, Texts>,
}

impl Ends {
    /// Watches a container.
    pub(super) fn watch(&mut self, folder: &Path, inode: u64) {
        if self.watching.is_none() && !self.refused {
            self.watching = Watching::start().ok();
            self.refused = self.watching.is_none();
        }
        let Some(Watching { shared }) = &self.watching else { return };
        // Held while the watch is made, so that the thread finds here what an end that comes at once is the end of.
        let mut state = shared.state();
        // The kernel tells of a change of the file as of a write (Documentation/admin-guide/cgroup-v2.rst, cgroup.events).
        let events = folder.join("cgroup.events");
        if let Ok(watch) = inotify::add_watch(&shared.inotify, &events, WatchFlags::MODIFY) {
            state.watched.insert(watch, (inode, folder.to_owned()));
        }
    }

    /// What a cgroup that has gone had counted, unless the runtime was faster than the reader.
    pub(super) fn take(&mut self, inode: u64) -> Option<Texts> {
        let shared = &self.watching.as_ref()?.shared;
        let mut state = shared.state();
        for (watch, _) in state.watched.extract_if(|_, (watched, _)| *watched == inode) {
            // As in `Watcher::remove`: it outlives the cgroup on most kernels, and on the others there is none.
            let _ = inotify::remove_watch(&shared.inotify, watch);
        }
        state.texts.remove(&inode)
    }
}

#[cfg(test)]
impl Ends {
    /// Whether the last figures of a cgroup have been read.
    pub(super) fn has(&self, inode: u64) -> bool {
        self.watching.as_ref().is_some_and(|it| it.shared.state().texts.contains_key(&inode))
    }

    /// Another handle on the inotify instance, of which the kernel lists what it watches.
    pub(super) fn handle(&self) -> Option<OwnedFd> {
        self.watching.as_ref()?.shared.inotify.try_clone().ok()
    }
}

impl Watching {
    fn start() -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            inotify: inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?,
            stop: eventfd(0, EventfdFlags::CLOEXEC)?,
            state: Mutex::default(),
        });
        let of_thread = shared.clone();
        std::thread::Builder::new().name("ends".to_owned()).spawn(move || of_thread.run())?;
        Ok(Watching { shared })
    }
}

impl fmt::Debug for Watching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watching").field("containers", &self.shared.state().watched.len()).finish()
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        // Cannot fail: nobody else has counted it up.
        let _ = rustix::io::write(&self.shared.stop, &1u64.to_ne_bytes());
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut buffer = Vec::new();
        loop {
            let mut waited =
                [PollFd::new(&self.inotify, PollFlags::IN), PollFd::new(&self.stop, PollFlags::IN)];
            let result = rustix::io::retry_on_intr(|| poll(&mut waited, None));
            if result.is_err() || !waited[1].revents().is_empty() {
                return;
            }
            self.look(&mut buffer);
        }
    }

    fn look(&self, buffer: &mut Vec<u8>) {
        let mut space = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.inotify, &mut space);
        // Until there is nothing more to read. Events that the kernel had to drop are ends that are missed.
        while let Ok(event) = reader.next() {
            let watch = event.wd();
            let mut state = self.state();
            let Some((inode, folder)) = state.watched.get(&watch).cloned() else { continue };
            if event.events().contains(ReadFlags::IGNORED) {
                state.watched.remove(&watch);
                continue;
            }
            drop(state);
            if !has_ended(&folder, buffer) {
                continue;
            }
            let Some(texts) = Texts::read(&folder, buffer) else { continue };
            let mut state = self.state();
            // Otherwise it was asked for meanwhile, and nobody will again.
            if state.watched.contains_key(&watch) {
                state.texts.insert(inode, texts);
            }
        }
    }
}

fn has_ended(folder: &Path, buffer: &mut Vec<u8>) -> bool {
    read_once(&folder.join("cgroup.events"), buffer).is_ok()
        && pairs(buffer).any(|(key, value)| key == b"populated" && value == 0)
}
