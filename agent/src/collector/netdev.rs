//! Traffic of each network interface of the machine.

mod address;

use std::path::PathBuf;
use std::sync::Arc;

use rustix::io::Errno;

use super::{CollectError, Collector, NodeCollector, OptionDesc, OptionKind, Options, Pattern, Run};
use crate::metric::{Writer, families};
use crate::source::Paths;
use crate::source::file::{HandleBudget, NodeFile};
use crate::source::listed::{DeviceFile, Listed};
use crate::source::text::{interface, label, lines, only_number, whole_lines};

/// `netdev`
pub(super) const COLLECTOR: Collector = Collector {
    name: "netdev",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[],
    options: &[
        OptionDesc::new(
            "addressInfo",
            OptionKind::Bool,
            "false",
            "Whether to give the addresses of each interface.",
        ),
        OptionDesc::new("deviceExclude", OptionKind::Regex, "", "Interfaces to leave out.")
            .deprecated(&["collector.netdev.device-blacklist"]),
        OptionDesc::new("deviceInclude", OptionKind::Regex, "", "Interfaces to give, and no others.")
            .deprecated(&["collector.netdev.device-whitelist"]),
        OptionDesc::new(
            "enableDetailedMetrics",
            OptionKind::Bool,
            "false",
            "Whether to give each of the kernel's counters by itself, under names of their own.",
        ),
        OptionDesc::new(
            "labelIfalias",
            OptionKind::Bool,
            "false",
            "Whether to add the interface's alias as a label.",
        ),
        OptionDesc::new(
            "netlink",
            OptionKind::Bool,
            "true",
            "Taken for compatibility, without effect: the files tell the same in any network namespace.",
        ),
    ],
    exclusive: &[("deviceExclude", "deviceInclude")],
    run: Run::Node { start: |paths, options| Box::new(Netdev::new(paths, options)), can_block: false },
};

// In the order of the file's columns. The kernel sums what netlink tells apart (net/core/net-procfs.c), and into the
// same sums as node_exporter does to keep these names.
families! {
    ReceiveBytes Counter "node_network_receive_bytes_total" "Network device statistic receive_bytes.";
    ReceivePackets Counter "node_network_receive_packets_total" "Network device statistic receive_packets.";
    ReceiveErrs Counter "node_network_receive_errs_total" "Network device statistic receive_errs.";
    ReceiveDrop Counter "node_network_receive_drop_total" "Network device statistic receive_drop.";
    ReceiveFifo Counter "node_network_receive_fifo_total" "Network device statistic receive_fifo.";
    ReceiveFrame Counter "node_network_receive_frame_total" "Network device statistic receive_frame.";
    ReceiveCompressed Counter "node_network_receive_compressed_total" "Network device statistic receive_compressed.";
    ReceiveMulticast Counter "node_network_receive_multicast_total" "Network device statistic receive_multicast.";
    TransmitBytes Counter "node_network_transmit_bytes_total" "Network device statistic transmit_bytes.";
    TransmitPackets Counter "node_network_transmit_packets_total" "Network device statistic transmit_packets.";
    TransmitErrs Counter "node_network_transmit_errs_total" "Network device statistic transmit_errs.";
    TransmitDrop Counter "node_network_transmit_drop_total" "Network device statistic transmit_drop.";
    TransmitFifo Counter "node_network_transmit_fifo_total" "Network device statistic transmit_fifo.";
    TransmitColls Counter "node_network_transmit_colls_total" "Network device statistic transmit_colls.";
    TransmitCarrier Counter "node_network_transmit_carrier_total" "Network device statistic transmit_carrier.";
    TransmitCompressed Counter "node_network_transmit_compressed_total" "Network device statistic transmit_compressed.";
    ReceiveNohandler Counter "node_network_receive_nohandler_total" "Network device statistic receive_nohandler.";
    AddressInfo Gauge "node_network_address_info" "Node network address by device.";
    Collisions Counter "node_network_collisions_total" "Network device statistic collisions.";
    Multicast Counter "node_network_multicast_total" "Network device statistic multicast.";
    ReceiveCrcErrors Counter "node_network_receive_crc_errors_total" "Network device statistic receive_crc_errors.";
    ReceiveDropped Counter "node_network_receive_dropped_total" "Network device statistic receive_dropped.";
    ReceiveErrors Counter "node_network_receive_errors_total" "Network device statistic receive_errors.";
    ReceiveFifoErrors Counter "node_network_receive_fifo_errors_total" "Network device statistic receive_fifo_errors.";
    ReceiveFrameErrors Counter "node_network_receive_frame_errors_total" "Network device statistic receive_frame_errors.";
    ReceiveLengthErrors Counter "node_network_receive_length_errors_total" "Network device statistic receive_length_errors.";
    ReceiveMissedErrors Counter "node_network_receive_missed_errors_total" "Network device statistic receive_missed_errors.";
    ReceiveOverErrors Counter "node_network_receive_over_errors_total" "Network device statistic receive_over_errors.";
    TransmitAbortedErrors Counter "node_network_transmit_aborted_errors_total" "Network device statistic transmit_aborted_errors.";
    TransmitCarrierErrors Counter "node_network_transmit_carrier_errors_total" "Network device statistic transmit_carrier_errors.";
    TransmitDropped Counter "node_network_transmit_dropped_total" "Network device statistic transmit_dropped.";
    TransmitErrors Counter "node_network_transmit_errors_total" "Network device statistic transmit_errors.";
    TransmitFifoErrors Counter "node_network_transmit_fifo_errors_total" "Network device statistic transmit_fifo_errors.";
    TransmitHeartbeatErrors Counter "node_network_transmit_heartbeat_errors_total" "Network device statistic transmit_heartbeat_errors.";
    TransmitWindowErrors Counter "node_network_transmit_window_errors_total" "Network device statistic transmit_window_errors.";
}

const COLUMNS: [F; 16] = [
    F::ReceiveBytes,
    F::ReceivePackets,
    F::ReceiveErrs,
    F::ReceiveDrop,
    F::ReceiveFifo,
    F::ReceiveFrame,
    F::ReceiveCompressed,
    F::ReceiveMulticast,
    F::TransmitBytes,
    F::TransmitPackets,
    F::TransmitErrs,
    F::TransmitDrop,
    F::TransmitFifo,
    F::TransmitColls,
    F::TransmitCarrier,
    F::TransmitCompressed,
];

/// A file of `/sys/class/net/NAME/statistics`, which is in the namespace in which that /sys was mounted.
type Statistic = (F, &'static str);

/// What the sums leave out.
const BESIDE_SUMS: &[Statistic] = &[(F::ReceiveNohandler, "rx_nohandler")];

/// Each counter by itself (Documentation/ABI/testing/sysfs-class-net-statistics).
const DETAILED: &[Statistic] = &[
    (F::Collisions, "collisions"),
    (F::Multicast, "multicast"),
    (F::ReceiveBytes, "rx_bytes"),
    (F::ReceiveCompressed, "rx_compressed"),
    (F::ReceiveCrcErrors, "rx_crc_errors"),
    (F::ReceiveDropped, "rx_dropped"),
    (F::ReceiveErrors, "rx_errors"),
    (F::ReceiveFifoErrors, "rx_fifo_errors"),
    (F::ReceiveFrameErrors, "rx_frame_errors"),
    (F::ReceiveLengthErrors, "rx_length_errors"),
    (F::ReceiveMissedErrors, "rx_missed_errors"),
    (F::ReceiveNohandler, "rx_nohandler"),
    (F::ReceiveOverErrors, "rx_over_errors"),
    (F::ReceivePackets, "rx_packets"),
    (F::TransmitAbortedErrors, "tx_aborted_errors"),
    (F::TransmitBytes, "tx_bytes"),
    (F::TransmitCarrierErrors, "tx_carrier_errors"),
    (F::TransmitCompressed, "tx_compressed"),
    (F::TransmitDropped, "tx_dropped"),
    (F::TransmitErrors, "tx_errors"),
    (F::TransmitFifoErrors, "tx_fifo_errors"),
    (F::TransmitHeartbeatErrors, "tx_heartbeat_errors"),
    (F::TransmitPackets, "tx_packets"),
    (F::TransmitWindowErrors, "tx_window_errors"),
];

struct Netdev {
    file: NodeFile,
    pattern: Pattern,
    is_detailed: bool,
    has_alias: bool,
    /// Where addresses are asked for: only the machine's own network namespace tells them.
    has_addresses: bool,
    addresses: address::Addresses,
    interfaces: Listed<Interface>,
    sysfs: PathBuf,
    handles: Arc<HandleBudget>,
    buffer: Vec<u8>,
}

/// What is kept of an interface.
struct Interface {
    is_ignored: bool,
    statistics: Vec<DeviceFile>,
    alias: DeviceFile,
}

impl Netdev {
    fn new(paths: &Paths, options: &Options) -> Self {
        Netdev {
            file: NodeFile::in_short_records(paths.net("dev")),
            pattern: options.pattern(&COLLECTOR, "deviceInclude", "deviceExclude"),
            is_detailed: options.flag(&COLLECTOR, "enableDetailedMetrics"),
            has_alias: options.flag(&COLLECTOR, "labelIfalias"),
            has_addresses: options.flag(&COLLECTOR, "addressInfo") && paths.is_own_network(),
            addresses: address::Addresses::default(),
            interfaces: Listed::default(),
            sysfs: paths.sysfs.join("class/net"),
            handles: paths.handles.clone(),
            buffer: Vec::new(),
        }
    }
}

impl NodeCollector for Netdev {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let addresses = match self.has_addresses && out.wants(F::AddressInfo) {
            true => address::collect(&mut self.addresses, &self.pattern, out),
            false => Ok(()),
        };
        self.counters(out).and(addresses)
    }
}

impl Netdev {
    fn counters(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let statistics = if self.is_detailed { DETAILED } else { BESIDE_SUMS };
        if !out.wants_any(COLUMNS) && !out.wants_any(statistics.iter().map(|(family, _)| *family)) {
            return Ok(());
        }
        let text = self.file.read()?;
        let (text, is_whole) = whole_lines(text);
        let (mut result, mut fault) =
            (if is_whole { Ok(()) } else { Err("ends in the middle".to_owned()) }, None);
        self.interfaces.begin();
        // After two lines of headings.
        for line in lines(text).skip(2) {
            let Some((device, values)) = interface(line) else {
                result = Err(format!("`{}` is not the counters of an interface", label(line)));
                continue;
            };
            let (device, kept) = self.interfaces.next(device, |device| Interface {
                is_ignored: self.pattern.ignores(device),
                statistics: statistics.iter().map(|_| DeviceFile::new(&self.handles)).collect(),
                alias: DeviceFile::new(&self.handles),
            });
            if kept.is_ignored {
                continue;
            }
            let folder = || self.sysfs.join(device);
            let alias = match self.has_alias {
                true => kept.alias.read(|| folder().join("ifalias"), &mut self.buffer).ok().map(label),
                false => None,
            };
            let labels = [("device", device), ("ifalias", alias.as_deref().unwrap_or_default())];
            let labels = out.labels(&labels[..1 + usize::from(alias.is_some())]);
            if !self.is_detailed {
                for (family, value) in COLUMNS.into_iter().zip(values) {
                    out.node(family, labels, value as f64);
                }
            }
            for ((family, name), file) in statistics.iter().zip(&mut kept.statistics) {
                if !out.wants(*family) {
                    continue;
                }
                let path = || folder().join("statistics").join(name);
                match file.read(path, &mut self.buffer).map(only_number) {
                    Ok(Some(value)) => out.node(*family, labels, value as f64),
                    Ok(None) => fault = Some(CollectError::parse(path(), "not a number")),
                    // It has just gone, or is none that sysfs knows.
                    Err(Errno::NOENT | Errno::INVAL) => {}
                    Err(error) => fault = Some(CollectError::read(path(), error)),
                }
            }
        }
        self.interfaces.end();
        result.map_err(|what| CollectError::parse(self.file.path(), what))?;
        fault.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::shown::{Tree, gives, scrape};

    const HEADINGS: &str = "Inter-| Receive | Transmit\n face |bytes|bytes\n";

    #[test]
    fn a_name_may_hold_anything_but_what_ends_it_and_a_cut_line_costs_its_own_interface() {
        let tree = Tree::new(&[]);
        let mut text = HEADINGS.as_bytes().to_vec();
        let numbers = " 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 18446744073709551615\n";
        for name in [&b"a)b\"|:1"[..], b"\xff0"] {
            text.extend_from_slice(name);
            text.push(b':');
            text.extend_from_slice(numbers.as_bytes());
        }
        text.extend_from_slice(b"eth1: 1 2 3 4 5 6 7 8 9 1");
        tree.write("proc/net/dev", &text);
        let (lines, result) = scrape(&COLLECTOR, tree.start(&COLLECTOR, &[]).as_mut());
        assert!(matches!(result, Err(CollectError::Parse { .. })));
        let last: Vec<_> =
            lines.iter().filter(|l| l.starts_with("node_network_transmit_compressed_total")).collect();
        let most = u64::MAX as f64;
        let expected = [
            format!(r#"node_network_transmit_compressed_total{{device="a)b\"|:1"}} {most}"#),
            format!("node_network_transmit_compressed_total{{device=\"\u{fffd}0\"}} {most}"),
        ];
        assert_eq!(last, expected.iter().collect::<Vec<_>>());
    }

    #[test]
    fn what_the_sums_leave_out_comes_from_sysfs() {
        let text = [HEADINGS, "eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n"].concat();
        let files = [
            ("proc/net/dev", text.as_str()),
            ("sys/class/net/eth0/statistics/rx_nohandler", "7\n"),
            ("sys/class/net/eth0/statistics/rx_crc_errors", "8\n"),
            ("sys/class/net/eth0/ifalias", "uplink \"a\"\n"),
        ];
        let (lines, result) = gives(&COLLECTOR, &files, &[]);
        result.unwrap();
        assert_eq!(
            (lines.len(), lines[0].as_str()),
            (17, r#"node_network_receive_bytes_total{device="eth0"} 1"#)
        );
        assert_eq!(lines[16], r#"node_network_receive_nohandler_total{device="eth0"} 7"#);
        let (lines, result) =
            gives(&COLLECTOR, &files, &[("enableDetailedMetrics", "true"), ("labelIfalias", "true")]);
        result.unwrap();
        let expected = [
            r#"node_network_receive_nohandler_total{device="eth0",ifalias="uplink \"a\""} 7"#,
            r#"node_network_receive_crc_errors_total{device="eth0",ifalias="uplink \"a\""} 8"#,
        ];
        assert_eq!(lines, expected);
    }
}
