//! Making every row anew, as after a change of policy, beside a scrape that finds nothing changed.

#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

use agent::plan::{Overlay, Plan};
use agent::pods::PodIndex;
use agent::source::cgroup::CgroupTree;
use agent::source::file::HandleBudget;
use agent::transform::Rows;
use benches::measure::{pair, text};
use benches::synthetic::Node;
use protocol::{AddedLabels, Facts, MetricSelection, Policy, PolicyContent};

fn main() -> anyhow::Result<()> {
    for pods in [100, 250] {
        let node = Node::new(pods)?;
        let mut tree = CgroupTree::new(&node.paths(), HandleBudget::new(100_000));
        tree.refresh()?;
        let mut index = PodIndex::default();
        index.set_pods(node.pods().to_vec(), &tree);
        let policies = (0..10).map(policy).collect();
        let mut plan = Plan::new(policies, Facts::default(), &Overlay::default());
        let (mut rows, mut number) = (Rows::default(), 0);
        let (mut kept, mut same) =
            (Rows::default(), Plan::new(Vec::new(), Facts::default(), &Overlay::default()));
        let (anew, unchanged, _) = pair(
            50,
            || {
                number += 1;
                rows.update(&tree, &index, &mut plan, number, "pause:1");
            },
            || kept.update(&tree, &index, &mut same, 1, "pause:1"),
        );
        println!(
            "rows of {pods} pods under 10 policies: anew {}, unchanged {}",
            text(anew.cpu),
            text(unchanged.cpu)
        );
    }
    Ok(())
}

fn policy(i: i32) -> Policy {
    let content = PolicyContent {
        priority: i,
        metrics: MetricSelection {
            exclude: vec![format!("container_spec_.*_{i}")],
            ..MetricSelection::default()
        },
        labels: AddedLabels {
            pod_labels: ["app.kubernetes.io/name".to_owned()].into(),
            workload: true,
            ..AddedLabels::default()
        },
        ..PolicyContent::default()
    };
    Policy::new(format!("policy-{i}"), i64::from(i), content)
}
