//! The token by which an agent proves whose it is, and how nothing that holds one is logged.

use std::fmt;

use crate::proto;

/// The audience that an agent's token for the operator has, and no other token.
pub const AUDIENCE: &str = "exporter-operator.dev";

/// Longer, in bytes, than any token that a Kubernetes API server signs.
pub const MAX_TOKEN: usize = 16 << 10;

/// A bearer token; whoever logs it writes that it is hidden.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Of its text.
    pub fn new(text: impl Into<String>) -> Self {
        Token(text.into())
    }

    /// Its text, for whoever presents or checks it.
    pub fn secret(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(hidden)")
    }
}

/// Whether somebody may read an agent's metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// He may.
    Allowed,
    /// Nobody knows the token, or it is no longer good.
    Unauthenticated,
    /// Somebody's who may not.
    Forbidden,
}

impl Access {
    /// Of an answer; nothing where the operator could not tell.
    pub fn from_answer(answer: &proto::AccessAnswer) -> Option<Self> {
        match answer.access() {
            proto::Access::Allowed => Some(Access::Allowed),
            proto::Access::Unauthenticated => Some(Access::Unauthenticated),
            proto::Access::Forbidden => Some(Access::Forbidden),
            proto::Access::Unspecified => None,
        }
    }

    /// The answer to a question.
    pub fn answer(access: Option<Self>, id: u64) -> proto::AccessAnswer {
        let access = match access {
            None => proto::Access::Unspecified,
            Some(Access::Allowed) => proto::Access::Allowed,
            Some(Access::Unauthenticated) => proto::Access::Unauthenticated,
            Some(Access::Forbidden) => proto::Access::Forbidden,
        };
        proto::AccessAnswer { id, access: access.into() }
    }
}

impl fmt::Debug for proto::Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(hidden)")
    }
}

impl fmt::Debug for proto::AccessQuestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccessQuestion({}, hidden)", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_survives_the_wire_and_one_of_a_newer_operator_says_nothing() {
        for access in [None, Some(Access::Allowed), Some(Access::Unauthenticated), Some(Access::Forbidden)] {
            let answer = Access::answer(access, 7);
            assert_eq!((Access::from_answer(&answer), answer.id), (access, 7));
        }
        assert_eq!(Access::from_answer(&proto::AccessAnswer { id: 1, access: 99 }), None);
    }

    #[test]
    fn what_holds_a_token_is_logged_without_it() {
        let token = "eyJ-secret".to_owned();
        let said = [
            format!("{:?}", Token::new(token.clone())),
            format!("{:?}", proto::Credential { token: token.clone() }),
            format!("{:?}", proto::AccessQuestion { id: 1, token: token.clone() }),
        ];
        assert!(said.iter().all(|said| said.contains("hidden") && !said.contains(&token)), "{said:?}");
    }
}
