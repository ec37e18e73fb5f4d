//! What a policy does to a running agent, and what becomes of one that cannot be done.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use e2e::cluster::Cluster;
use e2e::exposition::Exposition;
use e2e::kubectl::Kubectl;
use e2e::product::{Agent, POLICIES};
use e2e::wait::wait_for;
use serde_json::Value;

use crate::installed::{self, PATIENCE, installed};

/// The family that the tests look at, and one that they exclude.
const CPU: &str = "container_cpu_usage_seconds_total";
const MEMORY: &str = "container_memory_working_set_bytes";

pub(crate) fn an_agent_without_policies_exposes_everything_of_its_node_and_its_pods(
    cluster: &Cluster,
) -> Result<()> {
    let agent = installed(cluster)?;
    let cart = [("namespace", "shop"), ("container", "cart")];
    wait_for("the pods of the shop to be exposed", PATIENCE, || {
        let all = agent.scrape(cluster, "/metrics")?;
        ensure!(
            all.has("node_load1")
                && all.has("node_cpu_seconds_total")
                && all.has("exporter_agent_build_info")
        );
        let sample = all.one(CPU, &cart)?;
        ensure!(
            sample.label("pod").starts_with("cart-") && sample.label("image").contains("workload"),
            "{sample:?}"
        );
        ensure!(all.one("container_spec_memory_limit_bytes", &cart)?.value == f64::from(64 << 20));
        Ok(Some(()))
    })?;
    let parts = ["/metrics/node", "/metrics/cadvisor", "/metrics/agent"];
    let [node, cadvisor, own] = parts.map(|path| agent.scrape(cluster, path));
    let only = |s: &Exposition, prefixes: &[&str]| {
        s.samples().iter().all(|s| prefixes.iter().any(|prefix| s.name.starts_with(prefix)))
    };
    // What node_exporter says of itself is in both.
    ensure!(only(&node?, &["node_", "process_", "promhttp_"]), "a family of another part in /metrics/node");
    let of_cadvisor = ["cadvisor_", "container_", "machine_"];
    ensure!(only(&cadvisor?, &of_cadvisor), "a family of another part in /metrics/cadvisor");
    let own_prefixes = ["exporter_agent_", "process_", "promhttp_"];
    ensure!(only(&own?, &own_prefixes), "a family of another part in /metrics/agent");
    Ok(())
}

pub(crate) fn every_row_that_the_kubelet_gives_of_pods_is_there_with_its_labels(
    cluster: &Cluster,
) -> Result<()> {
    let agent = installed(cluster)?;
    let path = format!("/api/v1/nodes/{}/proxy/metrics/cadvisor", agent.node);
    // The kubelet looks at its cgroups every ten to fifteen seconds, so both are asked until they know the same pods.
    wait_for("the same rows as the kubelet's", PATIENCE, || {
        let rows = |exposition: &Exposition| -> std::collections::BTreeSet<[String; 5]> {
            let pods =
                exposition.samples().iter().filter(|s| s.name == CPU && s.label("id").contains("kubepods"));
            pods.map(|s| ["id", "name", "namespace", "pod", "container"].map(|l| s.label(l).to_owned()))
                .collect()
        };
        let theirs = rows(&Exposition::parse(&without_timestamps(&cluster.kubectl.raw(&path)?))?);
        let ours = rows(&agent.scrape(cluster, "/metrics/cadvisor")?);
        ensure!(theirs.len() > 20, "the kubelet has {} rows", theirs.len());
        let missing: Vec<_> = theirs.difference(&ours).collect();
        ensure!(missing.is_empty(), "missing: {missing:?}");
        let extra: Vec<_> = ours.difference(&theirs).collect();
        ensure!(extra.is_empty(), "not the kubelet's: {extra:?}");
        Ok(Some(()))
    })
}

pub(crate) fn a_policy_changes_what_a_running_agent_exposes_without_a_restart(
    cluster: &Cluster,
) -> Result<()> {
    let agent = installed(cluster)?;
    let before = restarts(cluster, &agent)?;
    let policy = Policy::new(
        cluster,
        "team-labels",
        r#"{"namespaceSelector": {"matchLabels": {"team": "web"}}, "labels": {
            "podLabels": ["app.kubernetes.io/name"], "namespaceLabels": ["team"],
            "nodeLabels": ["kubernetes.io/hostname"], "workload": true, "qosClass": true}}"#,
    )?;
    let applied = Instant::now();
    policy.apply()?;
    let returned = applied.elapsed();
    let mut taken = None;
    wait_for("the pod label in the exposition", Duration::from_secs(10), || {
        let exposition = agent.scrape(cluster, "/metrics/cadvisor")?;
        let cart = exposition.one(CPU, &[("namespace", "shop"), ("container", "cart")])?;
        ensure!(cart.label("label_app_kubernetes_io_name") == "cart", "no label yet: {cart:?}");
        taken = Some(applied.elapsed());
        let added = ["workload", "workload_type", "namespace_label_team", "qos_class"];
        ensure!(
            added.map(|label| cart.label(label)) == ["cart", "deployment", "web", "Burstable"],
            "{cart:?}"
        );
        ensure!(cart.label("node_label_kubernetes_io_hostname") == agent.node, "{cart:?}");
        let elsewhere = exposition.select(CPU, &[("namespace", "batch")]);
        let labelled = elsewhere.iter().any(|s| !s.label("label_app_kubernetes_io_name").is_empty());
        ensure!(!elsewhere.is_empty() && !labelled, "a pod of another namespace got it");
        Ok(Some(()))
    })?;
    println!(
        "from `kubectl apply` to the changed exposition: {:.2} s, of which kubectl took {:.2} s",
        taken.context("no time")?.as_secs_f64(),
        returned.as_secs_f64()
    );
    ensure!(restarts(cluster, &agent)? == before, "the agent was restarted");
    policy.condition("Programmed", "True", "Programmed").map(drop)
}

pub(crate) fn a_family_that_a_policy_excludes_is_gone_and_comes_back_with_its_deletion(
    cluster: &Cluster,
) -> Result<()> {
    let agent = installed(cluster)?;
    let policy = Policy::new(
        cluster,
        "less",
        r#"{"metrics": {"exclude": ["container_memory_working_set.*", "node_load.*"]}}"#,
    )?;
    policy.apply()?;
    let has = |families: [&str; 2]| -> Result<[bool; 2]> {
        let exposition = agent.scrape(cluster, "/metrics")?;
        ensure!(exposition.has(CPU) && exposition.has("node_cpu_seconds_total"), "the others are gone too");
        Ok(families.map(|family| exposition.has(family)))
    };
    wait_for("the families to be gone", PATIENCE, || {
        Ok((has([MEMORY, "node_load1"])? == [false, false]).then_some(()))
    })?;
    policy.delete()?;
    wait_for("the default to be back", PATIENCE, || {
        Ok((has([MEMORY, "node_load1"])? == [true, true]).then_some(()))
    })
}

pub(crate) fn an_invalid_policy_is_refused_by_the_api_server_with_the_field(cluster: &Cluster) -> Result<()> {
    installed(cluster)?;
    let scoped =
        r#"{"podSelector": {"matchLabels": {"a": "b"}}, "collectors": [{"name": "cpu", "enabled": false}]}"#;
    let together = "collectors may not be set together with";
    let profile = (r#"{"metrics": {"profile": "Tiny"}}"#, "spec.metrics.profile");
    for (spec, expected) in [(scoped, together), (r#"{"priority": 2000000}"#, "spec.priority"), profile] {
        let policy = Policy::new(cluster, "invalid", spec)?;
        match policy.apply() {
            Ok(said) => bail!("{spec} was taken: {said}"),
            Err(error) => {
                ensure!(format!("{error:#}").contains(expected), "no word of {expected}: {error:#}")
            }
        }
    }
    Ok(())
}

pub(crate) fn a_policy_that_only_an_agent_can_refuse_ends_as_a_condition_with_its_reason(
    cluster: &Cluster,
) -> Result<()> {
    installed(cluster)?;
    let bad = Policy::new(cluster, "bad-option", BAD_OPTION)?;
    bad.apply()?;
    let message = bad.condition("Accepted", "False", "InvalidOption")?;
    ensure!(message.contains("mountPointsExclude"), "no word of the field: {message}");
    bad.condition("Programmed", "False", "NotAccepted").map(drop)
}

pub(crate) fn an_unknown_collector_is_a_warning_and_the_rest_applies(cluster: &Cluster) -> Result<()> {
    let agent = installed(cluster)?;
    let policy = Policy::new(
        cluster,
        "unknown",
        r#"{"collectors": [{"name": "warp", "enabled": true}], "metrics": {"exclude": ["node_load15"]}}"#,
    )?;
    policy.apply()?;
    let message = policy.condition("Accepted", "True", "AcceptedWithWarnings")?;
    ensure!(message.contains("warp"), "no word of the collector: {message}");
    wait_for("the rest to apply", PATIENCE, || {
        let exposition = agent.scrape(cluster, "/metrics/node")?;
        Ok((exposition.has("node_load1") && !exposition.has("node_load15")).then_some(()))
    })
}

pub(crate) fn a_policy_that_asks_for_peaks_shows_those_of_a_container_that_burns(
    cluster: &Cluster,
) -> Result<()> {
    let agent = installed(cluster)?;
    let policy = Policy::new(
        cluster,
        "peaks",
        r#"{"collectors": [{"name": "container_cpu_peak", "enabled": true}]}"#,
    )?;
    policy.apply()?;
    wait_for("a peak", PATIENCE, || {
        let exposition = agent.scrape(cluster, "/metrics/cadvisor")?;
        let report = [("namespace", "batch"), ("container", "report")];
        let peak = exposition.one("container_cpu_usage_peak_cores", &report)?.value;
        // It is held to a tenth of a processor.
        ensure!((0.05..0.5).contains(&peak), "{peak} cores");
        Ok(Some(()))
    })
}

pub(crate) fn a_bad_option_in_one_policy_holds_up_no_other_not_even_after_the_operator_restarts(
    cluster: &Cluster,
) -> Result<()> {
    let agent = installed(cluster)?;
    let good = Policy::new(cluster, "good", r#"{"metrics": {"exclude": ["node_load5"]}}"#)?;
    let bad = Policy::new(cluster, "bad-option", BAD_OPTION)?;
    bad.apply()?;
    good.apply()?;
    let without = |family: &'static str| {
        let agent = agent.clone();
        move || Ok((!agent.scrape(cluster, "/metrics/node")?.has(family)).then_some(()))
    };
    wait_for("the good policy to hold", PATIENCE, without("node_load5"))?;
    good.condition("Programmed", "True", "Programmed")?;
    bad.condition("Accepted", "False", "InvalidOption")?;

    installed::restart_operator(cluster)?;
    let edited = Policy::new(cluster, "good", r#"{"metrics": {"exclude": ["node_load15"]}}"#)?;
    edited.apply()?;
    wait_for("the edit after the restart", PATIENCE, without("node_load15"))?;
    edited.condition("Programmed", "True", "Programmed")?;
    bad.condition("Accepted", "False", "InvalidOption")?;
    // The first one is the same object; dropping both deletes it once.
    Ok(())
}

pub(crate) fn kubectl_explains_the_policy_in_sentences(cluster: &Cluster) -> Result<()> {
    installed(cluster)?;
    let explained = cluster.kubectl.run(&["explain", "exporterpolicy.spec"])?;
    for field in
        ["nodeSelector", "namespaceSelector", "podSelector", "priority", "collectors", "metrics", "labels"]
    {
        ensure!(explained.contains(field), "{field} is not explained:\n{explained}");
    }
    ensure!(!explained.contains("<no description>"), "a field has no description:\n{explained}");
    Ok(())
}

const BAD_OPTION: &str =
    r#"{"collectors": [{"name": "filesystem", "options": {"mountPointsExclude": "("}}]}"#;

/// A policy of a test; it is deleted when the test is over, however it ends.
pub(crate) struct Policy<'a> {
    kubectl: &'a Kubectl,
    name: &'static str,
    object: String,
}

impl<'a> Policy<'a> {
    pub(crate) fn new(cluster: &'a Cluster, name: &'static str, spec: &str) -> Result<Self> {
        let spec: Value = serde_json::from_str(spec).with_context(|| format!("the spec of {name}"))?;
        let object = serde_json::json!({
            "apiVersion": "exporter-operator.dev/v1alpha1",
            "kind": "ExporterPolicy",
            "metadata": {"name": name},
            "spec": spec,
        });
        Ok(Self { kubectl: &cluster.kubectl, name, object: object.to_string() })
    }

    pub(crate) fn apply(&self) -> Result<String> {
        self.kubectl.apply(&self.object)
    }

    pub(crate) fn delete(&self) -> Result<String> {
        self.kubectl.delete(&self.object)
    }

    /// Waits for a condition of the present generation; returns its message.
    pub(crate) fn condition(&self, kind: &str, status: &str, reason: &str) -> Result<String> {
        let what = format!("{kind}={status} with reason {reason} of policy {}", self.name);
        wait_for(&what, PATIENCE, || {
            let policy = self.kubectl.get(&[POLICIES, self.name])?;
            let generation = &policy["metadata"]["generation"];
            let conditions = policy["status"]["conditions"].as_array().context("no conditions")?;
            let found = conditions.iter().find(|c| c["type"] == kind).context("no such condition")?;
            ensure!(
                found["status"] == status
                    && found["reason"] == reason
                    && found["observedGeneration"] == *generation,
                "{found}"
            );
            Ok(Some(found["message"].as_str().unwrap_or_default().to_owned()))
        })
    }
}

impl Policy<'_> {
    /// Waits until no condition of this type is there.
    pub(crate) fn no_condition(&self, kind: &str) -> Result<()> {
        wait_for(&format!("policy {} to be without {kind}", self.name), PATIENCE, || {
            let policy = self.kubectl.get(&[POLICIES, self.name])?;
            let conditions = policy["status"]["conditions"].as_array().context("no conditions")?;
            let found = conditions.iter().find(|c| c["type"] == kind);
            ensure!(found.is_none(), "{found:?}");
            Ok(Some(()))
        })
    }
}

impl Drop for Policy<'_> {
    fn drop(&mut self) {
        // One that was never made, or is gone already, is no error; any other shows in the next test.
        let _ = self.delete();
    }
}

/// How often the agent's container was restarted, and which pod it is.
pub(crate) fn restarts(cluster: &Cluster, agent: &Agent) -> Result<(String, Value)> {
    let pod = cluster.kubectl.get(&["pod", "-n", e2e::product::NAMESPACE, &agent.pod])?;
    let status = &pod["status"]["containerStatuses"][0];
    Ok((pod["metadata"]["uid"].to_string(), status["restartCount"].clone()))
}

/// The kubelet gives its samples a time, which the reader of expositions does not take.
fn without_timestamps(text: &str) -> String {
    let line = |line: &str| match line.rsplit_once("} ") {
        Some((series, rest)) if !line.starts_with('#') => {
            format!("{series}}} {}\n", rest.split(' ').next().unwrap_or(rest))
        }
        _ => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}
