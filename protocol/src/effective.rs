//! What a set of policies means for one subject: the one place where policies are merged.

use std::collections::BTreeMap;

use regex::{Regex, RegexBuilder};
use serde::Serialize;

use crate::added_labels::AddedLabels;
use crate::profile::Profile;
use crate::snapshot::{Facts, Policy, PolicyContent};

/// What a policy may speak of.
#[derive(Clone, Copy, Debug)]
pub enum Subject<'a> {
    /// The machine and what runs on it outside of pods.
    Node,
    /// One pod.
    Pod {
        /// The pod's namespace.
        namespace: &'a str,
        /// The pod's labels.
        labels: &'a BTreeMap<String, String>,
    },
}

/// What remains for one subject after merging; each part says which policy decided it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Effective {
    /// The policies that speak of the subject, in order of precedence.
    pub policies: Vec<String>,
    /// Collectors that a policy speaks of; they are the node's, so a pod has none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub collectors: BTreeMap<String, CollectorEffective>,
    /// Which families are exposed: the first rule whose pattern matches decides; without one, the family is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub families: Vec<FamilyRule>,
    /// Labels added to the subject's series; the node's have none.
    #[serde(flatten)]
    pub labels: AddedLabels,
}

/// One collector after merging.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CollectorEffective {
    /// On or off; absent: as the agent has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// The policy that switched it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled_by: Option<String>,
    /// The options, all from one policy.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
    /// The policy that gave the options.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub options_by: Option<String>,
}

/// One rule about families.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FamilyRule {
    /// Whether families that match are exposed.
    pub expose: bool,
    /// An anchored regular expression.
    pub pattern: String,
    /// The policy that says so; empty: the emergency does.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub policy: String,
}

/// Merges the policies, which are in order of precedence, for one subject.
///
/// Pure: equal input gives equal output. Rules, by field:
/// - collectors: on or off from the first policy that says so; options whole from the first policy that has any,
///   so that options which exclude each other never come from two policies;
/// - families: by priority per family; within a policy `exclude`, then `include`, then the profile, so that what a
///   policy exposes is its profile and what it includes, less what it excludes;
/// - added labels: the union.
///
/// In emergency the policies only take away: what any of them excludes is gone whatever another includes, of what is
/// left the profile Minimal is exposed, no label is added, and collectors are switched off but not on. Options
/// hold as ever, since filters are among them.
pub fn effective(policies: &[Policy], facts: &Facts, subject: Subject<'_>) -> Effective {
    let mut merged = Effective::default();
    for policy in policies.iter().filter(|p| speaks_of(&p.content, facts, subject)) {
        merged.policies.push(policy.name.clone());
        if matches!(subject, Subject::Node) {
            merge_collectors(&mut merged.collectors, policy, facts.emergency);
        }
        let metrics = &policy.content.metrics;
        let rule = |(expose, pattern)| FamilyRule { expose, pattern, policy: policy.name.clone() };
        let of_profile = metrics.profile.into_iter().flat_map(Profile::rules);
        merged.families.extend(metrics.exclude.iter().map(|p| rule((false, p.clone()))));
        if facts.emergency {
            continue;
        }
        merged.families.extend(metrics.include.iter().map(|p| rule((true, p.clone()))));
        merged.families.extend(of_profile.map(rule));
        merged.labels.merge(&policy.content.labels);
    }
    if facts.emergency {
        let rule = |(expose, pattern)| FamilyRule { expose, pattern, policy: String::new() };
        merged.families.extend(Profile::Minimal.rules().into_iter().map(rule));
    }
    if matches!(subject, Subject::Node) {
        merged.labels = AddedLabels::default();
    }
    merged
}

fn speaks_of(content: &PolicyContent, facts: &Facts, subject: Subject<'_>) -> bool {
    match subject {
        Subject::Node => !content.is_pod_scoped(),
        Subject::Pod { namespace, labels } => {
            let in_namespace = content
                .namespace_selector
                .as_ref()
                .is_none_or(|s| facts.namespaces.get(s).is_some_and(|names| names.contains(namespace)));
            in_namespace && content.pod_selector.as_ref().is_none_or(|s| s.matches(labels))
        }
    }
}

fn merge_collectors(merged: &mut BTreeMap<String, CollectorEffective>, policy: &Policy, is_emergency: bool) {
    for setting in &policy.content.collectors {
        let collector = merged.entry(setting.name.clone()).or_default();
        let enabled = setting.enabled.filter(|on| !(is_emergency && *on));
        if collector.enabled.is_none() && enabled.is_some() {
            collector.enabled = enabled;
            collector.enabled_by = Some(policy.name.clone());
        }
        if collector.options_by.is_none() && !setting.options.is_empty() {
            collector.options = setting.options.clone();
            collector.options_by = Some(policy.name.clone());
        }
    }
}

/// The compiled rules of [`Effective::families`].
#[derive(Clone, Debug, Default)]
pub struct FamilySelector(Vec<(bool, Regex)>);

impl FamilySelector {
    /// Compiles the rules. A checked policy has only patterns that compile; should one not, the other rules still hold.
    pub fn new(rules: &[FamilyRule]) -> Self {
        FamilySelector(
            rules.iter().filter_map(|r| Some((r.expose, Self::pattern(&r.pattern).ok()?))).collect(),
        )
    }

    /// Compiles one pattern, anchored at both ends as Prometheus does, within 256 KiB.
    ///
    /// # Errors
    /// When it is not a regular expression or is too large.
    pub fn pattern(text: &str) -> Result<Regex, regex::Error> {
        // Compiled alone first: `a)|(b` would otherwise pass inside of the group.
        RegexBuilder::new(text).size_limit(256 << 10).build()?;
        RegexBuilder::new(&format!("^(?:{text})$")).size_limit(256 << 10).dfa_size_limit(256 << 10).build()
    }

    /// Whether the family is exposed.
    pub fn exposes(&self, family: &str) -> bool {
        self.0.iter().find(|(_, pattern)| pattern.is_match(family)).is_none_or(|(expose, _)| *expose)
    }
}
