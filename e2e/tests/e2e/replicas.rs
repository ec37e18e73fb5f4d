//! Two operators, of which one leads and the other takes its place.

use anyhow::{Context as _, Result, ensure};
use e2e::cluster::Cluster;
use e2e::parts::HELM;
use e2e::product::{Agent, NAMESPACE};
use e2e::wait::wait_for;

use crate::chart::{POLICY, acts};
use crate::installed::PATIENCE;
use crate::release::Release;

pub(crate) fn when_the_leader_is_gone_agents_believe_the_other_operator_and_hear_it(
    cluster: &Cluster,
) -> Result<()> {
    let kubectl = &cluster.kubectl;
    let release = Release::none_yet(cluster, HELM, "privileged")?;
    release.install(&["--wait", "--set=operator.replicas=2"])?;
    kubectl.apply(POLICY)?;
    let agent = acts(cluster)?;
    let authority = || -> Result<String> {
        let found = kubectl.get(&["configmap", "exporter-operator-ca", "-n", NAMESPACE])?;
        Ok(found["data"]["ca.crt"].as_str().context("no bundle")?.to_owned())
    };
    let (first, bundle) = (leader(cluster)?, authority()?);

    kubectl.run(&["delete", "pod", &first, "-n", NAMESPACE, "--force", "--grace-period=0"])?;
    wait_for("the other operator to lead", PATIENCE, || {
        let now = leader(cluster)?;
        ensure!(now != first, "{first} still has the Lease");
        Ok(Some(()))
    })?;
    kubectl.delete(POLICY)?;
    wait_for("the end of the policy", PATIENCE, || {
        let all = agent.scrape(cluster, "/metrics")?;
        ensure!(all.has("container_spec_memory_limit_bytes"), "what it excluded is not exposed again");
        Ok(Some(()))
    })?;
    ensure!(Agent::first(cluster)? == agent, "{} was replaced", agent.pod);
    ensure!(authority()? == bundle, "the other operator has an authority of its own");
    Ok(())
}

/// The pod that has the Lease.
fn leader(cluster: &Cluster) -> Result<String> {
    let lease = cluster.kubectl.get(&["lease", "exporter-operator", "-n", NAMESPACE])?;
    Ok(lease["spec"]["holderIdentity"].as_str().context("nobody has the Lease")?.to_owned())
}
