//! Tells of whoever was not believed: as an Event of the agents' DaemonSet, each thing once a minute.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::{Account, AgentPods, Denied};
use crate::telemetry::Telemetry;

/// What is told.
#[derive(Clone, Debug)]
pub struct Alarm {
    /// Why somebody was not believed.
    pub denied: Denied,
    /// From where he came.
    pub from: Option<IpAddr>,
    /// Which token it was, where the API server said it.
    pub credential: String,
}

/// Where alarms go. They wait for nobody: one too many is counted and lost, and the log has it.
pub type Alarms = mpsc::Sender<Alarm>;

/// The same is not told again before this.
const QUIET: Duration = Duration::from_secs(60);
/// Addresses that are told of within that time for one reason; an attack fills neither memory nor the API server.
const MOST_OF_REASON: usize = 8;
const RECORD_WITHIN: Duration = Duration::from_secs(10);

/// Records until nobody can sound an alarm any more. `identity` is the replica's.
pub async fn sound(
    client: Client,
    account: Account,
    pods: AgentPods,
    identity: String,
    telemetry: Telemetry,
    mut alarms: mpsc::Receiver<Alarm>,
) {
    let reporter = Reporter { controller: crds::FIELD_MANAGER.to_owned(), instance: Some(identity) };
    let mut told: HashMap<(&str, Option<IpAddr>), Instant> = HashMap::new();
    while let Some(alarm) = alarms.recv().await {
        let note = note(&alarm);
        let now = Instant::now();
        told.retain(|_, at| now.duration_since(*at) < QUIET);
        // By what nobody who attacks can vary at will; texts of his do not use up what may be told.
        let key = (alarm.denied.label(), alarm.from);
        let of_reason = told.keys().filter(|(reason, _)| *reason == key.0).count();
        if told.contains_key(&key) || of_reason >= MOST_OF_REASON {
            continue;
        }
        told.insert(key, now);
        let event = Event {
            type_: EventType::Warning,
            reason: "AgentDenied".to_owned(),
            note: Some(note),
            action: "Identify".to_owned(),
            secondary: None,
        };
        let regarding = ObjectReference {
            api_version: Some("apps/v1".to_owned()),
            kind: Some("DaemonSet".to_owned()),
            namespace: Some(account.namespace.clone()),
            name: Some(account.daemon_set.clone()),
            uid: pods.daemon_set(),
            ..ObjectReference::default()
        };
        // A recorder of its own for each: a shared one would count a second event up under the first one's note.
        let recorder = Recorder::new(client.clone(), reporter.clone());
        let outcome = match timeout(RECORD_WITHIN, recorder.publish(&event, &regarding)).await {
            Ok(Ok(())) => "recorded",
            failed => {
                tracing::warn!(?failed, "cannot record an event");
                "failed"
            }
        };
        telemetry.events.with_label_values(&[outcome]).inc();
    }
}

fn note(alarm: &Alarm) -> String {
    let from = alarm.from.map_or_else(|| "somebody".to_owned(), |from| from.to_string());
    let token = match alarm.credential.is_empty() {
        true => String::new(),
        false => format!(" (token {})", alarm.credential),
    };
    format!("{from} was refused as an agent: {}{token}", alarm.denied)
}
