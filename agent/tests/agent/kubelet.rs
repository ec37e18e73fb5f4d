//! The kubelet's own series of the recorded nodes, next to ours: what differs is in `accepted-differences.md`.

use std::collections::BTreeSet;
use std::path::Path;

use regex::Regex;

use crate::fixture::{Exposition, Fixture};

/// Families whose values do not move while a node is recorded, so that they can be compared.
const STATIC: &str = "container_spec_.*|container_start_time_seconds";

/// One row of the table of accepted differences.
struct Accepted {
    row: String,
    families: Regex,
    series: Option<(String, Regex)>,
    side: Side,
}

/// Who has what the other has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Theirs,
    Ours,
    /// Both have the series, with different values.
    Value,
}

#[test]
fn every_series_of_the_kubelet_is_ours_too_or_an_accepted_difference() {
    let accepted = accepted("kubelet");
    let mut used = BTreeSet::new();
    let mut unexplained = Vec::new();
    for fixture in Fixture::all() {
        let Some(theirs) = fixture.cadvisor() else { continue };
        for (side, name, labels, what) in differences(&theirs, &fixture.scrape()) {
            let explains = |row: &&Accepted| {
                let has = |(label, value): &(String, Regex)| {
                    labels.iter().any(|(l, v)| l == label && value.is_match(v))
                };
                row.side == side && row.families.is_match(&name) && row.series.as_ref().is_none_or(has)
            };
            match accepted.iter().find(explains) {
                Some(row) => {
                    used.insert(row.row.as_str());
                }
                None => unexplained.push(format!("{}: {side:?} {name} {labels:?} {what}", fixture.name)),
            }
        }
    }
    assert!(unexplained.is_empty(), "{} differences:\n{}", unexplained.len(), unexplained.join("\n"));
    let unused: Vec<_> = accepted.iter().map(|a| a.row.as_str()).filter(|row| !used.contains(row)).collect();
    assert!(unused.is_empty(), "accepted, and no recorded node shows it:\n{}", unused.join("\n"));
}

type Labels = Vec<(String, String)>;

fn differences(theirs: &Exposition, ours: &Exposition) -> Vec<(Side, String, Labels, String)> {
    let is_static = Regex::new(&format!("^({STATIC})$")).unwrap();
    let mut found = Vec::new();
    for (name, family) in theirs {
        let nothing = Default::default();
        let series = ours.get(name).map_or(&nothing, |f| &f.series);
        for (labels, value) in &family.series {
            match series.get(labels) {
                None => found.push((Side::Theirs, name.clone(), labels.clone(), String::new())),
                Some(other) if other != value && is_static.is_match(name) => {
                    found.push((Side::Value, name.clone(), labels.clone(), format!("{value} {other}")));
                }
                Some(_) => {}
            }
        }
    }
    for (name, family) in ours.iter().filter(|(name, _)| name.starts_with("container_")) {
        let nothing = Default::default();
        let series = theirs.get(name).map_or(&nothing, |f| &f.series);
        for labels in family.series.keys().filter(|labels| !series.contains_key(*labels)) {
            found.push((Side::Ours, name.clone(), labels.clone(), String::new()));
        }
    }
    found
}

/// The rows that speak of one replaced program, `| program | families | series | side | reason |`.
fn accepted(program: &str) -> Vec<Accepted> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("accepted-differences.md");
    let text = std::fs::read_to_string(path).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix(&format!("| {program} |")));
    rows.map(|row| {
        // A vertical bar inside of a cell is escaped, as Markdown wants it.
        let row = row.replace("\\|", "\u{1}");
        let cells: Vec<_> = row.split('|').map(|cell| cell.trim().replace('\u{1}', "|")).collect();
        let [families, series, side, reason, ""] = cells.iter().map(String::as_str).collect::<Vec<_>>()[..]
        else {
            panic!("{row}");
        };
        assert!(reason.ends_with('.'), "a reason is a sentence: {row}");
        let anchored = |text: &str| Regex::new(&format!("^({text})$")).unwrap();
        Accepted {
            row: row.clone(),
            families: anchored(families.trim_matches('`')),
            series: (series != "all").then(|| {
                // What comes after the matcher is for people.
                let matcher = series.split('`').nth(1).unwrap();
                let (label, value) = matcher.split_once('=').unwrap();
                (label.to_owned(), anchored(value.trim_matches('"')))
            }),
            side: match side {
                "theirs" => Side::Theirs,
                "ours" => Side::Ours,
                "value" => Side::Value,
                other => panic!("{other}"),
            },
        }
    })
    .collect()
}
