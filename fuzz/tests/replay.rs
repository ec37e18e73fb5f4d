//! Replays what the fuzzer begins with: every kind of file of every recorded node, with mutations, on any toolchain.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use fuzz::{
    Machine, agent_message, bus, command_line, exporter_policy, last_good, mutations, operator_message,
    pod_list, process_names, query, stats_summary, web_config,
};
use prost::Message as _;
use protocol::proto::{self, agent_message as said, operator_message as heard};
use protocol::{
    Access, AddedLabels, CollectorSetting, Finding, Hello, LabelOperator, LabelRequirement, LabelSelector,
    MetricSelection, Outcome, Policy, PolicyContent, Profile, Refusal, Report, Snapshot, Verdict, Verdicts,
};

fn recorded() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../agent/fixtures");
    let mut nodes: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    nodes.retain(|path| path.is_dir());
    nodes.sort();
    nodes
}

#[test]
fn no_file_of_a_node_makes_a_collector_panic_or_an_answer_unreadable() {
    // Side by side, since each is a machine of its own and all together take minutes.
    let faults: Vec<String> = std::thread::scope(|threads| {
        let running: Vec<_> =
            recorded().into_iter().map(|node| threads.spawn(move || faults_of(&node))).collect();
        running.into_iter().flat_map(|node| node.join().unwrap()).collect()
    });
    assert!(faults.is_empty(), "{} faults, the first: {}", faults.len(), faults[0]);
}

fn faults_of(node: &Path) -> Vec<String> {
    let mut faults = Vec::new();
    let mut machine = Machine::new(node).unwrap();
    // Of the many files of one name, such as those of each cgroup, one stands for all.
    let mut seen = HashSet::new();
    for file in 0..machine.files().len() {
        let path = machine.files()[file].clone();
        if seen.insert(path.file_name().map(ToOwned::to_owned)) {
            let text = fs::read(&path).unwrap();
            // A single word has few ways to be wrong.
            let most = if text.len() < 64 { 14 } else { 40 };
            faults.extend(mutations(&text, most).filter_map(|bytes| machine.with(file, &bytes).err()));
        }
    }
    faults
}

#[test]
fn nothing_about_storage_makes_the_agent_panic() {
    for node in recorded() {
        if let Ok(text) = fs::read(node.join("kubelet/summary.json")) {
            mutations(&text, 500).for_each(|bytes| stats_summary(&bytes));
        }
    }
}

#[test]
fn no_list_of_pods_makes_the_agent_panic() {
    for node in recorded() {
        if let Ok(text) = fs::read(node.join("kubelet/pods.json")) {
            mutations(&text, 500).for_each(|bytes| pod_list(&bytes));
        }
    }
}

#[test]
fn no_query_makes_the_agent_panic() {
    for text in ["collect[]=cpu&collect[]=no%20such", "exclude%5B%5D=cpu&collect[]=%ff&=&&a", "collect[]=%"] {
        mutations(text.as_bytes(), 500).for_each(|bytes| query(&bytes));
    }
}

/// Each section of the toolkit's format; with files that are not there, and without any.
const WEB_CONFIGS: [&str; 2] = [
    "tls_server_config:
  cert_file: no.pem
  key_file: /no.pem
  client_ca_file: no.pem
  client_auth_type: RequireAndVerifyClientCert
  client_allowed_sans: [prometheus.example, 10.0.0.1, 'spiffe://a/b@c']
  min_version: TLS12
  cipher_suites: [TLS_AES_128_GCM_SHA256]
  curve_preferences: [CurveP256, X25519]
",
    "http_server_config:
  http2: false
  headers:
    X-Frame-Options: deny
    Strict-Transport-Security: max-age=1
basic_auth_users:
  alice: $2b$04$abcdefghijklmnopqrstuuLmXKgRfSPJKXUNVPpuzRsyKDIXbQjNe
rate_limit:
  interval: 1.5s
  burst: 3
",
];

#[test]
fn no_web_configuration_makes_the_agent_panic() {
    for text in WEB_CONFIGS {
        mutations(text.as_bytes(), 300).for_each(|bytes| web_config(&bytes).unwrap());
    }
}

/// Every kind of condition, and every field of a name.
const PROCESS_NAMES: &str = r#"process_names:
- name: '{{.Comm}} {{.ExeBase}} {{.ExeFull}} {{.Username}} {{.PID}} {{.StartTime}} {{.Cgroups}}'
  exe: [/bin/web, web]
- name: '{{- /* x */ -}} {{index .Matches "who"}} {{.Matches.who}} {{index .Cgroups 0}}'
  cmdline: ['--for=(?P<who>\S+)', '^/bin']
- comm: [web, '']
"#;

#[test]
fn no_names_of_groups_and_no_command_line_make_the_agent_panic() {
    mutations(PROCESS_NAMES.as_bytes(), 2000).for_each(|bytes| process_names(&bytes));
    let line = b"/bin/web\0--password=a b\0--token\0c\0http://ann:b@c/\0";
    mutations(line, 500).for_each(|bytes| command_line(&bytes));
}

/// One policy for the node and one for pods, with every field set.
fn snapshot() -> Snapshot {
    let options = [("mountPointsExclude".to_owned(), "^/(dev|proc)($|/)".to_owned())].into();
    let collector = CollectorSetting { name: "filesystem".to_owned(), enabled: Some(true), options };
    let metrics = MetricSelection {
        profile: Some(Profile::Dashboards),
        include: vec!["container_pressure_.*".to_owned()],
        exclude: vec!["node_load1".to_owned()],
    };
    let labels = AddedLabels {
        pod_labels: ["app".to_owned()].into(),
        namespace_labels: ["team".to_owned()].into(),
        node_labels: ["zone".to_owned()].into(),
        workload: true,
        ..AddedLabels::default()
    };
    let requirement = |key: &str, operator| LabelRequirement {
        key: key.to_owned(),
        operator,
        values: vec!["web".to_owned()],
    };
    let node = PolicyContent { priority: -5, collectors: vec![collector], ..PolicyContent::default() };
    let pods = PolicyContent {
        namespace_selector: Some("team=web".to_owned()),
        pod_selector: Some(LabelSelector {
            requirements: vec![requirement("app", LabelOperator::In), requirement("x", LabelOperator::NotIn)],
        }),
        metrics,
        labels,
        ..PolicyContent::default()
    };
    let mut snapshot = Snapshot {
        cluster: "c".to_owned(),
        node: "n".to_owned(),
        term: 7,
        policies: vec![Policy::new("a", 1, node), Policy::new("b", 2, pods)],
        held: [("held".to_owned(), 1)].into(),
        ..Snapshot::default()
    };
    snapshot.facts.namespaces.insert("team=web".to_owned(), ["shop".to_owned()].into());
    snapshot
}

#[test]
fn nothing_that_an_operator_sends_makes_the_agent_panic() {
    let welcome = proto::Welcome { protocol: 1, cluster: "c".to_owned(), term: 7 };
    let answer = Access::answer(Some(Access::Forbidden), 3);
    for message in [
        heard::Message::Welcome(welcome),
        heard::Message::Snapshot(snapshot().into()),
        heard::Message::AccessAnswer(answer),
    ] {
        let bytes = proto::OperatorMessage { message: Some(message) }.encode_to_vec();
        each_byte(&bytes, operator_message);
    }
}

#[test]
fn nothing_that_an_agent_sends_makes_the_operator_panic() {
    let finding = || Finding { field: "a".to_owned(), reason: "B".to_owned(), message: "c".to_owned() };
    let verdict = Verdict {
        policy: "a".to_owned(),
        revision: "r".to_owned().into(),
        outcome: Outcome::AcceptedWithWarnings,
        findings: vec![finding()],
        in_force: "r".to_owned().into(),
    };
    let refusal =
        Refusal { digest: Default::default(), reason: "OtherNode".to_owned(), message: "d".to_owned() };
    let hello = Hello {
        protocol: 1,
        node: "n".to_owned(),
        in_force: [("a".to_owned(), "r".to_owned().into())].into(),
        ..Hello::default()
    };
    for message in [
        said::Message::Hello(hello.into()),
        said::Message::Report(
            Report::Verdicts(Verdicts { policies: vec![verdict], ..Verdicts::default() }).into(),
        ),
        said::Message::Report(Report::Refusal(refusal).into()),
        said::Message::Report(Report::Health(vec![finding()]).into()),
        said::Message::Credential(proto::Credential { token: "a.b.c".to_owned() }),
        said::Message::AccessQuestion(proto::AccessQuestion { id: 3, token: "a.b.c".to_owned() }),
    ] {
        each_byte(&proto::AgentMessage { message: Some(message) }.encode_to_vec(), agent_message);
    }
}

#[test]
fn no_file_of_a_last_good_configuration_makes_the_agent_panic() {
    let mut in_force = agent::in_force::InForce::default();
    in_force.take_up(snapshot(), Default::default());
    each_byte(&agent::last_good::encode(&in_force).unwrap(), last_good);
    // Without a checksum, so that what is changed is read.
    let content = serde_json::to_string(&in_force).unwrap();
    each_byte(format!("{{\"format\":1,\"inForce\":{content}}}").as_bytes(), last_good);
}

/// Every field of a policy.
const POLICY: &str = r#"{"priority": 100, "nodeSelector": {"matchLabels": {"team": "web"}},
"collectors": [{"name": "filesystem", "enabled": true, "options": {"mountPointsExclude": "^/dev($|/)"}}],
"metrics": {"profile": "Dashboards", "include": ["container_pressure_.*"], "exclude": ["node_load1"]}}"#;

/// The same for pods.
const POD_POLICY: &str = r#"{"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "In", "values": ["web"]}]},
"podSelector": {"matchLabels": {"app": "x"}, "matchExpressions": [{"key": "y", "operator": "DoesNotExist"}]},
"labels": {"podLabels": ["app.kubernetes.io/name"], "podAnnotations": ["a"], "namespaceLabels": ["team"],
"nodeLabels": ["zone"], "workload": true, "qosClass": true, "priorityClass": true}}"#;

#[test]
fn no_policy_makes_operator_or_agent_panic() {
    each_byte(POLICY.as_bytes(), exporter_policy);
    each_byte(POD_POLICY.as_bytes(), exporter_policy);
}

/// The bytes as they are, mutated, and with every third byte alone another one: each takes milliseconds.
fn each_byte(bytes: &[u8], entry: fn(&[u8])) {
    entry(bytes);
    mutations(bytes, 100).for_each(|bytes| entry(&bytes));
    for place in (0..bytes.len()).step_by(3) {
        let mut bytes = bytes.to_vec();
        // Of text another letter, of a length or a kind another number.
        bytes[place] ^= 1 << (place % 8);
        entry(&bytes);
    }
}

/// Lets in; answers the second property, then the first with an error, in the other byte order; then a list of one.
const BUS: &[&[u8]] = &[
    b"OK 0123456789abcdef\r\n",
    b"l\x02\x01\x01\x0b\0\0\0\x01\0\0\0\x0f\0\0\0",
    b"\x05\x01u\0\x02\0\0\0\x08\x01g\0\x01v\0\0",
    b"\x01s\0\0\x02\0\0\0\xc3\xa4\0",
    b"B\x03\x01\x01\0\0\0\0\0\0\0\x02\0\0\0\x14",
    b"\x05\x01u\0\0\0\0\x01\x04\x01s\0\0\0\0\x03a.b\0\0\0\0\0",
    b"l\x02\x01\x01\x2a\0\0\0\x03\0\0\0\x08\0\0\0",
    b"\x05\x01u\0\x03\0\0\0",
    b"\x22\0\0\0\0\0\0\0\x01\0\0\0y\0\0\0\x07\0\0\0\0\0\0\0\x08\0\0\0\0\0\0\0\x01o\0\0\x01\0\0\0/\0",
];

#[test]
fn no_answer_over_d_bus_makes_the_agent_panic() {
    let bytes = BUS.concat();
    assert_eq!(bus(&bytes).unwrap(), ["\u{e4}", "y", "/"]);
    mutations(&bytes, 1000).for_each(|bytes| _ = bus(&bytes));
    // Each byte alone, since every length and every type is one.
    for place in 0..bytes.len() {
        for byte in [0, 1, 0x7f, 0xff] {
            let mut bytes = bytes.clone();
            bytes[place] = byte;
            _ = bus(&bytes);
        }
    }
}

#[test]
fn what_the_fuzzer_has_found_worth_keeping_still_passes() {
    type Entry = (&'static str, fn(&[u8]));
    const ENTRIES: [Entry; 6] = [
        ("agent_message", agent_message),
        ("exporter_policy", exporter_policy),
        ("last_good", last_good),
        ("operator_message", operator_message),
        ("pod_list", pod_list),
        ("stats_summary", stats_summary),
    ];
    for (name, entry) in ENTRIES {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
        let files: Vec<_> = fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).collect();
        assert!(!files.is_empty(), "nothing is kept of {name}");
        files.iter().for_each(|file| entry(&fs::read(file).unwrap()));
    }
}
