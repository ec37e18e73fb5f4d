//! Rows of texts that a service lists, in one buffer that stays from scrape to scrape.

use std::ops::Range;

/// Rows of so many texts each.
#[derive(Debug, Default)]
pub struct List<const N: usize> {
    rows: Vec<[Range<usize>; N]>,
    /// Those of all rows, one after the other.
    texts: String,
}

impl<const N: usize> List<N> {
    /// Forgets all rows.
    pub fn clear(&mut self) {
        self.rows.clear();
        self.texts.clear();
    }

    /// Adds a row.
    pub fn push(&mut self, row: [&str; N]) {
        self.rows.push(row.map(|text| {
            let start = self.texts.len();
            self.texts.push_str(text);
            start..self.texts.len()
        }));
    }

    /// All rows, in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = [&str; N]> {
        let text = |range: &Range<usize>| self.texts.get(range.clone()).unwrap_or_default();
        self.rows.iter().map(move |row| row.each_ref().map(text))
    }
}
