//! Devices as collectors read them: what goes wrong with one of them keeps no other from being read.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::io::Errno;

use crate::collector::CollectError;
use crate::source::file::HandleBudget;
use crate::source::folder::Folder;
use crate::source::text::{integer, label};

/// A folder of /sys or /proc whose entries are devices with the same few attributes, or themselves attributes.
#[derive(Debug)]
pub struct Devices {
    folder: Folder,
    fault: Option<CollectError>,
}

impl Devices {
    /// The devices in this folder, and the attributes that are read of each.
    pub fn new(path: PathBuf, files: &'static [&'static str], handles: &Arc<HandleBudget>) -> Self {
        Devices { folder: Folder::sysfs(path, files, handles), fault: None }
    }

    /// The attributes in this folder.
    pub fn attributes(path: PathBuf, handles: &Arc<HandleBudget>) -> Self {
        Devices { folder: Folder::of_attributes(path, handles), fault: None }
    }

    /// With files that take several reads, as those of /proc can.
    pub fn in_records(self) -> Self {
        Devices { folder: self.folder.in_records(), ..self }
    }

    /// With attributes that are looked at once a minute, since what they hold hardly ever changes.
    pub fn once_a_minute(self, rare: &[&str]) -> Self {
        Devices { folder: self.folder.once_a_minute(rare), ..self }
    }

    /// Passes over those of other names.
    pub fn only(self, only: fn(&str) -> bool) -> Self {
        Devices { folder: self.folder.only(only), ..self }
    }

    /// Takes up devices that came and lets go of those that went.
    ///
    /// # Errors
    /// `Absent` where there is no such folder.
    pub fn list(&mut self) -> Result<(), CollectError> {
        self.folder.list().map_err(|source| CollectError::read(self.folder.path(), source))
    }

    /// As before; where there is no such folder there is no device.
    ///
    /// # Errors
    /// What else the kernel says.
    pub fn list_if_there(&mut self) -> Result<(), CollectError> {
        match self.list() {
            Err(CollectError::Absent(_)) => Ok(()),
            result => result,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.folder.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.folder.is_empty()
    }

    /// The name of a device.
    pub fn name(&self, device: usize) -> &str {
        self.folder.name(device)
    }

    /// The device of this name.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.folder.find(name)
    }

    /// The folder of a device.
    pub fn path(&self, device: usize) -> PathBuf {
        self.folder.path().join(self.folder.name(device))
    }

    /// An attribute; nothing where the device has none, or has no value for it now.
    pub fn read(&mut self, device: usize, file: usize) -> Option<&[u8]> {
        match self.folder.read(device, file) {
            // What drivers answer for what they have not: no such file, not for you, not in this state, not supported,
            // no data, try later.
            Err(
                Errno::NOENT
                | Errno::ACCESS
                | Errno::PERM
                | Errno::INVAL
                | Errno::OPNOTSUPP
                | Errno::NODATA
                | Errno::NXIO
                | Errno::AGAIN
                | Errno::BUSY
                | Errno::NOTDIR,
            ) => return None,
            Err(source) => {
                let path = self.folder.file_path(device, file);
                self.fault.get_or_insert(CollectError::Read { path, source });
                return None;
            }
            Ok(_) => {}
        }
        Some(self.folder.last())
    }

    /// An attribute that is text.
    pub fn text(&mut self, device: usize, file: usize) -> Option<Cow<'_, str>> {
        self.read(device, file).map(|text| label(text.trim_ascii()))
    }

    /// An attribute that is a whole number, in any of the kernel's forms.
    pub fn number(&mut self, device: usize, file: usize) -> Option<i128> {
        self.parse(device, file, |text| integer(text.trim_ascii()), "not a whole number")
    }

    /// An attribute that is read by `parse`; where that gives nothing, it is noted as being `what`.
    pub fn parse<T>(
        &mut self,
        device: usize,
        file: usize,
        parse: impl FnOnce(&[u8]) -> Option<T>,
        what: &str,
    ) -> Option<T> {
        let value = parse(self.read(device, file)?);
        if value.is_none() {
            self.note(device, file, what);
        }
        value
    }

    /// Notes that an attribute does not read as it should.
    pub fn note(&mut self, device: usize, file: usize, what: &str) {
        let path = self.folder.file_path(device, file);
        self.fault.get_or_insert_with(|| CollectError::parse(path, what));
    }

    /// The first thing that went wrong since the last time.
    ///
    /// # Errors
    /// That thing.
    pub fn result(&mut self) -> Result<(), CollectError> {
        self.fault.take().map_or(Ok(()), Err)
    }
}

/// What lies below each of some devices, such as the ports of adapters.
#[derive(Debug)]
pub struct Below {
    inside: &'static str,
    files: &'static [&'static str],
    only: fn(&str) -> bool,
    is_in_records: bool,
    handles: Arc<HandleBudget>,
    parents: Vec<(String, Devices)>,
}

impl Below {
    /// Those in the folder `inside` of a device, or directly in it where that is empty; they are themselves attributes
    /// where there are no `files`.
    pub fn new(
        inside: &'static str,
        files: &'static [&'static str],
        only: fn(&str) -> bool,
        handles: &Arc<HandleBudget>,
    ) -> Self {
        Below { inside, files, only, is_in_records: false, handles: handles.clone(), parents: Vec::new() }
    }

    /// With files that take several reads, as those of /proc can.
    pub fn in_records(self) -> Self {
        Below { is_in_records: true, ..self }
    }

    /// Lists those of every device; those without a folder have none.
    ///
    /// # Errors
    /// The first folder that could not be listed; the others are.
    pub fn list(&mut self, parents: &Devices) -> Result<(), CollectError> {
        let mut result = Ok(());
        for i in 0..parents.len() {
            let name = parents.name(i);
            match self.parents[i..].iter().position(|(known, _)| known == name) {
                Some(0) => {}
                Some(further) => self.parents.swap(i, i + further),
                None => self.parents.insert(i, (name.to_owned(), self.devices(parents.path(i)))),
            }
            result = result.and(self.parents[i].1.list_if_there());
        }
        self.parents.truncate(parents.len());
        result
    }

    fn devices(&self, parent: PathBuf) -> Devices {
        let path = if self.inside.is_empty() { parent } else { parent.join(self.inside) };
        let devices = match self.files {
            [] => Devices::attributes(path, &self.handles),
            files => Devices::new(path, files, &self.handles),
        };
        let devices = devices.only(self.only);
        if self.is_in_records { devices.in_records() } else { devices }
    }

    /// Those of one device, by its place.
    pub fn of(&mut self, parent: usize) -> &mut Devices {
        &mut self.parents[parent].1
    }

    /// The first thing that went wrong with any of them since the last time.
    ///
    /// # Errors
    /// That thing.
    pub fn result(&mut self) -> Result<(), CollectError> {
        let mut result = Ok(());
        for (_, devices) in &mut self.parents {
            result = result.and(devices.result());
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_a_device_does_not_give_costs_its_own_value() {
        let path = std::env::temp_dir().join(format!("devices-{}", std::process::id()));
        fs::create_dir_all(path.join("a/temp")).unwrap();
        fs::write(path.join("a/flags"), "0x1003\n").unwrap();
        fs::write(path.join("a/label"), b"  x\xff \n").unwrap();
        let handles = Arc::new(HandleBudget::new(9));
        let mut devices = Devices::new(path.clone(), &["flags", "label", "none", "temp"], &handles);
        devices.list().unwrap();
        assert_eq!(devices.number(0, 0), Some(0x1003));
        assert_eq!(devices.text(0, 1).as_deref(), Some("x\u{fffd}"));
        assert_eq!(devices.number(0, 2), None);
        devices.result().unwrap();
        assert_eq!(devices.number(0, 1), None);
        assert!(matches!(devices.result(), Err(CollectError::Parse { .. })));
        assert_eq!(devices.read(0, 3), None, "a folder cannot be read");
        assert!(matches!(devices.result(), Err(CollectError::Read { .. })));
        devices.result().unwrap();
        fs::remove_dir_all(&path).unwrap();
        assert!(matches!(devices.list(), Err(CollectError::Absent(_))));
        devices.list_if_there().unwrap();
        assert!(devices.is_empty());
    }

    #[test]
    fn what_lies_below_a_device_stays_with_it() {
        let path = std::env::temp_dir().join(format!("below-{}", std::process::id()));
        for (device, port) in [("a", "1"), ("b", "2"), ("c", "3")] {
            fs::create_dir_all(path.join(device).join("ports").join(port)).unwrap();
        }
        let handles = Arc::new(HandleBudget::new(9));
        let mut devices = Devices::new(path.clone(), &[], &handles);
        let mut ports = Below::new("ports", &["state"], |_| true, &handles);
        let mut check = |expected: &[(&str, &str)]| {
            devices.list().unwrap();
            ports.list(&devices).unwrap();
            let mut found = Vec::new();
            for i in 0..devices.len() {
                let ports = ports.of(i);
                let names: Vec<_> = (0..ports.len()).map(|port| ports.name(port).to_owned()).collect();
                found.push((devices.name(i).to_owned(), names.join(" ")));
            }
            found.sort();
            let expected: Vec<_> =
                expected.iter().map(|(device, ports)| ((*device).to_owned(), (*ports).to_owned())).collect();
            assert_eq!(found, expected);
        };
        check(&[("a", "1"), ("b", "2"), ("c", "3")]);
        fs::remove_dir_all(path.join("a")).unwrap();
        fs::create_dir_all(path.join("d")).unwrap();
        check(&[("b", "2"), ("c", "3"), ("d", "")]);
        fs::remove_dir_all(&path).unwrap();
    }
}
