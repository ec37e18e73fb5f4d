//! What the machine has not is looked for once a minute: at each scrape it costs more than much of what is there.

use std::time::{Duration, Instant};

/// For how long nobody looks again.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Since when a collector has found nothing of what it reads.
#[derive(Debug, Default)]
pub(super) struct Absence(Option<Instant>);

impl Absence {
    /// Whether it need not look now.
    pub(super) fn holds(&self, now: Instant) -> bool {
        self.0.is_some_and(|since| now.duration_since(since) < LOOK_AGAIN)
    }

    /// Notes what it found when it looked.
    pub(super) fn set(&mut self, is_absent: bool, now: Instant) {
        self.0 = is_absent.then_some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_absent_is_looked_for_after_a_minute_and_what_came_at_once() {
        let (mut absence, now) = (Absence::default(), Instant::now());
        assert!(!absence.holds(now));
        absence.set(true, now);
        assert!(absence.holds(now + Duration::from_secs(59)));
        assert!(!absence.holds(now + Duration::from_secs(60)));
        absence.set(false, now);
        assert!(!absence.holds(now));
    }
}
