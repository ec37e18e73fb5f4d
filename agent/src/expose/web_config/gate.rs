//! Whether a request is let in, as the web configuration says now.

use std::sync::Arc;
use std::time::Instant;

use hyper::HeaderMap;

use super::limit::Limiter;
use super::users::{Access, Passwords};
use super::watch::{Loaded, WebConfig};

/// What stands before every path.
pub(in crate::expose) struct Gate {
    config: Arc<WebConfig>,
    limiter: Limiter,
    passwords: Passwords,
}

/// Why a request is not let in.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::expose) enum Refusal {
    /// Name and password are wrong, or there are none.
    Unauthorized,
    /// More come than `rate_limit` allows.
    TooMany,
    /// More passwords wait to be checked than are let wait.
    Busy,
}

impl Gate {
    pub(in crate::expose) fn new(config: Arc<WebConfig>) -> Self {
        Gate { config, limiter: Limiter::default(), passwords: Passwords::new() }
    }

    pub(in crate::expose) fn config(&self) -> &Arc<WebConfig> {
        &self.config
    }

    /// The configuration in force, and why a request that comes now is refused, if it is; `is_open` needs no password
    /// and counts towards no rate.
    pub(in crate::expose) async fn admit(
        &self,
        headers: &HeaderMap,
        is_open: bool,
        now: Instant,
    ) -> (Arc<Loaded>, Option<Refusal>) {
        let loaded = self.config.current().await;
        if is_open {
            return (loaded, None);
        }
        let settings = &loaded.settings;
        if settings.rate.is_some_and(|rate| !self.limiter.allows(rate, now)) {
            return (loaded, Some(Refusal::TooMany));
        }
        if settings.users.is_empty() {
            return (loaded, None);
        }
        let refusal = match self.passwords.check(&settings.users, headers).await {
            Access::Granted => None,
            Access::Denied => Some(Refusal::Unauthorized),
            Access::Busy => Some(Refusal::Busy),
        };
        (loaded, refusal)
    }
}
