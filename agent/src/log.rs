//! The log, as node_exporter writes it: logfmt or JSON, one line for each event.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// How a line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// `time=… level=INFO source=FILE:LINE msg="…" key=value`
    Logfmt,
    /// The same keys as one JSON object.
    Json,
}

/// From here on, what is logged goes to the standard error output; less than this level is left out.
pub fn to_stderr(level: &str, format: LogFormat) {
    // Libraries speak of every frame and every file.
    let filter = tracing_subscriber::EnvFilter::new(format!("warn,agent={level},exporter_agent={level}"));
    tracing_subscriber::fmt()
        .event_format(format)
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
}

impl<S, N> FormatEvent<S, N> for LogFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let metadata = event.metadata();
        let file = metadata.file().map_or("", |path| path.rsplit('/').next().unwrap_or(path));
        let mut line = Line { format: *self, text: String::new() };
        line.text("time", &time);
        line.text("level", metadata.level().as_str());
        line.text("source", &format!("{file}:{}", metadata.line().unwrap_or_default()));
        event.record(&mut line);
        match self {
            LogFormat::Logfmt => writeln!(writer, "{}", line.text),
            LogFormat::Json => writeln!(writer, "{{{}}}", line.text),
        }
    }
}

/// The pairs of one line. The message is among an event's fields, and the first of them.
struct Line {
    format: LogFormat,
    text: String,
}

impl Line {
    fn text(&mut self, key: &str, value: &str) {
        // Neither a space nor a line's end may look like the end of the value.
        let is_bare =
            !value.is_empty() && value.bytes().all(|b| b.is_ascii_graphic() && !b"\"=\\".contains(&b));
        match self.format {
            LogFormat::Logfmt if is_bare => self.raw(key, value),
            _ => self.raw(key, &quoted(value)),
        }
    }

    fn raw(&mut self, key: &str, value: &str) {
        let key = if key == "message" { "msg" } else { key };
        // Writing to memory does not fail.
        let _ = match (self.format, self.text.is_empty()) {
            (LogFormat::Logfmt, true) => write!(self.text, "{key}={value}"),
            (LogFormat::Logfmt, false) => write!(self.text, " {key}={value}"),
            (LogFormat::Json, true) => write!(self.text, "{}:{value}", quoted(key)),
            (LogFormat::Json, false) => write!(self.text, ",{}:{value}", quoted(key)),
        };
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field.name(), &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.raw(field.name(), &value.to_string());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.raw(field.name(), &value.to_string());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.raw(field.name(), &value.to_string());
    }
}

/// A string as JSON has it, which logfmt takes over.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What is logged, without its time and line number.
    fn logged(format: LogFormat, log: impl FnOnce()) -> String {
        #[derive(Clone, Default)]
        struct Lines(Arc<Mutex<Vec<u8>>>);
        impl std::io::Write for Lines {
            fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
                self.0.lock().unwrap().write(text)
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt().event_format(format).with_writer(move || writer.clone());
        tracing::subscriber::with_default(subscriber.finish(), log);
        String::from_utf8(std::mem::take(&mut *lines.0.lock().unwrap())).unwrap()
    }

    #[test]
    fn a_line_of_logfmt_is_one_line_whatever_is_logged() {
        let line = logged(LogFormat::Logfmt, || {
            tracing::warn!(collector = "cpu", path = %"/a b", count = 3, is_new = true, "no \"such\"\nfile");
        });
        assert!(line.starts_with("time=2") && line.contains("Z level=WARN source=log.rs:"), "{line}");
        let (_, rest) = line.split_once(" msg=").unwrap();
        assert_eq!(rest, "\"no \\\"such\\\"\\nfile\" collector=cpu path=\"/a b\" count=3 is_new=true\n");
    }

    #[test]
    fn a_line_of_json_is_an_object() {
        let line = logged(LogFormat::Json, || {
            tracing::error!(count = 3, name = "a\"b", "what");
        });
        let object: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&object["level"], &object["msg"]), (&"ERROR".into(), &"what".into()));
        assert_eq!((&object["count"], &object["name"]), (&3.into(), &"a\"b".into()));
        assert!(object["time"].as_str().unwrap().ends_with('Z') && object["source"].is_string());
    }
}
