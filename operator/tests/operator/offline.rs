//! `exporter-operator compile`: files in, meaning out.

use std::path::{Path, PathBuf};

use operator::offline::{Files, compile};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/offline").join(name)
}

fn samples() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds/samples");
    let mut samples: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    samples.sort();
    samples
}

fn files(policies: Vec<PathBuf>) -> Files {
    Files {
        policies,
        node: fixture("node.yaml"),
        namespaces: vec![fixture("namespaces.yaml")],
        agent_capabilities: Some(fixture("capabilities.json")),
    }
}

#[test]
fn the_samples_mean_what_the_golden_says() {
    let meaning = compile(&files(samples())).unwrap();
    let text = serde_saphyr::to_string(&meaning).unwrap();
    expect_test::expect_file![fixture("samples.yaml")].assert_eq(&text);
}

#[test]
fn what_is_rejected_or_unknown_to_the_agents_is_said() {
    let meaning = compile(&files(vec![fixture("mistakes.yaml")])).unwrap();
    let text = serde_saphyr::to_string(&meaning).unwrap();
    expect_test::expect_file![fixture("mistakes.out.yaml")].assert_eq(&text);
}

#[test]
fn the_agents_of_this_build_know_everything_in_the_samples() {
    let meaning = compile(&Files { agent_capabilities: None, ..files(samples()) }).unwrap();
    assert_eq!(meaning.warnings, [].into());
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let error = format!("{:#}", compile(&files(vec![PathBuf::from("no-such-file")])).unwrap_err());
    assert!(error.starts_with("no-such-file: "), "{error}");
    let error =
        compile(&Files { node: fixture("namespaces.yaml"), ..files(vec![]) }).unwrap_err().to_string();
    assert!(error.ends_with("namespaces.yaml"), "{error}");
}

#[test]
fn what_is_no_policy_is_an_error_and_not_a_panic() {
    let file = std::env::temp_dir().join(format!("offline-{}.yaml", std::process::id()));
    let policy = |name: &str| {
        format!(
            "{{apiVersion: exporter-operator.dev/v1alpha1, kind: ExporterPolicy, metadata: {{name: {name}}}, spec: {{}}}}\n"
        )
    };
    for (text, said) in [
        ("[1, 2]".to_owned(), "offline-"),
        ("word".to_owned(), "offline-"),
        ("{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}}".to_owned(), "kind `Deployment`"),
        (format!("{}---\n{}", policy("p"), policy("p")), "two policies are called `p`"),
    ] {
        std::fs::write(&file, &text).unwrap();
        let error = format!("{:#}", compile(&files(vec![file.clone()])).unwrap_err());
        assert!(error.contains(said), "`{said}` is not in: {error}");
    }
    std::fs::remove_file(&file).unwrap();
}
