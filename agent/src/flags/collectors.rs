//! `--collector.*`, from what the collectors declare.

use std::collections::BTreeMap;

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::{given_switch, switch};
use crate::collector::{COLLECTORS, Collector, NOT_HERE, OptionDesc, OptionKind, Options, not_here};
use crate::plan::Overlay;

/// node_exporter's flag for an option: `mountPointsExclude` is `--collector.filesystem.mount-points-exclude`.
pub fn option_flag(collector: &str, option: &OptionDesc) -> String {
    let mut flag = format!("collector.{collector}.");
    match option.flag {
        // Some flags of node_exporter do not name their collector as it is called.
        Some(whole) if whole.starts_with("collector.") => return whole.to_owned(),
        Some(spelling) => return flag + spelling,
        None => {}
    }
    for c in option.key.chars() {
        if c.is_ascii_uppercase() {
            flag.push('-');
        }
        flag.push(c.to_ascii_lowercase());
    }
    flag
}

/// Adds the flags of every collector.
pub(super) fn add(mut command: Command) -> Command {
    command = switch(command, "collector.disable-defaults", "Run only the collectors that are switched on.");
    for (name, _) in NOT_HERE {
        let flag = format!("collector.{name}");
        command = switch(command, &flag, "Not in this agent.").mut_arg(flag, |argument| argument.hide(true));
    }
    for collector in COLLECTORS {
        let name = collector.name;
        command = switch(command, &format!("collector.{name}"), &format!("Run the {name} collector."));
        for option in collector.options {
            let flag = option_flag(name, option);
            for deprecated in option.deprecated {
                let help = format!("Deprecated: --{flag}.");
                command = option_argument(command, option.kind, deprecated, &help);
                command = command.mut_arg(deprecated, |argument| argument.hide(true));
            }
            command = option_argument(command, option.kind, &flag, option.help);
        }
    }
    command
}

fn option_argument(command: Command, kind: OptionKind, flag: &str, help: &str) -> Command {
    let action = match kind {
        OptionKind::Regex
        | OptionKind::WholeRegex
        | OptionKind::Text
        | OptionKind::NamesOf(_)
        | OptionKind::Number
        | OptionKind::ProcessNames
        | OptionKind::Duration => ArgAction::Set,
        OptionKind::Lines | OptionKind::RegexLines => ArgAction::Append,
        OptionKind::Bool => return switch(command, flag, help),
    };
    let flag = flag.to_owned();
    command.arg(Arg::new(flag.clone()).long(flag).help(help.to_owned()).action(action))
}

/// What the flags say of collectors; what is worth a warning is added to `warnings`.
///
/// # Errors
/// A sentence that names the flag.
pub(super) fn overlay(matches: &ArgMatches, warnings: &mut Vec<String>) -> Result<Overlay, String> {
    let mut overlay = Overlay {
        disable_defaults: given_switch(matches, "collector.disable-defaults").unwrap_or_default(),
        ..Overlay::default()
    };
    for (name, _) in NOT_HERE {
        // To switch it off is what the agent does.
        if given_switch(matches, &format!("collector.{name}")) == Some(true) {
            return Err(format!("--collector.{name}: {}", not_here(name).unwrap_or_default()));
        }
    }
    for collector in COLLECTORS {
        if let Some(is_on) = given_switch(matches, &format!("collector.{}", collector.name)) {
            overlay.enabled.insert(collector.name.to_owned(), is_on);
        }
        let options = options(matches, collector, warnings)?;
        if !options.is_empty() {
            overlay.options.insert(collector.name.to_owned(), options);
        }
    }
    Ok(overlay)
}

fn options(
    matches: &ArgMatches,
    collector: &Collector,
    warnings: &mut Vec<String>,
) -> Result<BTreeMap<String, String>, String> {
    let mut options = BTreeMap::new();
    for option in collector.options {
        let flag = option_flag(collector.name, option);
        let mut first: Option<&str> = None;
        for spelling in std::iter::once(flag.as_str()).chain(option.deprecated.iter().copied()) {
            let Some(value) = given(matches, option.kind, spelling) else { continue };
            if let Some(first) = first {
                return Err(format!("--{first} and --{spelling} are the same; keep --{flag}"));
            }
            first = Some(spelling);
            if spelling != flag {
                warnings.push(format!("--{spelling} is deprecated; use --{flag}"));
            }
            option.kind.check(&value).map_err(|what| format!("--{spelling}: {what}"))?;
            options.insert(option.key.to_owned(), value);
        }
    }
    for (one, other) in collector.exclusive {
        // An empty value is as good as none.
        let is_set = |key: &str| options.get(key).is_some_and(|value: &String| !value.is_empty());
        if is_set(one) && is_set(other) {
            return Err(format!(
                "collector `{}`: only one of `{one}` and `{other}` can be set",
                collector.name
            ));
        }
    }
    let options = Options(options);
    collector.check(&options).map_err(|what| format!("collector `{}`: {what}", collector.name))?;
    Ok(options.0)
}

fn given(matches: &ArgMatches, kind: OptionKind, flag: &str) -> Option<String> {
    if kind == OptionKind::Bool {
        return given_switch(matches, flag).map(|is_on| is_on.to_string());
    }
    let values = matches.get_many::<String>(flag)?;
    Some(values.map(String::as_str).collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::super::Flags;

    #[test]
    fn node_exporters_flags_switch_collectors_and_set_options() {
        let flags = Flags::parse(&[
            "--collector.disable-defaults",
            "--collector.cpu",
            "--no-collector.cpu",
            "--collector.loadavg",
            "--collector.filesystem.mount-points-exclude",
            "^/mnt",
        ])
        .unwrap();
        assert!(flags.overlay.disable_defaults);
        assert_eq!(flags.overlay.enabled, [("cpu".into(), false), ("loadavg".into(), true)].into());
        assert_eq!(flags.overlay.options["filesystem"]["mountPointsExclude"], "^/mnt");
    }

    #[test]
    fn a_collector_that_is_left_out_is_named_and_may_be_switched_off() {
        let error = Flags::parse(&["--collector.ntp"]).unwrap_err();
        assert!(error.contains("--collector.ntp") && error.contains("timex"), "{error}");
        Flags::parse(&["--no-collector.ntp", "--collector.wifi=false"]).unwrap();
    }

    #[test]
    fn a_pattern_that_cannot_be_used_is_an_error_that_names_its_flag() {
        let large = format!("{}{{999}}", r"\pL".repeat(40));
        for (flag, pattern) in [
            ("collector.netdev.device-include", large.as_str()),
            ("collector.diskstats.ignored-devices", &large),
            ("collector.systemd.unit-include", &large),
            ("collector.systemd.unit-include", "a)|(b"),
            // With what it is put into, it would end in a comment.
            ("collector.systemd.unit-exclude", "(?x) a # b"),
        ] {
            let error = Flags::parse(&[&format!("--{flag}={pattern}")]).unwrap_err();
            assert!(
                error.contains(&format!("--{flag}: ")) && error.contains("regular expression"),
                "{error}"
            );
        }
        Flags::parse(&["--collector.systemd.unit-include="]).unwrap();
    }

    #[test]
    fn a_switch_among_the_options_is_written_as_kingpin_has_it() {
        let guest = |flag: &str| Flags::parse(&[flag]).unwrap().overlay.options["cpu"]["guest"].clone();
        let flags = ["--collector.cpu.guest", "--no-collector.cpu.guest", "--collector.cpu.guest=false"];
        assert_eq!(flags.map(guest), ["true", "false", "false"]);
        assert!(Flags::parse(&["--collector.cpu.guest=maybe"]).unwrap_err().contains("collector.cpu.guest"));
    }

    #[test]
    fn a_deprecated_spelling_sets_the_option_and_is_told() {
        let (old, new) =
            ("--collector.diskstats.ignored-devices=^loop", "--collector.diskstats.device-exclude=x");
        let flags = Flags::parse(&[old]).unwrap();
        assert_eq!(flags.overlay.options["diskstats"]["deviceExclude"], "^loop");
        let [warning] = &flags.warnings[..] else { unreachable!("{:?}", flags.warnings) };
        assert!(warning.contains("ignored-devices") && warning.contains("device-exclude"), "{warning}");
        let error = Flags::parse(&[old, new]).unwrap_err();
        assert!(error.contains("ignored-devices") && error.contains("device-exclude"), "{error}");
        assert!(Flags::parse(&[new]).unwrap().warnings.is_empty());
    }
}
