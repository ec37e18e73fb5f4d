//! State of each device-mapper multipath device and of its paths.

use super::{CollectError, Collector, NodeCollector, Run};
use crate::devices::{Below, Devices};
use crate::metric::{Labels, Writer, families};

/// `dmmultipath`
pub(super) const COLLECTOR: Collector = Collector {
    name: "dmmultipath",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[],
    options: &[],
    exclusive: &[],
    run: Run::Node {
        start: |paths, _| {
            Box::new(Multipath {
                devices: Devices::new(paths.sysfs.join("block"), FILES, &paths.handles)
                    .only(|name| name.starts_with("dm-")),
                paths: Below::new("slaves", &["device/state"], |_| true, &paths.handles),
                name: String::new(),
            })
        },
        can_block: false,
    },
};

families! {
    Active Gauge "node_dmmultipath_device_active" "Whether the multipath device-mapper device is active (1) or suspended (0).";
    Info Gauge "node_dmmultipath_device_info" "Non-numeric information about a DM-multipath device.";
    Paths Gauge "node_dmmultipath_device_paths" "Number of paths for a multipath device.";
    PathsActive Gauge "node_dmmultipath_device_paths_active" "Number of paths in active state (SCSI running or NVMe live) for a multipath device.";
    PathsFailed Gauge "node_dmmultipath_device_paths_failed" "Number of paths not in active state for a multipath device.";
    SizeBytes Gauge "node_dmmultipath_device_size_bytes" "Size of the multipath device in bytes, read from /sys/block/<dm>/size.";
    PathState Gauge "node_dmmultipath_path_state" "State of the device below a multipath path, as read from /sys/block/<dev>/device/state.";
}

/// Documentation/ABI/testing/sysfs-block-dm
const FILES: &[&str] = &["dm/uuid", "dm/name", "dm/suspended", "size"];
const UUID: usize = 0;
const NAME: usize = 1;
const SUSPENDED: usize = 2;
const SIZE: usize = 3;

struct Multipath {
    devices: Devices,
    paths: Below,
    name: String,
}

impl NodeCollector for Multipath {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let Multipath { devices, paths, name } = self;
        devices.list()?;
        let result = paths.list(devices);
        for i in 0..devices.len() {
            let is_multipath = |uuid: &std::borrow::Cow<'_, str>| uuid.starts_with("mpath-");
            let Some(uuid) = devices.text(i, UUID).filter(is_multipath) else { continue };
            let uuid = out.with(Labels::NONE, "uuid", &uuid);
            name.clear();
            name.push_str(&devices.text(i, NAME).unwrap_or_default());
            let info = out.with(uuid, "device", name);
            let info = out.with(info, "sysfs_name", devices.name(i));
            out.node(F::Info, info, 1.0);
            let labels = out.labels(&[("device", name), ("sysfs_name", devices.name(i))]);
            if let Some(suspended) = devices.number(i, SUSPENDED) {
                out.node(F::Active, labels, f64::from(suspended != 1));
            }
            if let Some(sectors) = devices.number(i, SIZE) {
                // Of 512 bytes, whatever the device has (Documentation/ABI/stable/sysfs-block).
                out.node(F::SizeBytes, labels, (sectors * 512) as f64);
            }
            let paths = paths.of(i);
            let mut active = 0;
            for path in 0..paths.len() {
                let labels = out.labels(&[("device", name), ("path", paths.name(path))]);
                // A device that has no state is not known to be active.
                if let Some(state) = paths.text(path, 0) {
                    active += usize::from(state == "running" || state == "live");
                    let labels = out.with(labels, "state", &state);
                    out.node(F::PathState, labels, 1.0);
                }
            }
            out.node(F::Paths, labels, paths.len() as f64);
            out.node(F::PathsActive, labels, active as f64);
            out.node(F::PathsFailed, labels, (paths.len() - active) as f64);
        }
        result.and(devices.result()).and(paths.result())
    }
}
