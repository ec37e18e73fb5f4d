//! Space, commits and devices of each mounted Btrfs file system.

use super::{CollectError, Collector, NodeCollector, Run};
use crate::devices::{Below, Devices};
use crate::metric::{Labels, Writer, families};
use crate::source::text::pairs;

/// `btrfs`
pub(super) const COLLECTOR: Collector = Collector {
    name: "btrfs",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[],
    options: &[],
    exclusive: &[],
    run: Run::Node {
        start: |paths, _| {
            let folder = paths.sysfs.join("fs/btrfs");
            let layouts =
                |inside| Below::new(inside, LAYOUT, |name| copies(name, 0.0).is_some(), &paths.handles);
            Box::new(Btrfs {
                // Each is called by its id; the others are `features` and the like.
                file_systems: Devices::new(folder, FILES, &paths.handles).only(|name| name.contains('-')),
                layouts: [
                    layouts("allocation/data"),
                    layouts("allocation/metadata"),
                    layouts("allocation/system"),
                ],
                devices: Below::new("devices", &["size"], |_| true, &paths.handles),
                ids: Below::new("devinfo", &["error_stats"], |_| true, &paths.handles),
            })
        },
        can_block: false,
    },
};

families! {
    AllocationRatio Gauge "node_btrfs_allocation_ratio" "Data allocation ratio for a layout/data type.";
    CommitSeconds Counter "node_btrfs_commit_seconds_total" "Sum of the duration of all commits, in seconds.";
    Commits Counter "node_btrfs_commits_total" "The total number of commits that have occurred.";
    DeviceErrors Counter "node_btrfs_device_errors_total" "Errors reported for the device.";
    DeviceSizeBytes Gauge "node_btrfs_device_size_bytes" "Size of a device that is part of the filesystem.";
    GlobalReserveBytes Gauge "node_btrfs_global_rsv_size_bytes" "Size of global reserve.";
    Info Gauge "node_btrfs_info" "Filesystem information.";
    LastCommitSeconds Gauge "node_btrfs_last_commit_seconds" "Duration of the most recent commit, in seconds.";
    MaxCommitSeconds Gauge "node_btrfs_max_commit_seconds" "Duration of the slowest commit, in seconds.";
    ReservedBytes Gauge "node_btrfs_reserved_bytes" "Amount of space reserved for a data type.";
    SizeBytes Gauge "node_btrfs_size_bytes" "Amount of space allocated for a layout/data type.";
    UsedBytes Gauge "node_btrfs_used_bytes" "Amount of used space by a layout/data type.";
}

/// fs/btrfs/sysfs.c
const FILES: &[&str] = &[
    "metadata_uuid",
    "label",
    "allocation/global_rsv_size",
    "commit_stats",
    "allocation/data/bytes_reserved",
    "allocation/metadata/bytes_reserved",
    "allocation/system/bytes_reserved",
];
const UUID: usize = 0;
const LABEL: usize = 1;
const GLOBAL_RESERVE: usize = 2;
const COMMIT_STATS: usize = 3;
const RESERVED: usize = 4;

const TYPES: [&str; 3] = ["data", "metadata", "system"];

const LAYOUT: &[&str] = &["total_bytes", "used_bytes"];
const TOTAL: usize = 0;
const USED: usize = 1;

/// Of `devinfo/ID/error_stats`, since Linux 5.14.
const ERRORS: [(&[u8], &str); 5] = [
    (b"write_errs", "write"),
    (b"read_errs", "read"),
    (b"flush_errs", "flush"),
    (b"corruption_errs", "corruption"),
    (b"generation_errs", "generation"),
];

struct Btrfs {
    file_systems: Devices,
    layouts: [Below; 3],
    devices: Below,
    ids: Below,
}

impl NodeCollector for Btrfs {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        self.file_systems.list_if_there()?;
        let mut result = Ok(());
        let below = self.layouts.iter_mut().chain([&mut self.devices, &mut self.ids]);
        for below in below {
            result = result.and(below.list(&self.file_systems));
        }
        for i in 0..self.file_systems.len() {
            self.file_system(i, out);
        }
        result = result.and(self.file_systems.result());
        for below in self.layouts.iter_mut().chain([&mut self.devices, &mut self.ids]) {
            result = result.and(below.result());
        }
        result
    }
}

impl Btrfs {
    fn file_system(&mut self, i: usize, out: &mut Writer<'_>) {
        let file_systems = &mut self.file_systems;
        let labels = match file_systems.text(i, UUID).filter(|uuid| !uuid.is_empty()) {
            Some(uuid) => out.labels(&[("uuid", &uuid)]),
            None => out.labels(&[("uuid", file_systems.name(i))]),
        };
        let info = out.with(labels, "label", &file_systems.text(i, LABEL).unwrap_or_default());
        out.node(F::Info, info, 1.0);
        if let Some(bytes) = file_systems.number(i, GLOBAL_RESERVE) {
            out.node(F::GlobalReserveBytes, labels, bytes as f64);
        }
        if let Some(text) = file_systems.read(i, COMMIT_STATS) {
            commits(text, labels, out);
        }
        let devices = self.devices.of(i);
        for device in 0..devices.len() {
            let labels = out.with(labels, "device", devices.name(device));
            if let Some(sectors) = devices.number(device, 0) {
                // Of 512 bytes, whatever the device has (Documentation/ABI/stable/sysfs-block).
                out.node(F::DeviceSizeBytes, labels, (sectors * 512) as f64);
            }
        }
        for (kind, place) in TYPES.into_iter().zip(0..) {
            let labels = out.with(labels, "block_group_type", kind);
            if let Some(bytes) = self.file_systems.number(i, RESERVED + place) {
                out.node(F::ReservedBytes, labels, bytes as f64);
            }
            let layouts = self.layouts[place].of(i);
            for layout in 0..layouts.len() {
                let name = layouts.name(layout);
                let ratio = copies(name, devices.len() as f64);
                let labels = out.with(labels, "mode", name);
                if let Some(ratio) = ratio.filter(|ratio| ratio.is_finite()) {
                    out.node(F::AllocationRatio, labels, ratio);
                }
                for (file, family) in [(TOTAL, F::SizeBytes), (USED, F::UsedBytes)] {
                    if let Some(bytes) = layouts.number(layout, file) {
                        out.node(family, labels, bytes as f64);
                    }
                }
            }
        }
        self.errors(i, labels, out);
    }

    /// Errors are told by the number of a device; /sys says which that is only of the one that has no other beside it.
    fn errors(&mut self, i: usize, labels: Labels, out: &mut Writer<'_>) {
        let (devices, ids) = (self.devices.of(i), self.ids.of(i));
        for id in 0..ids.len() {
            let labels = match (devices.len(), ids.len()) {
                (1, 1) => out.with(labels, "device", devices.name(0)),
                _ => out.with(labels, "devid", ids.name(id)),
            };
            // Of a device that is missing it says so, in a word.
            let Some(text) = ids.read(id, 0) else { continue };
            for (key, value) in pairs(text) {
                if let Some((_, kind)) = ERRORS.iter().find(|(known, _)| *known == key) {
                    let labels = out.with(labels, "type", kind);
                    out.node(F::DeviceErrors, labels, value as f64);
                }
            }
        }
    }
}

/// `commits 3`, `last_commit_ms 5` and so on, since Linux 6.1.
fn commits(text: &[u8], labels: Labels, out: &mut Writer<'_>) {
    for (key, value) in pairs(text) {
        let (family, unit) = match key {
            b"commits" => (F::Commits, 1.0),
            b"last_commit_ms" => (F::LastCommitSeconds, 1000.0),
            b"max_commit_ms" => (F::MaxCommitSeconds, 1000.0),
            b"total_commit_ms" => (F::CommitSeconds, 1000.0),
            _ => continue,
        };
        out.node(family, labels, value as f64 / unit);
    }
}

/// How many bytes of the devices a byte takes in a layout (fs/btrfs/volumes.c, btrfs_raid_array).
fn copies(layout: &str, devices: f64) -> Option<f64> {
    match layout {
        "single" | "raid0" => Some(1.0),
        "dup" | "raid1" | "raid10" => Some(2.0),
        "raid1c3" => Some(3.0),
        "raid1c4" => Some(4.0),
        "raid5" => Some(devices / (devices - 1.0)),
        "raid6" => Some(devices / (devices - 2.0)),
        _ => None,
    }
}
