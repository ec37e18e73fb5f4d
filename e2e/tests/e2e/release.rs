//! A release of the chart on the cluster that the tests share, by one of the two Helms.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use e2e::cluster::Cluster;
use e2e::dns;
use e2e::parts::Part;
use e2e::process::output;
use e2e::product::{self, Agent, NAMESPACE, POLICIES};
use e2e::programs::{AGENT, OPERATOR};
use e2e::wait::wait_for;

use crate::installed::PATIENCE;

/// The name of the release, and what its workloads are called then.
pub(crate) const RELEASE: &str = "exporter-operator";
pub(crate) const DEPLOYMENT: &str = "deployment/exporter-operator";
pub(crate) const DAEMONSET: &str = "daemonset/exporter-operator-agent";

/// Our images; everything else is as people install it.
const VALUES: &[&str] = &[
    "--set=operator.image.repository=local/exporter-operator,operator.image.tag=dev,operator.image.pullPolicy=Never",
    "--set=agent.image.repository=local/exporter-agent,agent.image.tag=dev,agent.image.pullPolicy=Never",
];

/// A release; uninstalled with all that it leaves when dropped, unless it is to stay.
pub(crate) struct Release<'a> {
    cluster: &'a Cluster,
    program: PathBuf,
    stays: bool,
}

impl<'a> Release<'a> {
    /// Makes room for it: names, sample pods, an empty namespace of a Pod Security level, and nothing else of the
    /// product.
    pub(crate) fn none_yet(cluster: &'a Cluster, helm: Part, pod_security: &str) -> Result<Self> {
        let mut release = Self::there(cluster, helm)?;
        dns::ensure(cluster)?;
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
        release.stays = false;
        Ok(release)
    }

    /// The one that an earlier test left.
    pub(crate) fn there(cluster: &'a Cluster, helm: Part) -> Result<Self> {
        cluster.machine()?;
        Ok(Self { cluster, program: helm.program("helm")?, stays: true })
    }

    /// Leaves it to other tests.
    pub(crate) fn stays(mut self) {
        self.stays = true;
    }

    /// Returns the notes.
    pub(crate) fn install(&self, arguments: &[&str]) -> Result<String> {
        self.helm("install", &[&[chart().as_str()], VALUES, arguments].concat())
    }

    pub(crate) fn upgrade(&self, change: &[&str]) -> Result<()> {
        self.begin_upgrade(&[&["--wait"], change].concat())?;
        self.agents_are_ready()
    }

    /// Waits for nobody.
    pub(crate) fn begin_upgrade(&self, arguments: &[&str]) -> Result<()> {
        self.helm("upgrade", &[&[chart().as_str()], VALUES, arguments].concat()).map(drop)
    }

    pub(crate) fn rollback(&self, revision: &str) -> Result<()> {
        self.helm("rollback", &[revision, "--wait"])?;
        self.agents_are_ready()
    }

    /// Waits for the pods too, which go after the objects that made them.
    pub(crate) fn uninstall(&self) -> Result<()> {
        self.helm("uninstall", &["--wait"])?;
        wait_for("the pods to be gone", PATIENCE, || {
            let pods = self.cluster.kubectl.get(&["pods", "-n", NAMESPACE])?;
            Ok(pods["items"].as_array().is_some_and(Vec::is_empty).then_some(()))
        })
    }

    /// Waits for an agent on every node: Helm 3 itself waits for all but those that may be away during an upgrade.
    pub(crate) fn agents_are_ready(&self) -> Result<()> {
        self.cluster.kubectl.rollout(DAEMONSET, NAMESPACE, PATIENCE)?;
        let (agents, nodes) = (Agent::all(self.cluster)?, &self.cluster.machine()?.nodes);
        let measured: Vec<&str> = agents.iter().map(|agent| agent.node.as_str()).collect();
        let all: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
        ensure!(measured == all, "agents are ready on {measured:?}, nodes are {all:?}");
        Ok(())
    }

    fn helm(&self, verb: &str, arguments: &[&str]) -> Result<String> {
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
        output(&mut command).map_err(|error| {
            let pods = self.cluster.kubectl.run(&["get", "pods", "-n", NAMESPACE, "-o", "wide"]);
            error.context(format!("the pods are\n{}", pods.unwrap_or_else(|error| format!("{error:#}"))))
        })
    }
}

impl Drop for Release<'_> {
    fn drop(&mut self) {
        if !self.stays {
            // Whatever this leaves shows in the next installation.
            let _ = self.helm("uninstall", &["--ignore-not-found"]);
            let _ = product::remove(self.cluster);
        }
    }
}

pub(crate) fn level(pod_security: &str) -> String {
    format!("pod-security.kubernetes.io/enforce={pod_security}")
}

fn chart() -> String {
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/exporter-operator");
    chart.display().to_string()
}
