//! Devices that a file of the machine lists, and the few attributes that each of them has in /sys.

use std::path::PathBuf;
use std::sync::Arc;

use rustix::io::Errno;

use super::file::{HandleBudget, KeptFile, Made};
use super::text::label;

/// An attribute of a device that comes and goes; its handle counts against a budget for as long as this lives.
#[derive(Debug)]
pub struct DeviceFile {
    file: KeptFile,
    handles: Arc<HandleBudget>,
}

impl DeviceFile {
    /// Opened when first read.
    pub fn new(handles: &Arc<HandleBudget>) -> Self {
        DeviceFile { file: KeptFile::Closed, handles: handles.clone() }
    }

    /// The text without the newline at its end; `path` is asked for only when the file must be opened.
    ///
    /// # Errors
    /// What the kernel says; `NOENT`, which is said again without asking, where the device has no such file or is gone.
    pub fn read<'a>(
        &mut self,
        path: impl Fn() -> PathBuf,
        buffer: &'a mut Vec<u8>,
    ) -> Result<&'a [u8], Errno> {
        // The kernel makes an attribute in one piece (fs/sysfs/file.c, sysfs_kf_seq_show).
        let mut result = self.file.read(&self.handles, &path, buffer, Made::Whole);
        if result == Err(Errno::NODEV) {
            // The device went, and one of its name may have come (fs/kernfs/file.c, kernfs_get_active).
            self.file.close(&self.handles);
            result = self.file.read(&self.handles, &path, buffer, Made::Whole);
        }
        match result {
            Ok(()) => Ok(buffer.trim_ascii_end()),
            Err(Errno::NODEV) => Err(Errno::NOENT),
            Err(error) => Err(error),
        }
    }
}

impl Drop for DeviceFile {
    fn drop(&mut self) {
        self.file.close(&self.handles);
    }
}

/// The devices that were listed last, each with what is kept of it.
#[derive(Debug)]
pub struct Listed<T> {
    entries: Vec<Entry<T>>,
    place: usize,
}

#[derive(Debug)]
struct Entry<T> {
    name: Vec<u8>,
    /// The name as text.
    label: String,
    kept: T,
    is_present: bool,
}

impl<T> Default for Listed<T> {
    fn default() -> Self {
        Listed { entries: Vec::new(), place: 0 }
    }
}

impl<T> Listed<T> {
    /// Begins a new list.
    pub fn begin(&mut self) {
        self.place = 0;
        self.entries.iter_mut().for_each(|entry| entry.is_present = false);
    }

    /// The device that comes next in the list, as text and with what is kept of it; a new one is made.
    pub fn next(&mut self, name: &[u8], make: impl FnOnce(&str) -> T) -> (&str, &mut T) {
        // A device is nearly always where it was the last time.
        let is_it = |entry: &Entry<T>| entry.name == name;
        let known = match self.entries.get(self.place).is_some_and(is_it) {
            true => Some(self.place),
            false => self.entries.iter().position(is_it),
        };
        let place = known.unwrap_or(self.entries.len());
        if known.is_none() {
            let label = label(name).into_owned();
            let kept = make(&label);
            self.entries.push(Entry { name: name.to_owned(), label, kept, is_present: true });
        }
        self.place = place + 1;
        let entry = &mut self.entries[place];
        entry.is_present = true;
        (&entry.label, &mut entry.kept)
    }

    /// Lets go of those that were not in the list.
    pub fn end(&mut self) {
        self.entries.retain(|entry| entry.is_present);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::shown::Tree;

    #[test]
    fn what_is_kept_of_a_device_goes_with_it() {
        let mut devices = Listed::default();
        let mut list = |names: &[&str]| {
            let mut kept = Vec::new();
            devices.begin();
            for name in names {
                let (label, times) = devices.next(name.as_bytes(), |_| 0);
                assert_eq!(label, *name);
                *times += 1;
                kept.push(*times);
            }
            devices.end();
            kept
        };
        assert_eq!(list(&["a", "b", "c"]), [1, 1, 1]);
        assert_eq!(list(&["c", "a", "new"]), [2, 2, 1]);
        assert_eq!(list(&["a", "b", "new"]), [3, 1, 2]);
    }

    #[test]
    fn a_handle_is_given_back_when_the_device_is_let_go() {
        let tree = Tree::new(&[("sda/size", "1024\n")]);
        let handles = Arc::new(HandleBudget::new(1));
        let (mut file, mut buffer) = (DeviceFile::new(&handles), Vec::new());
        let path = || tree.path().join("sda/size");
        assert_eq!(file.read(path, &mut buffer), Ok(&b"1024"[..]));
        tree.write("sda/size", b"2048\n");
        assert_eq!((file.read(path, &mut buffer), handles.open()), (Ok(&b"2048"[..]), 1));
        drop(file);
        assert_eq!(handles.open(), 0);
        let mut absent = DeviceFile::new(&handles);
        assert_eq!(absent.read(|| tree.path().join("none"), &mut buffer), Err(Errno::NOENT));
    }
}
