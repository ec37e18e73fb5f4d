//! Families to text: Prometheus 0.0.4 and OpenMetrics 1.0.

use std::collections::HashSet;
use std::ops::Range;

use prometheus::proto::MetricFamily;

use crate::collector::COLLECTORS;
use crate::metric::{FamilyDesc, Kind, Labels, NamedFamily, Sample, Samples, Suffix, identity};
use crate::plan::{Families, Plan};
use crate::transform::{Row, Rows};

/// Which text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Prometheus text 0.0.4
    Text,
    /// OpenMetrics 1.0
    OpenMetrics,
}

impl Format {
    /// The `Content-Type` of an answer.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Text => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Where an exposition is written to.
pub trait Sink {
    /// For what is no series, such as the head of a family; after it another family begins.
    fn text(&mut self) -> &mut Vec<u8>;

    /// Says which rows the lines speak of from now on: their labels are as they were with the same number.
    fn set_rows(&mut self, rows: u64);

    /// One series.
    fn line(&mut self, line: &Line<'_>);
}

impl Sink for Vec<u8> {
    fn text(&mut self) -> &mut Vec<u8> {
        self
    }

    fn set_rows(&mut self, _: u64) {}

    fn line(&mut self, line: &Line<'_>) {
        line.write(self);
    }
}

/// One series, in the pieces that it is made of.
#[derive(Debug)]
pub struct Line<'a> {
    /// The family.
    pub name: &'a str,
    /// What follows it.
    pub suffix: Suffix,
    /// Of a cgroup the slot and its labels, of which there are always some.
    pub row: Option<(usize, &'a [u8])>,
    /// The labels beyond those.
    pub labels: &'a [u8],
    /// Equal where those are.
    pub same_labels: Labels,
    /// The value.
    pub value: f64,
}

impl Line<'_> {
    /// Appends it as text.
    pub fn write(&self, out: &mut Vec<u8>) {
        let Line { name, labels, .. } = *self;
        let row = self.row.map_or(&[][..], |(_, row)| row);
        // One check for all of the pieces, instead of one for each.
        out.reserve(name.len() + row.len() + labels.len() + 40);
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(self.suffix.text().as_bytes());
        if !row.is_empty() || !labels.is_empty() {
            out.push(b'{');
            out.extend_from_slice(row);
            if !row.is_empty() && !labels.is_empty() {
                out.push(b',');
            }
            out.extend_from_slice(labels);
            out.push(b'}');
        }
        out.push(b' ');
        value(out, self.value);
        out.push(b'\n');
    }
}

/// Writes the families of the collectors, then those of the scrape itself, which are numbered `own`, then those whose
/// names were read.
pub fn families(
    out: &mut impl Sink,
    format: Format,
    samples: &Samples,
    rows: &Rows,
    plan: &Plan,
    own: Range<usize>,
    own_families: &[FamilyDesc],
) {
    out.set_rows(rows.number());
    let shared: Vec<(usize, &NamedFamily)> =
        samples.named().filter_map(|named| Some((Families::find(&named.name)?, named))).collect();
    let collectors = COLLECTORS.iter().flat_map(|c| c.families).enumerate();
    for (number, description) in collectors.chain(own.zip(own_families)) {
        let has_head = family(out, format, description, samples, number, rows, plan);
        for (_, named) in shared.iter().filter(|(declared, _)| *declared == number) {
            too(out, format, description, samples, number, named, has_head);
        }
    }
    let is_shared = |named: &NamedFamily| shared.iter().any(|(_, other)| std::ptr::eq(*other, named));
    for named in samples.named().filter(|named| !is_shared(named)) {
        if !named.samples.is_empty() {
            head(out.text(), format, &named.name, named.kind, &named.help);
        }
        for sample in &named.samples {
            line(out, &named.name, None, samples, sample);
        }
    }
}

/// Writes a declared family; tells whether it has any sample.
fn family(
    out: &mut impl Sink,
    format: Format,
    description: &FamilyDesc,
    samples: &Samples,
    number: usize,
    rows: &Rows,
    plan: &Plan,
) -> bool {
    let mut has_head = false;
    for sample in samples.family(number) {
        let row = match sample.subject.slot() {
            None => None,
            Some(slot) => match rows.get(slot) {
                Row::Shown { has_ended: true, .. } if description.kind != Kind::Counter => continue,
                Row::Shown { view, labels, .. } if plan.view(*view).exposes[number] => {
                    Some((slot, &labels[..]))
                }
                _ => continue,
            },
        };
        if !has_head {
            has_head = true;
            head(out.text(), format, description.name, description.kind, description.help);
        }
        line(out, description.name, row, samples, sample);
    }
    has_head
}

/// Writes what somebody adds to a declared family, as a textfile may; of two equal series the collector's stays, and of
/// two types.
fn too(
    out: &mut impl Sink,
    format: Format,
    description: &FamilyDesc,
    samples: &Samples,
    number: usize,
    named: &NamedFamily,
    mut has_head: bool,
) {
    if named.kind != description.kind {
        return;
    }
    let of_node = samples.family(number).iter().filter(|s| s.subject.slot().is_none());
    let known: HashSet<_> = of_node.map(|s| identity(samples.labels(s.labels))).collect();
    for sample in named.samples.iter().filter(|s| !known.contains(&identity(samples.labels(s.labels)))) {
        if !has_head {
            has_head = true;
            head(out.text(), format, description.name, description.kind, description.help);
        }
        line(out, description.name, None, samples, sample);
    }
}

fn line(out: &mut impl Sink, name: &str, row: Option<(usize, &[u8])>, samples: &Samples, sample: &Sample) {
    let Sample { labels: same_labels, suffix, value, .. } = *sample;
    out.line(&Line { name, suffix, row, labels: samples.labels(same_labels), same_labels, value });
}

/// `# HELP` and `# TYPE`. OpenMetrics names a counter's family without `_total`; one whose established name lacks it
/// cannot be a counter there and is typed `unknown`, so that names never change with the format.
fn head(out: &mut Vec<u8>, format: Format, name: &str, kind: Kind, help: &str) {
    let (name, kind) = match (format, kind, name.strip_suffix("_total")) {
        (Format::OpenMetrics, Kind::Counter, Some(base)) => (base, kind.word()),
        (Format::OpenMetrics, Kind::Counter, None) | (Format::OpenMetrics, Kind::Untyped, _) => {
            (name, "unknown")
        }
        _ => (name, kind.word()),
    };
    for (word, text) in [("# HELP ", help), ("# TYPE ", kind)] {
        out.extend_from_slice(word.as_bytes());
        out.extend_from_slice(name.as_bytes());
        out.push(b' ');
        escape(out, text);
        out.push(b'\n');
    }
}

/// Text of a comment; a declared one needs no escaping, one that was read may.
fn escape(out: &mut Vec<u8>, text: &str) {
    for piece in text.split_inclusive(['\\', '\n']) {
        let (plain, end) = match piece.as_bytes() {
            [plain @ .., b'\\'] => (plain, &b"\\\\"[..]),
            [plain @ .., b'\n'] => (plain, &b"\\n"[..]),
            plain => (plain, &b""[..]),
        };
        out.extend_from_slice(plain);
        out.extend_from_slice(end);
    }
}

/// A value as both formats take it: whole numbers without a point, the rest in the shortest form that reads back.
pub fn value(out: &mut Vec<u8>, value: f64) {
    // Beyond 2^53 not every whole number is a float, and digits would promise more than there is.
    if value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0 {
        out.extend_from_slice(itoa::Buffer::new().format(value as i64).as_bytes());
    } else if value.is_finite() {
        out.extend_from_slice(ryu::Buffer::new().format_finite(value).as_bytes());
    } else if value.is_nan() {
        out.extend_from_slice(b"NaN");
    } else {
        out.extend_from_slice(if value > 0.0 { b"+Inf" } else { b"-Inf" });
    }
}

/// Writes the agent's own metrics.
pub fn own(out: &mut Vec<u8>, format: Format, families: &[MetricFamily]) {
    for family in families {
        let kind = match family.get_field_type() {
            prometheus::proto::MetricType::COUNTER => Kind::Counter,
            _ => Kind::Gauge,
        };
        head(out, format, family.name(), kind, family.help());
        for metric in family.get_metric() {
            out.extend_from_slice(family.name().as_bytes());
            if !metric.get_label().is_empty() {
                out.push(b'{');
                for (i, label) in metric.get_label().iter().enumerate() {
                    if i > 0 {
                        out.push(b',');
                    }
                    crate::metric::push_label(out, label.name(), label.value());
                }
                out.push(b'}');
            }
            out.push(b' ');
            let number = if kind == Kind::Counter {
                metric.get_counter().get_value()
            } else {
                metric.get_gauge().get_value()
            };
            value(out, number);
            out.push(b'\n');
        }
    }
}

/// Writes the end, which OpenMetrics wants so that a cut answer shows.
pub fn end(out: &mut Vec<u8>, format: Format) {
    if format == Format::OpenMetrics {
        out.extend_from_slice(b"# EOF\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(number: f64, expected: &str) {
        let mut out = Vec::new();
        value(&mut out, number);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn values_read_back_as_they_are() {
        check(0.0, "0");
        check(-1.0, "-1");
        check(9_007_199_254_740_991.0, "9007199254740991");
        check(0.1, "0.1");
        check(1e300, "1e300");
        check(f64::NAN, "NaN");
        check(f64::INFINITY, "+Inf");
        check(f64::NEG_INFINITY, "-Inf");
    }

    #[test]
    fn names_never_change_with_the_format() {
        let text = |format, name: &str| {
            let mut out = Vec::new();
            head(&mut out, format, name, Kind::Counter, "Help.");
            String::from_utf8(out).unwrap()
        };
        assert_eq!(text(Format::Text, "a_total"), "# HELP a_total Help.\n# TYPE a_total counter\n");
        assert_eq!(text(Format::OpenMetrics, "a_total"), "# HELP a Help.\n# TYPE a counter\n");
        assert_eq!(text(Format::OpenMetrics, "a"), "# HELP a Help.\n# TYPE a unknown\n");
    }

    #[test]
    fn help_that_was_read_is_escaped() {
        let mut out = Vec::new();
        head(&mut out, Format::Text, "a", Kind::Untyped, "C:\\x\ny");
        assert_eq!(String::from_utf8(out).unwrap(), "# HELP a C:\\\\x\\ny\n# TYPE a untyped\n");
    }
}
