//! What each cgroup read from and wrote to block devices.

use std::collections::HashMap;
use std::path::PathBuf;

use super::container_filesystem::{Mounted, disk};
use super::{CgroupCollector, Cgroups, CollectError, Collector, Pattern, Run};
use crate::metric::{Labels, Subject, Writer, families};
use crate::source::Paths;
use crate::source::cgroup::{CgroupFile, Version};
use crate::source::file::{NodeFile, read_once};
use crate::source::text::{label, lines, number, words};

/// `container_io`
pub(super) const COLLECTOR: Collector = Collector {
    name: "container_io",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[],
    options: &[],
    exclusive: &[],
    run: Run::Cgroups {
        start: |paths, _| {
            let devices = Devices::new(paths.procfs.join("diskstats"));
            Box::new(ContainerIo { devices, disks: Disks::new(paths) })
        },
    },
};

families! {
    ReadBytes Counter "container_fs_reads_bytes_total" "Cumulative count of bytes read.";
    Reads Counter "container_fs_reads_total" "Cumulative count of reads completed.";
    WriteBytes Counter "container_fs_writes_bytes_total" "Cumulative count of bytes written.";
    Writes Counter "container_fs_writes_total" "Cumulative count of writes completed.";
    DeviceUsage Counter "container_blkio_device_usage_total" "Blkio device bytes usage.";
    SectorReads Counter "container_fs_sector_reads_total" "Cumulative count of sector reads completed.";
    ReadsMerged Counter "container_fs_reads_merged_total" "Cumulative count of reads merged.";
    ReadTime Counter "container_fs_read_seconds_total" "Cumulative count of seconds spent reading.";
    SectorWrites Counter "container_fs_sector_writes_total" "Cumulative count of sector writes completed.";
    WritesMerged Counter "container_fs_writes_merged_total" "Cumulative count of writes merged.";
    WriteTime Counter "container_fs_write_seconds_total" "Cumulative count of seconds spent writing.";
    Now Gauge "container_fs_io_current" "Number of I/Os currently in progress.";
    IoTime Counter "container_fs_io_time_seconds_total" "Cumulative count of seconds spent doing I/Os.";
    WeightedTime Counter "container_fs_io_time_weighted_seconds_total" "Cumulative weighted I/O time in seconds.";
    CostUsage Counter "container_fs_io_cost_usage_seconds_total" "Cumulative IOCost usage in seconds.";
    CostWait Counter "container_fs_io_cost_wait_seconds_total" "Cumulative IOCost wait in seconds.";
    CostIndebt Counter "container_fs_io_cost_indebt_seconds_total" "Cumulative IOCost debt in seconds.";
    CostIndelay Counter "container_fs_io_cost_indelay_seconds_total" "Cumulative IOCost delay in seconds.";
}

/// What `io.stat` is read for.
const IN_STAT: [F; 9] = [
    F::ReadBytes,
    F::Reads,
    F::WriteBytes,
    F::Writes,
    F::DeviceUsage,
    F::CostUsage,
    F::CostWait,
    F::CostIndebt,
    F::CostIndelay,
];

/// What the columns of `/proc/diskstats` become, of which those of times are in milliseconds.
const COLUMNS: [(F, f64); 11] = [
    (F::Reads, 1.0),
    (F::ReadsMerged, 1.0),
    (F::SectorReads, 1.0),
    (F::ReadTime, 1000.0),
    (F::Writes, 1.0),
    (F::WritesMerged, 1.0),
    (F::SectorWrites, 1.0),
    (F::WriteTime, 1000.0),
    (F::Now, 1.0),
    (F::IoTime, 1000.0),
    (F::WeightedTime, 1000.0),
];

struct ContainerIo {
    devices: Devices,
    disks: Disks,
}

/// The names of block devices, by number, as they were when the first was asked for in this scrape.
struct Devices {
    diskstats: PathBuf,
    names: HashMap<String, String>,
    /// The label sets of this scrape, by number.
    made: Vec<(String, DeviceLabels)>,
}

/// The label sets of one device in one scrape.
#[derive(Clone, Copy)]
struct DeviceLabels {
    device: Labels,
    /// By the place in [`OPERATIONS`].
    operations: [Labels; OPERATIONS.len()],
}

const OPERATIONS: [&str; 6] = ["Read", "Write", "Sync", "Async", "Discard", "Total"];

impl CgroupCollector for ContainerIo {
    fn collect(&mut self, cgroups: &mut Cgroups<'_>, out: &mut Writer<'_>) -> Result<(), CollectError> {
        self.devices.forget();
        self.disks.forget();
        let root = cgroups.root();
        for slot in cgroups.slots() {
            let is_root = root == Some(slot);
            match cgroups.version() {
                Version::V1 => self.v1(cgroups, slot, is_root, out),
                Version::V2 => self.v2(cgroups, slot, is_root, out),
            }
        }
        self.disks.write(cgroups, out)?;
        cgroups.result()
    }
}

impl ContainerIo {
    /// `8:0 Read 4096`, a line for each operation (Documentation/admin-guide/cgroup-v1/blkio-controller.rst).
    fn v1(&mut self, cgroups: &mut Cgroups<'_>, slot: usize, is_root: bool, out: &mut Writer<'_>) {
        let subject = Subject::cgroup(slot);
        let files = [
            (CgroupFile::BlkioServiceBytes, [F::ReadBytes, F::WriteBytes], true),
            (CgroupFile::BlkioServiced, [F::Reads, F::Writes], false),
        ];
        for (file, families, is_bytes) in files {
            let is_wanted = out.wants_any(families) || (is_bytes && out.wants(F::DeviceUsage));
            if !is_wanted {
                continue;
            }
            let Some(text) = cgroups.read(slot, file) else { continue };
            let mut has_device = false;
            for (device, operation, value) in lines(text).filter_map(operation) {
                has_device = true;
                if is_root {
                    self.disks.counted(device);
                }
                let of_device = self.devices.labels(device, out);
                if is_bytes {
                    out.push(F::DeviceUsage, subject, of_device.operations[operation], value as f64);
                }
                if let Some(family) = families.get(operation) {
                    out.push(*family, subject, of_device.device, value as f64);
                }
            }
            // Both files have the same devices (block/blk-throttle.c, throttle_policy's legacy files).
            if is_bytes && !has_device {
                return;
            }
        }
    }

    /// `8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0` (Documentation/admin-guide/cgroup-v2.rst, io.stat).
    fn v2(&mut self, cgroups: &mut Cgroups<'_>, slot: usize, is_root: bool, out: &mut Writer<'_>) {
        let subject = Subject::cgroup(slot);
        if !out.wants_any(IN_STAT) {
            return;
        }
        let Some(text) = cgroups.read(slot, CgroupFile::IoStat) else { return };
        for line in lines(text) {
            let mut words = words(line);
            let Some(device) = words.next() else { continue };
            let mut of_device = None;
            for (key, value) in words.filter_map(assignment) {
                let (family, operation) = match key {
                    b"rbytes" => (F::ReadBytes, Some(0)),
                    b"wbytes" => (F::WriteBytes, Some(1)),
                    b"rios" => (F::Reads, None),
                    b"wios" => (F::Writes, None),
                    b"cost.usage" => (F::CostUsage, None),
                    b"cost.wait" => (F::CostWait, None),
                    b"cost.indebt" => (F::CostIndebt, None),
                    b"cost.indelay" => (F::CostIndelay, None),
                    _ => continue,
                };
                if is_root {
                    self.disks.counted(device);
                }
                // A device that was never used has a line without numbers, and gets no series.
                let of_device = *of_device.get_or_insert_with(|| self.devices.labels(device, out));
                let is_time = matches!(family, F::CostUsage | F::CostWait | F::CostIndebt | F::CostIndelay);
                let value = if is_time { value as f64 / 1e6 } else { value as f64 };
                out.push(family, subject, of_device.device, value);
                if let Some(operation) = operation {
                    out.push(F::DeviceUsage, subject, of_device.operations[operation], value);
                }
            }
        }
    }
}

/// The disks of the machine's file systems, which cAdvisor gives with the root as the kernel counts them for all.
struct Disks {
    mounted: Mounted,
    diskstats: NodeFile,
    /// Those that the root's cgroup has counted in this scrape.
    counted: Vec<(u32, u32)>,
}

impl Disks {
    fn new(paths: &Paths) -> Self {
        Disks {
            mounted: Mounted::new(paths, Pattern::default()),
            diskstats: NodeFile::new(paths.procfs.join("diskstats")),
            counted: Vec::new(),
        }
    }

    fn forget(&mut self) {
        self.counted.clear();
    }

    /// Notes that the root has rows of this device, as `8:0`.
    fn counted(&mut self, device: &[u8]) {
        let mut parts =
            device.splitn(2, |b| *b == b':').map(|n| number(n).and_then(|n| u32::try_from(n).ok()));
        if let (Some(Some(major)), Some(Some(minor))) = (parts.next(), parts.next())
            && !self.counted.contains(&(major, minor))
        {
            self.counted.push((major, minor));
        }
    }

    fn write(&mut self, cgroups: &Cgroups<'_>, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let Some(root) = cgroups.root().map(Subject::cgroup) else { return Ok(()) };
        if !out.wants_any(COLUMNS.map(|(family, _)| family)) {
            return Ok(());
        }
        let systems = self.mounted.list()?;
        let text = self.diskstats.read()?;
        for disk in lines(text).filter_map(disk) {
            let Some(system) = systems.iter().find(|system| system.disk == disk.number) else { continue };
            let labels = out.labels(&[("device", &system.device)]);
            for ((family, unit), value) in COLUMNS.into_iter().zip(disk.columns) {
                // One and the same number, but the root's cgroup has it since the controller is there.
                if matches!(family, F::Reads | F::Writes) && self.counted.contains(&disk.number) {
                    continue;
                }
                out.push(family, root, labels, value as f64 / unit);
            }
        }
        Ok(())
    }
}

impl Devices {
    fn new(diskstats: PathBuf) -> Self {
        Devices { diskstats, names: HashMap::new(), made: Vec::new() }
    }

    /// Begins a scrape: its labels are its own, and the kernel gives a number out again once its device is gone.
    fn forget(&mut self) {
        self.names.clear();
        self.made.clear();
    }

    /// The labels of a device by its number, made once a scrape.
    fn labels(&mut self, number: &[u8], out: &mut Writer<'_>) -> DeviceLabels {
        if let Some((_, labels)) = self.made.iter().find(|(n, _)| n.as_bytes() == number) {
            return *labels;
        }
        let number = label(number).into_owned();
        let device = self.name(&number);
        let (major, minor) = number.split_once(':').unwrap_or((&number, ""));
        let labels = DeviceLabels {
            device: out.labels(&[("device", &device)]),
            operations: OPERATIONS.map(|operation| {
                out.labels(&[
                    ("device", &device),
                    ("major", major),
                    ("minor", minor),
                    ("operation", operation),
                ])
            }),
        };
        self.made.push((number, labels));
        labels
    }

    /// `/dev/<name>` as cAdvisor has it; the number where the kernel has no such device any more.
    fn name(&mut self, number: &str) -> String {
        if let Some(name) = self.names.get(number) {
            return name.clone();
        }
        let mut text = Vec::new();
        if read_once(&self.diskstats, &mut text).is_ok() {
            for line in lines(&text) {
                let mut words = words(line);
                if let (Some(major), Some(minor), Some(name)) = (words.next(), words.next(), words.next()) {
                    let number = format!("{}:{}", label(major), label(minor));
                    self.names.insert(number, format!("/dev/{}", label(name)));
                }
            }
        }
        self.names.get(number).cloned().unwrap_or_else(|| number.to_owned())
    }
}

/// The device, the place of the operation in [`OPERATIONS`], and its count; the line of the sum has no device.
fn operation(line: &[u8]) -> Option<(&[u8], usize, u64)> {
    let mut words = words(line);
    let device = words.next().filter(|d| d.contains(&b':'))?;
    let name = words.next()?;
    let operation = OPERATIONS.iter().position(|o| o.as_bytes() == name)?;
    Some((device, operation, number(words.next()?)?))
}

fn assignment(word: &[u8]) -> Option<(&[u8], u64)> {
    let equals = word.iter().position(|b| *b == b'=')?;
    Some((&word[..equals], number(&word[equals + 1..])?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_the_sum_and_odd_lines_are_no_operations() {
        assert_eq!(operation(b"8:0 Write 12"), Some((&b"8:0"[..], 1, 12)));
        assert_eq!(operation(b"Total 12"), None);
        assert_eq!(operation(b"8:0 Flush 12"), None);
        assert_eq!(operation(b"8:0 Read"), None);
        assert_eq!(assignment(b"rbytes=4096"), Some((&b"rbytes"[..], 4096)));
        assert_eq!(assignment(b"cost.usage"), None);
    }
}
