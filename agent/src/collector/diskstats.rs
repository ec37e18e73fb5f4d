//! Reads, writes, discards and flushes of each block device, and what device it is.

mod udev;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use udev::{Properties, Udev};

use super::{CollectError, Collector, NodeCollector, OptionDesc, OptionKind, Pattern, Run};
use crate::metric::{Writer, families};
use crate::source::Paths;
use crate::source::file::{HandleBudget, NodeFile};
use crate::source::listed::{DeviceFile, Listed};
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
            Box::new(Diskstats::new(paths, options.pattern(&COLLECTOR, "deviceInclude", "deviceExclude")))
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
    Info Gauge "node_disk_info" "Info of /sys/block/<block_device>.";
    FilesystemInfo Gauge "node_disk_filesystem_info" "Info about disk filesystem.";
    DeviceMapperInfo Gauge "node_disk_device_mapper_info" "Info about disk device mapper.";
    AtaWriteCache Gauge "node_disk_ata_write_cache" "ATA disk has a write cache.";
    AtaWriteCacheEnabled Gauge "node_disk_ata_write_cache_enabled" "ATA disk has its write cache enabled.";
    AtaRotationRate Gauge "node_disk_ata_rotation_rate_rpm" "ATA disk rotation rate in RPMs (0 for SSDs).";
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

/// The families that tell what a device is.
const INFOS: [F; 6] = [
    F::Info,
    F::FilesystemInfo,
    F::DeviceMapperInfo,
    F::AtaWriteCache,
    F::AtaWriteCacheEnabled,
    F::AtaRotationRate,
];

struct Diskstats {
    file: NodeFile,
    pattern: Pattern,
    disks: Listed<Disk>,
    udev: Udev,
    sysfs: PathBuf,
    handles: Arc<HandleBudget>,
    buffer: Vec<u8>,
}

/// What is kept of a device.
struct Disk {
    is_ignored: bool,
    rotational: DeviceFile,
    /// What udev said of the device of these numbers, in this version.
    properties: Properties,
    read: Option<(u64, u64, u64)>,
}

impl Diskstats {
    fn new(paths: &Paths, pattern: Pattern) -> Self {
        Diskstats {
            file: NodeFile::new(paths.procfs.join("diskstats")),
            pattern,
            disks: Listed::default(),
            udev: Udev::new(&paths.udev),
            sysfs: paths.sysfs.clone(),
            handles: paths.handles.clone(),
            buffer: Vec::new(),
        }
    }
}

impl NodeCollector for Diskstats {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let infos = out.wants_any(INFOS);
        if !infos && !out.wants_any(COLUMNS.map(|(family, _)| family)) {
            return Ok(());
        }
        let text = self.file.read()?;
        // A machine without block devices has an empty file.
        let is_empty = text.is_empty();
        let (text, is_whole) = whole_lines(text);
        let mut result = if is_whole || is_empty { Ok(()) } else { Err("ends in the middle".to_owned()) };
        let version = if infos { self.udev.version(SystemTime::now()) } else { None };
        self.disks.begin();
        for line in lines(text) {
            let Some(Line { major, minor, device, values, count }) = parse(line) else {
                result = Err(format!("`{}` is not the counters of a device", label(line)));
                continue;
            };
            let (device, disk) = self.disks.next(device, |device| Disk {
                is_ignored: self.pattern.ignores(device),
                rotational: DeviceFile::new(&self.handles),
                properties: Properties::default(),
                read: None,
            });
            if disk.is_ignored {
                continue;
            }
            let labels = out.labels(&[("device", device)]);
            for ((family, unit), value) in COLUMNS.into_iter().zip(values).take(count) {
                let value = match unit {
                    Unit::One => value as f64,
                    Unit::Sectors => value as f64 * 512.0,
                    Unit::Milliseconds => value as f64 / 1000.0,
                };
                out.node(family, labels, value);
            }
            if !infos {
                continue;
            }
            let read = version.map(|version| (version, major, minor));
            if disk.read != read {
                disk.properties =
                    read.map(|_| self.udev.read(major, minor, &mut self.buffer)).unwrap_or_default();
                disk.read = read;
            }
            // What is no disk, such as a partition, has no such file and counts as not rotating.
            let path = || self.sysfs.join("block").join(device.replace('/', "!")).join("queue/rotational");
            let is_rotational = disk.rotational.read(path, &mut self.buffer) == Ok(b"1");
            disk.write((major, minor), device, is_rotational, out);
        }
        self.disks.end();
        result.map_err(|what| CollectError::parse(self.file.path(), what))
    }
}

impl Disk {
    fn write(&self, (major, minor): (u64, u64), device: &str, is_rotational: bool, out: &mut Writer<'_>) {
        let Properties { path, wwn, model, serial, revision, .. } = &self.properties;
        let (mut majors, mut minors) = (itoa::Buffer::new(), itoa::Buffer::new());
        let labels = out.labels(&[
            ("device", device),
            ("major", majors.format(major)),
            ("minor", minors.format(minor)),
            ("model", model),
            ("path", path),
            ("revision", revision),
            ("rotational", if is_rotational { "1" } else { "0" }),
            ("serial", serial),
            ("wwn", wwn),
        ]);
        out.node(F::Info, labels, 1.0);
        self.properties.write(device, out);
    }
}

struct Line<'a> {
    major: u64,
    minor: u64,
    device: &'a [u8],
    values: [u64; COLUMNS.len()],
    /// How many of them this kernel has.
    count: usize,
}

/// ` 254       0 vda 321527 50747 …`
fn parse(line: &[u8]) -> Option<Line<'_>> {
    let mut words = words(line);
    let (major, minor, device) = (number(words.next()?)?, number(words.next()?)?, words.next()?);
    let mut values = [0; COLUMNS.len()];
    let mut count = 0;
    // What a later kernel adds is passed over.
    for (value, word) in values.iter_mut().zip(words) {
        *value = number(word)?;
        count += 1;
    }
    (count >= FEWEST).then_some(Line { major, minor, device, values, count })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::shown::{Tree, gives, scrape};

    fn count(line: &str) -> Option<usize> {
        parse(line.as_bytes()).map(|line| line.count)
    }

    #[test]
    fn each_kernel_has_its_columns() {
        let numbers = |n: usize| format!("   8       0 sda{}", " 1".repeat(n));
        assert_eq!([11, 15, 17, 20].map(|n| count(&numbers(n))), [Some(11), Some(15), Some(17), Some(17)]);
        assert_eq!(count(&numbers(10)), None, "cut");
        assert_eq!(count("   8       0"), None);
        assert_eq!(count(&format!("{} x", numbers(11))), None);
    }

    fn line(device: &str) -> String {
        format!("   8       0 {device} 1 2 3 4 5 6 7 8 9 10 11\n")
    }

    #[test]
    fn a_cut_line_costs_its_own_device() {
        let text = [&line("sda"), &line("loop0"), "8 0 sdc 1 2\n", line("sdd").trim_end()].concat();
        let (lines, result) = gives(&COLLECTOR, &[("proc/diskstats", &text)], &[]);
        assert!(matches!(result, Err(CollectError::Parse { .. })));
        assert_eq!(lines.len(), FEWEST + 1);
        assert_eq!(lines[2], r#"node_disk_read_bytes_total{device="sda"} 1536"#);
        assert_eq!(
            lines[FEWEST],
            r#"node_disk_info{device="sda",major="8",minor="0",model="",path="",revision="",rotational="0",serial="",wwn=""} 1"#
        );
    }

    #[test]
    fn what_udev_and_sysfs_know_is_given_and_followed() {
        let tree = Tree::new(&[
            ("proc/diskstats", &line("cciss/c0d0")),
            ("sys/block/cciss!c0d0/queue/rotational", "1\n"),
            (
                "udev/b8:0",
                "E:ID_MODEL=Old \"disk\"\nE:ID_FS_TYPE=xfs\nE:DM_NAME=vg-lv\nE:ID_ATA=1\nE:ID_ATA_WRITE_CACHE=0\n",
            ),
        ]);
        let mut disks = tree.start(&COLLECTOR, &[]);
        let mut infos = || {
            let (mut lines, result) = scrape(&COLLECTOR, disks.as_mut());
            result.unwrap();
            lines.split_off(FEWEST)
        };
        let expected = [
            r#"node_disk_info{device="cciss/c0d0",major="8",minor="0",model="Old \"disk\"",path="",revision="",rotational="1",serial="",wwn=""} 1"#,
            r#"node_disk_filesystem_info{device="cciss/c0d0",type="xfs",usage="",uuid="",version=""} 1"#,
            r#"node_disk_device_mapper_info{device="cciss/c0d0",lv_layer="",lv_name="",name="vg-lv",uuid="",vg_name=""} 1"#,
            r#"node_disk_ata_write_cache{device="cciss/c0d0"} 0"#,
        ];
        assert_eq!(infos(), expected);
        // As udev does it, so that the folder's time changes.
        tree.write("udev/.new", b"E:ID_MODEL=New\n");
        std::fs::rename(tree.path().join("udev/.new"), tree.path().join("udev/b8:0")).unwrap();
        assert!(infos()[0].contains(r#"model="New""#));
        std::fs::remove_dir_all(tree.path().join("udev")).unwrap();
        assert!(infos()[0].contains(r#"model="""#));
    }
}
