//! What the pages of each memory zone are used for, and its watermarks.

use std::fmt::Write as _;

use super::{CollectError, Collector, NodeCollector, Run};
use crate::metric::{FamilyDesc, Kind, Labels, NamedDesc, Suffix, Writer};
use crate::source::file::NodeFile;
use crate::source::text::{label, lines, number, whole_lines, words};

/// `zoneinfo`
pub(super) const COLLECTOR: Collector = Collector {
    name: "zoneinfo",
    enabled_by_default: false,
    families: FAMILIES,
    named: &[NamedDesc {
        prefix: "node_zoneinfo_protection_",
        help: "Pages held back from allocations that the zone of this number could serve too.",
    }],
    options: &[],
    exclusive: &[],
    run: Run::Node {
        start: |paths, _| {
            let (name, help) = (String::new(), String::new());
            Box::new(Zoneinfo { file: NodeFile::new(paths.procfs.join("zoneinfo")), name, help })
        },
        can_block: false,
    },
};

/// Declares a family for each key.
macro_rules! keys {
    ($($key:literal $kind:ident $name:literal $help:literal;)*) => {
        const KEYS: &[&str] = &[$($key),*];

        const FAMILIES: &[FamilyDesc] = &[$(FamilyDesc {
            name: concat!("node_zoneinfo_", $name),
            kind: Kind::$kind,
            help: $help,
        }),*];
    };
}

keys! {
    "nr_free_pages" Gauge "nr_free_pages" "Total number of free pages in the zone.";
    "min" Gauge "min_pages" "Zone watermark pages_min.";
    "low" Gauge "low_pages" "Zone watermark pages_low.";
    "high" Gauge "high_pages" "Zone watermark pages_high.";
    "scanned" Gauge "scanned_pages" "Pages scanned since last reclaim.";
    "spanned" Gauge "spanned_pages" "Total pages spanned by the zone, including holes.";
    "present" Gauge "present_pages" "Physical pages existing within the zone.";
    "managed" Gauge "managed_pages" "Present pages managed by the buddy system.";
    "nr_active_anon" Gauge "nr_active_anon_pages" "Number of anonymous pages recently more used.";
    "nr_inactive_anon" Gauge "nr_inactive_anon_pages" "Number of anonymous pages recently less used.";
    "nr_isolated_anon" Gauge "nr_isolated_anon_pages" "Temporary isolated pages from anon lru.";
    "nr_anon_pages" Gauge "nr_anon_pages" "Number of anonymous pages currently used by the system.";
    "nr_anon_transparent_hugepages" Gauge "nr_anon_transparent_hugepages" "Number of anonymous transparent huge pages currently used by the system.";
    "nr_active_file" Gauge "nr_active_file_pages" "Number of active pages with file-backing.";
    "nr_inactive_file" Gauge "nr_inactive_file_pages" "Number of inactive pages with file-backing.";
    "nr_isolated_file" Gauge "nr_isolated_file_pages" "Temporary isolated pages from file lru.";
    "nr_file_pages" Gauge "nr_file_pages" "Number of file pages.";
    "nr_slab_reclaimable" Gauge "nr_slab_reclaimable_pages" "Number of reclaimable slab pages.";
    "nr_slab_unreclaimable" Gauge "nr_slab_unreclaimable_pages" "Number of unreclaimable slab pages.";
    "nr_mlock_stack" Gauge "nr_mlock_stack_pages" "Pages that mlock() took off the LRU.";
    "nr_kernel_stack" Gauge "nr_kernel_stacks" "Number of kernel stacks.";
    "nr_mapped" Gauge "nr_mapped_pages" "Number of mapped pages.";
    "nr_dirty" Gauge "nr_dirty_pages" "Number of dirty pages.";
    "nr_writeback" Gauge "nr_writeback_pages" "Number of writeback pages.";
    "nr_unevictable" Gauge "nr_unevictable_pages" "Number of unevictable pages.";
    "nr_shmem" Gauge "nr_shmem_pages" "Number of shmem pages (included tmpfs/GEM pages).";
    "nr_dirtied" Counter "nr_dirtied_total" "Page dirtyings since bootup.";
    "nr_written" Counter "nr_written_total" "Page writings since bootup.";
    "numa_hit" Counter "numa_hit_total" "Allocated in intended node.";
    "numa_miss" Counter "numa_miss_total" "Allocated in non intended node.";
    "numa_foreign" Counter "numa_foreign_total" "Was intended here, hit elsewhere.";
    "numa_interleave" Counter "numa_interleave_total" "Interleaver preferred this zone.";
    "numa_local" Counter "numa_local_total" "Allocation from local node.";
    "numa_other" Counter "numa_other_total" "Allocation from other node.";
}

struct Zoneinfo {
    file: NodeFile,
    name: String,
    help: String,
}

impl NodeCollector for Zoneinfo {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let Zoneinfo { file, name, help } = self;
        let text = file.read()?;
        // Held until the next zone begins.
        let mut labels = Labels::NONE;
        let result = parse(text, |line| match line {
            Line::Zone(node, zone) => labels = out.labels(&[("node", &label(node)), ("zone", &label(zone))]),
            Line::Value(family, value) => out.node(family, labels, value as f64),
            Line::Protection(zone, pages) => {
                name.clear();
                help.clear();
                // Neither fails: they are texts.
                let _ = write!(name, "node_zoneinfo_protection_{zone}");
                let _ = write!(help, "Protection array {zone}. field.");
                let family = out.named(name, Kind::Gauge, help);
                out.add(family, labels, Suffix::None, pages as f64);
            }
        });
        result.map_err(|what| CollectError::parse(self.file.path(), what))
    }
}

/// What one line says.
enum Line<'a> {
    /// What follows is about this node's zone of this name.
    Zone(&'a [u8], &'a [u8]),
    /// One of the [`KEYS`], by its place.
    Value(u16, u64),
    /// One field of the protection array.
    Protection(usize, u64),
}

/// `Node 0, zone   Normal` and below it a name and a number in each line, not all of them indented alike; the counters of
/// a whole node are in its first zone that has pages (mm/vmstat.c, zoneinfo_show_print).
fn parse<'a>(text: &'a [u8], mut found: impl FnMut(Line<'a>)) -> Result<(), String> {
    let (text, is_whole) = whole_lines(text);
    let mut result = if is_whole { Ok(()) } else { Err("ends in the middle".to_owned()) };
    for line in lines(text) {
        let mut row = words(line);
        let (Some(key), Some(value)) = (row.next(), row.next()) else { continue };
        let is_good = match key {
            b"Node" => match (row.next(), row.next()) {
                (Some(b"zone"), Some(zone)) => {
                    found(Line::Zone(value.strip_suffix(b",").unwrap_or(value), zone));
                    true
                }
                _ => false,
            },
            b"protection:" => protection(line, &mut found),
            _ => match (KEYS.iter().position(|known| known.as_bytes() == key), number(value)) {
                (Some(family), Some(value)) => {
                    found(Line::Value(family as u16, value));
                    true
                }
                (known, _) => known.is_none(),
            },
        };
        if !is_good {
            result = Err(format!("`{}` has no number", label(line)));
        }
    }
    result
}

/// `protection: (0, 2853, 23888, 23888)`
fn protection<'a>(line: &[u8], found: &mut impl FnMut(Line<'a>)) -> bool {
    let Some(start) = line.iter().position(|b| *b == b'(') else { return false };
    let Some(fields) = line[start + 1..].trim_ascii_end().strip_suffix(b")") else { return false };
    let mut is_good = true;
    for (zone, field) in fields.split(|b| *b == b',').enumerate() {
        match number(field.trim_ascii()) {
            Some(pages) => found(Line::Protection(zone, pages)),
            None => is_good = false,
        }
    }
    is_good
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::shown::gives;

    fn check(text: &str, expected: &[&str]) -> Result<(), CollectError> {
        let (lines, result) = gives(&COLLECTOR, &[("proc/zoneinfo", text)], &[]);
        let expected: Vec<_> = expected.iter().map(|line| format!("node_zoneinfo_{line}")).collect();
        assert_eq!(lines, expected);
        result
    }

    #[test]
    fn a_line_is_known_by_its_first_word_wherever_it_stands() {
        let text = "Node 0, zone      DMA\n  per-node stats\n      nr_dirty     299\n  pages free     3840\n\
            \x20       min      11\n        protection: (0, 2853)\n      nr_free_pages 3840\n  pagesets\n    cpu: 0\n\
            \x20             high: 7\n  vm stats threshold: 8\n\
            Node 1, zone  Movable\n  pages free     0\n        min      32\n";
        let expected = [
            r#"nr_free_pages{node="0",zone="DMA"} 3840"#,
            r#"min_pages{node="0",zone="DMA"} 11"#,
            r#"min_pages{node="1",zone="Movable"} 32"#,
            r#"nr_dirty_pages{node="0",zone="DMA"} 299"#,
            r#"protection_0{node="0",zone="DMA"} 0"#,
            r#"protection_1{node="0",zone="DMA"} 2853"#,
        ];
        check(text, &expected).unwrap();
    }

    #[test]
    fn a_bad_number_costs_itself_and_a_cut_one_is_none() {
        check("Node 0, zone DMA\n min x\n low 2\n high 3", &[r#"low_pages{node="0",zone="DMA"} 2"#])
            .unwrap_err();
        check("Node 0, zone DMA\n protection: (1, x\n", &[]).unwrap_err();
        check("Node 0\n", &[]).unwrap_err();
        check("", &[]).unwrap_err();
    }
}
