//! What a scrape gathers: families, and samples under them.

/// How Prometheus reads a family's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, or starts again at zero.
    Counter,
    /// Goes up and down.
    Gauge,
}

impl Kind {
    /// The word in a `# TYPE` line.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
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
    /// The value.
    pub value: f64,
}

/// The samples of one scrape, by family; emptied and used again for the next.
#[derive(Debug, Default)]
pub struct Samples {
    families: Vec<Vec<Sample>>,
    text: Vec<u8>,
}

impl Samples {
    /// Room for so many families.
    pub fn new(families: usize) -> Self {
        Samples { families: vec![Vec::new(); families], text: Vec::new() }
    }

    /// Room for as many families, empty.
    pub fn like(&self) -> Self {
        Samples::new(self.families.len())
    }

    /// Empties it and keeps the memory.
    pub fn clear(&mut self) {
        self.families.iter_mut().for_each(Vec::clear);
        self.text.clear();
    }

    /// The samples of one family.
    pub fn family(&self, index: usize) -> &[Sample] {
        &self.families[index]
    }

    /// The text of a sample's labels.
    pub fn labels(&self, labels: Labels) -> &[u8] {
        &self.text[labels.start as usize..][..labels.len as usize]
    }

    /// How many samples there are.
    pub fn len(&self) -> usize {
        self.families.iter().map(Vec::len).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds what a collector that owns its buffers gathered, of its families those that are `wanted`; ours of them begin
    /// at `base`.
    pub fn append(&mut self, other: &Samples, base: usize, wanted: &[bool]) {
        let shift = self.text.len() as u32;
        self.text.extend_from_slice(&other.text);
        let wanted =
            self.families[base..].iter_mut().zip(&other.families).zip(wanted).filter(|(_, wanted)| **wanted);
        for ((ours, theirs), _) in wanted {
            ours.extend(theirs.iter().map(|s| {
                let start = if s.labels.is_empty() { 0 } else { s.labels.start + shift };
                Sample { labels: Labels { start, ..s.labels }, ..*s }
            }));
        }
    }

    /// What one collector writes to: its families begin at `base`, and only the `wanted` are kept.
    pub fn writer<'a>(&'a mut self, base: usize, wanted: &'a [bool]) -> Writer<'a> {
        Writer { samples: self, base, wanted }
    }
}

/// Where one collector puts its samples.
pub struct Writer<'a> {
    samples: &'a mut Samples,
    base: usize,
    wanted: &'a [bool],
}

impl Writer<'_> {
    /// Whether anybody sees this family; what nobody sees need not be read.
    pub fn wants(&self, family: impl Into<u16>) -> bool {
        self.wanted[usize::from(family.into())]
    }

    /// Whether anybody sees one of these families.
    pub fn wants_any<F: Into<u16>>(&self, families: impl IntoIterator<Item = F>) -> bool {
        families.into_iter().any(|f| self.wants(f))
    }

    /// Writes a set of labels that any number of samples may then carry.
    pub fn labels(&mut self, labels: &[(&str, &str)]) -> Labels {
        let text = &mut self.samples.text;
        let start = text.len();
        for (i, (name, value)) in labels.iter().enumerate() {
            if i > 0 {
                text.push(b',');
            }
            push_label(text, name, value);
        }
        Labels { start: start as u32, len: (text.len() - start) as u32 }
    }

    /// Adds a sample, if anybody sees its family.
    pub fn push(&mut self, family: impl Into<u16>, subject: Subject, labels: Labels, value: f64) {
        let family = usize::from(family.into());
        if self.wanted[family] {
            self.samples.families[self.base + family].push(Sample { subject, labels, value });
        }
    }

    /// Adds a sample about the machine.
    pub fn node(&mut self, family: impl Into<u16>, labels: Labels, value: f64) {
        self.push(family, Subject::NODE, labels, value);
    }
}

/// Writes `name="value"`, the value escaped as both text formats want it.
pub fn push_label(text: &mut Vec<u8>, name: &str, value: &str) {
    text.extend_from_slice(name.as_bytes());
    text.extend_from_slice(b"=\"");
    let mut rest = value.as_bytes();
    while let Some(at) = rest.iter().position(|b| matches!(b, b'\\' | b'"' | b'\n')) {
        text.extend_from_slice(&rest[..at]);
        text.extend_from_slice(match rest[at] {
            b'\\' => b"\\\\",
            b'"' => b"\\\"",
            _ => b"\\n",
        });
        rest = &rest[at + 1..];
    }
    text.extend_from_slice(rest);
    text.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_values_are_escaped() {
        let mut text = Vec::new();
        push_label(&mut text, "a", "x\\y\"z\nw é");
        assert_eq!(String::from_utf8(text).unwrap(), r#"a="x\\y\"z\nw é""#);
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
        ours.append(&theirs, 1, &[false]);
        assert!(ours.is_empty());
        ours.append(&theirs, 2, &[true]);
        assert_eq!(ours.labels(ours.family(2)[0].labels), br#"device="sda""#);
    }
}
