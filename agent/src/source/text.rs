//! Numbers and words out of the text that the kernel writes, without allocating.

/// The lines of a file, without their ends.
pub fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|b| *b == b'\n').filter(|line| !line.is_empty())
}

/// The words of a line; the kernel separates with spaces and tabs.
pub fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    line.split(|b| matches!(b, b' ' | b'\t')).filter(|word| !word.is_empty())
}

/// A word that is a decimal number.
///
/// Values beyond 2^63 - 1, which the kernel prints for negative counters, are kept as they are.
pub fn number(word: &[u8]) -> Option<u64> {
    if word.is_empty() || word.len() > 20 {
        return None;
    }
    word.iter().try_fold(0u64, |n, b| {
        let digit = b.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        n.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// A word that is a hexadecimal number without `0x`.
pub fn hexadecimal(word: &[u8]) -> Option<u64> {
    let is_digits = word.iter().all(u8::is_ascii_hexdigit);
    u64::from_str_radix(std::str::from_utf8(word).ok().filter(|_| is_digits)?, 16).ok()
}

/// A word that is a number with a sign or a fraction.
pub fn float(word: &[u8]) -> Option<f64> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

/// A word that is a whole number, with a sign or in hexadecimal (`0x1003`), as attributes of devices are.
pub fn integer(word: &[u8]) -> Option<i128> {
    let digits = |text: &[u8]| number(text).map(i128::from);
    match word {
        [b'0', b'x' | b'X', digits @ ..] if (1..=16).contains(&digits.len()) && digits[0] != b'+' => {
            let digits = std::str::from_utf8(digits).ok()?;
            u64::from_str_radix(digits, 16).ok().map(i128::from)
        }
        [b'-', rest @ ..] => digits(rest).map(|n| -n),
        word => digits(word),
    }
}

/// Appends a name to that of a family, with one `_` for each run of what a family's name may not hold.
pub fn push_name(family: &mut String, name: &str) {
    let mut rest = name;
    while !rest.is_empty() {
        let is_word = |c: char| c.is_ascii_alphanumeric();
        let (word, after) = rest.split_at(rest.find(|c| !is_word(c)).unwrap_or(rest.len()));
        let (run, after) = after.split_at(after.find(is_word).unwrap_or(after.len()));
        family.push_str(word);
        family.push_str(if run.bytes().all(|b| b == b'_') { run } else { "_" });
        rest = after;
    }
}

/// The one number of a file that holds one; `max` is none.
pub fn only_number(text: &[u8]) -> Option<u64> {
    number(text.trim_ascii())
}

/// The `key value` lines of a file such as `cpu.stat`; what is not of that form is passed over.
pub fn pairs(text: &[u8]) -> impl Iterator<Item = (&[u8], u64)> {
    lines(text).filter_map(|line| {
        let space = line.iter().position(|b| *b == b' ')?;
        Some((&line[..space], number(line[space + 1..].trim_ascii())?))
    })
}

/// The part of a text that ends with a line, and whether that is all of it: a cut number would be a wrong number.
pub fn whole_lines(text: &[u8]) -> (&[u8], bool) {
    let end = text.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    (&text[..end], end == text.len() && end > 0)
}

/// A line of `/proc/PID/net/dev`: `eth0: 1 2 3 …`, sixteen numbers (net/core/net-procfs.c); headings have none.
pub fn interface(line: &[u8]) -> Option<(&[u8], [u64; 16])> {
    let colon = line.iter().rposition(|b| *b == b':')?;
    let mut values = [0; 16];
    let mut words = words(&line[colon + 1..]);
    for value in &mut values {
        *value = number(words.next()?)?;
    }
    Some((line[..colon].trim_ascii(), values))
}

/// Text for a label: what is not UTF-8 is replaced.
pub fn label(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_end_at_the_word_and_never_wrap() {
        assert_eq!(number(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(number(b"18446744073709551616"), None);
        assert_eq!(number(b"-1"), None);
        assert_eq!(number(b""), None);
        assert_eq!(number(b"12x"), None);
        assert_eq!(only_number(b"42\n"), Some(42));
        assert_eq!(only_number(b"max\n"), None);
        assert_eq!(hexadecimal(b"ffffffffffffffff"), Some(u64::MAX));
        assert_eq!([hexadecimal(b""), hexadecimal(b"+1"), hexadecimal(b"0x1")], [None; 3]);
    }

    #[test]
    fn whole_numbers_have_signs_and_bases() {
        let found = ["0x1003", "-125", "0", "18446744073709551615", "0xffffffffffffffff"]
            .map(|word| integer(word.as_bytes()));
        let most = i128::from(u64::MAX);
        assert_eq!(found, [Some(4099), Some(-125), Some(0), Some(most), Some(most)]);
        for word in ["", "0x", "0x+1", "--1", "1.5", "N/A (no PMA)", "0x10000000000000000"] {
            assert_eq!(integer(word.as_bytes()), None, "{word}");
        }
    }

    #[test]
    fn names_of_families_hold_only_what_they_may() {
        let name = |text: &str| {
            let mut name = "node_".to_owned();
            push_name(&mut name, text);
            name
        };
        let found = ["package", "dram-0", "a__b", "a _-b é", "psys"].map(name);
        assert_eq!(found, ["node_package", "node_dram_0", "node_a__b", "node_a_b_", "node_psys"]);
    }

    #[test]
    fn a_line_without_its_end_is_not_a_whole_one() {
        assert_eq!(whole_lines(b"a 1\nb 2\n"), (&b"a 1\nb 2\n"[..], true));
        assert_eq!(whole_lines(b"a 1\nb 12"), (&b"a 1\n"[..], false));
        assert_eq!(whole_lines(b"a"), (&b""[..], false));
        assert_eq!(whole_lines(b""), (&b""[..], false));
    }

    #[test]
    fn headings_and_truncated_lines_are_no_interfaces() {
        assert_eq!(
            interface(b"Inter-|   Receive                                                |  Transmit"),
            None
        );
        assert_eq!(interface(b"  eth0: 1 2 3"), None);
        let (device, values) = interface(b"  eth0:1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16").unwrap();
        assert_eq!((device, values[0], values[15]), (&b"eth0"[..], 1, 16));
        let (device, _) = interface(b"eth0:1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16").unwrap();
        assert_eq!(device, b"eth0:1", "an alias has a colon in its name");
    }

    #[test]
    fn pairs_pass_over_what_they_do_not_understand() {
        let found: Vec<_> = pairs(b"a 1\nb\nc x\nd 2 3\ne 4").collect();
        assert_eq!(found, [(&b"a"[..], 1), (&b"e"[..], 4)]);
    }
}
