//! A file of the machine that several collectors read, and the kernel makes once a scrape.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::file::{FileError, NodeFile};

/// The collectors of one scrape take each other's readings; another scrape as close as that may too.
const SAME_SCRAPE: Duration = Duration::from_millis(50);

/// The shared files of one tree.
#[derive(Debug, Default)]
pub struct SharedFiles(Mutex<HashMap<PathBuf, Arc<Mutex<Reading>>>>);

/// What was read last, by whomever.
#[derive(Debug)]
struct Reading {
    file: NodeFile,
    at: Option<Instant>,
    number: u64,
}

/// One reader of such a file.
#[derive(Debug)]
pub struct SharedFile {
    path: PathBuf,
    reading: Arc<Mutex<Reading>>,
    /// The number of the reading that this reader has.
    has: u64,
    text: Vec<u8>,
}

impl SharedFiles {
    /// A reader of the file at this path, which the kernel makes in one piece.
    pub fn whole(&self, path: PathBuf) -> SharedFile {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let reading = files.entry(path.clone()).or_insert_with(|| {
            let file = NodeFile::whole(path.clone());
            Arc::new(Mutex::new(Reading { file, at: None, number: 0 }))
        });
        SharedFile { path, reading: reading.clone(), has: 0, text: Vec::new() }
    }
}

impl SharedFile {
    /// The whole of it, as it is now or was when another reader just asked; who asks again gets it anew.
    ///
    /// # Errors
    /// What the kernel says, with the path.
    pub fn read(&mut self) -> Result<&[u8], FileError> {
        self.read_at(Instant::now())
    }

    fn read_at(&mut self, now: Instant) -> Result<&[u8], FileError> {
        let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let Reading { file, at, number } = &mut *reading;
        if *number == self.has || at.is_none_or(|at| now.duration_since(at) > SAME_SCRAPE) {
            *at = None;
            file.read()?;
            (*at, *number) = (Some(now), *number + 1);
        }
        self.has = *number;
        self.text.clear();
        self.text.extend_from_slice(file.last());
        Ok(&self.text)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::shown::Tree;

    #[test]
    fn a_reader_takes_what_another_has_just_read_and_never_the_same_twice() {
        let tree = Tree::new(&[("stat", "1")]);
        let files = SharedFiles::default();
        let [mut one, mut other] = [(); 2].map(|()| files.whole(tree.path().join("stat")));
        let now = Instant::now();
        assert_eq!(one.read_at(now).unwrap(), b"1");
        tree.write("stat", b"2");
        assert_eq!(other.read_at(now).unwrap(), b"1");
        assert_eq!(other.read_at(now).unwrap(), b"2");
        assert_eq!(one.read_at(now).unwrap(), b"2");
        tree.write("stat", b"3");
        assert_eq!(one.read_at(now).unwrap(), b"3");
        tree.write("stat", b"4");
        assert_eq!(other.read_at(now + SAME_SCRAPE * 2).unwrap(), b"4", "another scrape");
    }

    #[test]
    fn what_could_not_be_read_is_nobodys() {
        let tree = Tree::new(&[("stat", "1")]);
        let files = SharedFiles::default();
        let [mut one, mut other] = [(); 2].map(|()| files.whole(tree.path().join("stat")));
        one.read().unwrap();
        one.reading.lock().unwrap().file = NodeFile::whole(tree.path().join("none"));
        assert!(one.read().is_err() && other.read().is_err());
    }
}
