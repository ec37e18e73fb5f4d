//! Where in a text something is that comes again.

use super::code::FARTHEST;

/// A repetition shorter than this takes more bits than its bytes.
pub(super) const WORTH: usize = 6;
const BITS: u32 = 12;
/// No place. Of more than 4 GiB places are wrong, which costs repetitions only: the text itself is compared.
const NOWHERE: u32 = u32::MAX;

/// The last places of what a text begins with, of the text that was gone through.
#[derive(Debug)]
pub(super) struct Repeats(Box<[u32]>);

impl Default for Repeats {
    fn default() -> Self {
        Repeats(vec![NOWHERE; 1 << BITS].into_boxed_slice())
    }
}

/// A piece of a text.
pub(super) enum Piece {
    /// Like none before: from, to.
    New(usize, usize),
    /// As it was so far back: from, length, distance.
    Again(usize, usize, usize),
}

impl Repeats {
    /// Forgets all places.
    pub(super) fn clear(&mut self) {
        self.0.fill(NOWHERE);
    }

    /// Goes through `text[from..to]`, whose first byte is the one numbered `first`, in pieces.
    pub(super) fn each(
        &mut self,
        text: &[u8],
        first: usize,
        from: usize,
        to: usize,
        mut piece: impl FnMut(Piece),
    ) {
        let (mut new, mut at) = (from, from);
        while let Some(word) = text[at..to].first_chunk() {
            let entry = &mut self.0[hash(*word)];
            let before = (*entry as usize).checked_sub(first).filter(|before| *before < at);
            *entry = (first + at) as u32;
            let length = match before {
                Some(before) if at - before <= FARTHEST => common(&text[before..], &text[at..to]),
                _ => 0,
            };
            let (Some(before), WORTH..) = (before, length) else {
                at += 1;
                continue;
            };
            if new < at {
                piece(Piece::New(new, at));
            }
            piece(Piece::Again(at, length, at - before));
            at += length;
            new = at;
        }
        if new < to {
            piece(Piece::New(new, to));
        }
    }
}

fn hash(word: [u8; 4]) -> usize {
    // Knuth's multiplicative hash: the golden ratio of 2^32.
    (u32::from_le_bytes(word).wrapping_mul(2_654_435_769) >> (32 - BITS)) as usize
}

/// How many bytes two texts begin with in common.
pub(super) fn common(one: &[u8], other: &[u8]) -> usize {
    let mut length = 0;
    while let (Some(a), Some(b)) = (one[length..].first_chunk::<8>(), other[length..].first_chunk::<8>()) {
        let different = u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b);
        if different != 0 {
            return length + (different.trailing_zeros() / 8) as usize;
        }
        length += 8;
    }
    length + one[length..].iter().zip(&other[length..]).take_while(|(a, b)| a == b).count()
}
