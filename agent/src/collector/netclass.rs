//! State and properties of each network interface of the machine.

use regex::Regex;

use super::{CollectError, Collector, NodeCollector, OptionDesc, OptionKind, Run};
use crate::devices::Devices;
use crate::metric::{Labels, Writer, families};

/// `netclass`
pub(super) const COLLECTOR: Collector = Collector {
    name: "netclass",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[],
    options: &[
        OptionDesc::new("ignoredDevices", OptionKind::Regex, "^$", "Interfaces to leave out."),
        OptionDesc::new(
            "ignoreInvalidSpeed",
            OptionKind::Bool,
            "false",
            "Whether to leave out the speed of an interface that does not know it, instead of giving -1 Mbit/s.",
        ),
        OptionDesc::new(
            "netlink",
            OptionKind::Bool,
            "false",
            "Accepted and without effect: the same families come from /sys, which is the machine's also in a pod.",
        ),
        OptionDesc::new(
            "rtnlWithStats",
            OptionKind::Bool,
            "false",
            "Accepted and without effect: the statistics of interfaces are those of the collector netdev.",
        )
        .flag("collector.netclass_rtnl.with-stats"),
    ],
    exclusive: &[],
    run: Run::Node {
        start: |paths, options| {
            Box::new(Netclass {
                interfaces: Devices::new(paths.sysfs.join("class/net"), FILES, &paths.handles)
                    .once_a_minute(RARE),
                ignored: options.regex(&COLLECTOR, "ignoredDevices"),
                ignore_invalid_speed: options.flag(&COLLECTOR, "ignoreInvalidSpeed"),
            })
        },
        // carrier, speed and duplex take the RTNL lock (net/core/net-sysfs.c), which others can hold for long; the last
        // two ask the device.
        can_block: true,
    },
};

families! {
    AddressAssignType Gauge "node_network_address_assign_type" "Network device property: address_assign_type.";
    Carrier Gauge "node_network_carrier" "Network device property: carrier.";
    CarrierChanges Counter "node_network_carrier_changes_total" "Network device property: carrier_changes_total.";
    CarrierUpChanges Counter "node_network_carrier_up_changes_total" "Network device property: carrier_up_changes_total.";
    CarrierDownChanges Counter "node_network_carrier_down_changes_total" "Network device property: carrier_down_changes_total.";
    DeviceId Gauge "node_network_device_id" "Network device property: device_id.";
    Dormant Gauge "node_network_dormant" "Network device property: dormant.";
    Flags Gauge "node_network_flags" "Network device property: flags.";
    IfaceId Gauge "node_network_iface_id" "Network device property: iface_id.";
    IfaceLink Gauge "node_network_iface_link" "Network device property: iface_link.";
    IfaceLinkMode Gauge "node_network_iface_link_mode" "Network device property: iface_link_mode.";
    Info Gauge "node_network_info" "Non-numeric data from /sys/class/net/<iface>, value is always 1.";
    MtuBytes Gauge "node_network_mtu_bytes" "Network device property: mtu_bytes.";
    NameAssignType Gauge "node_network_name_assign_type" "Network device property: name_assign_type.";
    NetDevGroup Gauge "node_network_net_dev_group" "Network device property: net_dev_group.";
    ProtocolType Gauge "node_network_protocol_type" "Network device property: protocol_type.";
    SpeedBytes Gauge "node_network_speed_bytes" "Network device property: speed_bytes.";
    TransmitQueueLength Gauge "node_network_transmit_queue_length" "Network device property: transmit_queue_length.";
    Up Gauge "node_network_up" "Value is 1 if operstate is 'up', 0 otherwise.";
}

/// Documentation/ABI/testing/sysfs-class-net. All of them can change while the interface lives, but for `dev_id` and
/// `ifindex`, and the latter does when the interface goes to another network namespace and comes back.
const FILES: &[&str] = &[
    "flags",
    "operstate",
    "address",
    "broadcast",
    "duplex",
    "ifalias",
    "speed",
    "addr_assign_type",
    "carrier",
    "carrier_changes",
    "carrier_up_count",
    "carrier_down_count",
    "dev_id",
    "dormant",
    "ifindex",
    "iflink",
    "link_mode",
    "mtu",
    "name_assign_type",
    "netdev_group",
    "tx_queue_len",
    "type",
];
/// Those that only somebody's own doing changes, such as another address or group.
const RARE: &[&str] = &[
    "addr_assign_type",
    "address",
    "broadcast",
    "dev_id",
    "ifalias",
    "ifindex",
    "iflink",
    "link_mode",
    "name_assign_type",
    "netdev_group",
    "tx_queue_len",
    "type",
];
const FLAGS: usize = 0;
const OPERSTATE: usize = 1;
const TEXTS: std::ops::Range<usize> = 2..6;
const SPEED: usize = 6;

/// The families of the files after the speed.
const NUMBERS: [F; 15] = [
    F::AddressAssignType,
    F::Carrier,
    F::CarrierChanges,
    F::CarrierUpChanges,
    F::CarrierDownChanges,
    F::DeviceId,
    F::Dormant,
    F::IfaceId,
    F::IfaceLink,
    F::IfaceLinkMode,
    F::MtuBytes,
    F::NameAssignType,
    F::NetDevGroup,
    F::TransmitQueueLength,
    F::ProtocolType,
];

/// Whether the interface is switched on (include/uapi/linux/if.h).
const IFF_UP: i128 = 1;

struct Netclass {
    interfaces: Devices,
    ignored: Option<Regex>,
    ignore_invalid_speed: bool,
}

impl NodeCollector for Netclass {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        self.interfaces.list()?;
        for i in 0..self.interfaces.len() {
            let name = self.interfaces.name(i);
            if !self.ignored.as_ref().is_some_and(|ignored| ignored.is_match(name)) {
                let device = out.labels(&[("device", name)]);
                self.interface(i, device, out);
            }
        }
        self.interfaces.result()
    }
}

impl Netclass {
    fn interface(&mut self, i: usize, device: Labels, out: &mut Writer<'_>) {
        // Every interface has one; without it, this one is going (net/core/net-sysfs.c, netdev_show).
        let Some(state) = self.interfaces.text(i, OPERSTATE) else { return };
        out.node(F::Up, device, f64::from(state == "up"));
        let mut info = out.with(device, "operstate", &state);
        if out.wants_any([F::Flags, F::Info]) {
            let flags = self.interfaces.number(i, FLAGS);
            if let Some(flags) = flags {
                out.node(F::Flags, device, flags as f64);
            }
            let state = match flags {
                None => "unknown",
                Some(flags) if flags & IFF_UP == 0 => "down",
                Some(_) => "up",
            };
            info = out.with(info, "adminstate", state);
        }
        if out.wants(F::Info) {
            for file in TEXTS {
                let text = self.interfaces.text(i, file);
                info = out.with(info, FILES[file], text.as_deref().unwrap_or_default());
            }
            out.node(F::Info, info, 1.0);
        }
        if out.wants(F::SpeedBytes)
            && let Some(speed) = self.interfaces.number(i, SPEED)
            && (speed >= 0 || !self.ignore_invalid_speed)
        {
            // In Mbit/s; -1 where the device does not know it.
            out.node(F::SpeedBytes, device, (speed * 1_000_000 / 8) as f64);
        }
        for (family, file) in NUMBERS.into_iter().zip(SPEED + 1..) {
            if out.wants(family)
                && let Some(value) = self.interfaces.number(i, file)
            {
                out.node(family, device, value as f64);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::Options;
    use super::*;
    use crate::metric::Samples;
    use crate::source::Paths;

    #[test]
    fn an_interface_gives_what_it_knows() {
        let sysfs = std::env::temp_dir().join(format!("netclass-{}", std::process::id()));
        let write = |device: &str, file: &str, text: &[u8]| {
            let folder = sysfs.join("class/net").join(device);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(file), text).unwrap();
        };
        write("eth0", "operstate", b"up\n");
        write("eth0", "flags", b"0x1003\n");
        write("eth0", "speed", b"-1\n");
        write("eth0", "ifalias", b"to \"b\\\xff\"\n");
        write("eth0", "mtu", b"15");
        write("eth1", "operstate", b"down\n");
        write("eth1", "flags", b"0x1002\n");
        write("gone", "mtu", b"1500\n");
        fs::write(sysfs.join("class/net/bonding_masters"), "\n").unwrap();
        let paths = Paths { sysfs: sysfs.clone(), ..Paths::default() };
        let Run::Node { start, .. } = COLLECTOR.run else { unreachable!() };
        let mut samples = Samples::new(FAMILIES.len());
        start(&paths, &Options::default()).collect(&mut samples.writer(0, &[true; FAMILIES.len()])).unwrap();
        let found = |family: F| -> Vec<(String, f64)> {
            let text =
                |s: &crate::metric::Sample| String::from_utf8(samples.labels(s.labels).to_vec()).unwrap();
            let mut found: Vec<_> =
                samples.family(family as usize).iter().map(|s| (text(s), s.value)).collect();
            found.sort_by(|one, other| one.0.cmp(&other.0));
            found
        };
        let device = |name: &str| format!("device=\"{name}\"");
        assert_eq!(found(F::Up), [(device("eth0"), 1.0), (device("eth1"), 0.0)]);
        assert_eq!(found(F::Flags), [(device("eth0"), 4099.0), (device("eth1"), 4098.0)]);
        assert_eq!(found(F::SpeedBytes), [(device("eth0"), -125_000.0)]);
        assert_eq!(found(F::MtuBytes), [(device("eth0"), 15.0)]);
        assert_eq!(
            found(F::Info)[0].0,
            "device=\"eth0\",operstate=\"up\",adminstate=\"up\",address=\"\",broadcast=\"\",duplex=\"\",ifalias=\"to \\\"b\\\\\u{fffd}\\\"\""
        );
        assert!(found(F::Info)[1].0.contains("adminstate=\"down\""));
        fs::remove_dir_all(&sysfs).unwrap();
    }
}
