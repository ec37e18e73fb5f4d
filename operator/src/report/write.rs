//! Writes statuses that differ from what is there, and records events; each policy by itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crds::{ExporterPolicy, ExporterPolicyStatus, FIELD_MANAGER};
use futures::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::{Happening, Outlook, happening, own, status};
use crate::telemetry::Telemetry;
use crate::world::StoredPolicy;

/// What is to be said of each policy, by name.
pub type Outlooks = BTreeMap<String, (Arc<StoredPolicy>, Outlook)>;

/// Writes what the reconciler wants said; the latest wish counts, there is no queue.
pub struct Writer {
    client: Client,
    policies: Api<DynamicObject>,
    reporter: Reporter,
    telemetry: Telemetry,
    /// What was written last, until the watch shows it or something newer.
    written: BTreeMap<String, Written>,
    failed: BTreeMap<String, Failed>,
}

#[derive(Clone)]
struct Written {
    uid: String,
    resource_version: u64,
    status: ExporterPolicyStatus,
}

#[derive(Clone, Copy)]
struct Failed {
    times: u32,
    again: Instant,
}

/// Why a status could not be written.
#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error("{0}")]
    Api(Box<kube::Error>),
    #[error("the API server does not answer")]
    NoAnswer,
}

/// Writes at a time.
const CONCURRENT: usize = 8;
const WRITE_WITHIN: Duration = Duration::from_secs(10);
const SHORTEST_BACKOFF: Duration = Duration::from_secs(1);
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);
/// Bytes of an event's note that the API server takes.
const MAX_NOTE: usize = 1024;

impl Writer {
    /// A writer; `identity` is the replica's, for the events.
    pub fn new(client: Client, identity: &str, telemetry: Telemetry) -> Self {
        let policies = Api::all_with(client.clone(), &ApiResource::erase::<ExporterPolicy>(&()));
        let reporter = Reporter { controller: FIELD_MANAGER.to_owned(), instance: Some(identity.to_owned()) };
        Writer { client, policies, reporter, telemetry, written: BTreeMap::new(), failed: BTreeMap::new() }
    }

    /// Writes until nobody wishes anything any more.
    pub async fn run(mut self, mut wishes: watch::Receiver<Arc<Outlooks>>) {
        loop {
            let wanted = wishes.borrow_and_update().clone();
            self.write(&wanted).await;
            let again = self.failed.values().map(|f| f.again).min();
            tokio::select! {
                changed = wishes.changed() => if changed.is_err() { return },
                () = async { tokio::time::sleep_until(again.unwrap_or_else(Instant::now)).await }, if again.is_some() => {}
            }
        }
    }

    async fn write(&mut self, wanted: &Outlooks) {
        self.written.retain(|name, _| wanted.contains_key(name));
        self.failed.retain(|name, _| wanted.contains_key(name));
        let now = Instant::now();
        let mut writes = Vec::new();
        for (name, (policy, outlook)) in wanted {
            if self.failed.get(name).is_none_or(|failed| failed.again <= now) {
                writes.push(self.write_one(policy, outlook).map(|result| (name.clone(), result)));
            }
        }
        let results: Vec<_> = futures::stream::iter(writes).buffer_unordered(CONCURRENT).collect().await;
        for (name, result) in results {
            match result {
                Ok(None) => _ = self.failed.remove(&name),
                Ok(Some(written)) => {
                    self.failed.remove(&name);
                    self.written.insert(name, written);
                }
                Err(error) => {
                    let times = self.failed.get(&name).map_or(0, |f| f.times) + 1;
                    let wait = SHORTEST_BACKOFF
                        .saturating_mul(1 << times.min(7).saturating_sub(1))
                        .min(LONGEST_BACKOFF);
                    tracing::warn!(policy = name, %error, ?wait, "cannot write the status; trying again");
                    self.failed.insert(name, Failed { times, again: Instant::now() + wait });
                }
            }
        }
    }

    /// Writes one status where it differs, and says what was written.
    async fn write_one(
        &self,
        policy: &StoredPolicy,
        outlook: &Outlook,
    ) -> Result<Option<Written>, WriteError> {
        let current = self.current(policy);
        let wanted = status(outlook, policy.generation, current.as_ref(), Timestamp::now());
        if current.as_ref() == Some(&wanted) {
            return Ok(None);
        }
        // With the UID, so that another policy of the same name is not told this one's state.
        let patch = json!({
            "apiVersion": ExporterPolicy::api_version(&()),
            "kind": ExporterPolicy::kind(&()),
            "metadata": {"name": policy.name, "uid": policy.uid},
            "status": wanted,
        });
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let patch = Patch::Apply(patch);
        let answer = self.policies.patch_status(&policy.name, &params, &patch);
        let answer = match timeout(WRITE_WITHIN, answer).await {
            Ok(Ok(answer)) => StoredPolicy::from(answer),
            // Deleted meanwhile: the watch will say so.
            Ok(Err(kube::Error::Api(status))) if status.is_not_found() || status.is_conflict() => {
                return Ok(None);
            }
            Ok(Err(error)) => return Err(self.failed_write(WriteError::Api(Box::new(error)))),
            Err(_) => return Err(self.failed_write(WriteError::NoAnswer)),
        };
        self.telemetry.status_writes.with_label_values(&["written"]).inc();
        if let Some(happening) = happening(current.as_ref(), &wanted) {
            self.record(policy, happening).await;
        }
        let resource_version = answer.resource_version;
        Ok(Some(Written { uid: policy.uid.clone(), resource_version, status: wanted }))
    }

    fn failed_write(&self, error: WriteError) -> WriteError {
        self.telemetry.status_writes.with_label_values(&["failed"]).inc();
        error
    }

    /// The status that is there: what the watch shows, or what was written since.
    fn current(&self, policy: &StoredPolicy) -> Option<ExporterPolicyStatus> {
        match self.written.get(&policy.name) {
            Some(w) if w.uid == policy.uid && w.resource_version > policy.resource_version => {
                Some(w.status.clone())
            }
            _ => serde_json::from_value(policy.status.clone()).ok().map(own),
        }
    }

    /// Records an event. One that is lost is counted; the condition says the same.
    async fn record(&self, policy: &StoredPolicy, happening: Happening) {
        let reference = ObjectReference {
            api_version: Some(ExporterPolicy::api_version(&()).into_owned()),
            kind: Some(ExporterPolicy::kind(&()).into_owned()),
            name: Some(policy.name.clone()),
            uid: Some(policy.uid.clone()),
            ..ObjectReference::default()
        };
        let fits = |(at, c): &(usize, char)| at + c.len_utf8() <= MAX_NOTE;
        let note = happening.note.char_indices().take_while(fits).map(|(_, c)| c).collect();
        let event = Event {
            type_: if happening.warning { EventType::Warning } else { EventType::Normal },
            reason: happening.reason,
            note: Some(note),
            action: "Validate".to_owned(),
            secondary: None,
        };
        // A recorder of its own for each: a shared one would count a second event up under the first one's note.
        let recorder = Recorder::new(self.client.clone(), self.reporter.clone());
        let outcome = match timeout(WRITE_WITHIN, recorder.publish(&event, &reference)).await {
            Ok(Ok(())) => "recorded",
            failed => {
                tracing::warn!(policy = policy.name, ?failed, "cannot record an event");
                "failed"
            }
        };
        self.telemetry.events.with_label_values(&[outcome]).inc();
    }
}
