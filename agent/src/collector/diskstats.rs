//! Reads, writes, discards and flushes of each block device.

use super::{CollectError, Collector, NodeCollector, OptionDesc, OptionKind, Pattern, Run};
use crate::metric::{Writer, families};
use crate::source::file::NodeFile;
use crate::source::text::{label, lines, number, whole_lines, words};

/// `diskstats`
pub(super) const COLLECTOR: Collector = Collector {
    name: "diskstats",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[],
    options: &[
        OptionDesc::new(
            "deviceExclude",
            OptionKind::Regex,
            r"^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$",
            "Devices to leave out.",
        )
        .deprecated(&["collector.diskstats.ignored-devices"]),
        OptionDesc::new("deviceInclude", OptionKind::Regex, "", "Devices to give, and no others."),
    ],
    exclusive: &[("deviceExclude", "deviceInclude")],
    run: Run::Node {
        start: |paths, options| {
            Box::new(Diskstats {
                file: NodeFile::new(paths.procfs.join("diskstats")),
                devices: options.pattern(&COLLECTOR, "deviceInclude", "deviceExclude"),
            })
        },
        can_block: false,
    },
};

families! {
    ReadsCompleted Counter "node_disk_reads_completed_total" "The total number of reads completed successfully.";
    ReadsMerged Counter "node_disk_reads_merged_total" "The total number of reads merged.";
    ReadBytes Counter "node_disk_read_bytes_total" "The total number of bytes read successfully.";
    ReadTime Counter "node_disk_read_time_seconds_total" "The total number of seconds spent by all reads.";
    WritesCompleted Counter "node_disk_writes_completed_total" "The total number of writes completed successfully.";
    WritesMerged Counter "node_disk_writes_merged_total" "The number of writes merged.";
    WrittenBytes Counter "node_disk_written_bytes_total" "The total number of bytes written successfully.";
    WriteTime Counter "node_disk_write_time_seconds_total" "The total number of seconds spent by all writes.";
    Now Gauge "node_disk_io_now" "The number of I/Os currently in progress.";
    IoTime Counter "node_disk_io_time_seconds_total" "Total seconds spent doing I/Os.";
    WeightedTime Counter "node_disk_io_time_weighted_seconds_total" "The weighted # of seconds spent doing I/Os.";
    DiscardsCompleted Counter "node_disk_discards_completed_total" "The total number of discards completed successfully.";
    DiscardsMerged Counter "node_disk_discards_merged_total" "The total number of discards merged.";
    DiscardedSectors Counter "node_disk_discarded_sectors_total" "The total number of sectors discarded successfully.";
    DiscardTime Counter "node_disk_discard_time_seconds_total" "The total number of seconds spent by all discards.";
    Flushes Counter "node_disk_flush_requests_total" "The total number of flush requests completed successfully.";
    FlushTime Counter "node_disk_flush_requests_time_seconds_total" "The total number of seconds spent by all flush requests.";
}

/// What turns a column into its family's unit.
#[derive(Clone, Copy)]
enum Unit {
    One,
    /// Of 512 bytes, whatever the device has (Documentation/block/stat.rst).
    Sectors,
    Milliseconds,
}

/// The columns after the device's name (Documentation/admin-guide/iostats.rst): 11 of them, since 4.18 also discards,
/// since 5.5 also flushes.
const COLUMNS: [(F, Unit); 17] = [
    (F::ReadsCompleted, Unit::One),
    (F::ReadsMerged, Unit::One),
    (F::ReadBytes, Unit::Sectors),
    (F::ReadTime, Unit::Milliseconds),
    (F::WritesCompleted, Unit::One),
    (F::WritesMerged, Unit::One),
    (F::WrittenBytes, Unit::Sectors),
    (F::WriteTime, Unit::Milliseconds),
    (F::Now, Unit::One),
    (F::IoTime, Unit::Milliseconds),
    (F::WeightedTime, Unit::Milliseconds),
    (F::DiscardsCompleted, Unit::One),
    (F::DiscardsMerged, Unit::One),
    (F::DiscardedSectors, Unit::One),
    (F::DiscardTime, Unit::Milliseconds),
    (F::Flushes, Unit::One),
    (F::FlushTime, Unit::Milliseconds),
];
const FEWEST: usize = 11;

struct Diskstats {
    file: NodeFile,
    devices: Pattern,
}

impl NodeCollector for Diskstats {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        if !out.wants_any(COLUMNS.map(|(family, _)| family)) {
            return Ok(());
        }
        let text = self.file.read()?;
        // A machine without block devices has an empty file.
        let is_empty = text.is_empty();
        let (text, is_whole) = whole_lines(text);
        let mut result = if is_whole || is_empty { Ok(()) } else { Err("ends in the middle".to_owned()) };
        for line in lines(text) {
            let Some((device, values, count)) = parse(line) else {
                result = Err(format!("`{}` is not the counters of a device", label(line)));
                continue;
            };
            let device = label(device);
            if self.devices.ignores(&device) {
                continue;
            }
            let labels = out.labels(&[("device", &device)]);
            for ((family, unit), value) in COLUMNS.into_iter().zip(values).take(count) {
                let value = match unit {
                    Unit::One => value as f64,
                    Unit::Sectors => value as f64 * 512.0,
                    Unit::Milliseconds => value as f64 / 1000.0,
                };
                out.node(family, labels, value);
            }
        }
        result.map_err(|what| CollectError::parse(self.file.path(), what))
    }
}

/// ` 254       0 vda 321527 50747 …`: the device, its columns, and how many this kernel has.
fn parse(line: &[u8]) -> Option<(&[u8], [u64; COLUMNS.len()], usize)> {
    let mut words = words(line);
    let (Some(_), Some(_)) = (number(words.next()?), number(words.next()?)) else { return None };
    let device = words.next()?;
    let mut values = [0; COLUMNS.len()];
    let mut count = 0;
    // What a later kernel adds is passed over.
    for (value, word) in values.iter_mut().zip(words) {
        *value = number(word)?;
        count += 1;
    }
    (count >= FEWEST).then_some((device, values, count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Samples;

    fn count(line: &str) -> Option<usize> {
        parse(line.as_bytes()).map(|(_, _, count)| count)
    }

    #[test]
    fn each_kernel_has_its_columns() {
        let numbers = |n: usize| format!("   8       0 sda{}", " 1".repeat(n));
        assert_eq!([11, 15, 17, 20].map(|n| count(&numbers(n))), [Some(11), Some(15), Some(17), Some(17)]);
        assert_eq!(count(&numbers(10)), None, "cut");
        assert_eq!(count("   8       0"), None);
        assert_eq!(count(&format!("{} x", numbers(11))), None);
    }

    #[test]
    fn a_cut_line_costs_its_own_device() {
        let path = std::env::temp_dir().join(format!("diskstats-{}", std::process::id()));
        let line = |device: &str| format!(" 8 0 {device} 1 2 3 4 5 6 7 8 9 10 11");
        std::fs::write(&path, format!("{}\n{}\n8 0 sdc 1 2\n{}", line("sda"), line("loop0"), line("sdd")))
            .unwrap();
        let mut collector = Diskstats {
            file: NodeFile::new(path.clone()),
            devices: super::super::Options::default().pattern(&COLLECTOR, "deviceInclude", "deviceExclude"),
        };
        let mut samples = Samples::new(FAMILIES.len());
        let result = collector.collect(&mut samples.writer(0, &[true; FAMILIES.len()]));
        assert!(matches!(result, Err(CollectError::Parse { .. })));
        let read = samples.family(F::ReadBytes as usize);
        assert_eq!(read.len(), 1);
        assert_eq!((samples.labels(read[0].labels), read[0].value), (&br#"device="sda""#[..], 1536.0));
        assert!(samples.family(F::Flushes as usize).is_empty());
        std::fs::remove_file(&path).unwrap();
    }
}
