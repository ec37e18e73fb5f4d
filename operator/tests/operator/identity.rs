//! Agents that prove whose they are, and others: who gets a configuration, and what is told of who does not.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use operator::access::Accesses;
use operator::gather::Gathered;
use operator::identity::{Account, AgentPods, Identify, sound};
use operator::publish::{Admission, Publisher};
use operator::telemetry::Telemetry;
use protocol::proto::{self, agent_message, operator_message};
use protocol::{AUDIENCE, Access, Hello};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tonic::{Code, Status};

use crate::api_server::{Answer, Asked, Cluster, Record, client, failure};
use crate::publish::{Operator, Stream, hello, snapshot};

/// An operator in front of a cluster with the agents `a-1` on `n1` and `a-2` on `n2`.
struct Guarded {
    operator: Operator,
    cluster: Cluster,
    record: Record,
    telemetry: Telemetry,
    /// Whether the API server reviews tokens.
    reviews: Arc<Mutex<bool>>,
    _tasks: JoinSet<()>,
}

fn pod(name: &str, node: &str) -> Value {
    json!({
        "metadata": {
            "name": name, "uid": format!("uid-of-{name}"), "resourceVersion": "1", "namespace": "ns",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "agents", "uid": "ds",
                "controller": true}],
        },
        "spec": {"nodeName": node, "containers": []},
        // That of a test's connections.
        "status": {"podIPs": [{"ip": "127.0.0.1"}]},
    })
}

/// A token that the stand-in for the API server takes: what it says of its bearer, and its end.
fn token_of(pod: &str, node: &str, ends_in: Duration) -> String {
    let end = (SystemTime::now() + ends_in).duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let payload = BASE64_URL_SAFE_NO_PAD.encode(json!({"exp": end}).to_string());
    format!("{pod}|{node}.{payload}.signature")
}

fn token(pod: &str, node: &str) -> String {
    token_of(pod, node, Duration::from_secs(3600))
}

fn review(asked: &Asked) -> Value {
    let spec = &asked.body["spec"];
    if spec.get("audiences").is_none() {
        // Somebody who wants to read metrics.
        let user = spec["token"].as_str().unwrap();
        return json!({"authenticated": user != "nobody", "user": {"username": user}});
    }
    assert_eq!(spec["audiences"], json!([AUDIENCE]));
    let token = spec["token"].as_str().unwrap();
    let Some((pod, node)) = token.split('.').next().unwrap().split_once('|') else {
        return json!({"authenticated": false, "error": "invalid bearer token"});
    };
    let extra = |key: &str| format!("authentication.kubernetes.io/{key}");
    json!({"authenticated": true, "audiences": [AUDIENCE], "user": {
        "username": "system:serviceaccount:ns:agent",
        "extra": {
            extra("pod-name"): [pod], extra("pod-uid"): [format!("uid-of-{pod}")],
            extra("node-name"): [node], extra("node-uid"): [format!("uid-of-{node}")],
            extra("credential-id"): ["JTI=7"],
        },
    }})
}

impl Guarded {
    async fn start() -> Self {
        let cluster =
            Cluster::with(&["n1", "n2"], &[]).and("pods", &[pod("a-1", "n1"), pod("a-2", "n2")]).and(
                "daemonsets",
                &[json!({"metadata": {"name": "agents", "uid": "ds", "resourceVersion": "1"}})],
            );
        let reviews = Arc::new(Mutex::new(true));
        let (answers, are_reviewed) = (cluster.clone(), reviews.clone());
        let (client, record) = client(move |asked| -> Answer {
            if asked.path.ends_with("/subjectaccessreviews") {
                let mut object = asked.body.clone();
                let spec = &asked.body["spec"];
                assert_eq!(spec["nonResourceAttributes"], json!({"path": "/metrics", "verb": "get"}));
                object["status"] = json!({"allowed": spec["user"] == "prometheus"});
                return (201, object).into();
            }
            if !asked.path.ends_with("/tokenreviews") {
                return answers.answer(asked);
            }
            if !*are_reviewed.lock().unwrap() {
                return failure(503, "ServiceUnavailable").into();
            }
            let mut object = asked.body.clone();
            object["status"] = review(asked);
            (201, object).into()
        });
        let telemetry = Telemetry::new().unwrap();
        let mut tasks = JoinSet::new();
        let mut gathered = Gathered::start(&client, &telemetry, &mut tasks);
        let account =
            Account { namespace: "ns".into(), service_account: "agent".into(), daemon_set: "agents".into() };
        let mut pods = AgentPods::start(&client, &account, &telemetry, &mut tasks);
        assert!(gathered.complete().await && pods.complete().await);
        record.wait_for_one(|a| a.path.ends_with("/pods") && a.query.contains("watch=true")).await;
        let (alarms, sounded) = mpsc::channel(8);
        tasks.spawn(sound(
            client.clone(),
            account.clone(),
            pods.clone(),
            "me".into(),
            telemetry.clone(),
            sounded,
        ));
        let reader = client.clone();
        let identify = Arc::new(Identify::new(client, account, pods, gathered));
        let (leading, elected) = watch::channel(Some(1));
        let accesses = Some(Accesses::new(reader));
        let admission = Admission::Tokens { identify, alarms, accesses };
        let publisher = Publisher::new("cluster", elected, admission, telemetry.clone());
        let operator = Operator::serve(publisher, leading).await;
        operator.publish(&[snapshot("n1", "a"), snapshot("n2", "b")]);
        Guarded { operator, cluster, record, telemetry, reviews, _tasks: tasks }
    }

    async fn open(&self, node: &str, token: &str) -> Result<Stream, Status> {
        let mut stream = Stream::shown(&self.operator, hello(node), Some(token)).await?;
        // The welcome, or why there is none.
        stream.next().await?;
        Ok(stream)
    }

    async fn refused(&self, node: &str, token: &str) -> Status {
        self.open(node, token).await.err().unwrap()
    }

    fn counted(&self, reason: &str) -> bool {
        let line = format!("exporter_operator_streams_refused_total{{reason=\"{reason}\"}} 1");
        String::from_utf8(self.telemetry.text()).unwrap().lines().any(|it| it == line)
    }

    /// The note of an event that says this.
    async fn told(&self, such: &str) -> Asked {
        let says = |a: &Asked| a.path.ends_with("/events") && a.body["note"].as_str().unwrap().contains(such);
        self.record.wait_for_one(says).await
    }
}

#[tokio::test]
async fn an_agent_with_the_token_of_its_pod_is_told_of_its_node() {
    let guarded = Guarded::start().await;
    let mut agent = guarded.open("n2", &token("a-2", "n2")).await.ok().unwrap();
    assert_eq!(agent.snapshot().await.node, "n2");
}

#[tokio::test]
async fn whoever_is_not_believed_is_refused_counted_and_told_of() {
    let guarded = Guarded::start().await;
    let none = Stream::shown(&guarded.operator, hello("n1"), None).await.err().unwrap();
    assert_eq!(none.code(), Code::PermissionDenied);
    assert!(none.message().contains("--operator.token-file"), "{none}");
    for (node, token, reason, said) in [
        ("n1", "nonsense".to_owned(), "invalid_token", "invalid bearer token"),
        ("n1", token("a-3", "n1"), "no_pod", "the pod a-3"),
        ("n1", token("a-2", "n1"), "other_node", "another node than the token says"),
        (
            "n1",
            token("a-2", "n2"),
            "claims_other_node",
            "says that it is on node n1, its token is of node n2",
        ),
    ] {
        // Watches may be behind, so some take their time to be refused.
        let status = guarded.refused(node, &token).await;
        assert_eq!(status.code(), Code::PermissionDenied, "{status}");
        assert!(status.message().contains(said), "{status}");
        assert!(guarded.counted(reason), "{reason}");
        let event = guarded.told(said).await.body;
        assert_eq!((&event["reason"], &event["type"]), (&json!("AgentDenied"), &json!("Warning")));
        assert_eq!(event["regarding"]["uid"], "ds");
        assert!(!event["note"].as_str().unwrap().contains("signature"), "no token is told");
    }
    let long = guarded.refused("n1", &"x".repeat(20 << 10)).await;
    assert!(long.message().contains("longer than any token"), "{long}");
}

#[tokio::test]
async fn a_pod_that_the_watch_does_not_know_yet_is_waited_for() {
    let guarded = Guarded::start().await;
    let shown = token("a-9", "n1");
    let (agent, ()) = tokio::join!(guarded.open("n1", &shown), async {
        guarded.record.wait_for_one(|a| a.path.ends_with("/tokenreviews")).await;
        guarded.cluster.change_of("pods", "ADDED", &pod("a-9", "n1"));
    });
    assert_eq!(agent.ok().unwrap().snapshot().await.node, "n1");
}

#[tokio::test]
async fn a_stream_ends_with_its_pod() {
    let guarded = Guarded::start().await;
    let mut agent = guarded.open("n1", &token("a-1", "n1")).await.ok().unwrap();
    let mut other = guarded.open("n2", &token("a-2", "n2")).await.ok().unwrap();
    guarded.cluster.change_of("pods", "DELETED", &pod("a-1", "n1"));
    let end = agent.end().await;
    assert_eq!(
        (end.code(), end.message()),
        (Code::PermissionDenied, "the pod a-1 of the token is not there")
    );
    assert!(!guarded.operator.publisher.agents()["n1"].connected);
    assert_eq!(other.snapshot().await.node, "n2", "others go on");
}

#[tokio::test]
async fn a_stream_ends_with_its_token_unless_a_newer_one_of_the_same_pod_came() {
    let guarded = Guarded::start().await;
    let short = Duration::from_millis(1500);
    let mut silent = guarded.open("n1", &token_of("a-1", "n1", short)).await.ok().unwrap();
    assert!(silent.end().await.message().contains("the agent gave no newer one"));

    let mut thief = guarded.open("n1", &token("a-1", "n1")).await.ok().unwrap();
    tokio::time::pause();
    let newer = |token: String| agent_message::Message::Credential(proto::Credential { token });
    thief.tell(newer(token("a-2", "n2"))).await;
    assert!(thief.end().await.message().contains("of another pod"));
}

#[tokio::test]
async fn a_newer_token_waits_for_an_api_server_that_is_away() {
    let guarded = Guarded::start().await;
    let mut agent = guarded.open("n1", &token_of("a-1", "n1", Duration::from_secs(100))).await.ok().unwrap();
    agent.snapshot().await;
    *guarded.reviews.lock().unwrap() = false;
    tokio::time::pause();
    let credential = proto::Credential { token: token("a-1", "n1") };
    agent.tell(agent_message::Message::Credential(credential)).await;
    let reviews = |asked: &Vec<Asked>| asked.iter().filter(|a| a.path.ends_with("/tokenreviews")).count();
    let asked = guarded.record.wait_for_all(|asked| reviews(asked) >= 3).await;
    assert!(reviews(&asked) >= 3, "it is asked again");
    *guarded.reviews.lock().unwrap() = true;
    guarded.record.wait_for_all(|asked| reviews(asked) >= 4).await;
    // Longer than the first token lived.
    tokio::time::sleep(Duration::from_secs(200)).await;
    guarded.operator.publish(&[snapshot("n1", "c")]);
    agent.snapshot().await;
}

#[tokio::test]
async fn nobody_is_refused_as_a_thief_where_the_api_server_is_away() {
    let guarded = Guarded::start().await;
    *guarded.reviews.lock().unwrap() = false;
    assert_eq!(guarded.refused("n1", &token("a-1", "n1")).await.code(), Code::Unavailable);
    assert!(guarded.counted("no_review"));
}

#[tokio::test]
async fn of_two_streams_of_a_pod_the_newer_stays_and_of_two_pods_of_a_node_the_younger() {
    let guarded = Guarded::start().await;
    let mut older = guarded.open("n1", &token("a-1", "n1")).await.ok().unwrap();
    let mut newer = guarded.open("n1", &token("a-1", "n1")).await.ok().unwrap();
    assert_eq!(older.end().await.code(), Code::Aborted);
    assert_eq!(newer.snapshot().await.node, "n1");

    let mut young = pod("a-4", "n1");
    young["metadata"]["creationTimestamp"] = json!("2026-02-02T00:00:00Z");
    guarded.cluster.change_of("pods", "ADDED", &young);
    let mut young = guarded.open("n1", &token("a-4", "n1")).await.ok().unwrap();
    assert_eq!(newer.end().await.code(), Code::Aborted);
    let status = guarded.refused("n1", &token("a-1", "n1")).await;
    assert_eq!((status.code(), guarded.counted("superseded")), (Code::Aborted, true));
    assert_eq!(young.snapshot().await.node, "n1");
}

#[tokio::test]
async fn a_token_from_elsewhere_takes_no_stream_from_the_pod_itself() {
    let guarded = Guarded::start().await;
    let mut own = guarded.open("n1", &token("a-1", "n1")).await.ok().unwrap();
    let from = Some("127.0.0.2".parse().unwrap());
    let stolen = token("a-1", "n1");
    let mut thief = Stream::from(&guarded.operator, hello("n1"), Some(&stolen), from).await.ok().unwrap();
    let status = thief.end().await;
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(guarded.counted("elsewhere"));
    guarded.told("from its own address").await;
    own.snapshot().await;
}

#[tokio::test]
async fn an_agent_is_told_who_may_read_its_metrics_and_the_api_server_is_asked_once() {
    let guarded = Guarded::start().await;
    let mut agent = guarded.open("n1", &token("a-1", "n1")).await.ok().unwrap();
    agent.snapshot().await;
    let mut of = async |id: u64, who: &str| {
        let question = proto::AccessQuestion { id, token: who.to_owned() };
        agent.tell(agent_message::Message::AccessQuestion(question)).await;
        match agent.next().await.unwrap() {
            operator_message::Message::AccessAnswer(answer) => {
                assert_eq!(answer.id, id);
                Access::from_answer(&answer)
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(of(1, "prometheus").await, Some(Access::Allowed));
    assert_eq!(of(2, "somebody").await, Some(Access::Forbidden));
    assert_eq!(of(3, "nobody").await, Some(Access::Unauthenticated));
    *guarded.reviews.lock().unwrap() = false;
    assert_eq!(of(4, "prometheus").await, Some(Access::Allowed), "it is known for a while");
    assert_eq!(of(5, "somebody-else").await, None);
    let rights = guarded.record.wait_for(1).await;
    assert_eq!(rights.iter().filter(|a| a.path.ends_with("/subjectaccessreviews")).count(), 2);
}

#[tokio::test]
async fn a_follower_asks_nobody_whose_a_token_is() {
    let guarded = Guarded::start().await;
    guarded.operator.lose();
    let status = guarded.refused("n1", "nonsense").await;
    assert_eq!((status.code(), status.message()), (Code::FailedPrecondition, "not leader"));
    let hello = Hello::default();
    assert!(Stream::shown(&guarded.operator, hello, None).await.is_err());
    assert!(guarded.record.wait_for(1).await.iter().all(|a| !a.path.ends_with("/tokenreviews")));
}
