//! Waits for a condition, with a deadline, and says what it last saw when the deadline passes.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use crate::interrupt;

/// Long enough not to load a two-core machine, short beside everything that is waited for.
const INTERVAL: Duration = Duration::from_millis(50);

/// Calls `attempt` until it returns a value.
///
/// `Ok(None)` and `Err` both mean "not yet"; the last error is part of the message when `deadline` passes, so an
/// attempt that wants to explain itself returns an error rather than `None`.
pub fn wait_for<T>(what: &str, deadline: Duration, attempt: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    wait_for_every(INTERVAL, what, deadline, attempt)
}

/// As [`wait_for`], with a pause of its own between two attempts.
pub fn wait_for_every<T>(
    interval: Duration,
    what: &str,
    deadline: Duration,
    mut attempt: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        interrupt::check()?;
        let last = match attempt() {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => anyhow!("the condition did not hold"),
            Err(error) => error,
        };
        if start.elapsed() >= deadline {
            return Err(
                last.context(format!("{what}: not within {:.1} s; last state", deadline.as_secs_f64()))
            );
        }
        sleep(interval);
    }
}

/// Waits for the end of something that is being cleaned up; a signal does not cut it short. False: it did not end.
pub fn settled(deadline: Duration, mut done: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if done() {
            return true;
        }
        if start.elapsed() >= deadline {
            return false;
        }
        sleep(Duration::from_millis(10));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passed_deadline_names_what_was_awaited_and_the_last_state() {
        let error = wait_for::<()>("the moon", Duration::ZERO, || Err(anyhow!("still rising"))).unwrap_err();
        assert_eq!(format!("{error:#}"), "the moon: not within 0.0 s; last state: still rising");
    }

    #[test]
    fn the_first_value_ends_the_wait() {
        let mut left = 2;
        let value = wait_for("a countdown", Duration::from_secs(5), || {
            left -= 1;
            Ok((left == 0).then_some("done"))
        });
        assert_eq!(value.unwrap(), "done");
    }
}
