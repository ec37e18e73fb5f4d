//! Labels as text: written once, escaped, and compared without being taken apart.

/// Writes `name="value"`, the value escaped as both text formats want it.
pub fn push_label(text: &mut Vec<u8>, name: &str, value: &str) {
    text.extend_from_slice(name.as_bytes());
    text.extend_from_slice(b"=\"");
    let mut rest = value.as_bytes();
    while let Some(at) = rest.iter().position(|b| matches!(b, b'\\' | b'"' | b'\n')) {
        text.extend_from_slice(&rest[..at]);
        text.extend_from_slice(match rest[at] {
            b'\\' => b"\\\\",
            b'"' => b"\\\"",
            _ => b"\\n",
        });
        rest = &rest[at + 1..];
    }
    text.extend_from_slice(rest);
    text.push(b'"');
}

/// The labels of a written set, sorted and without the empty ones: what tells one series of a family from another.
pub fn identity(labels: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    let mut rest = labels;
    while !rest.is_empty() {
        let (mut is_quoted, mut is_escaped) = (false, false);
        let end = rest.iter().position(|b| {
            let is_end = *b == b',' && !is_quoted;
            is_quoted ^= *b == b'"' && !is_escaped;
            is_escaped = *b == b'\\' && !is_escaped;
            is_end
        });
        let (label, after) = rest.split_at(end.unwrap_or(rest.len()));
        if !label.ends_with(b"=\"\"") {
            found.push(label);
        }
        rest = after.get(1..).unwrap_or_default();
    }
    found.sort_unstable();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_values_are_escaped() {
        let mut text = Vec::new();
        push_label(&mut text, "a", "x\\y\"z\nw é");
        assert_eq!(String::from_utf8(text).unwrap(), r#"a="x\\y\"z\nw é""#);
    }

    #[test]
    fn the_order_of_labels_and_empty_ones_tell_no_series_apart() {
        let written = |labels: &[(&str, &str)]| {
            let mut text = Vec::new();
            for (i, (name, value)) in labels.iter().enumerate() {
                if i > 0 {
                    text.push(b',');
                }
                push_label(&mut text, name, value);
            }
            text
        };
        let one = written(&[("b", "x,y=\"\""), ("a", "\\"), ("c", "")]);
        let same = written(&[("a", "\\"), ("d", ""), ("b", "x,y=\"\"")]);
        let other = written(&[("a", "\\"), ("b", "x")]);
        assert_eq!(identity(&one), identity(&same));
        assert_eq!(identity(&one).len(), 2);
        assert_ne!(identity(&one), identity(&other));
        assert!(identity(b"").is_empty());
    }
}
