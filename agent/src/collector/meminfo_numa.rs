//! What the memory of each NUMA node is used for, and from where it was allocated.

use super::{CollectError, Collector, NodeCollector, Run};
use crate::metric::{Kind, NamedDesc, Suffix, Writer};
use crate::source::folder::Folder;
use crate::source::text::{label, lines, number, push_name, words};
use rustix::io::Errno;

/// `meminfo_numa`
pub(super) const COLLECTOR: Collector = Collector {
    name: "meminfo_numa",
    enabled_by_default: false,
    families: &[],
    named: &[NamedDesc {
        prefix: PREFIX,
        help: "Each line of a node's meminfo and, with `_total`, of its numastat.",
    }],
    options: &[],
    exclusive: &[],
    run: Run::Node {
        start: |paths, _| {
            let nodes = Folder::sysfs(paths.sysfs.join("devices/system/node"), &FILES, &paths.handles);
            Box::new(MeminfoNuma { nodes, family: Family::default() })
        },
        can_block: false,
    },
};

const PREFIX: &str = "node_memory_numa_";

/// Documentation/ABI/stable/sysfs-devices-node; the second is Documentation/admin-guide/numastat.rst.
const FILES: [&str; 2] = ["meminfo", "numastat"];

struct MeminfoNuma {
    nodes: Folder,
    family: Family,
}

/// Name and help of a family, in memory that is used again for the next.
#[derive(Default)]
struct Family {
    name: String,
    help: String,
}

impl NodeCollector for MeminfoNuma {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let mut result = match self.nodes.list() {
            // A kernel without NUMA has no nodes.
            Err(Errno::NOENT) => return Ok(()),
            listed => listed.map_err(|source| CollectError::read(self.nodes.path(), source)),
        };
        let MeminfoNuma { nodes, family } = self;
        for entry in 0..nodes.len() {
            let Some(node) =
                nodes.name(entry).strip_prefix("node").filter(|n| number(n.as_bytes()).is_some())
            else {
                continue;
            };
            let labels = out.labels(&[("node", node)]);
            for (file, parse, kind) in [(0, meminfo as Parse, Kind::Gauge), (1, numastat, Kind::Counter)] {
                let text = match nodes.read(entry, file) {
                    Ok(text) => text,
                    Err(source) => {
                        result = result.and(Err(CollectError::read(nodes.file_path(entry, file), source)));
                        continue;
                    }
                };
                let mut fault = None;
                for line in lines(text) {
                    match parse(line) {
                        Some((key, value)) => {
                            family.set(key, kind);
                            let named = out.named(&family.name, kind, &family.help);
                            out.add(named, labels, Suffix::None, value);
                        }
                        None => fault = Some(format!("`{}` is not a key with a value", label(line))),
                    }
                }
                if let Some(what) = fault {
                    result = result.and(Err(CollectError::parse(nodes.file_path(entry, file), what)));
                }
            }
        }
        result
    }
}

type Parse = fn(&[u8]) -> Option<(&[u8], f64)>;

/// `Node 0 Active(anon):    1516 kB` or, in pieces, `Node 0 HugePages_Total:     0`
fn meminfo(line: &[u8]) -> Option<(&[u8], f64)> {
    let mut row = words(line).skip(2);
    let key = row.next()?.strip_suffix(b":")?;
    let value = number(row.next()?)? as f64;
    match row.next() {
        None => Some((key, value)),
        Some(b"kB") => Some((key, value * 1024.0)),
        Some(_) => None,
    }
}

/// `numa_hit 32612`
fn numastat(line: &[u8]) -> Option<(&[u8], f64)> {
    let mut row = words(line);
    Some((row.next()?, number(row.next()?)? as f64))
}

impl Family {
    /// `Active(anon)` is `Active_anon`.
    fn set(&mut self, key: &[u8], kind: Kind) {
        self.name.clear();
        self.name.push_str(PREFIX);
        push_name(&mut self.name, &label(key.strip_suffix(b")").unwrap_or(key)));
        if kind == Kind::Counter {
            self.name.push_str("_total");
        }
        self.help.clear();
        self.help.extend(["Memory information field ", &self.name[PREFIX.len()..], "."]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::shown::gives;

    #[test]
    fn only_nodes_are_read_and_a_bad_line_costs_itself() {
        let folder = |file: &str| format!("sys/devices/system/node/{file}");
        let meminfo = "\nNode 3 MemTotal:  7 kB\nNode 3 Active(anon): x kB\nNode 3 Inactive(file):  2 kB\nNode 3 HugePages_Free:     5\n";
        let files = [("node3/meminfo", meminfo), ("node3/numastat", "numa_hit 9\n"), ("possible", "0-3\n")];
        let files = files.map(|(file, text)| (folder(file), text));
        let files: Vec<_> = files.iter().map(|(file, text)| (file.as_str(), *text)).collect();
        let (lines, result) = gives(&COLLECTOR, &files, &[]);
        let expected = ["MemTotal 7168", "Inactive_file 2048", "HugePages_Free 5", "numa_hit_total 9"];
        let expected = expected.map(|line| format!("{PREFIX}{}", line.replace(' ', r#"{node="3"} "#)));
        assert_eq!(lines, expected);
        assert!(matches!(result, Err(CollectError::Parse { .. })));
    }

    #[test]
    fn a_kernel_without_numa_has_none() {
        let (lines, result) = gives(&COLLECTOR, &[], &[]);
        assert!(lines.is_empty() && result.is_ok());
    }
}
