//! The temperature of each thermal zone, and how far each cooling device is throttled.

use super::{CollectError, Collector, NodeCollector, Run};
use crate::devices::Devices;
use crate::metric::{Writer, families};

/// `thermal_zone`
pub(super) const COLLECTOR: Collector = Collector {
    name: "thermal_zone",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[],
    options: &[],
    exclusive: &[],
    run: Run::Node {
        start: |paths, _| {
            let folder = paths.sysfs.join("class/thermal");
            Box::new(Thermal(Devices::new(folder, FILES, &paths.handles)))
        },
        // A zone is asked of firmware or over a slow bus.
        can_block: true,
    },
};

families! {
    Temp Gauge "node_thermal_zone_temp" "Zone temperature in Celsius.";
    CurState Gauge "node_cooling_device_cur_state" "Current throttle state of the cooling device.";
    MaxState Gauge "node_cooling_device_max_state" "Maximum throttle state of the cooling device.";
}

/// Documentation/driver-api/thermal/sysfs-api.rst
const FILES: &[&str] = &["type", "temp", "max_state", "cur_state"];
const TYPE: usize = 0;
const TEMP: usize = 1;
const MAX_STATE: usize = 2;
const CUR_STATE: usize = 3;

struct Thermal(Devices);

impl NodeCollector for Thermal {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let Thermal(devices) = self;
        devices.list_if_there()?;
        for i in 0..devices.len() {
            let name = devices.name(i);
            if let Some(zone) = number_after("thermal_zone", name) {
                let labels = out.labels(&[("zone", zone)]);
                // A sensor that is off has no value.
                let Some(temp) = devices.number(i, TEMP) else { continue };
                let kind = devices.text(i, TYPE);
                let labels = out.with(labels, "type", kind.as_deref().unwrap_or_default());
                out.node(F::Temp, labels, temp as f64 / 1000.0);
            } else if let Some(device) = number_after("cooling_device", name) {
                let labels = out.labels(&[("name", device)]);
                let Some(kind) = devices.text(i, TYPE) else { continue };
                let labels = out.with(labels, "type", &kind);
                // -1 where it is not known, as with intel_powerclamp.
                let (Some(most), Some(now)) = (devices.number(i, MAX_STATE), devices.number(i, CUR_STATE))
                else {
                    continue;
                };
                out.node(F::MaxState, labels, most as f64);
                out.node(F::CurState, labels, now as f64);
            }
        }
        devices.result()
    }
}

fn number_after<'a>(what: &str, name: &'a str) -> Option<&'a str> {
    name.strip_prefix(what).filter(|number| number.starts_with(|c: char| c.is_ascii_digit()))
}
