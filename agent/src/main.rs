//! Starts the agent and stops it.

use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent::access;
use agent::config::Config;
use agent::confine::{self, Confinement};
use agent::expose::{Authorization, Exposition, Listener, Tokens, WebConfig, serve};
use agent::flags::{AuthorizationFlag, Flags, Invocation};
use agent::follow_pods;
use agent::follow_stats;
use agent::health::Health;
use agent::last_good::LastGood;
use agent::log;
use agent::plan::Plan;
use agent::sample;
use agent::scrape::Scraper;
use agent::source::file::HandleBudget;
use agent::source::kubelet::Kubelet;
use agent::subscribe::Subscription;
use agent::telemetry::Telemetry;
use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

/// The commit that this is built from, which `cargo images` sets. Here and not in the library, so that a new commit
/// compiles nothing else anew.
const REVISION: &str = match option_env!("EXPORTER_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};

fn main() -> anyhow::Result<ExitCode> {
    let version = format!("{} (revision {REVISION})", env!("CARGO_PKG_VERSION"));
    let flags = match Invocation::from_args(version) {
        Invocation::Serve(flags) => *flags,
        Invocation::Prepare(preparation) => {
            preparation.run()?;
            return Ok(ExitCode::SUCCESS);
        }
        Invocation::Compare(comparison) => return Ok(comparison.run_to_end()),
    };
    log::to_stderr(&flags.log_level, flags.log_format);
    for warning in &flags.warnings {
        tracing::warn!("{warning}");
    }
    if let Err(error) = confine::no_core_dumps(&flags) {
        tracing::warn!("a core dump of this process may be written: {error}");
    }
    // Before any thread is started, since those that there are stay as they are.
    let confinement = confine::landlock(&flags).unwrap_or_else(|error| {
        tracing::warn!("Landlock: {error}");
        Confinement::None("the kernel refuses the rules")
    });
    match confinement {
        Confinement::Full => tracing::info!("confined by Landlock"),
        Confinement::Partial => tracing::info!("confined by Landlock as far as this kernel can"),
        Confinement::None(why) => tracing::info!("not confined by Landlock: {why}"),
    }
    // One thread is enough for requests, and has nobody to wake; scrapes, and what waits for them, have others.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(8)
        // Longer than most leave between two scrapes: a new thread for each costs a hundred microseconds and its stack.
        .thread_keep_alive(Duration::from_secs(75))
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let result = runtime.block_on(run(flags, confinement));
    // A read that does not come back must not keep the program from ending.
    runtime.shutdown_background();
    result.map(|()| ExitCode::SUCCESS)
}

async fn run(flags: Flags, confinement: Confinement) -> anyhow::Result<()> {
    let mut telemetry = Telemetry::new().context("own metrics")?;
    if flags.disable_exporter_metrics {
        telemetry.disable_exporter_metrics();
    }
    telemetry.set_revision(REVISION);
    telemetry.set_landlock(!matches!(confinement, Confinement::None(_)));
    let telemetry = Arc::new(telemetry);
    let budget = HandleBudget::from_limits();
    let plan = Plan::waiting(&flags.overlay);
    let scraper = Scraper::new(
        flags.paths.clone(),
        flags.sandbox_image.clone(),
        budget.most(),
        plan,
        telemetry.clone(),
    );
    let scraper = Arc::new(Mutex::new(scraper));
    let last_good = flags.last_good.as_deref().map(LastGood::new);
    let health = Health::new(flags.kubelet.is_some());
    let (asker, questions) = access::questions();
    let config = Config::new(scraper.clone(), telemetry.clone(), flags.overlay.clone(), last_good);
    if let Some(path) = &flags.config {
        config.use_file(path)?;
        let (config, path) = (config.clone(), path.clone());
        tokio::spawn(async move { config.watch_file(path).await });
    } else if flags.operator.addresses.is_empty() {
        config.use_default();
    } else {
        let verdicts = config.use_last_good(&flags.node);
        if let Some(wait) = flags.default_after {
            tokio::spawn(config.clone().default_after(wait));
        }
        let subscription = Subscription {
            reach: flags.operator.clone(),
            node: flags.node.clone(),
            config,
            telemetry: telemetry.clone(),
            health: health.clone(),
            questions,
        };
        tokio::spawn(subscription.run(verdicts));
    }

    let kubelet = flags.kubelet.clone().map(Kubelet::new).transpose()?.map(Arc::new);
    if flags.kubelet.as_ref().is_some_and(|k| k.insecure_skip_verify) {
        tracing::warn!(
            "--kubelet.insecure-skip-verify: whoever answers at the kubelet's address is believed"
        );
    }
    for address in flags.operator.addresses.iter().filter(|it| it.starts_with("http://")) {
        tracing::warn!("--operator={address}: whoever answers at this address is followed");
    }
    if let Some(kubelet) = kubelet.clone() {
        tokio::spawn(follow_stats::run(scraper.clone(), kubelet, telemetry.clone(), health.clone()));
    }
    let rootfs = flags.paths.rootfs.clone();
    tokio::spawn(sample::run(scraper.clone()));
    tokio::spawn(follow_pods::run(scraper.clone(), kubelet, rootfs, telemetry.clone(), health));

    let mut exposition =
        Exposition::new(scraper, telemetry.clone(), flags.telemetry_path.clone(), flags.max_requests);
    let mut scheme = "http";
    if let Some(path) = &flags.web_config {
        let web = Arc::new(WebConfig::open(path.clone(), telemetry).context("--web.config.file")?);
        scheme = if web.is_tls() { "https" } else { "http" };
        anyhow::ensure!(
            flags.authorization != AuthorizationFlag::Certificate || web.verifies_clients(),
            "--web.authorization=certificate: --web.config.file has no client_auth_type that verifies certificates; give \
             VerifyClientCertIfGiven, by which the health of the agent needs none"
        );
        exposition = exposition.behind(web);
    }
    match flags.authorization {
        AuthorizationFlag::None => {}
        AuthorizationFlag::Certificate => exposition = exposition.to(Authorization::Certificate),
        AuthorizationFlag::Operator => {
            exposition = exposition.to(Authorization::Operator(Tokens::new(asker)))
        }
    }
    anyhow::ensure!(
        flags.authorization == AuthorizationFlag::None || scheme == "https",
        "--web.authorization: nobody is to be known without TLS; give it in --web.config.file"
    );
    let exposition = Arc::new(exposition);
    for listener in listeners(&flags).await? {
        tracing::info!("serving on {scheme}://{}{}", listener.address(), flags.telemetry_path);
        tokio::spawn(serve(listener, exposition.clone()));
    }
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

async fn listeners(flags: &Flags) -> anyhow::Result<Vec<Listener>> {
    if flags.systemd_socket {
        return Listener::from_systemd().context("--web.systemd-socket");
    }
    let mut listeners = Vec::new();
    for address in &flags.listen {
        let listener = Listener::bind(address).await;
        listeners.push(listener.with_context(|| format!("--web.listen-address={address}"))?);
    }
    Ok(listeners)
}
