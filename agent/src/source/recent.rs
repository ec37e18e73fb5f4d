//! How long what was found holds, of what hardly ever changes: that the machine has something not, a limit, a name.

use std::time::{Duration, Instant};

/// For how long nobody looks again.
pub const LOOK_AGAIN: Duration = Duration::from_secs(60);

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
        assert!(recent.holds(now + Duration::from_secs(59)));
        assert!(!recent.holds(now + Duration::from_secs(60)));
        recent.set(false, now);
        assert!(!recent.holds(now));
    }
}
