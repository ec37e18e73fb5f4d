//! Flags, start and stop.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use k8s_openapi::jiff::SignedDuration;
use operator::accept::raise_open_files;
use operator::authority::{AgentsCertificate, Schedule, Source};
use operator::offline::{self, Files};
use operator::run::{Options, Trust, run};
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
    Run(Box<Run>),
    /// Prints what policies mean for one node, without a cluster. Ends with 1 when a policy is rejected.
    Compile(Compile),
}

#[derive(Args)]
struct Run {
    /// Where agents connect.
    #[arg(long, default_value = "127.0.0.1:9443", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Encrypts nothing and believes every agent; only on a loopback address, to try things.
    #[arg(long)]
    insecure: bool,
    #[command(flatten)]
    agents: Agents,
    #[command(flatten)]
    certificate: Certificate,
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

/// Who is an agent.
#[derive(Args)]
struct Agents {
    /// Service account of the agents, in the operator's namespace; nobody else gets a configuration.
    #[arg(long = "agent.service-account", default_value = "exporter-agent", value_name = "NAME")]
    service_account: String,
    /// DaemonSet of the agents, in the operator's namespace.
    #[arg(long = "agent.daemon-set", default_value = "exporter-agent", value_name = "NAME")]
    daemon_set: String,
    /// Tells agents who may read their metrics, which they ask with --web.authorization=operator.
    #[arg(long = "agent.tell-who-may-read")]
    answers: bool,
    /// Secret that gets a certificate for the agents' metrics, signed by the operator's own authority; none without it.
    #[arg(long = "agent.certificate-secret", value_name = "NAME", requires = "certificate_names")]
    certificate_secret: Option<String>,
    /// A name in that certificate. May be repeated.
    #[arg(long = "agent.certificate-name", value_name = "NAME", requires = "certificate_secret")]
    certificate_names: Vec<String>,
}

/// How agents know the operator.
#[derive(Args)]
struct Certificate {
    /// A name in the operator's certificate. May be repeated; by default exporter-operator.NAMESPACE.svc.
    #[arg(long = "tls.name", value_name = "NAME")]
    names: Vec<String>,
    /// ConfigMap that the operator makes, from which agents learn whom to believe.
    #[arg(long = "tls.ca-config-map", default_value = "exporter-operator-ca", value_name = "NAME")]
    config_map: String,
    /// Secret with the operator's own authority, which it makes and renews.
    #[arg(long = "tls.ca-secret", default_value = "exporter-operator-ca", value_name = "NAME")]
    secret: String,
    /// How long an authority of the operator's own holds; the next one comes when a third of this is left.
    #[arg(long = "tls.ca-lifetime", default_value = "8760h", value_name = "DURATION")]
    lifetime: SignedDuration,
    /// How long agents have to learn of a new authority before it signs.
    #[arg(long = "tls.ca-overlap", default_value = "24h", value_name = "DURATION")]
    overlap: SignedDuration,
    /// A certificate that somebody else renews, instead of the operator's own authority: the chain in PEM.
    #[arg(long = "tls.cert-file", value_name = "FILE", requires_all = ["key_file", "ca_file"])]
    cert_file: Option<PathBuf>,
    /// Its key in PEM.
    #[arg(long = "tls.key-file", value_name = "FILE", requires = "cert_file")]
    key_file: Option<PathBuf>,
    /// Who signed it, in PEM.
    #[arg(long = "tls.ca-file", value_name = "FILE", requires = "cert_file")]
    ca_file: Option<PathBuf>,
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
        Command::Run(flags) => start(*flags).map(|()| ExitCode::SUCCESS),
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
    raise_open_files();
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let told = stop.clone();
    tokio::spawn(async move {
        tokio::select! { _ = terminate.recv() => {} _ = interrupt.recv() => {} }
        told.cancel();
    });
    let identity = flags.identity.unwrap_or_else(made_up_identity);
    let Run { listen, insecure, agents, certificate, web, namespace, emergency, .. } = flags;
    let trust = match insecure {
        true => Trust::Nothing,
        false => proof(agents, certificate, namespace.as_deref())?,
    };
    run(Options { listen, trust, web, namespace, identity, emergency, revision: REVISION }, stop).await
}

fn proof(agents: Agents, certificate: Certificate, namespace: Option<&str>) -> anyhow::Result<Trust> {
    let Certificate { mut names, config_map, secret, lifetime, overlap, cert_file, key_file, ca_file } =
        certificate;
    if names.is_empty() {
        names.push(format!("exporter-operator.{}.svc", namespace.unwrap_or("default")));
    }
    let lifetime = Duration::try_from(lifetime).context("--tls.ca-lifetime")?;
    let overlap = Duration::try_from(overlap).context("--tls.ca-overlap")?;
    anyhow::ensure!(
        overlap < lifetime / 3,
        "--tls.ca-overlap has to be less than a third of --tls.ca-lifetime, which is when the next authority is made"
    );
    let Agents { service_account, daemon_set, answers, certificate_secret, certificate_names } = agents;
    let agents = certificate_secret.map(|secret| AgentsCertificate { secret, names: certificate_names });
    let source = match (cert_file, key_file, ca_file) {
        (Some(certificate), Some(key), Some(ca)) => Source::Files { certificate, key, ca, names, overlap },
        _ => Source::Own { secret, names, schedule: Schedule { lifetime, overlap }, agents },
    };
    Ok(Trust::Proof { service_account, daemon_set, answers, source: Box::new(source), config_map })
}

fn made_up_identity() -> String {
    let start = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    format!("process-{}-{}", std::process::id(), start.as_nanos())
}
