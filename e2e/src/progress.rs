//! Tells a person what takes time, on standard error: one line that counts up on a terminal, plain lines elsewhere.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// How often a step that is not on a terminal repeats that it goes on.
const REMINDER: Duration = Duration::from_secs(30);

/// A step that is under way.
#[derive(Debug)]
pub struct Step {
    what: String,
    start: Instant,
    terminal: bool,
    reminded: Instant,
}

impl Step {
    /// Says that it starts.
    pub fn start(what: impl Into<String>) -> Self {
        let now = Instant::now();
        let step =
            Self { what: what.into(), start: now, terminal: std::io::stderr().is_terminal(), reminded: now };
        step.line(&format!("{} …", step.what), false);
        step
    }

    /// Says how far it is; call it as often as you like.
    pub fn update(&mut self, detail: &str) {
        let line = format!(
            "{} … {} s{}{detail}",
            self.what,
            self.seconds(),
            if detail.is_empty() { "" } else { ", " }
        );
        if self.terminal {
            self.line(&line, false);
        } else if self.reminded.elapsed() >= REMINDER {
            self.reminded = Instant::now();
            self.line(&line, true);
        }
    }

    /// Says that it is done, and after how long.
    pub fn done(self) {
        self.line(&format!("{}: {:.1} s", self.what, self.start.elapsed().as_secs_f64()), true);
    }

    fn seconds(&self) -> u64 {
        self.start.elapsed().as_secs()
    }

    fn line(&self, text: &str, last: bool) {
        let mut out = std::io::stderr().lock();
        // A closed standard error is no reason to stop.
        let _ = if self.terminal {
            // Back to the start, and clear what is longer than the new text.
            write!(out, "\r\x1b[K{text}{}", if last { "\n" } else { "" })
        } else {
            writeln!(out, "{text}")
        };
        let _ = out.flush();
    }
}
