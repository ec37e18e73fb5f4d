//! The operator's own logs and metrics.

use std::io::IsTerminal;
use std::time::SystemTime;

use crds::Reason;
use prometheus::{Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts};
use prometheus::{Registry, TextEncoder};
use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

use crate::publish::Refused;

/// The operator's metrics. Every label's values are a fixed set; a message never becomes one.
#[derive(Clone, Debug)]
pub struct Telemetry {
    registry: Registry,
    build: IntGaugeVec,
    /// Passes over the whole world.
    pub reconciles: IntCounter,
    /// What a pass took.
    pub reconcile_seconds: Histogram,
    /// Agents with a stream.
    pub connected_agents: IntGauge,
    /// Nodes in emergency.
    pub emergency_nodes: IntGauge,
    /// Snapshots handed to agents.
    pub snapshots_published: IntCounter,
    /// Streams that were refused, by reason.
    pub streams_refused: IntCounterVec,
    /// Policies by condition and its status.
    policies: IntGaugeVec,
    /// Policies that are not accepted, by the operator's reason; whatever agents say is RejectedByAgent.
    policies_rejected: IntGaugeVec,
    /// Statuses written, by outcome.
    pub status_writes: IntCounterVec,
    /// Events recorded, by outcome.
    pub events: IntCounterVec,
    /// Failures of the watches, by resource.
    pub watch_errors: IntCounterVec,
    /// Whether this replica leads.
    pub leader: IntGauge,
    /// Looks at the certificates that failed.
    pub certificate_failures: IntCounter,
    certificate_ends: IntGaugeVec,
}

/// Of how many policies a condition has which status.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// `Accepted` is True.
    pub accepted: i64,
    /// `Accepted` is False.
    pub rejected: i64,
    /// `Programmed` is True.
    pub programmed: i64,
    /// `Programmed` is False.
    pub pending: i64,
    /// `Degraded` is True.
    pub degraded: i64,
}

impl Telemetry {
    /// Registers every metric.
    ///
    /// # Errors
    /// When a name is not valid or is taken: a mistake in this file.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let counter = |name: &str, help: &str| {
            let metric = IntCounter::new(format!("exporter_operator_{name}"), help)?;
            registry.register(Box::new(metric.clone())).map(|()| metric)
        };
        let gauge = |name: &str, help: &str| {
            let metric = IntGauge::new(format!("exporter_operator_{name}"), help)?;
            registry.register(Box::new(metric.clone())).map(|()| metric)
        };
        // With every value from the start: a rate needs a zero to begin at.
        let counters = |name: &str, help: &str, label: &str, values: &[&str]| {
            let metric = IntCounterVec::new(Opts::new(format!("exporter_operator_{name}"), help), &[label])?;
            values.iter().for_each(|value| metric.with_label_values(&[*value]).inc_by(0));
            registry.register(Box::new(metric.clone())).map(|()| metric)
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            let metric = IntGaugeVec::new(Opts::new(format!("exporter_operator_{name}"), help), labels)?;
            registry.register(Box::new(metric.clone())).map(|()| metric)
        };
        let reconcile_seconds = Histogram::with_opts(
            HistogramOpts::new(
                "exporter_operator_reconcile_duration_seconds",
                "What a pass over the whole world took, without the writing of statuses.",
            )
            .buckets(prometheus::exponential_buckets(0.0005, 4.0, 8)?),
        )?;
        registry.register(Box::new(reconcile_seconds.clone()))?;
        Ok(Telemetry {
            build: gauges("build_info", "Which build this is.", &["version", "revision"])?,
            reconciles: counter("reconciles_total", "Passes over the whole world.")?,
            connected_agents: gauge("connected_agents", "Agents that have a stream to this replica.")?,
            emergency_nodes: gauge(
                "emergency_nodes",
                "Nodes that are told to expose the machine and the profile Minimal alone.",
            )?,
            snapshots_published: counter("snapshots_published_total", "Snapshots handed to agents.")?,
            streams_refused: counters(
                "streams_refused_total",
                "Streams of agents that were refused or ended by this replica.",
                "reason",
                &Refused::labels(),
            )?,
            policies: gauges("policies", "Policies by condition and its status.", &["condition", "status"])?,
            policies_rejected: gauges(
                "policies_rejected",
                "Policies that are not accepted, by reason.",
                &["reason"],
            )?,
            status_writes: counters(
                "status_writes_total",
                "Statuses of policies written.",
                "outcome",
                &["written", "failed"],
            )?,
            events: counters("events_total", "Events recorded.", "outcome", &["recorded", "failed"])?,
            watch_errors: counters(
                "watch_errors_total",
                "Failures of watches.",
                "resource",
                &["exporterpolicies", "nodes", "namespaces", "pods", "daemonsets"],
            )?,
            certificate_failures: counter(
                "certificate_failures_total",
                "Times that the certificate for the stream could not be looked after; the one in use stays.",
            )?,
            certificate_ends: gauges(
                "certificate_not_after_timestamp_seconds",
                "When the certificate for the stream, and the authority that signs it, end.",
                &["certificate"],
            )?,
            leader: gauge("leader", "1 where this replica leads, 0 elsewhere.")?,
            reconcile_seconds,
            registry,
        })
    }

    /// Says when a certificate ends.
    pub fn certificate_ends(&self, certificate: &str, at: SystemTime) {
        let seconds = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
        self.certificate_ends.with_label_values(&[certificate]).set(seconds);
    }

    /// Says which commit this is built from.
    pub fn set_revision(&self, revision: &str) {
        self.build.with_label_values(&[env!("CARGO_PKG_VERSION"), revision]).set(1);
    }

    /// Says how many policies are in which state.
    pub fn count_policies(&self, tally: Tally, rejected: impl Iterator<Item = Reason>) {
        use crds::ConditionType::{Accepted, Degraded, Programmed};
        for (condition, status, count) in [
            (Accepted, "True", tally.accepted),
            (Accepted, "False", tally.rejected),
            (Programmed, "True", tally.programmed),
            (Programmed, "False", tally.pending),
            (Degraded, "True", tally.degraded),
        ] {
            self.policies.with_label_values(&[condition.as_str(), status]).set(count);
        }
        // A reason that no policy has any more is not remembered.
        self.policies_rejected.reset();
        for reason in rejected {
            self.policies_rejected.with_label_values(&[reason.as_str()]).inc();
        }
    }

    /// The exposition.
    pub fn text(&self) -> Vec<u8> {
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "cannot write the metrics");
        }
        text
    }
}

/// Writes logs to standard error: the operator's own from this level on, those of libraries from info on at most.
pub fn log_to_stderr(level: Level) {
    let libraries = level.min(Level::INFO);
    let filter = Targets::new().with_default(libraries).with_target("operator", level);
    let ansi = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer().with_ansi(ansi).with_writer(std::io::stderr);
    tracing_subscriber::registry().with(lines.with_filter(filter)).init();
}
