//! A time as Prometheus' flags and Kubernetes write it: `90s`, `10m`, `1h30m`.

use std::time::Duration;

/// Reads numbers with units, the largest first; a unit is `h`, `m`, `s` or `ms`.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a time such as 90s, 10m or 1h30m");
    let (mut rest, mut millis) = (text, 0u64);
    let mut units = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)].into_iter();
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?);
        let (unit, after) = after.split_at(after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len()));
        let (_, each) = units.find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let part = number.parse::<u64>().ok().and_then(|n| n.checked_mul(each)).ok_or_else(wrong)?;
        (rest, millis) = (after, millis.checked_add(part).ok_or_else(wrong)?);
    }
    match text {
        "" => Err(wrong()),
        _ => Ok(Duration::from_millis(millis)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<Duration>) {
        assert_eq!(parse(text).ok(), expected, "{text}");
    }

    #[test]
    fn numbers_have_units_in_order() {
        check("90s", Some(Duration::from_secs(90)));
        check("1h30m", Some(Duration::from_secs(5400)));
        check("2m1ms", Some(Duration::from_millis(120_001)));
        check("0s", Some(Duration::ZERO));
        for wrong in [
            "",
            "10",
            "m",
            "-1s",
            "1.5m",
            "1s1m",
            "1m1m",
            "1 m",
            "1d",
            "99999999999999999999s",
            "9999999999999999h",
        ] {
            check(wrong, None);
        }
    }
}
