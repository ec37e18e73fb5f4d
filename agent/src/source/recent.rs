//! How long what was found holds, of what hardly ever changes: that the machine has something not, a limit, a name.

use std::time::{Duration, Instant};

/// For how long nobody looks again: a minute, less what a scrape may come early that is made each minute.
pub const LOOK_AGAIN: Duration = Duration::from_secs(55);
/// Into so many parts the cgroups are split, so that not all are looked at in one scrape.
const PARTS: u32 = 16;

/// When the cgroup in a slot is to be looked at again, of which something was just found for the first time or once more.
pub fn due(now: Instant, slot: usize, is_first: bool) -> Instant {
    now + if is_first { LOOK_AGAIN * (slot as u32 % PARTS + 1) / PARTS } else { LOOK_AGAIN }
}

/// When something was found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Recent(Option<Instant>);

impl Recent {
    /// Whether it need not be looked at now.
    pub fn holds(&self, now: Instant) -> bool {
        self.0.is_some_and(|since| now.duration_since(since) < LOOK_AGAIN)
    }

    /// Notes whether it was found when somebody looked.
    pub fn set(&mut self, is_found: bool, now: Instant) {
        self.0 = is_found.then_some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_is_looked_at_after_a_minute_and_what_was_not_at_once() {
        let (mut recent, now) = (Recent::default(), Instant::now());
        assert!(!recent.holds(now));
        recent.set(true, now);
        assert!(recent.holds(now + Duration::from_secs(54)));
        assert!(!recent.holds(now + Duration::from_secs(59)));
        recent.set(false, now);
        assert!(!recent.holds(now));
    }
}
