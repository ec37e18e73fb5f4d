//! Traffic of each network interface of the machine.

use super::{CollectError, Collector, NodeCollector, OptionDesc, OptionKind, Pattern, Run};
use crate::metric::{Writer, families};
use crate::source::file::NodeFile;
use crate::source::text::{interface, label, lines, whole_lines};

/// `netdev`
pub(super) const COLLECTOR: Collector = Collector {
    name: "netdev",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[],
    options: &[
        OptionDesc::new("deviceExclude", OptionKind::Regex, "", "Interfaces to leave out.")
            .deprecated(&["collector.netdev.device-blacklist"]),
        OptionDesc::new("deviceInclude", OptionKind::Regex, "", "Interfaces to give, and no others.")
            .deprecated(&["collector.netdev.device-whitelist"]),
    ],
    exclusive: &[("deviceExclude", "deviceInclude")],
    run: Run::Node {
        start: |paths, options| {
            Box::new(Netdev {
                file: NodeFile::new(paths.net("dev")),
                devices: options.pattern(&COLLECTOR, "deviceInclude", "deviceExclude"),
            })
        },
        can_block: false,
    },
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

struct Netdev {
    file: NodeFile,
    devices: Pattern,
}

impl NodeCollector for Netdev {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        if !out.wants_any(COLUMNS) {
            return Ok(());
        }
        let text = self.file.read()?;
        let (text, is_whole) = whole_lines(text);
        let mut result = if is_whole { Ok(()) } else { Err("ends in the middle".to_owned()) };
        // After two lines of headings.
        for line in lines(text).skip(2) {
            let Some((device, values)) = interface(line) else {
                result = Err(format!("`{}` is not the counters of an interface", label(line)));
                continue;
            };
            let device = label(device);
            if self.devices.ignores(&device) {
                continue;
            }
            let labels = out.labels(&[("device", &device)]);
            for (family, value) in COLUMNS.into_iter().zip(values) {
                out.node(family, labels, value as f64);
            }
        }
        result.map_err(|what| CollectError::parse(self.file.path(), what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Samples;

    #[test]
    fn a_name_may_hold_anything_but_what_ends_it_and_a_cut_line_costs_its_own_interface() {
        let path = std::env::temp_dir().join(format!("netdev-{}", std::process::id()));
        let mut text = b"Inter-| Receive | Transmit\n face |bytes|bytes\n".to_vec();
        let numbers = " 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 18446744073709551615\n";
        for name in [&b"a)b\"|:1"[..], b"\xff0"] {
            text.extend_from_slice(name);
            text.push(b':');
            text.extend_from_slice(numbers.as_bytes());
        }
        text.extend_from_slice(b"eth1: 1 2 3 4 5 6 7 8 9 1");
        std::fs::write(&path, text).unwrap();
        let mut collector = Netdev { file: NodeFile::new(path.clone()), devices: Pattern::default() };
        let mut samples = Samples::new(FAMILIES.len());
        let result = collector.collect(&mut samples.writer(0, &[true; FAMILIES.len()]));
        assert!(matches!(result, Err(CollectError::Parse { .. })));
        let last = samples.family(F::TransmitCompressed as usize);
        let found: Vec<_> =
            last.iter().map(|s| (std::str::from_utf8(samples.labels(s.labels)).unwrap(), s.value)).collect();
        let most = u64::MAX as f64;
        assert_eq!(found, [(r#"device="a)b\"|:1""#, most), ("device=\"\u{fffd}0\"", most)]);
        std::fs::remove_file(&path).unwrap();
    }
}
