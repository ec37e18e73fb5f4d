//! Files that are read again and again on a handle that stays open.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::recent::Recent;

/// How many handles may stay open; past it, files are opened for each read.
#[derive(Debug)]
pub struct HandleBudget {
    most: usize,
    open: AtomicUsize,
}

impl HandleBudget {
    /// Handles left for sockets, directories and files that are not kept.
    const RESERVE: usize = 256;

    /// Raises the soft limit of open files to the hard one and takes what is left over the reserve.
    pub fn from_limits() -> Self {
        use rustix::process::{Resource, getrlimit, setrlimit};
        let mut limit = getrlimit(Resource::Nofile);
        let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
        if setrlimit(Resource::Nofile, raised).is_ok() {
            limit = raised;
        }
        let most = limit.current.map_or(usize::MAX, |n| n as usize);
        HandleBudget::new(most.saturating_sub(Self::RESERVE))
    }

    /// At most so many.
    pub fn new(most: usize) -> Self {
        HandleBudget { most, open: AtomicUsize::new(0) }
    }

    /// How many may be.
    pub fn most(&self) -> usize {
        self.most
    }

    /// How many are open.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    fn take(&self) -> bool {
        self.open
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < self.most).then_some(n + 1))
            .is_ok()
    }

    fn give_back(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How the kernel makes a file, by which a read shows that it came to the end. A read of nothing always does, but takes a
/// call more, and for a table such as `/proc/net/udp` another walk through all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// In one piece, so that a read that leaves room in the buffer has all of it: the files of cgroups and of /sys
    /// (fs/kernfs/file.c), but for lists of processes, settings (kernel/sysctl.c), and what is a single record to /proc (fs/seq_file.c, single_open).
    Whole,
    /// In records of less than [`HALF_A_PAGE`] each. A read is cut off where the next record has no room in a page
    /// (fs/seq_file.c, seq_read_iter), so that one of less than half a page was not cut off.
    InShortRecords,
    /// In records that may be of any length.
    InRecords,
}

/// Of the smallest pages that there are.
const HALF_A_PAGE: usize = 2 << 10;

impl Made {
    /// Whether a read of so many bytes, which left room or not, came to the end.
    fn has_ended(self, read: usize, is_full: bool) -> bool {
        match self {
            Made::Whole => !is_full,
            Made::InShortRecords => read < HALF_A_PAGE && !is_full,
            Made::InRecords => false,
        }
    }
}

/// One file that is read at every scrape.
#[derive(Debug, Default)]
pub enum KeptFile {
    /// Not read yet, or the budget was spent when it was.
    #[default]
    Closed,
    /// Kept open.
    Open(OwnedFd),
    /// The kernel has no such file here; it is not asked for again.
    Absent,
}

impl KeptFile {
    /// Reads the file into `buffer`, which it replaces; `path` is asked for only when the file must be opened.
    ///
    /// # Errors
    /// What the kernel says. `NOENT` once means absent for good, and is said again without asking.
    pub fn read(
        &mut self,
        budget: &HandleBudget,
        path: impl FnOnce() -> std::path::PathBuf,
        buffer: &mut Vec<u8>,
        made: Made,
    ) -> Result<(), Errno> {
        match self {
            KeptFile::Absent => Err(Errno::NOENT),
            KeptFile::Open(fd) => read_at_start(fd, buffer, made),
            KeptFile::Closed => {
                let fd = match open(&path()) {
                    Ok(fd) => fd,
                    Err(Errno::NOENT) => {
                        *self = KeptFile::Absent;
                        return Err(Errno::NOENT);
                    }
                    Err(error) => return Err(error),
                };
                let result = read_at_start(&fd, buffer, made);
                if budget.take() {
                    *self = KeptFile::Open(fd);
                }
                result
            }
        }
    }

    /// Lets go of the handle, and of the knowledge that there is no such file.
    pub fn close(&mut self, budget: &HandleBudget) {
        if let KeptFile::Open(_) = std::mem::take(self) {
            budget.give_back();
        }
    }
}

/// A file that could not be read.
#[derive(Debug)]
pub struct FileError {
    /// The file.
    pub path: std::path::PathBuf,
    /// What the kernel says.
    pub source: Errno,
}

/// A file of the machine that one collector reads at every scrape.
#[derive(Debug)]
pub struct NodeFile {
    path: std::path::PathBuf,
    made: Made,
    file: KeptFile,
    /// That there is none.
    absence: Recent,
    buffer: Vec<u8>,
}

impl NodeFile {
    /// The file at this path, which is opened when first read, and may be made in any way.
    pub fn new(path: std::path::PathBuf) -> Self {
        NodeFile {
            path,
            made: Made::InRecords,
            file: KeptFile::Closed,
            absence: Recent::default(),
            buffer: Vec::new(),
        }
    }

    /// A file that the kernel makes in one piece.
    pub fn whole(path: std::path::PathBuf) -> Self {
        NodeFile { made: Made::Whole, ..NodeFile::new(path) }
    }

    /// A file of records that are all shorter than half a page.
    pub fn in_short_records(path: std::path::PathBuf) -> Self {
        NodeFile { made: Made::InShortRecords, ..NodeFile::new(path) }
    }

    /// The whole of it as it is now; where there was none, it is looked for after a minute.
    ///
    /// # Errors
    /// What the kernel says, with the path.
    pub fn read(&mut self) -> Result<&[u8], FileError> {
        // A machine has a handful of these, so they do not count against the budget of handles.
        let unbounded = HandleBudget::new(usize::MAX);
        if matches!(self.file, KeptFile::Absent) {
            if self.absence.holds(Instant::now()) {
                return Err(FileError { path: self.path.clone(), source: Errno::NOENT });
            }
            self.file = KeptFile::Closed;
        }
        let mut result = self.file.read(&unbounded, || self.path.clone(), &mut self.buffer, self.made);
        if result.is_err() && matches!(self.file, KeptFile::Open(_)) {
            // What its module made went with it, and a module that is loaded again makes another file.
            self.file = KeptFile::Closed;
            result = self.file.read(&unbounded, || self.path.clone(), &mut self.buffer, self.made);
        }
        if result == Err(Errno::NOENT) {
            self.absence.set(true, Instant::now());
        }
        match result {
            Ok(()) => Ok(&self.buffer),
            Err(source) => Err(FileError { path: self.path.clone(), source }),
        }
    }

    /// Goes through the lines of a file that may be longer than what is good to hold at once, such as the list of all
    /// sockets; answers whether it ends with a line. What follows the last line is not shown.
    ///
    /// # Errors
    /// What the kernel says, with the path.
    pub fn each_line(&mut self, found: impl FnMut(&[u8])) -> Result<bool, FileError> {
        self.go_through(found).map_err(|source| FileError { path: self.path.clone(), source })
    }

    fn go_through(&mut self, mut found: impl FnMut(&[u8])) -> Result<bool, Errno> {
        /// A page of the kernel's own buffer holds less; a longer line makes room for itself.
        const PIECE: usize = 32 << 10;
        let fd = match std::mem::take(&mut self.file) {
            KeptFile::Open(fd) => fd,
            KeptFile::Closed | KeptFile::Absent => open(&self.path)?,
        };
        let buffer = &mut self.buffer;
        buffer.clear();
        let mut offset = 0;
        loop {
            buffer.reserve(PIECE);
            // Each read goes on where the last one ended, which is how a seq_file need not begin anew.
            let read = rustix::io::retry_on_intr(|| {
                rustix::io::pread(&fd, rustix::buffer::spare_capacity(buffer), offset)
            })?;
            offset += read as u64;
            let is_full = buffer.len() == buffer.capacity();
            if let Some(last) = buffer.iter().rposition(|b| *b == b'\n') {
                super::text::lines(&buffer[..=last]).for_each(&mut found);
                buffer.drain(..=last);
            }
            if read == 0 || self.made.has_ended(read, is_full) {
                break;
            }
        }
        self.file = KeptFile::Open(fd);
        Ok(buffer.is_empty())
    }

    /// What was read last.
    pub fn last(&self) -> &[u8] {
        &self.buffer
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Reads a file once.
///
/// # Errors
/// What the kernel says.
pub fn read_once(path: &Path, buffer: &mut Vec<u8>) -> Result<(), Errno> {
    read_at_start(open(path)?, buffer, Made::InRecords)
}

/// Reads a file of the node's root file system once; links are followed as the node itself would.
///
/// # Errors
/// What the kernel says.
pub fn read_in_root(root: &Path, path: &str, buffer: &mut Vec<u8>) -> Result<(), Errno> {
    let relative = path.trim_start_matches('/');
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let fd = match root.parent() {
        None => open(&root.join(relative))?,
        Some(_) => {
            let folder = rustix::fs::open(root, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
            let look = || rustix::fs::openat2(&folder, relative, flags, Mode::empty(), ResolveFlags::IN_ROOT);
            /// While anything on the machine is renamed or mounted, `..` cannot be followed (openat2(2), EAGAIN).
            const TRIES: usize = 100;
            let mut found = look();
            for _ in 1..TRIES {
                match found {
                    Err(Errno::AGAIN) => found = look(),
                    _ => break,
                }
            }
            match found {
                // Linux 5.6 knows it first, and some sandboxes never learn.
                Err(Errno::NOSYS | Errno::PERM) => open(&root.join(relative))?,
                result => result?,
            }
        }
    };
    read_at_start(fd, buffer, Made::InRecords)
}

fn open(path: &Path) -> Result<OwnedFd, Errno> {
    // NONBLOCK: a FIFO in a place where a file is expected must not stop the agent.
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty())
}

fn read_at_start(fd: impl AsFd, buffer: &mut Vec<u8>, made: Made) -> Result<(), Errno> {
    /// No file that is read here comes near it; what does is cut off.
    const LONGEST: usize = 4 << 20;
    if buffer.capacity() == 0 {
        buffer.reserve(8 << 10);
    }
    buffer.clear();
    loop {
        if buffer.spare_capacity_mut().is_empty() {
            buffer.reserve(buffer.capacity());
        }
        let offset = buffer.len() as u64;
        let read = rustix::io::retry_on_intr(|| {
            rustix::io::pread(&fd, rustix::buffer::spare_capacity(buffer), offset)
        })?;
        let is_full = buffer.len() == buffer.capacity();
        if read == 0 || made.has_ended(read, is_full) || buffer.len() >= LONGEST {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_file_is_read_again_from_its_start() {
        let path = std::env::temp_dir().join(format!("kept-{}", std::process::id()));
        std::fs::write(&path, "one").unwrap();
        let budget = HandleBudget::new(1);
        let (mut file, mut buffer) = (KeptFile::Closed, Vec::new());
        file.read(&budget, || path.clone(), &mut buffer, Made::InRecords).unwrap();
        assert_eq!(buffer, b"one");
        std::fs::write(&path, "two and a half").unwrap();
        file.read(&budget, || unreachable!("it is open"), &mut buffer, Made::InRecords).unwrap();
        assert_eq!(buffer, b"two and a half");
        assert_eq!(budget.open(), 1);
        let mut second = KeptFile::Closed;
        second.read(&budget, || path.clone(), &mut buffer, Made::InRecords).unwrap();
        assert!(matches!(second, KeptFile::Closed), "the budget is spent");
        file.close(&budget);
        assert_eq!(budget.open(), 0);
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn lines_are_whole_however_the_file_is_read() {
        let path = std::env::temp_dir().join(format!("lines-{}", std::process::id()));
        let mut lines: Vec<String> = (0..9000).map(|n| format!("line {n}")).collect();
        lines.push("long".repeat(30_000));
        std::fs::write(&path, lines.join("\n") + "\ncut").unwrap();
        let makes = [NodeFile::new, NodeFile::whole, NodeFile::in_short_records];
        for mut file in makes.map(|make| make(path.clone())) {
            let mut found = Vec::new();
            let is_whole = file.each_line(|line| found.push(String::from_utf8(line.to_vec()).unwrap()));
            assert!(!is_whole.unwrap());
            assert!(found == lines);
        }
        let mut file = NodeFile::new(path.clone());
        std::fs::write(&path, "").unwrap();
        assert!(file.each_line(|_| unreachable!()).unwrap());
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn an_absent_file_is_asked_for_once() {
        let budget = HandleBudget::new(1);
        let (mut file, mut buffer) = (KeptFile::Closed, Vec::new());
        let missing = || std::env::temp_dir().join("no such file here");
        assert_eq!(file.read(&budget, missing, &mut buffer, Made::InRecords), Err(Errno::NOENT));
        assert_eq!(file.read(&budget, || unreachable!(), &mut buffer, Made::InRecords), Err(Errno::NOENT));
    }

    #[test]
    fn links_in_another_root_stay_in_it() {
        let tree = crate::metric::shown::Tree::new(&[
            ("etc/os-release", "-> /usr/lib/os-release"),
            ("usr/lib/os-release", "inside\n"),
            ("etc/outside", "-> ../../../../../../usr/lib/os-release"),
        ]);
        let mut buffer = Vec::new();
        for path in ["/etc/os-release", "/etc/outside"] {
            read_in_root(tree.path(), path, &mut buffer).unwrap();
            assert_eq!(buffer, b"inside\n");
        }
        assert_eq!(read_in_root(tree.path(), "/etc/none", &mut buffer), Err(Errno::NOENT));
    }

    #[test]
    fn a_file_longer_than_the_buffer_is_read_whole() {
        let path = std::env::temp_dir().join(format!("long-{}", std::process::id()));
        let text = "0123456789".repeat(5000);
        std::fs::write(&path, &text).unwrap();
        for made in [Made::Whole, Made::InShortRecords, Made::InRecords] {
            let mut buffer = Vec::with_capacity(100);
            read_at_start(open(&path).unwrap(), &mut buffer, made).unwrap();
            assert_eq!(buffer.len(), text.len());
        }
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_file_whose_handle_fails_is_opened_anew() {
        // A handle on a folder opens and cannot be read, as one on a file of a module that went.
        let dead = rustix::fs::open(std::env::temp_dir(), OFlags::RDONLY, Mode::empty()).unwrap();
        let path = std::env::temp_dir().join(format!("anew-{}", std::process::id()));
        std::fs::write(&path, "again").unwrap();
        let mut file = NodeFile::new(path.clone());
        file.file = KeptFile::Open(dead);
        assert_eq!(file.read().unwrap(), b"again");
        std::fs::remove_file(&path).unwrap();
    }
}
