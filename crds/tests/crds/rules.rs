//! The CEL rules, judged here by a library and finally by a real API server.

use std::path::Path;

use crds::ExporterPolicy;
use kube::CustomResourceExt;
use kube::core::cel::Validator;
use serde_json::{Value, json};

#[track_caller]
fn check(spec: Value, expected: &[&str]) {
    let object = json!({
        "apiVersion": "exporter-operator.dev/v1alpha1",
        "kind": "ExporterPolicy",
        "metadata": {"name": "p"},
        "spec": spec,
    });
    assert_eq!(messages(&object), expected);
}

fn messages(object: &Value) -> Vec<String> {
    let version = ExporterPolicy::crd().spec.versions.remove(0);
    let schema = serde_json::to_value(version.schema.unwrap().open_api_v3_schema).unwrap();
    match Validator::new().validate(&schema, object, None) {
        Ok(()) => vec![],
        Err(errors) => errors.into_vec().into_iter().map(|e| e.message).collect(),
    }
}

const NAMESPACES: &str = "collectors may not be set together with namespaceSelector: a collector runs for \
                          the whole node; put the collectors into a policy without it";
const PODS: &str = "collectors may not be set together with podSelector: a collector runs for the whole \
                    node; put the collectors into a policy without it";
const VALUES: &str =
    "values must be given for the operators In and NotIn, and must be empty for Exists and DoesNotExist";

#[test]
fn collectors_belong_to_nodes() {
    let collectors = json!([{"name": "cpu"}]);
    let web = json!({"matchLabels": {"team": "web"}});
    let exists = json!({"matchExpressions": [{"key": "team", "operator": "Exists"}]});
    check(json!({"collectors": collectors, "namespaceSelector": web}), &[NAMESPACES]);
    check(json!({"collectors": collectors, "podSelector": exists}), &[PODS]);
    check(
        json!({"collectors": collectors, "namespaceSelector": exists, "podSelector": web}),
        &[NAMESPACES, PODS],
    );
    check(json!({"collectors": collectors, "nodeSelector": web}), &[]);
}

#[test]
fn an_empty_selector_and_an_empty_list_count_as_absent() {
    let web = json!({"matchLabels": {"team": "web"}});
    check(json!({"collectors": [{"name": "cpu"}], "namespaceSelector": {}, "podSelector": {}}), &[]);
    check(
        json!({"collectors": [{"name": "cpu"}], "podSelector": {"matchLabels": {}, "matchExpressions": []}}),
        &[],
    );
    check(json!({"collectors": [], "namespaceSelector": web}), &[]);
    check(json!({}), &[]);
}

#[test]
fn an_operator_has_the_values_that_it_needs() {
    let with = |requirement: Value| json!({"podSelector": {"matchExpressions": [requirement]}});
    check(with(json!({"key": "a", "operator": "In"})), &[VALUES]);
    check(with(json!({"key": "a", "operator": "NotIn", "values": []})), &[VALUES]);
    check(with(json!({"key": "a", "operator": "Exists", "values": ["b"]})), &[VALUES]);
    check(with(json!({"key": "a", "operator": "In", "values": ["b"]})), &[]);
    check(with(json!({"key": "a", "operator": "DoesNotExist"})), &[]);
}

#[test]
fn keys_of_maps_are_bounded() {
    let long = "k".repeat(64);
    check(
        json!({"collectors": [{"name": "cpu", "options": {long.as_str(): "v"}}]}),
        &["a key of options has at most 63 characters"],
    );
    let long = "k".repeat(318);
    check(
        json!({"nodeSelector": {"matchLabels": {long.as_str(): "v"}}}),
        &["a key of matchLabels has at most 317 characters"],
    );
}

#[test]
fn the_bounds_in_the_rules_are_those_of_the_constants() {
    assert_eq!((crds::MAX_OPTION_KEY, crds::MAX_LABEL_KEY), (63, 317));
}

#[test]
fn the_samples_pass_and_keep_their_content() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples");
    let mut samples: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    samples.sort();
    assert!(samples.len() >= 3, "{samples:?}");
    for sample in samples {
        let text = std::fs::read_to_string(&sample).unwrap();
        let object: Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(messages(&object), [] as [&str; 0], "{sample:?}");
        let policy: ExporterPolicy = serde_json::from_value(object.clone()).unwrap();
        let mut again = serde_json::to_value(&policy).unwrap();
        if object["spec"].get("priority").is_none() {
            again["spec"].as_object_mut().unwrap().remove("priority");
        }
        assert_eq!(again["spec"], object["spec"], "{sample:?} has a field that is not read");
    }
}
