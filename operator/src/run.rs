//! Starts everything, and stops it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::access::Accesses;
use crate::authority::{Authority, Serving, Source};
use crate::gather::Gathered;
use crate::identity::{Account, AgentPods, Identify, sound};
use crate::publish::{Admission, Publisher};
use crate::reconcile::Reconciler;
use crate::report::write::Writer;
use crate::telemetry::Telemetry;
use crate::{elect, serve};

/// What the flags say.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where agents connect.
    pub listen: SocketAddr,
    /// Whom it believes there, and why agents believe it.
    pub trust: Trust,
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

/// How operator and agents know each other.
#[derive(Clone, Debug)]
pub enum Trust {
    /// Not at all: nothing is encrypted, and an agent is of the node that it names.
    Nothing,
    /// Agents by the token of their pod, the operator by its certificate.
    Proof {
        /// The service account of the agents, in the operator's namespace.
        service_account: String,
        /// Their DaemonSet there.
        daemon_set: String,
        /// Whether they are told who may read their metrics.
        answers: bool,
        /// Where the certificate comes from.
        source: Box<Source>,
        /// The ConfigMap there from which agents learn whom to believe.
        config_map: String,
    },
}

/// Agents hear that this replica leads no longer before it goes.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// Runs until it is told to stop.
///
/// # Errors
/// When it cannot start, or a part that never ends has ended.
pub async fn run(options: Options, stop: CancellationToken) -> anyhow::Result<()> {
    admit(&options)?;
    let Options { listen, trust, web, namespace, identity, emergency, revision } = options;
    let telemetry = Telemetry::new()?;
    telemetry.set_revision(revision);
    let client = Client::try_default().await.context("no access to a cluster")?;
    let namespace = namespace.unwrap_or_else(|| client.default_namespace().to_owned());
    let leases: Api<Lease> = Api::namespaced(client.clone(), &namespace);

    let mut tasks = JoinSet::new();
    let mut gathered = Gathered::start(&client, &telemetry, &mut tasks);
    let listener = TcpListener::bind(web).await.with_context(|| format!("--web.listen-address={web}"))?;
    let mut door = Door::new(&client, &namespace, trust, &gathered, &telemetry, &identity, &stop, &mut tasks);
    let (ready, opened) = (gathered.clone(), door.serving.clone());
    let missing = move || {
        let certificate = opened.as_ref().filter(|it| !it.is_ready()).map(|_| "a certificate");
        ready.missing().into_iter().chain(certificate).collect()
    };
    tasks.spawn(serve::serve(listener, telemetry.clone(), Arc::new(missing)));
    tracing::info!(%listen, %web, identity, "started");
    let complete = async { gathered.complete().await && door.complete().await };
    tokio::select! {
        complete = complete => anyhow::ensure!(complete, "the watches ended"),
        () = stop.cancelled() => return Ok(()),
    }

    // Not before: an agent that is not answered does not try the next replica.
    let listener = TcpListener::bind(listen).await.with_context(|| format!("--listen={listen}"))?;
    let (elected, leading) = watch::channel(None);
    let tls = door.serving.as_ref().map(Serving::acceptor).transpose().context("TLS")?;
    let cluster = gathered.world().cluster().to_owned();
    let publisher = Publisher::new(&cluster, leading.clone(), door.admission, telemetry.clone());
    let (outlooks, wishes) = watch::channel(Arc::default());
    tasks.spawn(Writer::new(client, &identity, telemetry.clone()).run(wishes));
    let mut server = tokio::spawn(publisher.clone().serve(listener, tls, stop.clone().cancelled_owned()));
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

/// What stands between the listener and the agents.
struct Door {
    admission: Admission,
    /// Where agents are to be sure whom they speak to.
    serving: Option<Arc<Serving>>,
    pods: Option<AgentPods>,
}

/// Alarms that wait to be recorded.
const ALARMS: usize = 64;

impl Door {
    #[expect(clippy::too_many_arguments, reason = "everything that a door is hung on")]
    fn new(
        client: &Client,
        namespace: &str,
        trust: Trust,
        gathered: &Gathered,
        telemetry: &Telemetry,
        identity: &str,
        stop: &CancellationToken,
        tasks: &mut JoinSet<()>,
    ) -> Self {
        let Trust::Proof { service_account, daemon_set, answers, source, config_map } = trust else {
            return Door { admission: Admission::Anyone, serving: None, pods: None };
        };
        let account = Account { namespace: namespace.to_owned(), service_account, daemon_set };
        let pods = AgentPods::start(client, &account, telemetry, tasks);
        let authority = Authority::new(client, namespace, *source, &config_map, telemetry.clone());
        let serving = authority.serving();
        tasks.spawn(authority.run(stop.clone()));
        let (alarms, sounded) = mpsc::channel(ALARMS);
        let (identity, telemetry) = (identity.to_owned(), telemetry.clone());
        tasks.spawn(sound(client.clone(), account.clone(), pods.clone(), identity, telemetry, sounded));
        let identify = Identify::new(client.clone(), account, pods.clone(), gathered.clone());
        let accesses = answers.then(|| Accesses::new(client.clone()));
        let admission = Admission::Tokens { identify: Arc::new(identify), alarms, accesses };
        Door { admission, serving: Some(serving), pods: Some(pods) }
    }

    /// Waits until agents can be told from others; false when nothing is watched any more.
    async fn complete(&mut self) -> bool {
        if let Some(serving) = &self.serving {
            serving.ready().await;
        }
        match &mut self.pods {
            Some(pods) => pods.complete().await,
            None => true,
        }
    }
}

/// Whoever reaches an operator that believes everybody can read what nodes are told, and answer in their place.
fn admit(options: &Options) -> anyhow::Result<()> {
    let Options { listen, trust, .. } = options;
    anyhow::ensure!(
        matches!(trust, Trust::Proof { .. }) || listen.ip().is_loopback(),
        "--listen={listen} is not a loopback address, and with --insecure whoever reaches it can read what the nodes are \
         told and answer in their place; leave out the one or the other"
    );
    Ok(())
}
