//! Folders of devices, such as `/sys/class/net`: listed at each scrape, the files of each device on kept handles.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, RawDir, SeekFrom};
use rustix::io::Errno;

use super::file::{HandleBudget, KeptFile};

/// A folder whose entries are devices, each with the same few files.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    files: &'static [&'static str],
    handles: Arc<HandleBudget>,
    folder: Option<OwnedFd>,
    entries: Vec<Entry>,
    /// What the kernel lists, and what a file holds.
    buffer: Vec<u8>,
}

/// One device.
#[derive(Debug)]
struct Entry {
    name: String,
    files: Vec<KeptFile>,
    is_present: bool,
}

impl Folder {
    /// The folder at this path, with the files that are read of each entry; a file may lie deeper (`statistics/x`).
    pub fn new(path: PathBuf, files: &'static [&'static str], handles: &Arc<HandleBudget>) -> Self {
        let (handles, entries) = (handles.clone(), Vec::new());
        Folder { path, files, handles, folder: None, entries, buffer: Vec::new() }
    }

    /// Takes up entries that came and lets go of those that went; in the order in which the kernel lists them. An entry
    /// whose name is not text is passed over.
    ///
    /// # Errors
    /// What the kernel says; `NOENT` where there is no such folder.
    pub fn list(&mut self) -> Result<(), Errno> {
        self.entries.iter_mut().for_each(|entry| entry.is_present = false);
        let listed = self.look();
        let handles = &self.handles;
        self.entries.retain_mut(|entry| {
            if !entry.is_present {
                entry.files.iter_mut().for_each(|file| file.close(handles));
            }
            entry.is_present
        });
        // An empty one may have been removed and made anew, as a driver does that is loaded again.
        if listed.is_err() || self.entries.is_empty() {
            self.folder = None;
        }
        listed
    }

    fn look(&mut self) -> Result<(), Errno> {
        let folder = match self.folder.take() {
            Some(folder) => {
                rustix::fs::seek(&folder, SeekFrom::Start(0))?;
                folder
            }
            None => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                rustix::fs::open(&self.path, flags, Mode::empty())?
            }
        };
        self.buffer.clear();
        self.buffer.reserve(8 << 10);
        let mut listing = RawDir::new(&folder, self.buffer.spare_capacity_mut());
        let mut place = 0;
        while let Some(entry) = listing.next() {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            if name.starts_with('.') {
                continue;
            }
            // An entry is nearly always where it was the last time.
            let is_it = |known: &Entry| known.name == name;
            let known = match self.entries.get(place).is_some_and(is_it) {
                true => Some(place),
                false => self.entries.iter().position(is_it),
            };
            place += 1;
            match known {
                Some(known) => self.entries[known].is_present = true,
                None => {
                    let files = self.files.iter().map(|_| KeptFile::Closed).collect();
                    self.entries.push(Entry { name: name.to_owned(), files, is_present: true });
                }
            }
        }
        self.folder = Some(folder);
        Ok(())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The name of an entry.
    pub fn name(&self, entry: usize) -> &str {
        &self.entries[entry].name
    }

    /// The path of a file, which is given by its place in the list.
    pub fn file_path(&self, entry: usize, file: usize) -> PathBuf {
        self.path.join(&self.entries[entry].name).join(self.files[file])
    }

    /// The text of a file, which is given by its place in the list, without the newline at its end.
    ///
    /// # Errors
    /// What the kernel says; `NOENT` where the device has no such file or is gone, others as the driver has it, such as
    /// `INVAL` for the speed of an interface that is down.
    pub fn read(&mut self, entry: usize, file: usize) -> Result<&[u8], Errno> {
        let Entry { name, files, .. } = &mut self.entries[entry];
        let path = || self.path.join(name.as_str()).join(self.files[file]);
        let kept = &mut files[file];
        let mut result = kept.read(&self.handles, path, &mut self.buffer, true);
        if result == Err(Errno::NODEV) {
            // The device went, and one of its name may have come (fs/kernfs/file.c, kernfs_get_active).
            kept.close(&self.handles);
            result = kept.read(&self.handles, path, &mut self.buffer, true);
        }
        match result {
            Ok(()) => Ok(self.buffer.trim_ascii_end()),
            Err(Errno::NODEV) => Err(Errno::NOENT),
            Err(error) => Err(error),
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let files = self.entries.iter_mut().flat_map(|entry| &mut entry.files);
        files.for_each(|file| file.close(&self.handles));
    }
}

/// The names in a folder that are text, sorted; for what is listed rarely.
///
/// # Errors
/// What the kernel says; `NOENT` where there is no such folder.
pub fn names(path: &Path) -> Result<Vec<String>, Errno> {
    let folder = std::fs::read_dir(path)
        .map_err(|error| error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error))?;
    let mut names: Vec<String> =
        folder.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_and_go_and_their_handles_with_them() {
        let path = std::env::temp_dir().join(format!("folder-{}", std::process::id()));
        let write = |device: &str, value: &str| {
            std::fs::create_dir_all(path.join(device)).unwrap();
            std::fs::write(path.join(device).join("mtu"), value).unwrap();
        };
        let handles = Arc::new(HandleBudget::new(10));
        let mut folder = Folder::new(path.clone(), &["mtu", "speed"], &handles);
        assert_eq!(folder.list(), Err(Errno::NOENT));
        write("eth1", "1500\n");
        write("eth0", "9000\n");
        folder.list().unwrap();
        let eth1 = (0..2).find(|i| folder.name(*i) == "eth1").unwrap();
        assert_eq!(folder.read(eth1, 0), Ok(&b"1500"[..]));
        assert_eq!(folder.read(eth1, 1), Err(Errno::NOENT));
        std::fs::remove_dir_all(path.join("eth1")).unwrap();
        folder.list().unwrap();
        assert_eq!((folder.len(), folder.name(0), handles.open()), (1, "eth0", 0));
        assert_eq!(folder.read(0, 0), Ok(&b"9000"[..]));
        assert_eq!(handles.open(), 1);
        std::fs::remove_dir_all(&path).unwrap();
        assert_eq!((folder.list(), folder.len(), handles.open()), (Err(Errno::NOENT), 0, 0));
        write("eth2", "1500\n");
        folder.list().unwrap();
        assert_eq!(folder.name(0), "eth2", "a folder that is made anew is found");
        std::fs::remove_dir_all(&path).unwrap();
        drop(folder);
        assert_eq!(handles.open(), 0);
    }
}
