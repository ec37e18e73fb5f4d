//! Text in Prometheus' format, read back.

use std::collections::BTreeMap;

/// The families of an exposition, by name.
pub type Exposition = BTreeMap<String, Family>;

/// Names and values, in order of the names. A series of a summary or histogram has its suffix as `__name__`.
pub type Labels = Vec<(String, String)>;

/// One family.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Family {
    /// Its type; `untyped` where nobody says.
    pub kind: String,
    /// Its help, as it is written.
    pub help: String,
    /// Its series.
    pub series: BTreeMap<Labels, f64>,
}

/// Reads an exposition, with or without timestamps.
///
/// # Errors
/// The line that cannot be read, or the series that is there twice.
pub fn parse(text: &str) -> Result<Exposition, String> {
    let mut families = Exposition::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(comment) = line.strip_prefix('#') {
            let mut words = comment.trim_start().splitn(3, ' ');
            let (word, name, rest) = (words.next(), words.next().unwrap_or_default(), words.next());
            let rest = rest.unwrap_or_default().to_owned();
            match word {
                Some("HELP") => family(&mut families, name).help = rest,
                Some("TYPE") => family(&mut families, name).kind = rest,
                _ => {}
            }
            continue;
        }
        let (name, mut labels, value) = sample(line).ok_or_else(|| format!("not a sample: {line}"))?;
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| {
            let base = name.strip_suffix(suffix)?;
            let is_parts = |f: &Family| matches!(f.kind.as_str(), "summary" | "histogram");
            families.get(base).is_some_and(is_parts).then_some((base, *suffix))
        });
        let name = match base {
            Some((base, suffix)) => {
                labels.push(("__name__".to_owned(), suffix.to_owned()));
                base
            }
            None => name,
        };
        labels.sort();
        if family(&mut families, name).series.insert(labels, value).is_some() {
            return Err(format!("there twice: {line}"));
        }
    }
    Ok(families)
}

fn family<'a>(families: &'a mut Exposition, name: &str) -> &'a mut Family {
    let new = || Family { kind: "untyped".to_owned(), ..Family::default() };
    families.entry(name.to_owned()).or_insert_with(new)
}

fn sample(line: &str) -> Option<(&str, Labels, f64)> {
    let (name, mut rest) = line.split_at(line.find(['{', ' '])?);
    let mut labels = Labels::new();
    if let Some(mut inside) = rest.strip_prefix('{') {
        loop {
            inside = inside.trim_start_matches([',', ' ']);
            if let Some(after) = inside.strip_prefix('}') {
                rest = after;
                break;
            }
            let (label, after) = inside.split_once("=\"")?;
            let (value, after) = quoted(after)?;
            labels.push((label.to_owned(), value));
            inside = after;
        }
    }
    Some((name, labels, rest.split_whitespace().next()?.parse().ok()?))
}

/// The text up to the closing quote, without its escapes, and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match characters.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_exporter_may_write_is_read() {
        let text = "# HELP a Of a.\n# TYPE a counter\na{p=\"c:\\\\\\\"x\\\"\\n, }\",e=\"\"} +Inf 1700\n\
                    # TYPE s summary\ns{quantile=\"0.5\"} 2\ns_sum 3\ns_count 4\nplain_count 5\n";
        let read = parse(text).unwrap();
        let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let labels = vec![label("e", ""), label("p", "c:\\\"x\"\n, }")];
        assert_eq!(read["a"].series, [(labels, f64::INFINITY)].into());
        assert_eq!((read["a"].kind.as_str(), read["a"].help.as_str()), ("counter", "Of a."));
        assert_eq!(read["s"].series[&vec![label("__name__", "_count")]], 4.0);
        assert_eq!((read["plain_count"].series.len(), read["plain_count"].kind.as_str()), (1, "untyped"));
    }

    #[test]
    fn what_cannot_be_read_or_is_there_twice_is_named() {
        for bad in ["a{b=\"c} 1", "a", "a x", "a 1\na 1"] {
            let line = bad.lines().last().unwrap();
            assert!(parse(bad).unwrap_err().contains(line), "{bad}");
        }
    }
}
