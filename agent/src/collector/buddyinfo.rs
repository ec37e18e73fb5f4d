//! How many free blocks of each size each memory zone has.

use super::{CollectError, Collector, NodeCollector, Run};
use crate::metric::{Writer, families};
use crate::source::file::NodeFile;
use crate::source::text::{label, lines, number, whole_lines, words};

/// `buddyinfo`
pub(super) const COLLECTOR: Collector = Collector {
    name: "buddyinfo",
    enabled_by_default: false,
    families: FAMILIES,
    named: &[],
    options: &[],
    exclusive: &[],
    run: Run::Node {
        start: |paths, _| Box::new(Buddyinfo(NodeFile::in_short_records(paths.procfs.join("buddyinfo")))),
        can_block: false,
    },
};

families! {
    Blocks Gauge "node_buddyinfo_blocks" "Count of free blocks according to size.";
}

struct Buddyinfo(NodeFile);

impl NodeCollector for Buddyinfo {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let (text, is_whole) = whole_lines(self.0.read()?);
        let mut result = if is_whole { Ok(()) } else { Err("ends in the middle".to_owned()) };
        for line in lines(text) {
            let Some((node, zone, blocks)) = parse(line) else {
                result = Err(format!("`{}` is not the blocks of a zone", label(line)));
                continue;
            };
            let mut order = itoa::Buffer::new();
            for (size, count) in blocks.enumerate() {
                let labels = [("node", &*label(node)), ("zone", &*label(zone)), ("size", order.format(size))];
                let labels = out.labels(&labels);
                out.node(F::Blocks, labels, count as f64);
            }
        }
        result.map_err(|what| CollectError::parse(self.0.path(), what))
    }
}

/// `Node 0, zone   Normal  30584  33782 …`: free blocks of 2^n pages (Documentation/filesystems/proc.rst, buddyinfo).
fn parse(line: &[u8]) -> Option<(&[u8], &[u8], impl Iterator<Item = u64>)> {
    let mut row = words(line);
    let (b"Node", node, b"zone", zone) = (row.next()?, row.next()?, row.next()?, row.next()?) else {
        return None;
    };
    let is_good = row.clone().all(|word| number(word).is_some());
    is_good.then(|| (node.strip_suffix(b",").unwrap_or(node), zone, row.filter_map(number)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::shown::gives;

    #[test]
    fn each_zone_has_its_blocks_and_a_bad_line_costs_itself() {
        let text = "Node 0, zone      DMA      0   11 \nNode 0, zone x\nNode 0, zone DMA32 5 x\nNode 1, zone   Normal 7 \nNode 1, zone";
        let (lines, result) = gives(&COLLECTOR, &[("proc/buddyinfo", text)], &[]);
        let expected = [
            r#"node_buddyinfo_blocks{node="0",zone="DMA",size="0"} 0"#,
            r#"node_buddyinfo_blocks{node="0",zone="DMA",size="1"} 11"#,
            r#"node_buddyinfo_blocks{node="1",zone="Normal",size="0"} 7"#,
        ];
        assert_eq!(lines, expected);
        assert!(matches!(result, Err(CollectError::Parse { .. })));
    }
}
