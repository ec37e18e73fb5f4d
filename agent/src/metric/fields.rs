//! Fields of a file that each make a family, such as those of `/proc/vmstat`: found out once which of them are asked for.

use regex::Regex;

/// The fields that a pattern selects; what is known of a field is kept by its place in the file, which seldom changes.
#[derive(Debug)]
pub(crate) struct Fields {
    prefix: &'static str,
    pattern: Option<Regex>,
    help: fn(&str) -> String,
    known: Vec<Field>,
}

#[derive(Debug)]
struct Field {
    key: String,
    /// Name and help; nothing where it is not asked for.
    family: Option<(String, String)>,
}

impl Fields {
    /// Those whose key the pattern matches, all where there is none. A family's name is the prefix with the key; the
    /// help is made of the parts of the key without what joins them.
    pub(crate) fn new(prefix: &'static str, pattern: Option<Regex>, help: fn(&str) -> String) -> Self {
        Fields { prefix, pattern, help, known: Vec::new() }
    }

    /// Name and help of the family for the field at this place, whose key is these parts joined by underscores; nothing
    /// where it is not asked for, or can be no name.
    pub(crate) fn get(&mut self, place: usize, parts: &[&[u8]]) -> Option<(&str, &str)> {
        if !self.known.get(place).is_some_and(|field| is_joined(field.key.as_bytes(), parts)) {
            self.known.truncate(place);
            let field = self.make(parts);
            self.known.push(field);
        }
        // Places are asked for in order, so this one is the last of those that are known, or was known before.
        let (name, help) = self.known.get(place)?.family.as_ref()?;
        Some((name, help))
    }

    fn make(&self, parts: &[&[u8]]) -> Field {
        let key = String::from_utf8_lossy(&parts.join(&b'_')).into_owned();
        let is_name = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let is_asked_for = is_name && self.pattern.as_ref().is_none_or(|pattern| pattern.is_match(&key));
        let family = is_asked_for.then(|| {
            (format!("{}{key}", self.prefix), (self.help)(&String::from_utf8_lossy(&parts.concat())))
        });
        Field { key, family }
    }
}

fn is_joined(key: &[u8], parts: &[&[u8]]) -> bool {
    let mut rest = Some(key);
    for (i, part) in parts.iter().enumerate() {
        if i > 0 {
            rest = rest.and_then(|rest| rest.strip_prefix(b"_"));
        }
        rest = rest.and_then(|rest| rest.strip_prefix(*part));
    }
    rest == Some(b"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_known_by_its_place_and_found_again_when_fields_come_and_go() {
        let pattern = Regex::new("^Ip_In|^Tcp_").unwrap();
        let mut fields = Fields::new("node_netstat_", Some(pattern), |key| format!("Statistic {key}."));
        let name = |fields: &mut Fields, place, parts: [&str; 2]| {
            fields.get(place, &parts.map(str::as_bytes)).map(|(name, help)| format!("{name} {help}"))
        };
        let expected = Some("node_netstat_Ip_InErrs Statistic IpInErrs.".to_owned());
        for _ in 0..2 {
            assert_eq!(name(&mut fields, 0, ["Ip", "Ttl"]), None);
            assert_eq!(name(&mut fields, 1, ["Ip", "InErrs"]), expected);
            assert!(name(&mut fields, 2, ["Tcp", "InErrs"]).is_some());
        }
        assert_eq!(name(&mut fields, 0, ["Ip", "InErrs"]), expected);
        assert_eq!(name(&mut fields, 1, ["Tcp", "In-Errs"]), None, "no name");
        assert_eq!(fields.known.len(), 2);
    }

    #[test]
    fn without_a_pattern_every_field_is_asked_for() {
        let mut fields = Fields::new("node_vmstat_", None, |key| format!("Field {key}."));
        assert_eq!(fields.get(0, &[b"pgfault"]), Some(("node_vmstat_pgfault", "Field pgfault.")));
    }
}
