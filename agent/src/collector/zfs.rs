//! What ZFS counts of its caches, pools and datasets.

use super::{CollectError, Collector, NodeCollector, Run};
use crate::devices::{Below, Devices};
use crate::metric::{Kind, Labels, NamedDesc, Suffix, Writer, families};
use crate::source::file::NodeFile;
use crate::source::text::{label, lines, number, words};

/// `zfs`
pub(super) const COLLECTOR: Collector = Collector {
    name: "zfs",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[NamedDesc {
        prefix: "node_zfs_",
        help: "A counter of a file below /proc/spl/kstat/zfs, as `node_zfs_FILE_COUNTER`; those of a pool as \
               `node_zfs_zpool_COUNTER`, those of a dataset as `node_zfs_zpool_dataset_COUNTER`.",
    }],
    options: &[],
    exclusive: &[],
    run: Run::Node {
        start: |paths, _| {
            let folder = paths.procfs.join("spl/kstat/zfs");
            Box::new(Zfs {
                files: FILES.map(|(_, file)| NodeFile::new(folder.join(file))).into(),
                pools: Devices::new(folder, POOL, &paths.handles).in_records(),
                datasets: Below::new("", &[], |name| name.starts_with("objset-"), &paths.handles)
                    .in_records(),
                name: String::new(),
                help: String::new(),
            })
        },
        can_block: false,
    },
};

families! {
    PoolState Gauge "node_zfs_zpool_state" "The kstat.zfs.misc.state of a pool: 1 for the state that it has.";
}

/// The files, and what their families are called after.
const FILES: [(&str, &str); 11] = [
    ("abd", "abdstats"),
    ("arc", "arcstats"),
    ("dbuf", "dbufstats"),
    ("dmu_tx", "dmu_tx"),
    ("dnode", "dnodestats"),
    ("fm", "fm"),
    ("vdev_cache", "vdev_cache_stats"),
    ("vdev_mirror", "vdev_mirror_stats"),
    ("xuio", "xuio_stats"),
    ("zfetch", "zfetchstats"),
    ("zil", "zil"),
];

const POOL: &[&str] = &["io", "state"];
const IO: usize = 0;
const STATE: usize = 1;

/// module/zfs/spa_misc.c, spa_state_to_name
const STATES: [&str; 7] = ["online", "degraded", "faulted", "offline", "removed", "unavail", "suspended"];

struct Zfs {
    files: Vec<NodeFile>,
    pools: Devices,
    datasets: Below,
    name: String,
    help: String,
}

impl NodeCollector for Zfs {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let Zfs { files, pools, datasets, name, help } = self;
        pools.list()?;
        let mut result = datasets.list(pools);
        let mut family = Family { prefix: "", file: "", name, help };
        for ((prefix, file), kstat) in FILES.into_iter().zip(files) {
            family = Family { prefix, file, ..family };
            // Each came with a release, and some went with one.
            let Ok(text) = kstat.read() else { continue };
            if counters(text, |name, value| family.write(name, value, Labels::NONE, out)).is_none() {
                result = result.and(Err(CollectError::parse(kstat.path(), "not the counters of a kstat")));
            }
        }
        for i in 0..pools.len() {
            let pool = out.labels(&[("zpool", pools.name(i))]);
            family = Family { prefix: "zpool", file: "io", ..family };
            let write = |text: &[u8]| columns(text, |name, value| family.write(name, value, pool, out));
            pools.parse(i, IO, write, "not the columns of a kstat");
            if let Some(state) = pools.text(i, STATE) {
                let state = state.lines().next().unwrap_or_default();
                for known in STATES {
                    let labels = out.with(pool, "state", known);
                    out.node(F::PoolState, labels, f64::from(known.eq_ignore_ascii_case(state)));
                }
            }
            family = Family { prefix: "zpool_dataset", file: "objset", ..family };
            let datasets = datasets.of(i);
            for dataset in 0..datasets.len() {
                let write = |text: &[u8]| {
                    let labels = out.with(pool, "dataset", &label(dataset_name(text)?));
                    counters(text, |name, value| family.write(name, value, labels, out))
                };
                datasets.parse(dataset, 0, write, "not the counters of a dataset");
            }
        }
        result.and(pools.result()).and(datasets.result())
    }
}

/// How the counters of a file become families.
struct Family<'a> {
    prefix: &'static str,
    file: &'static str,
    name: &'a mut String,
    help: &'a mut String,
}

impl Family<'_> {
    fn write(&mut self, counter: &[u8], value: f64, labels: Labels, out: &mut Writer<'_>) {
        use std::fmt::Write as _;
        let counter = label(counter);
        // Some names have several parts.
        let last = counter.rsplit('.').next().unwrap_or_default();
        self.name.clear();
        let _ = write!(self.name, "node_zfs_{}_", self.prefix);
        self.name.extend(last.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }));
        self.help.clear();
        let _ = write!(self.help, "The kstat.zfs.misc.{}.{counter}.", self.file);
        let family = out.named(self.name, Kind::Untyped, self.help);
        out.add(family, labels, Suffix::None, value);
    }
}

/// The lines `NAME TYPE VALUE` after the heading `name type data`, of those whose type is a number of 64 bits
/// (module/os/linux/spl/spl-kstat.c, kstat_seq_show_named). Nothing where there is no heading or a value is none.
fn counters(text: &[u8], mut write: impl FnMut(&[u8], f64)) -> Option<()> {
    let mut lines = lines(text);
    lines.find(|line| words(line).eq([&b"name"[..], b"type", b"data"]))?;
    let mut is_whole = Some(());
    for line in lines {
        let mut words = words(line);
        let (Some(name), Some(kind)) = (words.next(), words.next()) else { continue };
        let value = words.next().map(|value| match kind {
            b"3" => std::str::from_utf8(value).ok()?.parse::<i64>().ok().map(|value| Some(value as f64)),
            b"4" => number(value).map(|value| Some(value as f64)),
            _ => Some(None),
        });
        match value {
            Some(Some(Some(value))) => write(name, value),
            Some(Some(None)) => {}
            Some(None) | None => is_whole = None,
        }
    }
    is_whole
}

/// The text of `dataset_name 7 tank/a dataset`; such a name may have spaces.
fn dataset_name(text: &[u8]) -> Option<&[u8]> {
    let line = lines(text).find_map(|line| line.strip_prefix(b"dataset_name"))?;
    line.trim_ascii_start().strip_prefix(b"7").map(<[u8]>::trim_ascii)
}

/// A line of names, beginning with `nread`, and one of numbers (kstat_seq_show_io).
fn columns(text: &[u8], mut write: impl FnMut(&[u8], f64)) -> Option<()> {
    let mut lines = lines(text).skip_while(|line| words(line).next() != Some(b"nread"));
    let (names, values) = (words(lines.next()?), words(lines.next()?));
    let mut values = values.map(number);
    for name in names {
        write(name, values.next()?? as f64);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(parse: impl FnOnce(&mut dyn FnMut(&[u8], f64)) -> Option<()>) -> (Vec<(String, f64)>, bool) {
        let mut found = Vec::new();
        let is_whole = parse(&mut |name, value| found.push((label(name).into_owned(), value))).is_some();
        (found, is_whole)
    }

    #[test]
    fn of_a_kstat_the_numbers_are_taken() {
        let text =
            b"9 1 0x01 98 26656 1 2\nname  type data\nhits  4  12\nneeded  3  -5\ntext 7 a b\n\nshort\n";
        let expected = vec![("hits".to_owned(), 12.0), ("needed".to_owned(), -5.0)];
        assert_eq!(read(|write| counters(text, write)), (expected, true));
        assert_eq!(
            read(|write| counters(b"name type data\na 4 x\nb 4 1\nc 4", write)),
            (vec![("b".to_owned(), 1.0)], false)
        );
        assert_eq!(read(|write| counters(b"hits 4 12\n", write)), (vec![], false));
    }

    #[test]
    fn of_a_pool_each_column_has_its_name() {
        let text = b"12 3 0x00 1 80 1 2\nnread nwritten   reads\n1884160 3206144 22\n";
        let expected: Vec<_> = [("nread", 1_884_160.0), ("nwritten", 3_206_144.0), ("reads", 22.0)]
            .map(|(n, v)| (n.to_owned(), v))
            .into();
        assert_eq!(read(|write| columns(text, write)), (expected, true));
        assert!(!read(|write| columns(b"nread nwritten\n1\n", write)).1);
        assert!(!read(|write| columns(b"nread nwritten\n", write)).1);
    }

    #[test]
    fn the_name_of_a_dataset_may_have_spaces() {
        let text = b"31 1 0x01 7 2160 1 2\nname type data\ndataset_name                    7    tank/a b\nwrites 4 1\n";
        assert_eq!(dataset_name(text), Some(&b"tank/a b"[..]));
        assert_eq!(dataset_name(b"name type data\n"), None);
    }
}
