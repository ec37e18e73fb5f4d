//! A label selector as Kubernetes has it, with bounds.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bounds::*;

/// Selects objects by their labels. An object matches when every entry of `matchLabels` and every requirement of
/// `matchExpressions` holds. An empty selector counts as absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LabelSelector {
    /// Labels that an object must have, with exactly these values. At most 16.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend(
        "maxProperties" = MAX_REQUIREMENTS,
        "additionalProperties" = {"type": "string", "maxLength": MAX_LABEL_VALUE, "pattern": LABEL_VALUE},
        "x-kubernetes-validations" = [{
            "rule": "self.all(key, size(key) <= 317)",
            "message": "a key of matchLabels has at most 317 characters",
        }],
    ))]
    pub match_labels: BTreeMap<String, String>,
    /// Requirements on labels, all of which must hold. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_REQUIREMENTS), extend("x-kubernetes-list-type" = "atomic"))]
    pub match_expressions: Vec<SelectorRequirement>,
}

/// One requirement on a label.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "self.operator in ['In', 'NotIn'] ? has(self.values) && size(self.values) > 0 \
             : !has(self.values) || size(self.values) == 0",
    "message": "values must be given for the operators In and NotIn, and must be empty for Exists and DoesNotExist",
    "fieldPath": ".values",
}]))]
pub struct SelectorRequirement {
    /// The label's key, such as `app.kubernetes.io/name`.
    #[schemars(length(max = MAX_LABEL_KEY), regex(pattern = LABEL_KEY))]
    pub key: String,
    /// How the label is judged: `In` and `NotIn` compare with `values`, and an object without the label is `NotIn`
    /// whatever they are; `Exists` and `DoesNotExist` ask for the label alone.
    pub operator: SelectorOperator,
    /// The values for `In` and `NotIn`, of which there must be one at least; none for the other operators. At most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = MAX_VALUES),
        inner(length(max = MAX_LABEL_VALUE), regex(pattern = LABEL_VALUE)),
        extend("x-kubernetes-list-type" = "atomic")
    )]
    pub values: Vec<String>,
}

/// How a label is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "the words of Kubernetes; a text here would turn the enum into a oneOf")]
pub enum SelectorOperator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

impl LabelSelector {
    /// Whether nothing is required, which counts as having no selector.
    pub fn is_empty(&self) -> bool {
        self.match_labels.is_empty() && self.match_expressions.is_empty()
    }
}
