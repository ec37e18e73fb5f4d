//! Why nodes expose less than a policy says, although it is in force there.

use std::collections::BTreeSet;

use crds::{EMERGENCY, MAX_EXAMPLES, Reason};

use super::{Answer, amount, yes};
use crate::compile::Emergency;

/// The condition `Degraded`, where it is to be set.
pub(super) fn degraded(nodes: &BTreeSet<String>, emergency: Option<&Emergency>) -> Option<Answer> {
    emergency.map(|emergency| yes(Reason::Emergency, in_emergency(nodes.len(), emergency)))
}

const EXPOSED: &str =
    "Exposed are the machine and the profile Minimal, less what policies exclude; no pod label is added.";

fn in_emergency(selected: usize, emergency: &Emergency) -> String {
    let selected = amount(selected, "selected node");
    match emergency {
        Emergency::Everywhere => format!(
            "Every node is in emergency, {selected} of this policy. {EXPOSED} To end it, set the chart's \
             operator.emergency=false, which starts the operator without --emergency."
        ),
        Emergency::Nodes(nodes) => format!(
            "In emergency {are} {n} of {selected}: {names}. {EXPOSED} To end it: kubectl annotate node NAME {EMERGENCY}-",
            are = if nodes.len() == 1 { "is" } else { "are" },
            n = nodes.len(),
            names = names(nodes.iter()),
        ),
    }
}

/// Some of the nodes by name.
fn names<'a>(nodes: impl ExactSizeIterator<Item = &'a String>) -> String {
    let more = nodes.len().saturating_sub(MAX_EXAMPLES);
    let named: Vec<&str> = nodes.take(MAX_EXAMPLES).map(String::as_str).collect();
    match more {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}
