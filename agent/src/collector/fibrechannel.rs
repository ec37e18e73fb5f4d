//! Frames, words and errors of each Fibre Channel host, and what it is connected to.

use super::{CollectError, Collector, NodeCollector, Run};
use crate::devices::Devices;
use crate::metric::{Writer, families};

/// `fibrechannel`
pub(super) const COLLECTOR: Collector = Collector {
    name: "fibrechannel",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[],
    options: &[],
    exclusive: &[],
    run: Run::Node {
        start: |paths, _| {
            Box::new(Hosts(Devices::new(paths.sysfs.join("class/fc_host"), FILES, &paths.handles)))
        },
        // Statistics are asked of the adapter.
        can_block: true,
    },
};

families! {
    DumpedFrames Counter "node_fibrechannel_dumped_frames_total" "Number of dumped frames.";
    ErrorFrames Counter "node_fibrechannel_error_frames_total" "Number of errors in frames.";
    FcpPacketAborts Counter "node_fibrechannel_fcp_packet_aborts_total" "Number of aborted packets.";
    InvalidCrc Counter "node_fibrechannel_invalid_crc_total" "Invalid Cyclic Redundancy Check count.";
    InvalidTxWords Counter "node_fibrechannel_invalid_tx_words_total" "Number of invalid words transmitted by host port.";
    LinkFailure Counter "node_fibrechannel_link_failure_total" "Number of times the host port link has failed.";
    LossOfSignal Counter "node_fibrechannel_loss_of_signal_total" "Number of times signal has been lost.";
    LossOfSync Counter "node_fibrechannel_loss_of_sync_total" "Number of failures on either bit or transmission word boundaries.";
    Nos Counter "node_fibrechannel_nos_total" "Number Not_Operational Primitive Sequence received by host port.";
    RxFrames Counter "node_fibrechannel_rx_frames_total" "Number of frames received.";
    RxWords Counter "node_fibrechannel_rx_words_total" "Number of words received by host port.";
    SecondsSinceLastReset Counter "node_fibrechannel_seconds_since_last_reset_total" "Number of seconds since last host port reset.";
    TxFrames Counter "node_fibrechannel_tx_frames_total" "Number of frames transmitted by host port.";
    TxWords Counter "node_fibrechannel_tx_words_total" "Number of words transmitted by host port.";
    Info Gauge "node_fibrechannel_info" "Non-numeric data from /sys/class/fc_host/<host>, value is always 1.";
}

/// The families of the files that are numbers; those after them are labels.
const COUNTERS: [F; 14] = [
    F::DumpedFrames,
    F::ErrorFrames,
    F::FcpPacketAborts,
    F::InvalidCrc,
    F::InvalidTxWords,
    F::LinkFailure,
    F::LossOfSignal,
    F::LossOfSync,
    F::Nos,
    F::RxFrames,
    F::RxWords,
    F::SecondsSinceLastReset,
    F::TxFrames,
    F::TxWords,
];

/// drivers/scsi/scsi_transport_fc.c
const FILES: &[&str] = &[
    "statistics/dumped_frames",
    "statistics/error_frames",
    "statistics/fcp_packet_aborts",
    "statistics/invalid_crc_count",
    "statistics/invalid_tx_word_count",
    "statistics/link_failure_count",
    "statistics/loss_of_signal_count",
    "statistics/loss_of_sync_count",
    "statistics/nos_count",
    "statistics/rx_frames",
    "statistics/rx_words",
    "statistics/seconds_since_last_reset",
    "statistics/tx_frames",
    "statistics/tx_words",
    "speed",
    "port_state",
    "port_type",
    "port_id",
    "port_name",
    "fabric_name",
    "symbolic_name",
    "supported_classes",
    "supported_speeds",
    "dev_loss_tmo",
];

struct Hosts(Devices);

impl NodeCollector for Hosts {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let Hosts(hosts) = self;
        hosts.list()?;
        for i in 0..hosts.len() {
            let labels = out.labels(&[("fc_host", hosts.name(i))]);
            for (file, family) in COUNTERS.into_iter().enumerate() {
                // All ones is what the adapter does not count (include/scsi/scsi_transport_fc.h, fc_host_statistics).
                if let Some(value) = hosts.number(i, file).filter(|value| *value != i128::from(u64::MAX)) {
                    out.node(family, labels, value as f64);
                }
            }
            let mut info = labels;
            for (file, name) in FILES.iter().enumerate().skip(COUNTERS.len()) {
                let text = hosts.text(i, file).unwrap_or_default();
                let text = match *name {
                    "port_id" | "port_name" | "fabric_name" => without_base(&text),
                    _ => &text,
                };
                info = out.with(info, name, text);
            }
            out.node(F::Info, info, 1.0);
        }
        hosts.result()
    }
}

/// A number in hexadecimal without its `0x`.
fn without_base(text: &str) -> &str {
    text.strip_prefix("0x").filter(|digits| !digits.is_empty()).unwrap_or(text)
}
