//! The configuration in force on disk, so that a restart needs no operator.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::in_force::InForce;

/// A file in a folder of the agent's own.
#[derive(Clone, Debug)]
pub struct LastGood {
    folder: PathBuf,
}

/// Why what is on disk cannot be used. It is left where it is for the administrator to see.
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
    #[error("{}: {what}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    format: u32,
    in_force: InForce,
}

const FORMAT: u32 = 1;
const NAME: &str = "last-good.json";
const NEW: &str = "last-good.json.new";

/// Every file that is ever in the folder.
pub const FILES: [&str; 2] = [NAME, NEW];

impl LastGood {
    /// In this folder.
    pub fn new(folder: &Path) -> Self {
        LastGood { folder: folder.to_owned() }
    }

    /// What was in force when it was last stored; nothing where nothing was.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn load(&self) -> Result<Option<InForce>, LoadError> {
        let path = self.folder.join(NAME);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(LoadError::Read { path, source }),
        };
        let content = |what: String| LoadError::Content { path: path.clone(), what };
        let stored: Stored = serde_json::from_slice(&bytes).map_err(|e| content(e.to_string()))?;
        if stored.format != FORMAT {
            return Err(content(format!("format {}, this version reads {FORMAT}", stored.format)));
        }
        Ok(Some(stored.in_force))
    }

    /// Stores what is in force; whoever reads it finds this or what was there before, never a part.
    ///
    /// # Errors
    /// What the kernel says, with the file.
    pub fn store(&self, in_force: &InForce) -> io::Result<()> {
        let write = || {
            let new = self.folder.join(NEW);
            let mut file = File::create(&new)?;
            serde_json::to_writer(&mut file, &Stored { format: FORMAT, in_force: in_force.clone() })?;
            file.flush()?;
            file.sync_all()?;
            fs::rename(&new, self.folder.join(NAME))?;
            // The name itself is durable only once the folder is.
            File::open(&self.folder)?.sync_all()
        };
        write().map_err(|e| io::Error::new(e.kind(), format!("{NAME} in {}: {e}", self.folder.display())))
    }
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn what_is_stored_is_loaded_and_an_empty_folder_has_nothing() {
        let folder = Folder::new("round");
        let last_good = LastGood::new(&folder.0);
        assert_eq!(last_good.load().unwrap(), None);
        let mut in_force = InForce::default();
        in_force.snapshot.term = 7;
        last_good.store(&in_force).unwrap();
        assert_eq!(last_good.load().unwrap(), Some(in_force));
    }

    #[test]
    fn what_is_cut_or_of_another_format_is_an_error_that_names_the_file() {
        let folder = Folder::new("cut");
        let last_good = LastGood::new(&folder.0);
        last_good.store(&InForce::default()).unwrap();
        let whole = fs::read_to_string(folder.0.join(NAME)).unwrap();
        fs::write(folder.0.join(NAME), &whole[..whole.len() / 2]).unwrap();
        assert!(last_good.load().unwrap_err().to_string().contains(NAME));
        fs::write(folder.0.join(NAME), whole.replace("\"format\":1", "\"format\":2")).unwrap();
        assert!(last_good.load().unwrap_err().to_string().contains("format 2"));
    }
}
