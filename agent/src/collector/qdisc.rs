//! What each interface's queueing discipline sent, dropped and holds.

use super::network_route::{failed, of_own_network};
use super::{CollectError, Collector, NodeCollector, OptionDesc, OptionKind, Pattern, Run};
use crate::metric::{Writer, families};
use crate::source::netlink::{Interfaces, Netlink, attributes, text, u32_at, u64_at};

/// `qdisc`
pub(super) const COLLECTOR: Collector = Collector {
    name: "qdisc",
    enabled_by_default: false,
    families: FAMILIES,
    named: &[],
    options: &[
        OptionDesc::new("deviceInclude", OptionKind::Regex, "", "Interfaces to give, and no others.")
            .deprecated(&["collector.qdisk.device-include"]),
        OptionDesc::new("deviceExclude", OptionKind::Regex, "", "Interfaces to leave out.")
            .deprecated(&["collector.qdisk.device-exclude"]),
    ],
    exclusive: &[("deviceInclude", "deviceExclude")],
    run: Run::Node {
        start: |paths, options| {
            Box::new(Qdisc {
                is_own_network: paths.is_own_network(),
                devices: options.pattern(&COLLECTOR, "deviceInclude", "deviceExclude"),
                netlink: Netlink::default(),
                interfaces: Interfaces::default(),
            })
        },
        can_block: true,
    },
};

families! {
    Bytes Counter "node_qdisc_bytes_total" "Number of bytes sent.";
    Packets Counter "node_qdisc_packets_total" "Number of packets sent.";
    Drops Counter "node_qdisc_drops_total" "Number of packets dropped.";
    Requeues Counter "node_qdisc_requeues_total" "Number of packets dequeued, not transmitted, and requeued.";
    Overlimits Counter "node_qdisc_overlimits_total" "Number of overlimit packets.";
    Length Gauge "node_qdisc_current_queue_length" "Number of packets currently in queue to be sent.";
    Backlog Gauge "node_qdisc_backlog" "Number of bytes currently in queue to be sent.";
}

struct Qdisc {
    is_own_network: bool,
    devices: Pattern,
    netlink: Netlink,
    interfaces: Interfaces,
}

// include/uapi/linux/rtnetlink.h, pkt_sched.h, gen_stats.h
const GET_QDISC: u16 = 38;
/// struct tcmsg: the interface at 4, the parent at 12.
const QDISC: usize = 20;
const ROOT: u32 = u32::MAX;
const KIND: u16 = 1;
const STATS: u16 = 7;
/// Bytes, of 64 bits, and packets, of 32.
const BASIC: u16 = 1;
/// Length, backlog, drops, requeues and overlimits, of 32 bits each.
const QUEUE: u16 = 3;
/// Packets of 64 bits, where the kernel counts so far.
const PACKETS: u16 = 8;

impl NodeCollector for Qdisc {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        of_own_network(self.is_own_network)?;
        self.interfaces.read(&mut self.netlink).map_err(failed)?;
        for qdisc in self.netlink.dump(GET_QDISC, &[0; QDISC]).map_err(failed)? {
            give(qdisc, &self.interfaces, &self.devices, out);
        }
        Ok(())
    }
}

/// Only of the one at the root of an interface, to which the others pass on what they count.
fn give(qdisc: &[u8], names: &Interfaces, devices: &Pattern, out: &mut Writer<'_>) -> Option<()> {
    let (head, rest) = qdisc.split_at_checked(QDISC)?;
    let parent = u32_at(head, 12)?;
    let device = names.get(u32_at(head, 4)?)?;
    if (parent != 0 && parent != ROOT) || devices.ignores(device) {
        return None;
    }
    let (_, kind) = attributes(rest).find(|(kind, _)| *kind == KIND)?;
    let labels = out.labels(&[("device", device), ("kind", &text(kind))]);
    let (_, stats) = attributes(rest).find(|(kind, _)| *kind == STATS)?;
    let of = |kind| attributes(stats).find(|(found, _)| *found == kind).map_or(&[][..], |(_, value)| value);
    let (basic, queue) = (of(BASIC), of(QUEUE));
    out.node(F::Bytes, labels, u64_at(basic, 0)? as f64);
    let packets = u64_at(of(PACKETS), 0).or_else(|| u32_at(basic, 8).map(u64::from))?;
    out.node(F::Packets, labels, packets as f64);
    for (i, family) in [F::Length, F::Backlog, F::Drops, F::Requeues, F::Overlimits].into_iter().enumerate() {
        out.node(family, labels, f64::from(u32_at(queue, 4 * i)?));
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Samples;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = ((4 + value.len()) as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn qdisc(device: u32, parent: u32, stats: &[Vec<u8>]) -> Vec<u8> {
        let words = [0, device, 0x8001_0000, parent, 2].map(u32::to_ne_bytes).concat();
        [words, attribute(KIND, b"fq_codel\0"), attribute(STATS, &stats.concat())].concat()
    }

    #[test]
    fn the_root_is_given_and_packets_as_far_as_they_are_counted() {
        let names = [(2, "eth0".to_owned()), (3, "eth1".to_owned())].into();
        let basic = attribute(BASIC, &[&7u64.to_ne_bytes()[..], &[9, 0, 0, 0], &[0; 4]].concat());
        let queue = attribute(QUEUE, &[1u32, 2, 3, 4, 5].map(u32::to_ne_bytes).concat());
        let packets = attribute(PACKETS, &(1u64 << 40).to_ne_bytes());
        let mut samples = Samples::new(FAMILIES.len());
        let mut out = samples.writer(0, &[true; FAMILIES.len()]);
        for qdisc in [
            qdisc(2, ROOT, &[basic.clone(), queue.clone()]),
            qdisc(2, 0x8001_0001, &[basic.clone(), queue.clone()]),
            qdisc(3, ROOT, &[basic, queue, packets]),
            qdisc(9, ROOT, &[]),
            vec![0; 7],
        ] {
            give(&qdisc, &names, &Pattern::default(), &mut out);
        }
        let values = |family: F| samples.family(family as usize).iter().map(|s| s.value).collect::<Vec<_>>();
        assert_eq!([values(F::Bytes), values(F::Packets)], [[7.0, 7.0], [9.0, 1_099_511_627_776.0]]);
        let queues =
            [F::Length, F::Backlog, F::Drops, F::Requeues, F::Overlimits].map(|family| values(family)[0]);
        assert_eq!(queues, [1.0, 2.0, 3.0, 4.0, 5.0]);
    }
}
