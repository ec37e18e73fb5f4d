//! How many tasks the kernel has found hanging.

use super::{CollectError, Collector, NodeCollector, Run};
use crate::metric::{Labels, Writer, families};
use crate::source::file::NodeFile;
use crate::source::text::only_number;

/// `kernel_hung`
pub(super) const COLLECTOR: Collector = Collector {
    name: "kernel_hung",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[],
    options: &[],
    exclusive: &[],
    run: Run::Node {
        // Since Linux 6.13, with CONFIG_DETECT_HUNG_TASK.
        start: |paths, _| {
            Box::new(KernelHung(NodeFile::whole(paths.procfs.join("sys/kernel/hung_task_detect_count"))))
        },
        can_block: false,
    },
};

families! {
    Tasks Counter "node_kernel_hung_tasks_total" "Total number of tasks that have been detected as hung since the system booted.";
}

struct KernelHung(NodeFile);

impl NodeCollector for KernelHung {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let tasks = only_number(self.0.read()?);
        let tasks = tasks.ok_or_else(|| CollectError::parse(self.0.path(), "not a number"))?;
        out.node(F::Tasks, Labels::NONE, tasks as f64);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::shown::gives;

    #[test]
    fn a_kernel_that_does_not_count_them_has_no_series() {
        let (lines, result) = gives(&COLLECTOR, &[], &[]);
        assert!(lines.is_empty() && matches!(result, Err(CollectError::Absent(_))));
        let (lines, _) = gives(&COLLECTOR, &[("proc/sys/kernel/hung_task_detect_count", "3\n")], &[]);
        assert_eq!(lines, ["node_kernel_hung_tasks_total 3"]);
    }
}
