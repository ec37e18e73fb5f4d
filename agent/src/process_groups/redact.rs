//! What is taken out of a command line before anything else sees it.

use std::sync::LazyLock;

use regex::Regex;

/// What stands for what was taken out.
const REDACTED: &str = "<redacted>";

/// Words that announce a secret.
const WORDS: &str =
    "pass(?:word|wd|phrase)?|pwd|secret|token|api[-_]?key|access[-_]?key|credentials?|authorization";
/// What follows such a word in the same argument.
static SECRETS: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(&format!("(?is)((?:{WORDS})[a-z0-9_.\\[\\]-]*[\"']?(?:[=:]| )+).+$")).ok());
/// An argument that ends with such a word, so that the secret is the next.
static ANNOUNCED: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(&format!("(?i)(?:{WORDS})[a-z0-9_.\\[\\]-]*[\"']?[=:]?$")).ok());
/// The password in a URL, or the token where there is no user: up to the last `@`.
static URLS: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new("(://(?:[^/@\\s:]*:)?)\\S+@").ok());
/// The same without `://`: `user:token@host`.
static ADDRESSES: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new("((?:^|[\\s=,;\"'(])[^\\s:@/=]+:)[^\\s/@]\\S*@").ok());
/// `user:password`, which `-u` is followed by.
static USER: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new("^([^:]*:).+$").ok());
const USER_OPTIONS: [&str; 3] = ["-u", "--user", "--proxy-user"];

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
        let mut shown = Vec::new();
        let mut words = words.trim_end_matches('\0').split('\0').enumerate().peekable();
        let mut before = "";
        while let Some((at, word)) = words.next() {
            let user = USER_OPTIONS.contains(&before).then_some((&USER, "${1}<redacted>"));
            let patterns =
                [(&SECRETS, "${1}<redacted>"), (&URLS, "${1}<redacted>@"), (&ADDRESSES, "${1}<redacted>@")];
            let patterns = user.into_iter().chain(patterns);
            shown.push(patterns.fold(word.to_owned(), |text, (pattern, with)| without(pattern, &text, with)));
            before = word;
            if !ANNOUNCED.as_ref().is_none_or(|it| it.is_match(word)) || words.peek().is_none() {
                continue;
            }
            shown.push(REDACTED.to_owned());
            // After an option it is the next argument, after the program that or the option's own, else whatever follows.
            let hidden = words.next();
            if at > 0 && !word.starts_with('-') {
                break;
            }
            if at == 0 && hidden.is_some_and(|(_, hidden)| hidden.starts_with('-') && !hidden.contains('=')) {
                words.next();
            }
        }
        let first = shown.first().cloned().unwrap_or_default();
        (self.own(first), self.own(shown.join(" ")))
    }

    fn own(&self, text: String) -> String {
        self.0.iter().fold(text, |text, pattern| pattern.replace_all(&text, REDACTED).into_owned())
    }
}

/// The text with what a pattern finds replaced; nothing of it without the pattern, since nobody knows then what is secret.
fn without(pattern: &Option<Regex>, text: &str, with: &str) -> String {
    pattern.as_ref().map_or(REDACTED.to_owned(), |pattern| pattern.replace_all(text, with).into_owned())
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
        check(&["amqp", "amqp://u:aB/cd@host"], "amqp amqp://u:<redacted>@host");
        check(&["helm", "--set", "a.passwords.root=x"], "helm --set a.passwords.root=<redacted>");
        check(&["java", "-Dpassword.value=x", "-jar"], "java -Dpassword.value=<redacted> -jar");
        check(&["sshpass", "-p", "hunter2", "ssh", "h"], "sshpass <redacted> ssh h");
        check(&["vault", "token", "lookup", "s.abc"], "vault token <redacted>");
        check(&["kubectl", "create", "secret", "generic", "n", "--x=y"], "kubectl create secret <redacted>");
        check(&["curl", "-u", "ann:x", "http://h"], "curl -u ann:<redacted> http://h");
        check(&["sh", "-c", "TOKEN=abc run; later"], "sh -c TOKEN=<redacted>");
        check(&["pay", "1234-5678"], "pay <redacted>");
        check(&["passwd"], "passwd");
        check(&["sleep", "1"], "sleep 1");
        check(&["sshd: ann [priv]"], "sshd: ann [priv]");
        check(&[], "");
    }
}
