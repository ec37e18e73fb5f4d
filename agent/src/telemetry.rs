//! The agent's own metrics.

mod exporter;

use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use crate::collector::CollectError;
use crate::source::cgroup::CgroupTree;
use crate::source::kubelet::KubeletError;
use crate::source::network::Networks;
use exporter::Exporter;
pub use exporter::{InFlight, NODE_EXPORTER_VERSION};

/// Everything that the agent says of itself.
pub struct Telemetry {
    registry: Registry,
    exporter: Exporter,
    has_exporter_metrics: bool,
    build: IntGaugeVec,
    collector_success: IntGaugeVec,
    collector_duration: GaugeVec,
    collector_errors: IntCounterVec,
    collector_stuck_threads: IntGaugeVec,
    scrapes: IntCounterVec,
    series: IntGaugeVec,
    refused: IntCounter,
    web_config: IntCounterVec,
    cgroups: IntGauge,
    cgroups_watched: IntGauge,
    handles: IntGauge,
    withheld: IntGauge,
    truncated: IntGauge,
    ended: IntGauge,
    processes: IntGaugeVec,
    process_groups: IntGaugeVec,
    missed_ends: IntCounter,
    kubelet_up: IntGauge,
    kubelet_pods: IntGauge,
    kubelet_errors: IntCounterVec,
    kubelet_stats: IntGaugeVec,
    kubelet_stats_time: GaugeVec,
    operator_connected: IntGauge,
    snapshots: IntCounterVec,
    policies: IntGaugeVec,
    emergency: IntGauge,
    source: IntGaugeVec,
    landlock: IntGauge,
    failed: Mutex<std::collections::HashMap<&'static str, String>>,
}

impl Telemetry {
    /// All at zero.
    ///
    /// # Errors
    /// When two metrics have one name, which a test would find.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let telemetry = Telemetry {
            build: int_gauge_vec(&registry, "build_info", "Which build this is.", &["version", "revision"])?,
            collector_success: int_gauge_vec(
                &registry,
                "collector_success",
                "Whether a collector of containers did all of its work at the last scrape.",
                &["collector"],
            )?,
            collector_duration: register(
                &registry,
                GaugeVec::new(
                    opts(
                        "collector_duration_seconds",
                        "How long a collector of containers took at the last scrape.",
                    ),
                    &["collector"],
                )?,
            )?,
            collector_errors: int_counter_vec(
                &registry,
                "collector_errors_total",
                "Scrapes at which a collector did not do all of its work.",
                &["collector", "reason"],
            )?,
            collector_stuck_threads: int_gauge_vec(
                &registry,
                "collector_stuck_threads",
                "Threads of a collector that wait for something which does not answer.",
                &["collector"],
            )?,
            scrapes: int_counter_vec(&registry, "scrapes_total", "Answers to scrapes.", &["part"])?,
            series: int_gauge_vec(&registry, "series", "Series that the last scrape gathered.", &["part"])?,
            refused: register(
                &registry,
                IntCounter::with_opts(opts("requests_refused_total", "Requests beyond --web.max-requests."))?,
            )?,
            web_config: int_counter_vec(
                &registry,
                "web_config_changes_total",
                "Changes of --web.config.file by what became of them.",
                &["result"],
            )?,
            cgroups: int_gauge(&registry, "cgroups", "Cgroups of the kubelet, and the root.")?,
            cgroups_watched: int_gauge(
                &registry,
                "cgroups_watched",
                "Whether the kernel tells of new cgroups (1) or every directory is read (0).",
            )?,
            handles: int_gauge(
                &registry,
                "kept_handles",
                "Files of cgroups and network namespaces that are kept open.",
            )?,
            withheld: int_gauge(
                &registry,
                "rows_withheld",
                "Cgroups that are not exposed yet: whose they are is unknown.",
            )?,
            truncated: int_gauge(
                &registry,
                "cgroups_truncated",
                "Cgroups that are left out, not counting those below them, because there are too many.",
            )?,
            ended: int_gauge(
                &registry,
                "ended_containers",
                "Containers that are over and whose counters are still exposed.",
            )?,
            processes: int_gauge_vec(
                &registry,
                "processes",
                "Processes at the last scrape of the collector process_groups; absent where it does not run.",
                &[],
            )?,
            process_groups: int_gauge_vec(
                &registry,
                "process_groups",
                "Groups of processes at the last scrape, whole or folded; absent where the collector does not run.",
                &["kind"],
            )?,
            missed_ends: register(
                &registry,
                IntCounter::with_opts(opts(
                    "missed_container_ends_total",
                    "Containers that went before their last figures could be read, where the kernel tells of the end.",
                ))?,
            )?,
            kubelet_up: int_gauge(
                &registry,
                "kubelet_up",
                "Whether the kubelet's last answer could be used.",
            )?,
            kubelet_pods: int_gauge(&registry, "kubelet_pods", "Pods in the kubelet's last answer.")?,
            kubelet_errors: int_counter_vec(
                &registry,
                "kubelet_errors_total",
                "Requests to the kubelet that failed.",
                &["reason"],
            )?,
            kubelet_stats: int_gauge_vec(
                &registry,
                "kubelet_stats_up",
                "Whether the kubelet's last answer about storage could be used; absent while it is not asked.",
                &[],
            )?,
            kubelet_stats_time: register(
                &registry,
                GaugeVec::new(
                    opts(
                        "kubelet_stats_timestamp_seconds",
                        "When the answer about storage came that is exposed, for five minutes at most; absent before.",
                    ),
                    &[],
                )?,
            )?,
            operator_connected: int_gauge(&registry, "operator_connected", "Whether an operator is heard.")?,
            snapshots: int_counter_vec(
                &registry,
                "snapshots_total",
                "Snapshots by what became of them.",
                &["result"],
            )?,
            policies: int_gauge_vec(
                &registry,
                "policies",
                "Policies of the last snapshot by verdict.",
                &["outcome"],
            )?,
            emergency: int_gauge(
                &registry,
                "emergency",
                "Whether the machine and the profile Minimal alone are exposed (1), as the operator says.",
            )?,
            source: int_gauge_vec(
                &registry,
                "config_source_info",
                "Where the configuration in force is from.",
                &["source"],
            )?,
            landlock: int_gauge(
                &registry,
                "landlock_enforced",
                "Whether the kernel keeps this process from files that it does not need (1), wholly or in part.",
            )?,
            failed: Mutex::default(),
            exporter: Exporter::new()?,
            has_exporter_metrics: true,
            registry,
        };
        for result in ["applied", "refused"] {
            telemetry.web_config.with_label_values(&[result]);
        }
        for reason in KubeletError::REASONS {
            telemetry.kubelet_errors.with_label_values(&[reason]);
        }
        Ok(telemetry)
    }

    /// Says which commit this is built from.
    pub fn set_revision(&self, revision: &str) {
        self.build.with_label_values(&[env!("CARGO_PKG_VERSION"), revision]).set(1);
    }

    /// Whether Landlock confines the process.
    pub fn set_landlock(&self, is_enforced: bool) {
        self.landlock.set(is_enforced.into());
    }

    /// As the `prometheus` crate gathers them.
    pub fn gather(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }

    /// What node_exporter says of its build.
    pub fn gather_build(&self) -> Vec<MetricFamily> {
        self.exporter.build()
    }

    /// What node_exporter says of its process and requests; nothing with `--web.disable-exporter-metrics`.
    pub fn gather_exporter(&self) -> Vec<MetricFamily> {
        if self.has_exporter_metrics { self.exporter.own() } else { Vec::new() }
    }

    /// From now on, process and requests are left out.
    pub fn disable_exporter_metrics(&mut self) {
        self.has_exporter_metrics = false;
    }

    /// A request for metrics has come; it is being served until this is dropped.
    pub fn begin_request(&self) -> InFlight {
        self.exporter.begin()
    }

    /// A request for metrics was answered with this status.
    pub fn answered(&self, code: u16) {
        self.exporter.answered(code);
    }

    /// A collector of containers has run.
    pub fn collected(&self, collector: &str, seconds: f64, is_success: bool) {
        self.collector_duration.with_label_values(&[collector]).set(seconds);
        self.collector_success.with_label_values(&[collector]).set(i64::from(is_success));
    }

    /// A collector did all of its work; should it fail again, that is worth a line in the log again.
    pub fn collector_recovered(&self, collector: &str) {
        self.failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(collector);
    }

    /// A collector has not done all of its work; an error is logged once until it changes.
    pub fn collector_failed(&self, collector: &'static str, error: &CollectError) {
        // What a node does not have is no error; it shows as success 0, as with node_exporter.
        if !matches!(error, CollectError::Absent(_)) {
            self.collector_errors.with_label_values(&[collector, error.reason()]).inc();
        }
        let text = error.to_string();
        let mut failed = self.failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if failed.get(collector) != Some(&text) {
            match error {
                CollectError::Absent(_) => tracing::info!(collector, "{text}"),
                _ => tracing::warn!(collector, "{text}"),
            }
            failed.insert(collector, text);
        }
    }

    /// A collector does not run any more.
    pub fn forget_collector(&self, collector: &str) {
        // There is nothing to remove for a collector of the machine.
        let _ = self.collector_success.remove_label_values(&[collector]);
        let _ = self.collector_duration.remove_label_values(&[collector]);
        if collector == "process_groups" {
            self.processes.reset();
            self.process_groups.reset();
        }
    }

    /// How many threads of a collector wait; nothing for one that does not run and has none.
    pub fn set_stuck_threads(&self, collector: &str, threads: Option<usize>) {
        match threads {
            Some(threads) => self.collector_stuck_threads.with_label_values(&[collector]).set(threads as i64),
            // There is nothing to remove where there was none before.
            None => drop(self.collector_stuck_threads.remove_label_values(&[collector])),
        }
    }

    /// A scrape is done.
    pub fn scraped(&self, part: &str, series: usize) {
        self.scrapes.with_label_values(&[part]).inc();
        self.series.with_label_values(&[part]).set(series as i64);
    }

    /// A request was one too many.
    pub fn refused(&self) {
        self.refused.inc();
    }

    /// The web configuration has changed, and the change was taken up or refused.
    pub fn web_config(&self, is_taken: bool) {
        self.web_config.with_label_values(&[if is_taken { "applied" } else { "refused" }]).inc();
    }

    /// How the tree stands.
    pub fn set_tree(&self, tree: &CgroupTree, networks: &Networks, withheld: usize) {
        self.cgroups.set(tree.iter().count() as i64);
        self.cgroups_watched.set(i64::from(tree.is_watched()));
        self.handles.set((tree.budget().open() + networks.open()) as i64);
        self.withheld.set(withheld as i64);
        self.truncated.set(tree.truncated() as i64);
        self.ended.set(tree.ended() as i64);
        self.missed_ends.inc_by(tree.missed_ends().saturating_sub(self.missed_ends.get()));
    }

    /// How many processes, groups and folded groups there are.
    pub fn set_processes(&self, (processes, groups, folded): (usize, usize, usize)) {
        self.processes.with_label_values::<&str>(&[]).set(processes as i64);
        let whole = groups.saturating_sub(folded);
        self.process_groups.with_label_values(&["whole"]).set(whole as i64);
        self.process_groups.with_label_values(&["folded"]).set(folded as i64);
    }

    /// The kubelet answered, or did not.
    pub fn kubelet(&self, answer: Result<usize, &KubeletError>) {
        self.kubelet_up.set(i64::from(answer.is_ok()));
        match answer {
            Ok(pods) => self.kubelet_pods.set(pods as i64),
            Err(error) => self.kubelet_errors.with_label_values(&[error.reason()]).inc(),
        }
    }

    /// The kubelet answered about storage, or did not.
    pub fn kubelet_stats(&self, answer: Result<(), &KubeletError>) {
        self.kubelet_stats.with_label_values::<&str>(&[]).set(i64::from(answer.is_ok()));
        match answer {
            Ok(()) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                self.kubelet_stats_time.with_label_values::<&str>(&[]).set(now.as_secs_f64());
            }
            Err(error) => self.kubelet_errors.with_label_values(&[error.reason()]).inc(),
        }
    }

    /// The kubelet is not asked about storage any more.
    pub fn kubelet_stats_unasked(&self) {
        self.kubelet_stats.reset();
    }

    /// An operator is heard, or not any more.
    pub fn connected(&self, is_connected: bool) {
        self.operator_connected.set(i64::from(is_connected));
    }

    /// What became of a snapshot, or of the file in its place.
    pub fn snapshot(&self, result: &str) {
        self.snapshots.with_label_values(&[result]).inc();
    }

    /// How many policies got which verdict.
    pub fn set_policies(&self, accepted: usize, with_warnings: usize, rejected: usize) {
        for (outcome, count) in
            [("accepted", accepted), ("accepted_with_warnings", with_warnings), ("rejected", rejected)]
        {
            self.policies.with_label_values(&[outcome]).set(count as i64);
        }
    }

    /// Whether the node is in emergency; returns whether it was.
    pub fn set_emergency(&self, is_emergency: bool) -> bool {
        let was = self.emergency.get() == 1;
        self.emergency.set(i64::from(is_emergency));
        was
    }

    /// Where the configuration in force is from.
    pub fn set_source(&self, source: &str) {
        self.source.reset();
        self.source.with_label_values(&[source]).set(1);
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(format!("exporter_agent_{name}"), help)
}

fn register<C: prometheus::core::Collector + Clone + 'static>(
    registry: &Registry,
    metric: C,
) -> Result<C, prometheus::Error> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn int_gauge(registry: &Registry, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
    register(registry, IntGauge::with_opts(opts(name, help))?)
}

fn int_gauge_vec(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntGaugeVec, prometheus::Error> {
    register(registry, IntGaugeVec::new(opts(name, help), labels)?)
}

fn int_counter_vec(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntCounterVec, prometheus::Error> {
    register(registry, IntCounterVec::new(opts(name, help), labels)?)
}
