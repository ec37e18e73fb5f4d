//! From a stored policy to one that can only be right, or to the reason why not.
//!
//! The API server has checked most of this by the schema, but a stored object may be older than a rule, and a regular
//! expression it cannot check at all. What is wrong with one policy says nothing about the others.

mod selector;

use crds::{ExporterPolicySpec, Reason};
use protocol::{AddedLabels, FamilySelector, LabelSelector, MetricSelection, Policy, PolicyContent, Profile};
use serde::Serialize;

use crate::world::StoredPolicy;

pub use selector::canonical_text;

/// Why a policy means nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{field}: {message}")]
pub struct Rejection {
    /// Path of the field, as a user writes it, with `spec`.
    pub field: String,
    /// Becomes the reason of the condition, and a metric's label.
    pub reason: Reason,
    /// A sentence for the person who wrote the policy.
    pub message: String,
}

/// A policy that was checked; only [`validate`] makes one.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidPolicy {
    policy: Policy,
    nodes: Option<LabelSelector>,
    namespaces: Option<LabelSelector>,
}

impl ValidPolicy {
    /// The policy as agents are told.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Which nodes it is for; absent: every node.
    pub fn node_selector(&self) -> Option<&LabelSelector> {
        self.nodes.as_ref()
    }

    /// Which namespaces it is for; absent: every namespace, and the node.
    pub fn namespace_selector(&self) -> Option<&LabelSelector> {
        self.namespaces.as_ref()
    }
}

/// Checks everything that a policy holds.
///
/// # Errors
/// The first thing that is wrong.
pub fn validate(stored: &StoredPolicy) -> Result<ValidPolicy, Rejection> {
    let spec: ExporterPolicySpec = serde_json::from_value(stored.spec.clone()).map_err(|error| {
        reject("spec", Reason::Unreadable, format!("cannot be read as an ExporterPolicy: {error}"))
    })?;
    if !(crds::MIN_PRIORITY..=crds::MAX_PRIORITY).contains(&spec.priority) {
        let range = format!("must be from {} to {}", crds::MIN_PRIORITY, crds::MAX_PRIORITY);
        return Err(reject("spec.priority", Reason::OutOfBounds, range));
    }
    let nodes = selector::selector("spec.nodeSelector", &spec.node_selector)?;
    let namespaces = selector::selector("spec.namespaceSelector", &spec.namespace_selector)?;
    let pods = selector::selector("spec.podSelector", &spec.pod_selector)?;
    for (name, given) in [("namespaceSelector", &namespaces), ("podSelector", &pods)] {
        if given.is_some() && !spec.collectors.is_empty() {
            let message = format!("may not be set together with {name}: a collector runs for the whole node");
            return Err(reject("spec.collectors", Reason::ScopeConflict, message));
        }
    }
    let content = PolicyContent {
        priority: spec.priority,
        namespace_selector: namespaces.as_ref().map(canonical_text),
        pod_selector: pods,
        collectors: collectors(spec.collectors)?,
        metrics: MetricSelection {
            profile: spec.metrics.profile.map(profile),
            include: patterns("spec.metrics.include", spec.metrics.include)?,
            exclude: patterns("spec.metrics.exclude", spec.metrics.exclude)?,
        },
        labels: added_labels(spec.labels)?,
    };
    Ok(ValidPolicy { policy: Policy::new(&stored.name, stored.created, content), nodes, namespaces })
}

fn collectors(settings: Vec<crds::Collector>) -> Result<Vec<protocol::CollectorSetting>, Rejection> {
    let field = "spec.collectors";
    at_most(field, settings.len(), crds::MAX_COLLECTORS, "collectors")?;
    for (i, setting) in settings.iter().enumerate() {
        let (name, options) = (&setting.name, format!("{field}[{i}].options"));
        if !is_collector_name(name) {
            let message = "must be a lower-case letter and then lower-case letters, digits and _";
            return Err(reject(format!("{field}[{i}].name"), Reason::InvalidCollector, message));
        }
        if settings[..i].iter().any(|earlier| earlier.name == *name) {
            let message = format!("{name} is listed twice");
            return Err(reject(format!("{field}[{i}].name"), Reason::InvalidCollector, message));
        }
        at_most(&options, setting.options.len(), crds::MAX_OPTIONS, "options")?;
        for (key, value) in &setting.options {
            at_most(&options, key.chars().count(), crds::MAX_OPTION_KEY, "characters in a key")?;
            let value_field = format!("{options}.{key}");
            at_most(&value_field, value.chars().count(), crds::MAX_OPTION_VALUE, "characters")?;
        }
    }
    Ok(settings
        .into_iter()
        .map(|s| protocol::CollectorSetting { name: s.name, enabled: s.enabled, options: s.options })
        .collect())
}

fn profile(profile: crds::Profile) -> Profile {
    match profile {
        crds::Profile::Full => Profile::Full,
        crds::Profile::Dashboards => Profile::Dashboards,
        crds::Profile::Minimal => Profile::Minimal,
    }
}

fn patterns(field: &str, patterns: Vec<String>) -> Result<Vec<String>, Rejection> {
    at_most(field, patterns.len(), crds::MAX_PATTERNS, "patterns")?;
    for (i, pattern) in patterns.iter().enumerate() {
        let field = format!("{field}[{i}]");
        at_most(&field, pattern.chars().count(), crds::MAX_PATTERN, "characters")?;
        if pattern.is_empty() {
            return Err(reject(field, Reason::InvalidPattern, "must not be empty"));
        }
        FamilySelector::pattern(pattern).map_err(|error| {
            // The library draws the pattern with a mark under the place; its last line says what is wrong.
            let text = error.to_string();
            let what = text.lines().last().unwrap_or_default().trim().trim_start_matches("error: ");
            let message = format!("`{pattern}` is not a regular expression that can be used: {what}");
            reject(field, Reason::InvalidPattern, message)
        })?;
    }
    Ok(patterns)
}

fn added_labels(labels: crds::Labels) -> Result<AddedLabels, Rejection> {
    for (list, keys) in [
        ("podLabels", &labels.pod_labels),
        ("podAnnotations", &labels.pod_annotations),
        ("namespaceLabels", &labels.namespace_labels),
        ("nodeLabels", &labels.node_labels),
    ] {
        let field = format!("spec.labels.{list}");
        at_most(&field, keys.len(), crds::MAX_ADDED_LABELS, "keys")?;
        if let Some(key) = keys.iter().find(|key| !selector::is_label_key(key)) {
            let what = if list == "podAnnotations" { "an annotation" } else { "a label" };
            return Err(reject(field, Reason::InvalidLabel, format!("`{key}` is not the key of {what}")));
        }
    }
    Ok(AddedLabels {
        pod_labels: labels.pod_labels,
        pod_annotations: labels.pod_annotations,
        namespace_labels: labels.namespace_labels,
        node_labels: labels.node_labels,
        workload: labels.workload,
        qos_class: labels.qos_class,
        priority_class: labels.priority_class,
    })
}

fn is_collector_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    name.len() <= crds::MAX_COLLECTOR_NAME
        && bytes.next().is_some_and(|b| b.is_ascii_lowercase())
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

fn at_most(field: &str, count: usize, bound: usize, what: &str) -> Result<(), Rejection> {
    match count <= bound {
        true => Ok(()),
        false => {
            Err(reject(field, Reason::OutOfBounds, format!("has {count} {what}, of at most {bound} allowed")))
        }
    }
}

fn reject(field: impl Into<String>, reason: Reason, message: impl Into<String>) -> Rejection {
    Rejection { field: field.into(), reason, message: message.into() }
}
