//! What firmware says of the machine: its vendor, model, and serial numbers.

use super::{CollectError, Collector, NodeCollector, Run};
use crate::devices::Devices;
use crate::metric::{Labels, Writer, families};

/// `dmi`
pub(super) const COLLECTOR: Collector = Collector {
    name: "dmi",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[],
    options: &[],
    exclusive: &[],
    run: Run::Node {
        start: |paths, _| {
            let folder = paths.sysfs.join("class/dmi");
            Box::new(Dmi(Devices::new(folder, FILES, &paths.handles).only(|name| name == "id")))
        },
        can_block: false,
    },
};

families! {
    Info Gauge "node_dmi_info" "What the Desktop Management Interface provides of the machine, as labels; value is always 1.";
}

/// drivers/firmware/dmi-id.c; only root may read the serial numbers and `product_uuid`.
const FILES: &[&str] = &[
    "bios_date",
    "bios_release",
    "bios_vendor",
    "bios_version",
    "board_asset_tag",
    "board_name",
    "board_serial",
    "board_vendor",
    "board_version",
    "chassis_asset_tag",
    "chassis_serial",
    "chassis_vendor",
    "chassis_version",
    "product_family",
    "product_name",
    "product_serial",
    "product_sku",
    "product_uuid",
    "product_version",
    "sys_vendor",
];

struct Dmi(Devices);

impl NodeCollector for Dmi {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let Dmi(devices) = self;
        devices.list()?;
        let mut labels = Labels::NONE;
        let files = if devices.is_empty() { &[] } else { FILES };
        for (file, name) in files.iter().enumerate() {
            if let Some(text) = devices.text(0, file) {
                let name = if *name == "sys_vendor" { "system_vendor" } else { name };
                labels = out.with(labels, name, &text);
            }
        }
        devices.result()?;
        if labels.is_empty() {
            return Err(CollectError::Absent("nothing in /sys/class/dmi/id".to_owned()));
        }
        out.node(F::Info, labels, 1.0);
        Ok(())
    }
}
