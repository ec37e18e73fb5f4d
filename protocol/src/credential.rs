//! The token by which an agent proves whose it is, and how nothing that holds one is logged.

use std::fmt;

use crate::proto;

/// The audience that an agent's token for the operator has, and no other token.
pub const AUDIENCE: &str = "exporter-operator.dev";

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
