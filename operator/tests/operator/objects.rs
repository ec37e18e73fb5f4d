//! Kubernetes objects from their YAML, through the same reduction that the watches use.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node as KubeNode;
use kube::core::{DynamicObject, PartialObjectMeta};
use operator::compile::Judged;
use operator::validate::validate;
use operator::world::{Node, StoredPolicy, World};
use serde::Deserialize;
use serde_json::{Value, json};

/// A world as a test writes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    policies: Vec<DynamicObject>,
    nodes: Vec<KubeNode>,
    #[serde(default)]
    namespaces: Vec<PartialObjectMeta>,
    #[serde(default)]
    emergency: bool,
    /// Whose effective result is written down.
    #[serde(default)]
    pub(crate) pods: BTreeMap<String, Pod>,
}

#[derive(Deserialize)]
pub(crate) struct Pod {
    pub(crate) namespace: String,
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
}

impl Case {
    pub(crate) fn read(yaml: &str) -> Self {
        // By way of JSON, as the API server sends it.
        let value: Value = serde_saphyr::from_str(yaml).unwrap();
        serde_json::from_value(value).unwrap()
    }

    pub(crate) fn world(&mut self) -> World {
        let policies = self.policies.drain(..).map(StoredPolicy::from);
        let nodes = self.nodes.drain(..).map(Node::from);
        let namespaces = self.namespaces.drain(..);
        World {
            policies: policies.map(|p| (p.name.clone(), Arc::new(p))).collect(),
            nodes: nodes.map(|n| (n.facts.name.clone(), Arc::new(n))).collect(),
            namespaces: namespaces
                .map(|n| (n.metadata.name.clone().unwrap(), Arc::new(n.metadata.into())))
                .collect(),
            emergency: self.emergency,
        }
    }
}

pub(crate) fn judge(world: &World) -> Judged {
    world.policies.iter().map(|(name, p)| (name.clone(), validate(p).map(Arc::new))).collect()
}

/// A policy as it is stored.
pub(crate) fn stored(name: &str, spec: Value) -> StoredPolicy {
    let object: DynamicObject = serde_json::from_value(json!({
        "apiVersion": "exporter-operator.dev/v1alpha1",
        "kind": "ExporterPolicy",
        "metadata": {
            "name": name, "uid": format!("uid-{name}"), "generation": 1, "resourceVersion": "5",
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": spec,
    }))
    .unwrap();
    object.into()
}
