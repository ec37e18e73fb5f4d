//! The sentence: gather → validate → compile → publish → report.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crds::MAX_EXAMPLES;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::compile::{Compiled, Judged, compile};
use crate::gather::Gathered;
use crate::publish::{Publisher, Term};
use crate::report::report;
use crate::report::write::Outlooks;
use crate::telemetry::{Tally, Telemetry};
use crate::validate::{Rejection, ValidPolicy, validate};
use crate::world::{StoredPolicy, World};

/// Turns each change into what follows from it, as long as this replica leads.
pub struct Reconciler {
    /// Whether, and in which term.
    pub leading: watch::Receiver<Option<Term>>,
    /// The world.
    pub gathered: Gathered,
    /// The agents.
    pub publisher: Publisher,
    /// Whether every node is in emergency.
    pub emergency: bool,
    /// What is to be written.
    pub outlooks: watch::Sender<Arc<Outlooks>>,
    /// Counts.
    pub telemetry: Telemetry,
}

/// A change waits for others until there are none for so long,
const QUIET: Duration = Duration::from_millis(50);
/// but not longer than this.
const LONGEST_WAIT: Duration = Duration::from_millis(250);
/// After a new leader agents come back and say what they have; until then a status that speaks of the present
/// generation stays as it is, so that a restart of the operator changes none.
/// Longer than an agent that found nobody for a while waits before it looks again, which is half a minute.
const SETTLE_WITHIN: Duration = Duration::from_secs(40);

impl Reconciler {
    /// Runs until nothing is watched or nobody elects any more.
    pub async fn run(mut self) {
        loop {
            let Ok(term) = self.leading.wait_for(Option::is_some).await.map(|t| *t) else { return };
            let Some(term) = term else { continue };
            self.telemetry.leader.set(1);
            self.lead(term).await;
            self.telemetry.leader.set(0);
            self.telemetry.count_policies(Tally::default(), std::iter::empty());
            self.telemetry.emergency_nodes.set(0);
            self.publisher.forget();
            self.outlooks.send_replace(Arc::default());
        }
    }

    async fn lead(&mut self, term: Term) {
        let settled_at = Instant::now() + SETTLE_WITHIN;
        let mut heard = self.publisher.heard();
        let mut validated = Validated::default();
        let mut world = self.world();
        let mut compiled = self.pass(term, &world, &mut validated);
        self.tell_of_emergencies(&BTreeSet::new(), &compiled.emergency);
        loop {
            heard.borrow_and_update();
            let settling = Instant::now() < settled_at;
            self.report(&world, &compiled, settling);
            let mut world_changed = tokio::select! {
                _ = self.leading.wait_for(|t| *t != Some(term)) => return,
                more = self.gathered.changed() => if more { true } else { return },
                _ = heard.changed() => false,
                () = tokio::time::sleep_until(settled_at), if settling => false,
            };
            let until = Instant::now() + LONGEST_WAIT;
            loop {
                tokio::select! {
                    _ = self.leading.wait_for(|t| *t != Some(term)) => return,
                    () = tokio::time::sleep_until(until.min(Instant::now() + QUIET)) => break,
                    more = self.gathered.changed() => if more { world_changed = true } else { return },
                    _ = heard.changed() => {}
                }
            }
            if world_changed {
                world = self.world();
                let before = std::mem::take(&mut compiled.emergency);
                compiled = self.pass(term, &world, &mut validated);
                self.tell_of_emergencies(&before, &compiled.emergency);
            }
        }
    }

    fn world(&mut self) -> World {
        World { emergency: self.emergency, ..self.gathered.world() }
    }

    /// Logs each emergency when it begins and when it ends, and counts them.
    fn tell_of_emergencies(&self, before: &BTreeSet<String>, now: &BTreeSet<String>) {
        self.telemetry.emergency_nodes.set(i64::try_from(now.len()).unwrap_or(i64::MAX));
        for (nodes, what) in [(now - before, "emergency begins"), (before - now, "emergency ends")] {
            if !nodes.is_empty() {
                let some: Vec<_> = nodes.iter().take(MAX_EXAMPLES).collect();
                tracing::warn!(nodes = nodes.len(), ?some, "{what}");
            }
        }
    }

    /// One pass over the whole world.
    fn pass(&self, term: Term, world: &World, validated: &mut Validated) -> Compiled {
        let timer = self.telemetry.reconcile_seconds.start_timer();
        let judged = validated.judge(world);
        let mut compiled = compile(world, &judged);
        self.publisher.publish(term, std::mem::take(&mut compiled.snapshots));
        self.telemetry.reconciles.inc();
        timer.observe_duration();
        compiled
    }

    /// Says of each policy what is to be said, but for those of which it is not yet known.
    fn report(&self, world: &World, compiled: &Compiled, settling: bool) {
        let agents = self.publisher.agents();
        let mut tally = Tally::default();
        let mut rejected = Vec::new();
        let mut outlooks = Outlooks::new();
        for (name, verdict) in &compiled.verdicts {
            let Some(policy) = world.policies.get(name) else { continue };
            let outlook = report(name, verdict, &agents);
            *if outlook.accepted.holds { &mut tally.accepted } else { &mut tally.rejected } += 1;
            tally.degraded += i64::from(outlook.degraded.is_some());
            *if outlook.programmed.holds { &mut tally.programmed } else { &mut tally.pending } += 1;
            rejected.extend(outlook.rejected);
            if settling && !outlook.settled && policy.status["observedGeneration"] == policy.generation {
                continue;
            }
            outlooks.insert(name.clone(), (policy.clone(), outlook));
        }
        self.telemetry.count_policies(tally, rejected.into_iter());
        self.outlooks.send_replace(Arc::new(outlooks));
    }
}

/// What was made of each policy, so that a pass checks only those whose spec has changed.
#[derive(Default)]
struct Validated(BTreeMap<String, Checked>);

struct Checked {
    policy: Arc<StoredPolicy>,
    result: Result<Arc<ValidPolicy>, Rejection>,
}

impl Validated {
    fn judge(&mut self, world: &World) -> Judged {
        let mut before = std::mem::take(&mut self.0);
        let same = |a: &StoredPolicy, b: &StoredPolicy| (&a.spec, a.created) == (&b.spec, b.created);
        for (name, policy) in &world.policies {
            let known = before.remove(name).filter(|known| same(&known.policy, policy));
            let result = known.map_or_else(|| validate(policy).map(Arc::new), |known| known.result);
            self.0.insert(name.clone(), Checked { policy: policy.clone(), result });
        }
        self.0.iter().map(|(name, checked)| (name.clone(), checked.result.clone())).collect()
    }
}
