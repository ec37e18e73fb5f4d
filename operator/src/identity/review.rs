//! Asks the API server whose a token is, and waits a moment for watches that are behind.

use std::time::{Duration, SystemTime};

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use kube::Client;
use kube::api::{Api, PostParams};
use protocol::{AUDIENCE, MAX_TOKEN, Token};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};

use super::{Account, AgentPods, Denied, Identity, Unbelieved, alive, clipped, confirmed, end, identity};
use crate::gather::Gathered;

/// Reviews at a time; more agents wait for their turn.
const CONCURRENT: usize = 32;
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How far a watch may be behind the token of a pod that has just started.
const WATCHES_WITHIN: Duration = Duration::from_secs(5);

/// Tells agents by their tokens.
#[derive(Debug)]
pub struct Identify {
    reviews: Api<TokenReview>,
    account: Account,
    pods: AgentPods,
    gathered: Gathered,
    turns: Semaphore,
}

impl Identify {
    /// For this account, by these watches.
    pub fn new(client: Client, account: Account, pods: AgentPods, gathered: Gathered) -> Self {
        Identify { reviews: Api::all(client), account, pods, gathered, turns: Semaphore::new(CONCURRENT) }
    }

    /// Whom the operator takes for an agent.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// Who lives, and word of each change.
    pub fn pods(&self) -> AgentPods {
        self.pods.clone()
    }

    /// Whose token this is.
    ///
    /// # Errors
    /// Why it is not that of a living agent.
    pub async fn who(&self, token: &Token) -> Result<Identity, Unbelieved> {
        if token.secret().is_empty() {
            return Err(Denied::NoToken.into());
        }
        if token.secret().len() > MAX_TOKEN {
            return Err(Denied::InvalidToken("it is longer than any token".to_owned()).into());
        }
        let spec =
            TokenReviewSpec { token: token.secret().to_owned(), audiences: Some(vec![AUDIENCE.to_owned()]) };
        let review = TokenReview { spec, ..TokenReview::default() };
        let answer = async {
            let _turn = self.turns.acquire().await;
            self.reviews.create(&PostParams::default(), &review).await
        };
        let status = match timeout(ANSWER_WITHIN, answer).await {
            Ok(Ok(review)) => review.status.unwrap_or_default(),
            Ok(Err(error)) => return Err(Denied::NoAnswer(clipped(&error.to_string())).into()),
            Err(_) => return Err(Denied::NoAnswer("it does not answer".to_owned()).into()),
        };
        let claims = confirmed(&status, &self.account)?;
        let expires = end(token, SystemTime::now());
        let (mut pods, mut gathered) = (self.pods.clone(), self.gathered.clone());
        let deadline = Instant::now() + WATCHES_WITHIN;
        loop {
            let (pod, daemon_set) = pods.find(&claims.pod);
            let node_uid = gathered.node_uid(&claims.node);
            let denied =
                match (alive(&claims, pod.as_deref(), daemon_set.as_deref(), node_uid.as_deref()), pod) {
                    (Ok(()), Some(pod)) => return Ok(identity(claims, &pod, expires)),
                    (Ok(()), None) => return Err(Denied::NoPod(claims.pod).into()),
                    (Err(denied), _) => denied,
                };
            let news = async {
                tokio::select! { it = pods.changed() => it, it = gathered.changed() => it }
            };
            // A DaemonSet that is not known yet makes every pod a foreign one.
            let may_be_early = denied.may_be_early() || daemon_set.is_none();
            if !may_be_early || !timeout_at(deadline, news).await.unwrap_or(false) {
                return Err(Unbelieved { denied, credential: claims.credential });
            }
        }
    }
}
