//! An exposition packed while it is written, by what is known of it: the labels of a row come again in each family, too
//! far apart for what looks for repetitions, but in the same order (RFC 1951, RFC 1952).

mod code;
mod emit;
mod lengths;
mod repeats;
mod rows;

use super::text::{Line, Sink};
use crate::metric::{Labels, Suffix};
use code::{FARTHEST, SHORTEST};
use emit::Emitter;
use repeats::{Piece, Repeats};
use rows::{RowPiece, RowPieces};

/// How much text waits to be forgotten, beyond that to which a repetition may reach back.
const SLACK: usize = 64 << 10;

/// How many sets of labels beyond those of rows are remembered in a family.
const LABELS: usize = 32;

/// Packs one exposition after the other.
#[derive(Debug, Default)]
pub struct Gzip {
    /// The end of what was written: what repetitions reach back to, and what is not packed yet.
    text: Vec<u8>,
    /// How many bytes came before that.
    forgotten: usize,
    /// Up to where in `text` it is packed, and up to where it is in the sum.
    packed: usize,
    summed: usize,
    sum: crc32fast::Hasher,
    out: Emitter,
    repeats: Repeats,
    rows: RowPieces,
    before: Option<LineBefore>,
    /// Where in the whole text labels beyond those of rows were last written in this family.
    labels: Vec<(Labels, usize)>,
}

/// The series before in the same family, by places in the whole text.
#[derive(Clone, Copy, Debug)]
struct LineBefore {
    slot: usize,
    suffix: Suffix,
    start: usize,
    row: [usize; 2],
    /// From the closing brace to the end of the line.
    tail: [usize; 2],
}

impl Gzip {
    /// Begins an answer in this buffer.
    pub fn begin(&mut self, mut out: Vec<u8>) {
        // No name, no time, no system.
        out.extend_from_slice(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 255]);
        self.text.clear();
        (self.forgotten, self.packed, self.summed) = (0, 0, 0);
        self.sum.reset();
        self.out = Emitter::new(out);
        self.repeats.clear();
        self.before = None;
        self.labels.clear();
    }

    /// Ends it.
    pub fn finish(&mut self) -> Vec<u8> {
        self.pack();
        self.sum.update(&self.text[self.summed..]);
        let length = (self.forgotten + self.text.len()) as u32;
        let mut out = std::mem::take(&mut self.out).finish();
        out.extend_from_slice(&self.sum.clone().finalize().to_le_bytes());
        out.extend_from_slice(&length.to_le_bytes());
        out
    }

    /// Packs what waits.
    fn pack(&mut self) {
        let Self { text, out, .. } = self;
        self.repeats.each(text, self.forgotten, self.packed, text.len(), |piece| match piece {
            Piece::New(from, to) => out.literals(&text[from..to]),
            Piece::Again(_, length, distance) => out.again(length, distance),
        });
        self.packed = self.text.len();
        if self.text.len() > FARTHEST + SLACK {
            self.sum.update(&self.text[self.summed..]);
            let end = self.text.len() - FARTHEST;
            self.text.drain(..end);
            self.forgotten += end;
            (self.packed, self.summed) = (FARTHEST, FARTHEST);
        }
    }

    /// Packs the next bytes of the text, which are also `distance` before.
    fn again(&mut self, length: usize, distance: usize) {
        if (SHORTEST..).contains(&length) && distance <= FARTHEST {
            self.out.again(length, distance);
        } else {
            self.out.literals(&self.text[self.packed..self.packed + length]);
        }
        self.packed += length;
    }

    fn pack_row(&mut self, before: &LineBefore, slot: usize, row: &[u8]) {
        let at = self.forgotten + self.packed;
        let [start, end] = before.row;
        if before.slot == slot {
            return self.again(row.len(), at - start);
        }
        let text_before = &self.text[start - self.forgotten..end - self.forgotten];
        let (pieces, runs) = self.rows.get((before.slot, text_before), (slot, row));
        for piece in pieces {
            let (place, length, distance) = match *piece {
                RowPiece::New([first, end]) => {
                    self.out.runs(&runs[first as usize..end as usize]);
                    continue;
                }
                RowPiece::AsBefore { at: place, length, there } => {
                    (place, length, at + place as usize - start - there as usize)
                }
                RowPiece::AsAhead { at: place, length, distance } => (place, length, distance as usize),
            };
            if distance <= FARTHEST {
                self.out.again(length as usize, distance);
            } else {
                self.out.literals(&row[place as usize..][..length as usize]);
            }
        }
        self.packed += row.len();
    }

    fn pack_labels(&mut self, labels: Labels, length: usize) {
        match self.labels_before(labels) {
            Some(distance) => self.again(length, distance),
            None => {
                self.out.literals(&self.text[self.packed..self.packed + length]);
                self.packed += length;
            }
        }
    }

    /// How far back from what is packed next these labels were written, and remembers that they are here.
    fn labels_before(&mut self, labels: Labels) -> Option<usize> {
        let at = self.forgotten + self.packed;
        if let Some((_, last)) = self.labels.iter_mut().find(|(known, _)| *known == labels) {
            return Some(at - std::mem::replace(last, at));
        }
        if self.labels.len() == LABELS {
            self.labels.remove(0);
        }
        self.labels.push((labels, at));
        None
    }
}

impl Sink for Gzip {
    fn text(&mut self) -> &mut Vec<u8> {
        self.before = None;
        self.labels.clear();
        &mut self.text
    }

    fn set_rows(&mut self, rows: u64) {
        self.rows.set_rows(rows);
    }

    fn line(&mut self, line: &Line<'_>) {
        if self.text.len() - self.packed > SLACK || line.row.is_some() {
            self.pack();
        }
        let start = self.forgotten + self.text.len();
        line.write(&mut self.text);
        let Some((slot, row)) = line.row else { return };
        let row_start = start + line.name.len() + line.suffix.text().len() + 1;
        let row_end = row_start + row.len();
        let labels = if line.labels.is_empty() { 0 } else { 1 + line.labels.len() };
        let tail = [row_end + labels, self.forgotten + self.text.len()];
        let this = LineBefore { slot, suffix: line.suffix, start, row: [row_start, row_end], tail };
        let before =
            self.before.replace(this).filter(|b| b.suffix == line.suffix && b.start >= self.forgotten);
        let Some(before) = before else { return self.pack() };
        self.again(row_start - start, start - before.start);
        self.pack_row(&before, slot, row);
        if labels > 0 {
            self.pack_labels(line.same_labels, labels);
        }
        let here = |[from, to]: [usize; 2]| &self.text[from - self.forgotten..to - self.forgotten];
        if here(before.tail) == here(tail) {
            self.again(tail[1] - tail[0], tail[0] - before.tail[0]);
        } else {
            self.out.literals(&self.text[self.packed..]);
            self.packed = self.text.len();
        }
    }
}

#[cfg(test)]
mod tests;
