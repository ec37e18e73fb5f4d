//! The labels of a row as they follow those of another: found once, since rows change seldom and are written often.

use super::code::Bits;
use super::emit::each_run;
use super::repeats::{Piece, Repeats, WORTH};

/// How many pieces are kept at the most: those of a hundred thousand rows.
const MOST: usize = 1 << 20;

/// What the labels of rows consist of, each after those of another.
#[derive(Debug, Default)]
pub(super) struct RowPieces {
    /// Of which rows this speaks; with others, all is forgotten.
    rows: u64,
    /// By slot: that of the row before, and where in `pieces` it begins and ends.
    by_slot: Vec<Vec<(usize, [u32; 2])>>,
    pieces: Vec<RowPiece>,
    runs: Vec<Bits>,
    repeats: Repeats,
    both: Vec<u8>,
}

/// A piece of the labels of a row.
#[derive(Clone, Copy, Debug)]
pub(super) enum RowPiece {
    /// Like none before: where in the runs its bits begin and end.
    New([u32; 2]),
    /// As in the row before: where, how long, and where there.
    AsBefore { at: u32, length: u32, there: u32 },
    /// As further ahead in the same row: where, how long, and how far back.
    AsAhead { at: u32, length: u32, distance: u32 },
}

impl RowPieces {
    /// These are the rows from now on.
    pub(super) fn set_rows(&mut self, rows: u64) {
        if self.rows != rows {
            self.rows = rows;
            self.clear();
        }
    }

    fn clear(&mut self) {
        self.by_slot.clear();
        self.pieces.clear();
        self.runs.clear();
    }

    /// The pieces of a row, and the bits of those that are new.
    pub(super) fn get(
        &mut self,
        before: (usize, &[u8]),
        (slot, row): (usize, &[u8]),
    ) -> (&[RowPiece], &[Bits]) {
        let known = self.by_slot.get(slot).and_then(|of| of.iter().find(|(slot, _)| *slot == before.0));
        let [start, end] = match known {
            Some((_, range)) => *range,
            None => self.find(before, (slot, row)),
        };
        (&self.pieces[start as usize..end as usize], &self.runs)
    }

    fn find(&mut self, (slot_before, before): (usize, &[u8]), (slot, row): (usize, &[u8])) -> [u32; 2] {
        if self.pieces.len() > MOST || self.runs.len() > MOST {
            self.clear();
        }
        let RowPieces { pieces, runs, repeats, both, .. } = self;
        both.clear();
        both.extend_from_slice(before);
        both.extend_from_slice(row);
        let start = pieces.len() as u32;
        let mut new = |pieces: &mut Vec<_>, from: usize, to: usize| {
            let first = runs.len() as u32;
            each_run(&both[from..to], |run| runs.push(run));
            pieces.push(RowPiece::New([first, runs.len() as u32]));
        };
        repeats.clear();
        repeats.each(both, 0, 0, before.len(), |_| {});
        repeats.each(both, 0, before.len(), both.len(), |piece| match piece {
            Piece::New(from, to) => new(pieces, from, to),
            Piece::Again(at, length, distance) => {
                let there = at - distance;
                let place = (at - before.len()) as u32;
                if there >= before.len() {
                    let (length, distance) = (length as u32, distance as u32);
                    pieces.push(RowPiece::AsAhead { at: place, length, distance });
                    return;
                }
                // The row before and this one are not next to each other where they are written.
                let whole = length.min(before.len() - there);
                let rest = if whole < WORTH { at } else { at + whole };
                if rest > at {
                    pieces.push(RowPiece::AsBefore { at: place, length: whole as u32, there: there as u32 });
                }
                if rest < at + length {
                    new(pieces, rest, at + length);
                }
            }
        });
        let range = [start, pieces.len() as u32];
        if self.by_slot.len() <= slot {
            self.by_slot.resize_with(slot + 1, Vec::new);
        }
        self.by_slot[slot].push((slot_before, range));
        range
    }
}
