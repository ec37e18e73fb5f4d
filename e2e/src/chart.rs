//! Holds the chart, rendered by both majors of Helm, to its goldens, its schema and what its pods promise.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::parts::{HELM, HELM4};

/// What Helm takes the cluster to be where there is none.
const CLUSTER: &[&str] = &["--kube-version=1.36.3"];
/// The kinds of the Prometheus operator, which a cluster may lack.
const MONITORS: &[&str] = &[
    "--api-versions=monitoring.coreos.com/v1/ServiceMonitor",
    "--api-versions=monitoring.coreos.com/v1/PodMonitor",
];

/// Values that nobody can have meant, and what the refusal must name.
const WRONG: &[(&str, &str)] = &[
    ("agnet.port=9110", "agnet"),
    ("agent.port=70000", "/agent/port"),
    ("agent.hostNetwork=true", "hostNetwork"),
    ("agent.operatorAddress=host:9443", "/agent/operatorAddress"),
    ("agent.operatorAddress=http://host:9443", "/agent/operatorAddress"),
    ("agent.metrics.protection=some", "/agent/metrics/protection"),
    ("agent.metrics.protection=clientCertificate", "agent.metrics.clientCA.configMap"),
    ("agent.metrics.clientCA.configMap=ca", "agent.metrics.protection"),
    ("operator.tls.source=none", "/operator/tls/source"),
    ("operator.tls.caOverlap=1d", "/operator/tls/caOverlap"),
    ("operator.tls.source=certManager", "operator.tls.certManager.issuerRef.name"),
    ("agent.defaultAfter=soon", "/agent/defaultAfter"),
    ("agent.lastGood.hostPath=var/lib/x", "/agent/lastGood/hostPath"),
    ("agent.lastGood.hostPath=/", "/agent/lastGood/hostPath"),
    ("agent.processes.privileged=maybe", "/agent/processes/privileged"),
    ("agent.textfile.hostPath=textfiles", "/agent/textfile/hostPath"),
    ("agent.lastGood.hostPath=/var/../etc", "/agent/lastGood/hostPath"),
    ("agent.kubelet.verify=maybe", "'clusterCA', 'caBundle', 'insecureSkipVerify'"),
    ("agent.kubelet.verify=caBundle", "agent.kubelet.caBundle.configMap"),
    ("agent.kubelet.caBundle.configMap=ca", "agent.kubelet.verify"),
    ("agent.image.digest=abc", "/agent/image/digest"),
    (
        "agent.updateStrategy.rollingUpdate.maxUnavailable=some",
        "/agent/updateStrategy/rollingUpdate/maxUnavailable",
    ),
    ("operator.emergency=1", "/operator/emergency"),
    ("operator.replicas=two", "/operator/replicas"),
    ("operator.logLevel=loud", "/operator/logLevel"),
    ("crds.keep=maybe", "/crds/keep"),
    ("imagePullSecrets[0].nme=pull", "nme"),
    ("monitoring.interval=soon", "/monitoring/interval"),
    ("monitoring.limits.samples=3", "samples"),
    (
        "monitoring.serviceMonitor.enabled=true,monitoring.podMonitor.enabled=true",
        "monitoring.podMonitor.enabled",
    ),
];

/// Where the agent sees the node; what it may write is checked by itself.
const HOST_PATHS: &[(&str, &str)] = &[("/proc", "/host/proc"), ("/sys", "/host/sys"), ("/", "/host/root")];

/// Where the agent keeps its last good configuration.
const LAST_GOOD: &str = "/var/lib/exporter-agent";

/// Runs every check and says what was checked. With `UPDATE_EXPECT=1` what is generated is written anew.
pub fn check() -> Result<String> {
    let chart = root().join("charts/exporter-operator");
    let crd_text =
        same(&chart.join("files/exporterpolicies.yaml"), &read(&root().join("crds/exporterpolicies.yaml"))?)?;
    let crd: Value = serde_saphyr::from_str(&crd_text).context("crds/exporterpolicies.yaml")?;
    let programs = [HELM.program("helm")?, HELM4.program("helm")?];
    let [helm3, helm4] = programs.each_ref().map(|program| Helm { program, chart: &chart });

    let schema: Value = serde_json::from_str(&read(&chart.join("values.schema.json"))?)?;
    every_value_has_a_sentence(&read(&chart.join("values.yaml"))?, &schema)?;
    let about: Value = serde_saphyr::from_str(&read(&chart.join("Chart.yaml"))?)?;
    for version in ["version", "appVersion"] {
        ensure!(
            about[version] == env!("CARGO_PKG_VERSION"),
            "Chart.yaml: {version} is not that of the programs"
        );
    }

    let sets = value_sets(&chart.join("ci"))?;
    for (name, file) in &sets {
        let values = format!("--values={}", file.display());
        for helm in [&helm3, &helm4] {
            helm.run("lint", &[&["--strict", &values], CLUSTER].concat())?;
        }
        let arguments = [&[values.as_str()], MONITORS].concat();
        let text = helm3.template(&arguments)?;
        let objects = objects(&text)?;
        ensure!(
            objects == self::objects(&helm4.template(&arguments)?)?,
            "{name}: Helm 4 renders something else"
        );
        same(&chart.join(format!("golden/{name}.yaml")), &without_crd(&text))?;
        let has_crd = objects.iter().any(|it| it["kind"] == "CustomResourceDefinition");
        ensure!(has_crd == (name != "no-crds"), "values {name}: the resource is there: {has_crd}");
        promises(&objects, &crd).with_context(|| format!("values {name}"))?;
    }

    for (set, named) in WRONG {
        for helm in [&helm3, &helm4] {
            let Err(error) = helm.template(&["--set", set]) else { bail!("{set} is not refused") };
            let said = format!("{error:#}");
            ensure!(said.contains(named), "{set} is refused without naming {named}: {said}");
        }
    }
    ensure!(helm3.run("template", &["--kube-version=1.32.9"]).is_err(), "Kubernetes 1.32 is not refused");
    without_the_kinds_of_monitors(&helm4)?;
    Ok(format!(
        "{} sets of values as golden, the same by Helm 3 and 4; {} wrong values refused by name",
        sets.len(),
        WRONG.len()
    ))
}

/// One Helm and the chart.
struct Helm<'a> {
    program: &'a Path,
    chart: &'a Path,
}

impl Helm<'_> {
    fn run(&self, verb: &str, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(self.program);
        command.arg(verb).args((verb != "lint").then_some("exporter-operator")).arg(self.chart);
        // Nothing here may reach the cluster of whoever runs it.
        command.args(["--namespace=exporter-operator", "--kubeconfig=/dev/null"]).args(arguments);
        let output = command.output().with_context(|| format!("cannot start {}", self.program.display()))?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            // A lint says on its output what is wrong.
            bail!("helm {verb} {}: {said}{}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
        }
        Ok(said)
    }

    fn template(&self, arguments: &[&str]) -> Result<String> {
        self.run("template", &[CLUSTER, arguments].concat())
    }
}

/// The chart installs without the Prometheus operator, and says what is missing.
fn without_the_kinds_of_monitors(helm4: &Helm<'_>) -> Result<()> {
    let wanted = "--set=monitoring.serviceMonitor.enabled=true";
    let objects = objects(&helm4.template(&[wanted])?)?;
    ensure!(
        objects.iter().all(|it| it["kind"] != "ServiceMonitor"),
        "a monitor that this cluster does not know"
    );
    // Helm 3 renders notes only with a cluster.
    let said = helm4.run("install", &["--dry-run=client", wanted])?;
    let (_, notes) = said.split_once("NOTES:").context("no notes")?;
    for hint in
        ["ServiceMonitor", "pod-security.kubernetes.io/enforce=privileged", "kubectl get exporterpolicies"]
    {
        ensure!(notes.contains(hint), "the notes do not speak of {hint}:\n{notes}");
    }
    Ok(())
}

/// What is promised of the objects whatever the values are.
fn promises(objects: &[Value], crd: &Value) -> Result<()> {
    for object in objects {
        let name = format!("{} {}", object["kind"], object["metadata"]["name"]);
        match object["kind"].as_str().unwrap_or_default() {
            "Deployment" | "DaemonSet" => {
                pods_are_confined(&object["spec"]["template"]["spec"], object["kind"] == "DaemonSet")
                    .context(name)?;
            }
            "ClusterRole" | "Role" => roles_are_small(object).context(name)?,
            "CustomResourceDefinition" => {
                ensure!(
                    object["spec"] == crd["spec"],
                    "the resource is not that of crds/exporterpolicies.yaml"
                );
                let kept = &object["metadata"]["annotations"]["helm.sh/resource-policy"];
                ensure!(kept == "keep", "an uninstall removes the resource, and with it every policy");
            }
            _ => {}
        }
    }
    Ok(())
}

fn pods_are_confined(pod: &Value, is_agent: bool) -> Result<()> {
    for shared in ["hostNetwork", "hostPID", "hostIPC"] {
        ensure!(pod[shared].is_null(), "{shared} is set");
    }
    ensure!(pod["automountServiceAccountToken"] == !is_agent, "automountServiceAccountToken");
    let expected = json!({
        "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"},
    });
    ensure!(pod["securityContext"] == expected, "securityContext of the pod: {}", pod["securityContext"]);
    ensure!(pod["nodeSelector"]["kubernetes.io/os"] == "linux", "nodes that do not run Linux");

    let [container] = pod["containers"].as_array().map(Vec::as_slice).unwrap_or_default() else {
        bail!("not one container");
    };
    let expected = json!({
        "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
    });
    let said = &container["securityContext"];
    ensure!(
        *said == expected || (is_agent && *said == looking_into_processes()),
        "securityContext of the container: {said}"
    );
    ensure!(container["resources"]["requests"]["memory"].is_string(), "no memory is requested");

    let mut host_paths = Vec::new();
    for volume in list(&pod["volumes"]).iter().filter(|it| it["hostPath"].is_object()) {
        let mounts = list(&container["volumeMounts"]);
        let mount =
            mounts.iter().find(|it| it["name"] == volume["name"]).context("a volume that nobody mounts")?;
        if volume["name"] == "last-good" {
            ensure!(is_agent && mount["mountPath"] == LAST_GOOD, "what can be written: {mount}");
            continue;
        }
        ensure!(mount["readOnly"] == true, "{} can be written", mount["mountPath"]);
        if volume["name"] == "textfile" {
            let flag = json!("--collector.textfile.directory=/host/textfile");
            let is_read = list(&container["args"]).contains(&flag);
            ensure!(is_agent && is_read && mount["mountPath"] == "/host/textfile", "who reads it? {mount}");
            continue;
        }
        host_paths.push((volume["hostPath"]["path"].clone(), mount["mountPath"].clone()));
    }
    let expected: &[_] = if is_agent { HOST_PATHS } else { &[] };
    let expected: Vec<_> = expected.iter().map(|(from, to)| (json!(from), json!(to))).collect();
    ensure!(host_paths == expected, "mounts of the node: {host_paths:?}");
    last_good_is_prepared(pod)
}

/// A directory of the node is for the agent alone, and what is root makes it and sees nothing else of the node.
fn last_good_is_prepared(pod: &Value) -> Result<()> {
    let volumes = list(&pod["volumes"]);
    let volume = volumes.iter().find(|it| it["name"] == "last-good" && it["hostPath"].is_object());
    let containers = list(&pod["initContainers"]);
    let preparing = containers.iter().position(|it| it["name"] == "prepare-last-good");
    ensure!(volume.is_some() == preparing.is_some(), "a directory of the node without what prepares it");
    let (Some(volume), Some(preparing)) = (volume, preparing) else { return Ok(()) };
    ensure!(volume["hostPath"]["type"] == "DirectoryOrCreate", "{volume}");
    ensure!(preparing == 0, "other containers find a directory that is not prepared");
    let container = &containers[0];
    let expected = json!({
        "runAsNonRoot": false, "runAsUser": 0, "runAsGroup": 0, "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"], "add": ["CHOWN"]},
    });
    ensure!(container["securityContext"] == expected, "securityContext: {}", container["securityContext"]);
    let expected = json!([{"name": "last-good", "mountPath": LAST_GOOD}]);
    ensure!(container["volumeMounts"] == expected, "mounts: {}", container["volumeMounts"]);
    let is_root = pod["containers"][0]["securityContext"] == looking_into_processes();
    let owner = if is_root { "--owner=0:0" } else { "--owner=65532:65532" };
    ensure!(list(&container["args"]).iter().any(|it| it == owner), "not {owner}: {}", container["args"]);
    Ok(())
}

/// What the container of an agent has that may look into processes: root, but with two capabilities only.
fn looking_into_processes() -> Value {
    json!({
        "runAsNonRoot": false, "runAsUser": 0, "runAsGroup": 0, "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true, "appArmorProfile": {"type": "Unconfined"},
        "capabilities": {"drop": ["ALL"], "add": ["SYS_PTRACE", "DAC_READ_SEARCH"]},
    })
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

fn roles_are_small(role: &Value) -> Result<()> {
    let is_agent = role["metadata"]["labels"]["app.kubernetes.io/component"] == "agent";
    let kubelet = json!([{
        "apiGroups": [""], "resources": ["nodes/metrics", "nodes/stats", "nodes/pods"], "verbs": ["get"],
    }]);
    ensure!(!is_agent || role["rules"] == kubelet, "agents may do something else: {}", role["rules"]);
    let rules = role["rules"].to_string();
    for forbidden in ["\"*\"", "nodes/proxy", "escalate", "impersonate"] {
        ensure!(!rules.contains(forbidden), "grants {forbidden}");
    }
    // One Secret by its name; whoever makes it cannot be told its name in a role.
    for rule in list(&role["rules"]).iter().filter(|rule| rule["resources"].to_string().contains("secrets")) {
        let is_one = rule["resourceNames"].as_array().is_some_and(|names| names.len() == 1);
        let makes = rule["verbs"] == json!(["create"]);
        ensure!(role["kind"] == "Role" && (is_one || makes), "grants more than one Secret: {rule}");
    }
    Ok(())
}

/// Every value that the schema knows stands below a comment in `values.yaml`.
fn every_value_has_a_sentence(values: &str, schema: &Value) -> Result<()> {
    let mut path: Vec<(usize, &str)> = Vec::new();
    let mut before = "";
    for line in values.lines() {
        let indent = line.len() - line.trim_start().len();
        let key = line.trim_start().split_once(':').map(|(key, _)| key);
        if let Some(key) = key.filter(|key| !key.starts_with(['#', '-'])) {
            path.retain(|(depth, _)| *depth < indent);
            path.push((indent, key));
            let keys: Vec<&str> = path.iter().map(|(_, key)| *key).collect();
            let is_sentence = before.trim_start().starts_with("# ") && before.ends_with('.');
            ensure!(
                is_sentence || !knows(schema, &keys),
                "values.yaml: no sentence above {}",
                keys.join(".")
            );
        }
        before = line;
    }
    Ok(())
}

fn knows(schema: &Value, keys: &[&str]) -> bool {
    let mut at = schema;
    for key in keys {
        let Some(next) = at["properties"].get(key) else { return false };
        let definition = next["$ref"].as_str().and_then(|it| schema.pointer(it.trim_start_matches('#')));
        at = definition.unwrap_or(next);
    }
    true
}

/// The sets of values in a folder, by name.
fn value_sets(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut sets = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let file = entry?.path();
        let name = file.file_name().and_then(|it| it.to_str()?.strip_suffix("-values.yaml"));
        sets.push((
            name.with_context(|| format!("{}: not NAME-values.yaml", file.display()))?.to_owned(),
            file,
        ));
    }
    sets.sort();
    ensure!(!sets.is_empty(), "{}: no values", folder.display());
    Ok(sets)
}

fn objects(text: &str) -> Result<Vec<Value>> {
    let mut objects: Vec<Value> =
        serde_saphyr::from_multiple(text).context("what Helm printed is not YAML")?;
    objects.retain(|it| !it.is_null());
    Ok(objects)
}

/// The resource is compared by itself, so that a change of it does not change every golden.
fn without_crd(text: &str) -> String {
    let is_crd = |document: &&str| document.contains("\nkind: CustomResourceDefinition\n");
    text.split_inclusive("\n---\n").filter(|it| !is_crd(it)).collect()
}

/// Compares a file with what it should be; writes it instead where that is asked for.
fn same(file: &Path, expected: &str) -> Result<String> {
    if std::env::var_os("UPDATE_EXPECT").is_some_and(|it| it == "1") {
        fs::write(file, expected).with_context(|| file.display().to_string())?;
    }
    let there = fs::read_to_string(file).unwrap_or_default();
    if let Some(number) = (there != expected).then(|| first_difference(&there, expected)) {
        let line = |text: &str| text.lines().nth(number - 1).unwrap_or("(its end)").to_owned();
        bail!(
            "{}:{number}: {}\n  should be: {}\nafter a change that is meant, `just generate` writes it anew",
            file.display(),
            line(&there),
            line(expected)
        );
    }
    Ok(there)
}

fn first_difference(one: &str, other: &str) -> usize {
    one.lines().zip(other.lines()).take_while(|(one, other)| one == other).count() + 1
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_without_a_sentence_is_named_but_not_what_kubernetes_defines() {
        let schema = json!({"properties": {"a": {"$ref": "#/definitions/d"}}, "definitions": {"d": {"properties": {"b": {}}}}});
        let check = |values| every_value_has_a_sentence(values, &schema).map_err(|it| it.to_string());
        assert_eq!(check("# A.\na:\n  # B.\n  b: 1\n"), Ok(()));
        assert_eq!(check("# A.\na:\n  b: 1\n"), Err("values.yaml: no sentence above a.b".into()));
        assert_eq!(check("# A.\na:\n  c:\n    - b: 1\n"), Ok(()));
    }

    #[test]
    fn the_resource_is_left_out_of_goldens() {
        let text = "---\nkind: A\n---\nkind: X\nkind: CustomResourceDefinition\n---\nkind: B\n";
        assert_eq!(without_crd(text), "---\nkind: A\n---\nkind: B\n");
    }
}
