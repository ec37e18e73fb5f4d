//! `rate_limit`: so many requests at once, and then one each interval.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often requests may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    /// Between two requests in the long run; not zero.
    pub(super) interval: Duration,
    /// How many may come at once; not zero.
    pub(super) burst: u32,
}

/// A bucket of tokens, of which each request takes one.
#[derive(Debug, Default)]
pub(super) struct Limiter(Mutex<Option<Bucket>>);

#[derive(Debug)]
struct Bucket {
    rate: Rate,
    tokens: f64,
    filled: Instant,
}

impl Limiter {
    /// Whether a request that comes now may go on; another rate begins with a full bucket.
    pub(super) fn allows(&self, rate: Rate, now: Instant) -> bool {
        let mut bucket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let full = || Bucket { rate, tokens: f64::from(rate.burst), filled: now };
        let bucket = match &mut *bucket {
            Some(bucket) if bucket.rate == rate => bucket,
            other => other.insert(full()),
        };
        let came = now.saturating_duration_since(bucket.filled).div_duration_f64(rate.interval);
        bucket.tokens = (bucket.tokens + came).min(f64::from(rate.burst));
        bucket.filled = now;
        let allows = bucket.tokens >= 1.0;
        if allows {
            bucket.tokens -= 1.0;
        }
        allows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_may_come_at_once_and_then_one_each_interval() {
        let limiter = Limiter::default();
        let rate = Rate { interval: Duration::from_secs(10), burst: 2 };
        let start = Instant::now();
        let at = |seconds| limiter.allows(rate, start + Duration::from_secs(seconds));
        assert_eq!([at(0), at(0), at(0), at(9), at(10), at(11)], [true, true, false, false, true, false]);
        assert_eq!([at(1000), at(1000), at(1000)], [true, true, false]);
        // What is asked for anew begins anew.
        let more = Rate { burst: 3, ..rate };
        assert!(limiter.allows(more, start + Duration::from_secs(1000)));
    }
}
