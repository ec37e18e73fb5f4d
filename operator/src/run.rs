//! Starts everything, and stops it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::gather::Gathered;
use crate::publish::Publisher;
use crate::reconcile::Reconciler;
use crate::report::write::Writer;
use crate::telemetry::Telemetry;
use crate::{elect, serve};

/// What the flags say.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where agents connect.
    pub listen: SocketAddr,
    /// Whether agents may connect without TLS from elsewhere.
    pub insecure: bool,
    /// Where the own endpoints are.
    pub web: SocketAddr,
    /// The namespace of the Lease; that of the kubeconfig or the service account where it is not given.
    pub namespace: Option<String>,
    /// What tells this replica from the others.
    pub identity: String,
}

/// Agents hear that this replica leads no longer before it goes.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// Runs until it is told to stop.
///
/// # Errors
/// When it cannot start, or a part that never ends has ended.
pub async fn run(options: Options, stop: CancellationToken) -> anyhow::Result<()> {
    admit(&options)?;
    let telemetry = Telemetry::new()?;
    let web = TcpListener::bind(options.web)
        .await
        .with_context(|| format!("--web.listen-address={}", options.web))?;
    let listener =
        TcpListener::bind(options.listen).await.with_context(|| format!("--listen={}", options.listen))?;
    let client = Client::try_default().await.context("no access to a cluster")?;

    let mut tasks = JoinSet::new();
    let mut gathered = Gathered::start(&client, &telemetry, &mut tasks);
    let ready = gathered.clone();
    tasks.spawn(serve::serve(web, telemetry.clone(), Arc::new(move || ready.missing())));
    tracing::info!(listen = %options.listen, web = %options.web, identity = options.identity, "started");
    tokio::select! {
        complete = gathered.complete() => anyhow::ensure!(complete, "the watches ended"),
        () = stop.cancelled() => return Ok(()),
    }

    let (elected, leading) = watch::channel(None);
    let namespace = options.namespace.as_deref().unwrap_or(client.default_namespace());
    let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
    let (identity, until) = (options.identity.clone(), stop.clone());
    let election = tokio::spawn(async move { elect::run(leases, &identity, elected, until).await });

    let publisher = Publisher::new(gathered.world().cluster(), leading.clone(), telemetry.clone());
    let (outlooks, wishes) = watch::channel(Arc::default());
    tasks.spawn(Writer::new(client, &options.identity, telemetry.clone()).run(wishes));
    let reconciler = Reconciler { leading, gathered, publisher: publisher.clone(), outlooks, telemetry };
    tasks.spawn(reconciler.run());
    let server = publisher.serve(listener, stop.clone().cancelled_owned());

    tokio::select! {
        result = server => result.context("the server for agents")?,
        _ = tasks.join_next(), if !stop.is_cancelled() => {}
    }
    anyhow::ensure!(stop.is_cancelled(), "a part of the operator that never ends has ended");
    if tokio::time::timeout(STOP_WITHIN, election).await.is_err() {
        tracing::warn!("the lease was not given up in time; it runs out by itself");
    }
    tracing::info!("stopped");
    Ok(())
}

/// Agents speak in the clear: on this machine only, unless somebody says that it is meant.
fn admit(options: &Options) -> anyhow::Result<()> {
    let Options { listen, insecure, .. } = options;
    anyhow::ensure!(
        *insecure || listen.ip().is_loopback(),
        "--listen={listen} is not a loopback address, and agents speak without TLS: whoever reaches it can read what \
         the nodes are told and answer in their place; give --insecure where that is meant"
    );
    Ok(())
}
