//! Why a collector has not done its work.

use std::path::PathBuf;

use rustix::io::Errno;

use crate::source::file::FileError;
use crate::source::process::Unread;

/// Why a collector has not, or not wholly, done its work. The variant is a metric label, the text is for the log.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// This kernel or node has no such thing.
    #[error("not on this node: {0}")]
    Absent(String),
    /// A file could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel says.
        source: Errno,
    },
    /// A file does not read as it should.
    #[error("{path}: {what}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A read did not come back in time; the last good reading is served.
    #[error("not done within {} s", .0.as_secs_f32())]
    Deadline(std::time::Duration),
    /// It panicked, which is a bug; the others go on.
    #[error("panicked: {0}")]
    Panic(String),
}

impl From<FileError> for CollectError {
    fn from(error: FileError) -> Self {
        CollectError::read(error.path, error.source)
    }
}

impl From<Unread> for CollectError {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Failed(path, source) => CollectError::read(path, source),
            Unread::Parse(path) => CollectError::parse(path, "does not read as the kernel writes it"),
            Unread::Denied => CollectError::read("/proc/PID/stat", rustix::io::Errno::ACCESS),
            Unread::Gone => CollectError::Absent("processes".to_owned()),
        }
    }
}

impl CollectError {
    /// What reading this file ended with.
    pub fn read(path: impl Into<PathBuf>, source: Errno) -> Self {
        let path = path.into();
        match source {
            Errno::NOENT => CollectError::Absent(path.display().to_string()),
            source => CollectError::Read { path, source },
        }
    }

    /// The variant, as a label.
    pub fn reason(&self) -> &'static str {
        match self {
            CollectError::Absent(_) => "absent",
            CollectError::Read { .. } => "read",
            CollectError::Parse { .. } => "parse",
            CollectError::Deadline(_) => "deadline",
            CollectError::Panic(_) => "panic",
        }
    }

    /// A file that does not read as it should.
    pub fn parse(path: impl Into<PathBuf>, what: impl Into<String>) -> Self {
        CollectError::Parse { path: path.into(), what: what.into() }
    }
}
