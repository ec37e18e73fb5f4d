//! What decides what the nodes are told: the objects of the API server, reduced to what is read of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crds::EMERGENCY;
use k8s_openapi::api::core::v1::Node as KubeNode;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::DynamicObject;
use protocol::NodeFacts;
use serde_json::Value;

/// The labels of an object.
pub type Labels = BTreeMap<String, String>;

/// The namespace whose UID stands for the cluster.
pub const CLUSTER_NAMESPACE: &str = "kube-system";

/// Everything that decides what the nodes are told, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct World {
    /// The policies, valid or not.
    pub policies: BTreeMap<String, Arc<StoredPolicy>>,
    /// The nodes.
    pub nodes: BTreeMap<String, Arc<Node>>,
    /// The namespaces.
    pub namespaces: BTreeMap<String, Arc<Namespace>>,
    /// Whether every node is in emergency: what a flag says, not the API server.
    pub emergency: bool,
}

/// A policy as it is stored: nothing is known of its spec but that it is JSON.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StoredPolicy {
    /// The object's name.
    pub name: String,
    /// Tells it from another object of the same name.
    pub uid: String,
    /// Seconds since the epoch.
    pub created: i64,
    /// Grows with each change of the spec.
    pub generation: i64,
    /// Grows with each change of the object; 0 where it is not a number.
    pub resource_version: u64,
    /// What the user wrote.
    pub spec: Value,
    /// What was last reported.
    pub status: Value,
}

/// A node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    /// Tells it from another one of the same name.
    pub uid: String,
    /// For node selectors.
    pub labels: Labels,
    /// What its agent is told about it.
    pub facts: NodeFacts,
    /// Whether it is in emergency by itself.
    pub emergency: bool,
}

/// A namespace.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Namespace {
    /// For namespace selectors.
    pub labels: Labels,
    /// Tells it from another one of the same name.
    pub uid: String,
}

impl World {
    /// Which cluster this is; empty as long as it is not known.
    pub fn cluster(&self) -> &str {
        self.namespaces.get(CLUSTER_NAMESPACE).map_or("", |n| &n.uid)
    }
}

impl From<DynamicObject> for StoredPolicy {
    fn from(mut object: DynamicObject) -> Self {
        let metadata = object.metadata;
        StoredPolicy {
            name: metadata.name.unwrap_or_default(),
            uid: metadata.uid.unwrap_or_default(),
            created: metadata.creation_timestamp.map_or(0, |t| t.0.as_second()),
            generation: metadata.generation.unwrap_or_default(),
            resource_version: metadata.resource_version.and_then(|v| v.parse().ok()).unwrap_or_default(),
            spec: object.data["spec"].take(),
            status: object.data["status"].take(),
        }
    }
}

impl From<KubeNode> for Node {
    fn from(node: KubeNode) -> Self {
        let info = node.status.and_then(|s| s.node_info).unwrap_or_default();
        Node {
            uid: node.metadata.uid.unwrap_or_default(),
            facts: NodeFacts {
                name: node.metadata.name.unwrap_or_default(),
                system_uuid: info.system_uuid,
                machine_id: info.machine_id,
                boot_id: info.boot_id,
                // Of its labels only those that policies ask for are facts, so they are chosen when these are known.
                labels: Labels::new(),
            },
            labels: node.metadata.labels.unwrap_or_default(),
            emergency: node
                .metadata
                .annotations
                .is_some_and(|a| a.get(EMERGENCY).is_some_and(|v| v == "true")),
        }
    }
}

impl From<ObjectMeta> for Namespace {
    fn from(metadata: ObjectMeta) -> Self {
        Namespace { labels: metadata.labels.unwrap_or_default(), uid: metadata.uid.unwrap_or_default() }
    }
}
