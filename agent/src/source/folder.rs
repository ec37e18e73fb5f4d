//! Folders of devices, such as `/sys/class/net`: listed at each scrape, the files of each device on kept handles.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use rustix::fd::OwnedFd;
use rustix::fs::{Access, FileType, Mode, OFlags, RawDir, SeekFrom};
use rustix::io::Errno;

use super::file::{HandleBudget, KeptFile, Made};
use super::recent::{Recent, due};

/// A folder whose entries are devices, each with the same few files.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    files: &'static [&'static str],
    only: fn(&str) -> bool,
    made: Made,
    handles: Arc<HandleBudget>,
    /// With its inode.
    folder: Option<(OwnedFd, u64)>,
    entries: Vec<Entry>,
    /// What the kernel lists, and what a file holds.
    buffer: Vec<u8>,
    /// The path of a link, or of a file that a device has not, which is looked for at each scrape.
    looked_for: PathBuf,
    is_sorted: bool,
    /// By place in the list of files, whether it is looked at once a minute only.
    is_rare: Vec<bool>,
    /// When it was listed.
    now: Instant,
    /// That there is no device, or no folder.
    absence: Recent,
    is_there: bool,
}

/// One device.
#[derive(Debug)]
struct Entry {
    name: String,
    files: Vec<KeptFile>,
    /// What was found of the files that are looked at once a minute, by place.
    found: Vec<Option<Found>>,
    is_present: bool,
}

/// What a file held that is looked at once a minute.
#[derive(Debug)]
struct Found {
    due: Instant,
    text: Vec<u8>,
    error: Option<Errno>,
}

impl Folder {
    /// The folder at this path, with the files that are read of each entry; a file may lie deeper (`statistics/x`).
    ///
    /// One read of a file is enough: the kernel makes those of /sys each in one piece, which is a page at most
    /// (fs/sysfs/file.c, sysfs_kf_seq_show).
    pub fn sysfs(path: PathBuf, files: &'static [&'static str], handles: &Arc<HandleBudget>) -> Self {
        Folder {
            path,
            files,
            only: |_| true,
            made: Made::Whole,
            handles: handles.clone(),
            folder: None,
            entries: Vec::new(),
            buffer: Vec::new(),
            looked_for: PathBuf::new(),
            is_sorted: false,
            is_rare: Vec::new(),
            now: Instant::now(),
            absence: Recent::default(),
            is_there: true,
        }
    }

    /// A folder whose entries are themselves the files, each with the place 0.
    pub fn of_attributes(path: PathBuf, handles: &Arc<HandleBudget>) -> Self {
        Folder::sysfs(path, &[""], handles)
    }

    /// With files that take several reads, as those of /proc can.
    pub fn in_records(mut self) -> Self {
        self.made = Made::InRecords;
        self
    }

    /// With its entries in the order of their names.
    pub fn sorted(mut self) -> Self {
        self.is_sorted = true;
        self
    }

    /// Passes over entries whose names are others.
    pub fn only(mut self, only: fn(&str) -> bool) -> Self {
        self.only = only;
        self
    }

    /// With files among its own that are looked at once a minute, since what they hold hardly ever changes.
    pub fn once_a_minute(mut self, rare: &[&str]) -> Self {
        self.is_rare = self.files.iter().map(|file| rare.contains(file)).collect();
        self
    }

    /// Takes up entries that came and lets go of those that went; in the order in which the kernel lists them, where no
    /// other was asked for. An entry whose name is not text is passed over. Where there was none, it is looked for after a
    /// minute.
    ///
    /// # Errors
    /// What the kernel says; `NOENT` where there is no such folder.
    pub fn list(&mut self) -> Result<(), Errno> {
        let now = Instant::now();
        self.now = now;
        if self.absence.holds(now) {
            return if self.is_there { Ok(()) } else { Err(Errno::NOENT) };
        }
        let listed = self.list_now();
        self.is_there = listed != Err(Errno::NOENT);
        self.absence.set(self.entries.is_empty() && matches!(listed, Ok(()) | Err(Errno::NOENT)), now);
        listed
    }

    fn list_now(&mut self) -> Result<(), Errno> {
        self.entries.iter_mut().for_each(|entry| entry.is_present = false);
        let known = self.folder.as_ref().map(|(_, inode)| *inode);
        let mut listed = self.look();
        // One that was removed lists nothing, and another may be in its place, as when a driver is loaded again.
        if known.is_some()
            && !self.entries.iter().any(|entry| entry.is_present)
            && rustix::fs::stat(&self.path).ok().map(|it| it.st_ino) != known
        {
            self.folder = None;
            listed = self.look();
        }
        let handles = &self.handles;
        self.entries.retain_mut(|entry| {
            if !entry.is_present {
                entry.files.iter_mut().for_each(|file| file.close(handles));
            }
            entry.is_present
        });
        if self.is_sorted {
            self.entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        }
        if listed.is_err() {
            self.folder = None;
        }
        listed
    }

    fn look(&mut self) -> Result<(), Errno> {
        let (folder, inode) = match self.folder.take() {
            Some((folder, inode)) => {
                rustix::fs::seek(&folder, SeekFrom::Start(0))?;
                (folder, inode)
            }
            None => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let folder = rustix::fs::open(&self.path, flags, Mode::empty())?;
                let inode = rustix::fs::fstat(&folder)?.st_ino;
                (folder, inode)
            }
        };
        self.buffer.clear();
        self.buffer.reserve(8 << 10);
        let (has_files, only) = (self.files == [""], self.only);
        let mut listing = RawDir::new(&folder, self.buffer.spare_capacity_mut());
        let mut place = 0;
        while let Some(entry) = listing.next() {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            let is_file = entry.file_type() == FileType::RegularFile;
            if name.starts_with('.') || is_file != has_files || !only(name) {
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
                    let found = self.is_rare.iter().map(|_| None).collect();
                    self.entries.push(Entry { name: name.to_owned(), files, found, is_present: true });
                }
            }
        }
        self.folder = Some((folder, inode));
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

    /// The entry of this name.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.entries.iter().position(|entry| entry.name == name)
    }

    /// The path of a file, which is given by its place in the list.
    pub fn file_path(&self, entry: usize, file: usize) -> PathBuf {
        path(&self.path, &self.entries[entry].name, self.files[file])
    }

    /// The text of a file, which is given by its place in the list, without the newline at its end.
    ///
    /// # Errors
    /// What the kernel says; `NOENT` where the device has no such file or is gone, others as the driver has it, such as
    /// `INVAL` for the speed of an interface that is down.
    pub fn read(&mut self, entry: usize, file: usize) -> Result<&[u8], Errno> {
        if !self.is_rare.get(file).is_some_and(|is_rare| *is_rare) {
            return self.read_now(entry, file);
        }
        if let Some(found) = &self.entries[entry].found[file]
            && self.now < found.due
        {
            self.buffer.clear();
            self.buffer.extend_from_slice(&found.text);
            return found.error.map_or(Ok(()), Err).map(|()| self.last());
        }
        let error = self.read_now(entry, file).err();
        let due = due(self.now, entry, self.entries[entry].found[file].is_none());
        let empty = || Found { due, text: Vec::new(), error };
        let found = self.entries[entry].found[file].get_or_insert_with(empty);
        (found.due, found.error) = (due, error);
        found.text.clone_from(&self.buffer);
        error.map_or(Ok(()), Err).map(|()| self.last())
    }

    fn read_now(&mut self, entry: usize, file: usize) -> Result<&[u8], Errno> {
        let Entry { name, files, found, .. } = &mut self.entries[entry];
        let (folder, file, kept) = (&self.path, self.files[file], &mut files[file]);
        // A driver that is loaded later brings files to devices that are there already.
        if matches!(kept, KeptFile::Absent) {
            let path = put_path(&mut self.looked_for, folder, name, file);
            if rustix::fs::access(path, Access::EXISTS) == Err(Errno::NOENT) {
                return Err(Errno::NOENT);
            }
            *kept = KeptFile::Closed;
        }
        let path = || path(folder, name, file);
        let mut result = kept.read(&self.handles, path, &mut self.buffer, self.made);
        if result == Err(Errno::NODEV) {
            // The device went, and one of its name may have come (fs/kernfs/file.c, kernfs_get_active).
            kept.close(&self.handles);
            found.iter_mut().for_each(|found| *found = None);
            result = kept.read(&self.handles, path, &mut self.buffer, self.made);
        }
        match result {
            Ok(()) => Ok(self.last()),
            Err(Errno::NODEV) => Err(Errno::NOENT),
            Err(error) => Err(error),
        }
    }

    /// Where the link leads that an entry is.
    ///
    /// # Errors
    /// What the kernel says; `INVAL` where it is no link.
    pub fn link(&mut self, entry: usize) -> Result<&[u8], Errno> {
        let path = put_path(&mut self.looked_for, &self.path, &self.entries[entry].name, "");
        self.buffer.clear();
        // No link of /sys is longer (fs/sysfs/symlink.c; fs/kernfs/symlink.c, kernfs_iop_get_link).
        self.buffer.reserve(4 << 10);
        rustix::fs::readlinkat_raw(rustix::fs::CWD, path, rustix::buffer::spare_capacity(&mut self.buffer))?;
        Ok(&self.buffer)
    }

    /// What was read last, without the newline at its end.
    pub fn last(&self) -> &[u8] {
        self.buffer.trim_ascii_end()
    }
}

fn path(folder: &Path, name: &str, file: &str) -> PathBuf {
    let mut path = PathBuf::new();
    put_path(&mut path, folder, name, file);
    path
}

fn put_path<'a>(path: &'a mut PathBuf, folder: &Path, name: &str, file: &str) -> &'a Path {
    path.as_mut_os_string().clear();
    path.push(folder);
    path.push(name);
    if !file.is_empty() {
        path.push(file);
    }
    path
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
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_folder_has_either_devices_or_files() {
        let path = std::env::temp_dir().join(format!("folder-of-files-{}", std::process::id()));
        std::fs::create_dir_all(path.join("temp1")).unwrap();
        std::fs::write(path.join("temp1_input"), "42\n").unwrap();
        std::fs::write(path.join("uevent"), "").unwrap();
        let handles = Arc::new(HandleBudget::new(10));
        let names = |folder: &mut Folder| -> Vec<String> {
            folder.list().unwrap();
            (0..folder.len()).map(|i| folder.name(i).to_owned()).collect()
        };
        let mut devices = Folder::sysfs(path.clone(), &["label"], &handles);
        assert_eq!(names(&mut devices), ["temp1"]);
        assert_eq!(devices.read(0, 0), Err(Errno::NOENT));
        std::fs::write(path.join("temp1/label"), "CPU\n").unwrap();
        assert_eq!(devices.read(0, 0), Ok(&b"CPU"[..]), "what was absent is looked for again");
        let mut files = Folder::of_attributes(path.clone(), &handles).only(|name| name.starts_with("temp"));
        assert_eq!(names(&mut files), ["temp1_input"]);
        assert_eq!(files.read(0, 0), Ok(&b"42"[..]));
        std::fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn what_hardly_ever_changes_is_looked_at_once_a_minute_and_all_else_each_time() {
        let tree = crate::metric::shown::Tree::new(&[("eth0/mtu", "1500\n"), ("eth0/address", "a\n")]);
        let handles = Arc::new(HandleBudget::new(10));
        let mut folder = Folder::sysfs(tree.path().to_owned(), &["mtu", "address", "alias"], &handles)
            .once_a_minute(&["address", "alias"]);
        let mut read = |minutes: u32| {
            folder.list().unwrap();
            // As if so many minutes had passed.
            folder.now += minutes * Duration::from_secs(60);
            [0, 1, 2].map(|file| folder.read(0, file).map(|text| String::from_utf8(text.to_vec()).unwrap()))
        };
        let found =
            |mtu: &str, address: &str| [Ok(mtu.to_owned()), Ok(address.to_owned()), Err(Errno::NOENT)];
        assert_eq!(read(0), found("1500", "a"));
        tree.write("eth0/mtu", b"9000\n");
        tree.write("eth0/address", b"b\n");
        assert_eq!(read(0), found("9000", "a"));
        assert_eq!(read(1), found("9000", "b"));
        tree.write("eth0/alias", b"uplink\n");
        assert_eq!(read(1)[2], Err(Errno::NOENT));
        assert_eq!(read(2)[2], Ok("uplink".to_owned()));
    }

    #[test]
    fn entries_come_and_go_and_their_handles_with_them() {
        let path = std::env::temp_dir().join(format!("folder-{}", std::process::id()));
        let write = |device: &str, value: &str| {
            std::fs::create_dir_all(path.join(device)).unwrap();
            std::fs::write(path.join(device).join("mtu"), value).unwrap();
        };
        let handles = Arc::new(HandleBudget::new(10));
        let mut folder = Folder::sysfs(path.clone(), &["mtu", "speed"], &handles);
        assert_eq!(folder.list(), Err(Errno::NOENT));
        write("eth1", "1500\n");
        write("eth0", "9000\n");
        assert_eq!(folder.list(), Err(Errno::NOENT), "it is looked for once a minute");
        folder.absence = Recent::default();
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
        folder.absence = Recent::default();
        folder.list().unwrap();
        assert_eq!(folder.name(0), "eth2", "a folder that is made anew is found");
        std::fs::remove_dir_all(&path).unwrap();
        drop(folder);
        assert_eq!(handles.open(), 0);
    }
}
