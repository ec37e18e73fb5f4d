//! Names for the pods of a cluster of our own: CoreDNS, at the address that its kubelets give to pods.

use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::cluster::Cluster;
use crate::parts::COREDNS;

const MANIFEST: &str = include_str!("../manifests/coredns.yaml");

/// Installs it, where it is not there yet, and waits until it answers.
pub fn ensure(cluster: &Cluster) -> Result<()> {
    let deployment = "deployment/coredns";
    if cluster.kubectl.find(&["-n", "kube-system", deployment])?.is_none() {
        COREDNS.load("coredns", cluster.machine()?.nodes.first().context("no node")?)?;
        cluster.kubectl.apply(MANIFEST)?;
    }
    cluster.kubectl.rollout(deployment, "kube-system", Duration::from_secs(60))
}
