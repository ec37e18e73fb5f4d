//! Hits, misses, write-back and B-tree of each bcache, a cache of block devices.

use super::{CollectError, Collector, NodeCollector, OptionDesc, OptionKind, Run};
use crate::devices::{Below, Devices};
use crate::metric::{Labels, Writer, families};
use crate::source::text::{float, lines, words};

/// `bcache`
pub(super) const COLLECTOR: Collector = Collector {
    name: "bcache",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[],
    options: &[OptionDesc::new(
        "priorityStats",
        OptionKind::Bool,
        "false",
        "Whether to read `priority_stats` too, for which the kernel sorts all buckets of a cache.",
    )
    .flag("priorityStats")],
    exclusive: &[],
    run: Run::Node {
        start: |paths, options| {
            let folder = paths.sysfs.join("fs/bcache");
            Box::new(Bcache {
                // Each is called by its id; the others are `register` and the like.
                sets: Devices::new(folder, SET, &paths.handles).only(|name| name.contains('-')),
                backing: Below::new("", BACKING, |name| is_numbered("bdev", name), &paths.handles),
                caches: Below::new("", CACHE, |name| is_numbered("cache", name), &paths.handles),
                has_priorities: options.flag(&COLLECTOR, "priorityStats"),
            })
        },
        can_block: true,
    },
};

families! {
    ActiveJournalEntries Gauge "node_bcache_active_journal_entries" "Number of journal entries that are newer than the index.";
    AverageKeySize Gauge "node_bcache_average_key_size_sectors" "Average data per key in the btree (sectors).";
    BtreeCacheSize Gauge "node_bcache_btree_cache_size_bytes" "Amount of memory currently used by the btree cache.";
    BtreeNodes Gauge "node_bcache_btree_nodes" "Total nodes in the btree.";
    BtreeReadAverage Gauge "node_bcache_btree_read_average_duration_seconds" "Average btree read duration.";
    BypassedBytes Counter "node_bcache_bypassed_bytes_total" "Amount of IO (both reads and writes) that has bypassed the cache.";
    CacheAvailable Gauge "node_bcache_cache_available_percent" "Percentage of cache device without dirty data, usable for writeback (may contain clean cached data).";
    CacheBypassHits Counter "node_bcache_cache_bypass_hits_total" "Hits for IO intended to skip the cache.";
    CacheBypassMisses Counter "node_bcache_cache_bypass_misses_total" "Misses for IO intended to skip the cache.";
    CacheHits Counter "node_bcache_cache_hits_total" "Hits counted per individual IO as bcache sees them.";
    CacheMissCollisions Counter "node_bcache_cache_miss_collisions_total" "Instances where data insertion from cache miss raced with write (data already present).";
    CacheMisses Counter "node_bcache_cache_misses_total" "Misses counted per individual IO as bcache sees them.";
    CacheReadRaces Counter "node_bcache_cache_read_races_total" "Instances where a bucket was reused and invalidated while data was being read from the cache.";
    CacheReadaheads Counter "node_bcache_cache_readaheads_total" "Count of times readahead occurred.";
    Congested Gauge "node_bcache_congested" "Congestion.";
    DirtyDataBytes Gauge "node_bcache_dirty_data_bytes" "Amount of dirty data for this backing device in the cache.";
    DirtyTargetBytes Gauge "node_bcache_dirty_target_bytes" "Current dirty data target threshold for this backing device in bytes.";
    IoErrors Gauge "node_bcache_io_errors" "Number of errors that have occurred, decayed by io_error_halflife.";
    MetadataWrittenBytes Counter "node_bcache_metadata_written_bytes_total" "Sum of all non data writes (btree writes and all other metadata).";
    PriorityMetadata Gauge "node_bcache_priority_stats_metadata_percent" "Bcache's metadata overhead.";
    PriorityUnused Gauge "node_bcache_priority_stats_unused_percent" "The percentage of the cache that doesn't contain any data.";
    RootUsage Gauge "node_bcache_root_usage_percent" "Percentage of the root btree node in use (tree depth increases if too high).";
    TreeDepth Gauge "node_bcache_tree_depth" "Depth of the btree.";
    WritebackChange Gauge "node_bcache_writeback_change" "Last writeback rate change step for this backing device.";
    WritebackRate Gauge "node_bcache_writeback_rate" "Current writeback rate for this backing device in bytes.";
    WritebackIntegral Gauge "node_bcache_writeback_rate_integral_term" "Current result of integral controller, part of writeback rate.";
    WritebackProportional Gauge "node_bcache_writeback_rate_proportional_term" "Current result of proportional controller, part of writeback rate.";
    WrittenBytes Counter "node_bcache_written_bytes_total" "Sum of all data that has been written to the cache.";
}

/// Documentation/admin-guide/bcache.rst, "sysfs - cache set"; each list of files with its families.
const SET: &[&str] = &[
    "average_key_size",
    "btree_cache_size",
    "cache_available_percent",
    "congested",
    "root_usage_percent",
    "tree_depth",
    "internal/active_journal_entries",
    "internal/btree_nodes",
    "internal/cache_read_races",
    "internal/btree_read_average_duration_us",
];
const SET_FAMILIES: [F; 9] = [
    F::AverageKeySize,
    F::BtreeCacheSize,
    F::CacheAvailable,
    F::Congested,
    F::RootUsage,
    F::TreeDepth,
    F::ActiveJournalEntries,
    F::BtreeNodes,
    F::CacheReadRaces,
];
const BTREE_READ_AVERAGE: usize = 9;

const BACKING: &[&str] = &[
    "dirty_data",
    "stats_total/bypassed",
    "stats_total/cache_bypass_hits",
    "stats_total/cache_bypass_misses",
    "stats_total/cache_hits",
    "stats_total/cache_miss_collisions",
    "stats_total/cache_misses",
    "stats_total/cache_readaheads",
    "writeback_rate_debug",
];
const BACKING_FAMILIES: [F; 7] = [
    F::DirtyDataBytes,
    F::BypassedBytes,
    F::CacheBypassHits,
    F::CacheBypassMisses,
    F::CacheHits,
    F::CacheMissCollisions,
    F::CacheMisses,
];
const READAHEADS: usize = 7;
const WRITEBACK: usize = 8;

const CACHE: &[&str] = &["io_errors", "metadata_written", "written", "priority_stats"];
const CACHE_FAMILIES: [F; 3] = [F::IoErrors, F::MetadataWrittenBytes, F::WrittenBytes];
const PRIORITIES: usize = 3;

struct Bcache {
    sets: Devices,
    backing: Below,
    caches: Below,
    has_priorities: bool,
}

impl NodeCollector for Bcache {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let Bcache { sets, backing, caches, has_priorities } = self;
        sets.list_if_there()?;
        let result = backing.list(sets).and(caches.list(sets));
        for i in 0..sets.len() {
            let labels = out.labels(&[("uuid", sets.name(i))]);
            values(sets, i, &SET_FAMILIES, labels, out);
            if let Some(microseconds) = sets.parse(i, BTREE_READ_AVERAGE, human, "not a number") {
                out.node(F::BtreeReadAverage, labels, microseconds / 1e6);
            }
            let devices = backing.of(i);
            for device in 0..devices.len() {
                let labels = out.with(labels, "backing_device", devices.name(device));
                values(devices, device, &BACKING_FAMILIES, labels, out);
                // Always 0 since Linux 5.14, and then gone.
                let readaheads = devices.parse(device, READAHEADS, human, "not a number");
                if let Some(readaheads) = readaheads.filter(|n| *n != 0.0) {
                    out.node(F::CacheReadaheads, labels, readaheads);
                }
                let write = |text: &[u8]| writeback(text, labels, out);
                devices.parse(device, WRITEBACK, write, "not rates");
            }
            let devices = caches.of(i);
            for device in 0..devices.len() {
                let labels = out.with(labels, "cache_device", devices.name(device));
                values(devices, device, &CACHE_FAMILIES, labels, out);
                if *has_priorities {
                    let write = |text: &[u8]| priorities(text, labels, out);
                    devices.parse(device, PRIORITIES, write, "not percentages");
                }
            }
        }
        result.and(sets.result()).and(backing.result()).and(caches.result())
    }
}

fn values(devices: &mut Devices, device: usize, families: &[F], labels: Labels, out: &mut Writer<'_>) {
    for (file, family) in families.iter().enumerate() {
        if let Some(value) = devices.parse(device, file, human, "not a number") {
            out.node(*family, labels, value);
        }
    }
}

/// `512`, or with one digit behind the point `-1.5k` (drivers/md/bcache/util.c, bch_hprint).
fn human(text: &[u8]) -> Option<f64> {
    const UNITS: &[u8] = b"kMGTPEZY";
    let (last, rest) = text.split_last()?;
    match UNITS.iter().position(|unit| unit == last) {
        Some(power) => Some((float(rest)? * 1024f64.powi(power as i32 + 1)).trunc()),
        None => float(text),
    }
}

/// `rate: 1.1k/sec`, `dirty: 20.0G` and so on (drivers/md/bcache/sysfs.c, `writeback_rate_debug`).
fn writeback(text: &[u8], labels: Labels, out: &mut Writer<'_>) -> Option<()> {
    for line in lines(text) {
        let mut words = words(line);
        let family = match words.next() {
            Some(b"rate:") => F::WritebackRate,
            Some(b"target:") => F::DirtyTargetBytes,
            Some(b"proportional:") => F::WritebackProportional,
            Some(b"integral:") => F::WritebackIntegral,
            Some(b"change:") => F::WritebackChange,
            _ => continue,
        };
        let value = words.next()?;
        out.node(family, labels, human(value.strip_suffix(b"/sec").unwrap_or(value))?);
    }
    Some(())
}

/// `Unused: 99%` and so on (drivers/md/bcache/sysfs.c, `priority_stats`).
fn priorities(text: &[u8], labels: Labels, out: &mut Writer<'_>) -> Option<()> {
    for line in lines(text) {
        let mut words = words(line);
        let family = match words.next() {
            Some(b"Unused:") => F::PriorityUnused,
            Some(b"Metadata:") => F::PriorityMetadata,
            _ => continue,
        };
        out.node(family, labels, float(words.next()?.strip_suffix(b"%")?)?);
    }
    Some(())
}

fn is_numbered(what: &str, name: &str) -> bool {
    name.strip_prefix(what).is_some_and(|number| number.starts_with(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Samples;

    #[test]
    fn numbers_for_people_are_read_back() {
        let found =
            ["0", "546", "1.5k", "-3.2M", "0.0k", "2.0Z", "k", "1.5x", ""].map(|text| human(text.as_bytes()));
        let zebi = 2.0 * 1024f64.powi(7);
        let expected = [0.0, 546.0, 1536.0, -3_355_443.0, 0.0, zebi];
        assert_eq!(found[..6], expected.map(Some));
        assert_eq!(found[6..], [None; 3]);
    }

    #[test]
    fn rates_are_read_with_their_units() {
        let mut samples = Samples::new(FAMILIES.len());
        let mut out = samples.writer(0, &[true; FAMILIES.len()]);
        let text = b"rate:\t\t1.1M/sec\ndirty:\t\t20.0G\ntarget:\t\t20.4G\nproportional:\t427.5k\nintegral:\t790.0k\n\
                     change:\t\t-321.5k/sec\nnext io:\t17ms\n";
        assert_eq!(writeback(text, Labels::NONE, &mut out), Some(()));
        assert_eq!(writeback(b"rate:\n", Labels::NONE, &mut out), None);
        assert_eq!(
            priorities(b"Unused:\t\t99%\nMetadata:\t0%\nAverage:\t10473\n", Labels::NONE, &mut out),
            Some(())
        );
        let value = |family: F| samples.family(family as usize)[0].value;
        assert_eq!(value(F::WritebackRate), (1.1 * 1024.0 * 1024.0_f64).trunc());
        assert_eq!((value(F::WritebackChange), value(F::PriorityUnused)), (-329_216.0, 99.0));
    }
}
