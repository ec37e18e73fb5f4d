//! What went wrong while processes were read, told as one thing for as long as it goes on.

use crate::source::process::Unread;

/// The faults of one scrape, and the one that was told last.
#[derive(Debug, Default)]
pub(super) struct Faults {
    first: Option<Unread>,
    told: Option<Unread>,
    goes_on: bool,
}

impl Faults {
    /// This went wrong.
    pub(super) fn note(&mut self, unread: Unread) {
        self.goes_on |= self.told.as_ref().is_some_and(|told| is_same(told, &unread));
        self.first.get_or_insert(unread);
    }

    /// What is told of this scrape: as long as the same goes wrong of any process, the same words, so that the log has
    /// them once and not for each process in turn.
    pub(super) fn end(&mut self) -> Option<Unread> {
        let first = self.first.take();
        if !std::mem::take(&mut self.goes_on) {
            self.told = first;
        }
        self.told.clone()
    }
}

/// Whether the same went wrong of files of the same name, whosever they are.
fn is_same(one: &Unread, other: &Unread) -> bool {
    match (one, other) {
        (Unread::Failed(a, x), Unread::Failed(b, y)) => a.file_name() == b.file_name() && x == y,
        (Unread::Parse(a), Unread::Parse(b)) => a.file_name() == b.file_name(),
        (one, other) => one == other,
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn the_same_is_told_in_the_same_words_until_it_is_over() {
        let broken = |pid: u32, file: &str| Unread::Parse(format!("/proc/{pid}/{file}").into());
        let failed = |pid: u32| Unread::Failed(format!("/proc/{pid}/io").into(), Errno::IO);
        let mut faults = Faults::default();
        let mut told = |of: &[Unread]| {
            of.iter().for_each(|unread| faults.note(unread.clone()));
            faults.end()
        };
        assert_eq!(told(&[broken(1, "stat"), failed(2)]), Some(broken(1, "stat")));
        assert_eq!(told(&[failed(2), broken(7, "stat")]), Some(broken(1, "stat")), "another process");
        assert_eq!(told(&[failed(3)]), Some(failed(3)), "something else");
        assert_eq!(told(&[]), None);
        assert_eq!(told(&[broken(9, "stat")]), Some(broken(9, "stat")), "again");
    }
}
