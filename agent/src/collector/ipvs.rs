//! Traffic and connections of the machine's IP virtual servers.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::{CollectError, Collector, NodeCollector, OptionDesc, OptionKind, Run};
use crate::metric::{Labels, Writer, families};
use crate::source::file::NodeFile;
use crate::source::text::{hexadecimal, label, lines, number, whole_lines, words};

/// `ipvs`
pub(super) const COLLECTOR: Collector = Collector {
    name: "ipvs",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[],
    options: &[OptionDesc::new(
        "backendLabels",
        OptionKind::NamesOf(&LABELS),
        "local_address,local_port,remote_address,remote_port,proto,local_mark",
        "Labels of backends; those that differ in others are summed.",
    )],
    exclusive: &[],
    run: Run::Node {
        start: |paths, options| {
            let asked = options.value(&COLLECTOR, "backendLabels");
            Box::new(Ipvs {
                stats: NodeFile::whole(paths.net("ip_vs_stats")),
                table: NodeFile::new(paths.net("ip_vs")),
                labels: LABELS.map(|label| asked.split(',').any(|asked| asked == label)),
                backends: HashMap::new(),
                number: 0,
            })
        },
        can_block: false,
    },
};

families! {
    Active Gauge "node_ipvs_backend_connections_active" "The current active connections by local and remote address.";
    Inactive Gauge "node_ipvs_backend_connections_inactive" "The current inactive connections by local and remote address.";
    Weight Gauge "node_ipvs_backend_weight" "The current backend weight by local and remote address.";
    Connections Counter "node_ipvs_connections_total" "The total number of connections made.";
    BytesIn Counter "node_ipvs_incoming_bytes_total" "The total amount of incoming data.";
    PacketsIn Counter "node_ipvs_incoming_packets_total" "The total number of incoming packets.";
    BytesOut Counter "node_ipvs_outgoing_bytes_total" "The total amount of outgoing data.";
    PacketsOut Counter "node_ipvs_outgoing_packets_total" "The total number of outgoing packets.";
}

const LABELS: [&str; 6] =
    ["local_address", "local_mark", "local_port", "proto", "remote_address", "remote_port"];

/// The columns of the sums over all servers.
const SUMS: [F; 5] = [F::Connections, F::PacketsIn, F::PacketsOut, F::BytesIn, F::BytesOut];

struct Ipvs {
    stats: NodeFile,
    table: NodeFile,
    labels: [bool; LABELS.len()],
    /// By the values of the labels that are asked for; kept for their keys.
    backends: HashMap<String, Backend>,
    /// Of the scrape.
    number: u64,
}

struct Backend {
    /// The values of all labels.
    values: [String; LABELS.len()],
    /// The scrape in which it was last seen.
    seen: u64,
    active: u64,
    inactive: u64,
    weight: u64,
}

impl NodeCollector for Ipvs {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let sums = sums(self.stats.read()?);
        let sums =
            sums.ok_or_else(|| CollectError::parse(self.stats.path(), "not five sums in its third line"))?;
        for (family, sum) in SUMS.into_iter().zip(sums) {
            out.node(family, Labels::NONE, sum as f64);
        }
        if !out.wants_any([F::Active, F::Inactive, F::Weight]) {
            return Ok(());
        }
        self.number += 1;
        let result = self.read_table();
        let number = self.number;
        self.backends.retain(|_, backend| backend.seen == number);
        for backend in self.backends.values() {
            let mut labels = [("", ""); LABELS.len()];
            let mut count = 0;
            let asked = LABELS.iter().zip(&backend.values).zip(self.labels).filter(|(_, asked)| *asked);
            for ((name, value), _) in asked {
                labels[count] = (name, value);
                count += 1;
            }
            let labels = out.labels(&labels[..count]);
            out.node(F::Active, labels, backend.active as f64);
            out.node(F::Inactive, labels, backend.inactive as f64);
            out.node(F::Weight, labels, backend.weight as f64);
        }
        result
    }
}

impl Ipvs {
    /// Lines of servers, each followed by those of its backends (net/netfilter/ipvs/ip_vs_ctl.c, ip_vs_info_seq_show).
    fn read_table(&mut self) -> Result<(), CollectError> {
        let (text, is_whole) = whole_lines(self.table.read()?);
        let mut fault = (!is_whole).then(|| "ends in the middle".to_owned());
        let mut server = None;
        let mut key = String::new();
        for line in lines(text) {
            let mut words = words(line);
            match words.next() {
                // Headings.
                Some(b"IP" | b"Prot") => {}
                Some(b"->") if line.ends_with(b" InActConn") => {}
                Some(b"->") => match (&server, backend(words)) {
                    (Some(server), Some(found)) => {
                        add(&mut self.backends, self.labels, self.number, &mut key, server, &found);
                    }
                    // The server was named as a fault.
                    (None, _) => {}
                    (_, None) => fault = Some(format!("`{}` is not a backend", label(line))),
                },
                Some(protocol) => {
                    server = Server::new(protocol, words.next());
                    if server.is_none() {
                        fault = Some(format!("`{}` is not a server", label(line)));
                    }
                }
                None => {}
            }
        }
        fault.map_or(Ok(()), |what| Err(CollectError::parse(self.table.path(), what)))
    }
}

/// What clients connect to: an address and port, or a mark of the firewall.
struct Server<'a> {
    protocol: &'a [u8],
    place: Option<(Address, u64)>,
    mark: &'a [u8],
}

impl<'a> Server<'a> {
    /// `TCP  C0A80016:0CEA wlc`, `FWM  10001000 wlc`
    fn new(protocol: &'a [u8], place: Option<&'a [u8]>) -> Option<Self> {
        let place = place?;
        match protocol {
            b"FWM" => Some(Server { protocol, place: None, mark: place }),
            _ => Some(Server { protocol, place: Some(address_and_port(place)?), mark: b"" }),
        }
    }
}

/// The place of a backend, its weight, and its active and inactive connections.
type Found = ((Address, u64), [u64; 3]);

/// `  -> C0A85216:0CEA      Tunnel  100    248        2`, after the arrow
fn backend<'a>(mut words: impl Iterator<Item = &'a [u8]>) -> Option<Found> {
    let place = address_and_port(words.next()?)?;
    let mut numbers = words.skip(1).map(number);
    Some((place, [numbers.next()??, numbers.next()??, numbers.next()??]))
}

fn add(
    backends: &mut HashMap<String, Backend>,
    asked: [bool; LABELS.len()],
    scrape: u64,
    key: &mut String,
    server: &Server<'_>,
    ((address, port), numbers): &Found,
) {
    key.clear();
    for (i, _) in asked.into_iter().enumerate().filter(|(_, asked)| *asked) {
        // Writing to a string cannot fail.
        let _ = match (LABELS[i], &server.place) {
            ("local_address", Some((address, _))) => write!(key, "{address}"),
            ("local_address", None) => Ok(()),
            ("local_port", Some((_, port))) => write!(key, "{port}"),
            ("local_port", None) => write!(key, "0"),
            ("local_mark", _) => write!(key, "{}", label(server.mark)),
            ("proto", _) => write!(key, "{}", label(server.protocol)),
            ("remote_address", _) => write!(key, "{address}"),
            _ => write!(key, "{port}"),
        };
        key.push(' ');
    }
    if !backends.contains_key(key) {
        let mut values: [String; LABELS.len()] = Default::default();
        let mut words = key.split(' ');
        for (value, _) in values.iter_mut().zip(asked).filter(|(_, asked)| *asked) {
            words.next().unwrap_or_default().clone_into(value);
        }
        backends.insert(key.clone(), Backend { values, seen: 0, active: 0, inactive: 0, weight: 0 });
    }
    if let Some(backend) = backends.get_mut(key) {
        if backend.seen != scrape {
            (backend.seen, backend.active, backend.inactive, backend.weight) = (scrape, 0, 0, 0);
        }
        let [weight, active, inactive] = *numbers;
        backend.weight += weight;
        backend.active += active;
        backend.inactive += inactive;
    }
}

enum Address {
    V4(Ipv4Addr),
    V6(Ipv6Addr),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::V4(address) => address.fmt(f),
            Address::V6(address) => match address.to_ipv4_mapped() {
                Some(address) => address.fmt(f),
                None => address.fmt(f),
            },
        }
    }
}

/// `C0A80016:0CEA` or `[2620:0000:0000:0000:0000:0000:0000:0001]:0050`
fn address_and_port(word: &[u8]) -> Option<(Address, u64)> {
    let colon = word.iter().rposition(|b| *b == b':')?;
    let (address, port) = (&word[..colon], hexadecimal(&word[colon + 1..]).filter(|port| *port <= 0xffff)?);
    let address = match address.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]")) {
        Some(address) => Address::V6(std::str::from_utf8(address).ok()?.parse().ok()?),
        None => Address::V4(Ipv4Addr::from(
            u32::try_from(hexadecimal(address).filter(|_| address.len() == 8)?).ok()?,
        )),
    };
    Some((address, port))
}

/// Two lines of headings, then `       1        2        3                4                5`, hexadecimal.
fn sums(text: &[u8]) -> Option<[u64; 5]> {
    let line = text.split(|b| *b == b'\n').nth(2)?;
    let is_whole = text.split(|b| *b == b'\n').nth(3).is_some();
    let mut words = words(line).map(hexadecimal);
    let sums = [words.next()??, words.next()??, words.next()??, words.next()??, words.next()??];
    is_whole.then_some(sums)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::shown::{Tree, gives, scrape};

    const STATS: &str = "   Total Incoming Outgoing         Incoming         Outgoing\n   Conns  Packets  Packets            Bytes            Bytes\n 16AA370 E33656E5        0     51D8C8883AB3                0\n\n Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s\n       4     1FB3C        0          1282A8F                0\n";
    const HEADING: &str = "IP Virtual Server version 1.2.1 (size=4096)\nProt LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n";

    fn check(table: &str, options: &[(&str, &str)], expected: &[&str]) -> Result<(), CollectError> {
        let table = [HEADING, table].concat();
        let files = [("proc/net/ip_vs_stats", STATS), ("proc/net/ip_vs", &table)];
        let (lines, result) = gives(&COLLECTOR, &files, options);
        let mut active: Vec<_> = lines
            .iter()
            .filter_map(|line| line.strip_prefix("node_ipvs_backend_connections_active"))
            .collect();
        active.sort_unstable();
        assert_eq!(active, expected);
        result
    }

    #[test]
    fn backends_have_addresses_of_either_kind_or_a_mark() {
        let table = "TCP  C0A80016:0CEA wlc persistent 300\n  -> C0A85216:0CEA      Tunnel  100    248        2\n\
                     SCTP [2620:0000:0000:0000:0000:0000:0000:0001]:0050 sh\n  -> [2620:0000:0000:0000:0000:0000:0000:0005]:0050 Route   1 7 0\n\
                     FWM  10001000 wlc\n  -> C0A83215:0000      Route   20     321      64\n";
        let expected = [
            r#"{local_address="",local_mark="10001000",local_port="0",proto="FWM",remote_address="192.168.50.21",remote_port="0"} 321"#,
            r#"{local_address="192.168.0.22",local_mark="",local_port="3306",proto="TCP",remote_address="192.168.82.22",remote_port="3306"} 248"#,
            r#"{local_address="2620::1",local_mark="",local_port="80",proto="SCTP",remote_address="2620::5",remote_port="80"} 7"#,
        ];
        check(table, &[], &expected).unwrap();
        check(
            table,
            &[("backendLabels", "proto")],
            &[r#"{proto="FWM"} 321"#, r#"{proto="SCTP"} 7"#, r#"{proto="TCP"} 248"#],
        )
        .unwrap();
        check(table, &[("backendLabels", "")], &[" 576"]).unwrap();
    }

    #[test]
    fn a_bad_line_costs_its_own_backends() {
        let table = "TCP  C0A80016 wlc\n  -> C0A85216:0CEA Tunnel 100 1 2\nUDP  C0A80016:0035 rr\n  -> C0A85217:0035 Masq 1 x 0\n  -> C0A85218:0035 Masq 1 4";
        check(table, &[("backendLabels", "remote_address")], &[]).unwrap_err();
        let table = "TCP  zzz rr\n  -> C0A85216:0CEA Tunnel 100 1 2\nUDP  C0A80016:0035 rr\n  -> C0A85217:0035 Masq 1 5 0\n";
        check(table, &[("backendLabels", "remote_address")], &[r#"{remote_address="192.168.82.23"} 5"#])
            .unwrap_err();
    }

    #[test]
    fn sums_are_hexadecimal_and_a_backend_that_went_is_forgotten() {
        let tree = Tree::new(&[("proc/net/ip_vs_stats", STATS), ("proc/net/ip_vs", HEADING)]);
        let table = "TCP  C0A80016:0CEA wlc\n  -> C0A85216:0CEA Tunnel 100 248 2\n";
        tree.write("proc/net/ip_vs", [HEADING, table].concat().as_bytes());
        let mut ipvs = tree.start(&COLLECTOR, &[]);
        for _ in 0..2 {
            let (lines, _) = scrape(&COLLECTOR, ipvs.as_mut());
            assert!(lines[0].ends_with(" 248") && lines.len() == 8, "{lines:?}");
        }
        tree.write("proc/net/ip_vs", HEADING.as_bytes());
        let (lines, result) = scrape(&COLLECTOR, ipvs.as_mut());
        result.unwrap();
        assert_eq!(lines[0], "node_ipvs_connections_total 23765872");
        assert_eq!(lines[1], "node_ipvs_incoming_bytes_total 89991519156915");
        assert_eq!(sums(STATS.split_once("\n\n").unwrap().0.as_bytes()), None, "cut");
    }

    #[test]
    fn labels_that_there_are_not_are_refused_by_name() {
        let kind = COLLECTOR.options[0].kind;
        assert!(kind.check("proto,local_adress").unwrap_err().contains("local_adress"));
        kind.check("proto,,local_mark").unwrap();
    }
}
