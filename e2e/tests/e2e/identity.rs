//! Whom the operator believes: the agent of a node, and nobody who only says so.

use anyhow::{Context as _, Result, ensure};
use e2e::channel::{Answer, Channel};
use e2e::cluster::Cluster;
use e2e::product::{Agent, NAMESPACE};
use e2e::wait::wait_for;
use serde_json::{Value, json};

use crate::installed::{self, PATIENCE, installed};

const AUDIENCE: &str = "exporter-operator.dev";
const ACCOUNT: &str = "exporter-agent";

pub(crate) fn an_agent_is_told_of_its_own_node_and_whoever_pretends_to_be_one_of_nothing(
    cluster: &Cluster,
) -> Result<()> {
    let agent = installed(cluster)?;
    let agents = Agent::all(cluster)?;
    let other = agents.iter().find(|it| it.node != agent.node).context("a second agent")?;
    let channel = Channel::new(cluster)?;
    let attack = |reason: &str, node: &str, token: &str, said: &str| -> Result<()> {
        let before = refused(cluster, reason)?;
        let answer = channel.ask(node, token).with_context(|| reason.to_owned())?;
        let Answer::Refused(code, message) = &answer else { anyhow::bail!("{reason}: {answer:?}") };
        ensure!(code == "PermissionDenied" && message.contains(said), "{reason}: {code}: {message}");
        ensure!(refused(cluster, reason)? > before, "{reason} is not counted");
        told(cluster, said)
    };

    // The token of another service account, of no pod, for somebody else, and none that the API server signed.
    attack(
        "other_account",
        &agent.node,
        &token(cluster, "default", &[])?,
        "not the service account of the agents",
    )?;
    attack("unbound_token", &agent.node, &token(cluster, ACCOUNT, &[])?, "not bound to a pod")?;
    let elsewhere =
        cluster.kubectl.run(&["create", "token", ACCOUNT, "-n", NAMESPACE, "--audience=somebody-else"])?;
    attack("invalid_token", &agent.node, elsewhere.trim(), "does not take the token")?;

    // An agent's own, for another node; and used beside the agent itself.
    let own = bound(cluster, ACCOUNT, &agent.pod)?;
    attack("claims_other_node", &other.node, &own, &format!("says that it is on node {}", other.node))?;
    attack("elsewhere", &agent.node, &own, "has a stream from its own address")?;

    // Pods that somebody else made under the agents' account: one that no node runs, and one that runs.
    let unscheduled = Pod::new(cluster, "nowhere", json!({"kubernetes.io/hostname": "nowhere"}))?;
    attack("unbound_token", &agent.node, &bound(cluster, ACCOUNT, "nowhere")?, "it lacks")?;
    drop(unscheduled);
    let foreign = Pod::new(cluster, "foreign", json!({"kubernetes.io/hostname": agent.node}))?;
    wait_for("the pod to be given a node", PATIENCE, || {
        let pod = cluster.kubectl.get(&["pod", "foreign", "-n", NAMESPACE])?;
        Ok(pod["spec"]["nodeName"].is_string().then_some(()))
    })?;
    let stolen = bound(cluster, ACCOUNT, "foreign")?;
    attack("foreign_pod", &agent.node, &stolen, "not one of the agents' DaemonSet")?;
    drop(foreign);
    // For some seconds the API server still takes the token of a pod that is gone; the operator does not.
    let count = || Ok::<_, anyhow::Error>(refused(cluster, "no_pod")? + refused(cluster, "invalid_token")?);
    let before = count()?;
    let answer = channel.ask(&agent.node, &stolen)?;
    let Answer::Refused(code, message) = &answer else { anyhow::bail!("a pod that is gone: {answer:?}") };
    let said = ["foreign of the token is not there", "does not take the token"];
    let said = said.into_iter().find(|said| message.contains(said)).context(message.clone())?;
    ensure!(code == "PermissionDenied", "a pod that is gone: {code}: {message}");
    ensure!(count()? > before, "the token of a pod that is gone is not counted");
    told(cluster, said)?;

    for agent in &agents {
        let own = agent.scrape(cluster, "/metrics/agent")?;
        ensure!(
            own.one("exporter_agent_operator_connected", &[])?.value == 1.0,
            "{} lost its stream",
            agent.node
        );
    }
    Ok(())
}

pub(crate) fn authorities_follow_each_other_without_the_end_of_a_stream_and_a_new_operator_is_believed(
    cluster: &Cluster,
) -> Result<()> {
    installed(cluster)?;
    let kubectl = &cluster.kubectl;
    let bundle = || -> Result<(String, usize)> {
        let found = kubectl.get(&["configmap", "exporter-operator-ca", "-n", NAMESPACE])?;
        let bundle = found["data"]["ca.crt"].as_str().context("no bundle")?.to_owned();
        let count = bundle.matches("BEGIN CERTIFICATE").count();
        Ok((bundle, count))
    };
    let (before, _) = bundle()?;
    let streams = streams(cluster)?;
    kubectl.run(&[
        "annotate",
        "secret",
        "exporter-operator-ca",
        "-n",
        NAMESPACE,
        "exporter-operator.dev/rotate=now",
    ])?;
    let signs = |key: &str| -> Result<String> {
        let secret = kubectl.get(&["secret", "exporter-operator-ca", "-n", NAMESPACE])?;
        Ok(secret["data"][key].as_str().unwrap_or_default().to_owned())
    };
    let old = signs("ca.crt")?;
    wait_for("agents to be told of the next authority", PATIENCE, || Ok((bundle()?.1 == 2).then_some(())))?;
    ensure!(bundle()?.0.contains(before.trim()), "agents no longer believe the one before");
    wait_for("the next authority to sign", 2 * PATIENCE, || Ok((signs("ca.crt")? != old).then_some(())))?;
    for agent in Agent::all(cluster)? {
        // A kubelet brings a ConfigMap into a pod when it next looks at the pod, which a change of the pod hastens.
        kubectl.run(&["annotate", "pod", &agent.pod, "-n", NAMESPACE, "e2e/look=again", "--overwrite"])?;
    }
    ensure!(self::streams(cluster)? == streams, "a stream ended: {streams:?}, {:?}", self::streams(cluster)?);
    // One that comes now has a certificate of the new authority alone.
    installed::restart_operator(cluster)?;
    wait_for("every agent to follow the operator", 2 * PATIENCE, || {
        let connected = metric(cluster, "exporter_operator_connected_agents")?;
        Ok((connected == Some(Agent::all(cluster)?.len() as f64)).then_some(()))
    })
}

/// How many streams there are, and how many ended for one of these.
fn streams(cluster: &Cluster) -> Result<Vec<Option<f64>>> {
    let names = [
        "exporter_operator_connected_agents",
        "exporter_operator_streams_refused_total{reason=\"replaced\"}",
        "exporter_operator_streams_refused_total{reason=\"expired_token\"}",
    ];
    names.into_iter().map(|name| metric(cluster, name)).collect()
}

fn refused(cluster: &Cluster, reason: &str) -> Result<f64> {
    let name = format!("exporter_operator_streams_refused_total{{reason=\"{reason}\"}}");
    metric(cluster, &name)?.with_context(|| format!("the operator does not know the reason {reason}"))
}

/// A metric of the operator.
fn metric(cluster: &Cluster, series: &str) -> Result<Option<f64>> {
    let label = "app.kubernetes.io/name=exporter-operator";
    let pods = cluster.kubectl.get(&["pods", "-n", NAMESPACE, "-l", label])?;
    let pod = pods["items"][0]["metadata"]["name"].as_str().context("no operator")?;
    let text = cluster.kubectl.raw_of_pod(NAMESPACE, pod, 8080, "/metrics")?;
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map(|value| value.parse().context("not a number")).transpose()
}

/// Waits for the Event that says this.
fn told(cluster: &Cluster, said: &str) -> Result<()> {
    wait_for(&format!("an event that says `{said}`"), PATIENCE, || {
        let events =
            cluster.kubectl.get(&["events", "-n", NAMESPACE, "--field-selector=reason=AgentDenied"])?;
        let events = events["items"].as_array().cloned().unwrap_or_default();
        let says = |event: &Value| {
            event["message"].as_str().is_some_and(|message| message.contains(said))
                && event["involvedObject"]["kind"] == "DaemonSet"
        };
        Ok(events.iter().any(says).then_some(()))
    })
}

fn token(cluster: &Cluster, account: &str, more: &[&str]) -> Result<String> {
    let audience = format!("--audience={AUDIENCE}");
    let arguments = [&["create", "token", account, "-n", NAMESPACE, &audience], more].concat();
    Ok(cluster.kubectl.run(&arguments)?.trim().to_owned())
}

/// A token of the account, bound to a pod as the kubelet's is.
fn bound(cluster: &Cluster, account: &str, pod: &str) -> Result<String> {
    token(cluster, account, &["--bound-object-kind=Pod", &format!("--bound-object-name={pod}")])
}

/// A pod under the agents' account that no DaemonSet made, deleted at once when dropped.
struct Pod<'a> {
    cluster: &'a Cluster,
    name: &'a str,
}

impl<'a> Pod<'a> {
    fn new(cluster: &'a Cluster, name: &'a str, node_selector: Value) -> Result<Self> {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {
                "serviceAccountName": ACCOUNT, "nodeSelector": node_selector,
                "tolerations": [{"operator": "Exists"}],
                "containers": [{"name": "sleep", "image": "local/workload:dev", "imagePullPolicy": "Never"}],
            },
        });
        cluster.kubectl.apply(&pod.to_string())?;
        Ok(Self { cluster, name })
    }
}

impl Drop for Pod<'_> {
    fn drop(&mut self) {
        let arguments = ["delete", "pod", self.name, "-n", NAMESPACE, "--force", "--grace-period=0"];
        let _ = self.cluster.kubectl.run(&arguments);
    }
}
