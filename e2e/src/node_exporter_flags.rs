//! The flags of the real node_exporter against the list that the agent's tests take for them.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::parts::NODE_EXPORTER;

const LIST: &str = "../agent/tests/agent/node_exporter_flags.txt";
/// What follows in the list is hidden from help, so that it is kept as it is and only tried.
const HIDDEN: &str = "# Those that it does not list.\n";

/// Compares, or with `UPDATE_EXPECT` writes the list anew; says what it has found.
pub fn check() -> Result<String> {
    let program = NODE_EXPORTER.program("node_exporter")?;
    let run = |arguments: &[&str]| -> Result<(bool, String)> {
        let output = Command::new(&program).args(arguments).output().context("cannot start node_exporter")?;
        let text = [output.stdout, output.stderr].concat();
        Ok((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
    };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(LIST);
    let list = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let (_, hidden) = list.split_once(HIDDEN).context("the list of flags has no hidden ones")?;
    // It names the version, which the agent's tests compare with the one that is built.
    let mut text = format!("{}\n", list.lines().next().unwrap_or_default());
    for flag in listed(&run(&["--help-long"])?.1) {
        writeln!(text, "{flag}")?;
    }
    text += &format!("{HIDDEN}{hidden}");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, &text)?;
    } else {
        ensure!(text == list, "{LIST} is not what node_exporter says; UPDATE_EXPECT=1 writes it anew");
    }
    for flag in hidden.lines() {
        let argument = format!("--{}", flag.trim_start_matches("[no-]"));
        let (is_taken, said) = run(&[&argument, "--version"])?;
        ensure!(is_taken, "node_exporter does not take {argument}: {said}");
    }
    Ok(format!("{} flags of node_exporter", text.lines().filter(|l| !l.starts_with('#')).count()))
}

/// The flags of kingpin's help: `[no-]NAME`, or `NAME=DEFAULT`.
fn listed(help: &str) -> Vec<String> {
    help.lines().filter_map(flag).collect()
}

fn flag(line: &str) -> Option<String> {
    let flag = line.trim_start();
    // What is further to the right is text that happens to begin like a flag.
    if line.len() - flag.len() > 6 {
        return None;
    }
    let flag = flag.strip_prefix("-h, ").unwrap_or(flag).strip_prefix("--")?;
    let name_end = flag.find(['=', ' ']).unwrap_or(flag.len());
    let (name, rest) = flag.split_at(name_end);
    let Some(default) = rest.strip_prefix('=') else { return Some(name.to_owned()) };
    if default.starts_with('"') {
        let quoted = serde_json::Deserializer::from_str(default).into_iter::<String>().next()?.ok()?;
        return Some(format!("{name}={quoted}"));
    }
    let default = default.split(' ').next().unwrap_or_default().trim_end_matches("...");
    // Where there is no default, help writes the name once more.
    let default = if default == name.to_uppercase() { "" } else { default };
    Some(format!("{name}={default}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_from_kingpins_help() {
        let help = "usage: x [<flags>]\n\nFlags:\n  -h, --[no-]help                Show help (also try\n\
                    \x20                                --help-long and --help-man).\n\
                    \x20     --a.include=A.INCLUDE  \n                                 Text.\n\
                    \x20     --a.exclude=\"^(b|\\\\d c)$\"  \n\
                    \x20     --a.directory= ...         Repeatable.\n\
                    \x20     --log.level=info           Only \"these\".\n";
        let expected = ["[no-]help", "a.include=", "a.exclude=^(b|\\d c)$", "a.directory=", "log.level=info"];
        assert_eq!(listed(help), expected);
    }
}
