//! Which format and encoding a request wants.

use hyper::HeaderMap;
use hyper::header::{ACCEPT, ACCEPT_ENCODING};

use super::text::Format;

/// How the bytes of an answer are coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Encoding {
    /// As they are.
    Identity,
    /// RFC 1952
    Gzip,
}

/// OpenMetrics where the request prefers it to plain text, as Prometheus does.
pub(super) fn format(headers: &HeaderMap) -> Format {
    let mut best = (0.0, Format::Text);
    for (media, quality) in elements(headers, ACCEPT) {
        let format = match media.split(';').next().map(str::trim) {
            // Version 0.0.1 is another format of the same name.
            Some("application/openmetrics-text") if !media.contains("version=0.0.1") => Format::OpenMetrics,
            Some("text/plain" | "text/*" | "*/*") => Format::Text,
            _ => continue,
        };
        if quality > best.0 {
            best = (quality, format);
        }
    }
    best.1
}

/// Gzip where the request allows it.
pub(super) fn encoding(headers: &HeaderMap) -> Encoding {
    let allows_gzip = elements(headers, ACCEPT_ENCODING)
        .any(|(coding, quality)| matches!(coding.split(';').next(), Some("gzip" | "*")) && quality > 0.0);
    if allows_gzip { Encoding::Gzip } else { Encoding::Identity }
}

/// The elements of a header with their `q`, which is 1 where it is not given.
fn elements(headers: &HeaderMap, name: hyper::header::HeaderName) -> impl Iterator<Item = (&str, f32)> {
    headers.get_all(name).into_iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(',')).map(
        |element| {
            let quality = element.split(';').find_map(|p| p.trim().strip_prefix("q=")?.parse().ok());
            (element.trim(), quality.unwrap_or(1.0))
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(accept: &str, expected: Format) {
        let headers = HeaderMap::from_iter([(ACCEPT, accept.parse().unwrap())]);
        assert_eq!(format(&headers), expected, "{accept}");
    }

    #[test]
    fn what_prometheus_prefers_is_given() {
        check(
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
             application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;q=0.4,*/*;q=0.2",
            Format::OpenMetrics,
        );
        check("text/plain;version=0.0.4;q=0.7,application/openmetrics-text;q=0.3", Format::Text);
        check("*/*", Format::Text);
        check("text/html", Format::Text);
        assert_eq!(format(&HeaderMap::new()), Format::Text);
    }

    #[test]
    fn an_encoding_with_quality_zero_is_refused() {
        let with = |value: &str| HeaderMap::from_iter([(ACCEPT_ENCODING, value.parse().unwrap())]);
        assert_eq!(encoding(&with("br, gzip;q=0.5")), Encoding::Gzip);
        assert_eq!(encoding(&with("gzip;q=0")), Encoding::Identity);
        assert_eq!(encoding(&with("identity")), Encoding::Identity);
        assert_eq!(encoding(&HeaderMap::new()), Encoding::Identity);
    }
}
