//! Any bytes as the spec of a policy that the API server has stored.

use std::collections::BTreeMap;
use std::sync::Arc;

use agent::judge::judge;
use operator::compile::compile;
use operator::validate::validate;
use operator::world::{Namespace, Node, StoredPolicy, World};
use protocol::{Snapshot, proto};

/// The spec of an ExporterPolicy, as JSON: from there to what a node's agent makes of it.
///
/// # Panics
/// When what is compiled cannot be told to an agent.
pub fn exporter_policy(bytes: &[u8]) {
    let Ok(spec) = serde_json::from_slice(bytes) else { return };
    let policy = Arc::new(StoredPolicy { name: "p".to_owned(), spec, ..StoredPolicy::default() });
    let judged = BTreeMap::from([("p".to_owned(), validate(&policy).map(Arc::new))]);
    let labels = BTreeMap::from([("team".to_owned(), "web".to_owned())]);
    let node = Arc::new(Node { labels: labels.clone(), ..Node::default() });
    let namespace = Arc::new(Namespace { labels, ..Namespace::default() });
    let world = World {
        policies: [("p".to_owned(), policy)].into(),
        nodes: [("n".to_owned(), node)].into(),
        namespaces: [("shop".to_owned(), namespace)].into(),
        emergency: false,
    };
    for snapshot in compile(&world, &judged).snapshots.into_values() {
        let heard = Snapshot::try_from(proto::Snapshot::from(snapshot.clone()));
        assert_eq!(heard.as_ref(), Ok(&snapshot), "an agent hears something else");
        snapshot.policies.iter().for_each(|policy| _ = judge(policy));
    }
}
