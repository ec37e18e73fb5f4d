//! Names of PCI vendors, devices and classes, out of the file pci.ids.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::source::text::{label, lines};

/// What a device says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Ids {
    /// Base class, subclass and programming interface, of two digits each.
    pub(super) class: u32,
    pub(super) vendor: u32,
    pub(super) device: u32,
    pub(super) subsystem_vendor: u32,
    pub(super) subsystem_device: u32,
}

/// Of vendor, device, the subsystem's vendor, the subsystem, and class.
pub(super) type Found = [String; 5];

/// The names that were asked for; the file is read again for a device that was not seen yet.
pub(super) struct Names {
    files: Vec<PathBuf>,
    known: HashMap<Ids, Found>,
}

impl Names {
    /// Those of this file, or of the node's own.
    pub(super) fn new(rootfs: &Path, file: Option<&str>) -> Self {
        let own = ["usr/share/misc/pci.ids", "usr/share/hwdata/pci.ids"];
        let files = match file {
            Some(file) => vec![PathBuf::from(file)],
            None => own.iter().map(|path| rootfs.join(path)).collect(),
        };
        Names { files, known: HashMap::new() }
    }

    /// The names of a device; what has none is called by its number.
    pub(super) fn of(&mut self, ids: Ids) -> &Found {
        let files = &self.files;
        self.known.entry(ids).or_insert_with(|| {
            let text = files.iter().find_map(|file| std::fs::read(file).ok()).unwrap_or_default();
            find(&text, ids)
        })
    }
}

/// A vendor is `8086  Intel Corporation`; below it, after a tab, its devices, and after two tabs their subsystems,
/// `8086 0001  Name`. Classes are written alike below `C 01  Mass storage controller`.
fn find(text: &[u8], ids: Ids) -> Found {
    let id = |id: u32| format!("{id:04x}");
    let class = format!("{:06x}", ids.class);
    let subsystem = format!("{} {}", id(ids.subsystem_vendor), id(ids.subsystem_device));
    let mut vendor_name = None;
    let mut device_name = None;
    let mut subsystem_vendor_name = None;
    let mut subsystem_name = None;
    // By how many digits of the class they name.
    let mut class_names = [None, None, None];
    let (mut is_vendor, mut is_device) = (false, false);
    let mut of_class = [String::new(), String::new()];
    let mut is_in_classes = false;
    for line in lines(text).filter(|line| !line.starts_with(b"#")) {
        let depth = line.iter().take_while(|b| **b == b'\t').count();
        let line = label(&line[depth..]);
        let Some((key, name)) = line.split_once("  ") else { continue };
        let (key, name) = (key.trim(), name.trim().to_owned());
        match (depth, key.strip_prefix("C ")) {
            (0, Some(base)) => {
                is_in_classes = true;
                of_class = [base.trim().to_owned(), String::new()];
                class_names[0] = class_names[0].take().or((class[..2] == of_class[0]).then_some(name));
            }
            (0, None) => {
                (is_in_classes, is_device) = (false, false);
                is_vendor = key == id(ids.vendor);
                if key == id(ids.subsystem_vendor) {
                    subsystem_vendor_name = Some(name.clone());
                }
                if is_vendor {
                    vendor_name = Some(name);
                }
            }
            (1, _) if is_in_classes => {
                of_class[1] = format!("{}{key}", of_class[0]);
                class_names[1] = class_names[1].take().or((class[..4] == of_class[1]).then_some(name));
            }
            (2, _) if is_in_classes => {
                let whole = format!("{}{key}", of_class[1]);
                class_names[2] = class_names[2].take().or((class == whole).then_some(name));
            }
            (1, _) => {
                is_device = is_vendor && key == id(ids.device);
                if is_device {
                    device_name = Some(name);
                }
            }
            (2, _) if is_device && key == subsystem => subsystem_name = Some(name),
            _ => {}
        }
    }
    let [base, sub, interface] = class_names;
    [
        vendor_name.unwrap_or_else(|| id(ids.vendor)),
        device_name.unwrap_or_else(|| id(ids.device)),
        subsystem_vendor_name.unwrap_or_else(|| id(ids.subsystem_vendor)),
        subsystem_name.unwrap_or_else(|| id(ids.subsystem_device)),
        interface.or(sub).or(base).unwrap_or_else(|| format!("Unknown class ({class})")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# comment\n1234  Vendor A\n\t0001  Device A1\n\t\t5678 0002  Board\n\t0002  Device A2\n\
        5678  Vendor B\n\t0001  Device B1\n\nC 01  Storage\n\t08  NVM\n\t\t02  NVMe\n\t\t\t00  no\nC 02  Network\n\t00  Ethernet\n";

    fn check(class: u32, device: u32, expected: [&str; 5]) {
        let ids = Ids { class, vendor: 0x1234, device, subsystem_vendor: 0x5678, subsystem_device: 2 };
        assert_eq!(find(TEXT.as_bytes(), ids), expected);
    }

    #[test]
    fn names_are_those_of_the_own_vendor_and_of_the_nearest_class() {
        check(0x010802, 1, ["Vendor A", "Device A1", "Vendor B", "Board", "NVMe"]);
        check(0x010803, 2, ["Vendor A", "Device A2", "Vendor B", "0002", "NVM"]);
        check(0x020100, 9, ["Vendor A", "0009", "Vendor B", "0002", "Network"]);
        check(0x030000, 9, ["Vendor A", "0009", "Vendor B", "0002", "Unknown class (030000)"]);
    }
}
