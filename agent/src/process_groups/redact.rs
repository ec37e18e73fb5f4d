//! What is taken out of a command line before anything else sees it.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::Regex;

/// What stands for what was taken out.
const REDACTED: &str = "<redacted>";

/// What follows a word that announces a secret, in the same argument or in the next one.
static SECRETS: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let word =
        "pass(?:word|wd|phrase)?|pwd|secret|token|api[-_]?key|access[-_]?key|credentials?|authorization";
    Regex::new(&format!("(?i)((?:{word})[a-z0-9_-]*[\"']?(?:[=:]|[= :]?\0| )+)[^\0]+")).ok()
});
/// The password in a URL, or the token where there is no user: up to the last `@` before a path.
static URLS: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new("(://(?:[^/@\\s\0:]*:)?)[^/\\s\0]+@").ok());
/// The same without `://`: `user:token@host`.
static ADDRESSES: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new("((?:^|[\\s\0=,;\"'(])[^\\s\0:@/=]+:)[^\\s\0/@][^\\s\0]*@").ok());

/// What is taken out beside what always is.
#[derive(Clone, Debug, Default)]
pub struct Redaction(Vec<Regex>);

impl Redaction {
    /// What these patterns match, wherever it stands.
    pub fn new(patterns: Vec<Regex>) -> Self {
        Redaction(patterns)
    }

    /// Makes of `cmdline`, whose words end with zeros, its first word and one line with spaces between the words, both
    /// without what is to be taken out.
    pub fn apply(&self, cmdline: &[u8]) -> (String, String) {
        let words = String::from_utf8_lossy(cmdline);
        let words = words.trim_end_matches('\0');
        let mut line = Cow::Borrowed(words);
        let patterns =
            [(&*SECRETS, "${1}<redacted>"), (&*URLS, "${1}<redacted>@"), (&*ADDRESSES, "${1}<redacted>@")];
        for (pattern, with) in patterns {
            // Without the pattern nobody knows what is secret.
            line = Cow::Owned(match pattern {
                Some(pattern) => pattern.replace_all(&line, with).into_owned(),
                None => REDACTED.to_owned(),
            });
        }
        let first = line.split('\0').next().unwrap_or_default().to_owned();
        (self.own(first), self.own(line.replace('\0', " ")))
    }

    fn own(&self, text: String) -> String {
        self.0.iter().fold(text, |text, pattern| pattern.replace_all(&text, REDACTED).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(words: &[&str], expected: &str) {
        let first = words.first().copied().unwrap_or_default();
        let own = Redaction::new(vec![Regex::new("[0-9]{4}-[0-9]{4}").unwrap()]);
        let cmdline = words.iter().map(|word| format!("{word}\0")).collect::<String>();
        assert_eq!(own.apply(cmdline.as_bytes()), (first.to_owned(), expected.to_owned()));
    }

    #[test]
    fn secrets_are_taken_out_to_the_end_of_their_word() {
        check(&["mysql", "--password=a b", "-h", "db"], "mysql --password=<redacted> -h db");
        check(&["mysql", "--Password", "hunter 2", "-h"], "mysql --Password <redacted> -h");
        check(&["curl", "-H", "Authorization: Bearer x"], "curl -H Authorization: <redacted>");
        check(
            &["x", "--db-token-file", "/a", "API_KEY=1"],
            "x --db-token-file <redacted> API_KEY=<redacted>",
        );
        check(&["psql", "postgres://ann:x@db/a"], "psql postgres://ann:<redacted>@db/a");
        check(&["psql", "postgres://ann:p@ss@db/a"], "psql postgres://ann:<redacted>@db/a");
        check(&["git", "clone", "https://ghp_x@host/a"], "git clone https://<redacted>@host/a");
        check(&["curl", "ann:x@host", "-u=bob:y/z@host"], "curl ann:<redacted>@host -u=bob:<redacted>@host");
        check(&["ssh", "ann@host", "git@host:a/b"], "ssh ann@host git@host:a/b");
        check(&["a", "http://host:80/b?m=c", "d@e"], "a http://host:80/b?m=c d@e");
        check(&["a", "://x", "y@z"], "a ://x y@z");
        check(&["sh", "-c", "TOKEN=abc run; later"], "sh -c TOKEN=<redacted>");
        check(&["pay", "1234-5678"], "pay <redacted>");
        check(&["passwd"], "passwd");
        check(&["sleep", "1"], "sleep 1");
        check(&["sshd: ann [priv]"], "sshd: ann [priv]");
        check(&[], "");
    }
}
