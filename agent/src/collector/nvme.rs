//! Model, state and namespaces of each NVMe controller.

use super::{CollectError, Collector, NodeCollector, Run};
use crate::devices::{Below, Devices};
use crate::metric::{Writer, families};

/// `nvme`
pub(super) const COLLECTOR: Collector = Collector {
    name: "nvme",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[],
    options: &[],
    exclusive: &[],
    run: Run::Node {
        start: |paths, _| {
            Box::new(Nvme {
                controllers: Devices::new(paths.sysfs.join("class/nvme"), CONTROLLER, &paths.handles),
                namespaces: Below::new("", NAMESPACE, |name| nsid(name).is_some(), &paths.handles),
            })
        },
        // What a namespace uses is asked of the device (drivers/nvme/host/sysfs.c, nuse_show).
        can_block: true,
    },
};

families! {
    Info Gauge "node_nvme_info" "Non-numeric data from /sys/class/nvme/<device>, value is always 1.";
    CapacityBytes Gauge "node_nvme_namespace_capacity_bytes" "Capacity of the NVMe namespace in bytes.";
    NamespaceInfo Gauge "node_nvme_namespace_info" "Information about NVMe namespaces. Value is always 1.";
    BlockBytes Gauge "node_nvme_namespace_logical_block_size_bytes" "Logical block size of the NVMe namespace in bytes.";
    SizeBytes Gauge "node_nvme_namespace_size_bytes" "Size of the NVMe namespace in bytes.";
    UsedBytes Gauge "node_nvme_namespace_used_bytes" "Used space of the NVMe namespace in bytes, since Linux 6.8.";
}

/// Labels and files.
const CONTROLLER: &[&str] = &["state", "model", "serial", "firmware_rev", "cntlid"];
const CONTROLLER_LABELS: [&str; 5] = ["state", "model", "serial", "firmware_revision", "cntlid"];

const NAMESPACE: &[&str] = &["size", "queue/logical_block_size", "nuse", "ana_state"];
const SIZE: usize = 0;
const BLOCK: usize = 1;
const USED: usize = 2;
const ANA_STATE: usize = 3;

/// What /sys counts sizes in, whatever the device's blocks are (Documentation/ABI/stable/sysfs-block).
const SECTOR: i128 = 512;

struct Nvme {
    controllers: Devices,
    namespaces: Below,
}

impl NodeCollector for Nvme {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let Nvme { controllers, namespaces } = self;
        controllers.list()?;
        let result = namespaces.list(controllers);
        for i in 0..controllers.len() {
            let device = out.labels(&[("device", controllers.name(i))]);
            let mut info = device;
            for (file, label) in CONTROLLER_LABELS.into_iter().enumerate() {
                info = out.with(info, label, &controllers.text(i, file).unwrap_or_default());
            }
            out.node(F::Info, info, 1.0);
            let namespaces = namespaces.of(i);
            for place in 0..namespaces.len() {
                let Some(id) = nsid(namespaces.name(place)) else { continue };
                let labels = out.with(device, "nsid", id);
                // Only where there may be several ways to it.
                let state = namespaces.text(place, ANA_STATE).unwrap_or("unknown".into());
                let info = out.with(labels, "ana_state", &state);
                out.node(F::NamespaceInfo, info, 1.0);
                if let Some(sectors) = namespaces.number(place, SIZE) {
                    for family in [F::CapacityBytes, F::SizeBytes] {
                        out.node(family, labels, (sectors * SECTOR) as f64);
                    }
                }
                if let Some(block) = namespaces.number(place, BLOCK) {
                    out.node(F::BlockBytes, labels, block as f64);
                    if let Some(used) = namespaces.number(place, USED) {
                        out.node(F::UsedBytes, labels, used as f64 * block as f64);
                    }
                }
            }
        }
        result.and(controllers.result()).and(namespaces.result())
    }
}

/// `1` of `nvme0n1`. A path to a namespace, `nvme0c0n1`, is none (drivers/nvme/host/multipath.c).
fn nsid(name: &str) -> Option<&str> {
    let is_number = |text: &&str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let (controller, id) = name.strip_prefix("nvme")?.split_once('n')?;
    Some(id).filter(is_number).filter(|_| is_number(&controller))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_told_by_its_name() {
        let names = ["nvme0n1", "nvme12n34", "nvme0c0n1", "nvme0n1p1", "ng0n1", "hwmon3", "nvmen1", "nvme0n"];
        let found = names.map(nsid);
        assert_eq!(found, [Some("1"), Some("34"), None, None, None, None, None, None]);
    }
}
