//! The committed YAML and field reference are those of the types; `UPDATE_EXPECT=1` writes them.

use std::path::Path;

use crds::ExporterPolicy;
use kube::CustomResourceExt;

use crate::reference::reference;

#[test]
fn the_yaml_is_that_of_the_types() {
    let yaml = serde_saphyr::to_string(&ExporterPolicy::crd()).unwrap();
    let text = format!("# Generated from crds/src by `just generate`.\n{yaml}");
    expect_test::expect_file![committed("exporterpolicies.yaml")].assert_eq(&text);
}

#[test]
fn the_field_reference_is_that_of_the_types() {
    expect_test::expect_file![committed("REFERENCE.md")].assert_eq(&reference(&ExporterPolicy::crd()));
}

#[test]
fn the_group_is_that_of_the_constant() {
    assert_eq!(ExporterPolicy::crd().spec.group, crds::GROUP);
}

fn committed(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}
