//! What the kernel's slab caches hold.

use super::{CollectError, Collector, NodeCollector, OptionDesc, OptionKind, Pattern, Run};
use crate::metric::{Writer, families};
use crate::source::file::NodeFile;
use crate::source::text::{label, lines, number, whole_lines};

/// `slabinfo`
pub(super) const COLLECTOR: Collector = Collector {
    name: "slabinfo",
    enabled_by_default: false,
    families: FAMILIES,
    named: &[],
    options: &[
        OptionDesc::new("slabsInclude", OptionKind::Regex, ".*", "Slab caches to give, and no others."),
        OptionDesc::new("slabsExclude", OptionKind::Regex, "", "Slab caches to leave out."),
    ],
    exclusive: &[],
    run: Run::Node {
        start: |paths, options| {
            Box::new(Slabinfo {
                file: NodeFile::in_short_records(paths.procfs.join("slabinfo")),
                slabs: options.both(&COLLECTOR, "slabsInclude", "slabsExclude"),
            })
        },
        can_block: false,
    },
};

// In the order of the file's columns.
families! {
    Active Gauge "node_slabinfo_active_objects" "The number of objects that are currently active (i.e., in use).";
    Objects Gauge "node_slabinfo_objects" "The total number of allocated objects (i.e., objects that are both in use and not in use).";
    Size Gauge "node_slabinfo_object_size_bytes" "The size of objects in this slab, in bytes.";
    PerSlab Gauge "node_slabinfo_objects_per_slab" "The number of objects stored in each slab.";
    Pages Gauge "node_slabinfo_pages_per_slab" "The number of pages allocated for each slab.";
}

const COLUMNS: [F; 5] = [F::Active, F::Objects, F::Size, F::PerSlab, F::Pages];

struct Slabinfo {
    file: NodeFile,
    slabs: Pattern,
}

impl NodeCollector for Slabinfo {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        // The kernel lets only root read it (mm/slab_common.c, SLABINFO_RIGHTS).
        let (text, is_whole) = whole_lines(self.file.read()?);
        let mut result = if is_whole { Ok(()) } else { Err("ends in the middle".to_owned()) };
        // After the version and the headings.
        for line in lines(text).skip(2) {
            let Some((slab, values)) = parse(line) else {
                result = Err(format!("`{}` is not a slab cache", label(line)));
                continue;
            };
            let slab = label(slab);
            if self.slabs.ignores(&slab) {
                continue;
            }
            let labels = out.labels(&[("slab", &slab)]);
            for (family, value) in COLUMNS.into_iter().zip(values) {
                out.node(family, labels, value as f64);
            }
        }
        result.map_err(|what| CollectError::parse(self.file.path(), what))
    }
}

/// `kmalloc-64   5120 5184  64 64 1 : tunables 0 0 0 : slabdata 81 81 0` (slabinfo(5)); a module may put spaces into a
/// name.
fn parse(line: &[u8]) -> Option<(&[u8], [u64; 5])> {
    const TUNABLES: &[u8] = b": tunables ";
    let end = line.windows(TUNABLES.len()).rposition(|part| part == TUNABLES)?;
    let mut rest = line[..end].trim_ascii_end();
    let mut values = [0; 5];
    for value in values.iter_mut().rev() {
        let space = rest.iter().rposition(|b| *b == b' ')?;
        *value = number(&rest[space + 1..])?;
        rest = rest[..space].trim_ascii_end();
    }
    (!rest.is_empty()).then_some((rest, values))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: Option<(&str, [u64; 5])>) {
        assert_eq!(parse(line.as_bytes()), expected.map(|(name, values)| (name.as_bytes(), values)));
    }

    #[test]
    fn a_name_with_spaces_is_whole_and_a_cut_line_is_none() {
        let rest = ": tunables    0    0    0 : slabdata     81     81      0";
        check(
            &format!("kmalloc-64   5120 5184  64 63 1 {rest}"),
            Some(("kmalloc-64", [5120, 5184, 64, 63, 1])),
        );
        check(
            &format!("my  cache 2   5120 5184  64 63 1 {rest}"),
            Some(("my  cache 2", [5120, 5184, 64, 63, 1])),
        );
        check(&format!("5120 5184  64 63 1 {rest}"), None);
        check(&format!("a 5120 -5184  64 63 1 {rest}"), None);
        check("kmalloc-64   5120 5184  64", None);
    }
}
