//! Traffic of each pod's network namespace, given with the pod's sandbox, and of the machine's with the root.

use std::collections::HashMap;

use super::{CgroupCollector, Cgroups, CollectError, Collector, OptionDesc, OptionKind, Pattern, Run};
use crate::metric::{Labels, Subject, Writer, families};
use crate::source::text::{interface, label, lines};

/// `container_network`
pub(super) const COLLECTOR: Collector = Collector {
    name: "container_network",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[],
    options: &[
        // As cAdvisor: the loopback and the host's ends of pods are nobody's traffic.
        OptionDesc::new(
            "deviceExclude",
            OptionKind::Regex,
            "^(lo$|veth|docker|nerdctl)",
            "Interfaces to leave out.",
        ),
        OptionDesc::new("deviceInclude", OptionKind::Regex, "", "Interfaces to give, and no others."),
    ],
    exclusive: &[("deviceExclude", "deviceInclude")],
    run: Run::Cgroups {
        start: |_, options| {
            let pattern = options.pattern(&COLLECTOR, "deviceInclude", "deviceExclude");
            Box::new(ContainerNetwork { pattern, labels: HashMap::new() })
        },
    },
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

struct ContainerNetwork {
    pattern: Pattern,
    /// The labels of this scrape by interface: most pods have interfaces of the same names.
    labels: HashMap<String, Option<Labels>>,
}

impl CgroupCollector for ContainerNetwork {
    fn collect(&mut self, cgroups: &mut Cgroups<'_>, out: &mut Writer<'_>) -> Result<(), CollectError> {
        if !out.wants_any(COLUMNS.map(|(family, _)| family)) {
            return Ok(());
        }
        // Those that nobody had the last time are forgotten.
        self.labels.retain(|_, labels| labels.take().is_some());
        for slot in cgroups.slots() {
            let Some(text) = cgroups.network(slot) else { continue };
            for (device, values) in lines(text).filter_map(interface) {
                let device = label(device);
                if self.pattern.ignores(&device) {
                    continue;
                }
                if !self.labels.contains_key(&*device) {
                    self.labels.insert(device.clone().into_owned(), None);
                }
                let Some(known) = self.labels.get_mut(&*device) else { continue };
                let labels = *known.get_or_insert_with(|| out.labels(&[("interface", &device)]));
                for (family, column) in COLUMNS {
                    out.push(family, Subject::cgroup(slot), labels, values[column] as f64);
                }
            }
        }
        cgroups.result()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collector::Options;

    #[test]
    fn the_host_s_ends_of_pods_are_left_out_unless_they_are_asked_for() {
        let left = |options: &[(&str, &str)]| -> Vec<&str> {
            let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            let pattern = Options(options.collect()).pattern(&COLLECTOR, "deviceInclude", "deviceExclude");
            let mut devices = vec!["lo", "lo1", "eth0", "veth12", "docker0", "nerdctl0", "net1"];
            devices.retain(|device| !pattern.ignores(device));
            devices
        };
        assert_eq!(left(&[]), ["lo1", "eth0", "net1"]);
        assert_eq!(left(&[("deviceInclude", "^(eth|docker)")]), ["eth0", "docker0"]);
        assert_eq!(left(&[("deviceExclude", "^eth")])[..2], ["lo", "lo1"]);
    }
}
