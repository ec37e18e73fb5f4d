//! How much randomness the kernel has gathered.

use super::{CollectError, Collector, NodeCollector, Run};
use crate::metric::{Labels, Writer, families};
use crate::source::file::NodeFile;
use crate::source::text::only_number;

/// `entropy`
pub(super) const COLLECTOR: Collector = Collector {
    name: "entropy",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[],
    options: &[],
    exclusive: &[],
    run: Run::Node {
        start: |paths, _| {
            let file = |name: &str| NodeFile::whole(paths.procfs.join("sys/kernel/random").join(name));
            Box::new(Entropy([(F::Available, file("entropy_avail")), (F::PoolSize, file("poolsize"))]))
        },
        can_block: false,
    },
};

families! {
    Available Gauge "node_entropy_available_bits" "Bits of available entropy.";
    PoolSize Gauge "node_entropy_pool_size_bits" "Bits of entropy pool.";
}

struct Entropy([(F, NodeFile); 2]);

impl NodeCollector for Entropy {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        for (family, file) in &mut self.0 {
            let bits = only_number(file.read()?);
            let bits = bits.ok_or_else(|| CollectError::parse(file.path(), "not a number"))?;
            out.node(*family, Labels::NONE, bits as f64);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::shown::gives;

    #[test]
    fn a_file_that_is_empty_is_an_error_and_not_a_zero() {
        let files =
            [("proc/sys/kernel/random/entropy_avail", "256\n"), ("proc/sys/kernel/random/poolsize", "")];
        let (lines, result) = gives(&COLLECTOR, &files, &[]);
        assert_eq!(lines, ["node_entropy_available_bits 256"]);
        assert!(matches!(result, Err(CollectError::Parse { .. })));
    }
}
