//! Flags, start and stop.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use operator::offline::{self, Files};
use operator::run::{Options, run};
use operator::telemetry::log_to_stderr;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::Level;

/// Turns ExporterPolicies into what they mean for each node, and tells the agents.
#[derive(Parser)]
#[command(name = "exporter-operator", version = version())]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Watches the cluster and serves the agents.
    Run(Run),
    /// Prints what policies mean for one node, without a cluster. Ends with 1 when a policy is rejected.
    Compile(Compile),
}

#[derive(Args)]
struct Run {
    /// Where agents connect. Not a loopback address: only with --insecure.
    #[arg(long, default_value = "127.0.0.1:9443", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Lets agents connect from other machines although nothing is encrypted and nobody is identified.
    #[arg(long)]
    insecure: bool,
    /// Where /healthz, /readyz and /metrics are.
    #[arg(long = "web.listen-address", default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    web: SocketAddr,
    /// error, warn, info, debug or trace.
    #[arg(long = "log.level", default_value = "info", value_name = "LEVEL")]
    log_level: Level,
    /// The namespace of the Lease; by default that of the service account or the kubeconfig.
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// What tells this replica from the others; by default something made up at the start.
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    identity: Option<String>,
    /// Tells every node to expose the machine and the profile Minimal alone, less what policies exclude. For one node,
    /// annotate it with exporter-operator.dev/emergency=true.
    #[arg(long)]
    emergency: bool,
}

#[derive(Args)]
struct Compile {
    /// A file with ExporterPolicies. May be repeated.
    #[arg(long = "policy", required = true, value_name = "FILE")]
    policies: Vec<PathBuf>,
    /// A file with the Node, as `kubectl get node NAME -o yaml` prints it.
    #[arg(long, value_name = "FILE")]
    node: PathBuf,
    /// A file with Namespaces, whose labels namespace selectors are matched with. May be repeated.
    #[arg(long = "namespaces", value_name = "FILE")]
    namespaces: Vec<PathBuf>,
    /// What the agents know, as `exporter-agent` of another build prints it; by default what those of this build know.
    #[arg(long, value_name = "FILE")]
    agent_capabilities: Option<PathBuf>,
}

/// The commit that this is built from, which `cargo images` sets. Here and not in the library, so that a new commit
/// compiles nothing else anew.
const REVISION: &str = match option_env!("EXPORTER_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};

fn version() -> String {
    format!("{} (revision {REVISION})", env!("CARGO_PKG_VERSION"))
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(flags) => start(flags).map(|()| ExitCode::SUCCESS),
        Command::Compile(flags) => print_meaning(flags),
    };
    result.unwrap_or_else(|error| {
        eprintln!("exporter-operator: {error:#}");
        ExitCode::FAILURE
    })
}

fn print_meaning(flags: Compile) -> anyhow::Result<ExitCode> {
    let Compile { policies, node, namespaces, agent_capabilities } = flags;
    let meaning = offline::compile(&Files { policies, node, namespaces, agent_capabilities })?;
    std::io::stdout().write_all(serde_saphyr::to_string(&meaning)?.as_bytes())?;
    Ok(if meaning.rejected.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[tokio::main]
async fn start(flags: Run) -> anyhow::Result<()> {
    log_to_stderr(flags.log_level);
    if let Err(error) = operator::confine::no_core_dumps() {
        tracing::warn!("a core dump of this process may be written: {error}");
    }
    // One provider for the process: two in the tree would leave rustls without a choice.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let told = stop.clone();
    tokio::spawn(async move {
        tokio::select! { _ = terminate.recv() => {} _ = interrupt.recv() => {} }
        told.cancel();
    });
    let identity = flags.identity.unwrap_or_else(made_up_identity);
    let Run { listen, insecure, web, namespace, emergency, .. } = flags;
    run(Options { listen, insecure, web, namespace, identity, emergency, revision: REVISION }, stop).await
}

fn made_up_identity() -> String {
    let start = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    format!("process-{}-{}", std::process::id(), start.as_nanos())
}
