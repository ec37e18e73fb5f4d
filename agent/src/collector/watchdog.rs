//! State and timeouts of each watchdog.

use super::{CollectError, Collector, NodeCollector, Run};
use crate::devices::Devices;
use crate::metric::{Writer, families};

/// `watchdog`
pub(super) const COLLECTOR: Collector = Collector {
    name: "watchdog",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[],
    options: &[],
    exclusive: &[],
    run: Run::Node {
        start: |paths, _| {
            Box::new(Watchdog(Devices::new(paths.sysfs.join("class/watchdog"), FILES, &paths.handles)))
        },
        can_block: true,
    },
};

families! {
    AccessCs0 Gauge "node_watchdog_access_cs0" "Value of /sys/class/watchdog/<watchdog>/access_cs0.";
    Bootstatus Gauge "node_watchdog_bootstatus" "Value of /sys/class/watchdog/<watchdog>/bootstatus.";
    FwVersion Gauge "node_watchdog_fw_version" "Value of /sys/class/watchdog/<watchdog>/fw_version.";
    Nowayout Gauge "node_watchdog_nowayout" "Value of /sys/class/watchdog/<watchdog>/nowayout.";
    PretimeoutSeconds Gauge "node_watchdog_pretimeout_seconds" "Value of /sys/class/watchdog/<watchdog>/pretimeout.";
    TimeleftSeconds Gauge "node_watchdog_timeleft_seconds" "Value of /sys/class/watchdog/<watchdog>/timeleft.";
    TimeoutSeconds Gauge "node_watchdog_timeout_seconds" "Value of /sys/class/watchdog/<watchdog>/timeout.";
    Info Gauge "node_watchdog_info" "Info of /sys/class/watchdog/<watchdog>.";
}

/// Documentation/ABI/testing/sysfs-class-watchdog
const FILES: &[&str] = &[
    "access_cs0",
    "bootstatus",
    "fw_version",
    "nowayout",
    "pretimeout",
    "timeleft",
    "timeout",
    "identity",
    "options",
    "pretimeout_governor",
    "state",
    "status",
];

/// The families of the files that are numbers; those after them are labels.
const NUMBERS: [F; 7] = [
    F::AccessCs0,
    F::Bootstatus,
    F::FwVersion,
    F::Nowayout,
    F::PretimeoutSeconds,
    F::TimeleftSeconds,
    F::TimeoutSeconds,
];

struct Watchdog(Devices);

impl NodeCollector for Watchdog {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let Watchdog(devices) = self;
        devices.list()?;
        for i in 0..devices.len() {
            let labels = out.labels(&[("name", devices.name(i))]);
            for (file, family) in NUMBERS.into_iter().enumerate() {
                if let Some(value) = devices.number(i, file) {
                    out.node(family, labels, value as f64);
                }
            }
            let mut info = labels;
            for (file, name) in FILES.iter().enumerate().skip(NUMBERS.len()) {
                info = out.with(info, name, &devices.text(i, file).unwrap_or_default());
            }
            out.node(F::Info, info, 1.0);
        }
        devices.result()
    }
}
