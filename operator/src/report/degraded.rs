//! Why nodes expose less than a policy says, although it is in force there.

use std::collections::{BTreeMap, BTreeSet};

use crds::{EMERGENCY, MAX_EXAMPLES, Reason};

use super::{Answer, amount, is_reason};
use crate::agents::Agents;
use crate::compile::Emergency;

/// The condition `Degraded`, where it is to be set. An emergency, which somebody wants, comes before what is broken.
pub(super) fn degraded(
    nodes: &BTreeSet<String>,
    emergency: Option<&Emergency>,
    agents: &Agents,
) -> Option<Answer> {
    let emergency = emergency.map(|e| (Reason::Emergency.as_str().to_owned(), in_emergency(nodes.len(), e)));
    let mut all = emergency.into_iter().chain(broken(nodes, agents));
    let (reason, mut message) = all.next()?;
    for (_, more) in all {
        message = format!("{message} {more}");
    }
    Some(Answer { holds: true, reason, message })
}

/// What agents there are told; whether they have heard it is for their own metrics to say.
const TOLD: &str = "Agents there are told to expose the machine and the profile Minimal, less what policies exclude, and \
                    to add no pod label.";

fn in_emergency(selected: usize, emergency: &Emergency) -> String {
    let selected = amount(selected, "selected node");
    match emergency {
        Emergency::Everywhere => format!(
            "Every node is in emergency, {selected} of this policy. {TOLD} To end it, set the chart's \
             operator.emergency=false, which starts the operator without --emergency."
        ),
        Emergency::Nodes(nodes) => format!(
            "In emergency {are} {n} of {selected}: {names}. {TOLD} To end it: kubectl annotate node NAME {EMERGENCY}-",
            are = if nodes.len() == 1 { "is" } else { "are" },
            n = nodes.len(),
            names = names(nodes.iter()),
        ),
    }
}

/// What the agents of the nodes say of themselves: the reason and the sentence of what most of them say.
fn broken(nodes: &BTreeSet<String>, agents: &Agents) -> Option<(String, String)> {
    let mut said: BTreeMap<(&str, &str), BTreeSet<&String>> = BTreeMap::new();
    for node in nodes {
        for finding in agents.get(node).into_iter().flat_map(|agent| &agent.health) {
            said.entry((&finding.reason, &finding.message)).or_default().insert(node);
        }
    }
    let ((reason, text), on) = said.iter().max_by(|a, b| a.1.len().cmp(&b.1.len()).then(b.0.cmp(a.0)))?;
    let reason = if is_reason(reason) { reason } else { Reason::AgentDegraded.as_str() };
    let others = match said.len() - 1 {
        0 => String::new(),
        n => format!(" And {n} more."),
    };
    let message = format!(
        "On {n} of {selected}, {names}: {text}.{others}",
        n = on.len(),
        selected = amount(nodes.len(), "selected node"),
        names = names(on.iter().copied()),
        text = text.trim_end_matches('.'),
    );
    Some((reason.to_owned(), message))
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
