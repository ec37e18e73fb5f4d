//! What one collector writes to, in a scrape.

use super::{Kind, Labels, Named, Sample, Samples, Subject, Suffix, push_label};

/// Where one collector puts its samples.
pub struct Writer<'a> {
    samples: &'a mut Samples,
    base: usize,
    wanted: &'a [bool],
}

impl<'a> Writer<'a> {
    pub(super) fn new(samples: &'a mut Samples, base: usize, wanted: &'a [bool]) -> Self {
        Writer { samples, base, wanted }
    }

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

    /// The same labels and one more; those before stay as they are.
    pub fn with(&mut self, labels: Labels, name: &str, value: &str) -> Labels {
        let text = &mut self.samples.text;
        let (start, end) = (labels.start as usize, (labels.start + labels.len) as usize);
        let is_last = end == text.len();
        let start = if is_last { start } else { text.len() };
        if !is_last {
            text.extend_from_within(labels.start as usize..end);
        }
        if !labels.is_empty() {
            text.push(b',');
        }
        push_label(text, name, value);
        Labels { start: start as u32, len: (text.len() - start) as u32 }
    }

    /// The same of text that [`push_label`] has written.
    pub fn escaped(&mut self, labels: &[u8]) -> Labels {
        let text = &mut self.samples.text;
        text.extend_from_slice(labels);
        Labels { start: (text.len() - labels.len()) as u32, len: labels.len() as u32 }
    }

    /// Adds a sample, if anybody sees its family.
    pub fn push(&mut self, family: impl Into<u16>, subject: Subject, labels: Labels, value: f64) {
        let family = usize::from(family.into());
        if self.wanted[family] {
            let sample = Sample { subject, labels, suffix: Suffix::None, value };
            self.samples.families[self.base + family].push(sample);
        }
    }

    /// Adds a sample about the machine.
    pub fn node(&mut self, family: impl Into<u16>, labels: Labels, value: f64) {
        self.push(family, Subject::NODE, labels, value);
    }

    /// The family of this name, which comes from what is read; type and help are those of the first who names it.
    /// It holds until the end of this scrape.
    pub fn named(&mut self, name: &str, kind: Kind, help: &str) -> Named {
        self.samples.named.get(name, kind, help)
    }

    /// Adds a sample about the machine to a family whose name was read, if anybody sees it.
    pub fn add(&mut self, family: Named, labels: Labels, suffix: Suffix, value: f64) {
        let family = &mut self.samples.named.families[family.0];
        if family.is_wanted {
            family.samples.push(Sample { subject: Subject::NODE, labels, suffix, value });
        }
    }
}
