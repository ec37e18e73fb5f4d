//! The golden cases of `effective`: several policies, the node and named pods.

use std::collections::BTreeMap;
use std::path::Path;

use protocol::{FamilySelector, Snapshot, Subject, effective};

#[derive(serde::Deserialize)]
struct Case {
    #[serde(flatten)]
    snapshot: Snapshot,
}

#[derive(serde::Deserialize)]
struct Pod {
    namespace: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[test]
fn each_case_means_what_its_golden_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/effective");
    let mut cases: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
    cases.sort();
    assert!(!cases.is_empty());
    for case in cases {
        let read = |name: &str| std::fs::read_to_string(case.join(name)).unwrap();
        let mut snapshot = serde_saphyr::from_str::<Case>(&read("snapshot.yaml")).unwrap().snapshot;
        snapshot.sort();
        let pods: BTreeMap<String, Pod> = serde_saphyr::from_str(&read("pods.yaml")).unwrap();
        let node = effective(&snapshot.policies, &snapshot.facts, Subject::Node);
        let mut result = BTreeMap::from([("node".to_owned(), node)]);
        for (name, pod) in &pods {
            let subject = Subject::Pod { namespace: &pod.namespace, labels: &pod.labels };
            result.insert(format!("pod {name}"), effective(&snapshot.policies, &snapshot.facts, subject));
        }
        let text = serde_saphyr::to_string(&result).unwrap();
        expect_test::expect_file![case.join("effective.yaml")].assert_eq(&text);
    }
}

#[test]
fn the_first_rule_that_matches_decides_and_patterns_are_anchored() {
    let rules = ["a_total", "b|c", "b.*"].map(|pattern| protocol::FamilyRule {
        expose: pattern == "b|c",
        pattern: pattern.into(),
        policy: "p".into(),
    });
    let selector = FamilySelector::new(&rules);
    let exposed = ["a_total", "a_total2", "b", "c", "bc", "z"].map(|family| selector.exposes(family));
    assert_eq!(exposed, [false, true, true, true, false, true]);
}

#[test]
fn a_pattern_cannot_escape_its_anchors_nor_grow_without_bound() {
    assert!(FamilySelector::pattern("a)|(b").is_err());
    assert!(FamilySelector::pattern("(((a{100}){100}){100})").is_err());
}
