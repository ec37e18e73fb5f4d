//! A time as Go's flags and Kubernetes write it: `90s`, `1h30m`, `1.5s`, `250us`.

use std::time::Duration;

/// In nanoseconds; the micro sign and the Greek letter look the same.
const UNITS: [(&str, u64); 8] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ns", 1),
];

/// Reads numbers with units, which are added up, as Go's `time.ParseDuration` does; but none below zero.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a time such as 90s, 1h30m or 1.5s");
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    let mut sum: Option<u64> = None;
    while !rest.is_empty() {
        let is_of_number = |c: char| c.is_ascii_digit() || c == '.';
        let (number, after) = rest.split_at(rest.find(|c| !is_of_number(c)).ok_or_else(wrong)?);
        let (unit, after) = after.split_at(after.find(is_of_number).unwrap_or(after.len()));
        let (_, each) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let part = nanoseconds(number, *each).ok_or_else(wrong)?;
        sum = Some(sum.unwrap_or_default().checked_add(part).ok_or_else(wrong)?);
        rest = after;
    }
    sum.map(Duration::from_nanos).ok_or_else(wrong)
}

/// A number of units, which may have a fraction; what is less than a nanosecond is left out.
fn nanoseconds(number: &str, each: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()?.checked_mul(each)? };
    let (mut part, mut place) = (0, each);
    for digit in fraction.chars() {
        place /= 10;
        part += u64::from(digit.to_digit(10)?) * place;
    }
    whole.checked_add(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<Duration>) {
        assert_eq!(parse(text).ok(), expected, "{text}");
    }

    #[test]
    fn numbers_have_units_and_add_up() {
        check("90s", Some(Duration::from_secs(90)));
        check("1h30m", Some(Duration::from_secs(5400)));
        check("2m1ms", Some(Duration::from_millis(120_001)));
        check("1s1m1s", Some(Duration::from_secs(62)));
        for nothing in ["0s", "0", "+0"] {
            check(nothing, Some(Duration::ZERO));
        }
        check("250us", Some(Duration::from_micros(250)));
        check("250\u{b5}s1\u{3bc}s", Some(Duration::from_micros(251)));
        check("+7ns", Some(Duration::from_nanos(7)));
    }

    #[test]
    fn numbers_may_have_fractions() {
        check("1.5s", Some(Duration::from_millis(1500)));
        check(".5h1.s", Some(Duration::from_secs(1801)));
        check("0.0000000019s", Some(Duration::from_nanos(1)));
        for wrong in [".s", "1.5.5s", "1,5s"] {
            check(wrong, None);
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for wrong in
            ["", "+", "10", "m", "-1s", "1 m", "1d", "1s1", "99999999999999999999s", "9999999999999999h"]
        {
            check(wrong, None);
        }
    }
}
