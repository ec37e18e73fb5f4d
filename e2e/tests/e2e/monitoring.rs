//! The chart beside the Prometheus operator: what is scraped, and what PromQL then answers.

use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use e2e::cluster::Cluster;
use e2e::exposition::Sample;
use e2e::monitoring::{self, Prometheus};
use e2e::parts::HELM;
use e2e::product::NAMESPACE;
use e2e::wait::{wait_for, wait_for_every};

use crate::installed::PATIENCE;
use crate::release::Release;

/// Between two looks at a Prometheus whose configuration is to be renewed.
const INTERVAL: Duration = Duration::from_millis(500);

pub(crate) const SERVICE_MONITOR: &str = "--set=monitoring.serviceMonitor.enabled=true";
const POD_MONITOR: &str = "--set=monitoring.podMonitor.enabled=true";
/// The operator stands on the second node as long as that takes pods, so that tests can drain it.
pub(crate) const OPERATOR_ON_NODE2: &str = r#"--set-json=operator.affinity={"nodeAffinity": {
    "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "preference": {"matchExpressions": [
        {"key": "kubernetes.io/hostname", "operator": "In", "values": ["node2"]}]}}]}}"#;

/// A pod on each node, with limits.
const EVERYWHERE: &str = r#"
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: everywhere, namespace: shop}
spec:
  selector: {matchLabels: {app.kubernetes.io/name: everywhere}}
  template:
    metadata: {labels: {app.kubernetes.io/name: everywhere}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: everywhere
          image: local/workload:dev
          imagePullPolicy: Never
          args: [burn, --millicores, "20"]
          resources: {limits: {cpu: 100m, memory: 32Mi}}
"#;

/// What the stock rules and dashboards ask.
const STOCK: &str = include_str!("stock.promql");
/// How they select the rows of containers.
const CADVISOR: &str = r#"job="kubelet", metrics_path="/metrics/cadvisor""#;
/// 1 for each pod on its node, as kube-state-metrics' `kube_pod_info`.
const POD_INFO: &str =
    r#"container_memory_rss{job="kubelet", metrics_path="/metrics/cadvisor", pod!=""} >= bool 0"#;

pub(crate) fn without_the_kinds_of_monitors_the_chart_installs_and_an_upgrade_makes_them_later(
    cluster: &Cluster,
) -> Result<()> {
    let release = Release::none_yet(cluster, HELM, "privileged")?;
    ensure!(!monitoring::is_known(cluster)?, "the Prometheus operator is there already");
    let notes = release.install(&["--wait", SERVICE_MONITOR])?;
    ensure!(
        notes.contains("MISSING: this cluster does not know the kind ServiceMonitor"),
        "no word of what is missing:\n{notes}"
    );
    release.agents_are_ready()?;
    monitoring::install_kinds(cluster)?;
    release.upgrade(&[SERVICE_MONITOR])?;
    let monitors = cluster.kubectl.get(&["servicemonitors", "-n", NAMESPACE])?;
    let names: Vec<_> =
        monitors["items"].as_array().into_iter().flatten().map(|it| &it["metadata"]["name"]).collect();
    ensure!(names == ["exporter-operator", "exporter-operator-agent"], "{names:?}");
    Ok(())
}

pub(crate) fn the_installed_chart_is_found_and_answers_in_promql_for_both_nodes(
    cluster: &Cluster,
) -> Result<()> {
    let prometheus = monitored(cluster)?;
    let node = r#"job="node-exporter", instance=~"node[12]""#;
    wait_for("the answers of both nodes", PATIENCE, || {
        scrapes(&prometheus, "serviceMonitor")?;
        for node in ["node1", "node2"] {
            let found = prometheus.one(&format!(
                r#"container_cpu_usage_seconds_total{{namespace="shop", pod=~"everywhere-.+", container="everywhere",
                   node="{node}", instance="{node}", {CADVISOR}}}"#))?;
            ensure!(found.label("image").contains("workload"), "{found:?}");
        }
        let load = prometheus.query(&format!("node_load1{{{node}}}"))?;
        ensure!(load.len() == 2, "{load:?}");
        Ok(Some(()))
    })
}

pub(crate) fn rows_of_the_node_and_its_slices_are_nobodys(cluster: &Cluster) -> Result<()> {
    let prometheus = monitored(cluster)?;
    let rows = prometheus.query(&format!(
        r#"container_cpu_usage_seconds_total{{{CADVISOR}, id=~"/|/kubepods(/burstable|/besteffort)?"}}"#
    ))?;
    let found: BTreeSet<_> = rows.iter().map(|row| (row.label("node"), row.label("id"))).collect();
    for node in ["node1", "node2"] {
        for id in ["/", "/kubepods", "/kubepods/besteffort"] {
            ensure!(found.contains(&(node, id)), "no row {id} of {node}: {found:?}");
        }
    }
    for row in &rows {
        for label in ["namespace", "pod", "container", "service", "endpoint"] {
            ensure!(row.label(label).is_empty(), "{label} of the agent in a row of nobody: {row:?}");
        }
    }
    // The agents' own rows are those of their containers, as of any other.
    let own = r#"namespace="exporter-operator", container="agent""#;
    let own = prometheus.query(&format!("container_memory_rss{{{CADVISOR}, {own}}}"))?;
    ensure!(own.len() == 2 && own.iter().all(|row| row.label("id").contains("/pod")), "{own:?}");
    Ok(())
}

pub(crate) fn what_stock_rules_and_dashboards_select_answers(cluster: &Cluster) -> Result<()> {
    let prometheus = monitored(cluster)?;
    let text = STOCK.replace("$cadvisor", CADVISOR).replace("$pod_info", POD_INFO);
    let stock: Vec<_> = text.split("\n## ").skip(1).filter_map(|it| it.split_once('\n')).collect();
    for (name, expression) in &stock {
        wait_for(&format!("an answer for {name}"), PATIENCE, || {
            let answer = prometheus.query(expression)?;
            ensure!(!answer.is_empty(), "nothing answers `{expression}`");
            let of_nodes = name.starts_with("instance");
            let nodes: BTreeSet<_> = answer.iter().map(|it| it.label("instance")).collect();
            ensure!(!of_nodes || nodes == BTreeSet::from(["node1", "node2"]), "only of {nodes:?}");
            Ok(Some(()))
        })?;
    }
    // The join of the first rule loses no container, doubles none and knows its node.
    let (name, rule) = stock.first().context("no rule")?;
    wait_for(&format!("a row of {name} for each container"), PATIENCE, || {
        let there = format!(r#"container_cpu_usage_seconds_total{{{CADVISOR}, image!="", container!=""}}"#);
        let [joined, there] = [*rule, &there].map(|expression| prometheus.query(expression));
        let [joined, there] = [joined?, there?].map(|rows| {
            let row =
                |row: &Sample| ["namespace", "pod", "container", "node"].map(|it| row.label(it).to_owned());
            rows.iter().map(row).collect::<BTreeSet<_>>()
        });
        ensure!(joined == there, "{joined:?} of {there:?}");
        Ok(Some(()))
    })
}

pub(crate) fn pod_monitors_find_the_same_as_service_monitors(cluster: &Cluster) -> Result<()> {
    let prometheus = monitored(cluster)?;
    Release::there(cluster, HELM)?.upgrade(&[POD_MONITOR, OPERATOR_ON_NODE2])?;
    wait_for_every(INTERVAL, "the answers by pod monitors", PATIENCE, || {
        prometheus.renew()?;
        scrapes(&prometheus, "podMonitor")?;
        let answer = prometheus
            .query(&format!(r#"container_cpu_usage_seconds_total{{container="everywhere", {CADVISOR}}}"#))?;
        let nodes: BTreeSet<_> =
            answer.iter().map(|row| (row.label("node"), row.label("instance"))).collect();
        ensure!(nodes == BTreeSet::from([("node1", "node1"), ("node2", "node2")]), "{answer:?}");
        // Pods have no service. What was found by one answers a while longer.
        let load = prometheus.query(r#"node_load1{job="node-exporter", service=""}"#)?;
        ensure!(load.len() == 2, "{load:?}");
        Ok(Some(()))
    })
}

/// The right that every scraper of protected endpoints needs, for the Prometheus here.
const READS_METRICS: &str = r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: e2e-prometheus-reads-metrics}
rules: [{nonResourceURLs: [/metrics], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: e2e-prometheus-reads-metrics}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: e2e-prometheus-reads-metrics}
subjects: [{kind: ServiceAccount, name: prometheus, namespace: monitoring}]
"#;

pub(crate) fn protected_agents_are_scraped_by_a_prometheus_that_may_read_metrics(
    cluster: &Cluster,
) -> Result<()> {
    let prometheus = monitored(cluster)?;
    let bearer = "--set=agent.metrics.protection=bearer";
    Release::there(cluster, HELM)?.upgrade(&[SERVICE_MONITOR, OPERATOR_ON_NODE2, bearer])?;
    wait_for_every(INTERVAL, "a refusal for want of the right", PATIENCE, || {
        prometheus.renew()?;
        let targets = prometheus.targets()?;
        let errors: Vec<_> = targets.iter().map(|it| it["lastError"].to_string()).collect();
        ensure!(errors.iter().any(|it| it.contains("403")), "{errors:?}");
        Ok(Some(()))
    })?;
    cluster.kubectl.apply(READS_METRICS)?;
    wait_for_every(INTERVAL, "the answers of protected agents", PATIENCE, || {
        scrapes(&prometheus, "serviceMonitor").map(Some)
    })
}

/// Prometheus beside a release of the chart with monitors, which is made the first time and stays.
pub(crate) fn monitored(cluster: &Cluster) -> Result<Prometheus<'_>> {
    static MONITORED: OnceLock<()> = OnceLock::new();
    let prometheus = Prometheus::ensure(cluster)?;
    if MONITORED.get().is_some() {
        return Ok(prometheus);
    }
    cluster.kubectl.run(&["uncordon", "node2"])?;
    let release = Release::none_yet(cluster, HELM, "privileged")?;
    cluster.kubectl.apply(EVERYWHERE)?;
    cluster.kubectl.rollout("daemonset/everywhere", "shop", PATIENCE)?;

    let start = Instant::now();
    release.install(&["--wait", SERVICE_MONITOR, OPERATOR_ON_NODE2])?;
    let installed = start.elapsed();
    let mut configured = None;
    wait_for_every(INTERVAL, "the first answer in PromQL", PATIENCE, || {
        if configured.is_none() {
            prometheus.renew()?;
            configured = (!prometheus.targets()?.is_empty()).then(|| start.elapsed());
        }
        prometheus.one(&format!(
            r#"container_cpu_usage_seconds_total{{namespace="shop", container="cart", {CADVISOR}}}"#
        ))?;
        prometheus.one(r#"node_load1{job="node-exporter", instance="node1"}"#).map(Some)
    })?;
    println!(
        "from `helm install` to the first answer in PromQL: {:.1} s, of which `helm install --wait` took {:.1} s; \
         Prometheus knew its targets after {:.1} s, the kubelet having been told to renew its configuration at once",
        start.elapsed().as_secs_f64(),
        installed.as_secs_f64(),
        configured.context("answers without targets")?.as_secs_f64(),
    );
    release.agents_are_ready()?;
    release.stays();
    let _ = MONITORED.set(());
    Ok(prometheus)
}

/// Every part of both agents and the operator is a target of such a monitor, and answers.
fn scrapes(prometheus: &Prometheus<'_>, kind: &str) -> Result<()> {
    let targets = prometheus.targets()?;
    let pool = format!("{kind}/{NAMESPACE}/");
    let mut found = BTreeSet::new();
    for target in &targets {
        let of = |name: &str| target["labels"][name].as_str().unwrap_or_default();
        ensure!(target["health"] == "up", "{}: {}", target["scrapeUrl"], target["lastError"]);
        ensure!(
            target["scrapePool"].as_str().is_some_and(|it| it.starts_with(&pool)),
            "{}",
            target["scrapePool"]
        );
        found.insert(format!("{} {}", of("job"), of("instance")));
    }
    for job in ["node-exporter", "kubelet", "exporter-agent"] {
        for node in ["node1", "node2"] {
            ensure!(found.contains(&format!("{job} {node}")), "no target {job} of {node}: {found:?}");
        }
    }
    ensure!(
        found.iter().any(|it| it.starts_with("exporter-operator ")),
        "the operator is no target: {found:?}"
    );
    ensure!(targets.len() == 7, "{} targets, not 7: {found:?}", targets.len());
    Ok(())
}
