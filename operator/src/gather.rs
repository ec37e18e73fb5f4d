//! Watches policies, nodes and namespaces, and keeps what they make up: the world.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::pin::pin;
use std::sync::Arc;

use crds::ExporterPolicy;
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Namespace as KubeNamespace, Node as KubeNode};
use kube::api::{Api, ApiResource, DynamicObject};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch_objects};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::JoinSet;

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
            Kept { name: POLICIES, read: StoredPolicy::from, table: |t| &mut t.policies },
            sender.clone(),
            telemetry.clone(),
        ));
        tasks.spawn(keep(
            Api::<KubeNode>::all(client.clone()),
            Kept { name: NODES, read: Node::from, table: |t| &mut t.nodes },
            sender.clone(),
            telemetry.clone(),
        ));
        // Of namespaces only the metadata are asked for.
        tasks.spawn(keep(
            Api::<PartialObjectMeta<KubeNamespace>>::all(client.clone()),
            Kept { name: NAMESPACES, read: |n| Namespace::from(n.metadata), table: |t| &mut t.namespaces },
            sender,
            telemetry.clone(),
        ));
        Gathered { tables }
    }

    /// The world as the API server has it now.
    pub fn world(&mut self) -> World {
        self.tables.borrow_and_update().world()
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

/// The objects of one kind, by name, reduced to what is read of them.
#[derive(Debug)]
struct Table<T> {
    rows: BTreeMap<String, Arc<T>>,
    /// Whether they have been listed once.
    complete: bool,
    /// A list that has not come to its end.
    listing: BTreeMap<String, Arc<T>>,
}

impl<T: PartialEq> Table<T> {
    /// Takes an event and says whether a row changed by it; a node's heartbeat changes none.
    fn take(&mut self, event: Event<(String, T)>) -> bool {
        match event {
            Event::Init => {
                self.listing.clear();
                false
            }
            Event::InitApply((name, row)) => {
                self.listing.insert(name, Arc::new(row));
                false
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut self.listing);
                let changed = self.rows != listed || !self.complete;
                (self.rows, self.complete) = (listed, true);
                changed
            }
            Event::Apply((name, row)) => {
                let changed = self.rows.get(&name).is_none_or(|known| **known != row);
                self.rows.insert(name, Arc::new(row));
                changed
            }
            Event::Delete((name, _)) => self.rows.remove(&name).is_some(),
        }
    }
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Table { rows: BTreeMap::new(), complete: false, listing: BTreeMap::new() }
    }
}

/// How objects of one kind become rows of one table.
struct Kept<K, T> {
    name: &'static str,
    read: fn(K) -> T,
    table: fn(&mut Tables) -> &mut Table<T>,
}

async fn keep<K, T>(api: Api<K>, kept: Kept<K, T>, tables: Arc<watch::Sender<Tables>>, telemetry: Telemetry)
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    T: PartialEq + Send,
{
    let row = |object: K| (object.name_any(), (kept.read)(object));
    let mut events = pin!(watch_objects(api, watcher::Config::default()).default_backoff());
    while let Some(event) = events.next().await {
        let event = match event {
            Ok(Event::Init) => Event::Init,
            Ok(Event::InitApply(object)) => Event::InitApply(row(object)),
            Ok(Event::InitDone) => Event::InitDone,
            Ok(Event::Apply(object)) => Event::Apply(row(object)),
            Ok(Event::Delete(object)) => Event::Delete(row(object)),
            Err(error) => {
                telemetry.watch_errors.with_label_values(&[kept.name]).inc();
                tracing::warn!(resource = kept.name, %error, "cannot watch; trying again");
                continue;
            }
        };
        tables.send_if_modified(|tables| (kept.table)(tables).take(event));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(table: &Table<u8>) -> Vec<(&str, u8)> {
        table.rows.iter().map(|(name, row)| (name.as_str(), **row)).collect()
    }

    #[test]
    fn a_list_counts_when_it_has_come_to_its_end() {
        let mut table = Table::default();
        assert!(!table.take(Event::Init));
        assert!(!table.take(Event::InitApply(("a".into(), 1))));
        assert!(!table.complete && table.rows.is_empty());
        assert!(table.take(Event::InitDone));
        assert_eq!(rows(&table), [("a", 1)]);
    }

    #[test]
    fn what_a_new_list_lacks_is_gone_and_an_equal_list_is_no_change() {
        let mut table = Table::default();
        let mut list = |names: &[&str]| {
            table.take(Event::Init);
            names.iter().for_each(|name| _ = table.take(Event::InitApply(((*name).into(), 1))));
            (table.take(Event::InitDone), rows(&table).len())
        };
        assert_eq!(list(&["a", "b"]), (true, 2));
        assert_eq!(list(&["a", "b"]), (false, 2));
        assert_eq!(list(&["b"]), (true, 1));
    }

    #[test]
    fn an_update_that_leaves_the_row_as_it_is_is_no_change() {
        let mut table = Table::default();
        assert!(table.take(Event::Apply(("a".into(), 1))));
        assert!(!table.take(Event::Apply(("a".into(), 1))));
        assert!(table.take(Event::Apply(("a".into(), 2))));
        assert!(table.take(Event::Delete(("a".into(), 2))));
        assert!(!table.take(Event::Delete(("a".into(), 2))));
    }
}
