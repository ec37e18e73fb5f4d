//! What a policy may not say, with the field and the reason that its author is told.

use operator::validate::{canonical_text, validate};
use serde_json::{Value, json};

use crate::objects::stored;

#[track_caller]
fn check(spec: Value, expected: &str) {
    let result = match validate(&stored("p", spec)) {
        Ok(_) => "valid".to_owned(),
        Err(why) => format!("{} {why}", why.reason),
    };
    assert_eq!(result, expected);
}

#[test]
fn an_object_that_cannot_be_read_is_rejected_alone() {
    check(
        json!({"priority": "high"}),
        "Unreadable spec: cannot be read as an ExporterPolicy: invalid type: string \"high\", expected i32",
    );
    check(
        json!(null),
        "Unreadable spec: cannot be read as an ExporterPolicy: invalid type: null, expected struct ExporterPolicySpec",
    );
    check(
        json!({"metrics": {"profile": "Tiny"}}),
        "Unreadable spec: cannot be read as an ExporterPolicy: unknown variant `Tiny`, expected one of `Full`, \
         `Dashboards`, `Minimal`",
    );
    check(json!({"aFieldOfALaterVersion": true}), "valid");
}

#[test]
fn bounds_hold_for_stored_objects_too() {
    check(json!({"priority": 1_000_001}), "OutOfBounds spec.priority: must be from -1000000 to 1000000");
    let many: Vec<_> = (0..65).map(|i| json!({"name": format!("c{i}")})).collect();
    check(
        json!({"collectors": many}),
        "OutOfBounds spec.collectors: has 65 collectors, of at most 64 allowed",
    );
    let long = "x".repeat(8193);
    check(
        json!({"collectors": [{"name": "c", "options": {"o": long}}]}),
        "OutOfBounds spec.collectors[0].options.o: has 8193 characters, of at most 8192 allowed",
    );
    check(
        json!({"metrics": {"exclude": vec!["a"; 65]}}),
        "OutOfBounds spec.metrics.exclude: has 65 patterns, of at most 64 allowed",
    );
}

#[test]
fn node_scoped_fields_go_with_no_pod_scoped_selector() {
    check(
        json!({"collectors": [{"name": "cpu"}], "podSelector": {"matchLabels": {"a": "b"}}}),
        "ScopeConflict spec.collectors: may not be set together with podSelector: a collector runs for the whole node",
    );
    check(json!({"collectors": [{"name": "cpu"}], "namespaceSelector": {"matchLabels": {}}}), "valid");
}

#[test]
fn a_pattern_that_is_no_regular_expression_is_named_with_what_is_wrong() {
    check(
        json!({"metrics": {"include": ["node_.*", "container_(cpu"]}}),
        "InvalidPattern spec.metrics.include[1]: `container_(cpu` is not a regular expression that can be used: \
         unclosed group",
    );
    check(
        json!({"metrics": {"exclude": ["(((a{100}){100}){100})"]}}),
        "InvalidPattern spec.metrics.exclude[0]: `(((a{100}){100}){100})` is not a regular expression that can be \
         used: Compiled regex exceeds size limit of 262144 bytes.",
    );
}

#[test]
fn selectors_are_checked_again() {
    let pods = |requirement: Value| json!({"podSelector": {"matchExpressions": [requirement]}});
    check(
        pods(json!({"key": "a", "operator": "In"})),
        "InvalidSelector spec.podSelector.matchExpressions[0]: values must be given",
    );
    check(
        pods(json!({"key": "a b", "operator": "Exists"})),
        "InvalidSelector spec.podSelector.matchExpressions[0]: `a b` is not the key of a label",
    );
    check(
        json!({"nodeSelector": {"matchLabels": {"pool": "-web"}}}),
        "InvalidSelector spec.nodeSelector.matchLabels: `-web` is not the value of a label",
    );
}

#[test]
fn names_are_checked_again() {
    check(
        json!({"collectors": [{"name": "cpu"}, {"name": "cpu"}]}),
        "InvalidCollector spec.collectors[1].name: cpu is listed twice",
    );
    check(
        json!({"collectors": [{"name": "CPU"}]}),
        "InvalidCollector spec.collectors[0].name: must be a lower-case letter and then lower-case letters, digits \
         and _",
    );
    check(
        json!({"labels": {"podLabels": ["app", "/name"]}}),
        "InvalidLabel spec.labels.podLabels: `/name` is not the key of a label",
    );
    check(
        json!({"labels": {"podAnnotations": ["a b"], "nodeLabels": ["zone"]}}),
        "InvalidLabel spec.labels.podAnnotations: `a b` is not the key of an annotation",
    );
    let keys: Vec<String> = (0..33).map(|n| format!("key-{n}")).collect();
    check(
        json!({"labels": {"namespaceLabels": keys}}),
        "OutOfBounds spec.labels.namespaceLabels: has 33 keys, of at most 32 allowed",
    );
}

#[test]
fn the_checks_by_hand_are_those_of_the_schema() {
    let key = regex::Regex::new(crds::LABEL_KEY).unwrap();
    let value = regex::Regex::new(crds::LABEL_VALUE).unwrap();
    let name = regex::Regex::new(crds::COLLECTOR_NAME).unwrap();
    let long = "a".repeat(64);
    let words = [
        "",
        "a",
        "A",
        "-",
        "a-",
        "-a",
        "a.b",
        "a_b",
        "a/b",
        "/",
        "a/",
        "/b",
        "A/b",
        "a.b/C",
        "a..b/c",
        "a/b/c",
        ".",
        "a b",
        "é",
        "0",
        "_",
        "a1_",
        "1a",
        "x.y-z/q.r_s-t",
        "-x/a",
        "x-/a",
        "x./a",
        &long,
        "x/.a",
    ];
    for word in words {
        let valid = |spec: Value| validate(&stored("p", spec)).is_ok();
        let ours = valid(json!({"labels": {"podLabels": [word]}}));
        assert_eq!(ours, key.is_match(word), "key {word:?}");
        let ours = valid(json!({"nodeSelector": {"matchLabels": {"a": word}}}));
        assert_eq!(ours, value.is_match(word) && word.len() <= 63, "value {word:?}");
        let ours = valid(json!({"collectors": [{"name": word}]}));
        assert_eq!(ours, name.is_match(word) && word.len() <= 63, "collector {word:?}");
    }
}

#[test]
fn equal_selectors_have_one_text_and_one_revision() {
    let labels = json!({"matchLabels": {"team": "web"}, "matchExpressions": [
        {"key": "tier", "operator": "NotIn", "values": ["b", "a", "b"]}, {"key": "old", "operator": "DoesNotExist"},
    ]});
    let expressions = json!({"matchExpressions": [
        {"key": "old", "operator": "DoesNotExist"}, {"key": "team", "operator": "In", "values": ["web"]},
        {"key": "tier", "operator": "NotIn", "values": ["a", "b"]}, {"key": "old", "operator": "DoesNotExist"},
    ]});
    let policy = |selector: &Value| {
        validate(&stored("p", json!({"namespaceSelector": selector, "podSelector": selector}))).unwrap()
    };
    let (one, other) = (policy(&labels), policy(&expressions));
    assert_eq!(canonical_text(one.namespace_selector().unwrap()), "!old,team=web,tier notin (a,b)");
    assert_eq!(one, other);
}

#[test]
fn an_empty_selector_is_none() {
    let none = validate(&stored("p", json!({"namespaceSelector": {}, "nodeSelector": {"matchLabels": {}}})))
        .unwrap();
    assert_eq!((none.namespace_selector(), none.node_selector()), (None, None));
    assert_eq!(none.policy().revision, validate(&stored("q", json!({}))).unwrap().policy().revision);
}

#[test]
fn the_samples_are_valid() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds/samples");
    for entry in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let object: Value = serde_saphyr::from_str(&text).unwrap();
        check(object["spec"].clone(), "valid");
    }
}
