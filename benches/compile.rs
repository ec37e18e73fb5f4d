//! Compiling the whole world at once, which every change does, for fleets of several sizes.

#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

use std::collections::BTreeMap;
use std::sync::Arc;

use benches::measure::{alone, text};
use operator::compile::{Judged, compile};
use operator::validate::validate;
use operator::world::{Namespace, Node, StoredPolicy, World};
use serde_json::json;

fn main() {
    for (nodes, policies) in [(100, 10), (1000, 10), (5000, 10), (5000, 50)] {
        let world = world(nodes, policies);
        let judged = judged(&world);
        assert!(judged.values().all(Result::is_ok), "the policies of the bench are valid");
        let validated = alone(20, || drop(judged_again(&world)));
        let compiled = alone(20, || drop(compile(&world, &judged)));
        println!(
            "{nodes} nodes, {policies} policies: validate {}, compile {}",
            text(validated.cpu),
            text(compiled.cpu)
        );
    }
}

fn judged(world: &World) -> Judged {
    world.policies.iter().map(|(name, policy)| (name.clone(), validate(policy).map(Arc::new))).collect()
}

fn judged_again(world: &World) -> Judged {
    judged(std::hint::black_box(world))
}

fn world(nodes: usize, policies: usize) -> World {
    let labels = |key: &str, value: String| BTreeMap::from([(key.to_owned(), value)]);
    let node = |i: usize| {
        let node = Node { labels: labels("pool", format!("pool-{}", i % 10)), ..Node::default() };
        (format!("node-{i:05}"), Arc::new(node))
    };
    let namespace = |i: usize| {
        let namespace =
            Namespace { labels: labels("team", format!("team-{}", i % 20)), uid: format!("uid-{i}") };
        (format!("namespace-{i:03}"), Arc::new(namespace))
    };
    let policy = |i: usize| {
        let mut spec = json!({
            "priority": i,
            "metrics": {"exclude": [format!("container_spec_.*_{i}")]},
            "labels": {"podLabels": ["app.kubernetes.io/name"]},
        });
        if i.is_multiple_of(2) {
            spec["nodeSelector"] = json!({"matchLabels": {"pool": format!("pool-{}", i % 10)}});
        }
        if i.is_multiple_of(3) {
            spec["namespaceSelector"] = json!({"matchLabels": {"team": format!("team-{}", i % 20)}});
        }
        let name = format!("policy-{i:03}");
        let stored = StoredPolicy {
            name: name.clone(),
            created: i as i64,
            generation: 1,
            spec,
            ..StoredPolicy::default()
        };
        (name, Arc::new(stored))
    };
    World {
        emergency: false,
        policies: (0..policies).map(policy).collect(),
        nodes: (0..nodes).map(node).collect(),
        namespaces: (0..200).map(namespace).collect(),
    }
}
