//! Which revision of each policy holds on this node; the one place where a snapshot changes anything.

use std::collections::{BTreeMap, BTreeSet};

use protocol::{Digest, Facts, Outcome, Policy, Refusal, Revision, Snapshot, Verdict, Verdicts};
use serde::{Deserialize, Serialize};

use crate::judge::judge;

/// The configuration in force, and the snapshot that it came from. This is what is kept on disk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InForce {
    /// The last snapshot that was taken up; its policies may be rejected.
    pub snapshot: Snapshot,
    /// What its sender calls it: a newer operator's digest may cover fields that are unknown here.
    pub digest: Digest,
    /// The policies that hold, in order of precedence.
    pub policies: Vec<Policy>,
    /// What only the API server knows, together with what older revisions in force still need.
    pub facts: Facts,
}

impl InForce {
    /// Takes up a snapshot: of each policy the new revision if it is accepted, else the one before.
    pub fn take_up(&mut self, snapshot: Snapshot, digest: Digest) -> Verdicts {
        let mut before: BTreeMap<String, Policy> =
            std::mem::take(&mut self.policies).into_iter().map(|p| (p.name.clone(), p)).collect();
        let mut verdicts = Verdicts { digest: digest.clone(), policies: Vec::new() };
        for policy in &snapshot.policies {
            let judgement = judge(policy);
            // One of the same name that was deleted since is another policy.
            let held = before.remove(&policy.name).filter(|held| held.created == policy.created);
            let in_force = if judgement.outcome == Outcome::Rejected { held } else { Some(policy.clone()) };
            verdicts.policies.push(Verdict {
                policy: policy.name.clone(),
                revision: policy.revision.clone(),
                outcome: judgement.outcome,
                findings: judgement.findings,
                in_force: in_force.as_ref().map(|p| p.revision.clone()).unwrap_or_default(),
            });
            self.policies.extend(in_force);
        }
        let held = snapshot
            .held
            .iter()
            .filter_map(|(name, created)| before.remove(name).filter(|p| p.created == *created));
        self.policies.extend(held);
        self.policies.sort_by(|a, b| a.precedence().cmp(&b.precedence()));
        self.facts = self.facts_for(&snapshot.facts);
        self.snapshot = snapshot;
        self.digest = digest;
        verdicts
    }

    /// Takes up again what was last good: this build may judge differently from the one that stored it.
    pub fn take_up_again(&mut self) -> Verdicts {
        self.policies.retain(|policy| judge(policy).outcome != Outcome::Rejected);
        let (snapshot, digest) = (self.snapshot.clone(), self.digest.clone());
        self.take_up(snapshot, digest)
    }

    /// Whether a snapshot, or the leader that announces one, may speak to this agent at all.
    ///
    /// # Errors
    /// The refusal to report; nothing has changed.
    pub fn admit(
        &self,
        cluster: &str,
        node: Option<(&str, &str)>,
        term: u64,
        digest: &Digest,
    ) -> Result<(), Refusal> {
        let refuse = |reason: &str, message: String| {
            Err(Refusal { digest: digest.clone(), reason: reason.to_owned(), message })
        };
        let own = &self.snapshot;
        if let Some((theirs, ours)) = node
            && theirs != ours
        {
            return refuse("OtherNode", format!("the snapshot is for node `{theirs}`, this is `{ours}`"));
        }
        if !own.cluster.is_empty() && own.cluster != cluster {
            let message = format!(
                "the operator speaks for cluster {cluster}, this node's configuration is of cluster {}; to move \
                 the node, delete its last good configuration and restart its agent",
                own.cluster
            );
            return refuse("OtherCluster", message);
        }
        if term < own.term {
            let message = format!(
                "term {term} is older than {}: another operator leads, or the cluster was restored from a backup; then \
                 delete the last good configuration of the node and restart its agent",
                own.term
            );
            return refuse("OlderTerm", message);
        }
        Ok(())
    }

    /// The leader's term is the newest that was seen, also where its snapshot was the one already had.
    pub fn set_leader(&mut self, cluster: &str, term: u64) {
        cluster.clone_into(&mut self.snapshot.cluster);
        self.snapshot.term = term;
    }

    /// Policy name to revision, for the first message.
    pub fn revisions(&self) -> BTreeMap<String, Revision> {
        self.policies.iter().map(|p| (p.name.clone(), p.revision.clone())).collect()
    }

    /// New facts, and of the old ones the namespaces of selectors that only a held revision still has.
    fn facts_for(&self, new: &Facts) -> Facts {
        let mut facts = new.clone();
        let needed: BTreeSet<&String> =
            self.policies.iter().filter_map(|p| p.content.namespace_selector.as_ref()).collect();
        for selector in needed {
            if let (false, Some(names)) =
                (facts.namespaces.contains_key(selector), self.facts.namespaces.get(selector))
            {
                facts.namespaces.insert(selector.clone(), names.clone());
            }
        }
        facts
    }
}

#[cfg(test)]
mod tests {
    use protocol::{MetricSelection, PolicyContent};

    use super::*;

    fn policy(name: &str, exclude: &str) -> Policy {
        let metrics = MetricSelection { exclude: vec![exclude.to_owned()], ..MetricSelection::default() };
        Policy::new(name, 1, PolicyContent { metrics, ..PolicyContent::default() })
    }

    fn snapshot(policies: Vec<Policy>) -> Snapshot {
        Snapshot { cluster: "c".into(), node: "n".into(), term: 5, policies, ..Snapshot::default() }
    }

    fn patterns(in_force: &InForce) -> Vec<&str> {
        in_force.policies.iter().map(|p| p.content.metrics.exclude[0].as_str()).collect()
    }

    #[test]
    fn a_rejected_revision_leaves_the_one_before_in_force_and_holds_up_no_other_policy() {
        let mut in_force = InForce::default();
        in_force
            .take_up(snapshot(vec![policy("a", "node_load1"), policy("b", "node_load5")]), Digest::default());
        let verdicts =
            in_force.take_up(snapshot(vec![policy("a", "("), policy("b", "node_load15")]), Digest::default());
        assert_eq!(patterns(&in_force), ["node_load1", "node_load15"]);
        assert_eq!(verdicts.policies[0].outcome, Outcome::Rejected);
        assert_eq!(verdicts.policies[0].in_force, policy("a", "node_load1").revision);
        assert_eq!(verdicts.policies[1].outcome, Outcome::Accepted);
    }

    #[test]
    fn a_policy_that_the_operator_rejects_stays_as_it_was_and_one_that_is_deleted_goes() {
        let mut in_force = InForce::default();
        in_force
            .take_up(snapshot(vec![policy("a", "node_load1"), policy("b", "node_load5")]), Digest::default());
        in_force.take_up(Snapshot { held: [("a".into(), 1)].into(), ..snapshot(vec![]) }, Digest::default());
        assert_eq!(patterns(&in_force), ["node_load1"]);
        in_force.take_up(snapshot(vec![]), Digest::default());
        assert!(in_force.policies.is_empty());
    }

    #[test]
    fn what_this_build_rejects_does_not_come_back_into_force_with_a_restart() {
        let mut stored = InForce { snapshot: snapshot(vec![policy("a", "(")]), ..InForce::default() };
        stored.policies = stored.snapshot.policies.clone();
        let verdicts = stored.take_up_again();
        assert!(stored.policies.is_empty());
        assert!(verdicts.policies[0].in_force.is_empty());
    }

    #[test]
    fn a_policy_that_was_deleted_and_made_again_inherits_nothing() {
        let again = |exclude| Policy { created: 2, ..policy("a", exclude) };
        let mut in_force = InForce::default();
        in_force.take_up(snapshot(vec![policy("a", "node_load1")]), Digest::default());
        let mut other = in_force.clone();
        in_force.take_up(snapshot(vec![again("(")]), Digest::default());
        assert!(in_force.policies.is_empty());
        other.take_up(Snapshot { held: [("a".into(), 2)].into(), ..snapshot(vec![]) }, Digest::default());
        assert!(other.policies.is_empty());
    }

    #[test]
    fn a_held_revision_keeps_the_namespaces_of_its_selector() {
        let scoped = |pattern: &str, selector: &str| {
            let mut policy = policy("a", pattern);
            policy.content.namespace_selector = Some(selector.to_owned());
            policy
        };
        let mut in_force = InForce::default();
        let mut first = snapshot(vec![scoped("node_load1", "team=web")]);
        first.facts.namespaces.insert("team=web".into(), ["shop".into()].into());
        in_force.take_up(first, Digest::default());
        let mut second = snapshot(vec![scoped("(", "team=new")]);
        second.facts.namespaces.insert("team=new".into(), [].into());
        in_force.take_up(second, Digest::default());
        assert_eq!(in_force.facts.namespaces["team=web"], ["shop".into()].into());
    }

    #[test]
    fn an_older_leader_another_cluster_and_another_nodes_snapshot_are_refused() {
        let mut in_force = InForce::default();
        let admit = |in_force: &InForce, cluster, node, term| {
            in_force.admit(cluster, Some((node, "n")), term, &Digest::default()).map_err(|r| r.reason)
        };
        assert_eq!(admit(&in_force, "any", "n", 0), Ok(()));
        in_force.take_up(snapshot(vec![]), Digest::default());
        assert_eq!(admit(&in_force, "c", "n", 5), Ok(()));
        assert_eq!(admit(&in_force, "c", "n", 4), Err("OlderTerm".into()));
        assert_eq!(admit(&in_force, "d", "n", 9), Err("OtherCluster".into()));
        assert_eq!(admit(&in_force, "c", "m", 5), Err("OtherNode".into()));
    }
}
