//! What a fleet's streams cost the operator in memory: so many agents in another process, by TLS, each told its snapshot.

#![expect(clippy::print_stdout, reason = "a bench prints what it found")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use agent::reach::Reach;
use anyhow::{Context as _, Result, ensure};
use operator::accept::raise_open_files;
use operator::authority::Serving;
use operator::publish::{Admission, Publisher};
use operator::telemetry::Telemetry;
use protocol::proto::agent_config_client::AgentConfigClient;
use protocol::proto::{self, agent_message, operator_message};
use protocol::{Hello, MetricSelection, PROTOCOL, Policy, PolicyContent, Snapshot};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

const STREAMS: usize = 5_000;
/// Each node has as many.
const POLICIES: usize = 10;
const NAME: &str = "operator.bench";
/// What the other process is started with.
const CLIENTS: &str = "--clients";
const SERVER: &str = "--server";
const PATIENCE: Duration = Duration::from_secs(300);

#[tokio::main]
async fn main() -> Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    raise_open_files();
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.iter().position(|it| it == CLIENTS) {
        Some(at) => {
            let [address, ca, count] = &arguments[at + 1..] else {
                anyhow::bail!("{CLIENTS} ADDRESS CA COUNT")
            };
            clients(address, Path::new(ca), count.parse()?).await
        }
        None => match arguments.iter().position(|it| it == SERVER) {
            Some(at) => serve(arguments.get(at + 1).is_some_and(|kind| kind == "tls")).await,
            // Each in a process of its own: what the one gave back the other would take first.
            None => ["tls", "clear"].into_iter().try_for_each(|kind| {
                let status = Command::new(std::env::current_exe()?).args([SERVER, kind]).status()?;
                ensure!(status.success(), "{kind}: {status}");
                Ok(())
            }),
        },
    }
}

async fn serve(is_tls: bool) -> Result<()> {
    let folder = std::env::temp_dir().join(format!("bench-streams-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let (ca, acceptor) = certificate(&folder)?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (_leading, elected) = tokio::sync::watch::channel(Some(1));
    let publisher = Publisher::new("cluster", elected, Admission::Anyone, Telemetry::new()?);
    publisher.publish(1, (0..STREAMS).map(|number| (node(number), snapshot(number))).collect());
    let before = resident()?;
    let tls = is_tls.then_some(acceptor);
    tokio::spawn(publisher.clone().serve(listener, tls, std::future::pending()));
    let start = Instant::now();
    let mut child = spawn(address, &ca, is_tls)?;
    let told = BufReader::new(child.stdout.take().context("no output")?);
    tokio::task::spawn_blocking(move || told.lines().next()).await?.context("the clients ended")??;
    let took = start.elapsed();
    ensure!(
        publisher.agents().values().filter(|it| it.connected).count() == STREAMS,
        "not every stream is there"
    );
    let after = resident()?;
    let kind = if is_tls { "TLS" } else { "in clear" };
    println!(
        "{STREAMS} streams {kind}: {} kB more resident, {:.1} kB each ({before} kB before); all told after {:.1} s",
        after.saturating_sub(before),
        after.saturating_sub(before) as f64 / STREAMS as f64,
        took.as_secs_f64()
    );
    child.kill()?;
    child.wait()?;
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

fn spawn(address: SocketAddr, ca: &Path, is_tls: bool) -> Result<std::process::Child> {
    let scheme = if is_tls { "https" } else { "http" };
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(CLIENTS).arg(format!("{scheme}://{address}")).arg(ca).arg(STREAMS.to_string());
    Ok(command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn()?)
}

/// Every agent of the fleet; says so when each has its snapshot, and stays.
async fn clients(address: &str, ca: &Path, count: usize) -> Result<()> {
    let is_tls = address.starts_with("https");
    let reach = Reach {
        addresses: vec![address.to_owned()],
        ca_file: is_tls.then(|| ca.to_owned()),
        server_name: is_tls.then(|| NAME.to_owned()),
        token_file: None,
    };
    // Room for all: they are counted once every one has begun.
    let (told, mut all) = mpsc::channel(count);
    // A fleet comes back spread over half a minute; so many at a time are what this machine accepts without waiting long.
    let turns = std::sync::Arc::new(tokio::sync::Semaphore::new(32));
    for number in 0..count {
        let turn = turns.clone().acquire_owned().await?;
        let (reach, told) = (reach.clone(), told.clone());
        tokio::spawn(async move {
            if let Err(error) = follow(&reach, number, &told, turn).await {
                eprintln!("agent {number}: {error:#}");
            }
        });
    }
    for _ in 0..count {
        tokio::time::timeout(PATIENCE, all.recv()).await?.context("an agent ended")?;
    }
    println!("told");
    std::io::stdout().flush()?;
    std::future::pending().await
}

async fn follow(
    reach: &Reach,
    number: usize,
    told: &mpsc::Sender<()>,
    turn: tokio::sync::OwnedSemaphorePermit,
) -> Result<()> {
    let channel = reach.connect(&reach.addresses[0]).await?;
    let (say, said) = mpsc::channel(1);
    let hello = Hello { protocol: PROTOCOL, node: node(number), ..Hello::default() };
    let hello = Hello { capabilities: agent::collector::capabilities(), ..hello };
    let message = Some(agent_message::Message::Hello(hello.into()));
    say.send(proto::AgentMessage { message }).await?;
    let mut stream = AgentConfigClient::new(channel).subscribe(ReceiverStream::new(said)).await?.into_inner();
    let mut turn = Some(turn);
    while let Some(message) = stream.message().await? {
        if let Some(operator_message::Message::Snapshot(_)) = message.message {
            told.send(()).await?;
            turn.take();
        }
    }
    Ok(())
}

fn node(number: usize) -> String {
    format!("node-{number}")
}

fn snapshot(number: usize) -> Snapshot {
    let policy = |index: usize| {
        let exclude = vec![format!("container_spec_{index}_.*")];
        let metrics = MetricSelection { exclude, ..MetricSelection::default() };
        Policy::new(format!("policy-{index}"), 1, PolicyContent { metrics, ..PolicyContent::default() })
    };
    let policies = (0..POLICIES).map(policy).collect();
    Snapshot { cluster: "cluster".into(), node: node(number), policies, ..Snapshot::default() }
}

fn certificate(folder: &Path) -> Result<(PathBuf, tokio_rustls::TlsAcceptor)> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let leaf = CertificateParams::new([NAME.to_owned()])?.signed_by(&key, &ca)?;
    let file = folder.join("ca.crt");
    std::fs::write(&file, ca.pem())?;
    let serving = Serving::with(&leaf.pem(), &key.serialize_pem()).map_err(anyhow::Error::msg)?;
    Ok((file, serving.acceptor()?))
}

/// Resident memory of this process, in kB (proc_pid_status(5)).
fn resident() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
