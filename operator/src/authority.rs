//! The certificates by which agents know the operator: an authority of its own that renews itself, or files of somebody
//! else's; and the ConfigMap from which agents learn whom to believe.

mod agents;
mod config_map;
mod files;
mod generations;
mod leaf;
mod own;
mod serving;
mod stored;
mod x509;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kube::Client;
use tokio_util::sync::CancellationToken;

pub use agents::AgentsCertificate;
pub use generations::Schedule;
pub use serving::Serving;

use self::agents::Agents;
use self::config_map::Bundle;
use self::files::Files;
use self::generations::Generations;
use self::own::Own;
use self::x509::Pair;
use crate::telemetry::Telemetry;

/// Where the operator's certificate comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// An authority that the operator makes and keeps in this Secret.
    Own {
        /// Name of the Secret.
        secret: String,
        /// The names that agents call the operator by; the first stands for it in certificates.
        names: Vec<String>,
        /// When authorities follow each other.
        schedule: Schedule,
        /// What it signs for the agents, where they serve by TLS.
        agents: Option<AgentsCertificate>,
    },
    /// Files that somebody else renews, such as a mounted Secret of cert-manager.
    Files {
        /// The chain, in PEM.
        certificate: PathBuf,
        /// Its key, in PEM.
        key: PathBuf,
        /// Who signed it, in PEM.
        ca: PathBuf,
        /// The names that agents call the operator by, which it has to be for.
        names: Vec<String>,
        /// How long agents have to learn of a new authority before its certificates are used.
        overlap: Duration,
    },
}

/// Why there is no certificate, or no newer one.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The API server refuses, or does not answer.
    #[error("{object}: {source}")]
    Api {
        /// Kind and name.
        object: String,
        /// What it says.
        source: Box<kube::Error>,
    },
    /// What is there cannot be used.
    #[error("{place}: {what}")]
    Content {
        /// A file, or a Secret and its key.
        place: String,
        /// What is wrong and what to do.
        what: String,
    },
    /// A key or certificate cannot be made.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
}

/// How often everything is looked at; a rotation is a matter of hours.
const LOOK: Duration = Duration::from_secs(10);

/// Keeps the operator's certificate and what agents know of it.
pub struct Authority {
    kind: Kind,
    bundle: Bundle,
    serving: Arc<Serving>,
    telemetry: Telemetry,
}

enum Kind {
    Own(Box<Own>, Option<Agents>),
    Files(Files),
}

impl Authority {
    /// For the namespace of operator and agents; agents read the ConfigMap of this name.
    pub fn new(
        client: &Client,
        namespace: &str,
        source: Source,
        config_map: &str,
        telemetry: Telemetry,
    ) -> Self {
        let kind = match source {
            Source::Own { secret, names, schedule, agents } => {
                let agents = agents.map(|wanted| Agents::new(client, namespace, wanted));
                Kind::Own(Box::new(Own::new(client, namespace, secret, names, schedule)), agents)
            }
            Source::Files { certificate, key, ca, names, overlap } => {
                Kind::Files(Files::new(certificate, key, ca, names, overlap))
            }
        };
        let bundle = Bundle::new(client, namespace, config_map);
        Authority { kind, bundle, serving: Arc::default(), telemetry }
    }

    /// What connections are accepted with, now and after each renewal.
    pub fn serving(&self) -> Arc<Serving> {
        self.serving.clone()
    }

    /// Looks after everything until the end. What cannot be renewed stays as it is, and is tried again.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut last_error = String::new();
        loop {
            match self.look().await {
                Ok(()) => last_error.clear(),
                Err(error) => {
                    self.telemetry.certificate_failures.inc();
                    let text = error.to_string();
                    if text != last_error {
                        tracing::error!("{text}; the certificate that is in use stays");
                        last_error = text;
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    async fn look(&mut self) -> Result<(), AuthorityError> {
        let now = SystemTime::now();
        let Self { kind, bundle, serving, telemetry } = self;
        let serve = |pair: Option<Pair>| {
            if let Some(pair) = pair {
                telemetry.certificate_ends("serving", pair.ends);
                serving.take(pair);
            }
        };
        match kind {
            Kind::Own(own, agents) => {
                let generations = match known(own, bundle, now).await {
                    Ok(generations) => generations,
                    Err(error) => {
                        // What signed last, and agents know, can sign as well as ever.
                        serve(own.leaf_again(now)?);
                        return Err(error);
                    }
                };
                telemetry.certificate_ends("authority", generations.current_ends());
                serve(own.leaf(&generations.current, now)?);
                if let Some(agents) = agents {
                    agents.keep(&generations.current, now).await?;
                }
            }
            Kind::Files(files) => {
                let found = files.read(now)?;
                let told = bundle.hold(|known| files::joined(&found.ca, known, now)).await?;
                serve(files.due(found, &told, now));
            }
        }
        Ok(())
    }
}

/// The authorities that there are, of which agents learn before anything that they signed is used.
async fn known(own: &Own, bundle: &Bundle, now: SystemTime) -> Result<Generations, AuthorityError> {
    let generations = own.keep(now).await?;
    bundle.hold(|_| generations.bundle()).await?;
    Ok(generations)
}
