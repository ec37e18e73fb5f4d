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
    /// Whether every node is in emergency.
    pub emergency: bool,
    /// The commit that it is built from.
    pub revision: &'static str,
}

/// Agents hear that this replica leads no longer before it goes.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// Runs until it is told to stop.
///
/// # Errors
/// When it cannot start, or a part that never ends has ended.
pub async fn run(options: Options, stop: CancellationToken) -> anyhow::Result<()> {
    admit(&options)?;
    let Options { listen, web, namespace, identity, emergency, revision, .. } = options;
    let telemetry = Telemetry::new()?;
    telemetry.set_revision(revision);
    let client = Client::try_default().await.context("no access to a cluster")?;
    let namespace = namespace.unwrap_or_else(|| client.default_namespace().to_owned());
    let leases: Api<Lease> = Api::namespaced(client.clone(), &namespace);

    let mut tasks = JoinSet::new();
    let mut gathered = Gathered::start(&client, &telemetry, &mut tasks);
    let listener = TcpListener::bind(web).await.with_context(|| format!("--web.listen-address={web}"))?;
    let ready = gathered.clone();
    tasks.spawn(serve::serve(listener, telemetry.clone(), Arc::new(move || ready.missing())));
    tracing::info!(%listen, %web, identity, "started");
    tokio::select! {
        complete = gathered.complete() => anyhow::ensure!(complete, "the watches ended"),
        () = stop.cancelled() => return Ok(()),
    }

    // Not before: an agent that is not answered does not try the next replica.
    let listener = TcpListener::bind(listen).await.with_context(|| format!("--listen={listen}"))?;
    let (elected, leading) = watch::channel(None);
    let publisher = Publisher::new(gathered.world().cluster(), leading.clone(), telemetry.clone());
    let (outlooks, wishes) = watch::channel(Arc::default());
    tasks.spawn(Writer::new(client, &identity, telemetry.clone()).run(wishes));
    let mut server = tokio::spawn(publisher.clone().serve(listener, stop.clone().cancelled_owned()));
    tasks.spawn(Reconciler { leading, gathered, publisher, emergency, outlooks, telemetry }.run());
    let until = stop.clone();
    let election = tokio::spawn(async move { elect::run(leases, &identity, elected, until).await });

    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        _ = tasks.join_next() => anyhow::bail!("a part of the operator that never ends has ended"),
        served = &mut server => {
            served?.context("the server for agents")?;
            anyhow::bail!("the server for agents has ended");
        }
    }
    let ended = async { (election.await, server.await) };
    if tokio::time::timeout(STOP_WITHIN, ended).await.is_err() {
        tracing::warn!("not everything ended in time; a lease that was not given up runs out by itself");
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
