//! The names of users, as the machine's own `/etc/passwd` has them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::source::file::read_in_root;
use crate::source::text::{lines, number};

/// The names that were asked for since the last time that they were forgotten.
#[derive(Debug)]
pub(super) struct Users {
    root: PathBuf,
    names: HashMap<u32, String>,
}

impl Users {
    /// The users of the machine whose root this is.
    pub(super) fn new(root: &Path) -> Self {
        Users { root: root.to_owned(), names: HashMap::new() }
    }

    /// Users come, go and are called otherwise, and so many as there are numbers would be too many to keep.
    pub(super) fn forget(&mut self) {
        self.names.clear();
    }

    /// A user's name; the number where there is none, as for most users in containers.
    pub(super) fn name(&mut self, user: u32) -> &str {
        let root = &self.root;
        self.names.entry(user).or_insert_with(|| {
            let mut text = Vec::new();
            // Without the file every user is a number.
            let _ = read_in_root(root, "etc/passwd", &mut text);
            find(&text, user).unwrap_or_else(|| user.to_string())
        })
    }
}

/// `root:x:0:0:…` (passwd(5))
fn find(passwd: &[u8], user: u32) -> Option<String> {
    lines(passwd).find_map(|line| {
        let mut fields = line.split(|b| *b == b':');
        let (name, uid) = (fields.next()?, fields.nth(1)?);
        (number(uid)? == u64::from(user)).then(|| String::from_utf8_lossy(name).into_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::shown::Tree;

    #[test]
    fn a_user_that_the_machine_does_not_know_is_a_number() {
        let tree = Tree::new(&[("etc/passwd", "root:x:0:0::/root:/bin/sh\nbroken\nann:x:1000:1000::/:\n")]);
        let mut users = Users::new(tree.path());
        assert_eq!([0, 1000, 7].map(|user| users.name(user).to_owned()), ["root", "ann", "7"]);
        tree.write("etc/passwd", b"bob:x:1000:1000::/:\n");
        assert_eq!(users.name(1000), "ann");
        users.forget();
        assert_eq!(users.name(1000), "bob");
    }
}
