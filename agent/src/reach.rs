//! The way to the operator: whom the agent believes there, and the token that it shows.

use std::path::PathBuf;
use std::time::Duration;

use hyper_rustls::{FixedServerNameResolver, HttpsConnectorBuilder};
use protocol::Token;
use rustls::pki_types::ServerName;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};

use crate::tls_client;

/// How to reach the operator, from the flags.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    /// `--operator`: tried in turn, as `https://HOST:PORT`, or `http://` where nothing is proved.
    pub addresses: Vec<String>,
    /// `--operator.ca-file`, read for each connection.
    pub ca_file: Option<PathBuf>,
    /// `--operator.server-name`: the name in the operator's certificate, where that is not the host of the address.
    pub server_name: Option<String>,
    /// `--operator.token-file`, read for each connection and now and again.
    pub token_file: Option<PathBuf>,
}

/// Why there is no way.
#[derive(Debug, thiserror::Error)]
pub enum ReachError {
    /// The CA is of no use, or the name is none.
    #[error("{0}")]
    Tls(String),
    /// The token cannot be read.
    #[error("token {}: {what}", path.display())]
    Token {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Nobody answers there, or nobody who is believed.
    #[error(transparent)]
    Transport(#[from] tonic::transport::Error),
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A half-open connection is found within the sum of both.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

impl Reach {
    /// What makes no sense of this on a command line.
    ///
    /// # Errors
    /// A sentence that names the flag.
    pub(crate) fn check(&self) -> Result<(), String> {
        for address in &self.addresses {
            let is_tls = address.starts_with("https://");
            if !is_tls && !address.starts_with("http://") {
                return Err(format!("--operator={address}: neither https:// nor http://"));
            }
            if is_tls && self.ca_file.is_none() {
                return Err(format!(
                    "--operator={address}: give --operator.ca-file, for nobody else is believed"
                ));
            }
            if !is_tls && (self.token_file.is_some() || self.ca_file.is_some()) {
                return Err(format!(
                    "--operator={address}: a token is shown, and a CA asked for, by https:// only"
                ));
            }
        }
        if let Some(name) = &self.server_name {
            ServerName::try_from(name.as_str())
                .map_err(|error| format!("--operator.server-name={name}: {error}"))?;
        }
        Ok(())
    }

    /// A new connection. The file of the CA is read anew, so that a rotation needs nothing.
    ///
    /// # Errors
    /// See [`ReachError`].
    pub async fn connect(&self, address: &str) -> Result<Channel, ReachError> {
        let endpoint = Endpoint::from_shared(address.to_owned())?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true);
        if !address.starts_with("https://") {
            return Ok(endpoint.connect().await?);
        }
        let tls = tls_client::config(self.ca_file.as_deref(), true).map_err(ReachError::Tls)?;
        let builder = HttpsConnectorBuilder::new().with_tls_config(tls).https_only();
        let builder = match &self.server_name {
            Some(name) => {
                let name = ServerName::try_from(name.clone()).map_err(|e| ReachError::Tls(e.to_string()))?;
                builder.with_server_name_resolver(FixedServerNameResolver::new(name))
            }
            None => builder,
        };
        Ok(endpoint.connect_with_connector(builder.enable_http2().build()).await?)
    }

    /// The token as it is now; nothing where none is shown.
    pub(crate) fn token(&self) -> Result<Option<Token>, ReachError> {
        let Some(path) = &self.token_file else { return Ok(None) };
        let unusable = |what: String| ReachError::Token { path: path.clone(), what };
        let text = std::fs::read_to_string(path).map_err(|error| unusable(error.to_string()))?;
        let token = text.trim();
        if token.is_empty() || header(&Token::new(token)).is_none() {
            return Err(unusable("holds no token".to_owned()));
        }
        Ok(Some(Token::new(token)))
    }
}

/// The value of the header `authorization`, which no log shows; nothing where the token cannot stand in a header.
pub fn header(token: &Token) -> Option<MetadataValue<Ascii>> {
    let mut value: MetadataValue<Ascii> = format!("Bearer {}", token.secret()).parse().ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(address: &str) -> Reach {
        Reach { addresses: vec![address.to_owned()], ..Reach::default() }
    }

    #[test]
    fn an_operator_that_is_not_proved_gets_no_token_and_a_proof_needs_a_ca() {
        let ca_file = Some(PathBuf::from("/ca.crt"));
        let token_file = Some(PathBuf::from("/token"));
        assert_eq!(reach("http://127.0.0.1:1").check(), Ok(()));
        assert_eq!(Reach { ca_file: ca_file.clone(), ..reach("https://operator:1") }.check(), Ok(()));
        let error = |reach: Reach| reach.check().unwrap_err();
        assert!(error(reach("operator:1")).contains("neither"));
        assert!(error(reach("https://operator:1")).contains("--operator.ca-file"));
        assert!(error(Reach { token_file, ..reach("http://operator:1") }).contains("https:// only"));
        let server_name = Some("not a name".to_owned());
        let named = Reach { ca_file, server_name, ..reach("https://operator:1") };
        assert!(error(named).contains("--operator.server-name"));
    }

    #[test]
    fn a_token_file_without_a_token_is_named() {
        let path = std::env::temp_dir().join(format!("reach-token-{}", std::process::id()));
        let reach = Reach { token_file: Some(path.clone()), ..Reach::default() };
        assert!(reach.token().unwrap_err().to_string().contains("No such file"));
        for empty in ["", " \n", "a\nb"] {
            std::fs::write(&path, empty).unwrap();
            let error = reach.token().unwrap_err().to_string();
            assert!(error.contains("holds no token") && error.contains("reach-token"), "{error}");
        }
        std::fs::write(&path, "abc.def.ghi\n").unwrap();
        assert_eq!(reach.token().unwrap(), Some(Token::new("abc.def.ghi")));
        std::fs::remove_file(&path).unwrap();
    }
}
