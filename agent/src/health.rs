//! What keeps the agent from measuring all that it should, for the conditions of policies.

use protocol::Finding;
use tokio::sync::watch;

use crate::source::kubelet::KubeletError;

/// What is wrong now, as the operator is told; nothing is known before the kubelet was asked. Clones share it.
#[derive(Clone, Debug)]
pub struct Health(watch::Sender<Option<Vec<Finding>>>);

/// What the operator makes the reason of a condition.
const KUBELET_REFUSED: &str = "KubeletRefused";

impl Health {
    /// Nothing is known yet, unless there is no kubelet to ask.
    pub fn new(has_kubelet: bool) -> Self {
        Health(watch::Sender::new((!has_kubelet).then(Vec::new)))
    }

    /// The kubelet answered, or did not. Only a refusal is for somebody else to mend, and only an answer says that it
    /// was.
    pub fn kubelet(&self, answer: Result<(), &KubeletError>) {
        let finding = match answer {
            Ok(()) => None,
            Err(error) => match error.refusal() {
                Some(message) => Some(refused(message)),
                None => return,
            },
        };
        self.set(|known| finding.into_iter().chain(of_stats(known)).collect());
    }

    /// The same of what it is asked about storage.
    pub fn kubelet_stats(&self, answer: Result<(), &KubeletError>) {
        let finding = match answer {
            Ok(()) => None,
            // A token that is not taken is told of where pods are asked for.
            Err(error @ KubeletError::Forbidden { .. }) => error.refusal().map(refused),
            Err(_) => return,
        };
        self.set_stats(finding);
    }

    /// It is not asked about storage any more.
    pub fn kubelet_stats_unasked(&self) {
        self.set_stats(None);
    }

    fn set_stats(&self, finding: Option<Finding>) {
        // As long as it is not known whether pods are told, this alone would say that they are.
        if finding.is_none() && self.0.borrow().is_none() {
            return;
        }
        self.set(|known| known.iter().filter(|f| !is_of_stats(f)).cloned().chain(finding).collect());
    }

    /// Before the kubelet was asked for its pods, nothing is known but what it refuses.
    fn set(&self, change: impl FnOnce(&[Finding]) -> Vec<Finding>) {
        self.0.send_if_modified(|known| {
            let findings = Some(change(known.as_deref().unwrap_or_default()));
            let is_new = *known != findings;
            *known = findings;
            is_new
        });
    }

    /// What is wrong now, and word of each change.
    pub fn subscribe(&self) -> watch::Receiver<Option<Vec<Finding>>> {
        self.0.subscribe()
    }
}

fn refused(message: String) -> Finding {
    Finding { field: String::new(), reason: KUBELET_REFUSED.to_owned(), message }
}

fn is_of_stats(finding: &Finding) -> bool {
    finding.message.contains("`nodes/stats`")
}

fn of_stats(known: &[Finding]) -> impl Iterator<Item = Finding> {
    known.iter().filter(|finding| is_of_stats(finding)).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url() -> String {
        "https://node:10250/pods".to_owned()
    }

    fn known(health: &Health) -> Option<Vec<String>> {
        let findings = health.subscribe().borrow().clone();
        findings
            .map(|findings| findings.into_iter().map(|f| format!("{}: {}", f.reason, f.message)).collect())
    }

    #[test]
    fn a_refusal_holds_until_the_kubelet_answers() {
        let health = Health::new(true);
        let slow = KubeletError::Slow { url: url(), after: std::time::Duration::from_secs(1) };
        health.kubelet(Err(&slow));
        assert_eq!(known(&health), None);
        health.kubelet(Err(&KubeletError::Forbidden { url: url(), body: "no".to_owned() }));
        let refused = known(&health).unwrap();
        assert!(refused[0].starts_with("KubeletRefused: ") && refused[0].contains("`get` on `nodes/pods`"));
        // Of the node itself nothing, so that all that lack the same grant say the same.
        assert!(!refused[0].contains("node:10250"), "{refused:?}");
        health.kubelet(Err(&slow));
        assert_eq!(known(&health), Some(refused));
        health.kubelet(Err(&KubeletError::Unauthorized { url: url() }));
        assert!(known(&health).unwrap()[0].contains("401"));
        health.kubelet(Ok(()));
        assert_eq!(known(&health), Some(vec![]));
    }

    #[test]
    fn what_the_kubelet_says_of_storage_is_refused_and_mended_by_itself() {
        let health = Health::new(true);
        let url = "https://node:10250/stats/summary".to_owned();
        let forbidden = KubeletError::Forbidden { url, body: "no".to_owned() };
        health.kubelet(Ok(()));
        health.kubelet_stats(Err(&forbidden));
        let refused = known(&health).unwrap();
        assert!(refused.len() == 1 && refused[0].contains("`get` on `nodes/stats`"), "{refused:?}");
        health.kubelet(Ok(()));
        assert_eq!(known(&health), Some(refused));
        health.kubelet(Err(&KubeletError::Unauthorized { url: self::url() }));
        assert_eq!(known(&health).unwrap().len(), 2);
        health.kubelet_stats(Ok(()));
        assert!(known(&health).unwrap()[0].contains("401"));
        health.kubelet_stats(Err(&forbidden));
        health.kubelet_stats_unasked();
        health.kubelet(Ok(()));
        assert_eq!(known(&health), Some(vec![]));
    }

    #[test]
    fn only_a_change_is_told() {
        let health = Health::new(true);
        let mut told = health.subscribe();
        health.kubelet(Ok(()));
        assert!(told.has_changed().unwrap());
        told.mark_unchanged();
        health.kubelet(Ok(()));
        assert!(!told.has_changed().unwrap());
    }

    #[test]
    fn an_agent_without_a_kubelet_is_well() {
        assert_eq!(known(&Health::new(false)), Some(vec![]));
    }
}
