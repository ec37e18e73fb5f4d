//! What policies mean for one node, from files alone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Node as KubeNode;
use kube::core::{DynamicObject, PartialObjectMeta};
use protocol::{Capabilities, Effective, FamilySelector, Finding, Policy, Snapshot, Subject, effective};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::compile::{Judged, compile as compile_world};
use crate::validate::{Rejection, validate};
use crate::world::{Namespace, Node, StoredPolicy, World};

/// What is read.
#[derive(Clone, Debug)]
pub struct Files {
    /// ExporterPolicies.
    pub policies: Vec<PathBuf>,
    /// The Node.
    pub node: PathBuf,
    /// Namespaces.
    pub namespaces: Vec<PathBuf>,
    /// What the agents know; absent: what those of this build know.
    pub agent_capabilities: Option<PathBuf>,
}

/// What the policies mean for the node.
#[derive(Debug, Serialize)]
pub struct Meaning {
    /// Policies that are part of no snapshot, and why.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub rejected: BTreeMap<String, Rejection>,
    /// Policies that do not select the node.
    #[serde(rename = "notSelected", skip_serializing_if = "BTreeSet::is_empty")]
    pub not_selected: BTreeSet<String>,
    /// What an agent would skip.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub warnings: BTreeMap<String, Vec<Finding>>,
    /// What the agent of the node is told; `exporter-agent --config` takes it.
    pub snapshot: Snapshot,
    /// What remains for the node after merging.
    pub effective: Effective,
}

const KIND: &str = "ExporterPolicy";
/// What the agents of the same build know.
const CAPABILITIES: &str = include_str!("../../agent/capabilities.json");

/// Reads the files and says what they mean.
///
/// # Errors
/// When a file cannot be read. A policy that is not valid is part of the answer.
pub fn compile(files: &Files) -> anyhow::Result<Meaning> {
    let mut world = World::default();
    for object in read_all::<DynamicObject>(&files.policies)? {
        let kind = object.types.as_ref().map_or("", |types| types.kind.as_str());
        anyhow::ensure!(
            kind == KIND,
            "an object of kind `{kind}` where policies are expected, which are `{KIND}`"
        );
        let policy = StoredPolicy::from(object);
        anyhow::ensure!(!policy.name.is_empty(), "a policy has no metadata.name");
        let name = policy.name.clone();
        let same = world.policies.insert(name.clone(), Arc::new(policy));
        anyhow::ensure!(same.is_none(), "two policies are called `{name}`");
    }
    for object in read_all::<PartialObjectMeta>(&files.namespaces)? {
        let name = object.metadata.name.clone().unwrap_or_default();
        world.namespaces.insert(name, Arc::new(Namespace::from(object.metadata)));
    }
    let [node] = <[KubeNode; 1]>::try_from(read::<KubeNode>(&files.node)?)
        .map_err(|nodes| anyhow::anyhow!("{} holds {} Nodes, not one", files.node.display(), nodes.len()))?;
    let node = Node::from(node);
    let name = node.facts.name.clone();
    world.nodes.insert(name.clone(), Arc::new(node));

    let judged: Judged =
        world.policies.iter().map(|(name, p)| (name.clone(), validate(p).map(Arc::new))).collect();
    let snapshot = compile_world(&world, &judged).snapshots.remove(&name).unwrap_or_default();
    let capabilities = match &files.agent_capabilities {
        Some(path) => std::fs::read_to_string(path).with_context(|| path.display().to_string())?,
        None => CAPABILITIES.to_owned(),
    };
    let capabilities: Capabilities =
        serde_json::from_str(&capabilities).context("the agents' capabilities")?;
    let selected: BTreeSet<&String> = snapshot.policies.iter().map(|p| &p.name).collect();
    let valid = judged.iter().filter(|(_, result)| result.is_ok()).map(|(name, _)| name);
    Ok(Meaning {
        not_selected: valid.filter(|name| !selected.contains(name)).cloned().collect(),
        rejected: judged
            .iter()
            .filter_map(|(name, r)| Some((name.clone(), r.as_ref().err()?.clone())))
            .collect(),
        warnings: snapshot
            .policies
            .iter()
            .map(|policy| (policy.name.clone(), unknown(policy, &capabilities)))
            .filter(|(_, findings)| !findings.is_empty())
            .collect(),
        effective: effective(&snapshot.policies, &snapshot.facts, Subject::Node),
        snapshot,
    })
}

/// What agents with these capabilities would skip of a policy.
fn unknown(policy: &Policy, capabilities: &Capabilities) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |field: String, reason: &str, message: String| {
        findings.push(Finding { field, reason: reason.to_owned(), message });
    };
    for (i, setting) in policy.content.collectors.iter().enumerate() {
        let Some(collector) = capabilities.0.iter().find(|c| c.name == setting.name) else {
            let message = format!("no agent has the collector `{}`", setting.name);
            find(format!("spec.collectors[{i}].name"), "UnknownCollector", message);
            continue;
        };
        for key in setting.options.keys().filter(|key| !collector.options.contains(key)) {
            let message = format!("the collector `{}` has no option `{key}`", setting.name);
            find(format!("spec.collectors[{i}].options.{key}"), "UnknownOption", message);
        }
    }
    let metrics = &policy.content.metrics;
    for (list, patterns) in [("include", &metrics.include), ("exclude", &metrics.exclude)] {
        for (i, text) in patterns.iter().enumerate() {
            let mut families = capabilities.0.iter().flat_map(|c| &c.families);
            if FamilySelector::pattern(text).is_ok_and(|p| !families.any(|family| p.is_match(family))) {
                let message = format!("`{text}` matches no family that the agents have");
                find(format!("spec.metrics.{list}[{i}]"), "UnknownFamily", message);
            }
        }
    }
    findings
}

fn read_all<T: DeserializeOwned>(paths: &[PathBuf]) -> anyhow::Result<Vec<T>> {
    let mut objects = Vec::new();
    for path in paths {
        objects.extend(read(path)?);
    }
    Ok(objects)
}

/// The objects of a file: one or several documents, or what `kubectl get -o yaml` calls a List.
fn read<T: DeserializeOwned>(path: &Path) -> anyhow::Result<Vec<T>> {
    let place = || path.display().to_string();
    let text = std::fs::read_to_string(path).with_context(place)?;
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text).with_context(place)?;
    let objects = documents.into_iter().filter(|d| !d.is_null()).flat_map(|mut document| {
        match document.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) => items,
            _ => vec![document],
        }
    });
    objects.map(|object| serde_json::from_value(object).with_context(place)).collect()
}
