//! The golden cases of `effective`: several policies, the node and named pods.

use std::collections::BTreeMap;
use std::path::Path;

use protocol::{
    DASHBOARDS, Facts, FamilySelector, MINIMAL, MetricSelection, Policy, PolicyContent, Profile, Snapshot,
    Subject, effective,
};

#[derive(serde::Deserialize)]
struct Case {
    #[serde(flatten)]
    snapshot: Snapshot,
}

#[derive(serde::Deserialize)]
struct Pod {
    namespace: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[test]
fn each_case_means_what_its_golden_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/effective");
    let mut cases: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
    cases.sort();
    assert!(!cases.is_empty());
    for case in cases {
        let read = |name: &str| std::fs::read_to_string(case.join(name)).unwrap();
        let mut snapshot = serde_saphyr::from_str::<Case>(&read("snapshot.yaml")).unwrap().snapshot;
        snapshot.sort();
        let pods: BTreeMap<String, Pod> = serde_saphyr::from_str(&read("pods.yaml")).unwrap();
        let node = effective(&snapshot.policies, &snapshot.facts, Subject::Node);
        let mut result = BTreeMap::from([("node".to_owned(), node)]);
        for (name, pod) in &pods {
            let subject = Subject::Pod { namespace: &pod.namespace, labels: &pod.labels };
            result.insert(format!("pod {name}"), effective(&snapshot.policies, &snapshot.facts, subject));
        }
        let text = serde_saphyr::to_string(&result).unwrap();
        expect_test::expect_file![case.join("effective.yaml")].assert_eq(&text);
    }
}

/// Of these families those that a policy exposes.
#[track_caller]
fn check(profile: Option<Profile>, include: &[&str], exclude: &[&str], families: &[&str], exposed: &[&str]) {
    let owned = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
    let metrics = MetricSelection { profile, include: owned(include), exclude: owned(exclude) };
    let policy = Policy::new("p", 0, PolicyContent { metrics, ..PolicyContent::default() });
    let merged = effective(&[policy], &Default::default(), Subject::Node);
    let selector = FamilySelector::new(&merged.families);
    let seen: Vec<_> = families.iter().copied().filter(|family| selector.exposes(family)).collect();
    assert_eq!(seen, exposed, "{profile:?} with {include:?} without {exclude:?}");
}

#[test]
fn what_a_policy_exposes_is_its_profile_and_what_it_includes_less_what_it_excludes() {
    const CPU: &str = "container_cpu_usage_seconds_total";
    const CACHE: &str = "container_memory_cache";
    const OOM: &str = "container_oom_events_total";
    const BLKIO: &str = "container_blkio_device_usage_total";
    // Those of the machine are not a profile's affair.
    const OTHERS: [&str; 2] = ["machine_cpu_cores", "node_load1"];
    let all = [CPU, CACHE, OOM, BLKIO, OTHERS[0], OTHERS[1]];
    check(None, &[], &[], &all, &all);
    check(Some(Profile::Full), &[], &[], &all, &all);
    check(Some(Profile::Dashboards), &[], &[], &all, &[CPU, CACHE, OTHERS[0], OTHERS[1]]);
    check(Some(Profile::Minimal), &[], &[], &all, &[CPU, OOM, OTHERS[0], OTHERS[1]]);
    let (more, less) = (["container_blkio_.*", CACHE], ["container_(cpu|blkio)_.*", "node_.*"]);
    check(Some(Profile::Minimal), &more, &[], &all, &all);
    check(Some(Profile::Minimal), &more, &less, &all, &[CACHE, OOM, OTHERS[0]]);
}

#[test]
fn an_emergency_exposes_nothing_that_any_policy_excludes_and_of_containers_the_minimal_profile() {
    let policy = |priority, include: &str, exclude: &str| {
        let one = |pattern: &str| vec![pattern.to_owned()];
        let metrics = MetricSelection { profile: None, include: one(include), exclude: one(exclude) };
        Policy::new(exclude, 0, PolicyContent { priority, metrics, ..PolicyContent::default() })
    };
    let policies = [
        policy(2, "container_.*|node_load1", "secret_a_total"),
        policy(1, "none", "container_oom_.*|node_load.*"),
    ];
    let facts = Facts { emergency: true, ..Facts::default() };
    let labels = BTreeMap::new();
    for subject in [Subject::Node, Subject::Pod { namespace: "shop", labels: &labels }] {
        let merged = effective(&policies, &facts, subject);
        let selector = FamilySelector::new(&merged.families);
        for family in MINIMAL {
            assert_eq!(selector.exposes(family), *family != "container_oom_events_total", "{family}");
        }
        for family in ["secret_a_total", "node_load1", "node_load5", "container_memory_cache", "container_x"]
        {
            assert!(!selector.exposes(family), "{family}");
        }
        assert!(selector.exposes("node_cpu_seconds_total") && selector.exposes("machine_cpu_cores"));
    }
}

#[test]
fn the_lists_of_the_profiles_are_as_long_as_the_reference_says_and_hold_container_families_alone() {
    assert_eq!([DASHBOARDS.len(), MINIMAL.len()], [17, 6]);
    for list in [DASHBOARDS, MINIMAL] {
        assert!(list.is_sorted_by(|a, b| a < b), "sorted, and none twice: {list:?}");
        assert!(list.iter().all(|family| family.starts_with("container_")), "{list:?}");
    }
}

#[test]
fn the_first_rule_that_matches_decides_and_patterns_are_anchored() {
    let rules = ["a_total", "b|c", "b.*"].map(|pattern| protocol::FamilyRule {
        expose: pattern == "b|c",
        pattern: pattern.into(),
        policy: "p".into(),
    });
    let selector = FamilySelector::new(&rules);
    let exposed = ["a_total", "a_total2", "b", "c", "bc", "z"].map(|family| selector.exposes(family));
    assert_eq!(exposed, [false, true, true, true, false, true]);
}

#[test]
fn a_pattern_cannot_escape_its_anchors_nor_grow_without_bound() {
    assert!(FamilySelector::pattern("a)|(b").is_err());
    assert!(FamilySelector::pattern("(((a{100}){100}){100})").is_err());
}
