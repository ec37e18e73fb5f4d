//! Differences as people read them: by family, those first that nobody explains.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Accepted, Difference};

/// What differs, as text.
#[derive(Debug)]
pub struct Report {
    /// Lines for a terminal.
    pub text: String,
    /// How many differences no row of the table explains.
    pub unexplained: usize,
}

/// Tells of differences, of at most so many series of each family that nobody explains.
pub fn report(differences: &[Difference], accepted: &[Accepted], most: usize) -> Report {
    let mut unexplained = BTreeMap::<&str, Vec<&Difference>>::new();
    let mut explained = BTreeMap::<&str, BTreeMap<&str, usize>>::new();
    for difference in differences {
        match accepted.iter().find(|row| row.explains(difference)) {
            Some(row) => {
                *explained.entry(&row.reason).or_default().entry(&difference.family).or_default() += 1;
            }
            None => unexplained.entry(&difference.family).or_default().push(difference),
        }
    }
    let mut text = String::new();
    for (family, differences) in &unexplained {
        // Writing to memory does not fail.
        let _ = writeln!(text, "{family}");
        for difference in differences.iter().take(most) {
            let _ = writeln!(text, "    {difference}");
        }
        if let Some(more @ 1..) = differences.len().checked_sub(most) {
            let _ = writeln!(text, "    and {more} more; --all shows them");
        }
    }
    if !explained.is_empty() {
        let blank = if text.is_empty() { "" } else { "\n" };
        let _ = writeln!(text, "{blank}Known differences:");
    }
    for (reason, families) in &explained {
        let families: Vec<_> = families.iter().map(|(name, count)| format!("{name} ({count})")).collect();
        let _ = writeln!(text, "\n{reason}\n    {}", families.join(", "));
    }
    let several =
        |count: usize, one: &str, more: &str| format!("{count} {}", if count == 1 { one } else { more });
    let count = |families: usize, series: usize| {
        let series = several(series, "difference", "differences");
        format!("{series} in {}", several(families, "family", "families"))
    };
    let sum = unexplained.values().map(Vec::len).sum();
    let known = explained.values().flat_map(BTreeMap::values).sum();
    let known_families = explained.values().map(BTreeMap::len).sum();
    let blank = if text.is_empty() { "" } else { "\n" };
    let _ = match (sum, known) {
        (0, 0) => writeln!(text, "No differences."),
        (0, _) => writeln!(text, "{blank}{}, all known.", count(known_families, known)),
        (_, 0) => writeln!(text, "{blank}{}.", count(unexplained.len(), sum)),
        _ => writeln!(
            text,
            "{blank}{}; besides {}, known.",
            count(unexplained.len(), sum),
            count(known_families, known)
        ),
    };
    Report { text, unexplained: sum }
}

#[cfg(test)]
mod tests {
    use super::super::{accepted, differences, parse};
    use super::*;

    fn check(theirs: &str, ours: &str, expected: &str, unexplained: usize) {
        let found = differences(&parse(theirs).unwrap(), &parse(ours).unwrap(), |_, _, _| true);
        let report = report(&found, &accepted("node_exporter").unwrap(), 2);
        assert_eq!((report.text.as_str(), report.unexplained), (expected, unexplained));
    }

    #[test]
    fn what_nobody_explains_comes_first_and_by_family() {
        check("a 1\n", "a 2\n", "No differences.\n", 0);
        let theirs = "a{x=\"1\"} 1\na{x=\"2\"} 1\na{x=\"3\"} 1\n# TYPE b gauge\nb 1\nnode_filesystem_purgeable_bytes 0\n";
        let purgeable = "Exists on macOS only; node_exporter gives 0 for each mount on Linux.\n    node_filesystem_purgeable_bytes (1)\n";
        check(
            theirs,
            "# TYPE b counter\nb 1\n",
            &format!(
                "a\n    a{{x=\"1\"}}: missing\n    a{{x=\"2\"}}: missing\n    and 1 more; --all shows them\nb\n    b: a gauge \
                 there, a counter here\n\nKnown differences:\n\n{purgeable}\n4 differences in 2 families; besides 1 \
                 difference in 1 family, known.\n"
            ),
            4,
        );
        check(
            "node_filesystem_purgeable_bytes 0\n",
            "",
            &format!("Known differences:\n\n{purgeable}\n1 difference in 1 family, all known.\n"),
            0,
        );
    }
}
