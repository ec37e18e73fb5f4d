//! The load average of the machine.

use super::{CollectError, Collector, NodeCollector, Run};
use crate::metric::{Labels, Writer, families};
use crate::source::file::NodeFile;
use crate::source::text::{float, words};

/// `loadavg`
pub(super) const COLLECTOR: Collector = Collector {
    name: "loadavg",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[],
    options: &[],
    exclusive: &[],
    run: Run::Node {
        start: |paths, _| Box::new(Loadavg(NodeFile::whole(paths.procfs.join("loadavg")))),
        can_block: false,
    },
};

families! {
    Load1 Gauge "node_load1" "1m load average.";
    Load5 Gauge "node_load5" "5m load average.";
    Load15 Gauge "node_load15" "15m load average.";
}

struct Loadavg(NodeFile);

impl NodeCollector for Loadavg {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let loads = parse(self.0.read()?);
        let loads = loads.ok_or_else(|| CollectError::parse(self.0.path(), "not three numbers"))?;
        for (family, load) in [F::Load1, F::Load5, F::Load15].into_iter().zip(loads) {
            out.node(family, Labels::NONE, load);
        }
        Ok(())
    }
}

/// `0.20 0.18 0.12 1/80 11206` (proc_loadavg(5))
fn parse(text: &[u8]) -> Option<[f64; 3]> {
    let mut words = words(text).map(float);
    Some([words.next()??, words.next()??, words.next()??])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_truncated_file_is_an_error_and_not_a_zero() {
        assert_eq!(parse(b"0.20 0.18 0.12 1/80 11206\n"), Some([0.2, 0.18, 0.12]));
        assert_eq!(parse(b"0.20 0.18"), None);
        assert_eq!(parse(b""), None);
    }
}
