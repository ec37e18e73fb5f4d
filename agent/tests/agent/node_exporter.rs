//! The command lines of node_exporter are taken as they are.

use std::collections::BTreeSet;

use agent::collector::{COLLECTORS, not_here};
use agent::flags::Flags;

/// Lines such as `[no-]collector.arp` and `path.procfs=/proc`; those of the real program, which its help lists, are
/// compared with these where it is built.
const FLAGS: &str = include_str!("node_exporter_flags.txt");

/// The collector that a flag is about; some flags name it in another way.
fn collector(flag: &str) -> Option<&str> {
    let name = flag.strip_prefix("collector.")?.split('.').next()?;
    match name {
        "disable-defaults" => None,
        "netclass_rtnl" => Some("netclass"),
        "powersupply" => Some("powersupplyclass"),
        "qdisk" => Some("qdisc"),
        name => Some(name),
    }
}

/// The arguments that a line stands for.
fn arguments(line: &str) -> Vec<String> {
    match (line.strip_prefix("[no-]"), line.split_once('=')) {
        (Some("help" | "version"), _) => Vec::new(),
        (Some(name), _) => vec![format!("--{name}"), format!("--no-{name}")],
        // Where there is no default, a value that is a pattern, a text and a number.
        (None, Some((name, ""))) => vec![format!("--{name}=1")],
        _ => vec![format!("--{line}")],
    }
}

#[test]
fn every_flag_of_node_exporter_is_taken() {
    let lines: Vec<_> = FLAGS.lines().filter(|line| !line.starts_with('#')).collect();
    let mut untaken = Vec::new();
    let mut absent = BTreeSet::new();
    for line in &lines {
        let name = line.trim_start_matches("[no-]").split('=').next().unwrap();
        for argument in arguments(line) {
            let result = Flags::parse(&[&argument]);
            match collector(name) {
                // To switch off what is not there changes nothing.
                Some(name) if not_here(name).is_some() && argument.starts_with("--no-") => {
                    assert!(result.is_ok() || argument.matches('.').count() > 1, "{argument}");
                }
                Some(name) if not_here(name).is_some() => {
                    let error = result.map(|_| ()).unwrap_err();
                    assert!(error.contains(name), "{argument}: {error}");
                }
                Some(name) if !COLLECTORS.iter().any(|c| c.name == name) => {
                    absent.insert(name);
                }
                about => {
                    let Err(error) = result else { continue };
                    assert!(about.is_some(), "{argument}: {error}");
                    untaken.push(argument);
                }
            }
        }
    }
    // Where a collector is still to come, its flags and those of others may be, too.
    assert!(untaken.is_empty() || !absent.is_empty(), "{untaken:#?}");
}

#[test]
fn deprecated_flags_and_flags_without_effect_are_told() {
    let hidden = FLAGS.split_once("\n# ").unwrap().1;
    for line in hidden.lines().skip(1).filter(|line| !line.starts_with('[')) {
        let [argument] = &arguments(line)[..] else { unreachable!("{line}") };
        let Ok(flags) = Flags::parse(&[argument]) else { continue };
        let name = line.split('=').next().unwrap();
        let is_told = flags.warnings.iter().any(|warning| warning.contains(name));
        // What node_exporter only hides is heeded.
        let is_heeded = name == "collector.filesystem.mount-timeout" && !flags.overlay.options.is_empty();
        assert!(is_told != is_heeded, "{argument}: {:?}", flags.warnings);
    }
}

#[test]
fn the_version_that_is_named_is_the_one_that_we_compare_with() {
    let module = include_str!("../../../e2e/parts/node_exporter/go.mod");
    let version = agent::telemetry::NODE_EXPORTER_VERSION;
    assert!(module.contains(&format!("prometheus/node_exporter v{version} ")), "{version}");
    assert!(FLAGS.contains(&format!("node_exporter {version} ")), "{version}");
}
