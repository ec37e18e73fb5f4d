//! From policies and cluster to one snapshot for each node and a verdict for each policy: pure, and it cannot fail.

mod select;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::{Facts, Revision, Snapshot};
use serde::Serialize;

use crate::validate::{Rejection, ValidPolicy};
use crate::world::World;

/// What [`validate`](crate::validate::validate) made of each policy, by name.
pub type Judged = BTreeMap<String, Result<Arc<ValidPolicy>, Rejection>>;

/// What the policies mean.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Compiled {
    /// What each node is told; the term is the publisher's.
    pub snapshots: BTreeMap<String, Snapshot>,
    /// What became of each policy.
    pub verdicts: BTreeMap<String, Verdict>,
    /// The nodes that are in emergency.
    pub emergency: BTreeSet<String>,
}

/// What became of one policy, before any agent has seen it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// It is part of the snapshots of the nodes that it selects.
    Valid {
        /// Identifies what it says.
        revision: Revision,
        /// The nodes that it selects.
        nodes: BTreeSet<String>,
        /// How many namespaces it selects, where it has a namespace selector.
        #[serde(skip_serializing_if = "Option::is_none")]
        namespaces: Option<usize>,
        /// Which of these nodes are in emergency.
        #[serde(skip_serializing_if = "Option::is_none")]
        emergency: Option<Emergency>,
    },
    /// It is part of none.
    Rejected(Rejection),
}

/// Which of the nodes that a policy selects are in emergency.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Emergency {
    /// All of them, by the operator's flag.
    Everywhere,
    /// These, by their annotation.
    Nodes(BTreeSet<String>),
}

/// Selects and orders; merging is left to whoever reads a snapshot.
pub fn compile(world: &World, judged: &Judged) -> Compiled {
    let mut valid: Vec<&ValidPolicy> = judged.values().flatten().map(Arc::as_ref).collect();
    valid.sort_by(|a, b| a.policy().precedence().cmp(&b.policy().precedence()));
    let created = |name: &String| world.policies.get(name).map_or(0, |policy| policy.created);
    let held: BTreeMap<String, i64> =
        rejections(judged).map(|(name, _)| (name.clone(), created(name))).collect();
    let namespaces = select::namespaces(&valid, &world.namespaces);

    let mut covered: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let mut snapshots = BTreeMap::new();
    for (name, node) in &world.nodes {
        let mut snapshot = Snapshot {
            cluster: world.cluster().to_owned(),
            node: name.clone(),
            held: held.clone(),
            facts: Facts { emergency: world.emergency || node.emergency, ..Facts::default() },
            ..Snapshot::default()
        };
        for policy in valid.iter().filter(|p| select::covers(p, node)) {
            let policy = policy.policy();
            covered.entry(&policy.name).or_default().insert(name.clone());
            if let Some(selector) = &policy.content.namespace_selector {
                let names = namespaces.get(selector).cloned().unwrap_or_default();
                snapshot.facts.namespaces.insert(selector.clone(), names);
            }
            snapshot.policies.push(policy.clone());
        }
        snapshot.facts.node = select::node_facts(&snapshot.policies, node);
        snapshot.facts.namespace_labels = select::namespace_labels(&snapshot, &world.namespaces);
        snapshots.insert(name.clone(), snapshot);
    }

    let mut verdicts: BTreeMap<String, Verdict> =
        rejections(judged).map(|(name, why)| (name.clone(), Verdict::Rejected(why.clone()))).collect();
    for policy in valid.iter().map(|p| p.policy()) {
        let selector = policy.content.namespace_selector.as_ref();
        let nodes = covered.remove(policy.name.as_str()).unwrap_or_default();
        let verdict = Verdict::Valid {
            revision: policy.revision.clone(),
            emergency: emergency_among(&nodes, world),
            nodes,
            namespaces: selector.map(|s| namespaces.get(s).map_or(0, BTreeSet::len)),
        };
        verdicts.insert(policy.name.clone(), verdict);
    }
    let in_emergency = snapshots.iter().filter(|(_, s)| s.facts.emergency).map(|(name, _)| name.clone());
    Compiled { emergency: in_emergency.collect(), snapshots, verdicts }
}

fn emergency_among(nodes: &BTreeSet<String>, world: &World) -> Option<Emergency> {
    if world.emergency {
        return (!nodes.is_empty()).then_some(Emergency::Everywhere);
    }
    let annotated = |name: &&String| world.nodes.get(*name).is_some_and(|node| node.emergency);
    let annotated: BTreeSet<String> = nodes.iter().filter(annotated).cloned().collect();
    (!annotated.is_empty()).then_some(Emergency::Nodes(annotated))
}

fn rejections(judged: &Judged) -> impl Iterator<Item = (&String, &Rejection)> {
    judged.iter().filter_map(|(name, result)| result.as_ref().err().map(|why| (name, why)))
}
