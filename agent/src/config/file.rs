//! A configuration file in place of an operator: the YAML form of a snapshot, read strictly.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use protocol::{
    AddedLabels, CollectorSetting, Facts, LabelSelector, MetricSelection, Outcome, Policy, PolicyContent,
    Snapshot,
};
use serde::Deserialize;

use crate::judge::judge;

/// Why a configuration file was not taken up; what was in force before stays.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel says.
        source: std::io::Error,
    },
    /// It is not a snapshot.
    #[error("{}: {what}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// Where it stops making sense.
        what: String,
    },
    /// One of its policies cannot be done.
    #[error("{}: policy `{policy}`: {field}: {message}", path.display())]
    Rejected {
        /// The file.
        path: PathBuf,
        /// The policy.
        policy: String,
        /// The field below `spec`.
        field: String,
        /// What is wrong with it.
        message: String,
    },
}

/// Reads the YAML form of a snapshot and checks every policy of it.
///
/// # Errors
/// See [`FileError`].
pub(super) fn read(path: &Path) -> Result<Snapshot, FileError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| FileError::Read { path: path.to_owned(), source })?;
    let content = |what: String| FileError::Content { path: path.to_owned(), what };
    let file: File = serde_saphyr::from_str(&text).map_err(|error| content(error.to_string()))?;
    let mut names = BTreeSet::new();
    let mut snapshot = Snapshot { facts: file.facts, ..Snapshot::default() };
    for policy in file.policies {
        let policy = Policy::from(policy);
        if !names.insert(policy.name.clone()) {
            return Err(content(format!("two policies are called `{}`", policy.name)));
        }
        let judgement = judge(&policy);
        for finding in judgement.findings {
            if judgement.outcome == Outcome::Rejected {
                return Err(FileError::Rejected {
                    path: path.to_owned(),
                    policy: policy.name,
                    field: finding.field,
                    message: finding.message,
                });
            }
            tracing::warn!(policy = policy.name, field = finding.field, "{}", finding.message);
        }
        snapshot.policies.push(policy);
    }
    snapshot.sort();
    Ok(snapshot)
}

/// A file says what a snapshot says, but in it a field that is misspelled is an error.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    policies: Vec<FilePolicy>,
    facts: Facts,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FilePolicy {
    name: String,
    #[serde(default)]
    created: i64,
    #[serde(default)]
    priority: i32,
    namespace_selector: Option<String>,
    pod_selector: Option<LabelSelector>,
    #[serde(default)]
    collectors: Vec<CollectorSetting>,
    #[serde(default)]
    metrics: MetricSelection,
    #[serde(default)]
    pod_labels: BTreeSet<String>,
    #[serde(default)]
    pod_annotations: BTreeSet<String>,
    #[serde(default)]
    namespace_labels: BTreeSet<String>,
    #[serde(default)]
    node_labels: BTreeSet<String>,
    #[serde(default)]
    workload: bool,
    #[serde(default)]
    qos_class: bool,
    #[serde(default)]
    priority_class: bool,
}

impl From<FilePolicy> for Policy {
    fn from(policy: FilePolicy) -> Self {
        let content = PolicyContent {
            priority: policy.priority,
            // An empty selector counts as absent.
            namespace_selector: policy.namespace_selector.filter(|s| !s.is_empty()),
            pod_selector: policy.pod_selector.filter(|s| !s.requirements.is_empty()),
            collectors: policy.collectors,
            metrics: policy.metrics,
            labels: AddedLabels {
                pod_labels: policy.pod_labels,
                pod_annotations: policy.pod_annotations,
                namespace_labels: policy.namespace_labels,
                node_labels: policy.node_labels,
                workload: policy.workload,
                qos_class: policy.qos_class,
                priority_class: policy.priority_class,
            },
        };
        Policy::new(policy.name, policy.created, content)
    }
}
