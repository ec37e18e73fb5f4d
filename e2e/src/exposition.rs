//! Reads what an exporter exposes, the text format 0.0.4, for tests and for people.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};

/// One line with a value.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Its name, with suffixes such as `_bucket`.
    pub name: String,
    /// Its labels, empty values included.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

impl Sample {
    /// The value of a label; empty when it is absent, as Prometheus has it.
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }

    /// True when it has all of these labels with these values.
    pub fn has(&self, labels: &[(&str, &str)]) -> bool {
        labels.iter().all(|&(name, value)| self.label(name) == value)
    }
}

/// Everything that one scrape returned.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Exposition {
    samples: Vec<Sample>,
}

impl Exposition {
    /// Reads it.
    pub fn parse(text: &str) -> Result<Self> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let samples: Result<_> =
            lines.map(|line| sample(line).with_context(|| format!("not a sample: {line}"))).collect();
        Ok(Self { samples: samples? })
    }

    /// All samples.
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// Samples of this name with these labels.
    pub fn select(&self, name: &str, labels: &[(&str, &str)]) -> Vec<&Sample> {
        self.samples.iter().filter(|sample| sample.name == name && sample.has(labels)).collect()
    }

    /// The only sample of this name with these labels; an error when there is none or more than one.
    pub fn one(&self, name: &str, labels: &[(&str, &str)]) -> Result<&Sample> {
        match self.select(name, labels).as_slice() {
            [only] => Ok(only),
            found => bail!("{} samples {name} with {labels:?}, not one", found.len()),
        }
    }

    /// True when any sample has this name.
    pub fn has(&self, name: &str) -> bool {
        self.samples.iter().any(|sample| sample.name == name)
    }
}

fn sample(line: &str) -> Option<Sample> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            rest = rest.trim_start_matches([',', ' ']);
            if let Some(after) = rest.strip_prefix('}') {
                rest = after;
                break;
            }
            let (label, after) = rest.split_once("=\"")?;
            let (value, after) = quoted(after)?;
            labels.insert(label.to_owned(), value);
            rest = after;
        }
    }
    // A timestamp may follow.
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Sample { name: name.to_owned(), labels, value })
}

/// The text up to the closing quote, without its escapes, and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match characters.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_escapes_infinities_and_timestamps_are_read() {
        let text = "# TYPE a counter\na 1\nb_bucket{le=\"+Inf\",path=\"c:\\\\\\\"x\\\"\\n, }\"} +Inf 1700\n";
        let exposition = Exposition::parse(text).unwrap();
        assert_eq!(exposition.one("a", &[]).unwrap().value, 1.0);
        let bucket = exposition.one("b_bucket", &[("le", "+Inf")]).unwrap();
        assert_eq!(bucket.label("path"), "c:\\\"x\"\n, }");
        assert_eq!(bucket.value, f64::INFINITY);
    }

    #[test]
    fn a_line_that_is_no_sample_is_named() {
        let error = Exposition::parse("a{b=\"c} 1").unwrap_err();
        assert!(error.to_string().contains("a{b=\"c} 1"), "{error}");
    }
}
