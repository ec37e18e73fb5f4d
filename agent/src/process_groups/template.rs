//! The names of groups as process-exporter writes them: text with `{{…}}` in it, a small part of Go's templates.

use super::names::Process;

/// A template, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Comm,
    ExeBase,
    ExeFull,
    Username,
    Pid,
    StartTime,
    Cgroups,
    Cgroup(usize),
    Match(String),
}

/// What can stand in a template, for messages.
const KNOWN: &str = "{{.Comm}}, {{.ExeBase}}, {{.ExeFull}}, {{.Username}}, {{.PID}}, {{.StartTime}}, {{.Cgroups}}, \
                     {{index .Cgroups N}}, {{.Matches.NAME}} and {{index .Matches \"NAME\"}}";

impl Template {
    /// Reads a template.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (mut pieces, mut rest, mut trims) = (Vec::new(), text, false);
        while let Some((before, after)) = rest.split_once("{{") {
            let (action, after) =
                after.split_once("}}").ok_or_else(|| format!("name `{text}`: `{{{{` without `}}}}`"))?;
            // `{{- ` and ` -}}` take away the white space beside them.
            let (action, trims_before) = match action.strip_prefix("- ") {
                Some(action) => (action, true),
                None => (action, false),
            };
            let (action, trims_after) = match action.strip_suffix(" -") {
                Some(action) => (action, true),
                None => (action, false),
            };
            push_text(&mut pieces, before, trims, trims_before);
            let action = action.trim();
            if !(action.starts_with("/*") && action.ends_with("*/")) {
                let piece = Piece::parse(action);
                pieces.push(piece.ok_or_else(|| {
                    format!("name `{text}`: `{{{{{action}}}}}` is not known here, only {KNOWN} are")
                })?);
            }
            (rest, trims) = (after, trims_after);
        }
        push_text(&mut pieces, rest, trims, false);
        Ok(Template(pieces))
    }

    /// Whether any of it comes from a command line.
    pub(super) fn shows_command_line(&self) -> bool {
        self.0.iter().any(|piece| matches!(piece, Piece::ExeBase | Piece::ExeFull | Piece::Match(_)))
    }

    /// Whether the user's name is in it.
    pub(super) fn has_user(&self) -> bool {
        self.0.contains(&Piece::Username)
    }

    /// Whether cgroups are in it.
    pub(super) fn has_cgroups(&self) -> bool {
        self.0.iter().any(|piece| matches!(piece, Piece::Cgroups | Piece::Cgroup(_)))
    }

    /// Writes the name of a process, whose captures are found by their names.
    pub(super) fn write<'a>(
        &self,
        process: &Process<'_>,
        captured: impl Fn(&str) -> Option<&'a str>,
        name: &mut String,
    ) {
        use std::fmt::Write as _;
        // To write to a string cannot fail.
        let _ = self.0.iter().try_for_each(|piece| match piece {
            Piece::Text(text) => name.write_str(text),
            Piece::Comm => name.write_str(process.comm),
            Piece::ExeBase => name.write_str(process.exe_base()),
            Piece::ExeFull => name.write_str(process.exe()),
            Piece::Username => name.write_str(process.user),
            Piece::Pid => write!(name, "{}", process.pid),
            Piece::StartTime => {
                write!(name, "{}", process.started.strftime("%Y-%m-%d %H:%M:%S%.f +0000 UTC"))
            }
            Piece::Cgroups => {
                let paths: Vec<_> = process.cgroups().collect();
                write!(name, "[{}]", paths.join(" "))
            }
            Piece::Cgroup(index) => name.write_str(process.cgroups().nth(*index).unwrap_or_default()),
            Piece::Match(key) => name.write_str(captured(key).unwrap_or_default()),
        });
    }
}

impl Piece {
    fn parse(action: &str) -> Option<Self> {
        let words: Vec<_> = action.split_whitespace().collect();
        Some(match words.as_slice() {
            [".Comm"] => Piece::Comm,
            [".ExeBase"] => Piece::ExeBase,
            [".ExeFull"] => Piece::ExeFull,
            [".Username"] => Piece::Username,
            [".PID"] => Piece::Pid,
            [".StartTime"] => Piece::StartTime,
            [".Cgroups"] => Piece::Cgroups,
            ["index", ".Cgroups", index] => Piece::Cgroup(index.parse().ok()?),
            ["index", ".Matches", key] => {
                let key = key.strip_prefix('"')?.strip_suffix('"')?;
                Piece::Match(key.to_owned())
            }
            [field] => {
                let key = field.strip_prefix(".Matches.")?;
                let is_name = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
                (!key.is_empty() && key.bytes().all(is_name)).then(|| Piece::Match(key.to_owned()))?
            }
            _ => return None,
        })
    }
}

fn push_text(pieces: &mut Vec<Piece>, text: &str, trims_start: bool, trims_end: bool) {
    let text = if trims_start { text.trim_start() } else { text };
    let text = if trims_end { text.trim_end() } else { text };
    if !text.is_empty() {
        pieces.push(Piece::Text(text.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(template: &str, expected: &str) {
        let process = Process {
            comm: "java",
            arguments: "/usr/bin/java -jar a.jar",
            exe: "/usr/bin/java",
            user: "alice",
            pid: 7,
            started: jiff::Timestamp::from_millisecond(1_700_000_000_250).unwrap(),
            cgroups: "1:cpu:/a\n0::/b\n",
        };
        let mut name = String::new();
        let captured = |key: &str| (key == "jar").then_some("a.jar");
        Template::parse(template).unwrap().write(&process, captured, &mut name);
        assert_eq!(name, expected, "{template}");
    }

    #[test]
    fn names_are_made_of_what_is_known_of_a_process() {
        check("plain", "plain");
        check("{{.Comm}}", "java");
        check("{{.ExeBase}}:{{ .ExeFull }}", "java:/usr/bin/java");
        check("{{.Username}}-{{.PID}}", "alice-7");
        check("{{.Matches.jar}}{{.Matches.none}}{{index .Matches \"jar\"}}", "a.jara.jar");
        check("{{.Cgroups}} {{index .Cgroups 1}}{{index .Cgroups 9}}", "[/a /b] /b");
        check("{{.StartTime}}", "2023-11-14 22:13:20.25 +0000 UTC");
        check("a {{- /* nothing */ -}} b{{- .Comm -}}  c", "abjavac");
    }

    #[test]
    fn what_is_not_known_is_an_error_that_shows_it() {
        for broken in ["{{.Nope}}", "{{if .Comm}}a{{end}}", "{{.Comm | len}}", "a{{", "{{}}", "{{.Matches.}}"]
        {
            let error = Template::parse(broken).unwrap_err();
            assert!(error.contains(broken.split("}}").next().unwrap()), "{error}");
        }
    }
}
