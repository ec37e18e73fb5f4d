//! The routes of the machine, and how many each interface has.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::net::IpAddr;

use super::{CollectError, Collector, NodeCollector, Run};
use crate::metric::{Writer, families};
use crate::source::netlink::{Interfaces, Netlink, NetlinkError, attributes, u32_at};

/// `network_route`
pub(super) const COLLECTOR: Collector = Collector {
    name: "network_route",
    enabled_by_default: false,
    families: FAMILIES,
    named: &[],
    options: &[],
    exclusive: &[],
    run: Run::Node {
        start: |paths, _| {
            Box::new(NetworkRoute {
                is_own_network: paths.is_own_network(),
                netlink: Netlink::default(),
                interfaces: Interfaces::default(),
                rows: Rows::default(),
            })
        },
        can_block: true,
    },
};

families! {
    Info Gauge "node_network_route_info" "Network routing table information.";
    Routes Gauge "node_network_routes" "Network routes by interface.";
}

struct NetworkRoute {
    is_own_network: bool,
    netlink: Netlink,
    interfaces: Interfaces,
    rows: Rows,
}

// include/uapi/linux/rtnetlink.h
const GET_ROUTE: u16 = 26;
/// struct rtmsg: family, length of the destination, …, protocol at 5, type at 7.
const ROUTE: usize = 12;
const UNICAST: u8 = 1;
const DESTINATION: u16 = 1;
const INTERFACE: u16 = 4;
const GATEWAY: u16 = 5;
const PRIORITY: u16 = 6;
const SOURCE: u16 = 7;
const MULTIPATH: u16 = 9;

impl NodeCollector for NetworkRoute {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        of_own_network(self.is_own_network)?;
        self.interfaces.read(&mut self.netlink).map_err(failed)?;
        let routes = self.netlink.dump(GET_ROUTE, &[0; ROUTE]).map_err(failed)?;
        self.rows.give(routes, &self.interfaces, out);
        Ok(())
    }
}

/// Whether netlink speaks of the machine here.
pub(super) fn of_own_network(is_own: bool) -> Result<(), CollectError> {
    let why = "the machine's network namespace, which netlink needs: in a pod it takes hostNetwork";
    is_own.then_some(()).ok_or_else(|| CollectError::Absent(why.to_owned()))
}

pub(super) fn failed(error: NetlinkError) -> CollectError {
    match error {
        NetlinkError::Kernel(source) => CollectError::read("netlink", source),
        NetlinkError::Malformed => CollectError::parse("netlink", "a message ends in the middle"),
        NetlinkError::Interrupted => CollectError::parse("netlink", "the list changes too fast to be read"),
    }
}

/// A route, or one of its next hops, as far as its labels tell it from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Row {
    /// Zero, which is no interface's, where it has no name.
    interface: u32,
    source: Option<IpAddr>,
    /// Address and length, but of the default.
    destination: Option<(Option<IpAddr>, u8)>,
    gateway: Option<IpAddr>,
    priority: u32,
    protocol: &'static str,
    /// Only of one of many next hops.
    weight: Option<u32>,
}

/// What is kept, empty, for the next scrape.
#[derive(Default)]
struct Rows {
    /// Tables may hold the same route, of which the labels do not tell the table.
    seen: HashSet<Row>,
    counts: HashMap<u32, u32>,
    by_name: Vec<(u32, u32)>,
    text: String,
}

impl Rows {
    fn give<'a>(&mut self, routes: impl Iterator<Item = &'a [u8]>, names: &Interfaces, out: &mut Writer<'_>) {
        self.seen.clear();
        for route in routes {
            rows(route, names, |row| {
                *self.counts.entry(row.interface).or_default() += 1;
                if self.seen.insert(row) {
                    row.give(names, &mut self.text, out);
                }
            });
        }
        let name = |interface| names.get(interface).unwrap_or_default();
        self.by_name.clear();
        self.by_name.extend(self.counts.drain());
        self.by_name.sort_unstable_by_key(|(interface, _)| name(*interface));
        for (interface, count) in &self.by_name {
            let labels = out.labels(&[("device", name(*interface))]);
            out.node(F::Routes, labels, f64::from(*count));
        }
    }
}

impl Row {
    fn give(&self, names: &Interfaces, text: &mut String, out: &mut Writer<'_>) {
        let labels = out.labels(&[("device", names.get(self.interface).unwrap_or_default())]);
        let labels = out.with(labels, "src", written(text, self.source));
        let destination = match self.destination {
            None => "default",
            Some((address, length)) => {
                written(text, address);
                let _ = write!(text, "/{length}");
                text.as_str()
            }
        };
        let labels = out.with(labels, "dest", destination);
        let labels = out.with(labels, "gw", written(text, self.gateway));
        let labels = out.with(labels, "priority", itoa::Buffer::new().format(self.priority));
        let labels = out.with(labels, "proto", self.protocol);
        let mut weight = itoa::Buffer::new();
        let weight = self.weight.map_or("", |number| weight.format(number));
        let labels = out.with(labels, "weight", weight);
        out.node(F::Info, labels, 1.0);
    }
}

fn written(text: &mut String, address: Option<IpAddr>) -> &str {
    text.clear();
    if let Some(address) = address {
        let _ = write!(text, "{address}");
    }
    text
}

fn rows(route: &[u8], names: &Interfaces, mut found: impl FnMut(Row)) {
    let Some((head, rest)) = route.split_at_checked(ROUTE) else { return };
    if head[7] != UNICAST {
        return;
    }
    let attribute = |kind| attributes(rest).find(|(found, _)| *found == kind).map(|(_, value)| value);
    let number = |kind| attribute(kind).and_then(|value| u32_at(value, 0)).unwrap_or_default();
    let row = |interface: u32, gateway, weight| Row {
        interface: names.get(interface).map_or(0, |_| interface),
        source: address(attribute(SOURCE)),
        destination: (head[1] > 0).then(|| (address(attribute(DESTINATION)), head[1])),
        gateway: address(gateway),
        priority: number(PRIORITY),
        protocol: protocol(head[5]),
        weight,
    };
    let Some(mut hops) = attribute(MULTIPATH) else {
        return found(row(number(INTERFACE), attribute(GATEWAY), None));
    };
    // struct rtnexthop: length, flags, weight - 1, interface, and attributes of its own.
    while let [low, high, _, hop, ..] = *hops {
        let length = usize::from(u16::from_ne_bytes([low, high]));
        let (Some(interface), Some(own)) = (u32_at(hops, 4), hops.get(8..length)) else { break };
        let gateway = attributes(own).find(|(kind, _)| *kind == GATEWAY).map(|(_, value)| value);
        found(row(interface, gateway, Some(u32::from(hop) + 1)));
        hops = hops.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
}

fn address(bytes: Option<&[u8]>) -> Option<IpAddr> {
    let bytes = bytes?;
    let v4 = || <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4().or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// RTPROT_* in include/uapi/linux/rtnetlink.h
fn protocol(number: u8) -> &'static str {
    match number {
        0 => "unspec",
        1 => "redirect",
        2 => "kernel",
        3 => "boot",
        4 => "static",
        8 => "gated",
        9 => "ra",
        10 => "mrt",
        11 => "zebra",
        12 => "bird",
        13 => "dnrouted",
        14 => "xorp",
        15 => "ntk",
        16 => "dhcp",
        17 => "mrouted",
        42 => "babel",
        186 => "bgp",
        187 => "isis",
        188 => "ospf",
        189 => "rip",
        192 => "eigrp",
        _ => "unknown",
    }
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

    fn hop(interface: u32, weight: u8, own: &[u8]) -> Vec<u8> {
        let head = [&((8 + own.len()) as u16).to_ne_bytes()[..], &[0, weight - 1], &interface.to_ne_bytes()];
        [&head.concat(), own].concat()
    }

    fn route(length: u8, protocol: u8, kind: u8, attributes: &[Vec<u8>]) -> Vec<u8> {
        [&[2, length, 0, 0, 254, protocol, 0, kind, 0, 0, 0, 0][..], &attributes.concat()].concat()
    }

    #[test]
    fn each_next_hop_is_a_row_and_what_is_there_twice_is_given_once() {
        let names = [(1, "lo".to_owned()), (2, "eth0".to_owned())].into();
        let default = route(
            0,
            16,
            1,
            &[
                attribute(INTERFACE, &2u32.to_ne_bytes()),
                attribute(GATEWAY, &[10, 0, 0, 1]),
                attribute(PRIORITY, &100u32.to_ne_bytes()),
            ],
        );
        let many = route(
            64,
            186,
            1,
            &[
                attribute(DESTINATION, &[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
                attribute(SOURCE, &[10, 0, 0, 2]),
                attribute(
                    MULTIPATH,
                    &[hop(2, 3, &attribute(GATEWAY, &[10, 0, 0, 7])), hop(9, 1, &[])].concat(),
                ),
            ],
        );
        let local = route(32, 2, 2, &[attribute(INTERFACE, &1u32.to_ne_bytes())]);
        let mut samples = Samples::new(FAMILIES.len());
        let routes = [default.clone(), default, many, local, vec![2, 0]];
        let mut rows = Rows::default();
        // What one scrape saw is given again by the next.
        for _ in 0..2 {
            samples.clear();
            let mut out = samples.writer(0, &[true; FAMILIES.len()]);
            rows.give(routes.iter().map(Vec::as_slice), &names, &mut out);
        }
        let of = |family: F| -> Vec<_> {
            let line = |s: &crate::metric::Sample| {
                format!("{} {}", std::str::from_utf8(samples.labels(s.labels)).unwrap(), s.value)
            };
            samples.family(family as usize).iter().map(line).collect()
        };
        let expected = [
            r#"device="eth0",src="",dest="default",gw="10.0.0.1",priority="100",proto="dhcp",weight="" 1"#,
            r#"device="eth0",src="10.0.0.2",dest="fd00::/64",gw="10.0.0.7",priority="0",proto="bgp",weight="3" 1"#,
            r#"device="",src="10.0.0.2",dest="fd00::/64",gw="",priority="0",proto="bgp",weight="1" 1"#,
        ];
        assert_eq!(of(F::Info), expected);
        assert_eq!(of(F::Routes), [r#"device="" 1"#, r#"device="eth0" 3"#]);
    }
}
