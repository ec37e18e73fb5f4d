//! Where the configuration comes from, and its way into the scraper.

mod file;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use protocol::{Digest, Facts, Outcome, Policy, Refusal, Report, Snapshot, Verdicts};

pub use file::FileError;

use crate::in_force::InForce;
use crate::last_good::LastGood;
use crate::plan::{Overlay, Plan};
use crate::rights;
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
    may_trace: bool,
}

impl Config {
    /// Puts configurations in force in this scraper, under these flags.
    pub fn new(
        scraper: Arc<Mutex<Scraper>>,
        telemetry: Arc<Telemetry>,
        flags: Overlay,
        last_good: Option<LastGood>,
    ) -> Self {
        let may_trace = rights::may_trace();
        Config { scraper, telemetry, flags, last_good, in_force: Arc::default(), may_trace }
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
        let read = file::read(path);
        self.telemetry.snapshot(if read.is_ok() { "applied" } else { "refused" });
        let snapshot = read?;
        self.telemetry.set_policies(snapshot.policies.len(), 0, 0);
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
            match tokio::task::block_in_place(|| self.use_file(&path)) {
                Ok(()) => tracing::info!(file = %path.display(), "configuration taken up"),
                Err(error) => tracing::error!("{error}; the configuration before stays in force"),
            }
        }
    }

    /// Begins with what was last good for this node, or with the machine only until the operator is heard.
    ///
    /// Returns the verdicts on the snapshot that was last good: this build may judge differently.
    pub fn use_last_good(&self, node: &str) -> Option<Verdicts> {
        let loaded = self.last_good.as_ref().map_or(Ok(None), LastGood::load).unwrap_or_else(|error| {
            tracing::error!("{error}; waiting for the operator");
            None
        });
        let of_node = loaded.filter(|in_force| {
            let stored = &in_force.snapshot.node;
            if stored != node
                && let Some(last_good) = &self.last_good
            {
                last_good.refuse();
                let path = last_good.path();
                tracing::error!("{}: is of node `{stored}`; waiting for the operator", path.display());
            }
            stored == node
        });
        let Some(mut in_force) = of_node else {
            self.lock_scraper().set_plan(Plan::waiting(&self.flags));
            self.telemetry.set_source("waiting");
            return None;
        };
        let verdicts = self.with_rights(in_force.take_up_again(), &in_force);
        self.report_policies(&verdicts);
        self.put_in_force(in_force.policies.clone(), in_force.facts.clone(), "last_good");
        *self.lock() = in_force;
        Some(verdicts)
    }

    /// Waits this long, and then goes on with the profile Minimal where no configuration has come yet.
    pub async fn default_after(self, wait: Duration) {
        tokio::time::sleep(wait).await;
        // It waits for the scrape that runs.
        if tokio::task::spawn_blocking(move || self.use_minimal()).await.unwrap_or(false) {
            tracing::warn!(
                ?wait,
                "no configuration has come; containers show the profile Minimal until one does"
            );
        }
    }

    /// Whether nothing has come yet, and so the profile Minimal is in force now.
    fn use_minimal(&self) -> bool {
        // Held until the plan is in force: what the operator sends comes before or after.
        let in_force = self.lock();
        let is_waiting = in_force.snapshot.node.is_empty();
        if is_waiting {
            self.lock_scraper().set_plan(Plan::minimal(&self.flags));
            self.telemetry.set_source("default_after");
        }
        is_waiting
    }

    /// Takes up what the operator sent under this digest; answers what became of it.
    pub fn take_up(&self, snapshot: Snapshot, digest: Digest, node: &str) -> Report {
        let mut in_force = self.lock();
        let names = Some((snapshot.node.as_str(), node));
        let admitted = in_force.admit(&snapshot.cluster, names, snapshot.term, &digest);
        if let Err(refusal) = admitted.map_err(|refusal| self.with_file(refusal)) {
            self.telemetry.snapshot("refused");
            tracing::error!(reason = refusal.reason, "snapshot refused: {}", refusal.message);
            return Report::Refusal(refusal);
        }
        let verdicts = in_force.take_up(snapshot, digest.clone());
        let verdicts = self.with_rights(verdicts, &in_force);
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
    pub fn follow(&self, cluster: &str, term: u64) -> Result<(), Refusal> {
        let mut in_force = self.lock();
        // What is on disk is in force by now: of which cluster it is shows here and no earlier.
        in_force.admit(cluster, None, term, &Digest::default()).map_err(|it| self.with_file(it))?;
        // Before the first snapshot there is nothing to keep: a folder without one means that nothing was taken up.
        let is_new = in_force.snapshot.term != term || in_force.snapshot.cluster != cluster;
        if !in_force.snapshot.node.is_empty() {
            if is_new {
                in_force.set_leader(cluster, term);
                self.store(&in_force);
            }
            self.telemetry.set_source("operator");
        }
        Ok(())
    }

    /// What is in force.
    pub fn in_force(&self) -> InForce {
        self.lock().clone()
    }

    fn put_in_force(&self, policies: Vec<Policy>, facts: Facts, source: &str) {
        let is_emergency = facts.emergency;
        // Made before the lock is taken: a scrape need not wait for patterns to compile.
        let plan = Plan::new(policies, facts, &self.flags);
        self.lock_scraper().set_plan(plan);
        self.telemetry.set_source(source);
        match (self.telemetry.set_emergency(is_emergency), is_emergency) {
            (false, true) => {
                tracing::warn!("emergency: the machine and the profile Minimal alone are exposed")
            }
            (true, false) => tracing::warn!("the emergency is over"),
            _ => {}
        }
    }

    /// The verdicts, and what this process is not permitted to do.
    fn with_rights(&self, mut verdicts: Verdicts, in_force: &InForce) -> Verdicts {
        if !self.may_trace {
            rights::warn(&mut verdicts, &in_force.policies);
        }
        verdicts
    }

    /// The refusal, with the file that stands against what was refused.
    fn with_file(&self, mut refusal: Refusal) -> Refusal {
        if let (Some(last_good), "OtherCluster" | "OlderTerm") = (&self.last_good, refusal.reason.as_str()) {
            refusal.message = format!("{} ({})", refusal.message, last_good.path().display());
        }
        refusal
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
