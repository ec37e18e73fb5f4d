//! A client of the operator's stream that says what a test wants, from the network of the control plane.

use std::path::PathBuf;
use std::time::Duration;

use agent::reach::{Reach, header};
use anyhow::{Context as _, Result};
use protocol::proto::agent_config_client::AgentConfigClient;
use protocol::proto::{self, agent_message, operator_message};
use protocol::{Hello, PROTOCOL, Token};
use tokio_stream::wrappers::ReceiverStream;

use crate::cluster::Cluster;
use crate::product::NAMESPACE;

/// What an agent needs to speak to the operator.
#[derive(Debug)]
pub struct Channel<'a> {
    cluster: &'a Cluster,
    reach: Reach,
}

/// What the operator made of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It gave the configuration of this node.
    Told(String),
    /// It refused, with the name of a gRPC code and a message.
    Refused(String, String),
}

const PATIENCE: Duration = Duration::from_secs(30);

impl<'a> Channel<'a> {
    /// To the operator of plain manifests, believing whom the agents believe.
    pub fn new(cluster: &'a Cluster) -> Result<Self> {
        let kubectl = &cluster.kubectl;
        let service = kubectl.get(&["service", "exporter-operator", "-n", NAMESPACE])?;
        let endpoints =
            kubectl.get(&["pods", "-n", NAMESPACE, "-l", "app.kubernetes.io/name=exporter-operator"])?;
        // Straight to the pod: the control plane has no kube-proxy.
        let address =
            endpoints["items"][0]["status"]["podIP"].as_str().context("the operator has no address")?;
        let port = service["spec"]["ports"][0]["port"].as_u64().context("no port")?;
        let ca = kubectl.get(&["configmap", "exporter-operator-ca", "-n", NAMESPACE])?;
        let folder = cluster.machine()?.instance.folder();
        let file: PathBuf = folder.join("operator-ca.crt");
        std::fs::write(&file, ca["data"]["ca.crt"].as_str().context("no bundle")?)?;
        let reach = Reach {
            addresses: vec![format!("https://{address}:{port}")],
            ca_file: Some(file),
            server_name: Some(format!("exporter-operator.{NAMESPACE}.svc")),
            token_file: None,
        };
        Ok(Self { cluster, reach })
    }

    /// Says that it is the agent of a node, with this token.
    pub fn ask(&self, node: &str, token: &str) -> Result<Answer> {
        let netns = &self.cluster.machine()?.plane.netns;
        let told = netns.inside(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async { tokio::time::timeout(PATIENCE, self.call(node, token)).await })?
        })?;
        told.context("the operator's stream")
    }

    async fn call(&self, node: &str, token: &str) -> Result<Answer> {
        let channel = self.reach.connect(&self.reach.addresses[0]).await?;
        let (say, said) = tokio::sync::mpsc::channel(1);
        let hello = Hello { protocol: PROTOCOL, node: node.to_owned(), ..Hello::default() };
        let message = Some(agent_message::Message::Hello(hello.into()));
        say.send(proto::AgentMessage { message }).await?;
        let mut call = tonic::Request::new(ReceiverStream::new(said));
        let shown = header(&Token::new(token)).context("no token at all")?;
        call.metadata_mut().insert("authorization", shown);
        let refused = |status: tonic::Status| {
            Answer::Refused(format!("{:?}", status.code()), status.message().to_owned())
        };
        let mut stream = match AgentConfigClient::new(channel).subscribe(call).await {
            Ok(stream) => stream.into_inner(),
            Err(status) => return Ok(refused(status)),
        };
        loop {
            match stream.message().await {
                Ok(Some(proto::OperatorMessage {
                    message: Some(operator_message::Message::Snapshot(it)),
                })) => {
                    return Ok(Answer::Told(it.node));
                }
                Ok(Some(_)) => {}
                Ok(None) => return Ok(Answer::Refused("Ok".to_owned(), "the stream ended".to_owned())),
                Err(status) => return Ok(refused(status)),
            }
        }
    }
}
