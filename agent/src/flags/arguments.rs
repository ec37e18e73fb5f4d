//! Arguments in files, as kingpin has them: `@FILE` stands for the lines of the file.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

/// Files within files; a file that names itself would have no end.
const MOST_FILES: usize = 100;

/// Puts the lines of each `@FILE` in its place, one argument a line; empty lines and those that begin with `#` are none.
///
/// # Errors
/// A sentence that names the file.
pub(super) fn expand(arguments: impl IntoIterator<Item = OsString>) -> Result<Vec<OsString>, String> {
    let mut waiting: Vec<OsString> = arguments.into_iter().collect();
    waiting.reverse();
    let (mut expanded, mut files) = (Vec::new(), 0);
    while let Some(argument) = waiting.pop() {
        // What follows is taken as it is.
        if argument == "--" {
            expanded.push(argument);
            expanded.extend(waiting.drain(..).rev());
            break;
        }
        let Some(file) = argument.as_bytes().strip_prefix(b"@") else {
            expanded.push(argument);
            continue;
        };
        let file = OsStr::from_bytes(file);
        files += 1;
        if files > MOST_FILES {
            return Err(format!("@{}: more than {MOST_FILES} files of arguments", file.display()));
        }
        let text = std::fs::read(file)
            .map_err(|error| format!("@{}: the file of arguments: {error}", file.display()))?;
        let lines = text.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let lines = lines.filter(|line| !line.trim_ascii().is_empty() && !line.starts_with(b"#"));
        waiting.extend(lines.map(|line| OsString::from_vec(line.to_vec())).rev());
    }
    Ok(expanded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(arguments: &[&str]) -> Result<Vec<OsString>, String> {
        expand(arguments.iter().map(OsString::from))
    }

    #[test]
    fn a_file_of_arguments_stands_for_its_lines() {
        let folder = std::env::temp_dir().join(format!("arguments-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let [outer, inner, itself] =
            ["outer", "inner", "itself"].map(|name| format!("@{}/{name}", folder.display()));
        std::fs::write(&outer[1..], format!("# a comment\n--a=b c\r\n\n{inner}\n--last")).unwrap();
        std::fs::write(&inner[1..], "--inner\n").unwrap();
        std::fs::write(&itself[1..], &itself).unwrap();
        assert_eq!(
            expanded(&["--first", &outer, "--", &inner]).unwrap(),
            ["--first", "--a=b c", "--inner", "--last", "--", &inner]
        );
        assert!(expanded(&[&itself]).unwrap_err().contains("itself"));
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(expanded(&[&outer]).unwrap_err().contains("outer"));
    }
}
