//! What holds for every collector of the list.

use std::collections::BTreeSet;
use std::path::Path;

use agent::collector::{COLLECTORS, NOT_HERE, Run};
use agent::metric::Kind;

use crate::fixture::Fixture;

#[test]
fn the_list_and_the_files_agree() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/collector");
    let files: BTreeSet<_> = std::fs::read_dir(folder)
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".rs").map(str::to_owned))
        .collect();
    let listed: BTreeSet<_> = COLLECTORS.iter().map(|c| c.name.to_owned()).collect();
    assert_eq!(listed, files);
    assert_eq!(listed.len(), COLLECTORS.len(), "a name is there twice");
}

#[test]
fn what_is_left_out_is_not_there() {
    let listed = |name: &str| COLLECTORS.iter().any(|collector| collector.name == name);
    assert_eq!(NOT_HERE.iter().find(|(name, _)| listed(name)), None);
}

#[test]
fn no_family_has_two_collectors() {
    let mut seen = BTreeSet::new();
    for family in COLLECTORS.iter().flat_map(|c| c.families) {
        assert!(seen.insert(family.name), "{}", family.name);
    }
}

#[test]
fn names_say_whose_and_of_which_type_a_family_is() {
    for collector in COLLECTORS {
        let prefixes: &[&str] = match collector.run {
            Run::Node { .. } => &["node_"],
            Run::Cgroups { .. } => &["cadvisor_", "container_", "machine_"],
            Run::OomKills { .. } => &["container_"],
            Run::Processes { .. } => &["namedprocess_namegroup_"],
            Run::Storage { .. } => &["container_", "kubelet_volume_stats_"],
        };
        for family in collector.families {
            let name = family.name;
            assert!(prefixes.iter().any(|prefix| name.starts_with(prefix)), "{name}");
            assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'), "{name}");
            let is_total = name.ends_with("_total");
            // Established names, which stay.
            let is_counter = match name {
                "container_hugetlb_failcnt" | "container_memory_failcnt" => false,
                "container_fs_inodes_total" | "node_systemd_socket_refused_connections_total" => true,
                _ => family.kind == Kind::Counter,
            };
            assert_eq!(is_total, is_counter, "{name}");
        }
    }
}

#[test]
fn who_may_give_any_name_comes_after_all_others_of_the_machine() {
    let of_node: Vec<_> = COLLECTORS.iter().filter(|c| matches!(c.run, Run::Node { .. })).collect();
    let any = of_node.iter().position(|c| c.named.iter().any(|n| n.prefix.is_empty()));
    assert_eq!(any, Some(of_node.len() - 1));
}

#[test]
fn help_is_one_sentence_that_needs_no_escaping() {
    let families = COLLECTORS.iter().flat_map(|c| c.families).map(|f| (f.name, f.help));
    let options = COLLECTORS.iter().flat_map(|c| c.options).map(|o| (o.key, o.help));
    for (name, help) in families.chain(options) {
        assert!(help.starts_with(|c: char| c.is_ascii_uppercase() || c.is_ascii_digit()), "{name}: {help}");
        assert!(help.ends_with('.') && !help.contains(['\\', '\n']), "{name}: {help}");
    }
}

#[test]
fn defaults_of_options_are_values_that_would_be_accepted() {
    for collector in COLLECTORS {
        let keys: Vec<_> = collector.options.iter().map(|o| o.key).collect();
        for option in collector.options {
            if !option.default.is_empty() {
                option.kind.check(option.default).unwrap();
            }
            assert!(option.key.bytes().all(|b| b.is_ascii_alphanumeric()), "{}", option.key);
        }
        for (one, other) in collector.exclusive {
            assert!(keys.contains(one) && keys.contains(other), "{}: {one}, {other}", collector.name);
        }
    }
}

#[test]
fn what_is_exposed_is_what_was_declared() {
    let declared = |name: &str| COLLECTORS.iter().flat_map(|c| c.families).find(|f| f.name == name);
    for fixture in Fixture::all() {
        for (name, family) in fixture.scrape() {
            // What is said of the exporter itself.
            let own =
                ["exporter_agent_", "node_scrape_collector_", "node_exporter_", "process_", "promhttp_"];
            if own.iter().any(|prefix| name.starts_with(prefix)) {
                continue;
            }
            // No recorded node has textfiles, which may give any name.
            let mut prefixes =
                COLLECTORS.iter().flat_map(|c| c.named).map(|n| n.prefix).filter(|p| !p.is_empty());
            let mut named = || prefixes.any(|prefix| name.starts_with(prefix));
            let Some(declared) = declared(&name) else {
                assert!(named(), "{}: {name} is declared by nobody", fixture.name);
                continue;
            };
            assert_eq!(
                (declared.kind.word(), declared.help),
                (family.kind.as_str(), family.help.as_str()),
                "{name}"
            );
        }
    }
}
