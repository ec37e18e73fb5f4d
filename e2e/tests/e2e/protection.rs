//! What the chart keeps others from: the account of the agents, and metrics that are not for them.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use e2e::cluster::Cluster;
use e2e::https::Asker;
use e2e::parts::HELM;
use e2e::pki::{Authority, Subject};
use e2e::product::{Agent, NAMESPACE};
use e2e::wait::wait_for;

use crate::installed::{self, PATIENCE};
use crate::release::Release;

const ACCOUNT: &str = "exporter-operator-agent";
const BEARER: &str = "--set=agent.metrics.protection=bearer";
const CERTIFICATE: &str =
    "--set=agent.metrics.protection=clientCertificate,agent.metrics.clientCA.configMap=scrapers";
const TLS: &str = "--set=agent.metrics.protection=tls";
/// The name in the agents' certificate.
const NAME: &str = "exporter-operator-agent.exporter-operator.svc";
/// Two accounts, of which one may read metrics.
const SCRAPERS: &str = r#"
apiVersion: v1
kind: ServiceAccount
metadata: {name: scraper, namespace: shop}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: curious, namespace: shop}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: e2e-reads-metrics}
rules: [{nonResourceURLs: [/metrics], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: e2e-reads-metrics}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: e2e-reads-metrics}
subjects: [{kind: ServiceAccount, name: scraper, namespace: shop}]
"#;

pub(crate) fn nobody_else_runs_pods_or_asks_for_tokens_under_the_agents_account(
    cluster: &Cluster,
) -> Result<()> {
    let release = Release::none_yet(cluster, HELM, "privileged")?;
    release.install(&["--wait"])?;
    release.agents_are_ready()?;
    let pod = format!(
        r#"{{"apiVersion": "v1", "kind": "Pod", "metadata": {{"name": "pretender", "namespace": "{NAMESPACE}"}}, "spec": {{
            "serviceAccountName": "{ACCOUNT}", "containers": [{{"name": "a", "image": "local/workload:dev"}}]}}}}"#
    );
    // A policy takes effect some time after it is there.
    wait_for("the pod to be refused", PATIENCE, || {
        let applied = cluster.kubectl.apply(&pod);
        let Err(error) = applied else {
            cluster.kubectl.run(&[
                "delete",
                "pod",
                "pretender",
                "-n",
                NAMESPACE,
                "--force",
                "--grace-period=0",
            ])?;
            anyhow::bail!("an administrator may run a pod under {ACCOUNT}");
        };
        let said = format!("{error:#}");
        ensure!(said.contains("Only the DaemonSet of exporter-operator runs pods"), "{said}");
        Ok(Some(()))
    })?;
    wait_for("the token to be refused", PATIENCE, || {
        let Err(error) = cluster.kubectl.run(&["create", "token", ACCOUNT, "-n", NAMESPACE]) else {
            anyhow::bail!("an administrator may ask for a token of {ACCOUNT}");
        };
        let said = format!("{error:#}");
        ensure!(said.contains("Only kubelets ask for tokens"), "{said}");
        Ok(Some(()))
    })?;
    // The DaemonSet goes on to make pods, and kubelets to ask for tokens.
    cluster.kubectl.run(&["rollout", "restart", crate::release::DAEMONSET, "-n", NAMESPACE])?;
    release.agents_are_ready()
}

pub(crate) fn metrics_are_for_those_alone_whom_the_cluster_lets_read_them(cluster: &Cluster) -> Result<()> {
    let release = Release::none_yet(cluster, HELM, "privileged")?;
    cluster.kubectl.apply(SCRAPERS)?;
    release.install(&["--wait", BEARER])?;
    release.agents_are_ready()?;
    let agent = Agent::first(cluster)?;
    let asker = Asker::new(NAME, &authority(cluster)?, None)?;
    let status = |path: &str, token: Option<&str>| -> Result<u16> {
        cluster.machine()?.plane.netns.inside(|| asker.status(agent.address(), path, token))?
    };
    let token = |account: &str| -> Result<String> {
        Ok(cluster.kubectl.run(&["create", "token", account, "-n", "shop"])?.trim().to_owned())
    };
    let (scraper, curious) = (token("scraper")?, token("curious")?);
    wait_for("an answer to who may read", PATIENCE, || {
        let status = status("/metrics/agent", Some(&scraper))?;
        ensure!(status == 200, "status {status}");
        Ok(Some(()))
    })?;
    for (path, shown, expected) in [
        ("/metrics", None, 401),
        ("/metrics/node", Some("nobody's"), 401),
        ("/metrics/cadvisor", Some(curious.as_str()), 403),
        ("/", Some(curious.as_str()), 403),
        ("/metrics/cadvisor", Some(scraper.as_str()), 200),
        ("/-/healthy", None, 200),
    ] {
        let found = status(path, shown)?;
        ensure!(found == expected, "{path} with {shown:?}: {found}, not {expected}");
    }
    ensure!(agent.get(cluster, "/metrics/agent", &[]).map_or(true, |it| it.status != 200), "without TLS");

    installed::scale_operator(cluster, 0)?;
    let known = status("/metrics/agent", Some(&scraper))?;
    let stranger = status("/metrics/agent", Some(&token("scraper")?))?;
    ensure!(
        (known, stranger) == (200, 503),
        "with the operator away: {known} and {stranger}, not 200 and 503"
    );
    Ok(())
}

pub(crate) fn metrics_are_for_those_alone_who_show_a_certificate(cluster: &Cluster) -> Result<()> {
    let release = Release::none_yet(cluster, HELM, "privileged")?;
    let plane = &cluster.machine()?.plane;
    let from = format!("--from-file=ca.crt={}", plane.authority.path("ca.crt"));
    cluster.kubectl.run(&["create", "configmap", "scrapers", "-n", NAMESPACE, &from])?;
    release.install(&["--wait", CERTIFICATE])?;
    release.agents_are_ready()?;
    let agent = Agent::first(cluster)?;
    let folder = cluster.machine()?.instance.folder().join("strangers");
    let _ = fs::remove_dir_all(&folder);
    let strangers = Authority::create(&folder)?;
    strangers.issue("stranger", &Subject::user("scraper"), &[])?;
    let ca = authority(cluster)?;
    let of = |authority: &Authority, name: &str| {
        [format!("{name}.crt"), format!("{name}.key")].map(|it| authority.path(&it))
    };
    let status = |shown: Option<&[String; 2]>, path: &str| -> Result<u16> {
        let asker = Asker::new(NAME, &ca, shown)?;
        plane.netns.inside(|| asker.status(agent.address(), path, None))?
    };
    let scraper = of(&plane.authority, "kubelet-client");
    for (shown, path, expected) in [
        (Some(&scraper), "/metrics", 200),
        (None, "/metrics", 401),
        (None, "/metrics/cadvisor", 401),
        (None, "/-/healthy", 200),
    ] {
        let found = status(shown, path)?;
        ensure!(found == expected, "{path} with {shown:?}: {found}, not {expected}");
    }
    let stranger = status(Some(&of(&strangers, "stranger")), "/metrics");
    ensure!(stranger.is_err(), "a certificate of a strange authority: {stranger:?}");

    release.upgrade(&[TLS])?;
    let agent = Agent::first(cluster)?;
    let asker = Asker::new(NAME, &ca, None)?;
    let found = plane.netns.inside(|| asker.status(agent.address(), "/metrics", None))??;
    ensure!(found == 200, "by TLS for everybody: {found}");
    ensure!(agent.get(cluster, "/metrics", &[]).map_or(true, |it| it.status != 200), "without TLS");
    Ok(())
}

/// What the agents' certificate is signed by.
fn authority(cluster: &Cluster) -> Result<String> {
    let found = cluster.kubectl.get(&["configmap", "exporter-operator-ca", "-n", NAMESPACE])?;
    Ok(found["data"]["ca.crt"].as_str().context("no bundle")?.to_owned())
}
