//! The families of all textfiles as one: what contradicts an earlier file is an error of the later one.

use std::collections::{HashMap, HashSet};

use super::family::Family;
use crate::collector::COLLECTORS;
use crate::metric::{Kind, identity};
use crate::plan::Families;

/// What one file gives.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) path: &'a str,
    pub(super) families: &'a [Family],
}

/// All that is given.
#[derive(Debug, Default)]
pub(super) struct Merged {
    pub(super) families: Vec<MergedFamily>,
    /// By file, what is wrong with it.
    pub(super) faults: Vec<Option<Fault>>,
}

/// What is wrong with a file that reads well by itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing of it is given.
    Refused(String),
    /// Some of its families are not, as in node_exporter: those whose HELP is another one.
    LeftOut(String),
}

/// A family, and where its series are: file, and family within the file.
#[derive(Debug)]
pub(super) struct MergedFamily {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) help: String,
    pub(super) parts: Vec<(usize, usize)>,
}

/// What the agent says of itself, whatever collectors it has: names, or their beginnings.
const RESERVED: [&str; 11] = [
    "exporter_agent_",
    "node_exporter_build_info",
    "node_scrape_collector_",
    "process_cpu_seconds_total",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_virtual_memory_bytes",
    "process_virtual_memory_max_bytes",
    "promhttp_metric_handler_",
];

/// Merges files, the earlier before the later.
pub(super) fn merge(files: &[Source<'_>]) -> Merged {
    let mut merging = Merging { files, families: Vec::new(), places: HashMap::new(), names: HashMap::new() };
    let faults = (0..files.len()).map(|file| merging.take(file)).collect();
    let families = merging.families.into_iter().map(|family| finish(files, family)).collect();
    Merged { families, faults }
}

struct Merging<'a> {
    files: &'a [Source<'a>],
    families: Vec<Draft<'a>>,
    /// Of the families, by name.
    places: HashMap<&'a str, usize>,
    /// Whose a name of series is: `x_count` is that of the family `x`.
    names: HashMap<String, &'a str>,
}

struct Draft<'a> {
    name: &'a str,
    kind: Kind,
    help: Option<&'a str>,
    parts: Vec<(usize, usize)>,
}

impl<'a> Merging<'a> {
    fn take(&mut self, file: usize) -> Option<Fault> {
        let families = self.files[file].families;
        let mut left_out = Vec::new();
        let mut taken = Vec::new();
        for (number, family) in families.iter().enumerate() {
            match self.other_help(family) {
                Some(what) => left_out.push(what),
                None => taken.push(number),
            }
        }
        let mut own_names = HashMap::new();
        for family in taken.iter().map(|number| &families[*number]) {
            if let Some(what) = self.contradiction(family, &mut own_names) {
                return Some(Fault::Refused(what));
            }
        }
        for number in taken {
            let family = &families[number];
            let place = *self.places.entry(&family.name).or_insert_with(|| {
                let (name, kind) = (family.name.as_str(), family.kind);
                self.families.push(Draft { name, kind, help: None, parts: Vec::new() });
                self.families.len() - 1
            });
            let draft = &mut self.families[place];
            draft.help = draft.help.or(family.help.as_deref());
            draft.parts.push((file, number));
        }
        self.names.extend(own_names);
        (!left_out.is_empty()).then(|| Fault::LeftOut(left_out.join("; ")))
    }

    /// Whether an earlier file has another HELP for it.
    fn other_help(&self, family: &Family) -> Option<String> {
        let earlier = &self.families[*self.places.get(family.name.as_str())?];
        let (theirs, ours) = (earlier.help?, family.help.as_deref()?);
        (theirs != ours).then(|| {
            let first = self.path_of(earlier);
            format!("{}: its HELP is not that of {first}, so it is left out", family.name)
        })
    }

    /// What keeps a family, and so its file, from being given beside what is there.
    fn contradiction(&self, family: &'a Family, own_names: &mut HashMap<String, &'a str>) -> Option<String> {
        let name = family.name.as_str();
        if let Some(reserved) = RESERVED.iter().find(|prefix| name.starts_with(**prefix)) {
            return Some(format!("{name}: {reserved} is the agent's own"));
        }
        for series in family.names() {
            let declared = Families::find(&series)
                .and_then(|number| COLLECTORS.iter().flat_map(|c| c.families).nth(number));
            if let Some(declared) = declared.filter(|d| series != name || d.kind != family.kind) {
                return Some(format!(
                    "{series}: a {} of a collector, and of the {} {name} here",
                    declared.kind.word(),
                    family.kind.word()
                ));
            }
            let other = self.names.get(&series).or(own_names.get(&series));
            if let Some(other) = other.filter(|other| **other != name) {
                return Some(format!("{series}: a name in both the families {other} and {name}"));
            }
            own_names.insert(series, name);
        }
        let earlier = &self.families[*self.places.get(name)?];
        if earlier.kind != family.kind {
            let (theirs, ours) = (earlier.kind.word(), family.kind.word());
            return Some(format!("{name}: a {theirs} in {}, and a {ours} here", self.path_of(earlier)));
        }
        earlier.parts.iter().find_map(|(file, number)| {
            let theirs = &self.files[*file].families[*number];
            let known: HashSet<_> =
                theirs.series().map(|(labels, suffix, _)| (suffix, identity(labels))).collect();
            let twice = |(labels, suffix, _): &(&[u8], _, f64)| known.contains(&(*suffix, identity(labels)));
            let (labels, suffix, _) = family.series().find(twice)?;
            Some(format!("{} is in {}, too", family.spell(labels, suffix), self.files[*file].path))
        })
    }

    fn path_of(&self, family: &Draft<'_>) -> &'a str {
        family.parts.first().map_or("", |(file, _)| self.files[*file].path)
    }
}

fn finish(files: &[Source<'_>], draft: Draft<'_>) -> MergedFamily {
    let help = draft.help.map(str::to_owned).unwrap_or_else(|| {
        let paths: Vec<_> = draft.parts.iter().map(|(file, _)| files[*file].path).collect();
        format!("Metric read from {}", paths.join(", "))
    });
    MergedFamily { name: draft.name.to_owned(), kind: draft.kind, help, parts: draft.parts }
}

#[cfg(test)]
mod tests {
    use super::super::parse::parse;
    use super::*;

    /// What comes of files with these texts, called a, b and so on: `name kind help values`, and the faults.
    fn check(texts: &[&str], expected: &[&str], faults: &[Option<&str>]) {
        let families: Vec<_> = texts.iter().map(|text| parse(text.as_bytes()).unwrap()).collect();
        let paths = ["a", "b", "c"];
        let files: Vec<_> =
            families.iter().zip(paths).map(|(families, path)| Source { path, families }).collect();
        let merged = merge(&files);
        let lines: Vec<String> = merged
            .families
            .iter()
            .map(|family| {
                let values =
                    family.parts.iter().flat_map(|(file, number)| files[*file].families[*number].series());
                let values: Vec<_> = values.map(|(_, _, value)| value.to_string()).collect();
                format!("{} {} {} {}", family.name, family.kind.word(), family.help, values.join(" "))
            })
            .collect();
        assert_eq!(lines, expected);
        assert_eq!(merged.faults.len(), faults.len());
        for (fault, expected) in merged.faults.iter().zip(faults) {
            let text = match fault {
                Some(Fault::Refused(what)) => format!("refused: {what}"),
                Some(Fault::LeftOut(what)) => format!("left out: {what}"),
                None => String::new(),
            };
            assert_eq!(text.is_empty(), expected.is_none(), "{text}");
            assert!(text.contains(expected.unwrap_or_default()), "{text}");
        }
    }

    #[test]
    fn a_family_in_several_files_is_one() {
        let [a, b] =
            ["# HELP x Help.\n# TYPE x gauge\nx{f=\"a\"} 1\n", "# TYPE x gauge\nx{f=\"b\"} 2\ny 3\n"];
        check(&[a, b], &["x gauge Help. 1 2", "y untyped Metric read from b 3"], &[None, None]);
        check(&[b, a], &["x gauge Help. 2 1", "y untyped Metric read from a 3"], &[None, None]);
        check(&["x{f=\"a\"} 1\n", "x{f=\"b\"} 2\n"], &["x untyped Metric read from a, b 1 2"], &[None, None]);
    }

    #[test]
    fn another_help_costs_the_later_file_that_family() {
        let [a, b] = ["# HELP x One.\nx{f=\"a\"} 1\n", "# HELP x Two.\nx{f=\"b\"} 2\ny 3\n"];
        let what = Some("left out: x: its HELP is not that of a");
        check(&[a, b], &["x untyped One. 1", "y untyped Metric read from b 3"], &[None, what]);
    }

    #[test]
    fn what_contradicts_an_earlier_file_is_refused_whole() {
        let a = "# TYPE x gauge\nx{f=\"a\"} 1\n";
        let given = ["x gauge Metric read from a 1"];
        let refused = |b: &str, what: &str| check(&[a, b], &given, &[None, Some(what)]);
        refused("y 2\n# TYPE x counter\nx{f=\"b\"} 2\n", "refused: x: a gauge in a, and a counter here");
        refused("y 2\n# TYPE x gauge\nx{f=\"b\"} 2\nx{f=\"a\",g=\"\"} 3\n", "x{f=\"a\",g=\"\"} is in a, too");
        let a = "x_count 1\n";
        check(
            &[a, "# TYPE x summary\nx_count 2\n", "z 3\n"],
            &["x_count untyped Metric read from a 1", "z untyped Metric read from c 3"],
            &[None, Some("x_count: a name in both the families x_count and x"), None],
        );
    }

    #[test]
    fn what_is_of_the_agent_is_not_of_a_textfile() {
        let refused = |text: &str, what: &str| check(&[text], &[], &[Some(what)]);
        let telemetry = crate::telemetry::Telemetry::new().unwrap();
        let own = [telemetry.gather_build(), telemetry.gather_exporter(), telemetry.gather()];
        for family in own.iter().flatten() {
            refused(&format!("{} 1\n", family.name()), "the agent's own");
        }
        refused("node_scrape_collector_success 1\n", "the agent's own");
        refused("# TYPE node_load1 counter\nnode_load1 1\n", "node_load1: a gauge of a collector");
        refused("x_count 1\n# TYPE x histogram\nx_sum 1\n", "x_count: a name in both");
        check(
            &["# TYPE node_load1 gauge\nnode_load1{of=\"us\"} 1\n"],
            &["node_load1 gauge Metric read from a 1"],
            &[None],
        );
    }
}
