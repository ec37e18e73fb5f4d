//! How full each swap device is.

use super::{CollectError, Collector, NodeCollector, Run};
use crate::metric::{Writer, families};
use crate::source::file::NodeFile;
use crate::source::text::{float, label, lines, whole_lines, words};

/// `swap`
pub(super) const COLLECTOR: Collector = Collector {
    name: "swap",
    enabled_by_default: false,
    families: FAMILIES,
    named: &[],
    options: &[],
    exclusive: &[],
    run: Run::Node {
        start: |paths, _| Box::new(Swap(NodeFile::new(paths.procfs.join("swaps")))),
        can_block: false,
    },
};

families! {
    Size Gauge "node_swap_size_bytes" "Swap device size in bytes.";
    Used Gauge "node_swap_used_bytes" "Swap device used in bytes.";
    Priority Gauge "node_swap_priority" "Swap device priority.";
}

struct Swap(NodeFile);

impl NodeCollector for Swap {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let (text, is_whole) = whole_lines(self.0.read()?);
        let mut result = if is_whole { Ok(()) } else { Err("ends in the middle".to_owned()) };
        // After the headings.
        for line in lines(text).skip(1) {
            let Some((device, kind, [size, used, priority])) = parse(line) else {
                result = Err(format!("`{}` is not a swap device", label(line)));
                continue;
            };
            let labels = out.labels(&[("device", &label(device)), ("swap_type", &label(kind))]);
            out.node(F::Size, labels, size * 1024.0);
            out.node(F::Used, labels, used * 1024.0);
            out.node(F::Priority, labels, priority);
        }
        result.map_err(|what| CollectError::parse(self.0.path(), what))
    }
}

/// `/dev/dm-2   partition   131068   176   -2`: sizes in KiB (mm/swapfile.c, swap_show). A space in a name stays `\040`,
/// as node_exporter leaves it.
fn parse(line: &[u8]) -> Option<(&[u8], &[u8], [f64; 3])> {
    let mut row = words(line);
    let (device, kind) = (row.next()?, row.next()?);
    Some((device, kind, [float(row.next()?)?, float(row.next()?)?, float(row.next()?)?]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::shown::gives;

    #[test]
    fn priorities_can_be_negative_and_a_bad_line_costs_its_device() {
        let text = "Filename\tType\t\tSize\tUsed\tPriority\n/swap\\040file\tfile\t\t4\t\t1\t\t-2\n/dev/zram0 partition 8 x 100\n/dev/sdb1 partition";
        let (lines, result) = gives(&COLLECTOR, &[("proc/swaps", text)], &[]);
        let labels = r#"{device="/swap\\040file",swap_type="file"}"#;
        let expected = [("size_bytes", "4096"), ("used_bytes", "1024"), ("priority", "-2")];
        assert_eq!(lines, expected.map(|(name, value)| format!("node_swap_{name}{labels} {value}")));
        assert!(matches!(result, Err(CollectError::Parse { .. })));
    }
}
