//! How many cgroups each controller has.

use super::{CollectError, Collector, NodeCollector, Run};
use crate::metric::{Writer, families};
use crate::source::file::NodeFile;
use crate::source::text::{label, lines, number, whole_lines, words};

/// `cgroups`
pub(super) const COLLECTOR: Collector = Collector {
    name: "cgroups",
    enabled_by_default: false,
    families: FAMILIES,
    named: &[],
    options: &[],
    exclusive: &[],
    run: Run::Node {
        start: |paths, _| Box::new(CgroupControllers(NodeFile::whole(paths.procfs.join("cgroups")))),
        can_block: false,
    },
};

families! {
    Count Gauge "node_cgroups_cgroups" "Current cgroup number of the subsystem.";
    Enabled Gauge "node_cgroups_enabled" "Whether the subsystem is enabled.";
}

struct CgroupControllers(NodeFile);

impl NodeCollector for CgroupControllers {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let (text, is_whole) = whole_lines(self.0.read()?);
        let mut result = if is_whole { Ok(()) } else { Err("ends in the middle".to_owned()) };
        for line in lines(text).filter(|line| !line.starts_with(b"#")) {
            let Some((name, count, enabled)) = parse(line) else {
                result = Err(format!("`{}` is not a controller", label(line)));
                continue;
            };
            let labels = out.labels(&[("subsys_name", &label(name))]);
            out.node(F::Count, labels, count as f64);
            out.node(F::Enabled, labels, enabled as f64);
        }
        result.map_err(|what| CollectError::parse(self.0.path(), what))
    }
}

/// `cpuset   3   73   1`: name, hierarchy, cgroups, enabled (cgroups(7)).
fn parse(line: &[u8]) -> Option<(&[u8], u64, u64)> {
    let mut row = words(line);
    let (name, _) = (row.next()?, number(row.next()?)?);
    Some((name, number(row.next()?)?, number(row.next()?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_line_is_no_controller() {
        assert_eq!(parse(b"cpuset\t3\t73\t1"), Some((&b"cpuset"[..], 73, 1)));
        assert_eq!(parse(b"cpuset\t3\t73"), None);
        assert_eq!(parse(b"cpuset\t3\tx\t1"), None);
    }
}
