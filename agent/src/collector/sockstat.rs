//! How many sockets the machine has, by protocol.

use rustix::io::Errno;

use super::{CollectError, Collector, NodeCollector, Run};
use crate::metric::{FamilyDesc, Kind, Labels, Writer};
use crate::source::file::NodeFile;
use crate::source::text::{label, lines, number, whole_lines, words};

/// `sockstat`
pub(super) const COLLECTOR: Collector = Collector {
    name: "sockstat",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[],
    options: &[],
    exclusive: &[],
    run: Run::Node {
        start: |paths, _| {
            Box::new(Sockstat {
                // Either is missing where the kernel has no such protocol.
                files: [NodeFile::whole(paths.net("sockstat")), NodeFile::whole(paths.net("sockstat6"))],
                page_size: rustix::param::page_size() as f64,
            })
        },
        can_block: false,
    },
};

/// Declares a family for each key of each protocol.
macro_rules! keys {
    ($($protocol:literal $($key:literal)*;)*) => {
        keys! { @ $($($protocol $key concat!("Number of ", $protocol, " sockets in state ", $key, "."),)*)* }
    };
    (@ $($protocol:literal $key:literal $help:expr,)*) => {
        const KEYS: &[(&str, &str)] = &[("sockets", "used"), $(($protocol, $key)),*];

        const FAMILIES: &[FamilyDesc] = &[
            FamilyDesc {
                name: "node_sockstat_sockets_used",
                kind: Kind::Gauge,
                help: "Number of IPv4 sockets in use.",
            },
            $(FamilyDesc {
                name: concat!("node_sockstat_", $protocol, "_", $key),
                kind: Kind::Gauge,
                help: $help,
            }),*
        ];
    };
}

// All that net/ipv4/proc.c and net/ipv6/proc.c write; `mem_bytes` follows from `mem`, which is in pages.
keys! {
    "TCP" "inuse" "orphan" "tw" "alloc" "mem" "mem_bytes";
    "UDP" "inuse" "mem" "mem_bytes";
    "UDPLITE" "inuse";
    "RAW" "inuse";
    "FRAG" "inuse" "memory";
    "TCP6" "inuse";
    "UDP6" "inuse";
    "UDPLITE6" "inuse";
    "RAW6" "inuse";
    "FRAG6" "inuse" "memory";
}

struct Sockstat {
    files: [NodeFile; 2],
    page_size: f64,
}

impl NodeCollector for Sockstat {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let mut result = Ok(());
        for file in &mut self.files {
            let text = match file.read() {
                Err(error) if error.source == Errno::NOENT => continue,
                text => text?,
            };
            let parsed = parse(text, |family, value| {
                out.node(family, Labels::NONE, value);
                if KEYS[usize::from(family)].1 == "mem" {
                    out.node(family + 1, Labels::NONE, value * self.page_size);
                }
            });
            if let Err(what) = parsed {
                result = Err(CollectError::parse(file.path(), what));
            }
        }
        result
    }
}

/// `TCP: inuse 27 orphan 1 tw 23 alloc 31 mem 3`; what a later kernel adds is passed over.
fn parse(text: &[u8], mut found: impl FnMut(u16, f64)) -> Result<(), String> {
    let (text, is_whole) = whole_lines(text);
    let mut result = if is_whole { Ok(()) } else { Err("ends in the middle".to_owned()) };
    for line in lines(text) {
        let mut words = words(line);
        let protocol = words.next().and_then(|word| word.strip_suffix(b":")).unwrap_or_default();
        while let Some(key) = words.next() {
            let Some(value) = words.next().and_then(number) else {
                result = Err(format!("`{}` is not a protocol with keys and numbers", label(line)));
                break;
            };
            let is_it = |(p, k): &(&str, &str)| p.as_bytes() == protocol && k.as_bytes() == key;
            if let Some(family) = KEYS.iter().position(is_it) {
                found(family as u16, value as f64);
            }
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::shown::gives;

    #[test]
    fn pages_are_also_given_in_bytes_and_unknown_keys_are_passed_over() {
        let text = "sockets: used 229\nTCP: inuse 4 orphan 0 tw 4 alloc 17 mem 1 new 5\nNEW: inuse 3\nFRAG: inuse 0 memory 0\n";
        let (lines, result) = gives(&COLLECTOR, &[("proc/net/sockstat", text)], &[]);
        result.unwrap();
        assert_eq!(lines[0], "node_sockstat_sockets_used 229");
        assert_eq!(lines[5], "node_sockstat_TCP_mem 1");
        assert_eq!(lines[6], format!("node_sockstat_TCP_mem_bytes {}", rustix::param::page_size()));
        assert_eq!(lines.len(), 9);
    }

    #[test]
    fn a_bad_line_costs_no_other_and_a_machine_without_the_files_has_no_series() {
        let files = [
            ("proc/net/sockstat", "TCP: inuse x\nUDP: inuse 2 mem 1"),
            ("proc/net/sockstat6", "RAW6: inuse 1\nFRAG6: inuse 0 memory\n"),
        ];
        let (lines, result) = gives(&COLLECTOR, &files, &[]);
        assert_eq!(lines, ["node_sockstat_RAW6_inuse 1", "node_sockstat_FRAG6_inuse 0"]);
        assert!(matches!(result, Err(CollectError::Parse { .. })));
        let (lines, result) = gives(&COLLECTOR, &[], &[]);
        assert!(lines.is_empty() && result.is_ok());
    }
}
