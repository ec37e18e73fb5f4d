//! The node's kubelet, asked for its pods and for what they take of its disk.

mod pod_list;
mod quantity;
mod stats_summary;

use std::path::PathBuf;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode, header};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use crate::tls_client;
pub use pod_list::{Controller, Pod, PodContainer, parse};
pub use stats_summary::{ContainerStorage, PodStorage, Size, StatsSummary, Usage, VolumeStats};

/// How to reach the kubelet and how to trust it.
#[derive(Clone, Debug)]
pub struct KubeletOptions {
    /// `--kubelet.url`, without a path.
    pub url: String,
    /// `--kubelet.token-file`, read again for each request since it is rotated.
    pub token_file: Option<PathBuf>,
    /// `--kubelet.ca-file`
    pub ca_file: Option<PathBuf>,
    /// `--kubelet.insecure-skip-verify`
    pub insecure_skip_verify: bool,
    /// How long an answer is waited for.
    pub deadline: Duration,
}

/// Why the kubelet's answer is of no use; the variant's name is the label of the counter.
#[derive(Debug, thiserror::Error)]
pub enum KubeletError {
    /// The options do not make a client.
    #[error("{0}")]
    Options(String),
    /// The token cannot be read.
    #[error("token {path}: {source}")]
    Token {
        /// The file.
        path: PathBuf,
        /// What the kernel says.
        source: std::io::Error,
    },
    /// No connection, or it broke.
    #[error("{url}: {what}")]
    Unreachable {
        /// What was asked for.
        url: String,
        /// What the transport says.
        what: String,
    },
    /// No answer in time.
    #[error("{url}: no answer within {} s", .after.as_secs_f32())]
    Slow {
        /// What was asked for.
        url: String,
        /// The deadline.
        after: Duration,
    },
    /// 401.
    #[error(
        "{url}: the kubelet does not accept the token (401); it takes only tokens for the API server's own audience"
    )]
    Unauthorized {
        /// What was asked for.
        url: String,
    },
    /// 403.
    #[error("{url}: the token may not do this (403); grant `get` on `{}`: {body}", resource(.url))]
    Forbidden {
        /// What was asked for.
        url: String,
        /// What the kubelet says.
        body: String,
    },
    /// Any other status.
    #[error("{url}: status {status}")]
    Status {
        /// What was asked for.
        url: String,
        /// The status.
        status: StatusCode,
    },
    /// The answer is not what was asked for.
    #[error("{url}: not what the kubelet should answer: {what}")]
    Garbage {
        /// What was asked for.
        url: String,
        /// Where it stops making sense.
        what: String,
    },
}

impl KubeletError {
    /// The label of the error's counter.
    pub fn reason(&self) -> &'static str {
        match self {
            KubeletError::Options(_) => "options",
            KubeletError::Token { .. } => "token",
            KubeletError::Unreachable { .. } => "unreachable",
            KubeletError::Slow { .. } => "slow",
            KubeletError::Unauthorized { .. } => "unauthorized",
            KubeletError::Forbidden { .. } => "forbidden",
            KubeletError::Status { .. } => "status",
            KubeletError::Garbage { .. } => "garbage",
        }
    }

    /// What somebody else has to mend, without what differs from node to node; nothing where no one can.
    pub fn refusal(&self) -> Option<String> {
        const STAYS: &str = "until then pods are known as they last were";
        match self {
            KubeletError::Unauthorized { .. } => Some(format!(
                "the kubelet does not accept the agent's token (401): it takes only tokens for the API server's own \
                 audience, and only where it can ask the API server about them (`authentication.webhook`); {STAYS}"
            )),
            KubeletError::Forbidden { url, .. } if resource(url) == "nodes/stats" => Some(
                "the kubelet refuses the agent what it knows of storage (403): grant the agent's service account \
                 `get` on `nodes/stats`, or switch the collectors `container_storage` and `kubelet_volumes` off"
                    .to_owned(),
            ),
            KubeletError::Forbidden { .. } => Some(format!(
                "the kubelet refuses the agent its pods (403): grant the agent's service account `get` on \
                 `nodes/pods`; {STAYS}"
            )),
            _ => None,
        }
    }

    /// All of them, so that each counter is there before the first error.
    pub const REASONS: [&'static str; 8] =
        ["options", "token", "unreachable", "slow", "unauthorized", "forbidden", "status", "garbage"];
}

/// A client of one kubelet.
#[derive(Debug)]
pub struct Kubelet {
    options: KubeletOptions,
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
}

impl Kubelet {
    /// An answer takes 10 ms with 100 pods; what is slower than this is not waited for.
    pub const DEADLINE: Duration = Duration::from_secs(5);
    /// The kubelet looks at every pod for its summary, and nobody waits for it.
    const SUMMARY_DEADLINE: Duration = Duration::from_secs(30);
    /// 250 pods make about 1 MB.
    const LONGEST_ANSWER: usize = 64 << 20;

    /// A client with these options.
    ///
    /// # Errors
    /// [`KubeletError::Options`] when the CA file cannot be used.
    pub fn new(options: KubeletOptions) -> Result<Self, KubeletError> {
        let tls = tls(&options)?;
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .build();
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Kubelet { options, client })
    }

    /// What the kubelet says of the storage of its pods.
    ///
    /// # Errors
    /// See [`KubeletError`].
    pub async fn stats_summary(&self) -> Result<StatsSummary, KubeletError> {
        let (url, body) = self.ask(SUMMARY, Self::SUMMARY_DEADLINE.max(self.options.deadline)).await?;
        StatsSummary::parse(&body).map_err(|error| KubeletError::Garbage { url, what: error.to_string() })
    }

    /// The pods that the kubelet has bound to the node.
    ///
    /// # Errors
    /// See [`KubeletError`].
    pub async fn pods(&self) -> Result<Vec<Pod>, KubeletError> {
        let (url, body) = self.ask("/pods", self.options.deadline).await?;
        parse(&body).map_err(|error| KubeletError::Garbage { url, what: error.to_string() })
    }

    async fn ask(&self, path: &str, deadline: Duration) -> Result<(String, Bytes), KubeletError> {
        let url = format!("{}{path}", self.options.url.trim_end_matches('/'));
        match tokio::time::timeout(deadline, self.get(&url)).await {
            Ok(body) => body.map(|body| (url, body)),
            Err(_) => Err(KubeletError::Slow { url, after: deadline }),
        }
    }

    async fn get(&self, url: &str) -> Result<Bytes, KubeletError> {
        let unreachable = |error: &dyn std::error::Error| KubeletError::Unreachable {
            url: url.to_owned(),
            what: chain(error),
        };
        let mut request = Request::get(url);
        if let Some(path) = &self.options.token_file {
            let token = tokio::fs::read_to_string(path)
                .await
                .map_err(|source| KubeletError::Token { path: path.clone(), source })?;
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.trim()));
        }
        let request = request.body(Empty::new()).map_err(|e| unreachable(&e))?;
        let response = self.client.request(request).await.map_err(|e| unreachable(&e))?;
        let status = response.status();
        let limit = if status.is_success() { Self::LONGEST_ANSWER } else { 4096 };
        let body = Limited::new(response.into_body(), limit).collect().await.map(|b| b.to_bytes());
        match status {
            StatusCode::OK => body.map_err(|e| unreachable(e.as_ref())),
            StatusCode::UNAUTHORIZED => Err(KubeletError::Unauthorized { url: url.to_owned() }),
            StatusCode::FORBIDDEN => Err(KubeletError::Forbidden {
                url: url.to_owned(),
                body: String::from_utf8_lossy(&body.unwrap_or_default()).trim().to_owned(),
            }),
            status => Err(KubeletError::Status { url: url.to_owned(), status }),
        }
    }
}

/// Where the kubelet has its summary.
const SUMMARY: &str = "/stats/summary";

/// What the API server is asked whether the token may get it:
/// https://kubernetes.io/docs/reference/access-authn-authz/kubelet-authn-authz/
fn resource(url: &str) -> &'static str {
    if url.ends_with(SUMMARY) { "nodes/stats" } else { "nodes/pods" }
}

/// An error with its causes: a client's own text says only that the connection failed.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn tls(options: &KubeletOptions) -> Result<rustls::ClientConfig, KubeletError> {
    if options.ca_file.is_none() && !options.insecure_skip_verify && options.url.starts_with("https:") {
        let what =
            "--kubelet.ca-file or --kubelet.insecure-skip-verify is needed to trust a kubelet over https";
        return Err(KubeletError::Options(what.to_owned()));
    }
    tls_client::config(options.ca_file.as_deref(), !options.insecure_skip_verify)
        .map_err(KubeletError::Options)
}
