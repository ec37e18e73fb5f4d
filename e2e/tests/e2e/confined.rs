//! What confines the agent in a pod: Landlock, and the seccomp profile that a node can be given for it.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use e2e::cluster::Cluster;
use e2e::parts::HELM;
use e2e::process::output;
use e2e::product::{Agent, NAMESPACE};
use e2e::seccomp;
use e2e::wait::wait_for;
use landlock::{ABI, Access as _, AccessFs, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _};

use crate::installed::PATIENCE;
use crate::release::Release;

/// Below the kubelet's root, as `docs/harden-the-agent.md` says.
const PLACE: &str = "/var/lib/kubelet/seccomp/exporter-agent.json";
const VALUES: &str = "--set=agent.podSecurityContext.seccompProfile.type=Localhost,\
    agent.podSecurityContext.seccompProfile.localhostProfile=exporter-agent.json";

pub(crate) fn under_its_own_seccomp_profile_and_landlock_the_agent_gives_the_same(
    cluster: &Cluster,
) -> Result<()> {
    let release = Release::none_yet(cluster, HELM, "privileged")?;
    release.install(&["--wait"])?;
    release.agents_are_ready()?;
    let free = Agent::first(cluster)?;
    let expected = wait_for("what the kubelet says of the disk", PATIENCE, || {
        let text = free.get(cluster, "/metrics", &[])?.text()?.to_owned();
        Ok(text.contains("\ncontainer_ephemeral_storage_usage_bytes{").then(|| seccomp::told(&text)))
    })?;

    release.begin_upgrade(&[VALUES])?;
    wait_for("a node to refuse a profile that it does not have", PATIENCE, || {
        let events = cluster.kubectl.get(&["events", "-n", NAMESPACE])?.to_string();
        Ok(events.contains("exporter-agent.json").then_some(()))
    })?;
    let profile = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/seccomp.json");
    for node in &cluster.machine()?.nodes {
        output(node.command("install")?.args(["-D", "--mode=644"]).arg(&profile).arg(PLACE))?;
    }
    release.agents_are_ready()?;

    let bound = Agent::first(cluster)?;
    ensure!(bound != free, "{} was not replaced", free.pod);
    wait_for("the same families and collectors", PATIENCE, || {
        let found = seccomp::told(bound.get(cluster, "/metrics", &[])?.text()?);
        let differ: Vec<_> = expected.iter().filter(|(key, value)| found.get(*key) != Some(value)).collect();
        ensure!(differ.is_empty(), "these differ: {differ:?}");
        Ok(Some(()))
    })?;
    let node = cluster.machine()?.nodes.first().context("no node")?;
    let processes = node.processes("exporter-agent --web.listen-address=")?;
    let process = processes.first().context("no process of the agent")?;
    let status = fs::read_to_string(format!("/proc/{}/status", process.as_raw_nonzero()))?;
    ensure!(status.contains("Seccomp:\t2"), "the agent runs without a filter:\n{status}");
    let own = bound.scrape(cluster, "/metrics/agent")?;
    let enforced = own.one("exporter_agent_landlock_enforced", &[])?.value;
    ensure!(enforced == f64::from(u8::from(has_landlock())), "exporter_agent_landlock_enforced {enforced}");
    Ok(())
}

/// Whether this kernel has Landlock, and it is switched on.
fn has_landlock() -> bool {
    let rules = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    rules.handle_access(AccessFs::from_all(ABI::V1)).and_then(|it| it.create()).is_ok()
}
