//! Checks a label selector, and gives it the one form and the one text that equal selectors share.

use std::collections::BTreeSet;

use crds::{Reason, SelectorOperator};
use protocol::{LabelOperator, LabelRequirement, LabelSelector};

use super::{Rejection, at_most, reject};

/// The selector as it is judged: `matchLabels` as requirements, sorted, nothing twice. None where it is empty.
pub(super) fn selector(
    field: &str,
    selector: &crds::LabelSelector,
) -> Result<Option<LabelSelector>, Rejection> {
    let labels = format!("{field}.matchLabels");
    let expressions = format!("{field}.matchExpressions");
    at_most(&labels, selector.match_labels.len(), crds::MAX_REQUIREMENTS, "labels")?;
    at_most(&expressions, selector.match_expressions.len(), crds::MAX_REQUIREMENTS, "requirements")?;
    let mut requirements = Vec::new();
    for (key, value) in &selector.match_labels {
        requirements.push(requirement(&labels, key, LabelOperator::In, std::slice::from_ref(value))?);
    }
    for (i, expression) in selector.match_expressions.iter().enumerate() {
        let field = format!("{expressions}[{i}]");
        let operator = match expression.operator {
            SelectorOperator::In => LabelOperator::In,
            SelectorOperator::NotIn => LabelOperator::NotIn,
            SelectorOperator::Exists => LabelOperator::Exists,
            SelectorOperator::DoesNotExist => LabelOperator::DoesNotExist,
        };
        requirements.push(requirement(&field, &expression.key, operator, &expression.values)?);
    }
    requirements.sort_by_key(text);
    requirements.dedup();
    Ok(Some(requirements).filter(|r| !r.is_empty()).map(|requirements| LabelSelector { requirements }))
}

/// The selector as `kubectl --selector` takes it; equal selectors have equal texts.
pub fn canonical_text(selector: &LabelSelector) -> String {
    selector.requirements.iter().map(text).collect::<Vec<_>>().join(",")
}

/// Whether a label may have this key: a name, or a DNS name, a slash and a name.
pub(super) fn is_label_key(key: &str) -> bool {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    !name.is_empty() && is_label_value(name) && prefix.is_none_or(is_dns_name)
}

fn is_label_value(value: &str) -> bool {
    let within = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let ends = |b: Option<&u8>| b.is_none_or(u8::is_ascii_alphanumeric);
    let bytes = value.as_bytes();
    bytes.len() <= crds::MAX_LABEL_VALUE
        && ends(bytes.first())
        && ends(bytes.last())
        && bytes.iter().copied().all(within)
}

fn is_dns_name(name: &str) -> bool {
    let end = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    name.len() <= 253
        && name.split('.').all(|part| {
            let bytes = part.as_bytes();
            end(bytes.first()) && end(bytes.last()) && bytes.iter().all(|b| *b == b'-' || end(Some(b)))
        })
}

fn requirement(
    field: &str,
    key: &str,
    operator: LabelOperator,
    values: &[String],
) -> Result<LabelRequirement, Rejection> {
    let invalid = |message: String| Err(reject(field, Reason::InvalidSelector, message));
    if !is_label_key(key) {
        return invalid(format!("`{key}` is not the key of a label"));
    }
    at_most(field, values.len(), crds::MAX_VALUES, "values")?;
    if let Some(value) = values.iter().find(|v| !is_label_value(v)) {
        return invalid(format!("`{value}` is not the value of a label"));
    }
    match (operator, values) {
        (LabelOperator::In | LabelOperator::NotIn, []) => return invalid("values must be given".to_owned()),
        (LabelOperator::Exists | LabelOperator::DoesNotExist, [_, ..]) => {
            return invalid("values must be empty for Exists and DoesNotExist".to_owned());
        }
        _ => {}
    }
    let values: BTreeSet<_> = values.iter().cloned().collect();
    Ok(LabelRequirement { key: key.to_owned(), operator, values: values.into_iter().collect() })
}

fn text(requirement: &LabelRequirement) -> String {
    let LabelRequirement { key, operator, values } = requirement;
    match (operator, values.as_slice()) {
        (LabelOperator::In, [value]) => format!("{key}={value}"),
        (LabelOperator::NotIn, [value]) => format!("{key}!={value}"),
        (LabelOperator::In, values) => format!("{key} in ({})", values.join(",")),
        (LabelOperator::NotIn, values) => format!("{key} notin ({})", values.join(",")),
        (LabelOperator::Exists, _) => key.clone(),
        (LabelOperator::DoesNotExist, _) => format!("!{key}"),
    }
}
