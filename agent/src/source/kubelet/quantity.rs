//! Kubernetes quantities of bytes, such as `512Mi`.

/// Rounded up to whole bytes, as the API server does it; nothing where it is no quantity, or none that bytes can be.
///
/// https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
pub(super) fn bytes(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '+').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let number: f64 = number.parse().ok()?;
    let factor = match suffix {
        "" => 1.0,
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => (1u64 << 10) as f64,
        "Mi" => (1u64 << 20) as f64,
        "Gi" => (1u64 << 30) as f64,
        "Ti" => (1u64 << 40) as f64,
        "Pi" => (1u64 << 50) as f64,
        "Ei" => (1u64 << 60) as f64,
        exponent => 10f64.powi(exponent.strip_prefix(['e', 'E'])?.parse().ok()?),
    };
    let bytes = (number * factor).ceil();
    (bytes.is_finite() && bytes >= 0.0).then_some(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<u64>) {
        assert_eq!(bytes(text), expected, "{text}");
    }

    #[test]
    fn quantities_are_bytes_and_what_is_none_is_nothing() {
        check("0", Some(0));
        check("1024", Some(1024));
        check("1Ki", Some(1024));
        check("1.5Gi", Some(3 << 29));
        check("2G", Some(2_000_000_000));
        check("1e3", Some(1000));
        check("1E3", Some(1000));
        check("1E", Some(1_000_000_000_000_000_000));
        check("1500m", Some(2));
        check("", None);
        check("Gi", None);
        check("-1", None);
        check("1 Gi", None);
        check("1Zi", None);
        check("1e", None);
        check("1e999999999999", None);
    }
}
