//! Watches the agents' pods and their DaemonSet: who lives now.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::Api;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::Config;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Account;
use crate::gather::table::{Kept, Table, keep};
use crate::telemetry::Telemetry;

/// A pod under the agents' service account.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AgentPod {
    /// Tells it from another pod of the same name.
    pub uid: String,
    /// Where it runs; empty as long as that is not decided.
    pub node: String,
    /// Whether it is being deleted.
    pub is_ending: bool,
    /// UID of what made it and looks after it.
    pub controller: Option<String>,
    /// In seconds since the epoch.
    pub created: i64,
    /// Where it is reached.
    pub addresses: Vec<IpAddr>,
}

/// Who lives now, and word of each change.
#[derive(Clone, Debug)]
pub struct AgentPods {
    tables: watch::Receiver<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    pods: Table<AgentPod>,
    /// By name; there is one at most.
    daemon_sets: Table<String>,
}

impl AgentPods {
    /// Starts the watches. They end with the tasks.
    pub fn start(client: &Client, account: &Account, telemetry: &Telemetry, tasks: &mut JoinSet<()>) -> Self {
        let (sender, tables) = watch::channel(Tables::default());
        let sender = Arc::new(sender);
        let of_account = format!("spec.serviceAccountName={}", account.service_account);
        tasks.spawn(keep(
            Api::<Pod>::namespaced(client.clone(), &account.namespace),
            Kept {
                name: "pods",
                such: Config::default().fields(&of_account),
                read: AgentPod::from,
                table: |t: &mut Tables| &mut t.pods,
            },
            sender.clone(),
            telemetry.clone(),
        ));
        let of_name = format!("metadata.name={}", account.daemon_set);
        tasks.spawn(keep(
            Api::<PartialObjectMeta<DaemonSet>>::namespaced(client.clone(), &account.namespace),
            Kept {
                name: "daemonsets",
                such: Config::default().fields(&of_name),
                read: |it| it.metadata.uid.unwrap_or_default(),
                table: |t: &mut Tables| &mut t.daemon_sets,
            },
            sender,
            telemetry.clone(),
        ));
        AgentPods { tables }
    }

    /// A pod by its name, and the UID of the agents' DaemonSet.
    pub fn find(&mut self, pod: &str) -> (Option<Arc<AgentPod>>, Option<String>) {
        let tables = self.tables.borrow_and_update();
        (tables.pods.rows.get(pod).cloned(), tables.daemon_set())
    }

    /// UID of the agents' DaemonSet, where there is one.
    pub fn daemon_set(&self) -> Option<String> {
        self.tables.borrow().daemon_set()
    }

    /// The pods under the agents' service account, by name.
    pub fn all(&mut self) -> BTreeMap<String, Arc<AgentPod>> {
        self.tables.borrow_and_update().pods.rows.clone()
    }

    /// Waits for the next change since they were last looked at; false when nothing is watched any more.
    pub async fn changed(&mut self) -> bool {
        self.tables.changed().await.is_ok()
    }

    /// Waits until everything has been listed once; false when nothing is watched any more.
    pub async fn complete(&mut self) -> bool {
        self.tables.wait_for(|t| t.pods.complete && t.daemon_sets.complete).await.is_ok()
    }
}

impl Tables {
    fn daemon_set(&self) -> Option<String> {
        self.daemon_sets.rows.values().next().map(|uid| uid.to_string())
    }
}

impl From<Pod> for AgentPod {
    fn from(pod: Pod) -> Self {
        let owners = pod.metadata.owner_references.into_iter().flatten();
        let addresses = pod.status.into_iter().flat_map(|status| status.pod_ips.unwrap_or_default());
        AgentPod {
            uid: pod.metadata.uid.unwrap_or_default(),
            node: pod.spec.and_then(|spec| spec.node_name).unwrap_or_default(),
            is_ending: pod.metadata.deletion_timestamp.is_some(),
            controller: owners.into_iter().find(|it| it.controller == Some(true)).map(|it| it.uid),
            created: pod.metadata.creation_timestamp.map_or(0, |time| time.0.as_second()),
            addresses: addresses.filter_map(|it| it.ip.parse().ok()).collect(),
        }
    }
}
