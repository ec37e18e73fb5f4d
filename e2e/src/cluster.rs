//! A whole cluster to run tests on: one of our own, or the one that `KUBECONFIG` names.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::control_plane::ControlPlane;
use crate::instance::Instance;
use crate::kubectl::Kubectl;
use crate::node::Node;
use crate::parts::CLUSTER;
use crate::process::output;
use crate::programs::{self, Program};
use crate::progress::Step;
use crate::wait::wait_for;
use crate::{interrupt, packages};

/// A cluster that answers. Our own is taken down when it is dropped.
#[derive(Debug)]
pub struct Cluster {
    /// As an administrator.
    pub kubectl: Kubectl,
    machine: Option<Machine>,
}

/// What a cluster of our own has and a given one has not. Dropped in this order, from the nodes to the names.
#[derive(Debug)]
pub struct Machine {
    /// The nodes.
    pub nodes: Vec<Node>,
    /// The control plane.
    pub plane: ControlPlane,
    /// Names, addresses, folder.
    pub instance: Instance,
}

/// What this machine can run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tier {
    /// A cluster of our own.
    Own,
    /// The cluster of `KUBECONFIG`.
    Given,
    /// None, for this reason.
    None(String),
}

/// Looks what this machine can run.
pub fn tier() -> Tier {
    if std::env::var_os("KUBECONFIG").is_some_and(|value| !value.is_empty()) {
        Tier::Given
    } else if !rustix::process::geteuid().is_root() {
        Tier::None("a node needs root; set KUBECONFIG to use a cluster that exists".to_owned())
    } else {
        Tier::Own
    }
}

impl Cluster {
    /// Brings up a cluster with so many nodes, or connects to the given one. Builds what is missing.
    ///
    /// Call it from the main thread: the programs of the cluster end with the thread that started them.
    pub fn up(nodes: u8) -> Result<Self> {
        match tier() {
            Tier::None(reason) => bail!("no cluster: {reason}"),
            Tier::Given => {
                // Whoever set it is asked for one more word before anything of his cluster is touched.
                load_command()?;
                let cluster = Self { kubectl: Kubectl::new(&Command::new("kubectl")), machine: None };
                cluster.kubectl.raw("/readyz").context("the cluster of KUBECONFIG does not answer")?;
                // The tests install the product and remove it with all of its policies.
                let there = cluster.kubectl.find(&["crd", crate::product::POLICIES])?;
                ensure!(
                    there.is_none(),
                    "the cluster of KUBECONFIG has the product already; use one that has not"
                );
                cluster.load(&[programs::WORKLOAD])?;
                Ok(cluster)
            }
            Tier::Own => Self::own(nodes),
        }
    }

    /// Brings up a cluster of our own, whatever `KUBECONFIG` says. See [`Cluster::up`].
    pub fn own(nodes: u8) -> Result<Self> {
        packages::ensure()?;
        for part in CLUSTER {
            interrupt::check()?;
            part.ensure()?;
        }
        let instance = Instance::claim()?;
        let sandbox = programs::images(&[programs::WORKLOAD], &instance.folder().join("images"))?;
        let machine = Machine::up(instance, nodes, &sandbox)?;
        Ok(Self { kubectl: machine.plane.kubectl.clone(), machine: Some(machine) })
    }

    /// What only a cluster of our own has; the error [`NoMachine`] on a given one.
    pub fn machine(&self) -> Result<&Machine> {
        self.machine.as_ref().context(NoMachine)
    }

    /// As [`Cluster::machine`], to change it.
    pub fn machine_mut(&mut self) -> Result<&mut Machine> {
        self.machine.as_mut().context(NoMachine)
    }

    /// Builds programs of ours and brings their images into every node.
    pub fn load(&self, programs: &[Program]) -> Result<()> {
        let folder = match &self.machine {
            Some(machine) => machine.instance.folder().join("images"),
            None => std::env::temp_dir().join(format!("exporter-e2e-images-{}", std::process::id())),
        };
        let loaded = programs::images(programs, &folder)
            .and_then(|tars| tars.iter().try_for_each(|tar| self.load_image(tar)));
        if self.machine.is_none() {
            let _ = std::fs::remove_dir_all(&folder);
        }
        loaded
    }

    /// Brings the image of a tar file into every node.
    pub fn load_image(&self, tar: &Path) -> Result<()> {
        if let Some(machine) = &self.machine {
            return machine.nodes.iter().try_for_each(|node| node.load_image(tar));
        }
        let command = load_command()?;
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{command} \"$1\""), "sh"]).arg(tar);
        output(&mut shell).with_context(|| format!("E2E_LOAD_IMAGE cannot load {}", tar.display())).map(drop)
    }

    /// The end of every log, for a message about a failure; empty on a given cluster.
    pub fn tails(&self, lines: usize) -> String {
        self.machine.as_ref().map(|machine| machine.tails(lines)).unwrap_or_default()
    }
}

/// The cluster is a given one, and something of ours was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoMachine;

impl fmt::Display for NoMachine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this needs a node of our own; unset KUBECONFIG and run as root")
    }
}

impl std::error::Error for NoMachine {}

fn load_command() -> Result<String> {
    std::env::var("E2E_LOAD_IMAGE").context(
        "KUBECONFIG is set: set E2E_LOAD_IMAGE too, to the command that loads an image tar into that cluster, such as \
         `kind load image-archive`; or unset KUBECONFIG and run as root for a cluster of our own",
    )
}

impl Machine {
    fn up(instance: Instance, nodes: u8, images: &[PathBuf]) -> Result<Self> {
        let mut step = Step::start(format!("starting a cluster in {}", instance.folder().display()));
        let plane = ControlPlane::start(&instance)?;
        let mut machine = Self { nodes: Vec::new(), plane, instance };
        for number in 1..=nodes {
            machine.nodes.push(Node::start(&machine.instance, &machine.plane, number, images)?);
        }
        machine.settle(&mut step).map_err(|error| {
            // A run that was interrupted has nothing to explain.
            if interrupt::interrupted() { error } else { error.context(machine.tails(15)) }
        })?;
        step.done();
        Ok(machine)
    }

    fn settle(&mut self, step: &mut Step) -> Result<()> {
        step.update("the API server");
        self.plane.finish()?;
        for node in &self.nodes {
            node.server_is_ready()?;
        }
        step.update("the nodes");
        wait_for("every node to be Ready", Duration::from_secs(120), || {
            self.check()?;
            let nodes = self.plane.kubectl.run(&["get", "nodes", "--no-headers"])?;
            let ready = nodes.lines().filter(|line| line.split_whitespace().nth(1) == Some("Ready")).count();
            if ready < self.nodes.len() {
                bail!("{}", if nodes.trim().is_empty() { "no node has come" } else { nodes.trim() });
            }
            Ok(Some(()))
        })?;
        wait_for("the first service account", Duration::from_secs(30), || {
            self.plane.kubectl.run(&["get", "serviceaccount", "default"]).map(Some)
        })?;
        Ok(())
    }

    /// Fails when a program of the cluster has ended.
    pub fn check(&mut self) -> Result<()> {
        self.plane.check()?;
        self.nodes.iter_mut().try_for_each(Node::check)
    }

    fn tails(&self, lines: usize) -> String {
        let nodes: String = self.nodes.iter().map(|node| node.tails(lines)).collect();
        self.plane.tails(lines) + &nodes
    }
}
