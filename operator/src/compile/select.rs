//! Which nodes a policy covers, and which namespaces its selector means.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::validate::ValidPolicy;
use crate::world::{Namespace, Node};

/// Whether the policy is for the node.
pub(super) fn covers(policy: &ValidPolicy, node: &Node) -> bool {
    policy.node_selector().is_none_or(|selector| selector.matches(&node.labels))
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
