//! What can be set of a collector, by a policy or a flag, and how it is checked.

use std::collections::BTreeMap;
use std::time::Duration;

use regex::Regex;

use crate::collector::Collector;
use crate::duration;
use crate::process_groups::Names;

/// One option of a collector.
#[derive(Debug)]
pub struct OptionDesc {
    /// The key in a policy.
    pub key: &'static str,
    /// The flag, without `--collector.NAME.`, where it is not the key in kebab case; or the whole of it without `--`.
    pub flag: Option<&'static str>,
    /// Whole deprecated spellings of the flag, without `--`; they are taken with a warning.
    pub deprecated: &'static [&'static str],
    /// What its value must be.
    pub kind: OptionKind,
    /// The value when none is set.
    pub default: &'static str,
    /// What it does.
    pub help: &'static str,
    /// Whether `true` does nothing without the right to look into processes of others.
    pub is_privileged: bool,
}

impl OptionDesc {
    /// An option whose flag is its key in kebab case.
    pub const fn new(key: &'static str, kind: OptionKind, default: &'static str, help: &'static str) -> Self {
        OptionDesc { key, flag: None, deprecated: &[], kind, default, help, is_privileged: false }
    }

    /// One that does nothing without the right to look into processes of others.
    pub const fn privileged(self) -> Self {
        OptionDesc { is_privileged: true, ..self }
    }

    /// With a flag of another spelling.
    pub const fn flag(self, flag: &'static str) -> Self {
        OptionDesc { flag: Some(flag), ..self }
    }

    /// With deprecated spellings.
    pub const fn deprecated(self, deprecated: &'static [&'static str]) -> Self {
        OptionDesc { deprecated, ..self }
    }
}

/// What an option's value must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionKind {
    /// A regular expression, not anchored, as in node_exporter.
    Regex,
    /// The same, which a name must match from its start to its end.
    WholeRegex,
    /// `true` or `false`.
    Bool,
    /// Any text.
    Text,
    /// Texts, one a line; the flag may be repeated.
    Lines,
    /// Regular expressions, one a line; the flag may be repeated.
    RegexLines,
    /// Which processes belong together, as process-exporter has it.
    ProcessNames,
    /// Some of these names, separated by commas.
    NamesOf(&'static [&'static str]),
    /// A whole number, not negative.
    Number,
    /// A time such as `90s`, `10m` or `1h30m`.
    Duration,
}

impl OptionKind {
    /// Checks a value.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn check(self, value: &str) -> Result<(), String> {
        match self {
            OptionKind::Regex => compile(value).map(|_| ()),
            // By itself first, or `a)|(b` would do.
            OptionKind::WholeRegex => compile(value).and_then(|_| compile_whole(value)).map(|_| ()),
            OptionKind::Bool => match value {
                "true" | "false" => Ok(()),
                _ => Err(format!("`{value}` is neither `true` nor `false`")),
            },
            OptionKind::Text | OptionKind::Lines => Ok(()),
            OptionKind::RegexLines => compile_lines(value).map(|_| ()),
            OptionKind::ProcessNames if value.is_empty() => Ok(()),
            OptionKind::ProcessNames => Names::parse(value).map(|_| ()),
            OptionKind::NamesOf(names) => {
                match value.split(',').find(|name| !name.is_empty() && !names.contains(name)) {
                    Some(name) => Err(format!("`{name}` is none of {}", names.join(", "))),
                    None => Ok(()),
                }
            }
            OptionKind::Number => match value.parse::<u64>() {
                Ok(_) => Ok(()),
                Err(_) => Err(format!("`{value}` is not a whole number")),
            },
            OptionKind::Duration => duration::parse(value).map(|_| ()),
        }
    }

    /// What its value must be, in words.
    pub fn words(self) -> &'static str {
        match self {
            OptionKind::Regex | OptionKind::WholeRegex => "regular expression",
            OptionKind::Bool => "true or false",
            OptionKind::Text => "text",
            OptionKind::Lines => "texts, one a line",
            OptionKind::RegexLines => "regular expressions, one a line",
            OptionKind::ProcessNames => "YAML",
            OptionKind::NamesOf(_) => "names, separated by commas",
            OptionKind::Number => "number",
            OptionKind::Duration => "duration",
        }
    }
}

fn compile(value: &str) -> Result<Regex, String> {
    regex::RegexBuilder::new(value)
        .size_limit(1 << 20)
        .build()
        .map_err(|error| format!("`{value}` is not a regular expression: {error}"))
}

/// The patterns of a list, one a line.
///
/// # Errors
/// A sentence that shows the one which is none.
pub(crate) fn compile_lines(value: &str) -> Result<Vec<Regex>, String> {
    value.lines().map(str::trim).filter(|line| !line.is_empty()).map(compile).collect()
}

fn compile_whole(value: &str) -> Result<Regex, String> {
    compile(&format!("^(?:{value})$"))
}

/// A collector's options after checking; what is not set has its default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options(pub BTreeMap<String, String>);

impl Options {
    /// An option's value, where one is set that is not empty.
    pub fn set(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str).filter(|v| !v.is_empty())
    }

    /// The patterns of an include and an exclude option, of which the include overrules the exclude's default.
    pub fn pattern(&self, collector: &Collector, include: &str, exclude: &str) -> Pattern {
        let default = collector.options.iter().find(|o| o.key == exclude).map_or("", |o| o.default);
        let compile = |text: Option<&str>| text.and_then(|t| compile(t).ok());
        match self.set(include) {
            // Where the two are not exclusive, both hold.
            Some(text) => Pattern { include: compile(Some(text)), exclude: compile(self.set(exclude)) },
            None => {
                let text = self.0.get(exclude).map_or(default, String::as_str);
                Pattern { include: None, exclude: compile(Some(text).filter(|t| !t.is_empty())) }
            }
        }
    }

    /// The patterns of an include and an exclude option that both hold, whichever are set.
    pub fn both(&self, collector: &Collector, include: &str, exclude: &str) -> Pattern {
        Pattern { include: self.regex(collector, include), exclude: self.regex(collector, exclude) }
    }

    /// An option's value, or its default.
    pub fn value<'a>(&'a self, collector: &Collector, key: &str) -> &'a str {
        let default: &'static str = collector.options.iter().find(|o| o.key == key).map_or("", |o| o.default);
        self.0.get(key).map_or(default, String::as_str)
    }

    /// One pattern, compiled; nothing where it is empty.
    pub fn regex(&self, collector: &Collector, key: &str) -> Option<Regex> {
        compile(Some(self.value(collector, key)).filter(|text| !text.is_empty())?).ok()
    }

    /// One pattern for whole names, compiled; nothing where it is empty.
    pub fn whole_regex(&self, collector: &Collector, key: &str) -> Option<Regex> {
        compile_whole(Some(self.value(collector, key)).filter(|text| !text.is_empty())?).ok()
    }

    /// The lines of an option that is a list.
    pub fn lines<'a>(&'a self, collector: &Collector, key: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        self.value(collector, key).lines().map(str::trim).filter(|line| !line.is_empty())
    }

    /// An option that is a number.
    pub fn number(&self, collector: &Collector, key: &str) -> u64 {
        self.value(collector, key).parse().unwrap_or_default()
    }

    /// An option that is a time; nothing where it is empty.
    pub fn duration(&self, collector: &Collector, key: &str) -> Option<Duration> {
        duration::parse(self.value(collector, key)).ok()
    }

    /// Whether an option that is `true` or `false` is `true`.
    pub fn flag(&self, collector: &Collector, key: &str) -> bool {
        self.value(collector, key) == "true"
    }
}

/// Which devices, mount points or the like a collector speaks of.
#[derive(Clone, Debug, Default)]
pub struct Pattern {
    include: Option<Regex>,
    exclude: Option<Regex>,
}

impl Pattern {
    /// Whether this one is left out.
    pub fn ignores(&self, name: &str) -> bool {
        self.exclude.as_ref().is_some_and(|r| r.is_match(name))
            || self.include.as_ref().is_some_and(|r| !r.is_match(name))
    }
}
