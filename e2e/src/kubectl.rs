//! Talks to a cluster through kubectl.

use std::ffi::OsString;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::process::{output, output_with_input};

/// A kubectl that knows its cluster.
#[derive(Debug, Clone)]
pub struct Kubectl {
    program: OsString,
    prefix: Vec<OsString>,
}

impl Kubectl {
    /// One that is run by this command; arguments are appended.
    pub fn new(command: &Command) -> Self {
        Self {
            program: command.get_program().to_owned(),
            prefix: command.get_args().map(OsString::from).collect(),
        }
    }

    /// The command itself, for what this wrapper does not offer.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.prefix);
        command
    }

    /// Runs it with these arguments and returns what it printed.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        output(self.command().args(arguments))
    }

    /// Applies YAML or JSON, as `kubectl apply` does.
    pub fn apply(&self, objects: &str) -> Result<String> {
        output_with_input(self.command().args(["apply", "-f", "-"]), objects)
    }

    /// Applies with server-side apply under a field manager.
    pub fn apply_server_side(&self, objects: &str, field_manager: &str) -> Result<String> {
        let manager = format!("--field-manager={field_manager}");
        output_with_input(self.command().args(["apply", "--server-side", &manager, "-f", "-"]), objects)
    }

    /// Deletes what YAML or JSON names, without waiting for its end; what is not there is no error.
    pub fn delete(&self, objects: &str) -> Result<String> {
        let arguments = ["delete", "--ignore-not-found", "--wait=false", "-f", "-"];
        output_with_input(self.command().args(arguments), objects)
    }

    /// `kubectl get … -o json`, such as `get(&["pods", "-n", "shop"])`.
    pub fn get(&self, arguments: &[&str]) -> Result<Value> {
        let text = output(self.command().arg("get").args(arguments).args(["-o", "json"]))?;
        serde_json::from_str(&text).context("kubectl printed something that is not JSON")
    }

    /// As [`Kubectl::get`] for one object that may not exist.
    pub fn find(&self, arguments: &[&str]) -> Result<Option<Value>> {
        let text =
            output(self.command().arg("get").args(arguments).args(["-o", "json", "--ignore-not-found"]))?;
        if text.trim().is_empty() {
            return Ok(None);
        }
        serde_json::from_str(&text).map(Some).context("kubectl printed something that is not JSON")
    }

    /// Waits for a condition, such as `wait("condition=Established", &["crd", "NAME"], …)`.
    pub fn wait(&self, condition: &str, arguments: &[&str], deadline: Duration) -> Result<()> {
        let (condition, timeout) =
            (format!("--for={condition}"), format!("--timeout={}s", deadline.as_secs()));
        output(self.command().args(["wait", &condition, &timeout]).args(arguments)).map(drop)
    }

    /// Waits until a Deployment or DaemonSet has its pods, such as `rollout("deployment/web", "shop", …)`.
    pub fn rollout(&self, workload: &str, namespace: &str, deadline: Duration) -> Result<()> {
        let timeout = format!("--timeout={}s", deadline.as_secs());
        output(self.command().args(["rollout", "status", workload, "-n", namespace, &timeout])).map(drop)
    }

    /// A GET of a path of the API server.
    pub fn raw(&self, path: &str) -> Result<String> {
        output(self.command().args(["get", "--raw", path]))
    }

    /// A GET of a path of a pod, through the API server and the kubelet.
    pub fn raw_of_pod(&self, namespace: &str, pod: &str, port: u16, path: &str) -> Result<String> {
        self.raw(&format!("/api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy{path}"))
    }
}
