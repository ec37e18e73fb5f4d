//! The kubelet's own series of the recorded nodes, next to ours: what differs is in `accepted-differences.md`.

use std::collections::BTreeSet;

use agent::compare::{Exposition, accepted, differences};
use regex::Regex;

use crate::fixture::Fixture;

/// Families whose values move little meanwhile.
const SLOW: &str = "container_((fs_.*_seconds|memory_failures)_total|memory_(failcnt|kernel_usage))";

/// Families whose values do not move while a node is recorded, so that they can be compared.
const STATIC: &str = "cadvisor_.*|container_(health_state|oom_events_total|processes|spec_.*|start_time_seconds|\
                      tasks_state|threads_max|ulimits_soft)|machine_.*";

#[test]
fn every_series_of_the_kubelet_is_ours_too_or_an_accepted_difference() {
    let accepted = accepted("kubelet").unwrap();
    let [is_static, is_slow] = [STATIC, SLOW].map(|names| Regex::new(&format!("^({names})$")).unwrap());
    let same = |name: &str, a: f64, b: f64| {
        let is_near = (a - b).abs() <= a.max(b) / 2.0;
        a == b || !(is_static.is_match(name) || (is_slow.is_match(name) && !is_near))
    };
    let mut used = BTreeSet::new();
    let mut unexplained = Vec::new();
    for fixture in Fixture::all() {
        let Some(theirs) = fixture.cadvisor() else { continue };
        let ours: Exposition =
            fixture.scrape().into_iter().filter(|(name, _)| is_the_kubelets(name)).collect();
        for difference in differences(&theirs, &ours, same) {
            match accepted.iter().find(|row| row.explains(&difference)) {
                Some(row) => {
                    used.insert(row.row.as_str());
                }
                None => unexplained.push(format!("{}: {difference}", fixture.name)),
            }
        }
    }
    assert!(unexplained.is_empty(), "{} differences:\n{}", unexplained.len(), unexplained.join("\n"));
    let unused: Vec<_> = accepted.iter().map(|a| a.row.as_str()).filter(|row| !used.contains(row)).collect();
    assert!(unused.is_empty(), "accepted, and no recorded node shows it:\n{}", unused.join("\n"));
}

fn is_the_kubelets(family: &str) -> bool {
    ["cadvisor_", "container_", "machine_"].iter().any(|prefix| family.starts_with(prefix))
}
