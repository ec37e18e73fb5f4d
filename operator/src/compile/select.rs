//! Which nodes a policy covers, which namespaces its selector means, and which labels of both an agent is told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::{AddedLabels, NodeFacts, Policy, Snapshot};

use crate::validate::ValidPolicy;
use crate::world::{Namespace, Node};

/// Whether the policy is for the node.
pub(super) fn covers(policy: &ValidPolicy, node: &Node) -> bool {
    policy.node_selector().is_none_or(|selector| selector.matches(&node.labels))
}

/// The node as its agent is told of it: of its labels only those that a policy adds.
pub(super) fn node_facts(policies: &[Policy], node: &Node) -> NodeFacts {
    let mut labels = BTreeMap::new();
    for policy in policies {
        labels.extend(AddedLabels::select(&policy.content.labels.node_labels, &node.labels));
    }
    NodeFacts { labels, ..node.facts.clone() }
}

/// Of the labels of each namespace those that a policy of the snapshot adds there.
pub(super) fn namespace_labels(
    snapshot: &Snapshot,
    namespaces: &BTreeMap<String, Arc<Namespace>>,
) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut added = BTreeMap::<String, BTreeMap<String, String>>::new();
    for policy in &snapshot.policies {
        let content = &policy.content;
        let keys = &content.labels.namespace_labels;
        if keys.is_empty() {
            continue;
        }
        let selected = content.namespace_selector.as_ref().and_then(|s| snapshot.facts.namespaces.get(s));
        for (name, namespace) in namespaces {
            if selected.is_some_and(|names| !names.contains(name)) {
                continue;
            }
            let labels = AddedLabels::select(keys, &namespace.labels);
            if !labels.is_empty() {
                added.entry(name.clone()).or_default().extend(labels);
            }
        }
    }
    added
}

/// The namespaces that each namespace selector matches, by the selector's text.
pub(super) fn namespaces<'a>(
    policies: &[&'a ValidPolicy],
    namespaces: &BTreeMap<String, Arc<Namespace>>,
) -> BTreeMap<&'a String, BTreeSet<String>> {
    let mut selected = BTreeMap::new();
    for policy in policies {
        let text = policy.policy().content.namespace_selector.as_ref();
        let (Some(text), Some(selector)) = (text, policy.namespace_selector()) else { continue };
        selected.entry(text).or_insert_with(|| {
            let matching = namespaces.iter().filter(|(_, n)| selector.matches(&n.labels));
            matching.map(|(name, _)| name.clone()).collect()
        });
    }
    selected
}
