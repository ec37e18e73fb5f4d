//! What the kernel saves by merging equal pages.

use super::{CollectError, Collector, NodeCollector, Run};
use crate::metric::{Labels, Writer, families};
use crate::source::file::NodeFile;
use crate::source::text::only_number;

/// `ksmd`
pub(super) const COLLECTOR: Collector = Collector {
    name: "ksmd",
    enabled_by_default: false,
    families: FAMILIES,
    named: &[],
    options: &[],
    exclusive: &[],
    run: Run::Node {
        start: |paths, _| {
            let folder = paths.sysfs.join("kernel/mm/ksm");
            Box::new(Ksmd(FILES.map(|(family, file)| (family, NodeFile::whole(folder.join(file))))))
        },
        can_block: false,
    },
};

// Documentation/admin-guide/mm/ksm.rst
families! {
    FullScans Counter "node_ksmd_full_scans_total" "How many times all mergeable areas have been scanned, from the file full_scans.";
    MergeAcrossNodes Gauge "node_ksmd_merge_across_nodes" "Whether pages of different NUMA nodes can be merged, from the file merge_across_nodes.";
    PagesShared Gauge "node_ksmd_pages_shared" "How many shared pages are used, from the file pages_shared.";
    PagesSharing Gauge "node_ksmd_pages_sharing" "How many more sites share them, from the file pages_sharing.";
    PagesToScan Gauge "node_ksmd_pages_to_scan" "How many pages are scanned before ksmd goes to sleep, from the file pages_to_scan.";
    PagesUnshared Gauge "node_ksmd_pages_unshared" "How many pages are unique but repeatedly checked for merging, from the file pages_unshared.";
    PagesVolatile Gauge "node_ksmd_pages_volatile" "How many pages change too fast to be merged, from the file pages_volatile.";
    Runs Gauge "node_ksmd_run" "Whether ksmd runs, from the file run.";
    Sleep Gauge "node_ksmd_sleep_seconds" "How long ksmd sleeps between scans, from the file sleep_millisecs.";
}

const FILES: [(F, &str); 9] = [
    (F::FullScans, "full_scans"),
    (F::MergeAcrossNodes, "merge_across_nodes"),
    (F::PagesShared, "pages_shared"),
    (F::PagesSharing, "pages_sharing"),
    (F::PagesToScan, "pages_to_scan"),
    (F::PagesUnshared, "pages_unshared"),
    (F::PagesVolatile, "pages_volatile"),
    (F::Runs, "run"),
    (F::Sleep, "sleep_millisecs"),
];

struct Ksmd([(F, NodeFile); FILES.len()]);

impl NodeCollector for Ksmd {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let mut result = Ok(());
        for (family, file) in &mut self.0 {
            if !out.wants(*family) {
                continue;
            }
            let value = file.read().map(only_number).map_err(CollectError::from);
            let value =
                value.and_then(|value| value.ok_or_else(|| CollectError::parse(file.path(), "not a number")));
            match value {
                Ok(milliseconds) if matches!(family, F::Sleep) => {
                    out.node(*family, Labels::NONE, milliseconds as f64 / 1000.0);
                }
                Ok(value) => out.node(*family, Labels::NONE, value as f64),
                Err(error) => result = result.and(Err(error)),
            }
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::shown::gives;

    #[test]
    fn a_file_that_is_not_there_costs_itself() {
        let files = [("sys/kernel/mm/ksm/full_scans", "7\n"), ("sys/kernel/mm/ksm/sleep_millisecs", "20\n")];
        let (lines, result) = gives(&COLLECTOR, &files, &[]);
        assert_eq!(lines, ["node_ksmd_full_scans_total 7", "node_ksmd_sleep_seconds 0.02"]);
        assert!(matches!(result, Err(CollectError::Absent(_))));
    }
}
