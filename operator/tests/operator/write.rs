//! What is written to the API server, and what is not.

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use operator::agents::Agents;
use operator::compile::Verdict;
use operator::report::write::{Outlooks, Writer};
use operator::report::{Outlook, report, status};
use operator::telemetry::Telemetry;
use operator::world::StoredPolicy;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::api_server::{Asked, Record, client, failure};
use crate::objects::stored;

struct Running {
    wishes: watch::Sender<Arc<Outlooks>>,
    record: Record,
}

impl Running {
    fn start(answer: impl FnMut(&Asked) -> (u16, Value) + Send + 'static) -> Self {
        let (client, record) = client(answer);
        let (wishes, wished) = watch::channel(Arc::default());
        tokio::spawn(Writer::new(client, "me", Telemetry::new().unwrap()).run(wished));
        Running { wishes, record }
    }

    fn wish(&self, outlooks: &[(&StoredPolicy, &Outlook)]) {
        let outlooks = outlooks.iter().map(|(policy, outlook)| {
            (policy.name.clone(), (Arc::new((*policy).clone()), (*outlook).clone()))
        });
        self.wishes.send_replace(Arc::new(outlooks.collect()));
    }
}

/// An API server that takes everything; the resource version of what it stores is 10.
fn takes_all(asked: &Asked) -> (u16, Value) {
    let mut object = asked.body.clone();
    object["metadata"]["resourceVersion"] = json!("10");
    (200, object)
}

fn outlook() -> Outlook {
    report(
        "p",
        &Verdict::Valid {
            revision: "r".to_owned().into(),
            nodes: [].into(),
            namespaces: None,
            emergency: None,
        },
        &Agents::new(),
    )
}

fn other() -> Outlook {
    let mut outlook = outlook();
    outlook.nodes.selected = 5;
    outlook
}

fn with_status(name: &str, outlook: &Outlook) -> StoredPolicy {
    let status = status(outlook, 1, None, Timestamp::UNIX_EPOCH);
    StoredPolicy { status: serde_json::to_value(status).unwrap(), ..stored(name, json!({})) }
}

fn patches(asked: &[Asked]) -> Vec<&str> {
    asked.iter().filter(|a| a.method == "PATCH").map(|a| a.path.rsplit('/').nth(1).unwrap()).collect()
}

#[tokio::test]
async fn a_status_is_applied_under_the_operators_name_to_that_very_object() {
    let running = Running::start(takes_all);
    running.wish(&[(&stored("a", json!({})), &outlook())]);
    let asked = running.record.wait_for(2).await;
    assert_eq!(asked[0].path, "/apis/exporter-operator.dev/v1alpha1/exporterpolicies/a/status");
    assert_eq!(asked[0].content_type, "application/apply-patch+yaml");
    assert!(
        asked[0].query.contains("force=true") && asked[0].query.contains("fieldManager=exporter-operator")
    );
    assert_eq!(asked[0].body["metadata"], json!({"name": "a", "uid": "uid-a"}));
    assert_eq!(asked[0].body["status"]["observedGeneration"], 1);
    let event = &asked[1].body;
    assert_eq!(asked[1].path, "/apis/events.k8s.io/v1/namespaces/default/events");
    assert_eq!((&event["type"], &event["reason"]), (&json!("Normal"), &json!("Accepted")));
    assert_eq!(event["regarding"]["name"], "a");
}

#[tokio::test]
async fn a_status_that_says_the_same_already_is_not_written() {
    let running = Running::start(takes_all);
    let (same, differs) = (with_status("a", &outlook()), with_status("b", &other()));
    running.wish(&[(&same, &outlook()), (&differs, &outlook())]);
    assert_eq!(patches(&running.record.wait_for(1).await), ["b"]);
}

#[tokio::test]
async fn what_was_written_is_known_before_the_watch_shows_it() {
    let running = Running::start(takes_all);
    let policy = with_status("a", &other());
    running.wish(&[(&policy, &outlook())]);
    running.record.wait_for(1).await;
    // The watch still shows what was there before; the other policy shows that the writer has looked.
    running.wish(&[(&policy, &outlook()), (&with_status("b", &other()), &outlook())]);
    assert_eq!(patches(&running.record.wait_for(2).await), ["a", "b"]);
    // Somebody else has written since: it is put right.
    let meddled = StoredPolicy { resource_version: 11, ..policy };
    running.wish(&[(&meddled, &outlook())]);
    assert_eq!(patches(&running.record.wait_for(3).await), ["a", "b", "a"]);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_fails_is_tried_again_and_holds_up_no_other() {
    let mut failures = 3;
    let running = Running::start(move |asked| {
        if asked.path.contains("/a/") && failures > 0 {
            failures -= 1;
            return failure(500, "InternalError");
        }
        takes_all(asked)
    });
    let start = tokio::time::Instant::now();
    running.wish(&[(&with_status("a", &other()), &outlook()), (&with_status("b", &other()), &outlook())]);
    let asked = running.record.wait_for(5).await;
    let mut first: Vec<_> = patches(&asked[..2]);
    first.sort_unstable();
    assert_eq!(first, ["a", "b"]);
    assert_eq!(patches(&asked[2..]), ["a", "a", "a"]);
    assert_eq!(start.elapsed().as_secs(), 1 + 2 + 4, "each wait is longer");
}

#[tokio::test]
async fn a_policy_that_was_deleted_meanwhile_is_no_failure() {
    let running = Running::start(|asked| match asked.path.contains("/a/") {
        true => failure(404, "NotFound"),
        false => takes_all(asked),
    });
    running.wish(&[(&with_status("a", &other()), &outlook())]);
    running.record.wait_for(1).await;
    running.wish(&[(&with_status("b", &other()), &outlook())]);
    assert_eq!(patches(&running.record.wait_for(2).await), ["a", "b"]);
}

#[tokio::test]
async fn a_rejection_is_a_warning_with_the_field() {
    let running = Running::start(takes_all);
    let why = operator::validate::validate(&stored("a", json!({"metrics": {"include": ["("]}}))).unwrap_err();
    let outlook = report("a", &Verdict::Rejected(why), &Agents::new());
    running.wish(&[(&stored("a", json!({})), &outlook)]);
    let event = running.record.wait_for(2).await[1].body.clone();
    assert_eq!((&event["type"], &event["reason"]), (&json!("Warning"), &json!("InvalidPattern")));
    assert!(event["note"].as_str().unwrap().starts_with("spec.metrics.include[0]: "), "{event}");
}
