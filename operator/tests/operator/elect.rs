//! Who leads: what is done about each Lease that may be found.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use operator::elect::{Seen, Step, run, step};
use operator::publish::Term;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::api_server::{Asked, Record, client, failure};

struct Replica {
    seen: Option<Seen>,
    start: Instant,
}

impl Replica {
    fn new() -> Self {
        Replica { seen: None, start: Instant::now() }
    }

    /// What replica `me` does at a second about what it finds.
    fn step(&mut self, second: u64, leading: bool, lease: Option<Lease>) -> &'static str {
        let now = self.start + Duration::from_secs(second);
        match step(lease, "me", leading, &mut self.seen, now, Timestamp::UNIX_EPOCH) {
            Step::Create(_) => "create",
            Step::Take(lease) => {
                let spec = lease.spec.unwrap();
                assert_eq!(spec.holder_identity.as_deref(), Some("me"));
                assert!(lease.metadata.resource_version.is_some(), "it is taken only as it was found");
                "take"
            }
            Step::Renew(_) => "renew",
            Step::Wait => "wait",
        }
    }
}

fn held_by(holder: &str, version: &str) -> Option<Lease> {
    let lease = json!({
        "metadata": {"name": "exporter-operator", "resourceVersion": version},
        // A time of long ago: the clock of another machine says nothing.
        "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15, "renewTime": "2000-01-01T00:00:00.000000Z"},
    });
    Some(serde_json::from_value(lease).unwrap())
}

#[test]
fn a_lease_that_is_missing_is_made() {
    assert_eq!(Replica::new().step(0, false, None), "create");
}

#[test]
fn a_lease_that_was_given_up_is_taken_at_once() {
    assert_eq!(Replica::new().step(0, false, held_by("", "1")), "take");
}

#[test]
fn a_lease_is_taken_only_when_nobody_renewed_it_for_its_whole_duration_as_seen_from_here() {
    let mut replica = Replica::new();
    assert_eq!(replica.step(0, false, held_by("other", "1")), "wait");
    assert_eq!(replica.step(14, false, held_by("other", "1")), "wait");
    assert_eq!(replica.step(14, false, held_by("other", "2")), "wait", "it was renewed");
    assert_eq!(replica.step(28, false, held_by("other", "2")), "wait");
    assert_eq!(replica.step(29, false, held_by("other", "2")), "take");
}

#[test]
fn a_leader_renews_and_one_that_was_replaced_waits() {
    let mut replica = Replica::new();
    assert_eq!(replica.step(0, true, held_by("me", "1")), "renew");
    assert_eq!(replica.step(2, true, held_by("other", "9")), "wait");
}

#[test]
fn after_a_restart_of_the_container_the_own_lease_is_taken_anew_for_a_new_term() {
    assert_eq!(Replica::new().step(0, false, held_by("me", "1")), "take");
}

#[test]
fn a_lease_that_is_deleted_while_leading_is_made_again_for_a_new_term() {
    let mut replica = Replica::new();
    assert_eq!(replica.step(0, true, held_by("me", "1")), "renew");
    assert_eq!(replica.step(2, true, None), "create");
}

/// An API server that keeps one Lease, and can be cut off.
fn keeps_a_lease(cut_off: Arc<AtomicBool>) -> impl FnMut(&Asked) -> (u16, Value) + Send + 'static {
    let (mut lease, mut version) = (None::<Value>, 41);
    move |asked| {
        if cut_off.load(Ordering::Relaxed) {
            return failure(503, "ServiceUnavailable");
        }
        match (asked.method.as_str(), &lease) {
            ("GET", None) => failure(404, "NotFound"),
            ("GET", Some(lease)) => (200, lease.clone()),
            ("PUT", Some(lease))
                if lease["metadata"]["resourceVersion"] != asked.body["metadata"]["resourceVersion"] =>
            {
                failure(409, "Conflict")
            }
            _ => {
                version += 1;
                let stored = lease.insert(asked.body.clone());
                stored["metadata"]["resourceVersion"] = json!(version.to_string());
                (200, stored.clone())
            }
        }
    }
}

struct Election {
    leading: watch::Receiver<Option<Term>>,
    stop: CancellationToken,
    cut_off: Arc<AtomicBool>,
    record: Record,
}

impl Election {
    fn start() -> Self {
        let cut_off = Arc::new(AtomicBool::new(false));
        let (client, record) = client(keeps_a_lease(cut_off.clone()));
        let (elected, leading) = watch::channel(None);
        let stop = CancellationToken::new();
        let until = stop.clone();
        tokio::spawn(async move { run(Api::default_namespaced(client), "me", elected, until).await });
        Election { leading, stop, cut_off, record }
    }
}

#[tokio::test(start_paused = true)]
async fn the_term_is_the_version_of_the_lease_when_it_was_taken_and_stays_while_it_is_renewed() {
    let mut election = Election::start();
    assert_eq!(*election.leading.wait_for(Option::is_some).await.unwrap(), Some(42));
    election.record.wait_for(12).await;
    assert_eq!(*election.leading.borrow(), Some(42));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_cannot_renew_stops_before_another_can_take_its_place() {
    let mut election = Election::start();
    election.leading.wait_for(Option::is_some).await.unwrap();
    let renewed = Instant::now();
    election.cut_off.store(true, Ordering::Relaxed);
    election.leading.wait_for(Option::is_none).await.unwrap();
    assert!(renewed.elapsed() <= Duration::from_secs(10), "{:?}", renewed.elapsed());
    election.cut_off.store(false, Ordering::Relaxed);
    let term = *election.leading.wait_for(Option::is_some).await.unwrap();
    assert!(term > Some(42), "a new leadership is a new term: {term:?}");
}

#[tokio::test(start_paused = true)]
async fn who_stops_gives_the_lease_up() {
    let mut election = Election::start();
    election.leading.wait_for(Option::is_some).await.unwrap();
    election.stop.cancel();
    election.leading.wait_for(Option::is_none).await.unwrap();
    // Asked, made; asked, given up.
    let last = election.record.wait_for(4).await.pop().unwrap();
    assert_eq!((last.method.as_str(), &last.body["spec"]["holderIdentity"]), ("PUT", &Value::Null));
}
