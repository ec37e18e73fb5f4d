//! The command lines of node_exporter are taken as they are.

use agent::collector::not_here;
use agent::flags::Flags;

/// Lines such as `[no-]collector.arp` and `path.procfs=/proc`; those of the real program, which its help lists, are
/// compared with these where it is built.
const FLAGS: &str = include_str!("node_exporter_flags.txt");

/// The collector of node_exporter that a flag is about and that there is not.
fn absent_collector(flag: &str) -> Option<&str> {
    flag.strip_prefix("collector.")?.split('.').next().filter(|name| not_here(name).is_some())
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
    for line in FLAGS.lines().filter(|line| !line.starts_with('#')) {
        let name = line.trim_start_matches("[no-]").split('=').next().unwrap();
        if absent_collector(name).is_none() {
            let arguments = arguments(line);
            // Of a flag and its opposite the last one holds.
            let result = Flags::parse(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
            assert!(result.is_ok(), "{line}: {}", result.unwrap_err());
        }
    }
}

#[test]
fn a_collector_that_there_is_not_is_named_where_it_is_switched_on_or_set() {
    for line in FLAGS.lines() {
        let name = line.trim_start_matches("[no-]").split('=').next().unwrap();
        let Some(collector) = absent_collector(name) else { continue };
        for argument in arguments(line) {
            match Flags::parse(&[&argument]) {
                // To switch off what is not there changes nothing.
                Ok(_) => assert_eq!(argument, format!("--no-collector.{collector}")),
                Err(error) => assert!(error.contains(collector), "{argument}: {error}"),
            }
        }
    }
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
