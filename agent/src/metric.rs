//! What a scrape gathers: families, and samples under them.

mod fields;
mod label;
mod named;
#[cfg(test)]
pub(crate) mod shown;
mod writer;

use std::collections::HashSet;

use protocol::FamilySelector;

pub(crate) use fields::Fields;
pub use label::{identity, push_label};
use named::NamedFamilies;
pub use named::{Named, NamedFamily};
pub use writer::Writer;

/// How Prometheus reads a family's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, or starts again at zero.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Quantiles, with a sum and a count; only of textfiles.
    Summary,
    /// Buckets, with a sum and a count; only of textfiles.
    Histogram,
    /// Nobody says.
    Untyped,
}

impl Kind {
    /// The word in a `# TYPE` line.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Summary => "summary",
            Kind::Histogram => "histogram",
            Kind::Untyped => "untyped",
        }
    }
}

/// A family as it is declared by the collector that yields it.
#[derive(Debug, PartialEq, Eq)]
pub struct FamilyDesc {
    /// The full name, with `_total` where the established name has it.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// What it measures, and from where.
    pub help: &'static str,
}

/// Families whose names come from what is read, such as those of `/proc/vmstat`: as much as can be said beforehand.
#[derive(Debug, PartialEq, Eq)]
pub struct NamedDesc {
    /// What their names begin with; empty where they may have any name.
    pub prefix: &'static str,
    /// Where the rest of the name, and the value, come from.
    pub help: &'static str,
}

/// Declares a collector's families: an enum `F` to emit samples under, and the array `FAMILIES` in the same order.
macro_rules! families {
    ($($id:ident $kind:ident $name:literal $help:literal;)*) => {
        #[derive(Clone, Copy)]
        #[repr(u16)]
        enum F { $($id),* }

        impl From<F> for u16 {
            fn from(family: F) -> u16 {
                family as u16
            }
        }

        const FAMILIES: &[$crate::metric::FamilyDesc] = &[$($crate::metric::FamilyDesc {
            name: $name,
            kind: $crate::metric::Kind::$kind,
            help: $help,
        }),*];
    };
}
pub(crate) use families;

/// What a sample is about: the machine, or the cgroup in a slot of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject(u32);

impl Subject {
    /// The machine.
    pub const NODE: Subject = Subject(u32::MAX);

    /// The cgroup in this slot of the tree.
    pub fn cgroup(slot: usize) -> Self {
        Subject(slot as u32)
    }

    /// The slot, where the subject is a cgroup.
    pub fn slot(self) -> Option<usize> {
        (self != Subject::NODE).then_some(self.0 as usize)
    }
}

/// A piece of text in [`Samples`]: labels beyond those of the subject, escaped, without braces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    start: u32,
    len: u32,
}

impl Labels {
    /// None beyond those of the subject.
    pub const NONE: Labels = Labels { start: 0, len: 0 };

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.len == 0
    }
}

/// One value with its labels, now.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// What it is about.
    pub subject: Subject,
    /// Labels beyond those of the subject.
    pub labels: Labels,
    /// What follows the family's name.
    pub suffix: Suffix,
    /// The value.
    pub value: f64,
}

/// What follows the family's name in a series of a summary or histogram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Suffix {
    /// Nothing: a quantile, or any sample of another type.
    #[default]
    None,
    /// `_bucket`
    Bucket,
    /// `_sum`
    Sum,
    /// `_count`
    Count,
}

impl Suffix {
    /// As it is written.
    pub fn text(self) -> &'static str {
        match self {
            Suffix::None => "",
            Suffix::Bucket => "_bucket",
            Suffix::Sum => "_sum",
            Suffix::Count => "_count",
        }
    }
}

/// The samples of one scrape, by family; emptied and used again for the next.
#[derive(Debug, Default)]
pub struct Samples {
    families: Vec<Vec<Sample>>,
    named: NamedFamilies,
    text: Vec<u8>,
}

impl Samples {
    /// Room for so many declared families.
    pub fn new(families: usize) -> Self {
        Samples { families: vec![Vec::new(); families], ..Samples::default() }
    }

    /// Room for as many families, empty.
    pub fn like(&self) -> Self {
        Samples::new(self.families.len())
    }

    /// Empties it and keeps the memory.
    pub fn clear(&mut self) {
        self.families.iter_mut().for_each(Vec::clear);
        self.named.clear();
        self.text.clear();
    }

    /// From now on only families of these names are kept, where names come from what is read.
    pub fn select(&mut self, selector: FamilySelector) {
        self.named = NamedFamilies::new(selector);
    }

    /// The samples of one declared family.
    pub fn family(&self, index: usize) -> &[Sample] {
        &self.families[index]
    }

    /// The families whose names were read.
    pub fn named(&self) -> impl Iterator<Item = &NamedFamily> {
        self.named.families.iter()
    }

    /// The text of a sample's labels.
    pub fn labels(&self, labels: Labels) -> &[u8] {
        &self.text[labels.start as usize..][..labels.len as usize]
    }

    /// How many samples there are.
    pub fn len(&self) -> usize {
        let declared: usize = self.families.iter().map(Vec::len).sum();
        declared + self.named().map(|family| family.samples.len()).sum::<usize>()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds what a collector that owns its buffers gathered, of its families those that are `wanted`; ours of them begin
    /// at `base`. Of a family whose name was read and that is here already, what is here stays.
    ///
    /// # Errors
    /// The first family that is here with another type; its samples are left out.
    pub fn append(&mut self, other: &Samples, base: usize, wanted: &[bool]) -> Result<(), &NamedFamily> {
        let shift = self.text.len() as u32;
        self.text.extend_from_slice(&other.text);
        let shifted = |s: &Sample| {
            let start = if s.labels.is_empty() { 0 } else { s.labels.start + shift };
            Sample { labels: Labels { start, ..s.labels }, ..*s }
        };
        let wanted =
            self.families[base..].iter_mut().zip(&other.families).zip(wanted).filter(|(_, wanted)| **wanted);
        for ((ours, theirs), _) in wanted {
            ours.extend(theirs.iter().map(shifted));
        }
        let mut fault = None;
        for family in other.named().filter(|family| !family.samples.is_empty()) {
            let Named(index) = self.named.get(&family.name, family.kind, &family.help);
            let ours = &mut self.named.families[index];
            if !ours.is_wanted {
                continue;
            }
            let theirs = family.samples.iter().map(shifted);
            if ours.samples.is_empty() {
                ours.samples.extend(theirs);
            } else if ours.kind != family.kind {
                fault.get_or_insert(index);
            } else {
                let text = &self.text;
                let labels = |s: &Sample| {
                    (s.suffix, identity(&text[s.labels.start as usize..][..s.labels.len as usize]))
                };
                let known: HashSet<_> = ours.samples.iter().map(labels).collect();
                ours.samples.extend(theirs.filter(|sample| !known.contains(&labels(sample))));
            }
        }
        fault.map_or(Ok(()), |index| Err(&self.named.families[index]))
    }

    /// What one collector writes to: its families begin at `base`, and only the `wanted` are kept.
    pub fn writer<'a>(&'a mut self, base: usize, wanted: &'a [bool]) -> Writer<'a> {
        Writer::new(self, base, wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_added_to_labels_that_stay() {
        let mut samples = Samples::new(0);
        let mut out = samples.writer(0, &[]);
        let device = out.labels(&[("device", "sda")]);
        let first = out.with(device, "type", "\"");
        let second = out.with(device, "type", "b");
        let only = out.with(Labels::NONE, "uuid", "1");
        let found = [device, first, second, only].map(|l| std::str::from_utf8(samples.labels(l)).unwrap());
        let expected =
            [r#"device="sda""#, r#"device="sda",type="\"""#, r#"device="sda",type="b""#, r#"uuid="1""#];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_nobody_wants_is_not_kept() {
        let mut samples = Samples::new(2);
        let mut out = samples.writer(0, &[false, true]);
        out.push(0u16, Subject::NODE, Labels::NONE, 1.0);
        out.push(1u16, Subject::NODE, Labels::NONE, 2.0);
        assert_eq!((samples.family(0).len(), samples.family(1).len()), (0, 1));
    }

    #[test]
    fn appended_samples_keep_their_labels() {
        let mut theirs = Samples::new(1);
        let mut out = theirs.writer(0, &[true]);
        let labels = out.labels(&[("device", "sda")]);
        out.node(0u16, labels, 1.0);
        let mut ours = Samples::new(3);
        ours.writer(0, &[true]).labels(&[("cpu", "0")]);
        ours.append(&theirs, 1, &[false]).unwrap();
        assert!(ours.is_empty());
        ours.append(&theirs, 2, &[true]).unwrap();
        assert_eq!(ours.labels(ours.family(2)[0].labels), br#"device="sda""#);
    }

    #[test]
    fn of_a_family_that_two_collectors_name_what_is_there_stays() {
        let named = |samples: &mut Samples, kind, series: &[(&[(&str, &str)], f64)]| {
            let mut out = samples.writer(0, &[]);
            let family = out.named("node_x", kind, "Read.");
            for (labels, value) in series {
                let labels = out.labels(labels);
                out.add(family, labels, Suffix::None, *value);
            }
        };
        let (mut ours, mut same, mut other) = (Samples::new(0), Samples::new(0), Samples::new(0));
        named(&mut ours, Kind::Gauge, &[(&[("a", "1"), ("b", "2")], 1.0)]);
        named(&mut same, Kind::Gauge, &[(&[("b", "2"), ("a", "1"), ("c", "")], 2.0), (&[("a", "1")], 3.0)]);
        named(&mut other, Kind::Counter, &[(&[], 4.0)]);
        ours.append(&same, 0, &[]).unwrap();
        assert_eq!(ours.append(&other, 0, &[]).unwrap_err().name, "node_x");
        let values: Vec<f64> = ours.named().flat_map(|f| &f.samples).map(|s| s.value).collect();
        assert_eq!(values, [1.0, 3.0]);
    }

    #[test]
    fn of_families_whose_names_are_read_those_stay_that_are_selected() {
        let rule = |expose, pattern: &str| protocol::FamilyRule {
            expose,
            pattern: pattern.to_owned(),
            policy: String::new(),
        };
        let mut samples = Samples::new(0);
        samples.select(FamilySelector::new(&[rule(false, "node_vmstat_pgfault")]));
        let mut own = samples.like();
        for name in ["node_vmstat_pgfault", "node_vmstat_pgmajfault"] {
            let mut out = own.writer(0, &[]);
            let family = out.named(name, Kind::Untyped, "Read.");
            out.add(family, Labels::NONE, Suffix::None, 1.0);
        }
        samples.append(&own, 0, &[]).unwrap();
        let seen = |samples: &Samples| -> Vec<(String, usize)> {
            samples.named().map(|f| (f.name.clone(), f.samples.len())).collect()
        };
        let expected = [("node_vmstat_pgfault".to_owned(), 0), ("node_vmstat_pgmajfault".to_owned(), 1)];
        assert_eq!(seen(&samples), expected);
        assert_eq!(samples.len(), 1);
        samples.clear();
        samples.clear();
        assert_eq!(
            seen(&samples).len(),
            1,
            "what is read no more is forgotten, what nobody wants is still known"
        );
    }
}
