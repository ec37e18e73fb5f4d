//! The golden cases: a world in; snapshots, verdicts and what remains for the node and some pods out.

use std::collections::BTreeMap;
use std::path::Path;

use operator::compile::compile;
use protocol::{Effective, Subject, effective};

use crate::objects::{Case, judge};

#[test]
fn each_world_means_what_its_golden_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compile");
    let mut cases: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() >= 10);
    for path in cases {
        let mut case = Case::read(&std::fs::read_to_string(path.join("world.yaml")).unwrap());
        let world = case.world();
        let compiled = compile(&world, &judge(&world));
        let golden = |name: &str, text: String| expect_test::expect_file![path.join(name)].assert_eq(&text);
        golden("snapshots.yaml", serde_saphyr::to_string(&compiled.snapshots).unwrap());
        golden("verdicts.yaml", serde_saphyr::to_string(&compiled.verdicts).unwrap());

        let mut results: BTreeMap<String, BTreeMap<String, Effective>> = BTreeMap::new();
        for (node, snapshot) in &compiled.snapshots {
            let results = results.entry(node.clone()).or_default();
            let mut result = |name: &str, subject| {
                results.insert(name.to_owned(), effective(&snapshot.policies, &snapshot.facts, subject));
            };
            result("node", Subject::Node);
            for (name, pod) in &case.pods {
                let subject = Subject::Pod { namespace: &pod.namespace, labels: &pod.labels };
                result(&format!("pod {name}"), subject);
            }
        }
        golden("effective.yaml", serde_saphyr::to_string(&results).unwrap());
    }
}

#[test]
fn equal_worlds_have_equal_digests_in_whatever_order_they_were_read() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compile/two-policies-on-one-node/world.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    let digests = |reverse: bool| {
        let mut value: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
        if reverse {
            value["policies"].as_array_mut().unwrap().reverse();
            value["nodes"].as_array_mut().unwrap().reverse();
        }
        let world = Case::read(&value.to_string()).world();
        let compiled = compile(&world, &judge(&world));
        compiled.snapshots.values().map(|s| s.digest()).collect::<Vec<_>>()
    };
    assert_eq!(digests(false), digests(true));
}

#[test]
fn a_deleted_policy_leaves_the_snapshot_as_if_it_had_never_been() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compile/two-policies-on-one-node/world.yaml");
    let mut world = Case::read(&std::fs::read_to_string(path).unwrap()).world();
    let before = compile(&world, &judge(&world));
    let name = world.policies.keys().next().unwrap().clone();
    let policy = world.policies.remove(&name).unwrap();
    let without = compile(&world, &judge(&world));
    assert!(without.snapshots.values().flat_map(|s| &s.policies).all(|p| p.name != name));
    world.policies.insert(name, policy);
    assert_eq!(compile(&world, &judge(&world)), before);
}
