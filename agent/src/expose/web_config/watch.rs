//! The web configuration as it is on disk now: read at each connection and request, and built anew when it has changed.
//!
//! A change that cannot be used, or that would take protection away, leaves the one before in force. The toolkit would
//! serve without TLS or users while a file is being written; for that, the program has to be started again here.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue};
use rustls::ServerConfig;
use tokio::sync::Mutex;

use super::settings::{ClientAuth, Place, Settings, Source, parse};
use super::tls::{Texts, server};
use super::{Fault, WebConfigError};
use crate::telemetry::Telemetry;

/// The file, and what was last good of it.
pub struct WebConfig {
    path: PathBuf,
    telemetry: Arc<Telemetry>,
    loaded: RwLock<Arc<Loaded>>,
    /// What the last reading found; held while one is under way.
    turn: Mutex<Reading>,
}

/// A web configuration in force.
pub(in crate::expose) struct Loaded {
    pub(super) settings: Settings,
    /// What connections are accepted with; nothing for plain HTTP.
    pub(in crate::expose) tls: Option<Arc<ServerConfig>>,
}

/// The texts of all files, or why there are none.
type Reading = Result<Content, WebConfigError>;

#[derive(Debug, PartialEq, Eq)]
struct Content {
    text: String,
    texts: Option<Texts>,
}

/// A file that does not answer in time is as good as unchanged: it must not keep requests waiting.
const READ_TIMEOUT: Duration = Duration::from_secs(1);

impl Loaded {
    /// Whether a certificate that a client shows is one that the CA signed.
    pub(in crate::expose) fn verifies_clients(&self) -> bool {
        let auth = self.settings.tls.as_ref().map(|tls| tls.client_auth);
        matches!(auth, Some(ClientAuth::VerifyIfGiven | ClientAuth::RequireAndVerify))
    }

    /// What every answer carries.
    pub(in crate::expose) fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.settings.headers
    }
}

impl WebConfig {
    /// Reads the file for the first time.
    ///
    /// # Errors
    /// Where it cannot be used, with the field.
    pub fn open(path: PathBuf, telemetry: Arc<Telemetry>) -> Result<Self, WebConfigError> {
        let (content, settings) = read(&path)?;
        let loaded = load(&path, settings, &content)?;
        for warning in &loaded.settings.warnings {
            tracing::warn!("{}: {warning}", path.display());
        }
        Ok(WebConfig {
            path,
            telemetry,
            loaded: RwLock::new(Arc::new(loaded)),
            turn: Mutex::new(Ok(content)),
        })
    }

    /// Whether connections are by TLS now.
    pub fn is_tls(&self) -> bool {
        self.loaded().tls.is_some()
    }

    /// Whether a certificate that a client shows is one that the CA signed.
    pub fn verifies_clients(&self) -> bool {
        self.loaded().verifies_clients()
    }

    /// What is in force now, after a look at the files.
    pub(in crate::expose) async fn current(self: &Arc<Self>) -> Arc<Loaded> {
        let this = self.clone();
        let reading = async {
            // One at a time, also when the one before does not come back.
            let _ = tokio::task::spawn_blocking(move || {
                if let Ok(mut last) = this.turn.try_lock() {
                    this.look(&mut last);
                }
            })
            .await;
        };
        let _ = tokio::time::timeout(READ_TIMEOUT, reading).await;
        self.loaded()
    }

    fn loaded(&self) -> Arc<Loaded> {
        self.loaded.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes up what has changed since `last`.
    fn look(&self, last: &mut Reading) {
        let (reading, settings) = match read(&self.path) {
            Ok((content, settings)) => (Ok(content), Some(settings)),
            Err(error) => (Err(error), None),
        };
        if reading == *last {
            return;
        }
        let taken = match (&reading, settings) {
            (Ok(content), Some(settings)) => self.take_up(settings, content),
            (Err(error), _) => Err(error.clone()),
            (Ok(_), None) => Ok(()),
        };
        match &taken {
            Ok(()) => tracing::info!(file = %self.path.display(), "web configuration taken up"),
            Err(error) => tracing::error!("{error}; the web configuration before stays in force"),
        }
        self.telemetry.web_config(taken.is_ok());
        *last = reading;
    }

    fn take_up(&self, settings: Settings, content: &Content) -> Result<(), WebConfigError> {
        let loaded = load(&self.path, settings, content)?;
        let before = self.loaded();
        if let Some(fault) = weaker(&before.settings, &loaded.settings) {
            return Err(field(&self.path, fault));
        }
        for warning in &loaded.settings.warnings {
            tracing::warn!("{}: {warning}", self.path.display());
        }
        *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(loaded);
        Ok(())
    }
}

fn field(path: &Path, fault: Fault) -> WebConfigError {
    WebConfigError::Field { path: path.to_owned(), field: fault.field, message: fault.message }
}

fn read(path: &Path) -> Result<(Content, Settings), WebConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| WebConfigError::Read { path: path.to_owned(), message: error.to_string() })?;
    // What it names is relative to where it is.
    let folder = path.parent().unwrap_or(Path::new(""));
    let settings = parse(&text, folder).map_err(|fault| field(path, fault))?;
    let pem = |source: &Source| match &source.place {
        Place::Inline(text) => Ok(text.clone().into_bytes()),
        Place::File(file) => std::fs::read(file)
            .map_err(|error| field(path, Fault::new(source.field, format!("{}: {error}", file.display())))),
    };
    let texts = match &settings.tls {
        None => None,
        Some(tls) => Some(Texts {
            certificate: pem(&tls.certificate)?,
            key: pem(&tls.key)?,
            client_ca: tls.client_ca.as_ref().map(pem).transpose()?,
        }),
    };
    Ok((Content { text, texts }, settings))
}

fn load(path: &Path, settings: Settings, content: &Content) -> Result<Loaded, WebConfigError> {
    let tls = match (&settings.tls, &content.texts) {
        (Some(tls), Some(texts)) => {
            Some(Arc::new(server(tls, texts, settings.http2).map_err(|fault| field(path, fault))?))
        }
        _ => None,
    };
    Ok(Loaded { settings, tls })
}

/// What a change would leave open that is closed now; a file that is only half written may look like that.
fn weaker(before: &Settings, after: &Settings) -> Option<Fault> {
    let auth = |settings: &Settings| settings.tls.as_ref().map_or(ClientAuth::None, |tls| tls.client_auth);
    let has_names = |settings: &Settings| settings.tls.as_ref().is_some_and(|tls| tls.client_sans.is_some());
    let field = if before.tls.is_some() && after.tls.is_none() {
        "tls_server_config"
    } else if !before.users.is_empty() && after.users.is_empty() {
        "basic_auth_users"
    } else if auth(after) < auth(before) {
        "tls_server_config.client_auth_type"
    } else if has_names(before) && !has_names(after) {
        "tls_server_config.client_allowed_sans"
    } else {
        return None;
    };
    Some(Fault::new(field, "would protect less than before; start the program again for that"))
}
