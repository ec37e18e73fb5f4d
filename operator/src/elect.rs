//! Elects one leader among the replicas by a Lease, and says in which term it leads.
//!
//! The rules are those of client-go. The term is the Lease's resource version at the moment it was taken: it grows
//! with each leader of a cluster even where the Lease was deleted in between.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ObjectMeta, PostParams};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::publish::Term;

/// The name of the Lease.
pub const LEASE: &str = "exporter-operator";

/// Another replica takes a Lease that nobody renewed for so long.
const LEASE_DURATION: Duration = Duration::from_secs(15);
/// A leader that could not renew for so long stops to be one, before anyone can take its place.
const RENEW_WITHIN: Duration = Duration::from_secs(10);
/// Between two looks at the Lease.
const RETRY: Duration = Duration::from_secs(2);
/// One request; several fit into [`RENEW_WITHIN`].
const REQUEST_WITHIN: Duration = Duration::from_secs(3);

/// What is to be done about a Lease.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// There is none: make it.
    Create(Lease),
    /// It is free, or its holder is gone: take it.
    Take(Lease),
    /// It is ours.
    Renew(Lease),
    /// Somebody else holds it.
    Wait,
}

/// What was last seen of the Lease, and when by this machine's clock: clocks of machines differ.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    resource_version: Option<String>,
    at: Instant,
}

/// Decides on what was read: pure but for the times that it is given.
pub fn step(
    lease: Option<Lease>,
    me: &str,
    leading: bool,
    seen: &mut Option<Seen>,
    now: Instant,
    wall: Timestamp,
) -> Step {
    let wall = Some(MicroTime(wall));
    let Some(mut lease) = lease else {
        *seen = None;
        let spec = LeaseSpec {
            holder_identity: Some(me.to_owned()),
            lease_duration_seconds: Some(LEASE_DURATION.as_secs() as i32),
            acquire_time: wall.clone(),
            renew_time: wall,
            lease_transitions: Some(0),
            ..LeaseSpec::default()
        };
        let metadata = ObjectMeta { name: Some(LEASE.to_owned()), ..ObjectMeta::default() };
        return Step::Create(Lease { metadata, spec: Some(spec) });
    };
    let resource_version = lease.metadata.resource_version.clone();
    let seen = match seen {
        Some(seen) if seen.resource_version == resource_version => seen,
        _ => seen.insert(Seen { resource_version, at: now }),
    };
    let spec = lease.spec.get_or_insert_default();
    let holder = spec.holder_identity.clone().unwrap_or_default();
    spec.renew_time = wall.clone();
    if holder == me && leading {
        return Step::Renew(lease);
    }
    let duration = spec
        .lease_duration_seconds
        .and_then(|s| s.try_into().ok())
        .map_or(LEASE_DURATION, Duration::from_secs);
    // Ours although we do not lead: from before a restart of the container, which ended that leadership.
    if !holder.is_empty() && holder != me && now < seen.at + duration {
        return Step::Wait;
    }
    spec.holder_identity = Some(me.to_owned());
    spec.lease_duration_seconds = Some(LEASE_DURATION.as_secs() as i32);
    spec.acquire_time = wall;
    spec.lease_transitions = Some(spec.lease_transitions.unwrap_or_default().saturating_add(1));
    Step::Take(lease)
}

/// Takes part in elections until stopped; then gives the Lease up, so that the next leader need not wait.
pub async fn run(
    leases: Api<Lease>,
    me: &str,
    leading: watch::Sender<Option<Term>>,
    stop: CancellationToken,
) {
    let mut seen = None;
    let mut lost_at = None;
    loop {
        let now = Instant::now();
        if lost_at.is_some_and(|at| now >= at) {
            lose(&leading, "the lease could not be renewed in time");
            lost_at = None;
        }
        let within = lost_at.map_or(REQUEST_WITHIN, |at| REQUEST_WITHIN.min(at - now));
        match timeout(within, attempt(&leases, me, lost_at.is_some(), &mut seen)).await {
            Ok(Ok(Held::Taken(term))) => {
                tracing::info!(term, "leading");
                lost_at = Some(now + RENEW_WITHIN);
                leading.send_replace(Some(term));
            }
            Ok(Ok(Held::Renewed)) => lost_at = Some(now + RENEW_WITHIN),
            Ok(Ok(Held::ByAnother)) => {
                lose(&leading, "another replica holds the lease");
                lost_at = None;
            }
            Ok(Err(error)) => tracing::warn!(%error, "cannot take or renew the lease"),
            Err(_) => tracing::warn!("the API server does not answer about the lease"),
        }
        let next = Instant::now() + RETRY;
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep_until(lost_at.map_or(next, |at| next.min(at))) => {}
        }
    }
    if leading.send_replace(None).is_some()
        && let Err(error) = release(&leases, me).await
    {
        tracing::warn!(%error, "cannot give up the lease; it runs out by itself");
    }
}

enum Held {
    Taken(Term),
    Renewed,
    ByAnother,
}

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
enum ElectError {
    #[error("{0}")]
    Api(#[from] Box<kube::Error>),
    #[error("the lease's resource version {0:?} is not a number")]
    ResourceVersion(Option<String>),
}

async fn attempt(
    leases: &Api<Lease>,
    me: &str,
    leading: bool,
    seen: &mut Option<Seen>,
) -> Result<Held, ElectError> {
    let params = PostParams::default();
    loop {
        let lease = leases.get_opt(LEASE).await.map_err(Box::new)?;
        let (taking, answer) = match step(lease, me, leading, seen, Instant::now(), Timestamp::now()) {
            Step::Wait => return Ok(Held::ByAnother),
            Step::Create(lease) => (true, leases.create(&params, &lease).await),
            Step::Take(lease) => (true, leases.replace(LEASE, &params, &lease).await),
            Step::Renew(lease) => (false, leases.replace(LEASE, &params, &lease).await),
        };
        let lease = match answer {
            Ok(lease) => lease,
            // Somebody was quicker: look again at once, because it may have been another replica.
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => continue,
            Err(error) => return Err(Box::new(error).into()),
        };
        if !taking {
            return Ok(Held::Renewed);
        }
        let version = lease.metadata.resource_version;
        return match version.as_ref().and_then(|v| v.parse().ok()) {
            Some(term) => Ok(Held::Taken(term)),
            None => Err(ElectError::ResourceVersion(version)),
        };
    }
}

async fn release(leases: &Api<Lease>, me: &str) -> Result<(), Box<kube::Error>> {
    let Some(mut lease) = leases.get_opt(LEASE).await? else { return Ok(()) };
    let spec = lease.spec.get_or_insert_default();
    if spec.holder_identity.as_deref() == Some(me) {
        spec.holder_identity = None;
        leases.replace(LEASE, &PostParams::default(), &lease).await?;
    }
    Ok(())
}

fn lose(leading: &watch::Sender<Option<Term>>, why: &str) {
    if leading.send_replace(None).is_some() {
        tracing::warn!("no longer leading: {why}");
    }
}
