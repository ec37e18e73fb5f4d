//! Text as literals and repetitions, in bits.

use super::code::{Bits, CODE, Code, LONGEST, SHORTEST};

/// Writes what a text consists of, one piece after the other.
#[derive(Debug, Default)]
pub(super) struct Emitter {
    out: Vec<u8>,
    /// Bits that are not yet a byte.
    waiting: Bits,
    /// A repetition that may go on: its length and distance.
    again: (usize, usize),
}

impl Emitter {
    /// Goes on in this buffer.
    pub(super) fn new(out: Vec<u8>) -> Self {
        let mut emitter = Emitter { out, ..Emitter::default() };
        Code::header(|bits| emitter.push(bits));
        emitter
    }

    /// Bytes that are like none before.
    pub(super) fn literals(&mut self, text: &[u8]) {
        self.end_repetition();
        each_run(text, |run| self.push(run));
    }

    /// The same of bytes whose bits are known.
    pub(super) fn runs(&mut self, runs: &[Bits]) {
        self.end_repetition();
        runs.iter().for_each(|run| self.push(*run));
    }

    /// Bytes that were there before, three at least, so far back.
    pub(super) fn again(&mut self, length: usize, distance: usize) {
        if self.again.1 != distance {
            self.end_repetition();
        }
        self.again = (self.again.0 + length, distance);
    }

    /// The bytes, to the end of the block.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.end_repetition();
        self.push(CODE.end);
        // What is left of the last byte is zeros.
        let rest = (8 - self.waiting.count % 8) % 8;
        self.push(Bits { bits: 0, count: rest });
        self.out
    }

    fn end_repetition(&mut self) {
        let (mut left, distance) = std::mem::take(&mut self.again);
        while left > 0 {
            // What remains must be long enough to be told.
            let next =
                if (1..SHORTEST).contains(&left.saturating_sub(LONGEST)) { left - SHORTEST } else { left };
            let next = next.min(LONGEST);
            self.push(CODE.back(next, distance));
            left -= next;
        }
    }

    /// Up to 56 bits: fewer than eight wait.
    fn push(&mut self, bits: Bits) {
        let all = self.waiting.then(bits);
        let whole = all.count / 8;
        let end = self.out.len() + usize::from(whole);
        self.out.extend_from_slice(&all.bits.to_le_bytes());
        self.out.truncate(end);
        self.waiting = Bits { bits: all.bits >> (whole * 8), count: all.count % 8 };
    }
}

/// Literals in pieces that are written at once, as many as there is room for.
pub(super) fn each_run(text: &[u8], mut run: impl FnMut(Bits)) {
    const MOST: u8 = 56;
    let mut bits = Bits::default();
    for byte in text {
        let next = CODE.literals[usize::from(*byte)];
        if bits.count + next.count > MOST {
            run(std::mem::take(&mut bits));
        }
        bits = bits.then(next);
    }
    if bits.count > 0 {
        run(bits);
    }
}
