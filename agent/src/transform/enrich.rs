//! The labels of one row, written once and copied into each of its series.

use std::collections::{BTreeMap, BTreeSet};

use crate::metric::push_label;
use crate::pods::Owned;

/// The kubelet's labels, empty ones included so that a target's own do not fill in, then the pod's.
pub(super) fn labels(cgroup: &str, owned: &Owned<'_>, pod_labels: &BTreeSet<String>) -> Box<[u8]> {
    let mut text = Vec::with_capacity(256);
    for (name, value) in [
        ("container", owned.container),
        ("id", cgroup),
        ("image", owned.image),
        ("name", owned.id),
        ("namespace", owned.namespace),
        ("pod", owned.pod),
    ] {
        if !text.is_empty() {
            text.push(b',');
        }
        push_label(&mut text, name, value);
    }
    for (name, value) in selected(owned.labels, pod_labels) {
        text.push(b',');
        push_label(&mut text, &name, value);
    }
    text.into_boxed_slice()
}

/// The pod's labels that are asked for, under the names that kube-state-metrics gives them: `label_` and the key with
/// an underscore for what a Prometheus label cannot hold. Keys that become the same are numbered, `_conflict1` first.
fn selected<'a>(
    labels: Option<&'a BTreeMap<String, String>>,
    wanted: &BTreeSet<String>,
) -> Vec<(String, &'a str)> {
    let Some(labels) = labels else { return Vec::new() };
    let found: Vec<_> =
        labels.iter().filter(|(k, _)| wanted.contains(*k)).map(|(k, v)| (sanitized(k), v.as_str())).collect();
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
fn sanitized(key: &str) -> String {
    let mut name = "label_".to_owned();
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
        let found = selected(Some(&labels), &wanted);
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
        let text = labels("/", &Owned::default(), &BTreeSet::new());
        let expected = r#"container="",id="/",image="",name="",namespace="",pod="""#;
        assert_eq!(std::str::from_utf8(&text).unwrap(), expected);
    }
}
