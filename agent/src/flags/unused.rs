//! Flags of node_exporter that are taken, so that a command line need not change, and that do nothing here.

use clap::{Arg, ArgAction, ArgMatches, Command};

/// A flag with a value, and why there is nothing to set.
struct Unused {
    flag: &'static str,
    why: &'static str,
}

const UNUSED: [Unused; 3] = [
    Unused {
        flag: "runtime.gomaxprocs",
        why: "there is no Go runtime; a scrape keeps one processor busy at the most",
    },
    Unused {
        flag: "collector.filesystem.stat-workers",
        why: "only a mount that does not answer takes a thread",
    },
    Unused { flag: "collector.qdisc.fixtures", why: "it is for node_exporter's own tests" },
];

/// Adds them, where help does not show them.
pub(super) fn add(command: Command) -> Command {
    let argument =
        |unused: &Unused| Arg::new(unused.flag).long(unused.flag).hide(true).action(ArgAction::Set);
    command.args(UNUSED.iter().map(argument))
}

/// A warning for each that is given.
pub(super) fn warnings(matches: &ArgMatches) -> impl Iterator<Item = String> {
    let given = UNUSED.iter().filter(|unused| matches.contains_id(unused.flag));
    given.map(|Unused { flag, why }| format!("--{flag} has no effect: {why}"))
}
