//! Traffic, errors and state of each port of an InfiniBand or RoCE adapter.

use super::{CollectError, Collector, NodeCollector, OptionDesc, OptionKind, Pattern, Run};
use crate::devices::{Below, Devices};
use crate::metric::{Writer, families};
use crate::source::text::{float, integer, number, words};

/// `infiniband`
pub(super) const COLLECTOR: Collector = Collector {
    name: "infiniband",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[],
    options: &[
        OptionDesc::new("deviceExclude", OptionKind::Regex, "", "Adapters to leave out."),
        OptionDesc::new("deviceInclude", OptionKind::Regex, "", "Adapters to give, and no others."),
    ],
    exclusive: &[],
    run: Run::Node {
        start: |paths, options| {
            let is_number = |name: &str| number(name.as_bytes()).is_some();
            Box::new(Infiniband {
                adapters: Devices::new(paths.sysfs.join("class/infiniband"), ADAPTER, &paths.handles),
                ports: Below::new("ports", PORT, is_number, &paths.handles),
                pattern: options.pattern(&COLLECTOR, "deviceInclude", "deviceExclude"),
            })
        },
        // Counters are asked of the adapter.
        can_block: true,
    },
};

families! {
    DuplicateRequestsPackets Counter "node_infiniband_duplicate_requests_packets_total" "Number of received requests that had been executed before.";
    ExcessiveBufferOverrunErrors Counter "node_infiniband_excessive_buffer_overrun_errors_total" "Number of times that OverrunErrors consecutive flow control update periods occurred, each having at least one overrun error.";
    ImpliedNakSeqErrors Counter "node_infiniband_implied_nak_seq_errors_total" "Number of times the requester got an acknowledgement with a sequence number larger than expected.";
    LegacyDataReceivedBytes Counter "node_infiniband_legacy_data_received_bytes_total" "Number of data octets received on all links.";
    LegacyDataTransmittedBytes Counter "node_infiniband_legacy_data_transmitted_bytes_total" "Number of data octets transmitted on all links.";
    LegacyMulticastPacketsReceived Counter "node_infiniband_legacy_multicast_packets_received_total" "Number of multicast packets received.";
    LegacyMulticastPacketsTransmitted Counter "node_infiniband_legacy_multicast_packets_transmitted_total" "Number of multicast packets transmitted.";
    LegacyPacketsReceived Counter "node_infiniband_legacy_packets_received_total" "Number of data packets received on all links.";
    LegacyPacketsTransmitted Counter "node_infiniband_legacy_packets_transmitted_total" "Number of data packets transmitted on all links.";
    LegacyUnicastPacketsReceived Counter "node_infiniband_legacy_unicast_packets_received_total" "Number of unicast packets received.";
    LegacyUnicastPacketsTransmitted Counter "node_infiniband_legacy_unicast_packets_transmitted_total" "Number of unicast packets transmitted.";
    LinkDowned Counter "node_infiniband_link_downed_total" "Number of times the link failed to recover from an error state and went down.";
    LinkErrorRecovery Counter "node_infiniband_link_error_recovery_total" "Number of times the link successfully recovered from an error state.";
    LocalAckTimeoutErrors Counter "node_infiniband_local_ack_timeout_errors_total" "Number of times the timer for acknowledgements of a queue pair expired at the sender.";
    LocalLinkIntegrityErrors Counter "node_infiniband_local_link_integrity_errors_total" "Number of times that the count of local physical errors exceeded the threshold specified by LocalPhyErrors.";
    MulticastPacketsReceived Counter "node_infiniband_multicast_packets_received_total" "Number of multicast packets received (including errors).";
    MulticastPacketsTransmitted Counter "node_infiniband_multicast_packets_transmitted_total" "Number of multicast packets transmitted (including errors).";
    NpCnpPacketsSent Counter "node_infiniband_np_cnp_packets_sent_total" "Number of congestion notification packets sent by the notification point.";
    NpEcnMarkedRocePacketsReceived Counter "node_infiniband_np_ecn_marked_roce_packets_received_total" "Number of RoCEv2 packets received by the notification point that were marked for congestion.";
    OutOfBufferDrops Counter "node_infiniband_out_of_buffer_drops_total" "Number of drops for lack of work queue elements of the queue pairs.";
    OutOfSequencePacketsReceived Counter "node_infiniband_out_of_sequence_packets_received_total" "Number of packets received out of sequence.";
    PacketSequenceErrors Counter "node_infiniband_packet_sequence_errors_total" "Number of sequence error packets (NAK) received within the retry limit.";
    PortConstraintErrorsReceived Counter "node_infiniband_port_constraint_errors_received_total" "Number of packets received on the switch physical port that are discarded.";
    PortConstraintErrorsTransmitted Counter "node_infiniband_port_constraint_errors_transmitted_total" "Number of packets not transmitted from the switch physical port.";
    PortDataReceivedBytes Counter "node_infiniband_port_data_received_bytes_total" "Number of data octets received on all links.";
    PortDataTransmittedBytes Counter "node_infiniband_port_data_transmitted_bytes_total" "Number of data octets transmitted on all links.";
    PortDiscardsReceived Counter "node_infiniband_port_discards_received_total" "Number of inbound packets discarded by the port because the port is down or congested.";
    PortDiscardsTransmitted Counter "node_infiniband_port_discards_transmitted_total" "Number of outbound packets discarded by the port because the port is down or congested.";
    PortErrorsReceived Counter "node_infiniband_port_errors_received_total" "Number of packets containing an error that were received on this port.";
    PortPacketsReceived Counter "node_infiniband_port_packets_received_total" "Number of packets received on all VLs by this port (including errors).";
    PortPacketsTransmitted Counter "node_infiniband_port_packets_transmitted_total" "Number of packets transmitted on all VLs from this port (including errors).";
    PortReceiveRemotePhysicalErrors Counter "node_infiniband_port_receive_remote_physical_errors_total" "Number of packets marked with the EBP (End of Bad Packet) delimiter received on the port.";
    PortReceiveSwitchRelayErrors Counter "node_infiniband_port_receive_switch_relay_errors_total" "Number of packets that could not be forwarded by the switch.";
    PortTransmitWait Counter "node_infiniband_port_transmit_wait_total" "Number of ticks during which the port had data to transmit but no data was sent during the entire tick.";
    ReqCqesErrors Counter "node_infiniband_req_cqes_errors_total" "Number of completions with errors at the requester.";
    ReqCqesFlushErrors Counter "node_infiniband_req_cqes_flush_errors_total" "Number of completions with flush errors at the requester.";
    ReqRemoteAccessErrors Counter "node_infiniband_req_remote_access_errors_total" "Number of remote access errors at the requester.";
    ReqRemoteInvalidRequestErrors Counter "node_infiniband_req_remote_invalid_request_errors_total" "Number of remote invalid request errors at the requester.";
    RespCqesErrors Counter "node_infiniband_resp_cqes_errors_total" "Number of completions with errors at the responder.";
    RespCqesFlushErrors Counter "node_infiniband_resp_cqes_flush_errors_total" "Number of completions with flush errors at the responder.";
    RespLocalLengthErrors Counter "node_infiniband_resp_local_length_errors_total" "Number of local length errors at the responder.";
    RespRemoteAccessErrors Counter "node_infiniband_resp_remote_access_errors_total" "Number of remote access errors at the responder.";
    RnrNakRetryPacketsReceived Counter "node_infiniband_rnr_nak_retry_packets_received_total" "Number of receiver-not-ready packets (RNR NAK) received within the retry limit.";
    RoceAdpRetransmitsTimeout Counter "node_infiniband_roce_adp_retransmits_timeout_total" "Number of timeouts of RoCE traffic due to adaptive retransmission.";
    RoceAdpRetransmits Counter "node_infiniband_roce_adp_retransmits_total" "Number of adaptive retransmissions of RoCE traffic.";
    RoceSlowRestartCnps Counter "node_infiniband_roce_slow_restart_cnps_total" "Number of times RoCE slow restart made congestion notification packets.";
    RoceSlowRestart Counter "node_infiniband_roce_slow_restart_total" "Number of times RoCE slow restart changed its state to slow restart.";
    RoceSlowRestartUsed Counter "node_infiniband_roce_slow_restart_used_total" "Number of times RoCE slow restart was used.";
    RpCnpIgnoredPacketsReceived Counter "node_infiniband_rp_cnp_ignored_packets_received_total" "Number of congestion notification packets that the reaction point received and ignored.";
    RpCnpPacketsHandled Counter "node_infiniband_rp_cnp_packets_handled_total" "Number of congestion notification packets that the reaction point handled to throttle.";
    RxAtomicRequests Counter "node_infiniband_rx_atomic_requests_total" "Number of atomic requests received.";
    RxDctConnectRequests Counter "node_infiniband_rx_dct_connect_requests_total" "Number of connection requests received for dynamically connected targets.";
    RxIcrcEncapsulatedErrors Counter "node_infiniband_rx_icrc_encapsulated_errors_total" "Number of RoCE packets with errors of the invariant checksum.";
    RxReadRequests Counter "node_infiniband_rx_read_requests_total" "Number of read requests received.";
    RxWriteRequests Counter "node_infiniband_rx_write_requests_total" "Number of write requests received.";
    SymbolError Counter "node_infiniband_symbol_error_total" "Number of minor link errors detected on one or more physical lanes.";
    UnicastPacketsReceived Counter "node_infiniband_unicast_packets_received_total" "Number of unicast packets received (including errors).";
    UnicastPacketsTransmitted Counter "node_infiniband_unicast_packets_transmitted_total" "Number of unicast packets transmitted (including errors).";
    Vl15Dropped Counter "node_infiniband_vl15_dropped_total" "Number of incoming VL15 packets dropped due to resource limitations.";
    Info Gauge "node_infiniband_info" "Non-numeric data from /sys/class/infiniband/<device>, value is always 1.";
    Lifespan Gauge "node_infiniband_lifespan_seconds" "How old counters may be when they are read: two reads within this time may give the same.";
    PhysicalState Gauge "node_infiniband_physical_state_id" "Physical state of the InfiniBand port (0: no change, 1: sleep, 2: polling, 3: disable, 4: shift, 5: link up, 6: link error recover, 7: phytest).";
    Rate Gauge "node_infiniband_rate_bytes_per_second" "Maximum signal transfer rate.";
    State Gauge "node_infiniband_state_id" "State of the InfiniBand port (0: no change, 1: down, 2: init, 3: armed, 4: active, 5: act defer).";
}

/// Documentation/ABI/stable/sysfs-class-infiniband
const ADAPTER: &[&str] = &["fw_ver", "board_id", "hca_type"];
const PORT: &[&str] = &[
    "state",
    "phys_state",
    "rate",
    "hw_counters/lifespan",
    "hw_counters/duplicate_request",
    "counters/excessive_buffer_overrun_errors",
    "hw_counters/implied_nak_seq_err",
    "counters_ext/port_rcv_data_64",
    "counters_ext/port_xmit_data_64",
    "counters_ext/port_multicast_rcv_packets",
    "counters_ext/port_multicast_xmit_packets",
    "counters_ext/port_rcv_packets_64",
    "counters_ext/port_xmit_packets_64",
    "counters_ext/port_unicast_rcv_packets",
    "counters_ext/port_unicast_xmit_packets",
    "counters/link_downed",
    "counters/link_error_recovery",
    "hw_counters/local_ack_timeout_err",
    "counters/local_link_integrity_errors",
    "counters/multicast_rcv_packets",
    "counters/multicast_xmit_packets",
    "hw_counters/np_cnp_sent",
    "hw_counters/np_ecn_marked_roce_packets",
    "hw_counters/out_of_buffer",
    "hw_counters/out_of_sequence",
    "hw_counters/packet_seq_err",
    "counters/port_rcv_constraint_errors",
    "counters/port_xmit_constraint_errors",
    "counters/port_rcv_data",
    "counters/port_xmit_data",
    "counters/port_rcv_discards",
    "counters/port_xmit_discards",
    "counters/port_rcv_errors",
    "counters/port_rcv_packets",
    "counters/port_xmit_packets",
    "counters/port_rcv_remote_physical_errors",
    "counters/port_rcv_switch_relay_errors",
    "counters/port_xmit_wait",
    "hw_counters/req_cqe_error",
    "hw_counters/req_cqe_flush_error",
    "hw_counters/req_remote_access_errors",
    "hw_counters/req_remote_invalid_request",
    "hw_counters/resp_cqe_error",
    "hw_counters/resp_cqe_flush_error",
    "hw_counters/resp_local_length_error",
    "hw_counters/resp_remote_access_errors",
    "hw_counters/rnr_nak_retry_err",
    "hw_counters/roce_adp_retrans_to",
    "hw_counters/roce_adp_retrans",
    "hw_counters/roce_slow_restart_cnps",
    "hw_counters/roce_slow_restart_trans",
    "hw_counters/roce_slow_restart",
    "hw_counters/rp_cnp_ignored",
    "hw_counters/rp_cnp_handled",
    "hw_counters/rx_atomic_requests",
    "hw_counters/rx_dct_connect",
    "hw_counters/rx_icrc_encapsulated",
    "hw_counters/rx_read_requests",
    "hw_counters/rx_write_requests",
    "counters/symbol_error",
    "counters/unicast_rcv_packets",
    "counters/unicast_xmit_packets",
    "counters/VL15_dropped",
];
const STATE: usize = 0;
const PHYSICAL_STATE: usize = 1;
const RATE: usize = 2;
const LIFESPAN: usize = 3;

/// The families of the files after these.
const COUNTERS: [F; 59] = [
    F::DuplicateRequestsPackets,
    F::ExcessiveBufferOverrunErrors,
    F::ImpliedNakSeqErrors,
    F::LegacyDataReceivedBytes,
    F::LegacyDataTransmittedBytes,
    F::LegacyMulticastPacketsReceived,
    F::LegacyMulticastPacketsTransmitted,
    F::LegacyPacketsReceived,
    F::LegacyPacketsTransmitted,
    F::LegacyUnicastPacketsReceived,
    F::LegacyUnicastPacketsTransmitted,
    F::LinkDowned,
    F::LinkErrorRecovery,
    F::LocalAckTimeoutErrors,
    F::LocalLinkIntegrityErrors,
    F::MulticastPacketsReceived,
    F::MulticastPacketsTransmitted,
    F::NpCnpPacketsSent,
    F::NpEcnMarkedRocePacketsReceived,
    F::OutOfBufferDrops,
    F::OutOfSequencePacketsReceived,
    F::PacketSequenceErrors,
    F::PortConstraintErrorsReceived,
    F::PortConstraintErrorsTransmitted,
    F::PortDataReceivedBytes,
    F::PortDataTransmittedBytes,
    F::PortDiscardsReceived,
    F::PortDiscardsTransmitted,
    F::PortErrorsReceived,
    F::PortPacketsReceived,
    F::PortPacketsTransmitted,
    F::PortReceiveRemotePhysicalErrors,
    F::PortReceiveSwitchRelayErrors,
    F::PortTransmitWait,
    F::ReqCqesErrors,
    F::ReqCqesFlushErrors,
    F::ReqRemoteAccessErrors,
    F::ReqRemoteInvalidRequestErrors,
    F::RespCqesErrors,
    F::RespCqesFlushErrors,
    F::RespLocalLengthErrors,
    F::RespRemoteAccessErrors,
    F::RnrNakRetryPacketsReceived,
    F::RoceAdpRetransmitsTimeout,
    F::RoceAdpRetransmits,
    F::RoceSlowRestartCnps,
    F::RoceSlowRestart,
    F::RoceSlowRestartUsed,
    F::RpCnpIgnoredPacketsReceived,
    F::RpCnpPacketsHandled,
    F::RxAtomicRequests,
    F::RxDctConnectRequests,
    F::RxIcrcEncapsulatedErrors,
    F::RxReadRequests,
    F::RxWriteRequests,
    F::SymbolError,
    F::UnicastPacketsReceived,
    F::UnicastPacketsTransmitted,
    F::Vl15Dropped,
];

/// What these count is in words of four bytes, as the standard has it.
const WORDS: [&str; 4] = [
    "counters/port_rcv_data",
    "counters/port_xmit_data",
    "counters_ext/port_rcv_data_64",
    "counters_ext/port_xmit_data_64",
];

struct Infiniband {
    adapters: Devices,
    ports: Below,
    pattern: Pattern,
}

impl NodeCollector for Infiniband {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let Infiniband { adapters, ports, pattern } = self;
        adapters.list()?;
        let mut result = ports.list(adapters);
        for i in 0..adapters.len() {
            let name = adapters.name(i);
            if pattern.ignores(name) {
                continue;
            }
            let device = out.labels(&[("device", name)]);
            // Every adapter has one since Linux 4.10.
            let Some(firmware) = adapters.text(i, 0) else { continue };
            let info = out.with(device, "firmware_version", &firmware);
            let info = out.with(info, "board_id", &adapters.text(i, 1).unwrap_or_default());
            let info = out.with(info, "hca_type", &adapters.text(i, 2).unwrap_or_default());
            out.node(F::Info, info, 1.0);
            let ports = ports.of(i);
            for port in 0..ports.len() {
                let labels = out.with(device, "port", ports.name(port));
                for (file, family) in [(STATE, F::State), (PHYSICAL_STATE, F::PhysicalState)] {
                    if let Some(state) = ports.parse(port, file, state, "not as `4: ACTIVE`") {
                        out.node(family, labels, state as f64);
                    }
                }
                if let Some(rate) = ports.parse(port, RATE, rate, "not as `100 Gb/sec (4X EDR)`") {
                    out.node(F::Rate, labels, rate);
                }
                if let Some(milliseconds) = ports.number(port, LIFESPAN) {
                    out.node(F::Lifespan, labels, milliseconds as f64 / 1000.0);
                }
                for (family, file) in COUNTERS.into_iter().zip(LIFESPAN + 1..) {
                    let words = if WORDS.contains(&PORT[file]) { 4 } else { 1 };
                    if let Some(Some(value)) = ports.parse(port, file, counter, "not a whole number") {
                        out.node(family, labels, (value * words) as f64);
                    }
                }
            }
        }
        result = result.and(adapters.result());
        result.and(ports.result())
    }
}

/// `4: ACTIVE`
fn state(text: &[u8]) -> Option<u64> {
    number(text.split(|b| *b == b':').next().filter(|id| id.len() < text.len())?.trim_ascii())
}

/// `100 Gb/sec (4X EDR)`, in bytes a second.
fn rate(text: &[u8]) -> Option<f64> {
    let mut words = words(text);
    let gigabits = float(words.next()?)?;
    words.next().filter(|unit| *unit == b"Gb/sec").map(|_| (gigabits * 125_000_000.0).trunc())
}

/// A counter; nothing in it where old drivers say that there is none.
fn counter(text: &[u8]) -> Option<Option<i128>> {
    if text.starts_with(b"N/A") { Some(None) } else { integer(text).map(Some) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_and_rates_are_read_with_their_words() {
        assert_eq!(
            [&b"4: ACTIVE"[..], b"5:LinkUp", b"4", b": x", b""].map(state),
            [Some(4), Some(5), None, None, None]
        );
        let rates = ["100 Gb/sec (4X EDR)", "2.5 Gb/sec (1X SDR)", "10", "10 Mb/sec", "x Gb/sec", ""];
        let found = rates.map(|text| rate(text.as_bytes()));
        assert_eq!(found, [Some(12.5e9), Some(312.5e6), None, None, None, None]);
    }

    #[test]
    fn a_counter_that_is_not_there_is_no_error() {
        assert_eq!([&b"12"[..], b"N/A (no PMA)", b"twelve"].map(counter), [Some(Some(12)), Some(None), None]);
    }
}
