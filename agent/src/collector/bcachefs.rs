//! Compression, errors, B-tree writes and devices of each mounted bcachefs file system, and what it counts.

use super::{CollectError, Collector, NodeCollector, Run};
use crate::devices::{Below, Devices};
use crate::metric::{Kind, Labels, NamedDesc, Suffix, Writer, families};
use crate::source::text::{float, label, lines, number, push_name, words};

/// `bcachefs`
pub(super) const COLLECTOR: Collector = Collector {
    name: "bcachefs",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[NamedDesc {
        prefix: "node_bcachefs_",
        help: "A file of /sys/fs/bcachefs/<uuid>/counters since the file system was made, as \
               `node_bcachefs_FILE_total`.",
    }],
    options: &[],
    exclusive: &[],
    run: Run::Node {
        start: |paths, _| {
            Box::new(Bcachefs {
                file_systems: Devices::new(paths.sysfs.join("fs/bcachefs"), FILES, &paths.handles),
                counters: Below::new("counters", &[], |_| true, &paths.handles),
                devices: Below::new("", DEVICE, |name| name.starts_with("dev-"), &paths.handles),
                family: String::new(),
                help: String::new(),
            })
        },
        can_block: false,
    },
};

families! {
    BtreeCacheSize Gauge "node_bcachefs_btree_cache_size_bytes" "Btree cache memory usage in bytes.";
    BtreeWriteSize Gauge "node_bcachefs_btree_write_average_size_bytes" "Average btree write size by type.";
    BtreeWrites Counter "node_bcachefs_btree_writes_total" "Number of btree writes by type.";
    Compressed Gauge "node_bcachefs_compression_compressed_bytes" "Compressed size by algorithm.";
    Uncompressed Gauge "node_bcachefs_compression_uncompressed_bytes" "Uncompressed size by algorithm.";
    BucketSize Gauge "node_bcachefs_device_bucket_size_bytes" "Bucket size in bytes.";
    Buckets Gauge "node_bcachefs_device_buckets" "Total number of buckets.";
    Durability Gauge "node_bcachefs_device_durability" "Device durability setting.";
    DeviceInfo Gauge "node_bcachefs_device_info" "Device information.";
    DeviceIo Counter "node_bcachefs_device_io_done_bytes_total" "IO bytes by operation type and data type.";
    DeviceErrors Counter "node_bcachefs_device_io_errors_total" "IO errors by error type.";
    Errors Counter "node_bcachefs_errors_total" "Error count by error type.";
    Info Gauge "node_bcachefs_info" "Filesystem information.";
}

/// fs/bcachefs/sysfs.c
const FILES: &[&str] = &["btree_cache_size", "compression_stats", "errors", "btree_write_stats"];
const BTREE_CACHE: usize = 0;
const COMPRESSION: usize = 1;
const ERRORS: usize = 2;
const BTREE_WRITES: usize = 3;

const DEVICE: &[&str] = &["label", "state", "bucket_size", "nbuckets", "durability", "io_done", "io_errors"];
const LABEL: usize = 0;
const STATE: usize = 1;
const BUCKET_SIZE: usize = 2;
const BUCKETS: usize = 3;
const DURABILITY: usize = 4;
const IO_DONE: usize = 5;
const IO_ERRORS: usize = 6;

struct Bcachefs {
    file_systems: Devices,
    counters: Below,
    devices: Below,
    family: String,
    help: String,
}

impl NodeCollector for Bcachefs {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        self.file_systems.list()?;
        if self.file_systems.is_empty() {
            return Err(CollectError::Absent("no bcachefs file system is mounted".to_owned()));
        }
        let listed = self.counters.list(&self.file_systems).and(self.devices.list(&self.file_systems));
        for i in 0..self.file_systems.len() {
            let labels = out.labels(&[("uuid", self.file_systems.name(i))]);
            out.node(F::Info, labels, 1.0);
            file_system(&mut self.file_systems, i, labels, out);
            self.counters(i, labels, out);
            let devices = self.devices.of(i);
            for place in 0..devices.len() {
                device(devices, place, labels, out);
            }
        }
        listed.and(self.file_systems.result()).and(self.counters.result()).and(self.devices.result())
    }
}

fn file_system(files: &mut Devices, i: usize, labels: Labels, out: &mut Writer<'_>) {
    if let Some(bytes) = files.parse(i, BTREE_CACHE, human, "not a size") {
        out.node(F::BtreeCacheSize, labels, bytes);
    }
    let write = |text: &[u8]| {
        table(text, 1, |name, words| {
            let (compressed, uncompressed) = (human(words.next()?)?, human(words.next()?)?);
            let labels = out.with(labels, "algorithm", name);
            out.node(F::Compressed, labels, compressed);
            out.node(F::Uncompressed, labels, uncompressed);
            Some(())
        })
    };
    files.parse(i, COMPRESSION, write, "not a name and two sizes in each line");
    let write = |text: &[u8]| {
        table(text, 0, |name, words| {
            let count = number(words.next()?)?;
            let labels = out.with(labels, "error_type", name);
            out.node(F::Errors, labels, count as f64);
            Some(())
        })
    };
    files.parse(i, ERRORS, write, "not a name and a number in each line");
    let write = |text: &[u8]| {
        table(text, 1, |name, words| {
            let (count, size) = (number(words.next()?)?, human(words.next()?)?);
            let labels = out.with(labels, "type", name);
            out.node(F::BtreeWrites, labels, count as f64);
            out.node(F::BtreeWriteSize, labels, size);
            Some(())
        })
    };
    files.parse(i, BTREE_WRITES, write, "not a name, a number and a size in each line");
}

impl Bcachefs {
    fn counters(&mut self, i: usize, labels: Labels, out: &mut Writer<'_>) {
        use std::fmt::Write as _;
        let Bcachefs { counters, family, help, .. } = self;
        let counters = counters.of(i);
        for counter in 0..counters.len() {
            let Some(value) = counters.parse(counter, 0, since_creation, "not a counter since creation")
            else {
                continue;
            };
            let name = counters.name(counter);
            family.clear();
            family.push_str("node_bcachefs_");
            push_name(family, name);
            family.push_str("_total");
            help.clear();
            let _ = write!(help, "Bcachefs counter {name} since filesystem creation.");
            let family = out.named(family, Kind::Counter, help);
            out.add(family, labels, Suffix::None, value);
        }
    }
}

fn device(devices: &mut Devices, i: usize, labels: Labels, out: &mut Writer<'_>) {
    let name = devices.name(i);
    let labels = out.with(labels, "device", name.strip_prefix("dev-").unwrap_or(name));
    let info = out.with(labels, "label", &devices.text(i, LABEL).unwrap_or_default());
    let info = out.with(info, "state", &devices.text(i, STATE).unwrap_or_default());
    out.node(F::DeviceInfo, info, 1.0);
    if let Some(bytes) = devices.parse(i, BUCKET_SIZE, human, "not a size") {
        out.node(F::BucketSize, labels, bytes);
    }
    for (file, family) in [(BUCKETS, F::Buckets), (DURABILITY, F::Durability)] {
        if let Some(value) = devices.number(i, file) {
            out.node(family, labels, value as f64);
        }
    }
    let write = |text: &[u8]| {
        let mut operation = None;
        keys(text, |key, value| {
            if value.is_empty() {
                operation = Some(out.with(labels, "operation", &label(key)));
                return Some(());
            }
            let labels = out.with(operation?, "data_type", &label(key));
            out.node(F::DeviceIo, labels, number(value)? as f64);
            Some(())
        })
    };
    devices.parse(i, IO_DONE, write, "not numbers below `read:` and `write:`");
    let write = |text: &[u8]| {
        keys(errors_since_creation(text), |key, value| {
            let labels = out.with(labels, "type", &label(key));
            out.node(F::DeviceErrors, labels, number(value)? as f64);
            Some(())
        })
    };
    devices.parse(i, IO_ERRORS, write, "not numbers below `IO errors since filesystem creation`");
}

/// Lines of words behind a name, after some of headings; nothing where one is not as `row` has it, and the others stay.
fn table<'a>(
    text: &'a [u8],
    headings: usize,
    mut row: impl FnMut(&str, &mut dyn Iterator<Item = &'a [u8]>) -> Option<()>,
) -> Option<()> {
    let mut is_whole = Some(());
    for line in lines(text).skip(headings) {
        let mut words = words(line);
        let Some(name) = words.next().map(|name| label(name.strip_suffix(b":").unwrap_or(name))) else {
            continue;
        };
        if row(&name, &mut words).is_none() {
            is_whole = None;
        }
    }
    is_whole
}

/// Lines `KEY: VALUE`; nothing where one is not as `row` has it, and the others stay.
fn keys(text: &[u8], mut row: impl FnMut(&[u8], &[u8]) -> Option<()>) -> Option<()> {
    let mut is_whole = Some(());
    for line in lines(text) {
        let Some(colon) = line.iter().position(|b| *b == b':') else { continue };
        if row(line[..colon].trim_ascii(), line[colon + 1..].trim_ascii()).is_none() {
            is_whole = None;
        }
    }
    is_whole
}

/// Of two lists, each below a heading, the one that was not reset.
fn errors_since_creation(text: &[u8]) -> &[u8] {
    let find = |text: &[u8], heading: &[u8]| text.windows(heading.len()).position(|part| part == heading);
    let heading = b"IO errors since filesystem creation";
    let Some(start) = find(text, heading) else { return &[] };
    let text = &text[start + heading.len()..];
    &text[..find(text, b"IO errors since ").unwrap_or(text.len())]
}

/// The number of `since filesystem creation:  1.05M`.
fn since_creation(text: &[u8]) -> Option<f64> {
    let mut value = None;
    keys(text, |key, text| {
        if key == b"since filesystem creation" {
            value = Some(human(text)?);
        }
        Some(())
    })?;
    value
}

/// `524288`, or for people `1.05M` (fs/bcachefs/util.c, bch2_prt_u64_hr).
fn human(text: &[u8]) -> Option<f64> {
    const UNITS: &[u8] = b"kmgtpe";
    let (last, rest) = text.trim_ascii().split_last()?;
    match UNITS.iter().position(|unit| *unit == last.to_ascii_lowercase()) {
        Some(power) => Some((float(rest.trim_ascii())? * 1024f64.powi(power as i32 + 1)).trunc()),
        None => float(text.trim_ascii()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_the_one_since_the_file_system_was_made() {
        let check = |text: &str| since_creation(text.as_bytes());
        assert_eq!(check("since mount:                12\nsince filesystem creation:  1.5k\n"), Some(1536.0));
        assert_eq!(check("since mount: 12\n"), None);
        assert_eq!(check("since filesystem creation: x\n"), None);
    }

    #[test]
    fn of_errors_those_since_the_file_system_was_made_are_taken() {
        let check =
            |text: &'static str| std::str::from_utf8(errors_since_creation(text.as_bytes())).unwrap().trim();
        assert_eq!(
            check("IO errors since filesystem creation\n  read:    12\nIO errors since 8 y ago\n  read: 3\n"),
            "read:    12"
        );
        assert_eq!(check("IO errors since filesystem creation\n  read: 12"), "read: 12");
        assert_eq!(check("IO errors since 8 y ago\n  read: 3\n"), "");
    }

    #[test]
    fn a_line_that_is_cut_costs_itself() {
        let mut found = Vec::new();
        let result = table(b"heading\nlz4: 1 2\nzstd 3\n\ngzip 4 5 6\n", 1, |name, words| {
            found.push((name.to_owned(), number(words.next()?)?, number(words.next()?)?));
            Some(())
        });
        assert_eq!(result, None);
        assert_eq!(found, [("lz4".to_owned(), 1, 2), ("gzip".to_owned(), 4, 5)]);
    }
}
