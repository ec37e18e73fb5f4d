//! The labels of one row, written once and copied into each of its series.

use std::collections::{BTreeMap, BTreeSet};

use protocol::{AddedLabels, Facts};

use crate::metric::push_label;
use crate::pods::{Owned, workload};

/// The kubelet's labels, empty ones included so that a target's own do not fill in, then those that policies add.
pub(crate) fn labels(cgroup: &str, owned: &Owned<'_>, added: &AddedLabels, facts: &Facts) -> Box<[u8]> {
    let own = [
        ("container", owned.container),
        ("id", cgroup),
        ("image", owned.image),
        ("name", owned.id),
        ("namespace", owned.namespace),
        ("pod", owned.pod),
    ];
    with_added(&own, owned, added, facts)
}

/// The same of a group of processes, which goes on when its container restarts.
pub(crate) fn labels_of_group(owned: &Owned<'_>, added: &AddedLabels, facts: &Facts) -> Box<[u8]> {
    let own = [("container", owned.container), ("namespace", owned.namespace), ("pod", owned.pod)];
    with_added(&own, owned, added, facts)
}

fn with_added(own: &[(&str, &str)], owned: &Owned<'_>, added: &AddedLabels, facts: &Facts) -> Box<[u8]> {
    let mut text = Vec::with_capacity(256);
    let mut push = |name: &str, value: &str| {
        if !text.is_empty() {
            text.push(b',');
        }
        push_label(&mut text, name, value);
    };
    own.iter().for_each(|(name, value)| push(name, value));
    let of_pod = owned.told.map(|pod| (&pod.labels, &pod.annotations));
    for (prefix, wanted, labels) in [
        ("label", &added.pod_labels, of_pod.map(|(labels, _)| labels)),
        ("annotation", &added.pod_annotations, of_pod.map(|(_, annotations)| annotations)),
        ("namespace_label", &added.namespace_labels, facts.namespace_labels.get(owned.namespace)),
        ("node_label", &added.node_labels, Some(&facts.node.labels)),
    ] {
        for (name, value) in selected(prefix, labels, wanted) {
            push(&name, value);
        }
    }
    if let Some(pod) = owned.told {
        if added.workload {
            let workload = workload(pod);
            push("workload", workload.name);
            push("workload_type", &workload.kind);
        }
        for (is_wanted, name, value) in [
            (added.qos_class, "qos_class", &pod.qos_class),
            (added.priority_class, "priority_class", &pod.priority_class),
        ] {
            if is_wanted && !value.is_empty() {
                push(name, value);
            }
        }
    }
    text.into_boxed_slice()
}

/// The labels that are asked for, under the names that kube-state-metrics gives them: the prefix and the key with an
/// underscore for what a Prometheus label cannot hold. Keys that become the same are numbered, `_conflict1` first.
fn selected<'a>(
    prefix: &str,
    labels: Option<&'a BTreeMap<String, String>>,
    wanted: &BTreeSet<String>,
) -> Vec<(String, &'a str)> {
    let Some(labels) = labels else { return Vec::new() };
    let found: Vec<_> = labels
        .iter()
        .filter(|(k, _)| wanted.contains(*k))
        .map(|(k, v)| (sanitized(prefix, k), v.as_str()))
        .collect();
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    found
        .iter()
        .map(|(name, value)| {
            if found.iter().filter(|(other, _)| other == name).count() == 1 {
                return (name.clone(), *value);
            }
            let number = seen.entry(name).or_default();
            *number += 1;
            (format!("{name}_conflict{number}"), *value)
        })
        .collect()
}

/// What a label's name cannot hold becomes an underscore, and a capital after a small letter or digit gets one before
/// it: `appName` is `label_app_name`.
fn sanitized(prefix: &str, key: &str) -> String {
    let mut name = format!("{prefix}_");
    let mut before = ' ';
    for c in key.chars() {
        if c.is_ascii_uppercase() && (before.is_ascii_lowercase() || before.is_ascii_digit()) {
            name.push('_');
        }
        name.push(if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' });
        before = c;
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::kubelet::{Controller, Pod};

    #[test]
    fn pod_labels_are_named_as_kube_state_metrics_names_them() {
        let labels: BTreeMap<String, String> = [
            ("app.kubernetes.io/name", "web"),
            ("a-b", "1"),
            ("a.b", "2"),
            ("other", "x"),
            ("appName2Id", "y"),
        ]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into();
        let wanted =
            ["app.kubernetes.io/name", "a-b", "a.b", "absent", "appName2Id"].map(str::to_owned).into();
        let found = selected("label", Some(&labels), &wanted);
        let expected = [
            ("label_a_b_conflict1", "1"),
            ("label_a_b_conflict2", "2"),
            ("label_app_kubernetes_io_name", "web"),
            ("label_app_name2_id", "y"),
        ];
        assert_eq!(found, expected.map(|(k, v)| (k.to_owned(), v)));
    }

    #[test]
    fn labels_that_are_unknown_are_written_empty() {
        let text = labels("/", &Owned::default(), &AddedLabels::default(), &Facts::default());
        let expected = r#"container="",id="/",image="",name="",namespace="",pod="""#;
        assert_eq!(std::str::from_utf8(&text).unwrap(), expected);
    }

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    /// What is added to a row beyond the kubelet's labels.
    #[track_caller]
    fn check(owned: &Owned<'_>, expected: &str) {
        let keys = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect();
        let added = AddedLabels {
            pod_labels: keys(&["app"]),
            pod_annotations: keys(&["example.com/owner", "app"]),
            namespace_labels: keys(&["team", "absent"]),
            node_labels: keys(&["a.b", "a-b"]),
            workload: true,
            qos_class: true,
            priority_class: true,
        };
        let mut facts = Facts::default();
        facts.node.labels = map(&[("a.b", "1"), ("a-b", "2")]);
        facts.namespace_labels = [("shop".to_owned(), map(&[("team", "\"web\"")]))].into();
        let text = labels("/x", owned, &added, &facts);
        let text = std::str::from_utf8(&text).unwrap();
        assert_eq!(text.split_once(r#"",label_app="#).map_or(text, |(_, rest)| rest), expected);
    }

    #[test]
    fn what_policies_ask_for_comes_from_the_pod_its_namespace_and_its_node() {
        let pod = Pod {
            labels: map(&[("app", "web"), ("other", "x")]),
            annotations: map(&[("example.com/owner", "ann"), ("app", "z")]),
            qos_class: "Burstable".to_owned(),
            controller: Some(Controller { kind: "StatefulSet".to_owned(), name: "db".to_owned() }),
            ..Pod::default()
        };
        let owned = Owned { namespace: "shop", pod: "db-0", told: Some(&pod), ..Owned::default() };
        check(
            &owned,
            r#""web",annotation_app="z",annotation_example_com_owner="ann",namespace_label_team="\"web\"",node_label_a_b_conflict1="2",node_label_a_b_conflict2="1",workload="db",workload_type="statefulset",qos_class="Burstable""#,
        );
    }

    #[test]
    fn of_a_pod_that_only_a_log_link_names_its_namespace_and_node_are_known() {
        let owned = Owned { namespace: "shop", pod: "db-0", ..Owned::default() };
        check(
            &owned,
            r#"container="",id="/x",image="",name="",namespace="shop",pod="db-0",namespace_label_team="\"web\"",node_label_a_b_conflict1="2",node_label_a_b_conflict2="1""#,
        );
    }
}
