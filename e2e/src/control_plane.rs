//! The control plane of a cluster: etcd, API server, controller manager and scheduler in a network namespace of their
//! own, with the bridge to which the nodes are joined.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::Signal;

use crate::instance::Instance;
use crate::kubectl::Kubectl;
use crate::netns::Netns;
use crate::parts::{ETCD, KUBERNETES};
use crate::pki::{Authority, Subject};
use crate::process::Component;
use crate::wait::wait_for;

/// The device in the control plane's network namespace to which every node has a cable.
pub const BRIDGE: &str = "nodes";

const SERVICES: &str = "10.96.0.0/16";
const KUBERNETES_SERVICE: &str = "10.96.0.1";

/// A running control plane, stopped when dropped.
#[derive(Debug)]
pub struct ControlPlane {
    /// Where it runs.
    pub netns: Netns,
    /// Who signs for it.
    pub authority: Authority,
    /// The URL of the API server.
    pub server: String,
    /// As an administrator.
    pub kubectl: Kubectl,
    /// A script that is this kubectl, for people.
    pub script: PathBuf,
    folder: PathBuf,
    components: Vec<Component>,
}

impl ControlPlane {
    /// Starts etcd and the API server; [`ControlPlane::finish`] does the rest.
    pub fn start(instance: &Instance) -> Result<Self> {
        let folder = instance.folder().join("control-plane");
        fs::create_dir(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let address = instance.server_address();
        let netns = Netns::create(&instance.stem())?;
        netns.ip(&format!("link add {BRIDGE} type bridge"))?;
        netns.ip(&format!("address add {address}/24 dev {BRIDGE}"))?;
        netns.ip(&format!("link set {BRIDGE} up"))?;

        let authority = Authority::create(&folder.join("pki"))?;
        let server = format!("https://{address}:6443");
        let names = [&address, KUBERNETES_SERVICE, "127.0.0.1", "localhost", "kubernetes.default.svc"];
        authority.issue("apiserver", &Subject::user("kube-apiserver"), &names)?;
        authority.issue(
            "kubelet-client",
            &Subject::grouped("kube-apiserver-kubelet-client", "system:masters"),
            &[],
        )?;
        let kubeconfig =
            authority.kubeconfig("admin", &Subject::grouped("admin", "system:masters"), &server)?;

        let script = instance.folder().join("kubectl");
        let program = KUBERNETES.program("kubectl")?;
        let text = format!(
            "#!/bin/sh\nexec nsenter {} -- '{}' --kubeconfig='{}' --request-timeout=60s \"$@\"\n",
            netns.nsenter_option(),
            program.display(),
            kubeconfig.display(),
        );
        write_script(&script, &text)?;
        let kubectl = Kubectl::new(&Command::new(&script));
        let mut plane = Self { netns, authority, server, kubectl, script, folder, components: Vec::new() };
        let etcd = [
            format!("--data-dir={}", plane.folder.join("etcd").display()),
            // Nothing here outlives a crash of the machine.
            "--unsafe-no-fsync".to_owned(),
            "--listen-client-urls=http://127.0.0.1:2379".to_owned(),
            "--advertise-client-urls=http://127.0.0.1:2379".to_owned(),
            "--listen-peer-urls=http://127.0.0.1:2380".to_owned(),
        ];
        plane.component(ETCD.program("server")?, "etcd", &etcd)?;
        let path = |file: &str| plane.authority.path(file);
        let arguments = [
            "--etcd-servers=http://127.0.0.1:2379".to_owned(),
            format!("--advertise-address={address}"),
            format!("--service-cluster-ip-range={SERVICES}"),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--allow-privileged=true".to_owned(),
            format!("--client-ca-file={}", path("ca.crt")),
            format!("--tls-cert-file={}", path("apiserver.crt")),
            format!("--tls-private-key-file={}", path("apiserver.key")),
            format!("--service-account-key-file={}", path("sa.pub")),
            format!("--service-account-signing-key-file={}", path("sa.key")),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--kubelet-client-certificate={}", path("kubelet-client.crt")),
            format!("--kubelet-client-key={}", path("kubelet-client.key")),
            format!("--kubelet-certificate-authority={}", path("ca.crt")),
            // Names of nodes do not resolve here.
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
        ];
        plane.component(KUBERNETES.program("kube-apiserver")?, "kube-apiserver", &arguments)?;
        Ok(plane)
    }

    /// Waits for the API server, then starts the controller manager and the scheduler.
    pub fn finish(&mut self) -> Result<()> {
        wait_for("the API server to be ready", Duration::from_secs(120), || {
            self.check()?;
            self.kubectl.raw("/readyz").map(Some)
        })?;
        for (name, user) in [
            ("kube-controller-manager", "system:kube-controller-manager"),
            ("kube-scheduler", "system:kube-scheduler"),
        ] {
            let kubeconfig = self.authority.kubeconfig(name, &Subject::user(user), &self.server)?;
            let mut arguments =
                vec![format!("--kubeconfig={}", kubeconfig.display()), "--leader-elect=false".to_owned()];
            if name == "kube-controller-manager" {
                let path = |file: &str| self.authority.path(file);
                arguments.extend([
                    "--use-service-account-credentials".to_owned(),
                    format!("--root-ca-file={}", path("ca.crt")),
                    format!("--service-account-private-key-file={}", path("sa.key")),
                    format!("--cluster-signing-cert-file={}", path("ca.crt")),
                    format!("--cluster-signing-key-file={}", path("ca.key")),
                ]);
            }
            self.component(KUBERNETES.program(name)?, name, &arguments)?;
        }
        Ok(())
    }

    /// Lets nobody hear from the API server until [`ControlPlane::resume`]: to whoever asks it is down.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// The end of [`ControlPlane::pause`].
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let server = self.components.iter().find(|it| it.name() == "kube-apiserver");
        server.context("no API server")?.send(signal)
    }

    /// Fails when one of its programs has ended.
    pub fn check(&mut self) -> Result<()> {
        self.components.iter_mut().try_for_each(Component::check)
    }

    /// The end of each program's log, for a message about a failure.
    pub fn tails(&self, lines: usize) -> String {
        let tail = |component: &Component| format!("--- {}\n{}\n", component.name(), component.tail(lines));
        self.components.iter().map(tail).collect()
    }

    fn component(&mut self, program: PathBuf, name: &str, arguments: &[String]) -> Result<()> {
        let mut command: Command = self.netns.command(program);
        command.args(arguments);
        let log = self.folder.join(format!("{name}.log"));
        self.components.push(Component::start(name, &command, log)?);
        Ok(())
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        // The last started first: an API server whose etcd has gone hangs in its graceful shutdown for minutes.
        while let Some(mut component) = self.components.pop() {
            // Nothing is kept, so none of them needs a graceful end, only the right order.
            component.stop(Duration::ZERO);
        }
    }
}

fn write_script(path: &Path, text: &str) -> Result<()> {
    let open = fs::OpenOptions::new().write(true).create_new(true).mode(0o755).open(path);
    let mut file = open.with_context(|| format!("cannot create {}", path.display()))?;
    file.write_all(text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
}
