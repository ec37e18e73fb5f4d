//! Whether the bearer of a token may read metrics: asked by agents, which cannot ask the API server themselves.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::Client;
use kube::api::{Api, PostParams};
use protocol::{Access, MAX_TOKEN, Token};
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

/// What a role has to grant `get` on, as for every other exporter behind an authorizing proxy.
const PATH: &str = "/metrics";
/// How long an answer is given again without asking: every agent asks about the same Prometheus.
const ALLOWED_FOR: Duration = Duration::from_secs(60);
const REFUSED_FOR: Duration = Duration::from_secs(10);
/// Tokens that are remembered; those of one cluster's scrapers are a few.
const MOST: usize = 256;
/// Questions to the API server at a time.
const CONCURRENT: usize = 8;
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

type Key = [u8; 32];

/// Asks the API server, and remembers for a minute.
#[derive(Debug)]
pub struct Accesses {
    tokens: Api<TokenReview>,
    rights: Api<SubjectAccessReview>,
    known: Mutex<HashMap<Key, (Access, Instant)>>,
    turns: Semaphore,
}

impl Accesses {
    /// By this client.
    pub fn new(client: Client) -> Arc<Self> {
        let (tokens, rights) = (Api::all(client.clone()), Api::all(client));
        Arc::new(Accesses { tokens, rights, known: Mutex::default(), turns: Semaphore::new(CONCURRENT) })
    }

    /// Whether the bearer of this token may read metrics; nothing where nobody can say.
    pub async fn of(&self, token: &Token) -> Option<Access> {
        if token.secret().len() > MAX_TOKEN {
            return Some(Access::Unauthenticated);
        }
        // The token itself is not kept.
        let key: Key = Sha256::digest(token.secret()).into();
        if let Some(access) = self.known(&key) {
            return Some(access);
        }
        let _turn = self.turns.acquire().await;
        // Those that waited most likely waited for the same answer.
        if let Some(access) = self.known(&key) {
            return Some(access);
        }
        let access = match timeout(ANSWER_WITHIN, self.ask(token)).await {
            Ok(Ok(access)) => access,
            Ok(Err(error)) => {
                tracing::warn!(%error, "nobody can say who may read metrics");
                return None;
            }
            Err(_) => {
                tracing::warn!("the API server does not say who may read metrics");
                return None;
            }
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        known.retain(|_, (_, until)| *until > now);
        if known.len() >= MOST {
            // A flood of bad tokens must not keep a good one from being known.
            let last = known.iter().min_by_key(|(_, (access, until))| (*access == Access::Allowed, *until));
            let last = last.map(|(key, _)| *key);
            last.and_then(|last| known.remove(&last));
        }
        let lasts = if access == Access::Allowed { ALLOWED_FOR } else { REFUSED_FOR };
        known.insert(key, (access, now + lasts));
        Some(access)
    }

    fn known(&self, key: &Key) -> Option<Access> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(key).filter(|(_, until)| *until > Instant::now()).map(|(access, _)| *access)
    }

    async fn ask(&self, token: &Token) -> Result<Access, kube::Error> {
        let spec = TokenReviewSpec { token: token.secret().to_owned(), audiences: None };
        let review = TokenReview { spec, ..TokenReview::default() };
        let status = self.tokens.create(&PostParams::default(), &review).await?.status.unwrap_or_default();
        let Some(UserInfo { username, groups, extra, uid }) =
            status.user.filter(|_| status.authenticated == Some(true))
        else {
            return Ok(Access::Unauthenticated);
        };
        let attributes = NonResourceAttributes { path: Some(PATH.to_owned()), verb: Some("get".to_owned()) };
        let spec = SubjectAccessReviewSpec {
            user: username,
            groups,
            extra,
            uid,
            non_resource_attributes: Some(attributes),
            ..SubjectAccessReviewSpec::default()
        };
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let answer = self.rights.create(&PostParams::default(), &review).await?;
        Ok(match answer.status.is_some_and(|status| status.allowed) {
            true => Access::Allowed,
            false => Access::Forbidden,
        })
    }
}
