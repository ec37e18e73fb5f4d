//! The plain types to and from their messages; what does not decode is refused whole, naming the field.

use crate::added_labels::AddedLabels;
use crate::message::{
    Capabilities, CollectorCapability, Finding, Hello, Outcome, Refusal, Report, Verdict, Verdicts,
};
use crate::profile::Profile;
use crate::proto;
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
                    labels: node.labels.into_iter().collect(),
                }),
                namespaces: s
                    .facts
                    .namespaces
                    .into_iter()
                    .map(|(selector, names)| {
                        (selector, proto::NamespaceSet { names: names.into_iter().collect() })
                    })
                    .collect(),
                emergency: s.facts.emergency,
                namespace_labels: s
                    .facts
                    .namespace_labels
                    .into_iter()
                    .map(|(name, labels)| (name, proto::LabelSet { labels: labels.into_iter().collect() }))
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
                    labels: node.labels.into_iter().collect(),
                },
                namespaces: facts
                    .namespaces
                    .into_iter()
                    .map(|(selector, set)| (selector, set.names.into_iter().collect()))
                    .collect(),
                emergency: facts.emergency,
                namespace_labels: facts
                    .namespace_labels
                    .into_iter()
                    .map(|(name, set)| (name, set.labels.into_iter().collect()))
                    .collect(),
            },
        })
    }
}

impl From<Policy> for proto::Policy {
    fn from(p: Policy) -> Self {
        let c = p.content;
        let labels = c.labels;
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
                    profile: c.metrics.profile.map(|p| proto::Profile::from(p).into()),
                }),
                pod_labels: labels.pod_labels.into_iter().collect(),
                pod_annotations: labels.pod_annotations.into_iter().collect(),
                namespace_labels: labels.namespace_labels.into_iter().collect(),
                node_labels: labels.node_labels.into_iter().collect(),
                workload: labels.workload,
                qos_class: labels.qos_class,
                priority_class: labels.priority_class,
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
                metrics: MetricSelection {
                    profile: metrics.profile.is_some().then(|| metrics.profile().try_into()).transpose()?,
                    include: metrics.include,
                    exclude: metrics.exclude,
                },
                labels: AddedLabels {
                    pod_labels: c.pod_labels.into_iter().collect(),
                    pod_annotations: c.pod_annotations.into_iter().collect(),
                    namespace_labels: c.namespace_labels.into_iter().collect(),
                    node_labels: c.node_labels.into_iter().collect(),
                    workload: c.workload,
                    qos_class: c.qos_class,
                    priority_class: c.priority_class,
                },
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

impl From<Profile> for proto::Profile {
    fn from(profile: Profile) -> Self {
        match profile {
            Profile::Full => proto::Profile::Full,
            Profile::Dashboards => proto::Profile::Dashboards,
            Profile::Minimal => proto::Profile::Minimal,
        }
    }
}

impl TryFrom<proto::Profile> for Profile {
    type Error = DecodeError;

    fn try_from(profile: proto::Profile) -> Result<Self, DecodeError> {
        match profile {
            proto::Profile::Full => Ok(Profile::Full),
            proto::Profile::Dashboards => Ok(Profile::Dashboards),
            proto::Profile::Minimal => Ok(Profile::Minimal),
            // A profile of a newer operator must not be read as none, which exposes more.
            proto::Profile::Unspecified => {
                Err(DecodeError { field: "metrics.profile", what: "unknown to this version".to_owned() })
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
                        findings: v.findings.into_iter().map(Into::into).collect(),
                        in_force: v.in_force.to_string(),
                    })
                    .collect(),
            }),
            Report::Refusal(r) => proto::report::Report::Refusal(proto::Refusal {
                digest: r.digest.to_string(),
                reason: r.reason,
                message: r.message,
            }),
            Report::Health(findings) => proto::report::Report::Health(proto::Health {
                findings: findings.into_iter().map(Into::into).collect(),
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
                            findings: v.findings.into_iter().map(Into::into).collect(),
                            in_force: v.in_force.into(),
                        })
                    })
                    .collect::<Result<_, DecodeError>>()?,
            })),
            proto::report::Report::Refusal(r) => {
                Ok(Report::Refusal(Refusal { digest: r.digest.into(), reason: r.reason, message: r.message }))
            }
            proto::report::Report::Health(h) => {
                Ok(Report::Health(h.findings.into_iter().map(Into::into).collect()))
            }
        }
    }
}

impl From<Finding> for proto::Finding {
    fn from(f: Finding) -> Self {
        proto::Finding { field: f.field, reason: f.reason, message: f.message }
    }
}

impl From<proto::Finding> for Finding {
    fn from(f: proto::Finding) -> Self {
        Finding { field: f.field, reason: f.reason, message: f.message }
    }
}

fn missing(field: &'static str) -> DecodeError {
    DecodeError { field, what: "missing".to_owned() }
}
