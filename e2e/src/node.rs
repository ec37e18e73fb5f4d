//! One real node: containerd, kubelet and kube-proxy in mount, process, network, host name and cgroup namespaces of
//! their own, so that several stand side by side and none touches the machine.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::cgroup::{NodeCgroup, hierarchies};
use crate::control_plane::{BRIDGE, ControlPlane};
use crate::instance::Instance;
use crate::netns::Netns;
use crate::parts::{CONTAINERD, KUBERNETES};
use crate::pki::Subject;
use crate::process::{Component, output, tail};
use crate::wait::wait_for;
use crate::{packages, programs};

/// How the kubelet's command line begins.
const KUBELET: &str = "kubelet --config kubelet.yaml";
const BOOT: &str = include_str!("node/boot.sh");

/// A running node. Dropping it is what a power cut is to a machine.
#[derive(Debug)]
pub struct Node {
    /// Its name in the cluster.
    pub name: String,
    /// Its address.
    pub address: String,
    folder: PathBuf,
    // Dropped in this order, after all processes: what they ran in.
    process: Component,
    netns: Netns,
    cgroup: NodeCgroup,
}

impl Node {
    /// Starts the node with this number, counted from 1. The kubelet waits for [`Node::server_is_ready`].
    pub fn start(instance: &Instance, plane: &ControlPlane, number: u8, images: &[PathBuf]) -> Result<Self> {
        let name = format!("node{number}");
        let address = instance.node_address(number);
        let folder = instance.folder().join(&name);
        for part in ["lib/kubelet", "lib/containerd", "lib/cni", "log", "cni", "images", "static-pods"] {
            let part = folder.join(part);
            fs::create_dir_all(&part).with_context(|| format!("cannot create {}", part.display()))?;
        }
        for image in images {
            let file = image.file_name().context("an image file has no name")?;
            symlink(image, folder.join("images").join(file)).context("cannot link an image")?;
        }
        let netns = join_to_bridge(instance, plane, number)?;
        let plugins = packages::ensure()?;
        configure(instance, plane, number, &folder, &plugins)?;

        let owned = format!("{}-{name}", instance.stem());
        let cgroup = NodeCgroup::create(&owned)?;
        let lines: Vec<String> = hierarchies()?.iter().map(|hierarchy| hierarchy.mount_line()).collect();
        fs::write(folder.join("cgroup-mounts"), lines.join("\n") + "\n")?;

        fs::write(folder.join("boot.sh"), BOOT)?;
        let mut command = Command::new("bash");
        command
            .args(["-c", &enter(&cgroup, &netns, &folder)])
            .env("NODE_FOLDER", &folder)
            .env("NODE_NAME", &name)
            .env("NODE_ADDRESS", &address)
            .env("PATH", node_path()?);
        let process = Component::start(&name, &command, folder.join("boot.log"))?;
        Ok(Self { name, address, folder, process, netns, cgroup })
    }

    /// Lets the kubelet begin.
    pub fn server_is_ready(&self) -> Result<()> {
        fs::write(self.folder.join("server-is-ready"), "")
            .context("cannot tell a node that the API server is ready")
    }

    /// Fails when the node has died.
    pub fn check(&mut self) -> Result<()> {
        self.process.check().with_context(|| self.tails(20))
    }

    /// A command that runs a program in the node as a shell on it would, with the node's own `PATH`.
    pub fn command(&self, program: &str) -> Result<Command> {
        let pid = self.pid()?;
        let mut command = Command::new("nsenter");
        command
            .args([
                "--target",
                &pid.to_string(),
                "--mount",
                "--uts",
                "--ipc",
                "--net",
                "--pid",
                "--cgroup",
                "--",
            ])
            .arg(program)
            .env("PATH", node_path()?);
        Ok(command)
    }

    /// Brings an image into the node.
    pub fn load_image(&self, tar: &Path) -> Result<()> {
        let mut command = self.command("ctr")?;
        command.args(["--namespace", "k8s.io", "images", "import"]).arg(tar);
        output(&mut command)
            .with_context(|| format!("cannot load {} into {}", tar.display(), self.name))
            .map(drop)
    }

    /// Its folder outside, for its working data and logs.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Ends the kubelet, which starts again as a service of a real node does; its pods go on meanwhile.
    pub fn restart_kubelet(&self) -> Result<()> {
        let before = self.processes(KUBELET)?;
        ensure!(!before.is_empty(), "{} has no kubelet", self.name);
        let asked = self.folder.join("restart-kubelet");
        fs::write(&asked, "").context("cannot ask for another kubelet")?;
        for &pid in &before {
            kill_process(pid, Signal::TERM).context("cannot end the kubelet")?;
        }
        wait_for(&format!("another kubelet on {}", self.name), Duration::from_secs(30), || {
            let now = self.processes(KUBELET)?;
            Ok((!now.is_empty() && now.iter().all(|pid| !before.contains(pid))).then_some(()))
        })
    }

    /// Where the node is joined to the network.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// The process that is number 1 inside, by its number outside: `/proc/PID/root` is the node's file system.
    pub fn pid(&self) -> Result<u32> {
        let path = self.folder.join("pid");
        wait_for(&format!("{} to begin", self.name), Duration::from_secs(20), || {
            Ok(Some(
                fs::read_to_string(&path)
                    .with_context(|| format!("no {}", path.display()))?
                    .trim()
                    .parse()?,
            ))
        })
    }

    /// The processes of the node whose command line contains a text, by their numbers outside; shims and the like
    /// carry other command lines than what they hold, so the path of a program finds that program.
    pub fn processes(&self, command_line: &str) -> Result<Vec<Pid>> {
        let inside = format!("/{}", self.cgroup.name());
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").context("cannot read /proc")?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| Pid::from_raw(name.parse().ok()?))
            else {
                continue;
            };
            // A process may end between any two reads.
            let text = |file| {
                String::from_utf8_lossy(&fs::read(entry.path().join(file)).unwrap_or_default()).into_owned()
            };
            if text("cmdline").replace('\0', " ").contains(command_line) && text("cgroup").contains(&inside) {
                found.push(pid);
            }
        }
        Ok(found)
    }

    /// The end of each program's log, for a message about a failure.
    pub fn tails(&self, lines: usize) -> String {
        let logs = ["boot.log", "containerd.log", "kube-proxy.log", "kubelet.log"];
        logs.iter()
            .map(|log| format!("--- {} {log}\n{}\n", self.name, tail(&self.folder.join(log), lines)))
            .collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // The end of the first process ends all others, and its parent, which is ours, takes note of it and ends too.
        // Killing the parent instead would leave that to the machine's own first process.
        let first = fs::read_to_string(self.folder.join("pid"))
            .ok()
            .and_then(|pid| Pid::from_raw(pid.trim().parse().ok()?));
        if let Some(first) = first
            && self.process.check().is_ok()
        {
            let _ = kill_process(first, Signal::KILL);
            self.process.ended_within(Duration::from_secs(20));
        }
    }
}

fn join_to_bridge(instance: &Instance, plane: &ControlPlane, number: u8) -> Result<Netns> {
    let (address, server) = (instance.node_address(number), instance.server_address());
    let netns = Netns::create(&format!("{}-node{number}", instance.stem()))?;
    plane.netns.ip(&format!("link add node{number} type veth peer name eth0 netns {}", netns.name()))?;
    plane.netns.ip(&format!("link set node{number} master {BRIDGE} up"))?;
    netns.ip(&format!("address add {address}/24 dev eth0"))?;
    netns.ip("link set eth0 up")?;
    // To pods of other nodes by way of the control plane, which knows a route to each.
    netns.ip(&format!("route add default via {server}"))?;
    plane.netns.ip(&format!("route add {} via {address}", instance.pod_range(number)))?;
    Ok(netns)
}

/// The shell lines that become the node's first process: into the cgroups, then into the namespaces. The cgroup
/// namespace is made as soon as the cgroups are entered, so that they are its root.
fn enter(cgroup: &NodeCgroup, netns: &Netns, folder: &Path) -> String {
    let mut inside = String::new();
    for folder in cgroup.delegated() {
        // On v2 a cgroup that hands controllers on may have no process of its own.
        inside.push_str(&format!(
            "cd '{}'; mkdir init; echo $$ > init/cgroup.procs\n\
             for one in $(cat cgroup.controllers); do echo +$one > cgroup.subtree_control; done\n",
            folder.display(),
        ));
    }
    let namespaces = "--mount --pid --uts --ipc --fork --kill-child --propagation private";
    inside.push_str(&format!("exec unshare {namespaces} bash {}/boot.sh", folder.display()));
    let mut lines = String::from("set -e\n");
    for door in cgroup.doors() {
        lines.push_str(&format!("echo $$ > '{}'\n", door.display()));
    }
    lines.push_str(&format!("exec nsenter {} unshare --cgroup bash -e -c \"$1\"", netns.nsenter_option()));
    format!("set -- {}\n{lines}", quoted(&inside))
}

/// As one word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn configure(
    instance: &Instance,
    plane: &ControlPlane,
    number: u8,
    folder: &Path,
    plugins: &Path,
) -> Result<()> {
    let (name, address) = (format!("node{number}"), instance.node_address(number));
    let authority = &plane.authority;
    let user = format!("system:node:{name}");
    // It serves with this one too: an address in it lets clients verify https://ADDRESS:10250 by the cluster's authority.
    authority.issue(&name, &Subject::grouped(&user, "system:nodes"), &[&name, &address, "127.0.0.1"])?;
    let kubelet = authority.kubeconfig(
        &format!("{name}-kubelet"),
        &Subject::grouped(&user, "system:nodes"),
        &plane.server,
    )?;
    let proxy = authority.kubeconfig(
        &format!("{name}-kube-proxy"),
        &Subject::user("system:kube-proxy"),
        &plane.server,
    )?;
    symlink(kubelet, folder.join("kubelet.conf"))?;
    // Nothing resolves here; without the file the kubelet would hand the machine's own to pods.
    fs::write(folder.join("resolv.conf"), "nameserver 127.0.0.1\n")?;

    let json = |file: &str, value: serde_json::Value| {
        fs::write(folder.join(file), format!("{value:#}\n"))
            .with_context(|| format!("cannot write {file} of {name}"))
    };
    json(
        "kubelet.yaml",
        serde_json::json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": {"enabled": false},
                "webhook": {"enabled": true},
                "x509": {"clientCAFile": authority.path("ca.crt")},
            },
            // A grant that was missing is seen soon after it is given; without this it takes half a minute.
            "authorization": {"mode": "Webhook", "webhook": {"cacheUnauthorizedTTL": "1s"}},
            "tlsCertFile": authority.path(&format!("{name}.crt")),
            "tlsPrivateKeyFile": authority.path(&format!("{name}.key")),
            "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
            "cgroupDriver": "cgroupfs",
            "failCgroupV1": false,
            "failSwapOn": false,
            "enforceNodeAllocatable": [],
            "clusterDNS": ["10.96.0.10"],
            "clusterDomain": "cluster.local",
            "resolvConf": folder.join("resolv.conf"),
            "staticPodPath": folder.join("static-pods"),
            "volumePluginDir": "/var/lib/kubelet/volume-plugins",
            // As many as its subnet has addresses for.
            "maxPods": 253,
            "serializeImagePulls": false,
            // The disk is the developer's: however full it is, the node must neither evict pods nor remove our images.
            "evictionHard": {"memory.available": "50Mi"},
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
        }),
    )?;
    json(
        "kube-proxy.yaml",
        serde_json::json!({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "clientConnection": {"kubeconfig": proxy},
            "hostnameOverride": name,
            "mode": "iptables",
            // The table of connections is the machine's; its size is not ours to set.
            "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        }),
    )?;
    // A pair of devices for each pod and no bridge: every packet is routed, so that services work between pods of one
    // node without the br_netfilter module.
    json(
        "cni/10-pods.conflist",
        serde_json::json!({
            "cniVersion": "1.0.0",
            "name": "pods",
            "plugins": [
                {"type": "ptp", "ipMasq": false, "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": instance.pod_range(number)}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                }},
                {"type": "portmap", "capabilities": {"portMappings": true}},
            ],
        }),
    )?;
    let containerd = format!(
        r#"version = 3
root = "/var/lib/containerd"
# The kubelet's cAdvisor looks for the socket nowhere else, whatever it is told.
state = "/run/containerd"
[grpc]
address = "/run/containerd/containerd.sock"
[plugins."io.containerd.cri.v1.images"]
snapshotter = "{snapshotter}"
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{sandbox}"
[plugins."io.containerd.cri.v1.runtime"]
# Not every machine may lower an OOM score.
restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
SystemdCgroup = false
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["{plugins}"]
conf_dir = "{cni}"
"#,
        snapshotter = snapshotter(folder)?,
        sandbox = programs::WORKLOAD.image,
        plugins = plugins.display(),
        cni = folder.join("cni").display(),
    );
    fs::write(folder.join("containerd.toml"), containerd).context("cannot write containerd.toml")
}

/// An overlay cannot lie on an overlay, which is what the file system of a container usually is.
fn snapshotter(folder: &Path) -> Result<&'static str> {
    const OVERLAYFS_SUPER_MAGIC: u64 = 0x794c_7630;
    let kind =
        rustix::fs::statfs(folder).with_context(|| format!("cannot look at {}", folder.display()))?.f_type;
    Ok(if u64::try_from(kind) == Ok(OVERLAYFS_SUPER_MAGIC) { "native" } else { "overlayfs" })
}

fn node_path() -> Result<String> {
    let (kubernetes, containerd) = (KUBERNETES.ensure()?, CONTAINERD.ensure()?);
    let (Some(kubernetes), Some(containerd)) = (kubernetes.to_str(), containerd.to_str()) else {
        bail!("the folder of built parts has a name that is not text");
    };
    Ok(format!("{kubernetes}:{containerd}:{}", packages::path()))
}
