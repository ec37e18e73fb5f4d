//! What two expositions of the same node differ in, and which of it is an accepted difference.

mod accepted;
pub mod command;
mod exposition;
mod report;

use std::fmt;

pub use accepted::{Accepted, Side, accepted};
pub use exposition::{Exposition, Family, Labels, parse};
pub use report::{Report, report};

/// One thing that the two do not agree in.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// The family's name.
    pub family: String,
    /// The labels of the series; none where the whole family differs.
    pub labels: Labels,
    /// What is different.
    pub what: What,
}

/// What is different.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// They have the series, we have not.
    Missing,
    /// We have the series, they have not.
    Extra,
    /// The family has another type: theirs, then ours.
    Type(String, String),
    /// The series has another value: theirs, then ours.
    Value(f64, f64),
}

impl What {
    /// Where the table of accepted differences has it.
    pub fn side(&self) -> Side {
        match self {
            What::Missing => Side::Theirs,
            What::Extra => Side::Ours,
            What::Type(..) => Side::Type,
            What::Value(..) => Side::Value,
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.family)?;
        if !self.labels.is_empty() {
            let labels: Vec<_> =
                self.labels.iter().map(|(label, value)| format!("{label}={value:?}")).collect();
            write!(f, "{{{}}}", labels.join(","))?;
        }
        match &self.what {
            What::Missing => write!(f, ": missing"),
            What::Extra => write!(f, ": extra"),
            What::Type(theirs, ours) => write!(f, ": a {theirs} there, a {ours} here"),
            What::Value(theirs, ours) => write!(f, ": {theirs} there, {ours} here"),
        }
    }
}

/// Everything that differs, by family; values only where `same` says that theirs and ours are not the same for the
/// family. An empty label is none, as Prometheus has it.
pub fn differences(
    theirs: &Exposition,
    ours: &Exposition,
    same: impl Fn(&str, f64, f64) -> bool,
) -> Vec<Difference> {
    let mut found = Vec::new();
    let nothing = Family::default();
    let (theirs, ours) = (&without_empty_labels(theirs), &without_empty_labels(ours));
    for (name, family) in theirs {
        let other = ours.get(name).unwrap_or(&nothing);
        let difference =
            |labels: &Labels, what| Difference { family: name.clone(), labels: labels.clone(), what };
        if !other.series.is_empty() && !family.series.is_empty() && family.kind != other.kind {
            found.push(difference(&Labels::new(), What::Type(family.kind.clone(), other.kind.clone())));
        }
        for (labels, value) in &family.series {
            match other.series.get(labels) {
                None => found.push(difference(labels, What::Missing)),
                Some(ours) if !same(name, *value, *ours) => {
                    found.push(difference(labels, What::Value(*value, *ours)));
                }
                Some(_) => {}
            }
        }
    }
    for (name, family) in ours {
        let other = theirs.get(name).unwrap_or(&nothing);
        for labels in family.series.keys().filter(|labels| !other.series.contains_key(*labels)) {
            found.push(Difference { family: name.clone(), labels: labels.clone(), what: What::Extra });
        }
    }
    found
}

fn without_empty_labels(exposition: &Exposition) -> Exposition {
    let series = |(labels, value): (&Labels, &f64)| {
        (labels.iter().filter(|(_, value)| !value.is_empty()).cloned().collect(), *value)
    };
    let family = |(name, family): (&String, &Family)| {
        (name.clone(), Family { series: family.series.iter().map(series).collect(), ..family.clone() })
    };
    exposition.iter().map(family).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_difference_is_found() {
        let theirs = parse("# TYPE a gauge\na{x=\"1\"} 1\na{x=\"2\"} 2\n# TYPE b counter\nb 1\n").unwrap();
        let ours = parse("# TYPE a gauge\na{x=\"1\"} 3\na{x=\"4\"} 2\n# TYPE b gauge\nb 1\n").unwrap();
        let found: Vec<_> =
            differences(&theirs, &ours, |_, a, b| a == b).iter().map(Difference::to_string).collect();
        let expected = [
            "a{x=\"1\"}: 1 there, 3 here",
            "a{x=\"2\"}: missing",
            "b: a counter there, a gauge here",
            "a{x=\"4\"}: extra",
        ];
        assert_eq!(found, expected);
        let empty = parse("# TYPE b gauge\nb{x=\"\"} 1\n").unwrap();
        let only_b = ours.into_iter().filter(|(name, _)| name == "b").collect();
        assert_eq!(differences(&empty, &only_b, |_, a, b| a == b), []);
    }
}
