//! Writes the field reference from the schema.

use std::fmt::Write as _;

use crds::Reason;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};

/// The reference as Markdown.
pub(crate) fn reference(crd: &CustomResourceDefinition) -> String {
    let mut text = String::from(
        "# Field reference\n\n\
         Generated from `crds/src` by `just generate`. The same texts are shown by `kubectl explain`.\n",
    );
    for version in &crd.spec.versions {
        let schema = version.schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
        let kind = &crd.spec.names.kind;
        let _ = writeln!(text, "\n## {kind} ({}/{})\n", crd.spec.group, version.name);
        let _ = writeln!(text, "{}\n", sentence(schema));
        for part in ["spec", "status"] {
            let _ = writeln!(text, "### {part}\n\n| field | type | bounds | default | description |");
            let _ = writeln!(text, "|---|---|---|---|---|");
            rows(&mut text, part, &schema.properties.as_ref().unwrap()[part]);
            text.push('\n');
        }
    }
    text.push_str("## Reasons of the conditions\n\n| reason | meaning |\n|---|---|\n");
    for reason in Reason::ALL {
        let _ = writeln!(text, "| `{reason}` | {} |", reason.meaning());
    }
    text
}

fn rows(text: &mut String, path: &str, schema: &JSONSchemaProps) {
    let (kind, bounds) = (kind(schema), bounds(schema).join("; "));
    let default = schema.default.as_ref().map(|v| format!("`{}`", v.0)).unwrap_or_default();
    let _ = writeln!(text, "| `{path}` | {kind} | {bounds} | {default} | {} |", sentence(schema));
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
        fields(text, &format!("{path}[]"), items);
    }
    fields(text, path, schema);
}

fn fields(text: &mut String, path: &str, schema: &JSONSchemaProps) {
    for (name, field) in schema.properties.iter().flatten() {
        rows(text, &format!("{path}.{name}"), field);
    }
}

fn kind(schema: &JSONSchemaProps) -> String {
    let name = schema.type_.as_deref().unwrap_or("any");
    match (&schema.items, &schema.additional_properties) {
        (Some(JSONSchemaPropsOrArray::Schema(items)), _) => format!("list of {}", kind(items)),
        (_, Some(JSONSchemaPropsOrBool::Schema(values))) => format!("map of {}", kind(values)),
        _ => name.to_owned(),
    }
}

/// What the schema and its items or values demand.
fn bounds(schema: &JSONSchemaProps) -> Vec<String> {
    let mut bounds = Vec::new();
    bounds.extend(schema.minimum.map(|n| format!("at least {n}")));
    bounds.extend(schema.maximum.map(|n| format!("at most {n}")));
    bounds.extend(schema.min_length.map(|n| format!("at least {n} characters")));
    bounds.extend(schema.max_length.map(|n| format!("at most {n} characters")));
    bounds.extend(schema.max_items.or(schema.max_properties).map(|n| format!("at most {n} entries")));
    bounds.extend(schema.pattern.as_deref().map(|pattern| match pattern {
        crds::LABEL_KEY => "a label's key".to_owned(),
        crds::LABEL_VALUE => "a label's value".to_owned(),
        other => format!("`{}`", other.replace('|', "\\|")),
    }));
    bounds.extend(schema.enum_.as_ref().map(|words| {
        let words = words.iter().map(|w| format!("`{}`", w.0.as_str().unwrap()));
        format!("one of {}", words.collect::<Vec<_>>().join(", "))
    }));
    let inner = match (&schema.items, &schema.additional_properties) {
        (Some(JSONSchemaPropsOrArray::Schema(inner)), _)
        | (_, Some(JSONSchemaPropsOrBool::Schema(inner))) => inner,
        _ => return bounds,
    };
    let inner = self::bounds(inner);
    if !inner.is_empty() {
        bounds.push(format!("each {}", inner.join(", ")));
    }
    bounds
}

fn sentence(schema: &JSONSchemaProps) -> String {
    let text = schema.description.as_deref().unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}
