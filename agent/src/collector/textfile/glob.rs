//! Directories by pattern, in the language of Go's `path/filepath`: `*`, `?`, `[a-z]`, `[^a]` and `\` before any of them.

use std::path::{Component, Path, PathBuf};

/// The paths that a pattern means; the pattern itself where there is none, so that it shows in an error.
pub(super) fn expand(pattern: &str) -> Vec<PathBuf> {
    let (mut found, mut has_pattern) = (vec![PathBuf::new()], false);
    for component in Path::new(pattern).components() {
        let name = match component {
            Component::Normal(name) => name.to_str().unwrap_or_default(),
            Component::CurDir => continue,
            other => {
                found.iter_mut().for_each(|path| path.push(other));
                continue;
            }
        };
        if name.contains(['*', '?', '[', '\\']) {
            has_pattern = true;
            found = found.iter().flat_map(|folder| below(folder, name)).collect();
        } else {
            found.iter_mut().for_each(|path| path.push(name));
            // Before any pattern there is one path, and whether it exists shows when it is read.
            found.retain(|path| !has_pattern || path.symlink_metadata().is_ok());
        }
    }
    if found.is_empty() { vec![PathBuf::from(pattern)] } else { found }
}

/// The entries of a folder that match, by name.
fn below(folder: &Path, pattern: &str) -> Vec<PathBuf> {
    let here = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let entries = std::fs::read_dir(here).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<_> = names.filter(|name| matches(pattern, name)).collect();
    names.sort();
    names.into_iter().map(|name| folder.join(name)).collect()
}

/// Whether a name matches; a pattern that makes no sense matches nothing.
fn matches(pattern: &str, name: &str) -> bool {
    let (mut pattern, mut name) = (pattern, name);
    // Where to go on when what follows the last `*` does not match here: with one more character for the `*`.
    let mut star: Option<(&str, &str)> = None;
    loop {
        if let Some(rest) = pattern.strip_prefix('*') {
            star = Some((rest, name));
            pattern = rest;
            continue;
        }
        let mut letters = name.chars();
        if pattern.is_empty() && name.is_empty() {
            return true;
        }
        if let Some(rest) = letters.next().and_then(|letter| one(pattern, letter)) {
            (pattern, name) = (rest, letters.as_str());
            continue;
        }
        let Some((after, from)) = star else { return false };
        let mut longer = from.chars();
        if longer.next().is_none() {
            return false;
        }
        star = Some((after, longer.as_str()));
        (pattern, name) = (after, longer.as_str());
    }
}

/// What follows the first piece of the pattern, where that piece is this letter.
fn one(pattern: &str, letter: char) -> Option<&str> {
    let mut rest = pattern.chars();
    let is_match = match rest.next()? {
        '?' => true,
        '\\' => rest.next()? == letter,
        '[' => {
            let mut inside = rest.as_str();
            let is_negated = inside.starts_with('^');
            inside = inside.strip_prefix('^').unwrap_or(inside);
            let (mut is_in, mut is_first) = (false, true);
            loop {
                if !is_first && let Some(after) = inside.strip_prefix(']') {
                    rest = after.chars();
                    break is_in != is_negated;
                }
                is_first = false;
                let low = class_letter(&mut inside)?;
                let high = match inside.strip_prefix('-') {
                    Some(after) => {
                        inside = after;
                        class_letter(&mut inside)?
                    }
                    None => low,
                };
                is_in |= (low..=high).contains(&letter);
            }
        }
        plain => plain == letter,
    };
    is_match.then_some(rest.as_str())
}

fn class_letter(inside: &mut &str) -> Option<char> {
    let mut letters = inside.chars();
    let letter = match letters.next()? {
        '\\' => letters.next()?,
        '-' | ']' => return None,
        letter => letter,
    };
    *inside = letters.as_str();
    Some(letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, yes: &[&str], no: &[&str]) {
        for name in yes {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for name in no {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn patterns_mean_what_they_mean_in_go() {
        check("*", &["", "a", ".hidden"], &[]);
        check("a*b*c", &["abc", "axxbyyc", "abcbc"], &["ab", "acb", "abcd"]);
        check("?é", &["aé"], &["é", "aaé"]);
        check("[a-c]x", &["ax", "cx"], &["dx", "x", "aax"]);
        check("[^a-c]", &["d", "-"], &["a"]);
        check(r"\*\[", &["*["], &["a["]);
        check(r"[\]]", &["]"], &["a"]);
        // What makes no sense.
        check("[a", &[], &["a", "[a"]);
        check("[]a]", &[], &["]", "a"]);
        check("[a-]", &[], &["a", "-"]);
        check(r"a\", &[], &["a", r"a\"]);
    }

    #[test]
    fn a_pattern_stands_for_the_folders_that_there_are_and_else_for_itself() {
        let root = std::env::temp_dir().join(format!("glob-{}", std::process::id()));
        for folder in ["b/prom", "a/prom", "a/other"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        let root = root.to_str().unwrap();
        let found = |pattern: &str| -> Vec<String> {
            let paths = expand(&format!("{root}/{pattern}"));
            paths.iter().map(|path| path.to_str().unwrap()[root.len() + 1..].to_owned()).collect()
        };
        assert_eq!(found("*/p*"), ["a/prom", "b/prom"]);
        assert_eq!(found("*/other"), ["a/other"]);
        assert_eq!(found("./a//prom/"), ["a/prom"]);
        assert_eq!(found("a/../a"), ["a/../a"]);
        assert_eq!(found("none"), ["none"]);
        assert_eq!(found("n*"), ["n*"]);
        std::fs::remove_dir_all(root).unwrap();
    }
}
