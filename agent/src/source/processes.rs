//! All processes and their threads, read without allocating for each.

use std::path::{Path, PathBuf};

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, RawDir, SeekFrom};
use rustix::io::Errno;

use super::text::{number, words};

/// The processes below a procfs.
#[derive(Debug)]
pub struct Processes {
    procfs: PathBuf,
    folder: Option<OwnedFd>,
    listing: Vec<u8>,
    tasks: Vec<u8>,
    path: Vec<u8>,
    stat: Vec<u8>,
}

/// One process or thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// A process, with its state as a letter (proc_pid_stat(5)) and how many threads it has.
    Process(u8, u64),
    /// A thread, with its state; the first one of a process too.
    Thread(u8),
}

/// Why they could not all be read.
#[derive(Debug)]
pub enum ProcessError {
    /// The kernel does not let us read this.
    Read(PathBuf, Errno),
    /// It does not read as it should.
    Parse(PathBuf),
}

impl Processes {
    /// Those below this folder.
    pub fn new(procfs: &Path) -> Self {
        let (listing, tasks, path, stat) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Processes { procfs: procfs.to_owned(), folder: None, listing, tasks, path, stat }
    }

    /// Shows each process and thread; one that ends meanwhile is passed over.
    ///
    /// # Errors
    /// The first that could not be read.
    pub fn each(&mut self, mut found: impl FnMut(Task)) -> Result<(), ProcessError> {
        let folder = self.open().map_err(|source| ProcessError::Read(self.procfs.clone(), source))?;
        let Processes { procfs, listing, tasks, path, stat, .. } = self;
        let mut entries = RawDir::new(&folder, spare(listing, 32 << 10));
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(|source| ProcessError::Read(procfs.clone(), source))?;
            let pid = entry.file_name().to_bytes();
            if number(pid).is_none() {
                continue;
            }
            set(path, &[pid, b"/stat"]);
            let Some((state, threads)) = read(procfs, &folder, path, stat)? else { continue };
            found(Task::Process(state, threads));
            if threads == 1 {
                found(Task::Thread(state));
                continue;
            }
            set(path, &[pid, b"/task"]);
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let Ok(task) = rustix::fs::openat(&folder, path.as_slice(), flags, Mode::empty()) else {
                continue;
            };
            let mut entries = RawDir::new(&task, spare(tasks, 4 << 10));
            // It ends early where the process does.
            while let Some(Ok(entry)) = entries.next() {
                let tid = entry.file_name().to_bytes();
                if tid == pid {
                    found(Task::Thread(state));
                } else if number(tid).is_some() {
                    set(path, &[pid, b"/task/", tid, b"/stat"]);
                    if let Some((state, _)) = read(procfs, &folder, path, stat)? {
                        found(Task::Thread(state));
                    }
                }
            }
        }
        self.folder = Some(folder);
        Ok(())
    }

    fn open(&mut self) -> Result<OwnedFd, Errno> {
        match self.folder.take() {
            Some(folder) => rustix::fs::seek(&folder, SeekFrom::Start(0)).map(|_| folder),
            None => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                rustix::fs::open(&self.procfs, flags, Mode::empty())
            }
        }
    }
}

/// Makes a path of its parts.
pub(super) fn set(path: &mut Vec<u8>, parts: &[&[u8]]) {
    path.clear();
    parts.iter().for_each(|part| path.extend_from_slice(part));
}

/// Room for so many bytes.
pub(super) fn spare(buffer: &mut Vec<u8>, size: usize) -> &mut [std::mem::MaybeUninit<u8>] {
    buffer.clear();
    buffer.reserve(size);
    buffer.spare_capacity_mut()
}

/// The state and how many threads; nothing where it has ended.
fn read(
    procfs: &Path,
    folder: &OwnedFd,
    path: &[u8],
    stat: &mut Vec<u8>,
) -> Result<Option<(u8, u64)>, ProcessError> {
    let whole = || procfs.join(String::from_utf8_lossy(path).as_ref());
    stat.clear();
    // One line of at most about 400 bytes, which one read gives whole.
    stat.reserve(4 << 10);
    let read = rustix::fs::openat(folder, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .and_then(|file| rustix::io::read(&file, rustix::buffer::spare_capacity(stat)));
    match read {
        Ok(_) => parse(stat).map(Some).ok_or_else(|| ProcessError::Parse(whole())),
        Err(Errno::NOENT | Errno::SRCH) => Ok(None),
        Err(source) => Err(ProcessError::Read(whole(), source)),
    }
}

/// `1 (a) b) S 0 …`: the name in parentheses may hold anything; of what follows the first is the state and the 18th the
/// number of threads (proc_pid_stat(5)).
fn parse(stat: &[u8]) -> Option<(u8, u64)> {
    let end = stat.iter().rposition(|b| *b == b')')?;
    let mut columns = words(&stat[end + 1..]);
    let state = *columns.next()?.first()?;
    Some((state, number(columns.nth(16)?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_whatever_follows_it() {
        let stat = |name: &str| format!("7 ({name}) S 1 7 7 0 -1 4194304 1 0 0 0 1 2 0 0 20 0 3 0 100 0\n");
        for name in ["init", "a) R 1", "x\ny", ""] {
            assert_eq!(parse(stat(name).as_bytes()), Some((b'S', 3)), "{name}");
        }
        assert_eq!(parse(b"7 (a) S 1 7 7 0 -1 4194304 1 0 0 0 1 2 0 0 20 0"), None);
        assert_eq!(parse(b""), None);
    }
}
