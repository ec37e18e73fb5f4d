//! Traffic of each pod's network namespace, given with the pod's sandbox, and of the machine's with the root.

use super::{CgroupCollector, Cgroups, CollectError, Collector, Run};
use crate::metric::{Subject, Writer, families};
use crate::source::text::{interface, label, lines};

/// `container_network`
pub(super) const COLLECTOR: Collector = Collector {
    name: "container_network",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[],
    options: &[],
    exclusive: &[],
    run: Run::Cgroups { start: |_, _| Box::new(ContainerNetwork) },
};

families! {
    ReceiveBytes Counter "container_network_receive_bytes_total" "Cumulative count of bytes received.";
    ReceivePackets Counter "container_network_receive_packets_total" "Cumulative count of packets received.";
    ReceiveErrors Counter "container_network_receive_errors_total" "Cumulative count of errors encountered while receiving.";
    ReceiveDropped Counter "container_network_receive_packets_dropped_total" "Cumulative count of packets dropped while receiving.";
    TransmitBytes Counter "container_network_transmit_bytes_total" "Cumulative count of bytes transmitted.";
    TransmitPackets Counter "container_network_transmit_packets_total" "Cumulative count of packets transmitted.";
    TransmitErrors Counter "container_network_transmit_errors_total" "Cumulative count of errors encountered while transmitting.";
    TransmitDropped Counter "container_network_transmit_packets_dropped_total" "Cumulative count of packets dropped while transmitting.";
}

const COLUMNS: [(F, usize); 8] = [
    (F::ReceiveBytes, 0),
    (F::ReceivePackets, 1),
    (F::ReceiveErrors, 2),
    (F::ReceiveDropped, 3),
    (F::TransmitBytes, 8),
    (F::TransmitPackets, 9),
    (F::TransmitErrors, 10),
    (F::TransmitDropped, 11),
];

struct ContainerNetwork;

impl CgroupCollector for ContainerNetwork {
    fn collect(&mut self, cgroups: &mut Cgroups<'_>, out: &mut Writer<'_>) -> Result<(), CollectError> {
        if !out.wants_any(COLUMNS.map(|(family, _)| family)) {
            return Ok(());
        }
        for slot in cgroups.slots() {
            let Some(text) = cgroups.network(slot) else { continue };
            for (device, values) in lines(text).filter_map(interface) {
                let device = label(device);
                if ignored(&device) {
                    continue;
                }
                let labels = out.labels(&[("interface", &device)]);
                for (family, column) in COLUMNS {
                    out.push(family, Subject::cgroup(slot), labels, values[column] as f64);
                }
            }
        }
        cgroups.result()
    }
}

/// As cAdvisor: the loopback and the host's ends of pods are nobody's traffic.
fn ignored(device: &str) -> bool {
    device == "lo" || ["veth", "docker", "nerdctl"].iter().any(|prefix| device.starts_with(prefix))
}
