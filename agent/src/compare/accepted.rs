//! The table of accepted differences, `accepted-differences.md`, as programs read it.

use regex::Regex;

use super::{Difference, What};

/// The table is part of the program, so that whoever compares two endpoints is told the reasons.
const TABLE: &str = include_str!("../../accepted-differences.md");

/// One row.
#[derive(Debug)]
pub struct Accepted {
    /// The row as it is written.
    pub row: String,
    families: Regex,
    series: Option<(String, Regex)>,
    /// Who has what the other has not.
    pub side: Side,
    /// Why it is accepted.
    pub reason: String,
}

/// Who has what the other has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The replaced program.
    Theirs,
    /// The agent.
    Ours,
    /// Both have the family, with different types.
    Type,
    /// Both have the series, with different values.
    Value,
    /// Both have the series, and ours is more.
    More,
}

impl Accepted {
    /// Whether the row speaks of this difference.
    pub fn explains(&self, difference: &Difference) -> bool {
        let has = |(label, value): &(String, Regex)| {
            difference.labels.iter().any(|(l, v)| l == label && value.is_match(v))
        };
        let is_of_side = match (self.side, &difference.what) {
            (Side::More, What::Value(theirs, ours)) => ours > theirs,
            (side, what) => side == what.side(),
        };
        is_of_side && self.families.is_match(&difference.family) && self.series.as_ref().is_none_or(has)
    }
}

/// The rows that speak of one replaced program, `| program | families | series | side | reason |`.
///
/// # Errors
/// The row that cannot be read.
pub fn accepted(program: &str) -> Result<Vec<Accepted>, String> {
    let start = format!("| {program} |");
    let rows = TABLE.lines().filter_map(|line| line.strip_prefix(&start));
    rows.map(|row| read(row).ok_or_else(|| format!("accepted-differences.md: {row}"))).collect()
}

fn read(row: &str) -> Option<Accepted> {
    // A vertical bar inside of a cell is escaped, as Markdown wants it.
    let row = row.replace("\\|", "\u{1}");
    let cells: Vec<_> = row.split('|').map(|cell| cell.trim().replace('\u{1}', "|")).collect();
    let [families, series, side, reason, ""] = cells.iter().map(String::as_str).collect::<Vec<_>>()[..]
    else {
        return None;
    };
    let anchored = |text: &str| Regex::new(&format!("^(?s:{text})$")).ok();
    let series = match series {
        "all" => None,
        // What comes after the matcher is for people.
        series => {
            let (label, value) = series.split('`').nth(1)?.split_once('=')?;
            Some((label.to_owned(), anchored(value.trim_matches('"'))?))
        }
    };
    let side = match side {
        "theirs" => Side::Theirs,
        "ours" => Side::Ours,
        "type" => Side::Type,
        "value" => Side::Value,
        "more" => Side::More,
        _ => return None,
    };
    let (families, reason) = (anchored(families.trim_matches('`'))?, reason.to_owned());
    Some(Accepted { row: row.clone(), families, series, side, reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_can_be_read_and_has_a_sentence_as_its_reason() {
        let programs = ["kubelet", "node_exporter", "process-exporter"];
        let rows = TABLE.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| replaces"));
        assert_eq!(rows.count(), programs.map(|p| accepted(p).unwrap().len()).iter().sum::<usize>());
        for row in programs.iter().flat_map(|p| accepted(p).unwrap()) {
            assert!(row.reason.ends_with('.'), "{}", row.row);
        }
    }

    #[test]
    fn a_row_speaks_of_its_families_series_and_side_only() {
        let row = read(" `a_(b\\|c)` | `id=\"/x.*\"` (for people) | theirs | Because. |").unwrap();
        let difference = |family: &str, id: &str, what| Difference {
            family: family.to_owned(),
            labels: vec![("id".to_owned(), id.to_owned())],
            what,
        };
        assert!(row.explains(&difference("a_b", "/x/y", What::Missing)));
        assert!(!row.explains(&difference("a_b", "/x/y", What::Extra)));
        assert!(!row.explains(&difference("a_bc", "/x/y", What::Missing)));
        assert!(!row.explains(&difference("a_c", "/y", What::Missing)));
        let row = read(" `a` | all | more | Because. |").unwrap();
        let value = |theirs, ours| difference("a", "", What::Value(theirs, ours));
        assert!(row.explains(&value(1.0, 2.0)) && !row.explains(&value(2.0, 1.0)));
        assert!(read(" `(` | all | theirs | Because. |").is_none());
        assert!(read(" `a` | all | nobody | Because. |").is_none());
    }
}
