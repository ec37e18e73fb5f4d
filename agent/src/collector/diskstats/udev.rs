//! What udev knows of a block device: model, serial number, file system, device mapper.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::F;
use crate::metric::Writer;
use crate::source::file::read_once;
use crate::source::text::{float, label, lines};

/// The folder in which udev keeps a file for each device (udevadm(8), `--path.udev.data`).
pub(super) struct Udev {
    folder: PathBuf,
    /// When a file was last put there.
    changed: Option<SystemTime>,
    /// Counts the changes.
    version: u64,
}

impl Udev {
    pub(super) fn new(folder: &Path) -> Self {
        Udev { folder: folder.to_owned(), changed: None, version: 0 }
    }

    /// A number that is another one when the files may be: udev writes each beside its place and moves it there, which
    /// changes the folder. Nothing where there is no folder.
    pub(super) fn version(&mut self, now: SystemTime) -> Option<u64> {
        /// The clock of files is coarse: one more change may come with the same time.
        const SETTLED: Duration = Duration::from_secs(2);
        let stat = rustix::fs::stat(&self.folder).ok()?;
        let since =
            Duration::new(u64::try_from(stat.st_mtime).ok()?, u32::try_from(stat.st_mtime_nsec).ok()?);
        let changed = UNIX_EPOCH + since;
        if self.changed != Some(changed) {
            self.version += 1;
        }
        let is_settled = now.duration_since(changed).is_ok_and(|age| age > SETTLED);
        self.changed = is_settled.then_some(changed);
        Some(self.version)
    }

    /// What it knows of a device; nothing where it does not know it.
    pub(super) fn read(&self, major: u64, minor: u64, buffer: &mut Vec<u8>) -> Properties {
        match read_once(&self.folder.join(format!("b{major}:{minor}")), buffer) {
            Ok(()) => Properties::parse(buffer),
            Err(_) => Properties::default(),
        }
    }
}

/// What is a label or a value.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Properties {
    pub(super) path: String,
    pub(super) wwn: String,
    pub(super) model: String,
    pub(super) serial: String,
    pub(super) revision: String,
    /// Type, usage, UUID and version.
    file_system: Option<[String; 4]>,
    /// Name, UUID, volume group, logical volume and layer.
    device_mapper: Option<[String; 5]>,
    ata: [Option<f64>; ATA.len()],
}

const ATA: [(&str, F); 3] = [
    ("ID_ATA_WRITE_CACHE", F::AtaWriteCache),
    ("ID_ATA_WRITE_CACHE_ENABLED", F::AtaWriteCacheEnabled),
    ("ID_ATA_ROTATION_RATE_RPM", F::AtaRotationRate),
];

impl Properties {
    /// The lines `E:KEY=VALUE`; a key that is there twice counts as it is there last.
    fn parse(text: &[u8]) -> Self {
        let find = |key: &str| {
            let value = |line| -> Option<&[u8]> {
                <[u8]>::strip_prefix(line, b"E:")?.strip_prefix(key.as_bytes())?.strip_prefix(b"=")
            };
            lines(text).filter_map(value).last()
        };
        let get = |key: &str| label(find(key).unwrap_or_default()).into_owned();
        let first = |keys: &[&str]| keys.iter().map(|key| get(key)).find(|value| !value.is_empty());
        let with = |key: &str| Some(get(key)).filter(|value| !value.is_empty());
        let mut ata = [None; ATA.len()];
        if with("ID_ATA").is_some() {
            ata = ATA.map(|(key, _)| float(find(key)?));
        }
        Properties {
            path: get("ID_PATH"),
            wwn: get("ID_WWN"),
            model: get("ID_MODEL"),
            // What is printed on the disk, if that is known; virtio has only the last.
            serial: first(&["SCSI_IDENT_SERIAL", "ID_SERIAL_SHORT", "ID_SERIAL"]).unwrap_or_default(),
            revision: get("ID_REVISION"),
            file_system: with("ID_FS_TYPE")
                .map(|kind| [kind, get("ID_FS_USAGE"), get("ID_FS_UUID"), get("ID_FS_VERSION")]),
            device_mapper: with("DM_NAME")
                .map(|name| [name, get("DM_UUID"), get("DM_VG_NAME"), get("DM_LV_NAME"), get("DM_LV_LAYER")]),
            ata,
        }
    }

    /// All but what stands in the family `node_disk_info`.
    pub(super) fn write(&self, device: &str, out: &mut Writer<'_>) {
        let device = ("device", device);
        if let Some([kind, usage, uuid, version]) = &self.file_system {
            let labels =
                out.labels(&[device, ("type", kind), ("usage", usage), ("uuid", uuid), ("version", version)]);
            out.node(F::FilesystemInfo, labels, 1.0);
        }
        if let Some([name, uuid, group, volume, layer]) = &self.device_mapper {
            let labels = out.labels(&[
                device,
                ("lv_layer", layer),
                ("lv_name", volume),
                ("name", name),
                ("uuid", uuid),
                ("vg_name", group),
            ]);
            out.node(F::DeviceMapperInfo, labels, 1.0);
        }
        if self.ata.iter().any(Option::is_some) {
            let labels = out.labels(&[device]);
            for ((_, family), value) in ATA.into_iter().zip(self.ata) {
                if let Some(value) = value {
                    out.node(family, labels, value);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::shown::Tree;

    #[test]
    fn the_serial_number_is_the_best_that_there_is() {
        let serial = |text: &str| Properties::parse(text.as_bytes()).serial;
        assert_eq!(
            serial("E:ID_SERIAL=long\nE:ID_SERIAL_SHORT=short\nE:SCSI_IDENT_SERIAL=printed\n"),
            "printed"
        );
        assert_eq!(serial("E:ID_SERIAL=long\nE:ID_SERIAL_SHORT=short\nE:SCSI_IDENT_SERIAL=\n"), "short");
        assert_eq!(serial("S:disk/by-id/x\nI:123\nE:ID_SERIAL=a=b c\n"), "a=b c");
        assert_eq!(serial("ID_SERIAL=x\nE:ID_SERIALS=x\nE:ID_SERIAL"), "");
    }

    #[test]
    fn what_ata_disks_tell_is_asked_only_of_these() {
        let text = "E:ID_ATA_WRITE_CACHE=1\nE:ID_ATA_ROTATION_RATE_RPM=fast\n";
        assert_eq!(Properties::parse(text.as_bytes()), Properties::default());
        let text = [text, "E:ID_ATA=1\n"].concat();
        assert_eq!(Properties::parse(text.as_bytes()).ata, [Some(1.0), None, None]);
    }

    #[test]
    fn files_are_read_again_only_when_one_of_them_changed() {
        let now = SystemTime::now();
        let tree = Tree::new(&[("udev/b8:0", "E:ID_MODEL=one\n")]);
        let folder = tree.path().join("udev");
        let mut udev = Udev::new(&folder);
        let [soon, later] = [1, 3600].map(|seconds| now + Duration::from_secs(seconds));
        let first = udev.version(soon).unwrap();
        let second = udev.version(soon).unwrap();
        assert_ne!(first, second, "what has just changed may change again unseen");
        let third = udev.version(later).unwrap();
        assert_eq!(udev.version(later), Some(third));
        assert_eq!(udev.read(8, 0, &mut Vec::new()).model, "one");
        std::fs::rename(folder.join("b8:0"), folder.join("b8:1")).unwrap();
        assert_ne!(udev.version(later), Some(third));
        assert_eq!(Udev::new(Path::new("/no such folder")).version(now), None);
    }
}
