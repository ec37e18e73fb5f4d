//! Agents over real connections: who is told what, and when the stream ends.

use std::collections::BTreeMap;
use std::net::IpAddr;

use operator::agents::Standing;
use operator::publish::{Admission, Publisher, Term};
use operator::telemetry::Telemetry;
use protocol::proto::agent_config_client::AgentConfigClient;
use protocol::proto::{self, agent_message, operator_message};
use protocol::{
    Digest, Finding, Hello, MetricSelection, Outcome, PROTOCOL, Policy, PolicyContent, Refusal, Report,
    Snapshot, Verdict, Verdicts,
};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;
use tonic::{Code, Status, Streaming};

pub(crate) struct Operator {
    pub(crate) publisher: Publisher,
    leading: watch::Sender<Option<Term>>,
    pub(crate) address: String,
}

impl Operator {
    async fn start(term: Option<Term>) -> Self {
        let (leading, elected) = watch::channel(term);
        Operator::serve(
            Publisher::new("cluster", elected, Admission::Anyone, Telemetry::new().unwrap()),
            leading,
        )
        .await
    }

    pub(crate) async fn serve(publisher: Publisher, leading: watch::Sender<Option<Term>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(publisher.clone().serve(listener, None, std::future::pending()));
        Operator { publisher, leading, address }
    }

    /// Leads no longer.
    pub(crate) fn lose(&self) {
        self.leading.send_replace(None);
    }

    pub(crate) fn publish(&self, snapshots: &[Snapshot]) {
        let term = self.leading.borrow().unwrap();
        self.publisher.publish(term, snapshots.iter().map(|s| (s.node.clone(), s.clone())).collect());
    }
}

/// An agent's end of a stream.
pub(crate) struct Stream {
    say: mpsc::Sender<proto::AgentMessage>,
    hear: Streaming<proto::OperatorMessage>,
}

impl Stream {
    async fn open(operator: &Operator, hello: Hello) -> Result<Self, Status> {
        Stream::shown(operator, hello, None).await
    }

    /// Opens a stream with a token.
    pub(crate) async fn shown(
        operator: &Operator,
        hello: Hello,
        token: Option<&str>,
    ) -> Result<Self, Status> {
        Stream::from(operator, hello, token, None).await
    }

    /// As [`Self::shown`], from this address.
    pub(crate) async fn from(
        operator: &Operator,
        hello: Hello,
        token: Option<&str>,
        from: Option<IpAddr>,
    ) -> Result<Self, Status> {
        let (say, said) = mpsc::channel(4);
        let hello = agent_message::Message::Hello(hello.into());
        say.send(proto::AgentMessage { message: Some(hello) }).await.unwrap();
        let endpoint = Endpoint::from_shared(operator.address.clone()).unwrap().local_address(from);
        let mut client = AgentConfigClient::new(endpoint.connect().await.unwrap());
        let mut call = tonic::Request::new(ReceiverStream::new(said));
        if let Some(token) = token {
            call.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        let hear = client.subscribe(call).await?.into_inner();
        Ok(Stream { say, hear })
    }

    /// Opens a stream and hears the welcome.
    pub(crate) async fn welcomed(operator: &Operator, hello: Hello) -> Self {
        let mut stream = Stream::open(operator, hello).await.unwrap();
        let Ok(operator_message::Message::Welcome(welcome)) = stream.next().await else {
            panic!("no welcome")
        };
        assert_eq!((welcome.protocol, welcome.cluster.as_str()), (PROTOCOL, "cluster"));
        stream
    }

    pub(crate) async fn next(&mut self) -> Result<operator_message::Message, Status> {
        match self.hear.message().await? {
            Some(message) => Ok(message.message.unwrap()),
            None => Err(Status::cancelled("the stream ended without a reason")),
        }
    }

    pub(crate) async fn snapshot(&mut self) -> Snapshot {
        match self.next().await.unwrap() {
            operator_message::Message::Snapshot(snapshot) => snapshot.try_into().unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// Why the stream ends, whatever comes before.
    pub(crate) async fn end(&mut self) -> Status {
        loop {
            if let Err(status) = self.next().await {
                return status;
            }
        }
    }

    pub(crate) async fn report(&self, report: Report) {
        self.tell(agent_message::Message::Report(report.into())).await;
    }

    pub(crate) async fn tell(&self, message: agent_message::Message) {
        self.say.send(proto::AgentMessage { message: Some(message) }).await.unwrap();
    }
}

pub(crate) fn hello(node: &str) -> Hello {
    Hello { protocol: PROTOCOL, node: node.into(), ..Hello::default() }
}

fn policy(pattern: &str) -> Policy {
    let metrics = MetricSelection { exclude: vec![pattern.to_owned()], ..MetricSelection::default() };
    Policy::new("p", 1, PolicyContent { metrics, ..PolicyContent::default() })
}

pub(crate) fn snapshot(node: &str, pattern: &str) -> Snapshot {
    Snapshot {
        cluster: "cluster".into(),
        node: node.into(),
        policies: vec![policy(pattern)],
        ..Snapshot::default()
    }
}

#[tokio::test]
async fn an_agent_is_told_the_snapshot_of_its_node_with_the_leaders_term() {
    let operator = Operator::start(Some(7)).await;
    operator.publish(&[snapshot("n1", "a"), snapshot("n2", "b")]);
    let mut agent = Stream::welcomed(&operator, hello("n2")).await;
    assert_eq!(agent.snapshot().await, Snapshot { term: 7, ..snapshot("n2", "b") });
}

#[tokio::test]
async fn an_agent_that_came_before_its_node_is_told_when_the_node_is_there() {
    let operator = Operator::start(Some(1)).await;
    let mut agent = Stream::welcomed(&operator, hello("n1")).await;
    operator.publish(&[snapshot("n2", "b")]);
    operator.publish(&[snapshot("n1", "a"), snapshot("n2", "b")]);
    assert_eq!(agent.snapshot().await.node, "n1");
}

#[tokio::test]
async fn an_agent_that_has_the_snapshot_is_not_told_again() {
    let operator = Operator::start(Some(1)).await;
    operator.publish(&[snapshot("n1", "a")]);
    let has = Hello { digest: snapshot("n1", "a").digest(), ..hello("n1") };
    let mut agent = Stream::welcomed(&operator, has).await;
    operator.publish(&[snapshot("n1", "a")]);
    operator.publish(&[snapshot("n1", "b")]);
    assert_eq!(
        agent.snapshot().await.policies,
        [policy("b")],
        "the first that is told is the one that differs"
    );
}

#[tokio::test]
async fn of_two_quick_changes_only_the_latest_is_told() {
    let operator = Operator::start(Some(1)).await;
    let mut agent = Stream::welcomed(&operator, hello("n1")).await;
    operator.publish(&[snapshot("n1", "a")]);
    operator.publish(&[snapshot("n1", "b")]);
    assert_eq!(agent.snapshot().await.policies, [policy("b")]);
    operator.publish(&[snapshot("n1", "c")]);
    assert_eq!(agent.snapshot().await.policies, [policy("c")]);
}

#[tokio::test]
async fn a_slow_reader_holds_up_nobody_and_skips_to_the_latest() {
    const ROUNDS: usize = 40;
    let operator = Operator::start(Some(1)).await;
    let mut slow = Stream::welcomed(&operator, hello("slow")).await;
    let mut quick = Stream::welcomed(&operator, hello("quick")).await;
    let large = |round: usize| {
        let mut snapshot = snapshot("slow", &format!("round{round}"));
        snapshot
            .facts
            .namespaces
            .insert("large".into(), [format!("{round}{}", "x".repeat(256 << 10))].into());
        snapshot
    };
    for round in 0..ROUNDS {
        operator.publish(&[large(round), snapshot("quick", &format!("round{round}"))]);
        assert_eq!(quick.snapshot().await.policies, [policy(&format!("round{round}"))]);
    }
    let mut told = 0;
    loop {
        told += 1;
        if slow.snapshot().await.policies == [policy(&format!("round{}", ROUNDS - 1))] {
            break;
        }
    }
    assert!(told < ROUNDS / 2, "{told} of {ROUNDS} were kept for a reader that did not read");
}

#[tokio::test]
async fn a_newer_stream_of_the_same_node_takes_the_place_of_the_older() {
    let operator = Operator::start(Some(1)).await;
    let mut older = Stream::welcomed(&operator, hello("n1")).await;
    let mut newer = Stream::welcomed(&operator, hello("n1")).await;
    assert_eq!(older.end().await.code(), Code::Aborted);
    operator.publish(&[snapshot("n1", "a")]);
    assert_eq!(newer.snapshot().await.policies, [policy("a")]);
    assert!(operator.publisher.agents()["n1"].connected, "the end of the older is not the end of the agent");
}

#[tokio::test]
async fn a_follower_says_that_it_is_not_the_leader() {
    let operator = Operator::start(None).await;
    let status = Stream::open(&operator, hello("n1")).await.err().unwrap();
    assert_eq!((status.code(), status.message()), (Code::FailedPrecondition, "not leader"));
}

#[tokio::test]
async fn a_lost_lease_ends_the_streams_and_a_new_term_starts_with_nothing() {
    let operator = Operator::start(Some(1)).await;
    operator.publish(&[snapshot("n1", "a")]);
    let mut agent = Stream::welcomed(&operator, hello("n1")).await;
    agent.snapshot().await;
    operator.leading.send_replace(None);
    let status = agent.end().await;
    assert_eq!((status.code(), status.message()), (Code::FailedPrecondition, "not leader"));

    operator.leading.send_replace(Some(9));
    let mut agent = Stream::welcomed(&operator, hello("n1")).await;
    operator.publish(&[snapshot("n1", "b")]);
    let told = agent.snapshot().await;
    assert_eq!(
        (told.term, told.policies),
        (9, vec![policy("b")]),
        "what an older term published is not told"
    );
}

#[tokio::test]
async fn another_protocol_is_refused_with_both_numbers() {
    let operator = Operator::start(Some(1)).await;
    let mut agent = Stream::open(&operator, Hello { protocol: 99, ..hello("n1") }).await.unwrap();
    let status = agent.end().await;
    assert_eq!(status.code(), Code::Unimplemented);
    assert_eq!(status.message(), "this operator speaks protocol 1, the agent 99");
}

#[tokio::test]
async fn a_stream_that_begins_otherwise_than_with_a_hello_is_refused() {
    let operator = Operator::start(Some(1)).await;
    let mut nameless = Stream::open(&operator, hello("")).await.unwrap();
    assert_eq!(nameless.end().await.code(), Code::InvalidArgument);
    let (say, said) = mpsc::channel(1);
    let report = Report::Verdicts(Verdicts::default());
    let message = Some(agent_message::Message::Report(report.into()));
    say.send(proto::AgentMessage { message }).await.unwrap();
    let mut client = AgentConfigClient::connect(operator.address.clone()).await.unwrap();
    let mut hear = client.subscribe(ReceiverStream::new(said)).await.unwrap().into_inner();
    assert_eq!(hear.message().await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_kind_of_report_that_this_operator_does_not_know_is_passed_over() {
    let operator = Operator::start(Some(1)).await;
    let agent = Stream::welcomed(&operator, hello("n1")).await;
    let mut heard = operator.publisher.heard();
    // What a report of an unknown kind decodes to.
    let message = Some(agent_message::Message::Report(proto::Report { report: None }));
    agent.say.send(proto::AgentMessage { message }).await.unwrap();
    let finding = Finding { field: String::new(), reason: "R".into(), message: "m".into() };
    agent.report(Report::Health(vec![finding.clone(); 99])).await;
    heard.changed().await.unwrap();
    assert_eq!(operator.publisher.agents()["n1"].health, vec![finding; 8], "the stream goes on");
}

#[tokio::test]
async fn what_agents_say_is_known_from_the_hello_on_and_stays_while_they_are_away() {
    let operator = Operator::start(Some(1)).await;
    let revision = policy("a").revision;
    operator.publish(&[snapshot("n1", "a"), snapshot("n2", "a")]);
    let standing = |node: &str| {
        let agents = operator.publisher.agents();
        match agents[node].standing("p", &revision) {
            Standing::InForce(findings) => format!("in force, {} findings", findings.len()),
            Standing::Rejected(finding) => format!("rejected: {}", finding.reason),
            Standing::Refused(refusal) => format!("refused: {}", refusal.reason),
            other => format!("{other:?}"),
        }
    };
    let mut heard = operator.publisher.heard();

    let has = BTreeMap::from([("p".to_owned(), revision.clone())]);
    let digest = snapshot("n1", "a").digest();
    let agent = Stream::welcomed(&operator, Hello { in_force: has, digest, ..hello("n1") }).await;
    heard.changed().await.unwrap();
    assert_eq!(standing("n1"), "in force, 0 findings");

    let other = Stream::welcomed(&operator, hello("n2")).await;
    heard.changed().await.unwrap();
    assert_eq!(standing("n2"), "Pending");
    let refusal = |digest: Digest| Refusal { digest, reason: "OlderTerm".into(), message: "m".into() };
    other.report(Report::Refusal(refusal(snapshot("n2", "a").digest()))).await;
    heard.changed().await.unwrap();
    assert_eq!(standing("n2"), "refused: OlderTerm");

    let finding =
        protocol::Finding { field: "f".into(), reason: "InvalidOption".into(), message: "x".repeat(9999) };
    let verdict = Verdict {
        policy: "p".into(),
        revision: revision.clone(),
        outcome: Outcome::Rejected,
        findings: vec![finding],
        in_force: Default::default(),
    };
    other.report(Report::Verdicts(Verdicts { digest: Digest::default(), policies: vec![verdict] })).await;
    heard.changed().await.unwrap();
    assert_eq!(standing("n2"), "rejected: InvalidOption");
    let agents = operator.publisher.agents();
    assert_eq!(agents["n2"].findings["p"].findings[0].message.len(), 512, "an agent's words are bounded");

    drop(agent);
    heard.changed().await.unwrap();
    assert_eq!(standing("n1"), "in force, 0 findings");
    assert!(!operator.publisher.agents()["n1"].connected);
    operator.publish(&[snapshot("n2", "a")]);
    assert!(!operator.publisher.agents().contains_key("n1"), "of a node that is gone nothing is remembered");
}
