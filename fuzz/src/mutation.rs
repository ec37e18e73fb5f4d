//! What may become of a file: cut, empty, other numbers, other bytes; always the same of the same file.

/// A number that follows from the one before (xorshift; Marsaglia, 2003).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % most.max(1) as u64) as usize
    }
}

/// Numbers that a kernel may print, and some that none should.
const NUMBERS: [&[u8]; 8] = [
    b"-1",
    b"18446744073709551615",
    b"18446744073709551616",
    b"340282366920938463463374607431768211456",
    b"1e400",
    b"0x",
    b"NaN",
    b"",
];

/// So many variants of a text, the simplest first.
pub fn mutations(text: &[u8], most: usize) -> impl Iterator<Item = Vec<u8>> {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15 ^ text.len() as u64);
    (0..most).map(move |round| match round {
        0 => Vec::new(),
        1 => b"\n".to_vec(),
        2 => text.trim_ascii_end().to_vec(),
        3 => [text, text].concat(),
        4 => text.iter().map(|byte| if byte.is_ascii_digit() { b'9' } else { *byte }).collect(),
        5 => text.iter().map(|byte| if *byte == b' ' { b'\t' } else { *byte }).collect(),
        6 => [b"\xff\xfe ", text].concat(),
        7 => text.repeat(1 + (64 << 10) / text.len().max(1)),
        _ => one(text, &mut numbers),
    })
}

fn one(text: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    let at = numbers.below(text.len());
    let (head, tail) = text.split_at(at);
    match numbers.below(6) {
        // Cut, as by a full buffer.
        0 => head.to_vec(),
        // Another number in place of the next one.
        1 | 2 => {
            let start = tail.iter().position(u8::is_ascii_digit).unwrap_or(tail.len());
            let rest = &tail[start..];
            let end = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
            let number = NUMBERS[numbers.below(NUMBERS.len())];
            [head, &tail[..start], number, &rest[end..]].concat()
        }
        // Another byte.
        3 => {
            let byte = [0, b'\n', b' ', b':', b'"', b'\\', b'(', b')', 0xff, b'-'][numbers.below(10)];
            [head, &[byte], tail.get(1..).unwrap_or_default()].concat()
        }
        // A piece that is missing, such as a column.
        4 => [head, tail.get(1 + numbers.below(12)..).unwrap_or_default()].concat(),
        // A piece that is there twice.
        _ => [head, &tail[..tail.len().min(1 + numbers.below(12))], tail].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_file_always_has_the_same_variants() {
        let all = || mutations(b"cpu0 1 2 3\n", 50).collect::<Vec<_>>();
        assert_eq!(all(), all());
        assert!(all().iter().collect::<std::collections::HashSet<_>>().len() > 30);
        assert_eq!(mutations(b"", 50).count(), 50);
    }
}
