//! The configuration in force on disk, so that a restart needs no operator.
//!
//! The file is two lines of JSON: a header with the format and the SHA-256 of all that follows it, and what is in force.
//! Whatever befalls the disk, it is read whole or refused; one that is refused is kept beside the next one that is stored.
//! Only its owner reads it, since the keys of redactions may be in it.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::in_force::InForce;

/// A file in a folder of the agent's own.
#[derive(Clone, Debug)]
pub struct LastGood {
    folder: PathBuf,
    /// Whether what is there is somebody else's, or damaged.
    is_refused: Arc<AtomicBool>,
}

/// Why what is on disk cannot be used. It is left for the administrator to see.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// It is not what this version writes.
    #[error("{}: {source}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: DecodeError,
    },
}

/// Why bytes are no configuration that was stored.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// It does not begin as such a file does.
    #[error("not a last good configuration")]
    Header,
    /// Another version of the agent wrote it.
    #[error("format {0}, this version reads {FORMATS}; a newer agent wrote it")]
    Format(u32),
    /// It is not what was written.
    #[error("its checksum does not hold: it was cut or changed after it was written")]
    Checksum,
    /// It is what was written, and still means nothing here. What is there is not said: it may be a key.
    #[error("line {}, column {}: not what this version writes", .0.line(), .0.column())]
    Content(serde_json::Error),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Header {
    format: u32,
    /// Of everything behind the first line, in lower-case hexadecimal digits.
    sha256: String,
}

/// The format before checksums.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct First {
    in_force: InForce,
    #[serde(rename = "format")]
    _format: u32,
}

const FORMAT: u32 = 2;
const FORMATS: &str = "1 and 2";
const NAME: &str = "last-good.json";
const NEW: &str = "last-good.json.new";
const REFUSED: &str = "last-good.json.refused";
/// For the owner alone.
const MODE: u32 = 0o600;

/// Every file that is ever in the folder.
pub const FILES: [&str; 3] = [NAME, NEW, REFUSED];

impl LastGood {
    /// In this folder.
    pub fn new(folder: &Path) -> Self {
        LastGood { folder: folder.to_owned(), is_refused: Arc::default() }
    }

    /// The file, for messages.
    pub fn path(&self) -> PathBuf {
        self.folder.join(NAME)
    }

    /// What was in force when it was last stored; nothing where nothing was.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn load(&self) -> Result<Option<InForce>, LoadError> {
        let path = self.path();
        match fs::read(&path) {
            Ok(bytes) => decode(&bytes).map(Some).map_err(|source| {
                self.refuse();
                LoadError::Content { path, source }
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(LoadError::Read { path, source }),
        }
    }

    /// Has what is there kept for the administrator, under another name, when something else is stored.
    pub fn refuse(&self) {
        self.is_refused.store(true, Ordering::Relaxed);
    }

    /// Stores what is in force; whoever reads it finds this or what was there before, never a part.
    ///
    /// # Errors
    /// What the kernel says, with the file.
    pub fn store(&self, in_force: &InForce) -> io::Result<()> {
        let write = || {
            let new = self.folder.join(NEW);
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(MODE).open(&new)?;
            // One that was left over has the mode that it had.
            file.set_permissions(Permissions::from_mode(MODE))?;
            file.write_all(&encode(in_force)?)?;
            file.sync_all()?;
            if self.is_refused.swap(false, Ordering::Relaxed) {
                // It may be gone: then the administrator has taken it.
                let _ = fs::rename(self.path(), self.folder.join(REFUSED));
            }
            fs::rename(&new, self.path())?;
            // The name itself is durable only once the folder is.
            File::open(&self.folder)?.sync_all()
        };
        write().map_err(|e| io::Error::new(e.kind(), format!("{NAME} in {}: {e}", self.folder.display())))
    }
}

/// The bytes of a file.
///
/// # Errors
/// None for what can be in force; the type of the library's.
pub fn encode(in_force: &InForce) -> serde_json::Result<Vec<u8>> {
    let mut content = serde_json::to_vec(in_force)?;
    content.push(b'\n');
    let mut bytes = serde_json::to_vec(&Header { format: FORMAT, sha256: sha256(&content) })?;
    bytes.push(b'\n');
    bytes.extend(content);
    Ok(bytes)
}

/// What the bytes of a file say.
///
/// # Errors
/// See [`DecodeError`].
pub fn decode(bytes: &[u8]) -> Result<InForce, DecodeError> {
    /// What every format has.
    #[derive(Deserialize)]
    struct Any {
        format: u32,
    }
    let newline = bytes.iter().position(|byte| *byte == b'\n');
    let (first, content) = newline.map_or((bytes, &[][..]), |at| (&bytes[..at], &bytes[at + 1..]));
    let not_one = |_| DecodeError::Header;
    match serde_json::from_slice::<Any>(first).map_err(not_one)?.format {
        1 => {
            let stored: First = serde_json::from_slice(bytes).map_err(DecodeError::Content)?;
            Ok(stored.in_force)
        }
        FORMAT => {
            let header: Header = serde_json::from_slice(first).map_err(not_one)?;
            if header.sha256 != sha256(content) {
                return Err(DecodeError::Checksum);
            }
            serde_json::from_slice(content).map_err(DecodeError::Content)
        }
        other => Err(DecodeError::Format(other)),
    }
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use protocol::{Policy, PolicyContent, Snapshot};

    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("last-good-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Folder(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn in_force() -> InForce {
        let policies = vec![Policy::new("p", 1, PolicyContent::default())];
        let snapshot = Snapshot { cluster: "c".into(), node: "n".into(), term: 7, ..Snapshot::default() };
        InForce { snapshot, policies, ..InForce::default() }
    }

    #[test]
    fn what_is_stored_is_loaded_and_an_empty_folder_has_nothing() {
        let folder = Folder::new("round");
        let last_good = LastGood::new(&folder.0);
        assert_eq!(last_good.load().unwrap(), None);
        last_good.store(&in_force()).unwrap();
        assert_eq!(last_good.load().unwrap(), Some(in_force()));
    }

    #[test]
    fn only_its_owner_reads_it_whatever_was_left_over() {
        let folder = Folder::new("mode");
        fs::write(folder.0.join(NEW), "left over").unwrap();
        fs::set_permissions(folder.0.join(NEW), Permissions::from_mode(0o666)).unwrap();
        let last_good = LastGood::new(&folder.0);
        for _ in 0..2 {
            last_good.store(&in_force()).unwrap();
            assert_eq!(fs::metadata(last_good.path()).unwrap().mode() & 0o7777, 0o600);
        }
    }

    #[test]
    fn what_cannot_be_used_is_an_error_that_names_the_file_and_leaves_it() {
        let folder = Folder::new("cut");
        let last_good = LastGood::new(&folder.0);
        last_good.store(&in_force()).unwrap();
        let whole = fs::read_to_string(last_good.path()).unwrap();
        let check = |text: &str, expected: &str| {
            fs::write(last_good.path(), text).unwrap();
            let error = last_good.load().unwrap_err().to_string();
            assert!(error.starts_with(&last_good.path().display().to_string()), "{error}");
            assert!(error.contains(expected), "{error}");
            assert_eq!(fs::read_to_string(last_good.path()).unwrap(), text);
        };
        check(&whole[..whole.len() / 2], "its checksum does not hold");
        check(&whole.replace("\"term\":7", "\"term\":8"), "its checksum does not hold");
        check(&whole.replace("\"format\":2", "\"format\":3"), "format 3, this version reads 1 and 2");
        check("", "not a last good configuration");
        check("{\"format\":1}\n", "line 1, column 12: not what this version writes");
        check("{\"format\":1,\"inForce\":\"a key\"}", "not what this version writes");
    }

    #[test]
    fn what_was_refused_is_kept_beside_what_is_stored_next_and_what_was_good_is_not() {
        let folder = Folder::new("kept");
        fs::write(folder.0.join(NAME), "damaged").unwrap();
        let last_good = LastGood::new(&folder.0);
        assert!(last_good.load().is_err());
        for _ in 0..2 {
            last_good.store(&in_force()).unwrap();
            assert_eq!(fs::read_to_string(folder.0.join(REFUSED)).unwrap(), "damaged");
        }
        assert_eq!(last_good.load().unwrap(), Some(in_force()));
    }

    #[test]
    fn any_bit_that_turns_and_any_byte_that_is_missing_is_refused() {
        let whole = encode(&in_force()).unwrap();
        for at in 0..whole.len() {
            assert!(decode(&whole[..at]).is_err(), "cut at {at}");
            assert!(decode(&[&whole[..at], &whole[at + 1..]].concat()).is_err(), "without {at}");
            for bit in 0..8 {
                let mut turned = whole.clone();
                turned[at] ^= 1 << bit;
                assert!(decode(&turned).is_err(), "bit {bit} of {at}: {}", String::from_utf8_lossy(&turned));
            }
        }
        assert!(decode(&[&whole[..], b"\n"].concat()).is_err(), "with more behind it");
        assert_eq!(decode(&whole).unwrap(), in_force());
    }

    #[test]
    fn the_format_before_checksums_is_still_read() {
        let content = serde_json::to_string(&in_force()).unwrap();
        let first = format!("{{\"format\":1,\"inForce\":{content}}}");
        assert_eq!(decode(first.as_bytes()).unwrap(), in_force());
    }
}
