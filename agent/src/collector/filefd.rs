//! How many files the machine has open, and how many it may.

use super::{CollectError, Collector, NodeCollector, Run};
use crate::metric::{Labels, Writer, families};
use crate::source::file::NodeFile;
use crate::source::text::{number, words};

/// `filefd`
pub(super) const COLLECTOR: Collector = Collector {
    name: "filefd",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[],
    options: &[],
    exclusive: &[],
    run: Run::Node {
        start: |paths, _| Box::new(Filefd(NodeFile::whole(paths.procfs.join("sys/fs/file-nr")))),
        can_block: false,
    },
};

families! {
    Allocated Gauge "node_filefd_allocated" "File descriptor statistics: allocated.";
    Maximum Gauge "node_filefd_maximum" "File descriptor statistics: maximum.";
}

struct Filefd(NodeFile);

impl NodeCollector for Filefd {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let numbers = parse(self.0.read()?);
        let (allocated, maximum) =
            numbers.ok_or_else(|| CollectError::parse(self.0.path(), "not three numbers"))?;
        out.node(F::Allocated, Labels::NONE, allocated as f64);
        out.node(F::Maximum, Labels::NONE, maximum as f64);
        Ok(())
    }
}

/// `1024\t0\t9223372036854775807`; the second has been 0 since Linux 2.6 (Documentation/admin-guide/sysctl/fs.rst).
fn parse(text: &[u8]) -> Option<(u64, u64)> {
    let mut words = words(text.strip_suffix(b"\n")?).map(number);
    let (allocated, _free, maximum) = (words.next()??, words.next()??, words.next()??);
    Some((allocated, maximum))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_truncated_file_is_an_error_and_not_a_smaller_maximum() {
        assert_eq!(parse(b"1024\t0\t9223372036854775807\n"), Some((1024, i64::MAX as u64)));
        assert_eq!(parse(b"1024\t0\t92233"), None);
        assert_eq!(parse(b"1024\t0\n"), None);
        assert_eq!(parse(b""), None);
    }
}
