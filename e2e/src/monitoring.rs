//! Prometheus on a cluster of our own, told by the Prometheus operator what to scrape, and asked in PromQL.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::cluster::Cluster;
use crate::exposition::Sample;
use crate::http;
use crate::parts::{PROMETHEUS, PROMETHEUS_OPERATOR};

/// The namespace of all of it.
pub const NAMESPACE: &str = "monitoring";

const MODULE: &str = "github.com/prometheus-operator/prometheus-operator";
const OPERATOR_MANIFEST: &str = include_str!("../manifests/prometheus-operator.yaml");
const PROMETHEUS_MANIFEST: &str = include_str!("../manifests/prometheus.yaml");
const PATIENCE: Duration = Duration::from_secs(120);

/// Whether the cluster knows the kinds of the Prometheus operator.
pub fn is_known(cluster: &Cluster) -> Result<bool> {
    let crd = cluster.kubectl.find(&["crd", "servicemonitors.monitoring.coreos.com"])?;
    Ok(crd.is_some())
}

/// Makes the kinds of the Prometheus operator known, where they are not yet.
pub fn install_kinds(cluster: &Cluster) -> Result<()> {
    if is_known(cluster)? {
        return Ok(());
    }
    let kinds = PROMETHEUS_OPERATOR.source(MODULE)?.join("example/prometheus-operator-crd");
    let kinds = kinds.to_str().context("the path of the kinds is not text")?;
    // Created, since some are too large for what `kubectl apply` notes on an object.
    cluster.kubectl.run(&["create", "-f", kinds])?;
    cluster.kubectl.run(&["wait", "--for=condition=Established", "--timeout=60s", "-f", kinds]).map(drop)
}

/// A running Prometheus.
#[derive(Debug, Clone, Copy)]
pub struct Prometheus<'a> {
    cluster: &'a Cluster,
    address: SocketAddr,
}

impl<'a> Prometheus<'a> {
    /// Installs kinds, operator and Prometheus, where they are not there yet, and waits until it can be asked.
    pub fn ensure(cluster: &'a Cluster) -> Result<Self> {
        if cluster.kubectl.find(&["namespace", NAMESPACE])?.is_none() {
            install_kinds(cluster)?;
            install(cluster)?;
        }
        cluster.kubectl.wait("condition=Available", &["prometheus/e2e", "-n", NAMESPACE], PATIENCE)?;
        let pod = cluster.kubectl.get(&["pod", "prometheus-e2e-0", "-n", NAMESPACE])?;
        let address: IpAddr =
            pod["status"]["podIP"].as_str().context("Prometheus has no address")?.parse()?;
        Ok(Self { cluster, address: SocketAddr::new(address, 9090) })
    }

    /// One that runs already, at an address that the control plane reaches.
    pub fn at(cluster: &'a Cluster, address: SocketAddr) -> Self {
        Self { cluster, address }
    }

    /// The answer to an instant query: a sample for each series of a vector, one without labels for a scalar.
    pub fn query(&self, expression: &str) -> Result<Vec<Sample>> {
        let answer = self.get(&format!("/api/v1/query?query={}", encoded(expression)))?;
        samples(&answer["data"]).with_context(|| format!("`{expression}`"))
    }

    /// The only series of an answer.
    pub fn one(&self, expression: &str) -> Result<Sample> {
        let mut found = self.query(expression)?;
        match (found.pop(), found.as_slice()) {
            (Some(only), []) => Ok(only),
            (last, _) => {
                bail!("{} series, not one: `{expression}`", found.len() + usize::from(last.is_some()))
            }
        }
    }

    /// What it scrapes, as its API tells it.
    pub fn targets(&self) -> Result<Vec<Value>> {
        let mut answer = self.get("/api/v1/targets?state=active")?;
        match answer["data"]["activeTargets"].take() {
            Value::Array(targets) => Ok(targets),
            other => bail!("targets are {other}"),
        }
    }

    /// Has the kubelet hand Prometheus the configuration that the operator has made by now.
    ///
    /// A kubelet renews a mounted Secret when it looks at the pod, which is each time the pod changes, and otherwise
    /// once in one to one and a half minutes (`syncFrequency`).
    pub fn renew(&self) -> Result<()> {
        let kubectl = &self.cluster.kubectl;
        let secret = kubectl.get(&["secret", "prometheus-e2e", "-n", NAMESPACE])?;
        let version = secret["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        let mark = format!("e2e/configuration={version}");
        kubectl.run(&["annotate", "pod", "prometheus-e2e-0", "-n", NAMESPACE, &mark, "--overwrite"]).map(drop)
    }

    fn get(&self, path: &str) -> Result<Value> {
        let netns = &self.cluster.machine()?.plane.netns;
        let response = netns.inside(|| http::get(self.address, path, &[]))??;
        // An error is told in the same form, with another status.
        let answer: Value = serde_json::from_slice(&response.body)
            .with_context(|| format!("Prometheus answers {}", String::from_utf8_lossy(&response.body)))?;
        ensure!(answer["status"] == "success", "Prometheus refuses: {answer}");
        Ok(answer)
    }
}

fn install(cluster: &Cluster) -> Result<()> {
    let node = cluster.machine()?.nodes.first().context("no node")?;
    PROMETHEUS_OPERATOR.load("operator", node)?;
    PROMETHEUS_OPERATOR.load("prometheus-config-reloader", node)?;
    PROMETHEUS.load("prometheus", node)?;

    cluster.kubectl.apply(OPERATOR_MANIFEST)?;
    cluster.kubectl.apply(PROMETHEUS_MANIFEST)?;
    cluster.kubectl.rollout("deployment/prometheus-operator", NAMESPACE, PATIENCE)
}

fn samples(data: &Value) -> Result<Vec<Sample>> {
    let value = |pair: &Value| -> Result<f64> {
        let text = pair[1].as_str().with_context(|| format!("no value: {pair}"))?;
        text.parse().with_context(|| format!("not a number: {text}"))
    };
    let result = &data["result"];
    match data["resultType"].as_str() {
        Some("scalar") => Ok(vec![Sample { name: String::new(), labels: [].into(), value: value(result)? }]),
        Some("vector") => result
            .as_array()
            .into_iter()
            .flatten()
            .map(|series| {
                let labels = series["metric"].as_object().into_iter().flatten();
                let mut labels = labels
                    .map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()))
                    .collect::<std::collections::BTreeMap<_, _>>();
                let name = labels.remove("__name__").unwrap_or_default();
                Ok(Sample { name, labels, value: value(&series["value"])? })
            })
            .collect(),
        other => bail!("an answer of the type {other:?}"),
    }
}

/// As part of a URL.
fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_survives_a_url() {
        assert_eq!(encoded("a{b=~\"c|d+\"}[5m]"), "a%7Bb%3D~%22c%7Cd%2B%22%7D%5B5m%5D");
    }

    #[test]
    fn a_vector_becomes_samples_and_a_scalar_one_without_labels() {
        let vector = serde_json::json!({"resultType": "vector", "result": [
            {"metric": {"__name__": "up", "job": "kubelet"}, "value": [1.5, "1"]},
            {"metric": {}, "value": [1.5, "NaN"]},
        ]});
        let found = samples(&vector).unwrap();
        assert_eq!((found[0].name.as_str(), found[0].label("job"), found[0].value), ("up", "kubelet", 1.0));
        assert!(found[1].value.is_nan());
        let scalar = serde_json::json!({"resultType": "scalar", "result": [1.5, "2"]});
        assert_eq!(samples(&scalar).unwrap()[0].value, 2.0);
        let matrix = serde_json::json!({"resultType": "matrix", "result": []});
        assert!(samples(&matrix).unwrap_err().to_string().contains("matrix"));
    }
}
