//! One family of a textfile as it will be written: labels completed, sorted and escaped, each series once.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::Write as _;

use super::parse::{Draft, DraftSample};
use crate::metric::{Kind, Suffix, identity, push_label};

/// Name and value.
pub(super) type Label<'a> = (&'a str, Cow<'a, str>);

/// A family of one file.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) help: Option<String>,
    series: Vec<Series>,
    /// The labels of all series, one after the other.
    text: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Series {
    end: usize,
    suffix: Suffix,
    value: f64,
}

impl Family {
    /// The family of these lines. As in node_exporter, all of its series have the same labels: what one of them lacks
    /// is there empty.
    pub(super) fn new(draft: Draft<'_>) -> Result<Self, String> {
        let kind = draft.kind.unwrap_or(Kind::Untyped);
        let names: BTreeSet<&str> =
            draft.samples.iter().flat_map(|s| s.labels.iter().map(|(name, _)| *name)).collect();
        let mut family = Family {
            name: draft.name.to_owned(),
            kind,
            help: draft.help,
            series: Vec::new(),
            text: Vec::new(),
        };
        match kind {
            Kind::Summary | Kind::Histogram => family.add_groups(&names, &draft.samples)?,
            _ => {
                for sample in &draft.samples {
                    family.add(&block(&names, sample), None, Suffix::None, sample.value);
                }
            }
        }
        let mut seen = HashSet::new();
        for (labels, suffix, _) in family.series() {
            if !seen.insert((suffix, identity(labels))) {
                return Err(format!("{} is there twice", family.spell(labels, suffix)));
            }
        }
        Ok(family)
    }

    /// The series: labels, suffix and value.
    pub(super) fn series(&self) -> impl Iterator<Item = (&[u8], Suffix, f64)> {
        let starts = std::iter::once(0).chain(self.series.iter().map(|series| series.end));
        starts.zip(&self.series).map(|(start, s)| (&self.text[start..s.end], s.suffix, s.value))
    }

    /// A series as it is written, for people.
    pub(super) fn spell(&self, labels: &[u8], suffix: Suffix) -> String {
        format!("{}{}{{{}}}", self.name, suffix.text(), String::from_utf8_lossy(labels))
    }

    /// Every name that its series have; no other family may have one of these.
    pub(super) fn names(&self) -> impl Iterator<Item = String> {
        let suffixes: &[Suffix] = match self.kind {
            Kind::Summary => &[Suffix::None, Suffix::Sum, Suffix::Count],
            Kind::Histogram => &[Suffix::None, Suffix::Bucket, Suffix::Sum, Suffix::Count],
            _ => &[Suffix::None],
        };
        suffixes.iter().map(|suffix| format!("{}{}", self.name, suffix.text()))
    }

    /// A summary or histogram is one for each set of labels, whatever the order of its lines.
    fn add_groups(&mut self, names: &BTreeSet<&str>, samples: &[DraftSample<'_>]) -> Result<(), String> {
        #[derive(Default)]
        struct Group {
            values: Vec<(f64, f64)>,
            sum: Option<f64>,
            count: Option<f64>,
        }
        let mut groups = BTreeMap::<Vec<u8>, Group>::new();
        for sample in samples {
            let labels = block(names, sample);
            let twice =
                format!("line {}: {} is there twice", sample.line, self.spell(&labels, sample.suffix));
            let is_count = self.kind == Kind::Histogram && sample.suffix != Suffix::Sum;
            if is_count && sample.value < 0.0 {
                return Err(format!("line {}: a histogram counts nothing below zero", sample.line));
            }
            let group = groups.entry(labels).or_default();
            let is_first = match (sample.suffix, sample.bound) {
                (Suffix::Sum, _) => group.sum.replace(sample.value).is_none(),
                (Suffix::Count, _) => group.count.replace(sample.value).is_none(),
                (_, Some(bound)) if !bound.is_nan() => {
                    let is_first = group.values.iter().all(|(other, _)| *other != bound);
                    group.values.push((bound, sample.value));
                    is_first
                }
                // Says that there is such a group, and no more.
                _ => true,
            };
            if !is_first {
                return Err(twice);
            }
        }
        let (label, suffix) = match self.kind {
            Kind::Histogram => ("le", Suffix::Bucket),
            _ => ("quantile", Suffix::None),
        };
        for (labels, mut group) in groups {
            let count = group.count.unwrap_or(0.0);
            group.values.sort_by(|a, b| a.0.total_cmp(&b.0));
            if self.kind == Kind::Histogram
                && group.values.last().is_none_or(|(bound, _)| *bound != f64::INFINITY)
            {
                group.values.push((f64::INFINITY, count));
            }
            for (bound, value) in group.values {
                self.add(&labels, Some((label, bound)), suffix, value);
            }
            self.add(&labels, None, Suffix::Sum, group.sum.unwrap_or(0.0));
            self.add(&labels, None, Suffix::Count, count);
        }
        Ok(())
    }

    fn add(&mut self, labels: &[u8], bound: Option<(&str, f64)>, suffix: Suffix, value: f64) {
        self.text.extend_from_slice(labels);
        if let Some((name, bound)) = bound {
            if !labels.is_empty() {
                self.text.push(b',');
            }
            push_label(&mut self.text, name, &go_float(bound));
        }
        self.series.push(Series { end: self.text.len(), suffix, value });
    }
}

/// The sample's labels with all of these names, escaped.
fn block(names: &BTreeSet<&str>, sample: &DraftSample<'_>) -> Vec<u8> {
    let mut text = Vec::new();
    for name in names {
        if !text.is_empty() {
            text.push(b',');
        }
        let value = sample.labels.iter().find(|(other, _)| other == name);
        push_label(&mut text, name, value.map_or("", |(_, value)| value));
    }
    text
}

/// A number as node_exporter writes it in a label: Go's shortest form, with an exponent from a million on and below a
/// ten-thousandth.
fn go_float(number: f64) -> String {
    if !number.is_finite() {
        return if number.is_nan() {
            "NaN"
        } else if number > 0.0 {
            "+Inf"
        } else {
            "-Inf"
        }
        .to_owned();
    }
    let scientific = format!("{number:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..6).contains(&exponent) {
        return number.to_string();
    }
    let mut text = digits.to_owned();
    // Writing to memory does not fail.
    let _ = write!(text, "e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_written_as_go_writes_them() {
        let cases = [
            (123_456.0, "123456"),
            (1e6, "1e+06"),
            (26_214_400.0, "2.62144e+07"),
            (1e21, "1e+21"),
            (0.5, "0.5"),
            (0.0001, "0.0001"),
            (0.000_015, "1.5e-05"),
            (-2.5e8, "-2.5e+08"),
            (f64::INFINITY, "+Inf"),
        ];
        for (number, expected) in cases {
            assert_eq!(go_float(number), expected);
        }
    }
}
