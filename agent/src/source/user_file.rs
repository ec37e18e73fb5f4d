//! Files that users write: regular ones only, up to a length, with a stamp that tells whether they have changed.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fd::AsFd;
use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

/// What tells one content of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    /// A file can be given an older time of modification, but not of this change.
    changed: (i64, i64),
}

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub enum UserFileError {
    /// What the kernel says.
    #[error("{}", std::io::Error::from(*.0))]
    Kernel(Errno),
    /// A directory, a FIFO, a device: what would never end or never begin.
    #[error("it is no regular file")]
    NotRegular,
    /// Longer than anybody would mean it to be.
    #[error("it is longer than {0} bytes")]
    TooLong(u64),
}

impl From<Errno> for UserFileError {
    fn from(error: Errno) -> Self {
        UserFileError::Kernel(error)
    }
}

impl Stamp {
    /// The stamp of the file as it is now.
    ///
    /// # Errors
    /// When there is no such file, or it is no regular one.
    pub fn of(path: &Path) -> Result<Self, UserFileError> {
        Stamp::new(&rustix::io::retry_on_intr(|| rustix::fs::stat(path))?)
    }

    fn new(stat: &Stat) -> Result<Self, UserFileError> {
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(UserFileError::NotRegular);
        }
        Ok(Stamp {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: stat.st_size as u64,
            modified: (stat.st_mtime, stat.st_mtime_nsec as i64),
            changed: (stat.st_ctime, stat.st_ctime_nsec as i64),
        })
    }

    /// When it was modified, in whole seconds since 1970.
    pub fn modified(&self) -> i64 {
        self.modified.0
    }

    /// How long it is.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether a change after `now` would give it another stamp: the kernel's clock for files moves in steps, and the
    /// clock of another machine is not ours.
    pub fn is_settled(&self, now: SystemTime) -> bool {
        const STEP: Duration = Duration::from_secs(2);
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        now.saturating_sub(STEP).as_secs() as i64 > self.changed.0
    }
}

/// Reads the whole file into `buffer`, which it replaces.
///
/// # Errors
/// When it cannot be read, is no regular file or is longer than `longest`.
pub fn read(path: &Path, longest: u64, buffer: &mut Vec<u8>) -> Result<Stamp, UserFileError> {
    buffer.clear();
    // NONBLOCK: opening a FIFO must not wait for its writer.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = rustix::io::retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty()))?;
    // What is written while we read has a later stamp than this one, and is read again.
    let stamp = Stamp::new(&rustix::fs::fstat(&file)?)?;
    if stamp.size > longest {
        return Err(UserFileError::TooLong(longest));
    }
    buffer.reserve(stamp.size as usize + 1);
    while read_more(&file, buffer)? > 0 {
        if buffer.len() as u64 > longest {
            return Err(UserFileError::TooLong(longest));
        }
    }
    Ok(stamp)
}

fn read_more(file: impl AsFd, buffer: &mut Vec<u8>) -> Result<usize, Errno> {
    if buffer.len() == buffer.capacity() {
        buffer.reserve(8 << 10);
    }
    rustix::io::retry_on_intr(|| rustix::io::read(&file, rustix::buffer::spare_capacity(buffer)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_up_to_the_length_are_read_and_a_change_shows() {
        let folder = std::env::temp_dir().join(format!("user-file-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (file, fifo) = (folder.join("file"), folder.join("fifo"));
        let now = SystemTime::now();
        std::fs::write(&file, "0123456789").unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, Mode::RUSR | Mode::WUSR).unwrap();
        let mut buffer = b"before".to_vec();
        let stamp = read(&file, 10, &mut buffer).unwrap();
        assert_eq!((buffer.as_slice(), stamp), (&b"0123456789"[..], Stamp::of(&file).unwrap()));
        assert!(!stamp.is_settled(now));
        assert!(stamp.is_settled(SystemTime::now() + Duration::from_secs(60)));
        std::fs::write(&file, "0123456789a").unwrap();
        assert_ne!(stamp, Stamp::of(&file).unwrap());
        let error = |path: &Path| read(path, 10, &mut Vec::new()).unwrap_err().to_string();
        assert_eq!(error(&file), "it is longer than 10 bytes");
        assert_eq!(error(&fifo), "it is no regular file");
        assert_eq!(error(&folder), "it is no regular file");
        assert!(error(&folder.join("none")).contains("No such file"));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
