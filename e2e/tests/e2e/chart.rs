//! The chart on a real cluster: installed, upgraded, rolled back and uninstalled by both majors of Helm.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use e2e::cluster::Cluster;
use e2e::parts::{HELM, HELM4, Part};
use e2e::process::output;
use e2e::product::{self, Agent, NAMESPACE, POLICIES};
use e2e::programs::{AGENT, OPERATOR};
use e2e::wait::wait_for;

use crate::installed::PATIENCE;

/// The name of the release, and what its workloads are called then.
const RELEASE: &str = "exporter-operator";
const DEPLOYMENT: &str = "deployment/exporter-operator";
const DAEMONSET: &str = "daemonset/exporter-operator-agent";

/// Our images, and the way to the operator where pods cannot find names.
const VALUES: &[&str] = &[
    "--set=operator.image.repository=local/exporter-operator,operator.image.tag=dev,operator.image.pullPolicy=Never",
    "--set=agent.image.repository=local/exporter-agent,agent.image.tag=dev,agent.image.pullPolicy=Never",
    "--set=agent.operatorAddress=http://$(EXPORTER_OPERATOR_SERVICE_HOST):9443",
];

/// Rolls every agent, and brings an object that was not there, a budget for the two operators.
const CHANGE: &[&str] = &["--set=agent.logLevel=debug,operator.replicas=2"];

/// Something that only a policy does: a label that shows and a family that does not.
const POLICY: &str = r#"{
    "apiVersion": "exporter-operator.dev/v1alpha1", "kind": "ExporterPolicy", "metadata": {"name": "of-the-chart"},
    "spec": {"labels": {"podLabels": ["app.kubernetes.io/component"]}, "metrics": {"exclude": ["container_spec_.*"]}}
}"#;

pub(crate) fn the_chart_installs_and_its_agents_expose_pods(cluster: &Cluster) -> Result<()> {
    let release = Release::none_yet(cluster, HELM, "privileged")?;
    let start = Instant::now();
    release.install(&["--wait"])?;
    let installed = start.elapsed();
    let agent = Agent::first(cluster)?;
    exposes(cluster, &agent)?;
    println!(
        "from `helm install` to the first exposition of a pod: {:.1} s, of which `helm install --wait` took {:.1} s",
        start.elapsed().as_secs_f64(),
        installed.as_secs_f64()
    );
    wait_for("the agent to hear the operator", PATIENCE, || {
        let own = agent.scrape(cluster, "/metrics/agent")?;
        Ok((own.one("exporter_agent_operator_connected", &[])?.value == 1.0).then_some(()))
    })
}

pub(crate) fn a_policy_acts_through_the_chart_and_survives_upgrade_rollback_and_uninstall(
    cluster: &Cluster,
) -> Result<()> {
    let release = Release::none_yet(cluster, HELM, "privileged")?;
    release.install(&["--wait"])?;
    cluster.kubectl.apply(POLICY)?;
    let first = acts(cluster)?;
    let policy = policy(cluster)?;

    release.upgrade(CHANGE)?;
    let upgraded = acts(cluster).context("after the upgrade")?;
    ensure!(upgraded != first, "the upgrade did not replace {}", first.pod);
    ensure!(is_budgeted(cluster)?, "two operators have no PodDisruptionBudget");

    release.rollback("1")?;
    let rolled_back = acts(cluster).context("after the rollback")?;
    ensure!(rolled_back != upgraded, "the rollback did not replace {}", upgraded.pod);
    ensure!(!is_budgeted(cluster)?, "the rollback left the PodDisruptionBudget");

    release.uninstall()?;
    ensure!(self::policy(cluster)? == policy, "the uninstall changed the policy");

    release.install(&["--wait"])?;
    let found = acts(cluster).context("after the reinstall")?;
    ensure!(found != rolled_back, "{} outlived the uninstall", found.pod);
    ensure!(self::policy(cluster)? == policy, "the reinstall changed the policy");
    Ok(())
}

pub(crate) fn helm_4_installs_and_upgrades_too(cluster: &Cluster) -> Result<()> {
    let release = Release::none_yet(cluster, HELM4, "privileged")?;
    release.install(&["--wait"])?;
    let first = Agent::first(cluster)?;
    exposes(cluster, &first)?;
    cluster.kubectl.apply(POLICY)?;
    release.upgrade(CHANGE)?;
    let upgraded = acts(cluster).context("after the upgrade")?;
    ensure!(upgraded != first, "the upgrade did not replace {}", first.pod);
    let policy = policy(cluster)?;
    release.uninstall()?;
    ensure!(self::policy(cluster)? == policy, "the uninstall changed the policy");
    Ok(())
}

pub(crate) fn pod_security_that_refuses_the_agent_says_so_in_an_event(cluster: &Cluster) -> Result<()> {
    let release = Release::none_yet(cluster, HELM, "baseline")?;
    release.install(&[])?;
    wait_for("an event that names what is refused", PATIENCE, || {
        let of_it = "--field-selector=reason=FailedCreate,involvedObject.kind=DaemonSet";
        let events = cluster.kubectl.get(&["events", "-n", NAMESPACE, of_it])?;
        let event = events["items"].as_array().and_then(|it| it.first()).context("no event")?;
        let message = event["message"].as_str().unwrap_or_default();
        ensure!(
            event["involvedObject"]["name"] == "exporter-operator-agent"
                && message.contains("hostPath volumes"),
            "{event}"
        );
        Ok(Some(()))
    })?;
    cluster.kubectl.rollout(DEPLOYMENT, NAMESPACE, PATIENCE).context("the operator needs no privilege")?;
    // What the notes of the chart advise.
    cluster.kubectl.run(&["label", "namespace", NAMESPACE, &level("privileged"), "--overwrite"])?;
    exposes(cluster, &Agent::first(cluster)?)
}

/// A release of the chart by one Helm; uninstalled with all that it leaves when dropped.
struct Release<'a> {
    cluster: &'a Cluster,
    program: PathBuf,
}

impl<'a> Release<'a> {
    /// Makes room for it: sample pods and an empty namespace of a Pod Security level, and nothing else of the product.
    fn none_yet(cluster: &'a Cluster, helm: Part, pod_security: &str) -> Result<Self> {
        cluster.machine()?;
        let program = helm.program("helm")?;
        cluster.load(&[OPERATOR, AGENT])?;
        product::remove(cluster)?;
        for object in [["namespace", NAMESPACE], ["crd", POLICIES]] {
            wait_for(&format!("the end of {}", object.join(" ")), PATIENCE, || {
                Ok(cluster.kubectl.find(&object)?.is_none().then_some(()))
            })?;
        }
        product::start_sample_pods(cluster)?;
        cluster.kubectl.run(&["create", "namespace", NAMESPACE])?;
        cluster.kubectl.run(&["label", "namespace", NAMESPACE, &level(pod_security)])?;
        Ok(Self { cluster, program })
    }

    fn install(&self, arguments: &[&str]) -> Result<()> {
        self.helm("install", &[&[chart().as_str()], VALUES, arguments].concat())
    }

    fn upgrade(&self, change: &[&str]) -> Result<()> {
        self.helm("upgrade", &[&[chart().as_str(), "--wait"], VALUES, change].concat())?;
        self.agents_are_replaced()
    }

    fn rollback(&self, revision: &str) -> Result<()> {
        self.helm("rollback", &[revision, "--wait"])?;
        self.agents_are_replaced()
    }

    /// Where one node may be without an agent, and there is but one, Helm 3 waits for none.
    fn agents_are_replaced(&self) -> Result<()> {
        self.cluster.kubectl.rollout(DAEMONSET, NAMESPACE, PATIENCE)
    }

    /// Waits for the pods too, which go after the objects that made them.
    fn uninstall(&self) -> Result<()> {
        self.helm("uninstall", &["--wait"])?;
        wait_for("the pods to be gone", PATIENCE, || {
            let pods = self.cluster.kubectl.get(&["pods", "-n", NAMESPACE])?;
            Ok(pods["items"].as_array().is_some_and(Vec::is_empty).then_some(()))
        })
    }

    fn helm(&self, verb: &str, arguments: &[&str]) -> Result<()> {
        let machine = self.cluster.machine()?;
        let mut command = machine.plane.netns.command(&self.program);
        // Nothing of the user's Helm is read or written.
        for home in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            command.env(home, machine.instance.folder().join("helm"));
        }
        command.args([verb, RELEASE]).args(arguments).args([
            format!("--kubeconfig={}", machine.plane.authority.path("admin.conf")),
            format!("--namespace={NAMESPACE}"),
            format!("--timeout={}s", PATIENCE.as_secs()),
        ]);
        output(&mut command).map(drop).map_err(|error| {
            let pods = self.cluster.kubectl.run(&["get", "pods", "-n", NAMESPACE, "-o", "wide"]);
            error.context(format!("the pods are\n{}", pods.unwrap_or_else(|error| format!("{error:#}"))))
        })
    }
}

impl Drop for Release<'_> {
    fn drop(&mut self) {
        // Whatever this leaves shows in the next installation.
        let _ = self.helm("uninstall", &["--ignore-not-found"]);
        let _ = product::remove(self.cluster);
    }
}

/// Waits until an agent exposes its machine and a sample pod.
fn exposes(cluster: &Cluster, agent: &Agent) -> Result<()> {
    wait_for("machine and pods to be exposed", PATIENCE, || {
        let all = agent.scrape(cluster, "/metrics")?;
        ensure!(all.has("node_load1"), "no node_load1");
        let cart =
            all.one("container_cpu_usage_seconds_total", &[("namespace", "shop"), ("container", "cart")])?;
        ensure!(cart.label("pod").starts_with("cart-"), "{cart:?}");
        Ok(Some(()))
    })
}

/// Waits until the policy holds at the agent; returns this agent.
fn acts(cluster: &Cluster) -> Result<Agent> {
    let agent = Agent::first(cluster)?;
    wait_for("the policy to hold", PATIENCE, || {
        let all = agent.scrape(cluster, "/metrics")?;
        let cart =
            all.one("container_cpu_usage_seconds_total", &[("namespace", "shop"), ("container", "cart")])?;
        ensure!(cart.label("label_app_kubernetes_io_component") == "backend", "no label: {cart:?}");
        ensure!(!all.has("container_spec_memory_limit_bytes"), "what it excludes is exposed");
        Ok(Some(()))
    })?;
    Ok(agent)
}

/// The identity of the policy and its generation, which an edit changes.
fn policy(cluster: &Cluster) -> Result<(String, String)> {
    let metadata = &cluster.kubectl.get(&[POLICIES, "of-the-chart"])?["metadata"];
    Ok((metadata["uid"].to_string(), metadata["generation"].to_string()))
}

fn is_budgeted(cluster: &Cluster) -> Result<bool> {
    let budgets = cluster.kubectl.get(&["poddisruptionbudgets", "-n", NAMESPACE])?;
    Ok(budgets["items"].as_array().is_some_and(|it| !it.is_empty()))
}

fn level(pod_security: &str) -> String {
    format!("pod-security.kubernetes.io/enforce={pod_security}")
}

fn chart() -> String {
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/exporter-operator");
    chart.display().to_string()
}
