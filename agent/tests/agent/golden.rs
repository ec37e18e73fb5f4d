//! What each collector gives of each recorded node; `UPDATE_EXPECT=1` writes it anew.

use std::fmt::Write as _;

use agent::collector::COLLECTORS;
use agent::compare::{Exposition, Family};
use agent::metric::{NamedDesc, push_label};
use agent::plan::Families;

use crate::fixture::Fixture;

/// What the kernel says of the machine on which the test runs, whatever the files say: values only.
const OF_THIS_MACHINE: [&str; 11] = [
    "container_fs_inodes_free",
    "container_fs_inodes_total",
    "container_fs_limit_bytes",
    "container_fs_usage_bytes",
    "container_last_seen",
    "node_filesystem_avail_bytes",
    "node_filesystem_files",
    "node_filesystem_files_free",
    "node_filesystem_free_bytes",
    "node_filesystem_size_bytes",
    "node_time_seconds",
];

/// Collectors that ask nothing but the kernel of the machine on which the test runs.
const WITHOUT_FILES: [&str; 2] = ["timex", "uname"];

/// Which collectors did all of their work.
const OUTCOME: [&str; 3] = [
    "exporter_agent_collector_errors_total",
    "exporter_agent_collector_success",
    "node_scrape_collector_success",
];

#[test]
fn every_collector_gives_of_every_recorded_node_what_it_gave_before() {
    for fixture in Fixture::all() {
        let exposition = fixture.scrape();
        // For a new fixture.
        std::fs::create_dir_all(fixture.folder.join("expected")).unwrap();
        let check = |name: &str, families: &[&str]| {
            let path = fixture.folder.join("expected").join(format!("{name}.prom"));
            expect_test::expect_file![path].assert_eq(&text(&exposition, families));
        };
        for collector in COLLECTORS.iter().filter(|collector| !WITHOUT_FILES.contains(&collector.name)) {
            let declared = collector.families.iter().map(|f| f.name);
            let is_named = |name: &&str| {
                // No recorded node has textfiles, which may give any name.
                let has_prefix = |n: &NamedDesc| !n.prefix.is_empty() && name.starts_with(n.prefix);
                collector.named.iter().any(has_prefix) && Families::find(name).is_none()
            };
            let named = exposition.keys().map(String::as_str).filter(is_named);
            check(collector.name, &declared.chain(named).collect::<Vec<_>>());
        }
        check("outcome", &OUTCOME);
    }
}

fn text(exposition: &Exposition, families: &[&str]) -> String {
    let mut text = String::new();
    for name in families {
        let Some(Family { kind, help, series }) = exposition.get(*name).filter(|f| !f.series.is_empty())
        else {
            continue;
        };
        writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}").unwrap();
        for (labels, value) in series {
            let label = |(name, value): &(String, String)| {
                let mut text = Vec::new();
                push_label(&mut text, name, value);
                String::from_utf8(text).unwrap()
            };
            let labels: Vec<_> = labels.iter().map(label).collect();
            let braces = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            let value = if OF_THIS_MACHINE.contains(name) { 0.0 } else { *value };
            writeln!(text, "{name}{braces} {value}").unwrap();
        }
    }
    text
}
