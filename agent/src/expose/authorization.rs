//! Who may read the metrics: whoever the web configuration lets in, who shows a certificate, or who the cluster says.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use protocol::{Access, MAX_TOKEN, Token};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use crate::access::{Asker, Unanswered};

/// Who may read.
#[derive(Debug)]
pub enum Authorization {
    /// Who shows a certificate that the web configuration verifies; without one, nothing but the agent's health.
    Certificate,
    /// The bearer of a token that may `get` the path /metrics, as the operator finds out.
    Operator(Tokens),
}

/// What the operator said of tokens.
#[derive(Debug)]
pub struct Tokens {
    asker: Asker,
    known: Mutex<HashMap<Key, Known>>,
}

/// The token itself is not kept.
type Key = [u8; 32];

#[derive(Clone, Copy, Debug)]
struct Known {
    access: Access,
    at: Instant,
}

/// Why a request is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unauthorized {
    /// There is no certificate.
    NoCertificate,
    /// There is no token, or it is nobody's.
    Unauthenticated,
    /// Its bearer may not.
    Forbidden,
    /// Nobody can say.
    Unknown,
}

/// How long an answer is as good as new.
const ALLOWED_FOR: Duration = Duration::from_secs(60);
const REFUSED_FOR: Duration = Duration::from_secs(10);
/// How long whoever was let in is let in where nobody can say: longer than an operator takes to be replaced.
const ALLOWED_ALONE: Duration = Duration::from_secs(600);
/// Tokens that are remembered. More come only from who has none that is good.
const MOST: usize = 64;

impl Authorization {
    pub(super) async fn check(&self, headers: &HeaderMap, has_certificate: bool) -> Result<(), Unauthorized> {
        match self {
            Authorization::Certificate if has_certificate => Ok(()),
            Authorization::Certificate => Err(Unauthorized::NoCertificate),
            Authorization::Operator(tokens) => tokens.check(headers).await,
        }
    }
}

impl Tokens {
    /// Asks there.
    pub fn new(asker: Asker) -> Self {
        Tokens { asker, known: Mutex::default() }
    }

    async fn check(&self, headers: &HeaderMap) -> Result<(), Unauthorized> {
        let token = bearer(headers).ok_or(Unauthorized::Unauthenticated)?;
        let key: Key = Sha256::digest(token.secret()).into();
        let known = self.lock().get(&key).copied();
        let fresh = known.filter(|known| {
            let lasts = if known.access == Access::Allowed { ALLOWED_FOR } else { REFUSED_FOR };
            known.at.elapsed() < lasts
        });
        let access = match fresh {
            Some(known) => Some(known.access),
            None => match self.asker.ask(token).await {
                Ok(access) => {
                    self.remember(key, access);
                    Some(access)
                }
                // Who floods the agent must not stay let in by it.
                Err(Unanswered::Busy) => None,
                Err(Unanswered::Away) => known
                    .filter(|it| it.access == Access::Allowed && it.at.elapsed() < ALLOWED_ALONE)
                    .map(|it| it.access),
            },
        };
        match access {
            Some(Access::Allowed) => Ok(()),
            Some(Access::Unauthenticated) => Err(Unauthorized::Unauthenticated),
            Some(Access::Forbidden) => Err(Unauthorized::Forbidden),
            None => Err(Unauthorized::Unknown),
        }
    }

    fn remember(&self, key: Key, access: Access) {
        let mut known = self.lock();
        if known.len() >= MOST && !known.contains_key(&key) {
            // Who was refused first: a flood of bad tokens must not drive out a good one.
            let last = known.iter().min_by_key(|(_, it)| (it.access == Access::Allowed, it.at));
            let last = last.map(|(key, _)| *key);
            last.and_then(|last| known.remove(&last));
        }
        known.insert(key, Known { access, at: Instant::now() });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The token of `Authorization: Bearer …` (RFC 6750).
fn bearer(headers: &HeaderMap) -> Option<Token> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    let is_one = scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && token.len() <= MAX_TOKEN;
    is_one.then(|| Token::new(token))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{Questions, questions};

    fn headers(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())])
    }

    /// Answers the next question; a test that asks none hangs.
    async fn say(questions: &mut Questions, access: Option<Access>) {
        let protocol::proto::agent_message::Message::AccessQuestion(question) = questions.next().await else {
            panic!("another message")
        };
        questions.answer(&Access::answer(access, question.id));
    }

    #[tokio::test(start_paused = true)]
    async fn the_operator_is_asked_once_a_minute_for_each_token() {
        let (asker, mut questions) = questions();
        let tokens = Tokens::new(asker);
        let good = headers("Bearer good");
        let (first, ()) = tokio::join!(tokens.check(&good), say(&mut questions, Some(Access::Allowed)));
        assert_eq!(first, Ok(()));
        assert_eq!(tokens.check(&good).await, Ok(()), "without another question");
        tokio::time::advance(ALLOWED_FOR).await;
        let (later, ()) = tokio::join!(tokens.check(&good), say(&mut questions, Some(Access::Forbidden)));
        assert_eq!(later, Err(Unauthorized::Forbidden));
        assert_eq!(tokens.check(&good).await, Err(Unauthorized::Forbidden));
        tokio::time::advance(REFUSED_FOR).await;
        let (again, ()) =
            tokio::join!(tokens.check(&good), say(&mut questions, Some(Access::Unauthenticated)));
        assert_eq!(again, Err(Unauthorized::Unauthenticated));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_was_let_in_is_let_in_while_the_operator_is_away_but_not_for_ever() {
        let (asker, mut questions) = questions();
        let tokens = Tokens::new(asker);
        let (good, new) = (headers("bearer good"), headers("Bearer new"));
        let (first, ()) = tokio::join!(tokens.check(&good), say(&mut questions, Some(Access::Allowed)));
        assert_eq!(first, Ok(()));
        tokio::time::advance(ALLOWED_FOR).await;
        assert_eq!(tokens.check(&good).await, Ok(()), "nobody answers");
        assert_eq!(tokens.check(&new).await, Err(Unauthorized::Unknown));
        tokio::time::advance(ALLOWED_ALONE).await;
        assert_eq!(tokens.check(&good).await, Err(Unauthorized::Unknown));
    }

    #[tokio::test]
    async fn without_a_token_nobody_is_asked() {
        let (asker, _questions) = questions();
        let tokens = Tokens::new(asker);
        for value in
            ["Basic Zm9vOmJhcg==", "Bearer", "Bearer  ", &format!("Bearer {}", "x".repeat(MAX_TOKEN + 1))]
        {
            assert_eq!(tokens.check(&headers(value)).await, Err(Unauthorized::Unauthenticated), "{value}");
        }
        assert_eq!(tokens.check(&HeaderMap::new()).await, Err(Unauthorized::Unauthenticated));
    }

    #[tokio::test(start_paused = true)]
    async fn bad_tokens_are_forgotten_before_good_ones() {
        let (asker, mut questions) = questions();
        let tokens = Tokens::new(asker);
        let good = headers("Bearer good");
        let (first, ()) = tokio::join!(tokens.check(&good), say(&mut questions, Some(Access::Allowed)));
        assert_eq!(first, Ok(()));
        for number in 0..2 * MOST {
            let bad = headers(&format!("Bearer bad{number}"));
            let (refused, ()) =
                tokio::join!(tokens.check(&bad), say(&mut questions, Some(Access::Unauthenticated)));
            assert!(refused.is_err());
        }
        assert_eq!(tokens.check(&good).await, Ok(()), "without another question");
        assert_eq!(tokens.lock().len(), MOST);
    }
}
