//! The one code that all packed answers are in (RFC 1951, 3.2.7), made for what expositions consist of.

use super::lengths::{DISTANCE_LENGTHS, SYMBOL_LENGTHS};

const SYMBOLS: usize = SYMBOL_LENGTHS.len();
const DISTANCES: usize = DISTANCE_LENGTHS.len();
/// The symbol of the end.
const END: usize = 256;
/// What deflate can express.
pub(super) const LONGEST: usize = 258;
pub(super) const SHORTEST: usize = 3;
pub(super) const FARTHEST: usize = 32 << 10;

/// Bits to write, the first one lowest, and how many they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bits {
    pub(super) bits: u64,
    pub(super) count: u8,
}

impl Bits {
    const NONE: Bits = Bits { bits: 0, count: 0 };

    /// These, and others after them; 64 at the most.
    pub(super) const fn then(self, next: Bits) -> Bits {
        Bits { bits: self.bits | next.bits << self.count, count: self.count + next.count }
    }
}

/// What each byte and each length becomes, and each distance's symbol.
pub(super) struct Code {
    pub(super) literals: [Bits; 256],
    /// From [`SHORTEST`] on, with their extra bits.
    lengths: [Bits; LONGEST - SHORTEST + 1],
    distances: [Bits; DISTANCES],
    pub(super) end: Bits,
}

pub(super) static CODE: Code = Code::new();

impl Code {
    const fn new() -> Self {
        let symbols = canonical(&SYMBOL_LENGTHS);
        let mut literals = [Bits::NONE; 256];
        let mut i = 0;
        while i < literals.len() {
            literals[i] = symbols[i];
            i += 1;
        }
        let mut lengths = [Bits::NONE; LONGEST - SHORTEST + 1];
        let mut length = SHORTEST;
        while length <= LONGEST {
            lengths[length - SHORTEST] = of_length(&symbols, length);
            length += 1;
        }
        Code { literals, lengths, distances: canonical(&DISTANCE_LENGTHS), end: symbols[END] }
    }

    /// A piece of text that was there before.
    pub(super) fn back(&self, length: usize, distance: usize) -> Bits {
        let from_zero = distance as u64 - 1;
        // 0 to 3 have a symbol each, of the rest each power of two has two (RFC 1951, 3.2.5).
        let extra = (from_zero | 1).ilog2().saturating_sub(1);
        let symbol = if from_zero < 4 { from_zero } else { (u64::from(extra) << 1) + (from_zero >> extra) };
        let rest = Bits { bits: from_zero & ((1 << extra) - 1), count: extra as u8 };
        self.lengths[length - SHORTEST].then(self.distances[symbol as usize]).then(rest)
    }

    /// What stands before the one block that there is: that it is the last one, and its code.
    pub(super) fn header(mut push: impl FnMut(Bits)) {
        let bits = |bits: usize, count| Bits { bits: bits as u64, count };
        push(bits(0b101, 3));
        push(bits(SYMBOLS - 257, 5).then(bits(DISTANCES - 1, 5)).then(bits(ORDER.len() - 4, 4)));
        // Lengths from 0 to 15 have four bits each, and no others are there.
        for of in ORDER {
            push(bits(if of < 16 { 4 } else { 0 }, 3));
        }
        for length in SYMBOL_LENGTHS.iter().chain(&DISTANCE_LENGTHS) {
            push(reversed(u64::from(*length), 4));
        }
    }
}

/// In which order the lengths of the code of lengths are told (RFC 1951, 3.2.7).
const ORDER: [u8; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

const fn of_length(symbols: &[Bits; SYMBOLS], length: usize) -> Bits {
    let from_zero = length - SHORTEST;
    if length == LONGEST {
        return symbols[SYMBOLS - 1];
    }
    if from_zero < 8 {
        return symbols[END + 1 + from_zero];
    }
    let extra = from_zero.ilog2() as usize - 2;
    let symbol = END + 1 + (extra << 2) + (from_zero >> extra);
    symbols[symbol].then(Bits { bits: (from_zero & ((1 << extra) - 1)) as u64, count: extra as u8 })
}

/// The codes that follow from their lengths (RFC 1951, 3.2.2).
const fn canonical<const N: usize>(lengths: &[u8; N]) -> [Bits; N] {
    let mut codes = [Bits::NONE; N];
    let (mut code, mut length) = (0, 1);
    while length <= 15 {
        let mut i = 0;
        while i < N {
            if lengths[i] == length {
                codes[i] = reversed(code, length);
                code += 1;
            }
            i += 1;
        }
        code <<= 1;
        length += 1;
    }
    codes
}

/// Codes are told from their highest bit on (RFC 1951, 3.1.1).
const fn reversed(code: u64, count: u8) -> Bits {
    Bits { bits: code.reverse_bits() >> (64 - count), count }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_is_complete() {
        for lengths in [&SYMBOL_LENGTHS[..], &DISTANCE_LENGTHS[..]] {
            let share: u32 = lengths.iter().map(|length| 1 << (15 - length)).sum();
            assert_eq!(share, 1 << 15);
        }
    }
}
