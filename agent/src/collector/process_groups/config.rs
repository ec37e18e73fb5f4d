//! What is set of the groups: by options, and by a file of process-exporter that is read again when it changes.

use std::path::PathBuf;

use super::COLLECTOR;
use crate::collector::{CollectError, Options};
use crate::option::compile_lines;
use crate::process_groups::{Limits, Names, Redaction, Settings, TICKS};
use crate::source::user_file::{self, Stamp};

/// The options, checked, and what the file last said.
pub(super) struct Config {
    /// Whether threads are read.
    pub(super) threads: bool,
    /// Whether proportional memory is read.
    pub(super) smaps: bool,
    options: Options,
    path: Option<PathBuf>,
    stamp: Option<Stamp>,
    names: Option<Names>,
    is_changed: bool,
}

/// Longer than any file that people write.
const LONGEST: u64 = 1 << 20;

/// Checks options that only make sense together.
pub(super) fn check(options: &Options) -> Result<(), String> {
    match options.set("config") {
        Some(yaml) => names(options, yaml).map(|_| ()),
        None => Ok(()),
    }
}

fn names(options: &Options, yaml: &str) -> Result<Names, String> {
    let names = Names::parse(yaml)?;
    match names.showing_command_line() {
        Some(rule) if !options.flag(&COLLECTOR, "exposeCommandLines") => Err(format!(
            "process_names[{rule}]: the name shows a part of command lines; name it by {{{{.Comm}}}}, or set \
             `exposeCommandLines` to true"
        )),
        _ => Ok(names),
    }
}

impl Config {
    pub(super) fn new(options: &Options) -> Self {
        Config {
            threads: options.flag(&COLLECTOR, "threads"),
            smaps: options.flag(&COLLECTOR, "smaps"),
            options: options.clone(),
            path: options.set("configPath").map(PathBuf::from),
            stamp: None,
            names: None,
            is_changed: false,
        }
    }

    /// Reads the file if it has changed; what was good before stays where it makes no sense.
    pub(super) fn refresh(&mut self) -> Result<(), CollectError> {
        let parsed = match &self.path {
            None if self.names.is_some() => return Ok(()),
            None => names(&self.options, self.options.set("config").unwrap_or(Names::DEFAULT)),
            Some(path) => {
                let failed = |what: String| CollectError::parse(path, what);
                let stamp = Stamp::of(path).map_err(|error| failed(error.to_string()))?;
                if self.stamp == Some(stamp) && self.names.is_some() {
                    return Ok(());
                }
                let mut text = Vec::new();
                let stamp =
                    user_file::read(path, LONGEST, &mut text).map_err(|error| failed(error.to_string()))?;
                let text = String::from_utf8(text).map_err(|_| failed("it is not UTF-8".to_owned()))?;
                // What makes no sense is not kept in mind, so that it is told at every scrape.
                names(&self.options, &text).inspect(|_| self.stamp = Some(stamp))
            }
        };
        let path = self.path.clone().unwrap_or_else(|| "config".into());
        self.names = Some(parsed.map_err(|what| CollectError::parse(path, what))?);
        self.is_changed = true;
        Ok(())
    }

    /// The settings, where they are not those of the last time.
    ///
    /// # Errors
    /// Where what is to be taken out of command lines is not known.
    pub(super) fn take_changed(&mut self) -> Result<Option<Settings>, CollectError> {
        let Some(names) = self.names.as_ref().filter(|_| self.is_changed).cloned() else { return Ok(None) };
        let (options, of) = (&self.options, &COLLECTOR);
        let recheck_limit = options.duration(of, "recheckTimeLimit").filter(|limit| !limit.is_zero());
        let patterns = compile_lines(options.value(of, "redact"))
            .map_err(|what| CollectError::parse("option redact", what))?;
        self.is_changed = false;
        Ok(Some(Settings {
            names,
            children: options.flag(of, "children"),
            recheck: options.flag(of, "recheck") || recheck_limit.is_some(),
            recheck_limit,
            keeps_empty: !options.flag(of, "removeEmptyGroups"),
            redaction: Redaction::new(patterns),
            limits: Limits {
                top_per_pod: options.number(of, "topPerPod") as usize,
                top_outside_pods: options.number(of, "topOutsidePods") as usize,
                least_memory: options.number(of, "leastMemoryBytes"),
                least_cpu: options.number(of, "leastCpuSeconds").saturating_mul(TICKS),
                by_cpu: options.flag(of, "topByCpu"),
            },
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_pattern_of_what_is_secret_there_are_no_settings() {
        let options = |redact: &str| Options([("redact".to_owned(), redact.to_owned())].into());
        let taken = |redact: &str| {
            let mut config = Config::new(&options(redact));
            config.refresh().unwrap();
            config.take_changed()
        };
        assert!(taken("a+").unwrap().is_some());
        // A policy or flag with it is refused before it comes here.
        let error = taken("a+\n(").unwrap_err().to_string();
        assert!(error.starts_with("option redact: `(` is not a regular expression"), "{error}");
    }
}
