//! What the agents last said of themselves, and how each stands to a policy.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::{Digest, Finding, Hello, Outcome, Refusal, Report, Revision, Verdict};

/// The agents by node.
pub type Agents = BTreeMap<String, Arc<Agent>>;

/// The agent of one node. What it said stays true while it is away: it keeps what it has.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Agent {
    /// Its software version.
    pub version: String,
    /// Whether it has a stream now.
    pub connected: bool,
    /// Whether it has said since its hello what it makes of a snapshot.
    pub reported: bool,
    /// Policy name to the revision in force.
    pub in_force: BTreeMap<String, Revision>,
    /// The policies of which it had something to say.
    pub findings: BTreeMap<String, Verdict>,
    /// Its answer to the present snapshot, where it refused that whole.
    pub refusal: Option<Refusal>,
    /// What keeps it from measuring all that it should, whatever the policies say.
    pub health: Vec<Finding>,
}

/// How an agent stands to a revision of a policy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Standing<'a> {
    /// The revision is in force, but for what these name.
    InForce(&'a [Finding]),
    /// The agent rejects it.
    Rejected(&'a Finding),
    /// The agent refuses the snapshot that it is part of.
    Refused(&'a Refusal),
    /// The agent has yet to answer.
    Pending,
    /// No agent is connected that could.
    Absent,
}

/// Findings that are kept of a verdict; an agent's own list is bounded by what a policy may hold.
const MAX_FINDINGS: usize = 8;
/// Characters that are kept of an agent's version.
const MAX_VERSION: usize = 64;
/// Characters that are kept of a text.
const MAX_TEXT: usize = 512;

impl Agent {
    /// An agent that has just connected. What it last had to say stands until it says something else: it speaks of
    /// revisions, so it is never taken for a word on another one. Of its health another build may never say anything.
    pub fn new(hello: &Hello, before: Option<&Agent>) -> Self {
        let version: String = hello.agent_version.chars().take(MAX_VERSION).collect();
        let findings = before.map(|before| before.findings.clone()).unwrap_or_default();
        let health = before.filter(|before| before.version == version).map(|before| before.health.clone());
        let (in_force, health) = (hello.in_force.clone(), health.unwrap_or_default());
        Agent { version, connected: true, in_force, findings, health, ..Agent::default() }
    }

    /// Takes a report on the snapshot that the node should have, or the one that it had.
    pub fn hear(&mut self, report: Report, present: Option<&Digest>) {
        match report {
            Report::Verdicts(verdicts) => {
                self.reported = true;
                self.refusal = None;
                self.in_force = verdicts
                    .policies
                    .iter()
                    .filter(|v| !v.in_force.is_empty())
                    .map(|v| (v.policy.clone(), v.in_force.clone()))
                    .collect();
                self.findings = verdicts
                    .policies
                    .into_iter()
                    .filter(|v| v.outcome != Outcome::Accepted)
                    .map(|v| (v.policy.clone(), bounded(v)))
                    .collect();
            }
            Report::Refusal(refusal) => {
                // Without a digest it is the leader that is refused, and so whatever it says.
                if refusal.digest.is_empty() || Some(&refusal.digest) == present {
                    self.reported = true;
                    let (reason, message) = (clip(&refusal.reason), clip(&refusal.message));
                    self.refusal = Some(Refusal { digest: refusal.digest, reason, message });
                }
            }
            Report::Health(findings) => {
                self.health = findings.into_iter().take(MAX_FINDINGS).map(clipped).collect();
            }
        }
    }

    /// A refusal says nothing of the snapshot that comes after.
    pub fn expect(&mut self, digest: &Digest) {
        if self.refusal.as_ref().is_some_and(|r| r.digest != *digest) {
            self.refusal = None;
        }
    }

    /// How the agent stands to a revision of a policy.
    pub fn standing(&self, policy: &str, revision: &Revision) -> Standing<'_> {
        let verdict = self.findings.get(policy).filter(|v| v.revision == *revision);
        if self.in_force.get(policy) == Some(revision) {
            return Standing::InForce(verdict.map_or(&[], |v| &v.findings));
        }
        if let Some(finding) =
            verdict.filter(|v| v.outcome == Outcome::Rejected).and_then(|v| v.findings.first())
        {
            return Standing::Rejected(finding);
        }
        match (&self.refusal, self.connected) {
            (Some(refusal), _) => Standing::Refused(refusal),
            (None, true) => Standing::Pending,
            (None, false) => Standing::Absent,
        }
    }
}

fn bounded(mut verdict: Verdict) -> Verdict {
    verdict.findings = verdict.findings.into_iter().take(MAX_FINDINGS).map(clipped).collect();
    if verdict.findings.is_empty() {
        verdict.findings.push(Finding {
            field: String::new(),
            reason: String::new(),
            message: "the agent gives no reason".to_owned(),
        });
    }
    verdict
}

fn clipped(finding: Finding) -> Finding {
    Finding { field: clip(&finding.field), reason: clip(&finding.reason), message: clip(&finding.message) }
}

/// A line of bounded length: an agent's words end in conditions.
fn clip(text: &str) -> String {
    let line = text.split_whitespace().flat_map(|word| [word, " "]).flat_map(str::chars);
    line.take(MAX_TEXT).collect::<String>().trim_end().to_owned()
}
