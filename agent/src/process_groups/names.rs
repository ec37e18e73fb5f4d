//! process-exporter's configuration: which processes belong together, and under which name.

use std::collections::BTreeSet;

use regex::Regex;
use serde::Deserialize;

use super::template::Template;

/// Rules in order; the first that matches names a process.
#[derive(Clone, Debug)]
pub struct Names(Vec<Rule>);

/// One rule; every kind of condition that it has must hold.
#[derive(Clone, Debug)]
struct Rule {
    comm: Option<BTreeSet<String>>,
    exe: Option<Vec<Exe>>,
    cmdline: Option<Vec<Regex>>,
    name: Template,
}

/// A program by its whole path, or by the last part of it.
#[derive(Clone, Debug)]
enum Exe {
    Path(String),
    Base(String),
}

/// What is known of a process when it is named.
#[derive(Clone, Copy, Debug)]
pub struct Process<'a> {
    /// The kernel's name of it.
    pub comm: &'a str,
    /// The command line, its words separated by spaces; of kernel threads and zombies empty.
    pub arguments: &'a str,
    /// The first word of the command line.
    pub exe: &'a str,
    /// The effective user's name.
    pub user: &'a str,
    /// Its number.
    pub pid: u32,
    /// When it began.
    pub started: jiff::Timestamp,
    /// `/proc/PID/cgroup`
    pub cgroups: &'a str,
}

impl<'a> Process<'a> {
    /// The program as its command line has it; its name where it has none.
    pub(super) fn exe(&self) -> &'a str {
        if self.arguments.is_empty() { self.comm } else { self.exe }
    }

    /// The last part of that.
    pub(super) fn exe_base(&self) -> &'a str {
        base(self.exe())
    }

    pub(super) fn cgroups(&self) -> impl Iterator<Item = &'a str> {
        self.cgroups.lines().filter_map(|line| line.splitn(3, ':').nth(2))
    }
}

fn base(path: &str) -> &str {
    let path = path.trim_end_matches('/');
    path.rsplit('/').next().unwrap_or(path)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    process_names: Vec<FileRule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileRule {
    name: Option<String>,
    comm: Option<Vec<String>>,
    exe: Option<Vec<String>>,
    cmdline: Option<Vec<String>>,
}

/// As process-exporter names a group whose rule gives no name.
const UNNAMED: &str = "{{.ExeBase}}";

impl Names {
    /// Every process under the kernel's name of it, but for threads of the kernel.
    pub const DEFAULT: &'static str = "process_names:\n- name: \"{{.Comm}}\"\n  cmdline:\n  - \".+\"\n";

    /// Reads the YAML of process-exporter.
    ///
    /// # Errors
    /// A sentence that names the rule, or the line.
    pub fn parse(yaml: &str) -> Result<Self, String> {
        let options = serde_saphyr::options! { with_snippet: false };
        let file: File =
            serde_saphyr::from_str_with_options(yaml, options).map_err(|error| error.to_string())?;
        let rules = file.process_names.into_iter().enumerate();
        let rules =
            rules.map(|(i, rule)| rule.checked().map_err(|what| format!("process_names[{i}]: {what}")));
        Ok(Names(rules.collect::<Result<_, _>>()?))
    }

    /// The first name that shows part of a command line, if any does.
    pub fn showing_command_line(&self) -> Option<usize> {
        self.0.iter().position(|rule| rule.name.shows_command_line())
    }

    /// Whether any name has the user in it.
    pub fn has_user(&self) -> bool {
        self.0.iter().any(|rule| rule.name.has_user())
    }

    /// Whether any name has cgroups in it.
    pub fn has_cgroups(&self) -> bool {
        self.0.iter().any(|rule| rule.name.has_cgroups())
    }

    /// Whether command lines are asked for.
    pub fn has_command_line(&self) -> bool {
        let reads = |rule: &Rule| rule.exe.is_some() || rule.cmdline.is_some();
        self.showing_command_line().is_some() || self.0.iter().any(reads)
    }

    /// Writes the name of a process's group; answers whether it has any.
    pub fn name(&self, process: &Process<'_>, name: &mut String) -> bool {
        name.clear();
        let Some(rule) = self.0.iter().find(|rule| rule.matches(process)) else { return false };
        // What a later pattern captured under the same name holds.
        let patterns = rule.cmdline.as_deref().unwrap_or_default();
        let captured = |key: &str| {
            patterns
                .iter()
                .rev()
                .find_map(|pattern| Some(pattern.captures(process.arguments)?.name(key)?.as_str()))
        };
        rule.name.write(process, captured, name);
        true
    }
}

impl FileRule {
    fn checked(self) -> Result<Rule, String> {
        if self.comm.is_none() && self.exe.is_none() && self.cmdline.is_none() {
            return Err("none of comm, exe and cmdline is there, so that it would match nothing".to_owned());
        }
        let exe = |exe: String| if exe.contains('/') { Exe::Path(exe) } else { Exe::Base(exe) };
        let pattern = |text: String| {
            regex::RegexBuilder::new(&text)
                .size_limit(1 << 20)
                .build()
                .map_err(|error| format!("cmdline `{text}` is not a regular expression: {error}"))
        };
        let cmdline = self.cmdline.map(|all| all.into_iter().map(pattern).collect::<Result<_, _>>());
        Ok(Rule {
            comm: self.comm.map(|all| all.into_iter().collect()),
            exe: self.exe.map(|all| all.into_iter().map(exe).collect()),
            cmdline: cmdline.transpose()?,
            name: Template::parse(self.name.as_deref().filter(|n| !n.is_empty()).unwrap_or(UNNAMED))?,
        })
    }
}

impl Rule {
    fn matches(&self, process: &Process<'_>) -> bool {
        let is_exe = |exe: &Exe| match exe {
            Exe::Path(path) => path == process.exe,
            Exe::Base(name) => name == base(process.exe),
        };
        self.comm.as_ref().is_none_or(|all| all.contains(process.comm))
            && self.exe.as_ref().is_none_or(|all| !process.arguments.is_empty() && all.iter().any(is_exe))
            && self.cmdline.as_ref().is_none_or(|all| all.iter().all(|p| p.is_match(process.arguments)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process<'a>(comm: &'a str, arguments: &'a str) -> Process<'a> {
        let exe = arguments.split(' ').next().unwrap();
        let started = jiff::Timestamp::UNIX_EPOCH;
        Process { comm, arguments, exe, user: "root", pid: 1, started, cgroups: "" }
    }

    #[track_caller]
    fn check(rules: &str, comm: &str, arguments: &str, expected: Option<&str>) {
        let names = Names::parse(&format!("process_names:\n{rules}")).unwrap();
        let mut name = String::new();
        let found = names.name(&process(comm, arguments), &mut name);
        assert_eq!(found.then_some(name.as_str()), expected, "{comm} {arguments}");
    }

    #[test]
    fn every_kind_of_condition_must_hold_and_the_first_rule_names() {
        let rules = "
- {name: shell, comm: [bash, sh], cmdline: ['-c', 'sleep']}
- {exe: [/usr/bin/java, postgres], name: '{{.ExeBase}}'}
- {comm: [java], name: other}
";
        check(rules, "sh", "/bin/sh -c sleep 1", Some("shell"));
        check(rules, "sh", "/bin/sh -c true", None);
        check(rules, "java", "/usr/bin/java -jar", Some("java"));
        check(rules, "java", "/opt/bin/java -jar", Some("other"));
        check(rules, "x", "/opt/pg/postgres -D", Some("postgres"));
        check(rules, "postgres", "", None);
    }

    #[test]
    fn captures_of_every_pattern_are_there() {
        let rules =
            "- {name: '{{.Matches.a}}-{{.Matches.b}}', cmdline: ['--a=(?P<a>\\S+)', '--b=(?P<b>\\S+)']}";
        check(rules, "x", "x --b=2 --a=1", Some("1-2"));
        check(rules, "x", "x --b=2", None);
    }

    #[test]
    fn a_rule_without_a_name_has_the_programs_and_an_empty_list_matches_nothing() {
        check("- cmdline: [a]", "comm", "/bin/a b", Some("a"));
        check("- {name: x, comm: []}", "comm", "a", None);
        let default = Names::parse(Names::DEFAULT).unwrap();
        let mut name = String::new();
        assert!(default.name(&process("a b", "x"), &mut name) && name == "a b");
        assert!(!default.name(&process("kthreadd", ""), &mut name));
    }

    #[test]
    fn what_would_show_a_command_line_is_known() {
        let showing = |rule: &str| {
            Names::parse(&format!("process_names: [{{comm: [a], name: '{rule}'}}]"))
                .unwrap()
                .showing_command_line()
        };
        for shown in ["{{.ExeBase}}", "{{.ExeFull}}", "{{.Matches.a}}", ""] {
            assert_eq!(showing(shown), Some(0), "{shown}");
        }
        assert_eq!(showing("{{.Comm}}{{.Username}}{{.PID}}{{.Cgroups}}"), None);
    }

    #[test]
    fn what_makes_no_sense_is_an_error_that_says_where() {
        for (yaml, part) in [
            ("process_names: [{name: a}]", "process_names[0]"),
            ("process_names: [{comm: [a]}, {cmdline: ['(']}]", "process_names[1]: cmdline `(`"),
            ("process_names: [{comm: [a], name: '{{.No}}'}]", "{{.No}}"),
            ("process_names: [{comm: [a], commm: [b]}]", "commm"),
            ("other: []", "other"),
            ("", ""),
            ("[", ""),
        ] {
            let error = Names::parse(yaml).unwrap_err();
            assert!(error.contains(part), "{yaml}: {error}");
        }
    }
}
