//! The committed lists of what there is are those of the collectors; `UPDATE_EXPECT=1` writes them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use agent::collector::{COLLECTORS, Collector, Run, capabilities};
use agent::flags::option_flag;

use agent::scrape::Part;

use crate::fixture::Fixture;

#[test]
fn the_capabilities_are_those_of_the_list() {
    let text = serde_json::to_string_pretty(&capabilities()).unwrap() + "\n";
    expect_test::expect_file![committed("capabilities.json")].assert_eq(&text);
}

#[test]
fn the_metric_reference_is_that_of_the_list() {
    expect_test::expect_file![committed("METRICS.md")].assert_eq(&reference());
}

fn committed(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn reference() -> String {
    let labels = labels();
    let mut text = String::from(
        "# Metrics\n\nGenerated from `agent/src/collector/` by `just generate`. Labels are those seen on the recorded \
         nodes in `agent/fixtures/`; a family without any was not seen there.\n",
    );
    for collector in COLLECTORS {
        let place = match collector.run {
            Run::Node { .. } => "/metrics/node",
            Run::Cgroups { .. } | Run::OomKills { .. } | Run::Storage { part: Part::Cadvisor, .. } => {
                "/metrics/cadvisor"
            }
            Run::Processes { .. } => "/metrics/processes",
            Run::Storage { .. } => "/metrics/volumes",
        };
        writeln!(
            text,
            "\n## {}\n\n{} Exposed at `{place}`.{}",
            collector.name,
            first_sentence(collector),
            off(collector)
        )
        .unwrap();
        text.push_str("\n| family | type | labels | what |\n|---|---|---|---|\n");
        for family in collector.families {
            let labels = labels.get(family.name).map(|l| l.iter().cloned().collect::<Vec<_>>().join(", "));
            let labels = labels.unwrap_or_default();
            writeln!(text, "| `{}` | {} | {labels} | {} |", family.name, family.kind.word(), family.help)
                .unwrap();
        }
        for named in collector.named {
            let name = match named.prefix {
                "" => "any".to_owned(),
                prefix => format!("`{prefix}*`"),
            };
            writeln!(text, "| {name} | as read | | {} |", named.help).unwrap();
        }
        options(collector, &mut text);
    }
    text
}

fn off(collector: &Collector) -> String {
    match collector.enabled_by_default {
        true => String::new(),
        false => format!(" Off by default; `--collector.{}` switches it on.", collector.name),
    }
}

fn options(collector: &Collector, text: &mut String) {
    if collector.options.is_empty() {
        return;
    }
    text.push_str("\n| option | flag | value | default | what |\n|---|---|---|---|---|\n");
    for option in collector.options {
        let kind = option.kind.words();
        let default = match option.default {
            "" => String::new(),
            default => format!("`{}`", default.replace('|', "\\|")),
        };
        let flag = option_flag(collector.name, option);
        writeln!(text, "| `{}` | `--{flag}` | {kind} | {default} | {} |", option.key, option.help).unwrap();
    }
    for (one, other) in collector.exclusive {
        writeln!(text, "\nNot both: `{one}`, `{other}`.").unwrap();
    }
}

fn first_sentence(collector: &Collector) -> String {
    let path = committed("src/collector").join(collector.name).with_extension("rs");
    let source = std::fs::read_to_string(path).unwrap();
    source.lines().next().unwrap().strip_prefix("//! ").unwrap().to_owned()
}

fn labels() -> BTreeMap<String, BTreeSet<String>> {
    let mut labels = BTreeMap::<_, BTreeSet<_>>::new();
    for (name, family) in Fixture::all().iter().flat_map(Fixture::scrape) {
        let seen = family.series.into_keys().flatten().map(|(label, _)| label);
        labels.entry(name).or_default().extend(seen);
    }
    labels
}
