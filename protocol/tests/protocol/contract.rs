//! The generated code is what the contract says, and messages keep their content.

use std::path::Path;

use protocol::{
    AddedLabels, CollectorSetting, Facts, Finding, LabelOperator, LabelRequirement, LabelSelector,
    MetricSelection, Policy, PolicyContent, Profile, Report, Snapshot, proto,
};

#[test]
fn the_generated_code_is_that_of_the_contract() {
    let out = std::env::temp_dir().join(format!("protocol-{}", std::process::id()));
    std::fs::create_dir_all(&out).unwrap();
    let contract = protox::compile(["agent_config.proto"], [env!("CARGO_MANIFEST_DIR")]).unwrap();
    tonic_prost_build::configure()
        // What holds a token says for itself how it is logged.
        .skip_debug(["Credential", "AccessQuestion"])
        .out_dir(&out)
        .compile_fds(contract)
        .unwrap();
    let generated = std::fs::read_to_string(out.join("exporter_operator.v1alpha1.rs")).unwrap();
    std::fs::remove_dir_all(&out).unwrap();
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/proto.rs");
    expect_test::expect_file![committed].assert_eq(&generated);
}

pub(crate) fn everything() -> Snapshot {
    let content = PolicyContent {
        priority: -3,
        namespace_selector: Some("team in (a,b),!legacy".into()),
        pod_selector: Some(LabelSelector {
            requirements: vec![
                LabelRequirement {
                    key: "app".into(),
                    operator: LabelOperator::In,
                    values: vec!["web".into()],
                },
                LabelRequirement { key: "x".into(), operator: LabelOperator::DoesNotExist, values: vec![] },
            ],
        }),
        collectors: vec![CollectorSetting {
            name: "filesystem".into(),
            enabled: Some(false),
            options: [("mountPointsExclude".into(), "^/(dev|proc)".into())].into(),
        }],
        metrics: MetricSelection {
            profile: Some(Profile::Dashboards),
            include: vec!["node_.*".into()],
            exclude: vec!["node_load1".into()],
        },
        labels: AddedLabels {
            pod_labels: ["app.kubernetes.io/name".into()].into(),
            pod_annotations: ["owner".into()].into(),
            namespace_labels: ["team".into()].into(),
            node_labels: ["topology.kubernetes.io/zone".into()].into(),
            workload: true,
            qos_class: true,
            priority_class: true,
        },
    };
    let mut snapshot = Snapshot {
        cluster: "c".into(),
        node: "n1".into(),
        term: 7,
        policies: vec![Policy::new("p", 12, content)],
        held: [("q".into(), 3)].into(),
        ..Snapshot::default()
    };
    snapshot.facts.emergency = true;
    snapshot.facts.node.system_uuid = "u".into();
    snapshot.facts.node.labels.insert("topology.kubernetes.io/zone".into(), "a".into());
    let labels = [("team".into(), "web".into())].into();
    snapshot.facts.namespace_labels.insert("shop".into(), labels);
    snapshot.facts.namespaces.insert("team in (a,b),!legacy".into(), ["shop".into()].into());
    snapshot
}

#[test]
fn a_snapshot_survives_the_wire_and_the_file() {
    let snapshot = everything();
    assert_eq!(Snapshot::try_from(proto::Snapshot::from(snapshot.clone())).unwrap(), snapshot);
    let yaml = serde_saphyr::to_string(&snapshot).unwrap();
    assert_eq!(serde_saphyr::from_str::<Snapshot>(&yaml).unwrap(), snapshot, "{yaml}");
}

#[test]
fn a_selector_operator_that_is_unknown_is_refused_rather_than_ignored() {
    let mut message = proto::Snapshot::from(everything());
    let content = message.policies[0].content.as_mut().unwrap();
    content.pod_selector.as_mut().unwrap().requirements[0].operator = 99;
    let error = Snapshot::try_from(message).unwrap_err();
    assert_eq!(error.to_string(), "podSelector.operator: unknown to this version");
}

#[test]
fn a_kind_of_report_that_is_unknown_says_nothing_and_is_no_error() {
    // Field 99, with a message of two bytes.
    let later: proto::Report = prost::Message::decode(&[0x9a, 0x06, 0x02, 0x08, 0x01][..]).unwrap();
    assert_eq!(later.report, None);
}

#[test]
fn what_an_agent_says_of_itself_survives_the_wire() {
    let finding = Finding { field: String::new(), reason: "KubeletRefused".into(), message: "m".into() };
    for findings in [vec![], vec![finding]] {
        let report = Report::Health(findings);
        assert_eq!(Report::try_from(proto::Report::from(report.clone())).unwrap(), report);
    }
}

#[test]
fn a_profile_that_is_unknown_is_refused_rather_than_ignored() {
    let mut message = proto::Snapshot::from(everything());
    message.policies[0].content.as_mut().unwrap().metrics.as_mut().unwrap().profile = Some(99);
    let error = Snapshot::try_from(message).unwrap_err();
    assert_eq!(error.to_string(), "metrics.profile: unknown to this version");
}

#[test]
fn the_leader_is_not_part_of_the_digest_but_facts_are() {
    let snapshot = everything();
    let mut other = snapshot.clone();
    other.term += 1;
    assert_eq!(other.digest(), snapshot.digest());
    other.facts.node.boot_id = "rebooted".into();
    assert_ne!(other.digest(), snapshot.digest());
    assert_eq!(other.policies[0].revision, snapshot.policies[0].revision, "facts change no revision");
    let ended = Snapshot { facts: Facts { emergency: false, ..snapshot.facts.clone() }, ..snapshot.clone() };
    assert_ne!(ended.digest(), snapshot.digest());
}

#[test]
fn a_policy_that_comes_to_be_held_is_a_change() {
    let snapshot = everything();
    let mut other = snapshot.clone();
    other.held.clear();
    assert_ne!(other.digest(), snapshot.digest());
}

#[test]
fn equal_content_has_equal_revisions_whatever_the_name_and_the_age() {
    let content = everything().policies.remove(0).content;
    let other = Policy::new("q", 99, content.clone());
    assert_eq!(Policy::new("p", 1, content.clone()).revision, other.revision);
    let changed = PolicyContent { priority: 4, ..content.clone() };
    assert_ne!(changed.revision(), other.revision);
    let metrics = MetricSelection { profile: Some(Profile::Full), ..content.metrics.clone() };
    assert_ne!(PolicyContent { metrics, ..content }.revision(), other.revision);
}
