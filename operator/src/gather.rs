//! Watches policies, nodes and namespaces, and keeps what they make up: the world.

pub(crate) mod table;

use std::sync::Arc;

use crds::ExporterPolicy;
use k8s_openapi::api::core::v1::{Namespace as KubeNamespace, Node as KubeNode};
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::Config;
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::table::{Kept, Table, keep};
use crate::telemetry::Telemetry;
use crate::world::{CLUSTER_NAMESPACE, Namespace, Node, StoredPolicy, World};

/// The world as it is now, and word of each change that matters.
#[derive(Clone, Debug)]
pub struct Gathered {
    tables: watch::Receiver<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    policies: Table<StoredPolicy>,
    nodes: Table<Node>,
    namespaces: Table<Namespace>,
}

impl Gathered {
    /// Starts the watches. They end with the tasks.
    pub fn start(client: &Client, telemetry: &Telemetry, tasks: &mut JoinSet<()>) -> Self {
        let (sender, tables) = watch::channel(Tables::default());
        let sender = Arc::new(sender);
        // Untyped, so that one object that cannot be read does not stop the list.
        let policy = ApiResource::erase::<ExporterPolicy>(&());
        tasks.spawn(keep(
            Api::<DynamicObject>::all_with(client.clone(), &policy),
            Kept {
                name: POLICIES,
                such: Config::default(),
                read: StoredPolicy::from,
                table: |t: &mut Tables| &mut t.policies,
            },
            sender.clone(),
            telemetry.clone(),
        ));
        tasks.spawn(keep(
            Api::<KubeNode>::all(client.clone()),
            Kept {
                name: NODES,
                such: Config::default(),
                read: Node::from,
                table: |t: &mut Tables| &mut t.nodes,
            },
            sender.clone(),
            telemetry.clone(),
        ));
        // Of namespaces only the metadata are asked for.
        tasks.spawn(keep(
            Api::<PartialObjectMeta<KubeNamespace>>::all(client.clone()),
            Kept {
                name: NAMESPACES,
                such: Config::default(),
                read: |n| Namespace::from(n.metadata),
                table: |t: &mut Tables| &mut t.namespaces,
            },
            sender,
            telemetry.clone(),
        ));
        Gathered { tables }
    }

    /// The world as the API server has it now.
    pub fn world(&mut self) -> World {
        self.tables.borrow_and_update().world()
    }

    /// The UID of a node that is there.
    pub fn node_uid(&mut self, name: &str) -> Option<String> {
        self.tables.borrow_and_update().nodes.rows.get(name).map(|node| node.uid.clone())
    }

    /// Waits for the next change since [`Self::world`]; false when nothing is watched any more.
    pub async fn changed(&mut self) -> bool {
        self.tables.changed().await.is_ok()
    }

    /// What has not been listed yet, for `/readyz`.
    pub fn missing(&self) -> Vec<&'static str> {
        self.tables.borrow().missing()
    }

    /// Waits until everything has been listed once; false when nothing is watched any more.
    pub async fn complete(&mut self) -> bool {
        self.tables.wait_for(|t| t.missing().is_empty()).await.is_ok()
    }
}

const POLICIES: &str = "exporterpolicies";
const NODES: &str = "nodes";
const NAMESPACES: &str = "namespaces";

impl Tables {
    fn world(&self) -> World {
        World {
            policies: self.policies.rows.clone(),
            nodes: self.nodes.rows.clone(),
            namespaces: self.namespaces.rows.clone(),
            emergency: false,
        }
    }

    fn missing(&self) -> Vec<&'static str> {
        let listed = [
            (self.policies.complete, POLICIES),
            (self.nodes.complete, NODES),
            (self.namespaces.complete, NAMESPACES),
        ];
        let missing = listed.iter().filter(|(complete, _)| !complete).map(|(_, name)| *name);
        // Its UID says which cluster this is.
        match self.namespaces.complete && !self.namespaces.rows.contains_key(CLUSTER_NAMESPACE) {
            true => missing.chain([CLUSTER_NAMESPACE]).collect(),
            false => missing.collect(),
        }
    }
}
