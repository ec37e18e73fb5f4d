//! From verdicts and the agents' answers to what users read: conditions, counts and events.

mod degraded;
pub mod write;

use std::collections::BTreeMap;
use std::fmt::Display;

use crds::{ConditionType, ExporterPolicyStatus, MAX_EXAMPLES, NodeCounts, NodeExample, Reason};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

use crate::agents::{Agents, Standing};
use crate::compile::Verdict;

/// What is to be said of one policy; the times come when it is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Outlook {
    /// Whether the policy is valid and no agent rejects it.
    pub accepted: Answer,
    /// Whether it is in force.
    pub programmed: Answer,
    /// Why some of its nodes expose less than it says, where that is so.
    pub degraded: Option<Answer>,
    /// Why it is not accepted, for the metrics.
    pub rejected: Option<Reason>,
    /// Nodes by state.
    pub nodes: NodeCounts,
    /// Some of the nodes that reject it.
    pub examples: Vec<NodeExample>,
    /// Whether the agents of all selected nodes have said what they have, which takes a while after a new leader.
    pub settled: bool,
}

/// The status of a condition, with its reason.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// True or False.
    pub holds: bool,
    /// A CamelCase word.
    pub reason: String,
    /// A sentence.
    pub message: String,
}

/// What happened to a policy that its author wants to know.
#[derive(Clone, Debug, PartialEq)]
pub struct Happening {
    /// Whether it is a warning.
    pub warning: bool,
    /// The reason of the condition.
    pub reason: String,
    /// The message of the condition.
    pub note: String,
}

/// Says what is to be said of one policy.
pub fn report(name: &str, verdict: &Verdict, agents: &Agents) -> Outlook {
    match verdict {
        Verdict::Rejected(why) => Outlook {
            accepted: no(why.reason, format!("{why}.")),
            programmed: no(Reason::NotAccepted, KEPT),
            degraded: None,
            rejected: Some(why.reason),
            nodes: NodeCounts::default(),
            examples: Vec::new(),
            settled: true,
        },
        Verdict::Valid { revision, nodes, namespaces, emergency } => {
            let mut seen = Seen { selected: nodes.len(), settled: true, ..Seen::default() };
            for node in nodes {
                let agent = agents.get(node);
                seen.settled &= agent.is_some_and(|a| a.reported);
                seen.take(node, agent.map_or(Standing::Absent, |a| a.standing(name, revision)));
            }
            let accepted = seen.accepted(*namespaces);
            Outlook {
                rejected: (!accepted.holds).then_some(Reason::RejectedByAgent),
                accepted,
                programmed: seen.programmed(),
                degraded: degraded::degraded(nodes, emergency.as_ref(), agents),
                nodes: NodeCounts {
                    selected: count(seen.selected),
                    updated: count(seen.in_force),
                    rejected: count(seen.rejected + seen.refused),
                },
                settled: seen.settled,
                examples: seen.examples,
            }
        }
    }
}

/// The status that says it; a condition that stays as it is keeps its time.
pub fn status(
    outlook: &Outlook,
    generation: i64,
    current: Option<&ExporterPolicyStatus>,
    now: Timestamp,
) -> ExporterPolicyStatus {
    // Kubernetes keeps seconds.
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let condition = |type_: ConditionType, answer: &Answer| {
        let status = if answer.holds { "True" } else { "False" };
        let same = find(current, type_).filter(|c| c.status == status);
        Condition {
            last_transition_time: same.map_or(Time(now), |c| c.last_transition_time.clone()),
            message: answer.message.clone(),
            observed_generation: Some(generation),
            reason: answer.reason.clone(),
            status: status.to_owned(),
            type_: type_.as_str().to_owned(),
        }
    };
    let mut conditions = vec![
        condition(ConditionType::Accepted, &outlook.accepted),
        condition(ConditionType::Programmed, &outlook.programmed),
    ];
    // One that is abnormal when it is True is there only then, as Kubernetes' API conventions have it.
    conditions.extend(outlook.degraded.as_ref().map(|answer| condition(ConditionType::Degraded, answer)));
    ExporterPolicyStatus {
        observed_generation: generation,
        conditions,
        nodes: outlook.nodes.clone(),
        examples: outlook.examples.clone(),
    }
}

/// What of a status is ours, in our order: others may add conditions of their own.
pub fn own(mut status: ExporterPolicyStatus) -> ExporterPolicyStatus {
    let types = [ConditionType::Accepted, ConditionType::Programmed, ConditionType::Degraded];
    status.conditions = types.iter().filter_map(|t| find(Some(&status), *t).cloned()).collect();
    status
}

/// Whether the step from one status to the next is worth an event: once for each edit that is accepted or rejected,
/// and when the agents change that.
pub fn happening(before: Option<&ExporterPolicyStatus>, after: &ExporterPolicyStatus) -> Option<Happening> {
    let after = find(Some(after), ConditionType::Accepted)?;
    let told = |c: &Condition| (c.status.clone(), c.reason.clone(), c.observed_generation);
    if find(before, ConditionType::Accepted).is_some_and(|before| told(before) == told(after)) {
        return None;
    }
    let (reason, note) = (after.reason.clone(), after.message.clone());
    Some(Happening { warning: reason != Reason::Accepted.as_str(), reason, note })
}

const KEPT: &str = "The policy is not accepted; where an earlier content of it was, that stays in force.";

/// What the selected nodes say.
#[derive(Default)]
struct Seen {
    selected: usize,
    in_force: usize,
    rejected: usize,
    refused: usize,
    pending: usize,
    absent: usize,
    warned: usize,
    settled: bool,
    examples: Vec<NodeExample>,
    /// How many nodes say each thing, by reason and text.
    rejections: BTreeMap<(String, String), usize>,
    refusals: BTreeMap<(String, String), usize>,
    warnings: BTreeMap<(String, String), usize>,
}

impl Seen {
    fn take(&mut self, node: &str, standing: Standing<'_>) {
        let said = |finding: &protocol::Finding| {
            let text = match finding.field.as_str() {
                "" => finding.message.clone(),
                field => format!("spec.{field}: {}", finding.message),
            };
            (finding.reason.clone(), text)
        };
        match standing {
            Standing::InForce(findings) => {
                self.in_force += 1;
                self.warned += usize::from(!findings.is_empty());
                findings.iter().for_each(|f| *self.warnings.entry(said(f)).or_default() += 1);
            }
            Standing::Rejected(finding) => {
                self.rejected += 1;
                self.example(node, said(finding));
                *self.rejections.entry(said(finding)).or_default() += 1;
            }
            Standing::Refused(refusal) => {
                self.refused += 1;
                let said = (refusal.reason.clone(), refusal.message.clone());
                self.example(node, said.clone());
                *self.refusals.entry(said).or_default() += 1;
            }
            Standing::Pending => self.pending += 1,
            Standing::Absent => self.absent += 1,
        }
    }

    fn example(&mut self, node: &str, (reason, message): (String, String)) {
        if self.examples.len() < MAX_EXAMPLES {
            self.examples.push(NodeExample { node: node.to_owned(), reason, message });
        }
    }

    fn accepted(&self, namespaces: Option<usize>) -> Answer {
        let of = |n: usize| format!("{n} of {}", amount(self.selected, "selected node"));
        if let Some(((reason, text), others)) = most(&self.rejections) {
            let message = format!(
                "Rejected on {}: {text}.{others} {KEPT}",
                of(self.rejected),
                text = text.trim_end_matches('.')
            );
            // The agents' words are the most precise, where they have the form of a reason.
            let reason = if is_reason(reason) { reason } else { Reason::RejectedByAgent.as_str() };
            return no(reason, message);
        }
        let mut message = vec!["The policy is valid.".to_owned()];
        if self.selected == 0 {
            message.push("No node matches nodeSelector.".to_owned());
        }
        if namespaces == Some(0) {
            message.push("No namespace matches namespaceSelector.".to_owned());
        }
        if let Some(((reason, text), others)) = most(&self.warnings) {
            let text = text.trim_end_matches('.');
            message.push(format!("Skipped on {}: {reason}: {text}.{others}", of(self.warned)));
            return yes(Reason::AcceptedWithWarnings, message.join(" "));
        }
        yes(Reason::Accepted, message.join(" "))
    }

    fn programmed(&self) -> Answer {
        let selected = amount(self.selected, "selected node");
        let mut message = format!("In force on {} of {selected}.", self.in_force);
        if self.selected == 0 {
            return yes(Reason::NoNodes, "No node is selected.");
        }
        if self.rejected > 0 {
            return no(Reason::NotAccepted, format!("{message} {KEPT}"));
        }
        if let Some(((reason, text), others)) = most(&self.refusals) {
            let refused = amount(self.refused, "node");
            let text = text.trim_end_matches('.');
            let refused =
                format!("The whole configuration is refused on {refused}: {reason}: {text}.{others}");
            return no(Reason::SnapshotRefused, format!("{message} {refused}"));
        }
        if self.absent == self.selected {
            return no(Reason::NoAgents, format!("No agent is connected on {selected}."));
        }
        if self.absent > 0 {
            message.push_str(&format!(" No agent is connected on {}.", amount(self.absent, "node")));
        }
        match self.pending {
            0 => yes(Reason::Programmed, message),
            _ => no(Reason::Pending, message),
        }
    }
}

/// What most nodes say, and how much else is said.
fn most(said: &BTreeMap<(String, String), usize>) -> Option<(&(String, String), String)> {
    let most = said.iter().max_by(|a, b| a.1.cmp(b.1).then(b.0.cmp(a.0)))?.0;
    let others = match said.len() - 1 {
        0 => String::new(),
        n => format!(" And {n} more."),
    };
    Some((most, others))
}

fn is_reason(word: &str) -> bool {
    let mut bytes = word.bytes();
    word.len() <= 64
        && bytes.next().is_some_and(|b| b.is_ascii_uppercase())
        && bytes.all(|b| b.is_ascii_alphanumeric())
}

fn find(status: Option<&ExporterPolicyStatus>, type_: ConditionType) -> Option<&Condition> {
    status?.conditions.iter().find(|c| c.type_ == type_.as_str())
}

fn yes(reason: Reason, message: impl Into<String>) -> Answer {
    Answer { holds: true, reason: reason.as_str().to_owned(), message: message.into() }
}

fn no(reason: impl Display, message: impl Into<String>) -> Answer {
    Answer { holds: false, reason: reason.to_string(), message: message.into() }
}

fn amount(n: usize, what: &str) -> String {
    if n == 1 { format!("{n} {what}") } else { format!("{n} {what}s") }
}

fn count(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}
