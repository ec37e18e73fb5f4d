//! Which node an agent speaks for: what the API server says of its token, held against the pods and nodes that live.

mod agent_pods;
mod alarm;
mod review;

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use k8s_openapi::api::authentication::v1::{TokenReviewStatus, UserInfo};
use protocol::{AUDIENCE, Token};
use serde::Deserialize;

pub use agent_pods::{AgentPod, AgentPods};
pub use alarm::{Alarm, Alarms, sound};
pub use review::Identify;

/// Whom the operator takes for an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The namespace of the agents.
    pub namespace: String,
    /// Their service account.
    pub service_account: String,
    /// Their DaemonSet.
    pub daemon_set: String,
}

/// An agent that has proved which pod it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    /// The node that the pod runs on, and so the only one that it hears of.
    pub node: String,
    /// Its pod.
    pub pod: String,
    /// Tells it from another pod of the same name.
    pub pod_uid: String,
    /// When the pod was made, in seconds since the epoch: of two on one node the younger speaks for it.
    pub pod_created: i64,
    /// The addresses of the pod, where they are known.
    pub addresses: Vec<IpAddr>,
    /// Which token it was, for the log and for an audit.
    pub credential: String,
    /// When the token ends.
    pub expires: SystemTime,
}

impl Identity {
    /// Whether this is its pod, as it was when its token was reviewed.
    pub(crate) fn is_of(&self, pod: &AgentPod, daemon_set: Option<&str>) -> bool {
        pod.uid == self.pod_uid && pod.node == self.node && pod.controller.as_deref() == daemon_set
    }
}

/// Why an agent is not believed, and which token it was, as far as the API server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unbelieved {
    /// Why.
    pub denied: Denied,
    /// The token's id; empty where it is not known.
    pub credential: String,
}

impl From<Denied> for Unbelieved {
    fn from(denied: Denied) -> Self {
        Unbelieved { denied, credential: String::new() }
    }
}

/// Why an agent is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// There is no token.
    #[error("the call has no token; give the agent --operator.token-file")]
    NoToken,
    /// The API server does not know it, or it was made for somebody else.
    #[error("the API server does not take the token for the audience {AUDIENCE}: {0}")]
    InvalidToken(String),
    /// The API server has not looked at the audience.
    #[error("the API server does not confirm the audience {AUDIENCE}")]
    OtherAudience,
    /// It is somebody else's.
    #[error("the token is that of {0}, which is not the service account of the agents")]
    OtherAccount(String),
    /// It says nothing of a pod on a node.
    #[error("the token is not bound to a pod that runs on a node: it lacks {0}")]
    Unbound(&'static str),
    /// Its pod is gone.
    #[error("the pod {0} of the token is not there")]
    NoPod(String),
    /// Its pod is about to be gone.
    #[error("the pod {0} of the token is being deleted")]
    EndingPod(String),
    /// Its pod is on another node than it says.
    #[error("the pod {0} of the token runs on another node than the token says")]
    OtherNode(String),
    /// Somebody else made its pod.
    #[error("the pod {0} of the token is not one of the agents' DaemonSet")]
    ForeignPod(String),
    /// Its node is gone, or is another one of the same name.
    #[error("the node {0} of the token is not there, or was made anew since")]
    NoNode(String),
    /// The first message names another node.
    #[error("the agent says that it is on node {said}, its token is of node {node}")]
    ClaimsOtherNode {
        /// The node of the token.
        node: String,
        /// What the agent says.
        said: String,
    },
    /// A later token is that of another pod.
    #[error("the newer token is of another pod")]
    OtherPod,
    /// The last token that it gave has ended.
    #[error("the token has ended, and the agent gave no newer one")]
    Expired,
    /// The pod itself has a stream, and this is from elsewhere.
    #[error("the pod {0} has a stream from its own address, and this is from another one")]
    Elsewhere(String),
    /// Nobody can say.
    #[error("the API server cannot say whose the token is: {0}")]
    NoAnswer(String),
}

impl Denied {
    /// Every word of [`Denied::label`].
    pub const LABELS: [&str; 15] = [
        "no_token",
        "invalid_token",
        "other_audience",
        "other_account",
        "unbound_token",
        "no_pod",
        "ending_pod",
        "other_node",
        "foreign_pod",
        "no_node",
        "claims_other_node",
        "other_pod",
        "expired_token",
        "elsewhere",
        "no_review",
    ];

    /// The value of a metric's label.
    pub fn label(&self) -> &'static str {
        match self {
            Denied::NoToken => "no_token",
            Denied::InvalidToken(_) => "invalid_token",
            Denied::OtherAudience => "other_audience",
            Denied::OtherAccount(_) => "other_account",
            Denied::Unbound(_) => "unbound_token",
            Denied::NoPod(_) => "no_pod",
            Denied::EndingPod(_) => "ending_pod",
            Denied::OtherNode(_) => "other_node",
            Denied::ForeignPod(_) => "foreign_pod",
            Denied::NoNode(_) => "no_node",
            Denied::ClaimsOtherNode { .. } => "claims_other_node",
            Denied::OtherPod => "other_pod",
            Denied::Expired => "expired_token",
            Denied::Elsewhere(_) => "elsewhere",
            Denied::NoAnswer(_) => "no_review",
        }
    }

    /// Whether somebody may have tried what he must not, and is to be told of; else the way to the answer is broken, or
    /// an agent has only stopped.
    pub fn is_suspicious(&self) -> bool {
        !matches!(self, Denied::NoAnswer(_))
    }

    /// Whether the watches may only not have told yet what the token says.
    fn may_be_early(&self) -> bool {
        matches!(self, Denied::NoPod(_) | Denied::OtherNode(_) | Denied::NoNode(_))
    }
}

/// A token without an end is looked at again after so long.
const WITHOUT_END: Duration = Duration::from_secs(600);
/// Characters of a foreign text that are repeated.
const MAX_TEXT: usize = 200;

/// What the token itself says, once the API server has confirmed it.
#[derive(Debug, PartialEq)]
struct Claims {
    pod: String,
    pod_uid: String,
    node: String,
    node_uid: String,
    credential: String,
}

/// Whether the API server takes the token for that of an agent, and for which.
fn confirmed(status: &TokenReviewStatus, account: &Account) -> Result<Claims, Denied> {
    if status.authenticated != Some(true) {
        let why = status.error.as_deref().unwrap_or("no reason is given");
        return Err(Denied::InvalidToken(clipped(why)));
    }
    if !status.audiences.iter().flatten().any(|audience| audience == AUDIENCE) {
        return Err(Denied::OtherAudience);
    }
    let nobody = UserInfo::default();
    let user = status.user.as_ref().unwrap_or(&nobody);
    let Account { namespace, service_account, .. } = account;
    let name = user.username.as_deref().unwrap_or_default();
    if name != format!("system:serviceaccount:{namespace}:{service_account}") {
        return Err(Denied::OtherAccount(clipped(name)));
    }
    // As KEP-4193 has them: a pod that no node runs and a token that no pod asked for lack some of these.
    let extra = |key: &'static str| {
        let values = user.extra.as_ref().and_then(|extra| extra.get(key)).map(Vec::as_slice);
        match values {
            Some([value]) if !value.is_empty() => Ok(value.clone()),
            _ => Err(Denied::Unbound(key)),
        }
    };
    Ok(Claims {
        pod: extra("authentication.kubernetes.io/pod-name")?,
        pod_uid: extra("authentication.kubernetes.io/pod-uid")?,
        node: extra("authentication.kubernetes.io/node-name")?,
        node_uid: extra("authentication.kubernetes.io/node-uid")?,
        credential: extra("authentication.kubernetes.io/credential-id")?,
    })
}

/// Whether what the token says is so now. The API server looks at the pod, but not at its node, and a token outlives both
/// for some seconds.
fn alive(
    claims: &Claims,
    pod: Option<&AgentPod>,
    daemon_set: Option<&str>,
    node_uid: Option<&str>,
) -> Result<(), Denied> {
    let pod = pod.filter(|pod| pod.uid == claims.pod_uid);
    let pod = pod.ok_or_else(|| Denied::NoPod(claims.pod.clone()))?;
    if pod.is_ending {
        return Err(Denied::EndingPod(claims.pod.clone()));
    }
    if pod.node != claims.node {
        return Err(Denied::OtherNode(claims.pod.clone()));
    }
    if daemon_set.is_none() || pod.controller.as_deref() != daemon_set {
        return Err(Denied::ForeignPod(claims.pod.clone()));
    }
    if node_uid != Some(&claims.node_uid) {
        return Err(Denied::NoNode(claims.node.clone()));
    }
    Ok(())
}

fn identity(claims: Claims, pod: &AgentPod, expires: SystemTime) -> Identity {
    Identity {
        node: claims.node,
        pod: claims.pod,
        pod_uid: claims.pod_uid,
        pod_created: pod.created,
        addresses: pod.addresses.clone(),
        credential: claims.credential,
        expires,
    }
}

/// When a token ends, by its claim `exp` (RFC 7519, 4.1.4); the API server has checked its signature.
fn end(token: &Token, now: SystemTime) -> SystemTime {
    #[derive(Deserialize)]
    struct End {
        exp: u64,
    }
    let payload = token.secret().split('.').nth(1).and_then(|part| BASE64_URL_SAFE_NO_PAD.decode(part).ok());
    let end = payload.and_then(|payload| serde_json::from_slice::<End>(&payload).ok());
    let end = end.and_then(|end| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(end.exp)));
    end.unwrap_or(now + WITHOUT_END)
}

/// One line of bounded length.
pub(crate) fn clipped(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn account() -> Account {
        Account { namespace: "ns".into(), service_account: "agent".into(), daemon_set: "agents".into() }
    }

    /// The review of the token of pod `a-1` on node `n1`, changed.
    fn review(
        change: impl Fn(&mut TokenReviewStatus, &mut BTreeMap<String, Vec<String>>),
    ) -> TokenReviewStatus {
        let extras = [
            ("pod-name", "a-1"),
            ("pod-uid", "p1"),
            ("node-name", "n1"),
            ("node-uid", "u1"),
            ("credential-id", "JTI=1"),
        ];
        let mut extra: BTreeMap<_, _> = extras
            .map(|(key, value)| (format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]))
            .into();
        let mut status = TokenReviewStatus {
            authenticated: Some(true),
            audiences: Some(vec![AUDIENCE.into()]),
            error: None,
            user: None,
        };
        change(&mut status, &mut extra);
        let username = Some("system:serviceaccount:ns:agent".into());
        let user = UserInfo { username, extra: Some(extra), ..UserInfo::default() };
        status.user = status.user.or(Some(user));
        status
    }

    fn pod(change: impl Fn(&mut AgentPod)) -> Option<AgentPod> {
        let mut pod = AgentPod {
            uid: "p1".into(),
            node: "n1".into(),
            controller: Some("d1".into()),
            ..AgentPod::default()
        };
        change(&mut pod);
        Some(pod)
    }

    fn judge(
        status: &TokenReviewStatus,
        pod: Option<AgentPod>,
        daemon_set: Option<&str>,
        node_uid: Option<&str>,
    ) -> Result<String, &'static str> {
        let claims = confirmed(status, &account()).map_err(|denied| denied.label())?;
        alive(&claims, pod.as_ref(), daemon_set, node_uid).map_err(|denied| denied.label())?;
        Ok(identity(claims, &pod.unwrap(), SystemTime::UNIX_EPOCH).node)
    }

    #[test]
    fn the_token_of_a_living_agent_gives_its_node() {
        assert_eq!(judge(&review(|_, _| {}), pod(|_| {}), Some("d1"), Some("u1")), Ok("n1".to_owned()));
    }

    #[test]
    fn what_the_api_server_does_not_confirm_is_denied() {
        let of = |status: &TokenReviewStatus| judge(status, pod(|_| {}), Some("d1"), Some("u1"));
        assert_eq!(of(&TokenReviewStatus::default()), Err("invalid_token"));
        assert_eq!(of(&review(|s, _| s.authenticated = Some(false))), Err("invalid_token"));
        assert_eq!(of(&review(|s, _| s.audiences = None)), Err("other_audience"));
        assert_eq!(of(&review(|s, _| s.audiences = Some(vec!["https://api".into()]))), Err("other_audience"));
        for name in ["system:serviceaccount:ns:agent2", "system:serviceaccount:other:agent", "agent", ""] {
            let user = UserInfo { username: Some(name.into()), ..UserInfo::default() };
            assert_eq!(of(&review(|s, _| s.user = Some(user.clone()))), Err("other_account"), "{name}");
        }
    }

    #[test]
    fn a_token_that_lacks_one_of_the_five_or_has_two_is_denied() {
        for key in ["pod-name", "pod-uid", "node-name", "node-uid", "credential-id"] {
            let key = format!("authentication.kubernetes.io/{key}");
            for values in [None, Some(vec![]), Some(vec![String::new()]), Some(vec!["a".into(), "b".into()])]
            {
                let status = review(|_, extra| {
                    extra.remove(&key);
                    extra.extend(values.clone().map(|values| (key.clone(), values)));
                });
                assert_eq!(
                    judge(&status, pod(|_| {}), Some("d1"), Some("u1")),
                    Err("unbound_token"),
                    "{key} {values:?}"
                );
            }
        }
    }

    #[test]
    fn what_is_not_so_now_is_denied() {
        let of = |pod, node_uid| judge(&review(|_, _| {}), pod, Some("d1"), node_uid);
        assert_eq!(of(None, Some("u1")), Err("no_pod"));
        assert_eq!(of(pod(|pod| pod.uid = "p2".into()), Some("u1")), Err("no_pod"));
        assert_eq!(of(pod(|pod| pod.is_ending = true), Some("u1")), Err("ending_pod"));
        assert_eq!(of(pod(|pod| pod.node = "n2".into()), Some("u1")), Err("other_node"));
        assert_eq!(of(pod(|pod| pod.controller = Some("d2".into())), Some("u1")), Err("foreign_pod"));
        assert_eq!(of(pod(|_| {}), Some("u2")), Err("no_node"));
        assert_eq!(of(pod(|_| {}), None), Err("no_node"));
        let orphan = judge(&review(|_, _| {}), pod(|pod| pod.controller = None), None, Some("u1"));
        assert_eq!(
            orphan,
            Err("foreign_pod"),
            "where there is no DaemonSet, a pod without an owner is not its"
        );
    }

    #[test]
    fn the_end_of_a_token_is_its_own_or_soon() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let token = |payload: &str| Token::new(format!("h.{}.s", BASE64_URL_SAFE_NO_PAD.encode(payload)));
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(end(&token(r#"{"exp":1234,"iat":1}"#), now), at(1_234));
        for odd in [token("{}"), token(r#"{"exp":"soon"}"#), Token::new("opaque"), Token::new("a.%.c")] {
            assert_eq!(end(&odd, now), at(1_600));
        }
        assert_eq!(end(&token(&format!(r#"{{"exp":{}}}"#, u64::MAX)), now), at(1_600));
    }

    #[test]
    fn every_reason_has_its_word_in_the_list() {
        let all = [
            Denied::NoToken,
            Denied::InvalidToken(String::new()),
            Denied::OtherAudience,
            Denied::OtherAccount(String::new()),
            Denied::Unbound(""),
            Denied::NoPod(String::new()),
            Denied::EndingPod(String::new()),
            Denied::OtherNode(String::new()),
            Denied::ForeignPod(String::new()),
            Denied::NoNode(String::new()),
            Denied::ClaimsOtherNode { node: String::new(), said: String::new() },
            Denied::OtherPod,
            Denied::Expired,
            Denied::Elsewhere(String::new()),
            Denied::NoAnswer(String::new()),
        ];
        assert_eq!(all.map(|denied| denied.label()), Denied::LABELS);
    }
}
