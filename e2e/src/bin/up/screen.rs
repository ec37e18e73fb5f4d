//! The terminal: a picture that is drawn over itself, and lines that stay.

use std::io::{IsTerminal as _, Write as _};

/// Standard output, be it a terminal or a file.
pub(crate) struct Screen {
    terminal: bool,
    colours: bool,
    drawn: usize,
}

/// How a piece of text looks on a terminal.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Bold,
    Dim,
    Green,
}

impl Screen {
    pub(crate) fn new() -> Self {
        let terminal = std::io::stdout().is_terminal();
        let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { terminal, colours, drawn: 0 }
    }

    /// True when a picture can be drawn over.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Text in a style, where there are styles.
    pub(crate) fn styled(&self, style: Style, text: &str) -> String {
        let code = match style {
            Style::Bold => 1,
            Style::Dim => 2,
            Style::Green => 32,
        };
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Prints a line that stays; the picture is drawn anew below it.
    pub(crate) fn say(&mut self, line: &str) {
        let mut out = self.wiped();
        out.push_str(line);
        out.push('\n');
        self.drawn = 0;
        self.write(&out);
    }

    /// Draws a picture in place of the last one.
    pub(crate) fn draw(&mut self, lines: &[String]) {
        let mut out = self.wiped();
        let (columns, rows) = self.size();
        // A picture that is taller than the terminal could not be drawn over.
        let shown = lines.len().min(rows.saturating_sub(1));
        for line in &lines[..shown] {
            out.push_str(&cut(line, columns));
            out.push('\n');
        }
        self.drawn = if self.terminal { shown } else { 0 };
        self.write(&out);
    }

    fn wiped(&self) -> String {
        if self.drawn == 0 { String::new() } else { format!("\x1b[{}A\x1b[J", self.drawn) }
    }

    fn size(&self) -> (usize, usize) {
        match rustix::termios::tcgetwinsize(std::io::stdout()) {
            Ok(size) if self.terminal && size.ws_col > 0 => (size.ws_col.into(), size.ws_row.into()),
            _ => (usize::MAX, usize::MAX),
        }
    }

    fn write(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        // A closed standard output is no reason to stop before the clean-up.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

/// At most so many visible characters; escape sequences take no room.
fn cut(line: &str, columns: usize) -> String {
    let (mut out, mut visible, mut escape) = (String::new(), 0, false);
    for character in line.chars() {
        escape |= character == '\x1b';
        if escape {
            escape = character != 'm';
            out.push(character);
        } else if visible < columns {
            visible += 1;
            out.push(character);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_by_what_is_seen_of_it() {
        assert_eq!(cut("\x1b[1mabc\x1b[0mdef", 4), "\x1b[1mabc\x1b[0md");
    }
}
