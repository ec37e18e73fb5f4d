//! What each cgroup read from and wrote to block devices.

use std::collections::HashMap;
use std::path::PathBuf;

use super::{CgroupCollector, Cgroups, CollectError, Collector, Run};
use crate::metric::{Labels, Subject, Writer, families};
use crate::source::cgroup::{CgroupFile, Version};
use crate::source::file::read_once;
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
        start: |paths, _| Box::new(ContainerIo { devices: Devices::new(paths.procfs.join("diskstats")) }),
    },
};

families! {
    ReadBytes Counter "container_fs_reads_bytes_total" "Cumulative count of bytes read.";
    Reads Counter "container_fs_reads_total" "Cumulative count of reads completed.";
    WriteBytes Counter "container_fs_writes_bytes_total" "Cumulative count of bytes written.";
    Writes Counter "container_fs_writes_total" "Cumulative count of writes completed.";
    DeviceUsage Counter "container_blkio_device_usage_total" "Blkio device bytes usage.";
}

struct ContainerIo {
    devices: Devices,
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
        for slot in cgroups.slots() {
            if cgroups.get(slot).is_none() {
                continue;
            }
            match cgroups.version() {
                Version::V1 => self.v1(cgroups, slot, out),
                Version::V2 => self.v2(cgroups, slot, out),
            }
        }
        cgroups.result()
    }
}

impl ContainerIo {
    /// `8:0 Read 4096`, a line for each operation (Documentation/admin-guide/cgroup-v1/blkio-controller.rst).
    fn v1(&mut self, cgroups: &mut Cgroups<'_>, slot: usize, out: &mut Writer<'_>) {
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
            for (device, operation, value) in lines(text).filter_map(operation) {
                let of_device = self.devices.labels(device, out);
                if is_bytes {
                    out.push(F::DeviceUsage, subject, of_device.operations[operation], value as f64);
                }
                if let Some(family) = families.get(operation) {
                    out.push(*family, subject, of_device.device, value as f64);
                }
            }
        }
    }

    /// `8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0` (Documentation/admin-guide/cgroup-v2.rst, io.stat).
    fn v2(&mut self, cgroups: &mut Cgroups<'_>, slot: usize, out: &mut Writer<'_>) {
        let subject = Subject::cgroup(slot);
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
                    _ => continue,
                };
                // A device that was never used has a line without numbers, and gets no series.
                let of_device = *of_device.get_or_insert_with(|| self.devices.labels(device, out));
                out.push(family, subject, of_device.device, value as f64);
                if let Some(operation) = operation {
                    out.push(F::DeviceUsage, subject, of_device.operations[operation], value as f64);
                }
            }
        }
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
