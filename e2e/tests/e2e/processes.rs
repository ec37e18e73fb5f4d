//! Processes in groups on a real node: joined to their pods, and with and without the right to look into them.

use anyhow::{Result, ensure};
use e2e::cluster::Cluster;
use e2e::exposition::Exposition;
use e2e::parts::HELM;
use e2e::product::{Agent, NAMESPACE};
use e2e::wait::wait_for;

use crate::installed::{PATIENCE, installed};
use crate::policy::Policy;
use crate::release::Release;

/// What switches them on.
const GROUPS: &str = r#"{"collectors": [{"name": "process_groups", "enabled": true}]}"#;
/// The same, with what an agent without privileges cannot do.
const WITH_SMAPS: &str =
    r#"{"collectors": [{"name": "process_groups", "enabled": true, "options": {"smaps": "true"}}]}"#;
/// Names that are whole command lines, and of each pod the two largest groups: not all three, nor only the sandbox.
const BY_COMMAND_LINE: &str = r#"{"collectors": [{"name": "process_groups", "enabled": true, "options": {
    "exposeCommandLines": "true", "topPerPod": "2",
    "config": "process_names: [{name: '{{.Matches.Line}}', cmdline: ['(?P<Line>.+)']}]"}}]}"#;
const SECRET: &str = "hunter2";
const PROCESSES: &str = "namedprocess_namegroup_num_procs";
const MEMORY: &str = "namedprocess_namegroup_memory_bytes";
const PROPORTIONAL: (&str, &str) = ("memtype", "proportionalResident");
/// Those of the pod that need the privileged profile.
const PRIVILEGED: [&str; 5] = [
    "namedprocess_namegroup_read_bytes_total",
    "namedprocess_namegroup_write_bytes_total",
    "namedprocess_namegroup_open_filedesc",
    "namedprocess_namegroup_worst_fd_ratio",
    "namedprocess_namegroup_threads_wchan",
];

pub(crate) fn a_policy_shows_the_processes_of_each_container_for_as_long_as_their_pod_is_there(
    cluster: &Cluster,
) -> Result<()> {
    let agent = installed(cluster)?;
    let policy = Policy::new(cluster, "groups", GROUPS)?;
    policy.apply()?;
    let pod = Busy::start(cluster)?;
    let said = of_the_pod(cluster, &agent)?;
    // A pod of somebody else shows under its own name only, and the agent is in its own container.
    let own = [("namespace", NAMESPACE), ("container", "agent"), ("groupname", "exporter-agent")];
    let own = said.one(PROCESSES, &own)?;
    ensure!(own.value == 1.0 && own.label("pod") == agent.pod, "the agent's own: {own:?}");
    let reports = [("namespace", "batch"), ("container", "report"), ("groupname", "workload")];
    ensure!(said.one(PROCESSES, &reports)?.value == 1.0);
    let of_node: Vec<_> = said.select(PROCESSES, &[("namespace", ""), ("groupname", "workload")]);
    ensure!(of_node.is_empty(), "processes of pods are nobody's: {of_node:?}");

    drop(pod);
    wait_for("the end of the groups of a pod that was deleted", PATIENCE, || {
        let said = agent.scrape(cluster, "/metrics/processes")?;
        let left = said.samples().iter().find(|sample| sample.label("namespace") == "busy");
        ensure!(left.is_none(), "{left:?}");
        ensure!(said.has(PROCESSES), "the others have ended, too");
        Ok(Some(()))
    })?;
    policy.delete()?;
    wait_for("the end of all groups with the policy", PATIENCE, || {
        Ok((!agent.scrape(cluster, "/metrics/processes")?.has(PROCESSES)).then_some(()))
    })
}

pub(crate) fn what_processes_read_and_have_open_is_there_with_the_privileged_profile_only(
    cluster: &Cluster,
) -> Result<()> {
    let release = Release::none_yet(cluster, HELM, "privileged")?;
    release.install(&["--wait"])?;
    let policy = Policy::new(cluster, "groups", WITH_SMAPS)?;
    policy.apply()?;
    let message = policy.condition("Accepted", "True", "AcceptedWithWarnings")?;
    for said in ["smaps", "CAP_SYS_PTRACE", "agent.processes.privileged"] {
        ensure!(message.contains(said), "no word of {said}: {message}");
    }
    let _pod = Busy::start(cluster)?;
    let agent = Agent::first(cluster)?;
    let said = of_the_pod(cluster, &agent)?;
    for family in PRIVILEGED {
        ensure!(!said.has(family), "without privileges {family} is there");
    }
    ensure!(said.select(MEMORY, &[PROPORTIONAL]).is_empty(), "proportional memory is there");
    let log = cluster.kubectl.run(&["logs", "-n", NAMESPACE, &agent.pod])?;
    ensure!(log.contains("CAP_SYS_PTRACE"), "the log gives no reason:\n{log}");

    release.upgrade(&["--set=agent.processes.privileged=true"])?;
    policy.condition("Accepted", "True", "Accepted")?;
    let agent = Agent::first(cluster)?;
    let writer = [("namespace", "busy"), ("pod", "busy"), ("container", "writer"), ("groupname", "workload")];
    wait_for("what a container writes and has open", PATIENCE, || {
        let said = agent.scrape(cluster, "/metrics/processes")?;
        for family in PRIVILEGED {
            ensure!(!said.select(family, &writer).is_empty(), "no {family}");
        }
        ensure!(said.one(PRIVILEGED[1], &writer)?.value > 0.0, "nothing was written");
        // The standard streams, and the file.
        ensure!(said.one(PRIVILEGED[2], &writer)?.value >= 4.0, "nothing is open");
        let resident = said.one(MEMORY, &[&writer[..], &[PROPORTIONAL]].concat())?;
        ensure!(resident.value > 0.0, "{resident:?}");
        Ok(Some(()))
    })
}

pub(crate) fn a_secret_on_a_command_line_reaches_neither_an_answer_nor_the_log(
    cluster: &Cluster,
) -> Result<()> {
    let agent = installed(cluster)?;
    let policy = Policy::new(cluster, "groups", BY_COMMAND_LINE)?;
    policy.apply()?;
    let _pod = Busy::start(cluster)?;
    let of_pod = [("namespace", "busy"), ("pod", "busy")];
    let largest = wait_for("the largest groups of a pod whole and the others as one", PATIENCE, || {
        let said = agent.scrape(cluster, "/metrics/processes")?;
        let others = said.one(PROCESSES, &[&of_pod[..], &[("groupname", "_other")]].concat())?;
        ensure!(others.value >= 1.0, "{others:?}");
        let groups = said.select(PROCESSES, &of_pod);
        let names = groups.iter().map(|it| it.label("groupname").to_owned());
        let names: Vec<String> = names.filter(|name| name != "_other").collect();
        Ok((names.len() == 2).then_some(names))
    })?;
    let is_redacted = largest.iter().any(|name| name.contains("--token=<redacted>"));
    ensure!(is_redacted, "none was redacted: {largest:?}");
    for path in ["/metrics/processes", "/metrics/agent"] {
        ensure!(!agent.get(cluster, path, &[])?.text()?.contains(SECRET), "{path} has it");
    }
    let log = cluster.kubectl.run(&["logs", "-n", NAMESPACE, &agent.pod])?;
    ensure!(!log.contains(SECRET), "the log has it");
    policy.delete().map(drop)
}

/// Waits until the groups of the pod are there, and each under its own container.
fn of_the_pod(cluster: &Cluster, agent: &Agent) -> Result<Exposition> {
    wait_for("the processes of a pod", PATIENCE, || {
        let said = agent.scrape(cluster, "/metrics/processes")?;
        for (container, threads) in [("writer", 1.0), ("threads", 4.0)] {
            let of =
                [("namespace", "busy"), ("pod", "busy"), ("container", container), ("groupname", "workload")];
            let [processes, of_them] =
                [PROCESSES, "namedprocess_namegroup_num_threads"].map(|f| said.one(f, &of).map(|s| s.value));
            ensure!((processes?, of_them?) == (1.0, threads), "{container}");
        }
        Ok(Some(said))
    })
}

/// A pod with two programs; deleted when dropped.
struct Busy<'a>(&'a Cluster);

impl<'a> Busy<'a> {
    fn start(cluster: &'a Cluster) -> Result<Self> {
        let busy = Busy(cluster);
        wait_for("the end of the pod of an earlier test, and of its namespace", PATIENCE, || {
            let found =
                cluster.kubectl.run(&["get", "namespace", "busy", "--ignore-not-found", "-o=name"])?;
            Ok(found.trim().is_empty().then_some(()))
        })?;
        cluster.kubectl.apply(POD)?;
        cluster.kubectl.wait("condition=Ready", &["pod/busy", "-n", "busy"], PATIENCE)?;
        Ok(busy)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        // One that was never made is no error; whatever else this leaves shows in the next test.
        let _ = self.0.kubectl.delete(POD);
    }
}

const POD: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: busy}
---
apiVersion: v1
kind: Pod
metadata: {name: busy, namespace: busy}
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - name: writer
      image: local/workload:dev
      imagePullPolicy: Never
      args: [write, --path, /data/file, --bytes-per-second, "40960", --token=hunter2]
      volumeMounts: [{name: data, mountPath: /data}]
    - name: threads
      image: local/workload:dev
      imagePullPolicy: Never
      args: [threads, --count, "4", --token=hunter2]
  volumes: [{name: data, emptyDir: {}}]
"#;
