//! Where the configuration comes from, and its way into the scraper.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use protocol::{Digest, Facts, Outcome, Policy, Report, Snapshot, Verdicts};

use crate::in_force::InForce;
use crate::last_good::LastGood;
use crate::plan::{Overlay, Plan};
use crate::scrape::Scraper;
use crate::telemetry::Telemetry;

/// The configuration in force and where it is put in force.
#[derive(Clone)]
pub struct Config {
    scraper: Arc<Mutex<Scraper>>,
    telemetry: Arc<Telemetry>,
    flags: Overlay,
    last_good: Option<LastGood>,
    in_force: Arc<Mutex<InForce>>,
}

/// Why a configuration file was not taken up; what was in force before stays.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel says.
        source: std::io::Error,
    },
    /// It is not a snapshot.
    #[error("{}: {what}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// Where it stops making sense.
        what: String,
    },
    /// One of its policies cannot be done.
    #[error("{}: policy `{policy}`: {field}: {message}", path.display())]
    Rejected {
        /// The file.
        path: PathBuf,
        /// The policy.
        policy: String,
        /// The field below `spec`.
        field: String,
        /// What is wrong with it.
        message: String,
    },
}

/// Reads the YAML form of a snapshot and checks every policy of it.
///
/// # Errors
/// See [`FileError`].
pub fn read_file(path: &Path) -> Result<Snapshot, FileError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| FileError::Read { path: path.to_owned(), source })?;
    let mut snapshot: Snapshot = serde_saphyr::from_str(&text)
        .map_err(|error| FileError::Content { path: path.to_owned(), what: error.to_string() })?;
    for policy in &mut snapshot.policies {
        policy.revision = policy.content.revision();
        let judgement = crate::judge::judge(policy);
        for finding in judgement.findings {
            if judgement.outcome == Outcome::Rejected {
                return Err(FileError::Rejected {
                    path: path.to_owned(),
                    policy: policy.name.clone(),
                    field: finding.field,
                    message: finding.message,
                });
            }
            tracing::warn!(policy = policy.name, field = finding.field, "{}", finding.message);
        }
    }
    snapshot.sort();
    Ok(snapshot)
}

impl Config {
    /// Puts configurations in force in this scraper, under these flags.
    pub fn new(
        scraper: Arc<Mutex<Scraper>>,
        telemetry: Arc<Telemetry>,
        flags: Overlay,
        last_good: Option<LastGood>,
    ) -> Self {
        Config { scraper, telemetry, flags, last_good, in_force: Arc::default() }
    }

    /// The built-in default: no policies, everything that is on by default.
    pub fn use_default(&self) {
        self.put_in_force(Vec::new(), Facts::default(), "default");
    }

    /// Takes up a file.
    ///
    /// # Errors
    /// See [`FileError`]; what was in force before stays.
    pub fn use_file(&self, path: &Path) -> Result<(), FileError> {
        let read = read_file(path);
        self.telemetry.snapshot(if read.is_ok() { "applied" } else { "refused" });
        let snapshot = read?;
        self.put_in_force(snapshot.policies, snapshot.facts, "file");
        Ok(())
    }

    /// Takes the file up again whenever it changes; an error is logged once and changes nothing.
    pub async fn watch_file(&self, path: PathBuf) {
        // A mounted ConfigMap is swapped as a whole, so the file that was opened never changes: its time is polled.
        let stamp = |path: &Path| -> Option<(SystemTime, u64)> {
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        };
        let mut seen = stamp(&path);
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        loop {
            tick.tick().await;
            let now = stamp(&path);
            if now == seen {
                continue;
            }
            seen = now;
            match self.use_file(&path) {
                Ok(()) => tracing::info!(file = %path.display(), "configuration taken up"),
                Err(error) => tracing::error!("{error}; the configuration before stays in force"),
            }
        }
    }

    /// Begins with what was last good, or with the machine only until the operator is heard.
    ///
    /// Returns the verdicts on the snapshot that was last good: this build may judge differently.
    pub fn use_last_good(&self) -> Option<Verdicts> {
        let loaded = self.last_good.as_ref().map_or(Ok(None), LastGood::load).unwrap_or_else(|error| {
            tracing::error!("{error}; waiting for the operator");
            None
        });
        let Some(mut in_force) = loaded else {
            self.lock_scraper().set_plan(Plan::waiting(&self.flags));
            self.telemetry.set_source("waiting");
            return None;
        };
        let (snapshot, digest) = (in_force.snapshot.clone(), in_force.digest.clone());
        let verdicts = in_force.take_up(snapshot, digest);
        self.report_policies(&verdicts);
        self.put_in_force(in_force.policies.clone(), in_force.facts.clone(), "last_good");
        *self.lock() = in_force;
        Some(verdicts)
    }

    /// Takes up what the operator sent under this digest; answers what became of it.
    pub fn take_up(&self, snapshot: Snapshot, digest: Digest, node: &str) -> Report {
        let mut in_force = self.lock();
        let names = Some((snapshot.node.as_str(), node));
        if let Err(refusal) = in_force.admit(&snapshot.cluster, names, snapshot.term, &digest) {
            self.telemetry.snapshot("refused");
            tracing::error!(reason = refusal.reason, "snapshot refused: {}", refusal.message);
            return Report::Refusal(refusal);
        }
        let verdicts = in_force.take_up(snapshot, digest.clone());
        self.put_in_force(in_force.policies.clone(), in_force.facts.clone(), "operator");
        self.report_policies(&verdicts);
        self.telemetry.snapshot("applied");
        self.store(&in_force);
        tracing::info!(digest = %digest, policies = verdicts.policies.len(), "snapshot taken up");
        Report::Verdicts(verdicts)
    }

    /// Whether this leader may be followed; remembers its term.
    ///
    /// # Errors
    /// The refusal to report.
    pub fn follow(&self, cluster: &str, term: u64) -> Result<(), protocol::Refusal> {
        let mut in_force = self.lock();
        in_force.admit(cluster, None, term, &Digest::default())?;
        // Before the first snapshot there is nothing to keep: a folder without one means that nothing was taken up.
        let is_new = in_force.snapshot.term != term || in_force.snapshot.cluster != cluster;
        if is_new && !in_force.snapshot.node.is_empty() {
            in_force.set_leader(cluster, term);
            self.store(&in_force);
            self.telemetry.set_source("operator");
        }
        Ok(())
    }

    /// What is in force.
    pub fn in_force(&self) -> InForce {
        self.lock().clone()
    }

    fn put_in_force(&self, policies: Vec<Policy>, facts: Facts, source: &str) {
        self.lock_scraper().set_plan(Plan::new(policies, facts, &self.flags));
        self.telemetry.set_source(source);
    }

    fn report_policies(&self, verdicts: &Verdicts) {
        let count = |outcome| verdicts.policies.iter().filter(|v| v.outcome == outcome).count();
        self.telemetry.set_policies(
            count(Outcome::Accepted),
            count(Outcome::AcceptedWithWarnings),
            count(Outcome::Rejected),
        );
        for verdict in &verdicts.policies {
            for finding in &verdict.findings {
                let (policy, field, reason) = (&verdict.policy, &finding.field, &finding.reason);
                tracing::warn!(%policy, %field, %reason, outcome = ?verdict.outcome, "{}", finding.message);
            }
        }
    }

    fn store(&self, in_force: &InForce) {
        if let Some(Err(error)) = self.last_good.as_ref().map(|l| l.store(in_force)) {
            tracing::error!("the last good configuration cannot be stored: {error}");
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, InForce> {
        self.in_force.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_scraper(&self) -> std::sync::MutexGuard<'_, Scraper> {
        self.scraper.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
