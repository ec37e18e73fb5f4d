//! The text of a textfile to families: Prometheus' text format as node_exporter takes it there.

use std::borrow::Cow;
use std::collections::HashMap;

use super::family::{Family, Label};
use crate::metric::{Kind, Suffix};

/// A family as its lines have it.
pub(super) struct Draft<'a> {
    pub(super) name: &'a str,
    /// Nothing until a line says so or a sample settles it.
    pub(super) kind: Option<Kind>,
    pub(super) help: Option<String>,
    pub(super) samples: Vec<DraftSample<'a>>,
}

/// One line with a value.
pub(super) struct DraftSample<'a> {
    /// Without the `quantile` of a summary and the `le` of a histogram.
    pub(super) labels: Vec<Label<'a>>,
    pub(super) suffix: Suffix,
    /// The quantile, or the bucket's upper bound.
    pub(super) bound: Option<f64>,
    pub(super) value: f64,
    pub(super) line: usize,
}

/// The families of a text, in the order in which they appear.
///
/// # Errors
/// A sentence that names the line; nothing of such a text is of use.
pub(super) fn parse(text: &[u8]) -> Result<Vec<Family>, String> {
    let mut drafts = Drafts::default();
    let mut rest = text;
    let mut number = 0;
    loop {
        number += 1;
        let Some(end) = rest.iter().position(|b| *b == b'\n') else { break };
        drafts.line(&rest[..end], number).map_err(|what| format!("line {number}: {what}"))?;
        rest = &rest[end + 1..];
    }
    if !skip_blanks(rest).is_empty() {
        return Err(format!("line {number}: ends without a newline; it may be cut off"));
    }
    drafts.list.into_iter().filter(|draft| !draft.samples.is_empty()).map(Family::new).collect()
}

#[derive(Default)]
struct Drafts<'a> {
    list: Vec<Draft<'a>>,
    places: HashMap<&'a str, usize>,
}

impl<'a> Drafts<'a> {
    fn line(&mut self, line: &'a [u8], number: usize) -> Result<(), String> {
        match skip_blanks(line) {
            [] => Ok(()),
            [b'#', comment @ ..] => self.comment(comment),
            sample => self.sample(sample, number),
        }
    }

    /// `HELP name text` or `TYPE name word`; any other comment says nothing.
    fn comment(&mut self, comment: &'a [u8]) -> Result<(), String> {
        let (word, rest) = token(skip_blanks(comment));
        if word != b"HELP" && word != b"TYPE" {
            return Ok(());
        }
        let (name, rest) = name(skip_blanks(rest), true);
        let text = skip_blanks(rest);
        if rest.is_empty() {
            return Ok(());
        }
        if text.len() == rest.len() {
            return Err("a comment with a name that no metric can have".to_owned());
        }
        let (family, _) = self.family(name);
        if text.is_empty() {
            return Ok(());
        }
        if word == b"HELP" {
            if family.help.is_some() {
                return Err(format!("a second HELP of {}", family.name));
            }
            let text = unescape(text, true)?;
            family.help = Some(String::from_utf8_lossy(&text).into_owned());
        } else {
            if family.kind.is_some() {
                return Err(format!("a second TYPE of {}, or one after its samples", family.name));
            }
            family.kind = Some(kind(text)?);
        }
        Ok(())
    }

    /// `name{label="value",…} value`
    fn sample(&mut self, line: &'a [u8], number: usize) -> Result<(), String> {
        let (name, rest) = name(line, true);
        if name.is_empty() {
            return Err(format!("`{}` is no name of a metric", String::from_utf8_lossy(token(line).0)));
        }
        let (family, suffix) = self.family(name);
        let kind = *family.kind.get_or_insert(Kind::Untyped);
        let (labels, rest) = match skip_blanks(rest) {
            [b'{', inside @ ..] => labels(inside)?,
            rest => (Vec::new(), rest),
        };
        let mut sample = DraftSample { labels: Vec::new(), suffix, bound: None, value: 0.0, line: number };
        for (name, value) in labels {
            if matches!((kind, name), (Kind::Summary, "quantile") | (Kind::Histogram, "le")) {
                let bound = float(value.as_bytes());
                sample.bound = Some(bound.ok_or_else(|| format!("{name}=\"{value}\" is not a number"))?);
            } else if name.starts_with("__") {
                return Err(format!("the label `{name}` is Prometheus' own"));
            } else if sample.labels.iter().any(|(other, _)| *other == name) {
                return Err(format!("the label `{name}` is there twice"));
            } else {
                sample.labels.push((name, value));
            }
        }
        let (value, rest) = token(skip_blanks(rest));
        sample.value =
            float(value).ok_or_else(|| format!("`{}` is not a number", String::from_utf8_lossy(value)))?;
        // node_exporter refuses a blank at the end of a line, too.
        if !rest.is_empty() {
            return Err("something follows the value; timestamps are not taken here".to_owned());
        }
        family.samples.push(sample);
        Ok(())
    }

    /// The family that a name belongs to: the sum of a summary is not one of its own.
    fn family(&mut self, name: &'a str) -> (&mut Draft<'a>, Suffix) {
        if !self.places.contains_key(name) {
            for suffix in [Suffix::Count, Suffix::Sum, Suffix::Bucket] {
                let base = name.strip_suffix(suffix.text()).and_then(|base| self.places.get(base));
                let Some(place) = base.copied() else { continue };
                match (self.list[place].kind, suffix) {
                    (Some(Kind::Histogram), _) | (Some(Kind::Summary), Suffix::Count | Suffix::Sum) => {
                        return (&mut self.list[place], suffix);
                    }
                    _ => {}
                }
            }
            self.places.insert(name, self.list.len());
            self.list.push(Draft { name, kind: None, help: None, samples: Vec::new() });
        }
        let place = self.places[name];
        (&mut self.list[place], Suffix::None)
    }
}

fn kind(word: &[u8]) -> Result<Kind, String> {
    let kinds = [Kind::Counter, Kind::Gauge, Kind::Summary, Kind::Histogram, Kind::Untyped];
    kinds
        .into_iter()
        .find(|kind| word.eq_ignore_ascii_case(kind.word().as_bytes()))
        .ok_or_else(|| format!("`{}` is no type of metric", String::from_utf8_lossy(word)))
}

/// The labels after an opening brace, and what follows the closing one.
fn labels(text: &[u8]) -> Result<(Vec<Label<'_>>, &[u8]), String> {
    let mut labels = Vec::new();
    let mut rest = skip_blanks(text);
    loop {
        if let [b'}', after @ ..] = rest {
            return Ok((labels, after));
        }
        let (name, after) = name(rest, false);
        if name.is_empty() {
            return Err("a label without a name, or braces that are not closed".to_owned());
        }
        let [b'=', after @ ..] = skip_blanks(after) else {
            return Err(format!("no `=` after the label `{name}`"));
        };
        let [b'"', after @ ..] = skip_blanks(after) else {
            return Err(format!("the value of the label `{name}` is not in quotes"));
        };
        let end = closing_quote(after).ok_or_else(|| format!("the label `{name}` has no closing quote"))?;
        let value = match unescape(&after[..end], false)? {
            Cow::Borrowed(value) => std::str::from_utf8(value).ok().map(Cow::Borrowed),
            Cow::Owned(value) => String::from_utf8(value).ok().map(Cow::Owned),
        };
        let value = value.ok_or_else(|| format!("the value of the label `{name}` is not UTF-8"))?;
        labels.push((name, value));
        rest = match skip_blanks(&after[end + 1..]) {
            [b',', after @ ..] => skip_blanks(after),
            rest @ [b'}', ..] => rest,
            _ => return Err(format!("neither a comma nor a brace after the label `{name}`")),
        };
    }
}

fn closing_quote(text: &[u8]) -> Option<usize> {
    let mut is_escaped = false;
    text.iter().position(|b| {
        let is_end = *b == b'"' && !is_escaped;
        is_escaped = *b == b'\\' && !is_escaped;
        is_end
    })
}

/// Text with `\\`, `\n` and `\"` as what they stand for; at the end of a HELP a lone backslash is nothing.
fn unescape(text: &[u8], is_help: bool) -> Result<Cow<'_, [u8]>, String> {
    if !text.contains(&b'\\') {
        return Ok(Cow::Borrowed(text));
    }
    let mut plain = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match (byte, bytes.as_slice()) {
            (b'\\', [b'n', ..]) => plain.push(b'\n'),
            (b'\\', [escaped @ (b'\\' | b'"'), ..]) => plain.push(*escaped),
            (b'\\', []) if is_help => return Err("a backslash at the end of a line".to_owned()),
            (b'\\', [other, ..]) => return Err(format!("`\\{}` stands for nothing", other.escape_ascii())),
            (other, _) => {
                plain.push(*other);
                continue;
            }
        }
        bytes.next();
    }
    Ok(Cow::Owned(plain))
}

/// A number as Go reads it: no sign on NaN, and nothing that is too large to be one.
fn float(word: &[u8]) -> Option<f64> {
    let word = std::str::from_utf8(word).ok()?;
    let value: f64 = word.parse().ok()?;
    let is_right = match value {
        _ if value.is_nan() => !word.starts_with(['+', '-']),
        _ if value.is_infinite() => !word.contains(|c: char| c.is_ascii_digit()),
        _ => true,
    };
    is_right.then_some(value)
}

/// The longest name at the start of a text; only those of metrics may have colons.
fn name(text: &[u8], is_metric: bool) -> (&str, &[u8]) {
    let is_part = |at: usize, b: u8| match b {
        b'a'..=b'z' | b'A'..=b'Z' | b'_' => true,
        b'0'..=b'9' => at > 0,
        b':' => is_metric,
        _ => false,
    };
    let end = text.iter().enumerate().position(|(at, b)| !is_part(at, *b)).unwrap_or(text.len());
    (std::str::from_utf8(&text[..end]).unwrap_or_default(), &text[end..])
}

/// The text up to the next blank, and the rest from there.
fn token(text: &[u8]) -> (&[u8], &[u8]) {
    text.split_at(text.iter().position(|b| is_blank(*b)).unwrap_or(text.len()))
}

fn skip_blanks(text: &[u8]) -> &[u8] {
    &text[text.iter().position(|b| !is_blank(*b)).unwrap_or(text.len())..]
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

#[cfg(test)]
mod tests;
