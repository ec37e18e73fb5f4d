//! The files of one process or thread, read without keeping a handle and without allocating for each.

mod parse;

use std::path::{Path, PathBuf};

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Mode, OFlags, RawDir, SeekFrom};
use rustix::io::Errno;

use super::text::number;
pub use parse::{
    Comm, Io, SmapsRollup, Stat, Status, comm, container_id, containers_in, effective_capabilities, io,
    is_below_own_root, open_files_limit, smaps_rollup, stat, status,
};

/// A process, or one of its threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// The process as a whole.
    Process(u32),
    /// A thread of it.
    Thread(u32, u32),
}

/// A file of a process (proc_pid(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskFile {
    /// `stat`
    Stat,
    /// `status`
    Status,
    /// `cmdline`
    Cmdline,
    /// `cgroup`
    Cgroup,
    /// `limits`
    Limits,
    /// `io`, for which the reader must be allowed to trace the process.
    Io,
    /// `smaps_rollup`, likewise; the kernel goes through every mapping for it.
    SmapsRollup,
    /// `wchan`, which says `0` to who is not allowed to trace the process.
    Wchan,
}

impl TaskFile {
    fn name(self) -> &'static [u8] {
        match self {
            TaskFile::Stat => b"stat",
            TaskFile::Status => b"status",
            TaskFile::Cmdline => b"cmdline",
            TaskFile::Cgroup => b"cgroup",
            TaskFile::Limits => b"limits",
            TaskFile::Io => b"io",
            TaskFile::SmapsRollup => b"smaps_rollup",
            TaskFile::Wchan => b"wchan",
        }
    }
}

/// Why a file of a process was not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unread {
    /// The process has ended.
    Gone,
    /// The kernel does not let us read this of this process.
    Denied,
    /// Anything else.
    Failed(PathBuf, Errno),
    /// It does not read as it should.
    Parse(PathBuf),
}

/// Reads the files of processes below a procfs.
#[derive(Debug)]
pub struct ProcessFiles {
    procfs: PathBuf,
    folder: Option<OwnedFd>,
    listing: Vec<u8>,
    path: Vec<u8>,
    text: Vec<u8>,
}

/// What a command line or a list of cgroups may have; more is cut off.
const LONGEST: usize = 64 << 10;

impl ProcessFiles {
    /// Those below this folder.
    pub fn new(procfs: &Path) -> Self {
        let (listing, path, text) = (Vec::new(), Vec::new(), Vec::new());
        ProcessFiles { procfs: procfs.to_owned(), folder: None, listing, path, text }
    }

    /// The numbers of all processes, in order.
    ///
    /// # Errors
    /// When the folder cannot be read, or not to its end; then there are those up to there.
    pub fn processes(&mut self, pids: &mut Vec<u32>) -> Result<(), Unread> {
        pids.clear();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = match self.folder.take() {
            Some(folder) => rustix::fs::seek(&folder, SeekFrom::Start(0)).map(|_| folder),
            None => rustix::fs::open(&self.procfs, flags, Mode::empty()),
        };
        let folder = folder.map_err(|source| Unread::Failed(self.procfs.clone(), source))?;
        let listed = numbers(&folder, &mut self.listing, pids);
        self.folder = Some(folder);
        listed.map_err(|source| Unread::Failed(self.procfs.clone(), source))
    }

    /// The numbers of a process's threads, in order.
    ///
    /// # Errors
    /// See [`Unread`].
    pub fn threads(&mut self, pid: u32, tids: &mut Vec<u32>) -> Result<(), Unread> {
        set(&mut self.path, &[itoa::Buffer::new().format(pid).as_bytes(), b"/task"]);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = self.folder.as_ref().ok_or(Unread::Gone)?;
        let task = rustix::fs::openat(folder, self.path.as_slice(), flags, Mode::empty());
        let task = task.map_err(|source| self.unread(source))?;
        numbers(&task, &mut self.listing, tids).map_err(|source| self.unread(source))
    }

    /// The text of a file.
    ///
    /// # Errors
    /// See [`Unread`].
    pub fn read(&mut self, task: Task, file: TaskFile) -> Result<&[u8], Unread> {
        self.locate(task, file.name());
        self.text.clear();
        self.text.reserve(4 << 10);
        match self.fill() {
            Ok(()) => Ok(&self.text),
            Err(source) => Err(self.unread(source)),
        }
    }

    fn fill(&mut self) -> Result<(), Errno> {
        let folder = self.folder.as_ref().ok_or(Errno::NOENT)?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(folder, self.path.as_slice(), flags, Mode::empty())?;
        loop {
            // The kernel gives the whole of each of these in one read where there is room for it.
            rustix::io::retry_on_intr(|| {
                rustix::io::read(&file, rustix::buffer::spare_capacity(&mut self.text))
            })?;
            if self.text.len() < self.text.capacity() || self.text.len() >= LONGEST {
                return Ok(());
            }
            self.text.reserve(self.text.capacity());
        }
    }

    /// What a file says, by its parser.
    ///
    /// # Errors
    /// See [`Unread`].
    pub fn parsed<T>(
        &mut self,
        task: Task,
        file: TaskFile,
        parse: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<T, Unread> {
        let parsed = parse(self.read(task, file)?);
        parsed.ok_or_else(|| match self.text.is_empty() {
            // A process that ends while it is read leaves nothing.
            true => Unread::Gone,
            false => Unread::Parse(self.whole_path()),
        })
    }

    /// How many files a process has open.
    ///
    /// # Errors
    /// See [`Unread`].
    pub fn open_files(&mut self, pid: u32) -> Result<u64, Unread> {
        self.locate(Task::Process(pid), b"fd");
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = self.folder.as_ref().ok_or(Unread::Gone)?;
        let fds = rustix::fs::openat(folder, self.path.as_slice(), flags, Mode::empty());
        let fds = fds.map_err(|source| self.unread(source))?;
        // Since Linux 6.2 the size of the folder is the number (fs/proc/fd.c, proc_fd_getattr); before, it is 0.
        let stat =
            rustix::fs::statat(&fds, c"", AtFlags::EMPTY_PATH).map_err(|source| self.unread(source))?;
        let is_procfs = rustix::fs::fstatfs(&fds).is_ok_and(|s| s.f_type == rustix::fs::PROC_SUPER_MAGIC);
        if is_procfs && stat.st_size > 0 {
            return Ok(stat.st_size.unsigned_abs());
        }
        let mut count = 0;
        let mut entries = RawDir::new(&fds, spare(&mut self.listing, 4 << 10));
        while let Some(Ok(entry)) = entries.next() {
            count += u64::from(number(entry.file_name().to_bytes()).is_some());
        }
        Ok(count)
    }

    fn locate(&mut self, task: Task, name: &[u8]) {
        let (mut one, mut two) = (itoa::Buffer::new(), itoa::Buffer::new());
        match task {
            Task::Process(pid) => set(&mut self.path, &[one.format(pid).as_bytes(), b"/", name]),
            Task::Thread(pid, tid) => {
                let (pid, tid) = (one.format(pid).as_bytes(), two.format(tid).as_bytes());
                set(&mut self.path, &[pid, b"/task/", tid, b"/", name]);
            }
        }
    }

    fn whole_path(&self) -> PathBuf {
        self.procfs.join(String::from_utf8_lossy(&self.path).as_ref())
    }

    fn unread(&self, source: Errno) -> Unread {
        match source {
            Errno::NOENT | Errno::SRCH => Unread::Gone,
            Errno::ACCESS | Errno::PERM => Unread::Denied,
            source => Unread::Failed(self.whole_path(), source),
        }
    }
}

/// Makes a path of its parts.
fn set(path: &mut Vec<u8>, parts: &[&[u8]]) {
    path.clear();
    parts.iter().for_each(|part| path.extend_from_slice(part));
}

/// Room for so many bytes.
fn spare(buffer: &mut Vec<u8>, size: usize) -> &mut [std::mem::MaybeUninit<u8>] {
    buffer.clear();
    buffer.reserve(size);
    buffer.spare_capacity_mut()
}

/// The names in a folder that are numbers, in order. It ends early where the process does.
fn numbers(folder: &OwnedFd, listing: &mut Vec<u8>, found: &mut Vec<u32>) -> Result<(), Errno> {
    found.clear();
    let mut entries = RawDir::new(folder, spare(listing, 32 << 10));
    let listed = loop {
        match entries.next() {
            None | Some(Err(Errno::NOENT | Errno::SRCH)) => break Ok(()),
            Some(Err(source)) => break Err(source),
            Some(Ok(entry)) => {
                found.extend(number(entry.file_name().to_bytes()).and_then(|n| u32::try_from(n).ok()));
            }
        }
    };
    // As the kernel gives them, but not every file system.
    found.sort_unstable();
    listed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::shown::Tree;

    #[test]
    fn a_process_that_is_not_there_is_gone_and_one_that_is_half_there_has_the_rest() {
        let long = "x".repeat(9000);
        let tree = Tree::new(&[
            ("proc/20/cmdline", long.as_str()),
            ("proc/3/stat", ""),
            ("proc/20/task/21/stat", ""),
            ("proc/20/task/20/stat", ""),
            ("proc/self/stat", ""),
            ("proc/20/fd/0", ""),
            ("proc/20/fd/1", ""),
        ]);
        let mut files = ProcessFiles::new(&tree.path().join("proc"));
        let mut found = Vec::new();
        files.processes(&mut found).unwrap();
        assert_eq!(found, [3, 20]);
        let mut none = ProcessFiles::new(&tree.path().join("none"));
        none.processes(&mut found).unwrap_err();
        assert!(found.is_empty(), "none of those before");
        files.threads(20, &mut found).unwrap();
        assert_eq!(found, [20, 21]);
        assert_eq!(files.read(Task::Process(20), TaskFile::Cmdline).unwrap().len(), 9000);
        assert_eq!(files.read(Task::Process(20), TaskFile::Stat), Err(Unread::Gone));
        assert_eq!(files.parsed(Task::Process(3), TaskFile::Stat, io), Err(Unread::Gone));
        assert_eq!(files.open_files(20), Ok(2));
        assert_eq!(files.threads(4, &mut found), Err(Unread::Gone));
        let path = tree.path().join("proc/20/cmdline");
        assert_eq!(
            files.parsed(Task::Process(20), TaskFile::Cmdline, |_| None::<()>),
            Err(Unread::Parse(path))
        );
    }

    #[test]
    fn of_the_own_process_everything_can_be_read() {
        let mut files = ProcessFiles::new(Path::new("/proc"));
        let mut found = Vec::new();
        files.processes(&mut found).unwrap();
        let own = std::process::id();
        assert!(found.contains(&own));
        let process = Task::Process(own);
        let start = |s: &[u8]| stat(s).map(|s| s.start);
        let started = files.parsed(process, TaskFile::Stat, start).unwrap();
        assert!(started > 0);
        assert_eq!(files.parsed(process, TaskFile::Stat, start), Ok(started));
        files.parsed(process, TaskFile::Status, status).unwrap();
        assert!(files.parsed(process, TaskFile::Limits, open_files_limit).unwrap() > 0);
        assert!(files.open_files(own).unwrap() >= 3);
    }
}
