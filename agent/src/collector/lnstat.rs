//! Counters of the kernel's network caches, by CPU.

use super::{CollectError, Collector, NodeCollector, Run};
use crate::metric::{Kind, NamedDesc, Suffix, Writer};
use crate::source::file::NodeFile;
use crate::source::folder;
use crate::source::text::{hexadecimal, label, lines, push_name, whole_lines, words};
use rustix::io::Errno;
use std::path::PathBuf;

/// `lnstat`
pub(super) const COLLECTOR: Collector = Collector {
    name: "lnstat",
    enabled_by_default: false,
    families: &[],
    named: &[NamedDesc { prefix: PREFIX, help: "Each column of the files in `/proc/net/stat`." }],
    options: &[],
    exclusive: &[],
    run: Run::Node {
        start: |paths, _| {
            Box::new(Lnstat { folder: paths.net("stat"), files: Vec::new(), family: String::new() })
        },
        can_block: false,
    },
};

const PREFIX: &str = "node_lnstat_";

struct Lnstat {
    folder: PathBuf,
    files: Vec<(String, NodeFile)>,
    family: String,
}

impl NodeCollector for Lnstat {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let names = match folder::names(&self.folder) {
            // A kernel may have none of these caches.
            Err(Errno::NOENT) => return Ok(()),
            names => names.map_err(|source| CollectError::read(&self.folder, source))?,
        };
        self.files.retain(|(known, _)| names.contains(known));
        for name in names {
            if !self.files.iter().any(|(known, _)| *known == name) {
                let file = NodeFile::new(self.folder.join(&name));
                self.files.push((name, file));
            }
        }
        let mut result = Ok(());
        for (name, file) in &mut self.files {
            let family = &mut self.family;
            let parsed = file.read().map_err(CollectError::from).map(|text| {
                parse(text, |column, cpu, value| {
                    family.clear();
                    family.push_str(PREFIX);
                    push_name(family, &label(column));
                    family.push_str("_total");
                    let named = out.named(family, Kind::Counter, "Linux network cache stats.");
                    let mut buffer = itoa::Buffer::new();
                    let labels = [("subsystem", name.as_str()), ("cpu", buffer.format(cpu))];
                    let labels = out.labels(&labels);
                    out.add(named, labels, Suffix::None, value as f64);
                })
            });
            let parsed = parsed.and_then(|r| r.map_err(|what| CollectError::parse(file.path(), what)));
            result = result.and(parsed);
        }
        result
    }
}

/// Names in the first line, and below a line of hexadecimal numbers for each CPU that there can be
/// (net/core/neighbour.c, neigh_stat_seq_show).
fn parse(text: &[u8], mut found: impl FnMut(&[u8], usize, u64)) -> Result<(), String> {
    let (text, is_whole) = whole_lines(text);
    let mut result = if is_whole { Ok(()) } else { Err("ends in the middle".to_owned()) };
    let mut lines = lines(text);
    let names = lines.next().unwrap_or_default();
    for (cpu, line) in lines.enumerate() {
        for (name, word) in words(names).zip(words(line)) {
            match hexadecimal(word) {
                Some(value) => found(name, cpu, value),
                None => result = Err(format!("`{}` of `{}` is not a number", label(word), label(name))),
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
    fn each_file_is_a_subsystem_and_each_line_a_cpu() {
        let files = [
            (
                "proc/net/stat/arp_cache",
                "entries  allocs\n00000013  0000000a \n00000013  ffffffff 00000001\n",
            ),
            ("proc/net/stat/rt_cache", "entries\nx\n00000002\n00000003"),
        ];
        let (lines, result) = gives(&COLLECTOR, &files, &[]);
        let expected = [
            r#"entries_total{subsystem="arp_cache",cpu="0"} 19"#,
            r#"entries_total{subsystem="arp_cache",cpu="1"} 19"#,
            r#"entries_total{subsystem="rt_cache",cpu="1"} 2"#,
            r#"allocs_total{subsystem="arp_cache",cpu="0"} 10"#,
            r#"allocs_total{subsystem="arp_cache",cpu="1"} 4294967295"#,
        ];
        assert_eq!(lines, expected.map(|line| format!("{PREFIX}{line}")));
        assert!(matches!(result, Err(CollectError::Parse { .. })));
    }
}
