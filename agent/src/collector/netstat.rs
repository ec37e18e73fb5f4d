//! Counters of the machine's network protocols.

use rustix::io::Errno;

use super::{CollectError, Collector, NodeCollector, OptionDesc, OptionKind, Run};
use crate::metric::{Fields, Kind, Labels, NamedDesc, Suffix, Writer};
use crate::source::file::NodeFile;
use crate::source::text::{float, label, lines, number, whole_lines, words};

/// `netstat`
pub(super) const COLLECTOR: Collector = Collector {
    name: "netstat",
    enabled_by_default: true,
    families: &[],
    named: &[NamedDesc {
        prefix: "node_netstat_",
        help: "A protocol and one of its counters, as in `/proc/net/netstat`, `snmp` and `snmp6`.",
    }],
    options: &[OptionDesc::new(
        "fields",
        OptionKind::Regex,
        "^(.*_(InErrors|InErrs)|Ip_Forwarding|Ip(6|Ext)_(InOctets|OutOctets)|Icmp6?_(InMsgs|OutMsgs)|\
         TcpExt_(Listen.*|Syncookies.*|TCPSynRetrans|TCPTimeouts|TCPOFOQueue|TCPRcvQDrop)|\
         Tcp_(ActiveOpens|InSegs|OutSegs|OutRsts|PassiveOpens|RetransSegs|CurrEstab)|\
         Udp6?_(InDatagrams|OutDatagrams|NoPorts|RcvbufErrors|SndbufErrors))$",
        "Counters to give, as protocol and name joined by an underscore.",
    )],
    exclusive: &[],
    run: Run::Node {
        start: |paths, options| {
            let pattern = options.regex(&COLLECTOR, "fields");
            let fields = Fields::new("node_netstat_", pattern, |key| format!("Statistic {key}."));
            Box::new(Netstat {
                netstat: NodeFile::whole(paths.net("netstat")),
                snmp: NodeFile::whole(paths.net("snmp")),
                snmp6: NodeFile::whole(paths.net("snmp6")),
                fields,
            })
        },
        can_block: false,
    },
};

struct Netstat {
    netstat: NodeFile,
    snmp: NodeFile,
    /// Not there where IPv6 is disabled.
    snmp6: NodeFile,
    fields: Fields,
}

impl NodeCollector for Netstat {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let mut place = 0;
        let mut result = Ok(());
        let mut found = |protocol: &[u8], name: &[u8], value: f64| {
            if let Some((name, help)) = self.fields.get(place, &[protocol, name]) {
                let family = out.named(name, Kind::Untyped, help);
                out.add(family, Labels::NONE, Suffix::None, value);
            }
            place += 1;
        };
        for file in [&mut self.netstat, &mut self.snmp] {
            if let Err(what) = pairs_of_lines(file.read()?, &mut found) {
                result = Err(CollectError::parse(file.path(), what));
            }
        }
        match self.snmp6.read() {
            Ok(text) => {
                if let Err(what) = keys_with_values(text, &mut found) {
                    result = Err(CollectError::parse(self.snmp6.path(), what));
                }
            }
            Err(error) if error.source == Errno::NOENT => {}
            Err(error) => return Err(error.into()),
        }
        result
    }
}

/// Counters are mostly not negative, `Tcp: MaxConn` is.
fn value(word: &[u8]) -> Option<f64> {
    number(word).map(|n| n as f64).or_else(|| float(word).filter(|n| n.is_finite()))
}

/// `TcpExt: SyncookiesSent SyncookiesRecv` and, in the next line, `TcpExt: 0 0` (net/ipv4/proc.c).
fn pairs_of_lines(text: &[u8], mut found: impl FnMut(&[u8], &[u8], f64)) -> Result<(), String> {
    let (text, is_whole) = whole_lines(text);
    let mut result = if is_whole { Ok(()) } else { Err("ends in the middle".to_owned()) };
    let mut lines = lines(text);
    while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
        let (mut names, mut values) = (words(names), words(values));
        let protocol = names.next().and_then(|word| word.strip_suffix(b":")).unwrap_or_default();
        if values.next().and_then(|word| word.strip_suffix(b":")) != Some(protocol) {
            return Err(format!("the names of `{}` have no values", label(protocol)));
        }
        loop {
            match (names.next(), values.next().map(value)) {
                (None, None) => break,
                (Some(name), Some(Some(value))) => found(protocol, name, value),
                _ => {
                    result = Err(format!("`{}` has not as many numbers as names", label(protocol)));
                    break;
                }
            }
        }
    }
    result
}

/// `Ip6InReceives 1024` (net/ipv6/proc.c): the protocol ends with the digit.
fn keys_with_values(text: &[u8], mut found: impl FnMut(&[u8], &[u8], f64)) -> Result<(), String> {
    let (text, is_whole) = whole_lines(text);
    let mut result = if is_whole { Ok(()) } else { Err("ends in the middle".to_owned()) };
    for line in lines(text) {
        let mut words = words(line);
        let (Some(key), Some(value)) = (words.next(), words.next().and_then(value)) else {
            result = Err(format!("`{}` is not a counter", label(line)));
            continue;
        };
        if let Some(six) = key.iter().position(|b| *b == b'6') {
            found(&key[..=six], &key[six + 1..], value);
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::shown::gives;

    const SNMP: &str =
        "Ip: Forwarding DefaultTTL\nIp: 1 64\nTcp: MaxConn InErrs\nTcp: -1 18446744073709551615\n";

    #[test]
    fn counters_are_named_for_their_protocol() {
        let files = [
            ("proc/net/netstat", "TcpExt: ListenDrops Other\nTcpExt: 3 4\n"),
            ("proc/net/snmp", SNMP),
            (
                "proc/net/snmp6",
                "Ip6InOctets                     \t20\nIcmp6InMsgs                     \t5\nnodigit 1\n",
            ),
        ];
        let (lines, result) = gives(&COLLECTOR, &files, &[]);
        let expected = [
            "node_netstat_TcpExt_ListenDrops 3",
            "node_netstat_Ip_Forwarding 1",
            "node_netstat_Tcp_InErrs 18446744073709552000",
            "node_netstat_Ip6_InOctets 20",
            "node_netstat_Icmp6_InMsgs 5",
        ];
        assert_eq!(lines, expected);
        result.unwrap();
        let (lines, _) = gives(&COLLECTOR, &files, &[("fields", "MaxConn")]);
        assert_eq!(lines, ["node_netstat_Tcp_MaxConn -1"]);
    }

    #[test]
    fn a_protocol_with_other_names_than_numbers_costs_no_other() {
        let files = [
            (
                "proc/net/netstat",
                "TcpExt: ListenDrops ListenOverflows\nTcpExt: 3\nIpExt: InOctets\nIpExt: 7\n",
            ),
            ("proc/net/snmp", "Ip: Forwarding Default"),
        ];
        let (lines, result) = gives(&COLLECTOR, &files, &[]);
        assert_eq!(lines, ["node_netstat_TcpExt_ListenDrops 3", "node_netstat_IpExt_InOctets 7"]);
        assert!(matches!(result, Err(CollectError::Parse { .. })));
    }

    #[test]
    fn without_ipv6_the_rest_is_there_and_lines_out_of_step_are_not_guessed_at() {
        let files = [("proc/net/netstat", "TcpExt: ListenDrops\nTcpExt: 3\n"), ("proc/net/snmp", SNMP)];
        let (lines, result) = gives(&COLLECTOR, &files, &[]);
        assert_eq!(lines.len(), 3);
        result.unwrap();
        let mut found = 0;
        pairs_of_lines(b"Ip: A\nTcp: 1\nTcp: B\n", |_, _, _| found += 1).unwrap_err();
        assert_eq!(found, 0);
    }
}
