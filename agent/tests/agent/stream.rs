//! What passes between an agent and operators of several kinds, over real connections on loopback.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use agent::access::{Questions, questions};
use agent::config::Config;
use agent::health::Health;
use agent::in_force::InForce;
use agent::last_good::LastGood;
use agent::plan::{Overlay, Plan};
use agent::reach::Reach;
use agent::scrape::Scraper;
use agent::source::Paths;
use agent::source::kubelet::KubeletError;
use agent::subscribe::Subscription;
use agent::telemetry::Telemetry;
use protocol::proto::agent_config_server::{AgentConfig, AgentConfigServer};
use protocol::proto::{self, agent_message, operator_message};
use protocol::{Access, MetricSelection, Outcome, PROTOCOL, Policy, PolicyContent, Report, Snapshot, Token};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

/// An operator that hands each stream to the test, or says that it does not lead.
struct Operator {
    streams: mpsc::Sender<Stream>,
    leads: bool,
}

/// One agent's stream, as the test speaks on it.
struct Stream {
    heard: Streaming<proto::AgentMessage>,
    say: mpsc::Sender<Result<proto::OperatorMessage, Status>>,
    /// What the call's header says.
    authorization: Option<String>,
}

type Said = Pin<Box<dyn tokio_stream::Stream<Item = Result<proto::OperatorMessage, Status>> + Send>>;

#[tonic::async_trait]
impl AgentConfig for Operator {
    type SubscribeStream = Said;

    async fn subscribe(
        &self,
        request: Request<Streaming<proto::AgentMessage>>,
    ) -> Result<Response<Said>, Status> {
        if !self.leads {
            return Err(Status::failed_precondition("not leader"));
        }
        let (say, said) = mpsc::channel(4);
        let authorization =
            request.metadata().get("authorization").map(|value| value.to_str().unwrap().to_owned());
        let stream = Stream { heard: request.into_inner(), say, authorization };
        self.streams.send(stream).await.map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(Box::pin(ReceiverStream::new(said))))
    }
}

async fn operator(leads: bool) -> (String, mpsc::Receiver<Stream>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (streams, receiver) = mpsc::channel(1);
    let service = AgentConfigServer::new(Operator { streams, leads });
    let incoming = TcpListenerStream::new(listener);
    tokio::spawn(
        async move { tonic::transport::Server::builder().serve_with_incoming(service, incoming).await },
    );
    (address, receiver)
}

impl Stream {
    async fn hear(&mut self) -> agent_message::Message {
        self.heard.message().await.unwrap().unwrap().message.unwrap()
    }

    async fn hello(&mut self) -> proto::Hello {
        match self.hear().await {
            agent_message::Message::Hello(hello) => hello,
            other => panic!("not a hello: {other:?}"),
        }
    }

    async fn report(&mut self) -> Report {
        match self.hear().await {
            agent_message::Message::Report(report) => report.try_into().unwrap(),
            other => panic!("not a report: {other:?}"),
        }
    }

    async fn welcome(&self, term: u64) {
        let welcome = proto::Welcome { protocol: PROTOCOL, term, cluster: "cluster".to_owned() };
        self.say(operator_message::Message::Welcome(welcome)).await;
    }

    async fn say(&self, message: operator_message::Message) {
        self.say.send(Ok(proto::OperatorMessage { message: Some(message) })).await.unwrap();
    }

    async fn snapshot(&self, snapshot: Snapshot) {
        self.say(operator_message::Message::Snapshot(snapshot.into())).await;
    }
}

/// A folder for what was last good; gone when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("stream-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    /// Starts an agent that follows these operators, and returns its configuration.
    fn agent(&self, addresses: &[&str]) -> Config {
        self.agent_with(addresses, Health::new(true))
    }

    /// As [`Self::agent`], with a health of which the test speaks.
    fn agent_with(&self, addresses: &[&str], health: Health) -> Config {
        let reach =
            Reach { addresses: addresses.iter().map(|a| (*a).to_owned()).collect(), ..Reach::default() };
        self.agent_by(reach, health, questions().1)
    }

    fn agent_by(&self, reach: Reach, health: Health, questions: Questions) -> Config {
        let paths = Paths::default();
        let telemetry = Arc::new(Telemetry::new().unwrap());
        let plan = Plan::waiting(&Overlay::default());
        let scraper = Arc::new(Mutex::new(Scraper::new(paths, String::new(), 100, plan, telemetry.clone())));
        let config =
            Config::new(scraper, telemetry.clone(), Overlay::default(), Some(LastGood::new(&self.0)));
        let verdicts = config.use_last_good("node");
        let subscription = Subscription {
            reach,
            node: "node".to_owned(),
            config: config.clone(),
            telemetry,
            health,
            questions,
        };
        tokio::spawn(subscription.run(verdicts));
        config
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn snapshot(term: u64, exclude: &str) -> Snapshot {
    let metrics = MetricSelection { exclude: vec![exclude.to_owned()], ..MetricSelection::default() };
    let policy = Policy::new("p", 1, PolicyContent { metrics, ..PolicyContent::default() });
    Snapshot {
        cluster: "cluster".to_owned(),
        node: "node".to_owned(),
        term,
        policies: vec![policy],
        ..Snapshot::default()
    }
}

fn refusal(report: Report) -> String {
    match report {
        Report::Refusal(refusal) => refusal.reason,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_passes_over_an_operator_that_does_not_lead() {
    let folder = Folder::new("next");
    let (follower, _none) = operator(false).await;
    let (leader, mut streams) = operator(true).await;
    let config = folder.agent(&[&follower, &leader]);
    let mut stream = streams.recv().await.unwrap();
    let hello = stream.hello().await;
    assert_eq!((hello.node.as_str(), hello.digest.as_str(), hello.protocol), ("node", "", PROTOCOL));
    assert!(hello.collectors.iter().any(|c| c.name == "cpu"));
    stream.welcome(5).await;
    stream.snapshot(snapshot(5, "node_load1")).await;
    let Report::Verdicts(verdicts) = stream.report().await else { panic!("refused") };
    assert_eq!(verdicts.policies[0].outcome, Outcome::Accepted);
    assert_eq!(config.in_force().policies.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_taken_up_is_refused_whole_and_changes_nothing() {
    let folder = Folder::new("refused");
    let (leader, mut streams) = operator(true).await;
    let config = folder.agent(&[&leader]);
    let mut stream = streams.recv().await.unwrap();
    stream.hello().await;
    stream.welcome(5).await;
    stream.snapshot(snapshot(5, "node_load1")).await;
    stream.report().await;
    let before = config.in_force();

    let mut undecodable = proto::Snapshot::from(snapshot(5, "node_load5"));
    undecodable.facts = None;
    stream.say(operator_message::Message::Snapshot(undecodable)).await;
    assert_eq!(refusal(stream.report().await), "NotDecodable");
    stream.snapshot(snapshot(4, "node_load5")).await;
    assert_eq!(refusal(stream.report().await), "OlderTerm");
    stream.snapshot(Snapshot { node: "other".to_owned(), ..snapshot(5, "node_load5") }).await;
    assert_eq!(refusal(stream.report().await), "OtherNode");
    stream.snapshot(Snapshot { cluster: "other".to_owned(), ..snapshot(5, "node_load5") }).await;
    assert_eq!(refusal(stream.report().await), "OtherCluster");
    assert_eq!(config.in_force(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_restarts_says_what_it_has_and_follows_no_older_leader() {
    let folder = Folder::new("restart");
    let (leader, mut streams) = operator(true).await;
    folder.agent(&[&leader]);
    let mut stream = streams.recv().await.unwrap();
    stream.hello().await;
    stream.welcome(5).await;
    let first = snapshot(5, "node_load1");
    stream.snapshot(first.clone()).await;
    stream.report().await;
    drop((stream, streams));

    let (other, mut streams) = operator(true).await;
    let config = folder.agent(&[&other]);
    let mut stream = streams.recv().await.unwrap();
    let hello = stream.hello().await;
    assert_eq!(hello.digest, first.digest().to_string());
    assert_eq!(hello.in_force["p"], first.policies[0].revision.to_string());
    // The same snapshot under a newer leader: nothing is sent, and the agent says at once what it made of it.
    stream.welcome(6).await;
    let Report::Verdicts(verdicts) = stream.report().await else { panic!("refused") };
    assert_eq!((verdicts.digest, verdicts.policies.len()), (first.digest(), 1));
    assert_eq!(config.in_force().snapshot.term, 6);
    drop(stream);

    let mut stream = streams.recv().await.unwrap();
    stream.hello().await;
    stream.welcome(5).await;
    assert_eq!(refusal(stream.report().await), "OlderTerm");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_cluster_left_on_disk_refuses_every_other_operator_until_somebody_deletes_it() {
    let folder = Folder::new("moved");
    let file = folder.0.join("last-good.json");
    let (leader, mut streams) = operator(true).await;
    folder.agent(&[&leader]);
    let mut stream = streams.recv().await.unwrap();
    stream.hello().await;
    stream.welcome(5).await;
    stream.snapshot(snapshot(5, "node_load1")).await;
    stream.report().await;
    drop((stream, streams));
    // As if it had been written elsewhere.
    let last_good = LastGood::new(&folder.0);
    let mut foreign = last_good.load().unwrap().unwrap();
    foreign.snapshot.cluster = "elsewhere".to_owned();
    last_good.store(&foreign).unwrap();
    let before = std::fs::read(&file).unwrap();

    let (here, mut streams) = operator(true).await;
    let config = folder.agent(&[&here]);
    let in_force = config.in_force();
    let mut stream = streams.recv().await.unwrap();
    stream.hello().await;
    stream.welcome(9).await;
    let Report::Refusal(refusal) = stream.report().await else { panic!("followed") };
    assert_eq!(refusal.reason, "OtherCluster");
    assert!(refusal.message.contains(&file.display().to_string()), "{}", refusal.message);
    assert_eq!((config.in_force(), std::fs::read(&file).unwrap()), (in_force, before));
    drop((stream, streams));

    std::fs::remove_file(&file).unwrap();
    let (here, mut streams) = operator(true).await;
    folder.agent(&[&here]);
    let mut stream = streams.recv().await.unwrap();
    stream.hello().await;
    stream.welcome(9).await;
    stream.snapshot(snapshot(9, "node_load1")).await;
    assert!(matches!(stream.report().await, Report::Verdicts(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_node_left_on_disk_is_not_put_in_force_and_is_kept() {
    let folder = Folder::new("other-node");
    let last_good = LastGood::new(&folder.0);
    let foreign = Snapshot { node: "other".to_owned(), ..snapshot(5, "node_load1") };
    let foreign = InForce { policies: foreign.policies.clone(), snapshot: foreign, ..InForce::default() };
    last_good.store(&foreign).unwrap();

    let (leader, mut streams) = operator(true).await;
    let config = folder.agent(&[&leader]);
    assert_eq!(config.in_force(), InForce::default());
    assert_eq!(last_good.load().unwrap().as_ref(), Some(&foreign));
    let mut stream = streams.recv().await.unwrap();
    assert!(stream.hello().await.in_force.is_empty());
    stream.welcome(5).await;
    stream.snapshot(snapshot(5, "node_load5")).await;
    stream.report().await;
    assert_eq!(last_good.load().unwrap().unwrap().snapshot.node, "node");
    let kept = std::fs::read(folder.0.join("last-good.json.refused")).unwrap();
    assert_eq!(agent::last_good::decode(&kept).unwrap(), foreign);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rejected_policy_is_reported_with_what_stays_in_force() {
    let folder = Folder::new("rejected");
    let (leader, mut streams) = operator(true).await;
    folder.agent(&[&leader]);
    let mut stream = streams.recv().await.unwrap();
    stream.hello().await;
    stream.welcome(5).await;
    let good = snapshot(5, "node_load1");
    stream.snapshot(good.clone()).await;
    stream.report().await;
    stream.snapshot(snapshot(5, "(")).await;
    let Report::Verdicts(verdicts) = stream.report().await else { panic!("refused") };
    let verdict = &verdicts.policies[0];
    assert_eq!(
        (verdict.outcome, verdict.findings[0].field.as_str()),
        (Outcome::Rejected, "metrics.exclude[0]")
    );
    assert_eq!(verdict.in_force, good.policies[0].revision);
}

impl Stream {
    /// The reasons of the next report, which is on the agent's health.
    async fn health(&mut self) -> Vec<String> {
        match self.report().await {
            Report::Health(findings) => findings.into_iter().map(|f| f.reason).collect(),
            other => panic!("not its health: {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kubelet_that_refuses_is_told_of_when_it_changes_and_to_each_operator_anew() {
    let folder = Folder::new("health");
    let (leader, mut streams) = operator(true).await;
    let health = Health::new(true);
    let forbidden = || KubeletError::Forbidden { url: String::new(), body: String::new() };
    folder.agent_with(&[&leader], health.clone());
    let mut stream = streams.recv().await.unwrap();
    stream.hello().await;
    stream.welcome(5).await;
    stream.snapshot(snapshot(5, "node_load1")).await;
    let Report::Verdicts(_) = stream.report().await else { panic!("nothing is known of the kubelet yet") };
    health.kubelet(Err(&forbidden()));
    assert_eq!(stream.health().await, ["KubeletRefused"]);
    drop(stream);

    let mut stream = streams.recv().await.unwrap();
    stream.hello().await;
    stream.welcome(5).await;
    assert_eq!(
        stream.health().await,
        ["KubeletRefused"],
        "first, so that no condition is written without it"
    );
    let Report::Verdicts(_) = stream.report().await else { panic!("no verdicts") };
    // The same again is no change, so that what comes next is the mending.
    health.kubelet(Err(&forbidden()));
    health.kubelet(Ok(()));
    assert_eq!(stream.health().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_shows_its_token_and_each_newer_one_on_the_same_stream() {
    let folder = Folder::new("token");
    let file = folder.0.join("token");
    std::fs::write(&file, "first\n").unwrap();
    let (leader, mut streams) = operator(true).await;
    let reach = Reach { addresses: vec![leader], token_file: Some(file.clone()), ..Reach::default() };
    folder.agent_by(reach, Health::new(false), questions().1);
    let mut stream = streams.recv().await.unwrap();
    assert_eq!(stream.authorization.as_deref(), Some("Bearer first"));
    stream.hello().await;
    stream.welcome(5).await;
    std::fs::write(folder.0.join("new"), "second").unwrap();
    std::fs::rename(folder.0.join("new"), &file).unwrap();
    loop {
        if let agent_message::Message::Credential(credential) = stream.hear().await {
            assert_eq!(credential.token, "second");
            break;
        }
    }
    // The next stream begins with it.
    drop(stream);
    assert_eq!(streams.recv().await.unwrap().authorization.as_deref(), Some("Bearer second"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_asks_the_operator_who_may_read() {
    let folder = Folder::new("access");
    let (leader, mut streams) = operator(true).await;
    let (asker, questions) = questions();
    let reach = Reach { addresses: vec![leader], ..Reach::default() };
    folder.agent_by(reach, Health::new(false), questions);
    let mut stream = streams.recv().await.unwrap();
    stream.hello().await;
    stream.welcome(5).await;
    let answer = async {
        loop {
            if let agent_message::Message::AccessQuestion(question) = stream.hear().await {
                assert_eq!(question.token, "of prometheus");
                let answer = Access::answer(Some(Access::Allowed), question.id);
                return stream.say(operator_message::Message::AccessAnswer(answer)).await;
            }
        }
    };
    let (access, ()) = tokio::join!(asker.ask(Token::new("of prometheus")), answer);
    assert_eq!(access, Ok(Access::Allowed));
}
