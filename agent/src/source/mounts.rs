//! The machine's mounts, read only when the kernel says that they have changed.

use std::path::Path;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::Paths;
use super::file::{FileError, NodeFile};
use super::recent::Recent;

/// A node with a hundred pods has some five hundred lines there, which take longer to write than all else of a pod.
#[derive(Debug)]
pub struct MountTable {
    file: NodeFile,
    watched: Option<OwnedFd>,
    /// Files of a recorded tree change without saying so.
    is_recorded: bool,
    text: Vec<u8>,
    /// What a file system says of itself may change without a word, such as that it found itself broken (`emergency_ro`).
    recent: Recent,
}

impl MountTable {
    /// That of process 1, or our own where it is hidden (proc(5), hidepid).
    pub fn new(paths: &Paths) -> Self {
        let [first, own] = ["1/mountinfo", "self/mountinfo"].map(|file| paths.procfs.join(file));
        let path = if first.exists() { first } else { own };
        MountTable {
            file: NodeFile::new(path),
            watched: None,
            is_recorded: paths.is_recorded(),
            text: Vec::new(),
            recent: Recent::default(),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// All lines, where they are others than the last time.
    ///
    /// # Errors
    /// What the kernel says; the next call reads again.
    pub fn changed(&mut self) -> Result<Option<&[u8]>, FileError> {
        let now = Instant::now();
        if self.watched.is_some() && !self.is_recorded && self.recent.holds(now) && !self.is_told() {
            return Ok(None);
        }
        self.recent.set(true, now);
        if self.watched.is_none() {
            // Before it is read, so that no change in between is missed.
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            let watched = rustix::fs::open(self.file.path(), flags, Mode::empty());
            self.watched = Some(watched.map_err(|source| self.error(source))?);
        }
        let text = match self.file.read() {
            Ok(text) => text,
            Err(error) => {
                self.watched = None;
                return Err(error);
            }
        };
        if text == self.text {
            return Ok(None);
        }
        self.text.clear();
        self.text.extend_from_slice(text);
        Ok(Some(&self.text))
    }

    /// The kernel tells each handle once of changes since it was opened or last asked (proc(5), /proc/pid/mounts).
    fn is_told(&self) -> bool {
        let Some(watched) = &self.watched else { return true };
        let mut asked = [PollFd::new(watched, PollFlags::PRI)];
        match poll(&mut asked, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
            Ok(_) => asked[0].revents().intersects(PollFlags::PRI | PollFlags::ERR),
            Err(_) => true,
        }
    }

    fn error(&self, source: Errno) -> FileError {
        FileError { path: self.file.path().to_owned(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::shown::Tree;

    #[test]
    fn mounts_of_this_machine_are_read_once_while_nobody_mounts() {
        // Other programs may mount at any time, but not at every time.
        let mut table = MountTable::new(&Paths::default());
        assert!(table.changed().unwrap().is_some() && !table.is_recorded);
        // With another text it would be told of whenever it is read.
        let mut is_read = || {
            table.text.clear();
            table.changed().unwrap().is_some()
        };
        assert!((0..100).any(|_| !is_read()));
        table.recent = Recent::default();
        table.text.clear();
        assert!(table.changed().unwrap().is_some(), "a minute has passed");
    }

    #[test]
    fn of_a_recorded_tree_every_change_is_seen() {
        let tree = Tree::new(&[("proc/1/mountinfo", "a\n")]);
        let mut table = MountTable::new(&tree.paths());
        assert_eq!(table.changed().unwrap(), Some(&b"a\n"[..]));
        assert_eq!(table.changed().unwrap(), None);
        tree.write("proc/1/mountinfo", b"b\n");
        assert_eq!(table.changed().unwrap(), Some(&b"b\n"[..]));
    }
}
