//! The plain types to and from their messages; what does not decode is refused whole, naming the field.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::proto;
use crate::revision::{Digest, Revision};
use crate::snapshot::{
    CollectorSetting, Facts, LabelOperator, LabelRequirement, LabelSelector, MetricSelection, NodeFacts,
    Policy, PolicyContent, Snapshot,
};

/// Why a message means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {what}")]
pub struct DecodeError {
    /// The field of the message.
    pub field: &'static str,
    /// What is wrong with it.
    pub what: String,
}

/// An agent's first message.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hello {
    /// The version of the contract that the agent speaks.
    pub protocol: u32,
    /// The agent's software version.
    pub agent_version: String,
    /// The node that it measures.
    pub node: String,
    /// What it can collect.
    pub capabilities: Capabilities,
    /// Policy name to the revision in force.
    pub in_force: BTreeMap<String, Revision>,
    /// The last snapshot that it took up; empty for none.
    pub digest: Digest,
}

/// The collectors that an agent knows, in the order of its list.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Capabilities(pub Vec<CollectorCapability>);

/// One collector that an agent knows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CollectorCapability {
    /// Its public name.
    pub name: String,
    /// Whether it runs when no policy speaks of it.
    pub enabled_by_default: bool,
    /// The keys of its options.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// The families that it yields.
    pub families: Vec<String>,
}

/// What an agent answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    /// What it makes of each policy of a snapshot.
    Verdicts(Verdicts),
    /// It refused a snapshot whole.
    Refusal(Refusal),
}

/// What an agent makes of each policy of one snapshot.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdicts {
    /// The snapshot.
    pub digest: Digest,
    /// One for each of its policies.
    pub policies: Vec<Verdict>,
}

/// What an agent makes of one policy.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// The policy.
    pub policy: String,
    /// The revision that was judged.
    pub revision: Revision,
    /// Whether it is taken.
    pub outcome: Outcome,
    /// Why not, or what was skipped.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
    /// The revision of the policy that is in force now; empty for none.
    #[serde(skip_serializing_if = "Revision::is_empty")]
    pub in_force: Revision,
}

/// Whether a policy is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Outcome {
    /// All of it.
    Accepted,
    /// All but what the findings name.
    AcceptedWithWarnings,
    /// Nothing of it; the revision that was in force stays.
    Rejected,
}

/// One thing that is wrong with a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Path below `spec`, as a user writes it.
    pub field: String,
    /// One of a fixed set of CamelCase words.
    pub reason: String,
    /// A sentence for the person who wrote the policy.
    pub message: String,
}

/// A snapshot was refused whole and changed nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// The snapshot.
    pub digest: Digest,
    /// One of a fixed set of CamelCase words.
    pub reason: String,
    /// A sentence for the administrator.
    pub message: String,
}

impl From<Snapshot> for proto::Snapshot {
    fn from(s: Snapshot) -> Self {
        let digest = s.digest().to_string();
        let node = s.facts.node;
        proto::Snapshot {
            cluster: s.cluster,
            node: s.node,
            term: s.term,
            digest,
            policies: s.policies.into_iter().map(Into::into).collect(),
            held: s.held.into_iter().collect(),
            facts: Some(proto::Facts {
                node: Some(proto::NodeFacts {
                    name: node.name,
                    system_uuid: node.system_uuid,
                    machine_id: node.machine_id,
                    boot_id: node.boot_id,
                }),
                namespaces: s
                    .facts
                    .namespaces
                    .into_iter()
                    .map(|(selector, names)| {
                        (selector, proto::NamespaceSet { names: names.into_iter().collect() })
                    })
                    .collect(),
            }),
        }
    }
}

impl TryFrom<proto::Snapshot> for Snapshot {
    type Error = DecodeError;

    fn try_from(s: proto::Snapshot) -> Result<Self, DecodeError> {
        let facts = s.facts.ok_or(missing("facts"))?;
        let node = facts.node.ok_or(missing("facts.node"))?;
        Ok(Snapshot {
            cluster: s.cluster,
            node: s.node,
            term: s.term,
            policies: s.policies.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            held: s.held.into_iter().collect(),
            facts: Facts {
                node: NodeFacts {
                    name: node.name,
                    system_uuid: node.system_uuid,
                    machine_id: node.machine_id,
                    boot_id: node.boot_id,
                },
                namespaces: facts
                    .namespaces
                    .into_iter()
                    .map(|(selector, set)| (selector, set.names.into_iter().collect()))
                    .collect(),
            },
        })
    }
}

impl From<Policy> for proto::Policy {
    fn from(p: Policy) -> Self {
        let c = p.content;
        proto::Policy {
            name: p.name,
            created: p.created,
            revision: p.revision.to_string(),
            content: Some(proto::PolicyContent {
                priority: c.priority,
                namespace_selector: c.namespace_selector.unwrap_or_default(),
                pod_selector: c.pod_selector.map(|s| proto::LabelSelector {
                    requirements: s
                        .requirements
                        .into_iter()
                        .map(|r| proto::LabelRequirement {
                            key: r.key,
                            operator: proto::LabelOperator::from(r.operator).into(),
                            values: r.values,
                        })
                        .collect(),
                }),
                collectors: c
                    .collectors
                    .into_iter()
                    .map(|s| proto::CollectorSetting {
                        name: s.name,
                        enabled: s.enabled,
                        options: s.options.into_iter().collect(),
                    })
                    .collect(),
                metrics: Some(proto::MetricSelection {
                    include: c.metrics.include,
                    exclude: c.metrics.exclude,
                }),
                pod_labels: c.pod_labels.into_iter().collect(),
            }),
        }
    }
}

impl TryFrom<proto::Policy> for Policy {
    type Error = DecodeError;

    fn try_from(p: proto::Policy) -> Result<Self, DecodeError> {
        if p.name.is_empty() || p.revision.is_empty() {
            return Err(missing("policies.name or revision"));
        }
        let c = p.content.ok_or(missing("policies.content"))?;
        let metrics = c.metrics.unwrap_or_default();
        Ok(Policy {
            name: p.name,
            created: p.created,
            revision: p.revision.into(),
            content: PolicyContent {
                priority: c.priority,
                namespace_selector: Some(c.namespace_selector).filter(|s| !s.is_empty()),
                pod_selector: c.pod_selector.map(TryInto::try_into).transpose()?,
                collectors: c
                    .collectors
                    .into_iter()
                    .map(|s| CollectorSetting {
                        name: s.name,
                        enabled: s.enabled,
                        options: s.options.into_iter().collect(),
                    })
                    .collect(),
                metrics: MetricSelection { include: metrics.include, exclude: metrics.exclude },
                pod_labels: c.pod_labels.into_iter().collect(),
            },
        })
    }
}

impl TryFrom<proto::LabelSelector> for LabelSelector {
    type Error = DecodeError;

    fn try_from(s: proto::LabelSelector) -> Result<Self, DecodeError> {
        let requirements = s
            .requirements
            .into_iter()
            .map(|r| {
                Ok(LabelRequirement { operator: r.operator().try_into()?, key: r.key, values: r.values })
            })
            .collect::<Result<_, DecodeError>>()?;
        Ok(LabelSelector { requirements })
    }
}

impl From<LabelOperator> for proto::LabelOperator {
    fn from(operator: LabelOperator) -> Self {
        match operator {
            LabelOperator::In => proto::LabelOperator::In,
            LabelOperator::NotIn => proto::LabelOperator::NotIn,
            LabelOperator::Exists => proto::LabelOperator::Exists,
            LabelOperator::DoesNotExist => proto::LabelOperator::DoesNotExist,
        }
    }
}

impl TryFrom<proto::LabelOperator> for LabelOperator {
    type Error = DecodeError;

    fn try_from(operator: proto::LabelOperator) -> Result<Self, DecodeError> {
        match operator {
            proto::LabelOperator::In => Ok(LabelOperator::In),
            proto::LabelOperator::NotIn => Ok(LabelOperator::NotIn),
            proto::LabelOperator::Exists => Ok(LabelOperator::Exists),
            proto::LabelOperator::DoesNotExist => Ok(LabelOperator::DoesNotExist),
            // A selector of a newer operator must not be read as one that selects more.
            proto::LabelOperator::Unspecified => {
                Err(DecodeError { field: "podSelector.operator", what: "unknown to this version".to_owned() })
            }
        }
    }
}

impl From<Hello> for proto::Hello {
    fn from(h: Hello) -> Self {
        proto::Hello {
            protocol: h.protocol,
            agent_version: h.agent_version,
            node: h.node,
            collectors: h
                .capabilities
                .0
                .into_iter()
                .map(|c| proto::CollectorCapability {
                    name: c.name,
                    enabled_by_default: c.enabled_by_default,
                    options: c.options,
                    families: c.families,
                })
                .collect(),
            in_force: h.in_force.into_iter().map(|(policy, r)| (policy, r.to_string())).collect(),
            digest: h.digest.to_string(),
        }
    }
}

impl From<proto::Hello> for Hello {
    fn from(h: proto::Hello) -> Self {
        Hello {
            protocol: h.protocol,
            agent_version: h.agent_version,
            node: h.node,
            capabilities: Capabilities(
                h.collectors
                    .into_iter()
                    .map(|c| CollectorCapability {
                        name: c.name,
                        enabled_by_default: c.enabled_by_default,
                        options: c.options,
                        families: c.families,
                    })
                    .collect(),
            ),
            in_force: h.in_force.into_iter().map(|(policy, r)| (policy, r.into())).collect(),
            digest: h.digest.into(),
        }
    }
}

impl From<Report> for proto::Report {
    fn from(report: Report) -> Self {
        let report = match report {
            Report::Verdicts(v) => proto::report::Report::Verdicts(proto::Verdicts {
                digest: v.digest.to_string(),
                policies: v
                    .policies
                    .into_iter()
                    .map(|v| proto::Verdict {
                        policy: v.policy,
                        revision: v.revision.to_string(),
                        outcome: match v.outcome {
                            Outcome::Accepted => proto::Outcome::Accepted,
                            Outcome::AcceptedWithWarnings => proto::Outcome::AcceptedWithWarnings,
                            Outcome::Rejected => proto::Outcome::Rejected,
                        }
                        .into(),
                        findings: v
                            .findings
                            .into_iter()
                            .map(|f| proto::Finding { field: f.field, reason: f.reason, message: f.message })
                            .collect(),
                        in_force: v.in_force.to_string(),
                    })
                    .collect(),
            }),
            Report::Refusal(r) => proto::report::Report::Refusal(proto::Refusal {
                digest: r.digest.to_string(),
                reason: r.reason,
                message: r.message,
            }),
        };
        proto::Report { report: Some(report) }
    }
}

impl TryFrom<proto::Report> for Report {
    type Error = DecodeError;

    fn try_from(report: proto::Report) -> Result<Self, DecodeError> {
        match report.report.ok_or(missing("report"))? {
            proto::report::Report::Verdicts(v) => Ok(Report::Verdicts(Verdicts {
                digest: v.digest.into(),
                policies: v
                    .policies
                    .into_iter()
                    .map(|v| {
                        Ok(Verdict {
                            outcome: match v.outcome() {
                                proto::Outcome::Accepted => Outcome::Accepted,
                                proto::Outcome::AcceptedWithWarnings => Outcome::AcceptedWithWarnings,
                                proto::Outcome::Rejected => Outcome::Rejected,
                                proto::Outcome::Unspecified => return Err(missing("verdicts.outcome")),
                            },
                            policy: v.policy,
                            revision: v.revision.into(),
                            findings: v
                                .findings
                                .into_iter()
                                .map(|f| Finding { field: f.field, reason: f.reason, message: f.message })
                                .collect(),
                            in_force: v.in_force.into(),
                        })
                    })
                    .collect::<Result<_, DecodeError>>()?,
            })),
            proto::report::Report::Refusal(r) => {
                Ok(Report::Refusal(Refusal { digest: r.digest.into(), reason: r.reason, message: r.message }))
            }
        }
    }
}

fn missing(field: &'static str) -> DecodeError {
    DecodeError { field, what: "missing".to_owned() }
}
