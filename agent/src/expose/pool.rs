//! Buffers for answers: used again, bounded in number, and given up when nobody has wanted one of their size for a while.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hyper::body::Bytes;

/// Buffers that go round.
#[derive(Clone, Debug, Default)]
pub(super) struct Pool(Arc<Mutex<Vec<Waiting>>>);

/// A buffer that nobody uses.
#[derive(Debug)]
struct Waiting {
    buffer: Vec<u8>,
    /// The bytes that were last in it.
    filled: usize,
    since: Instant,
}

impl Pool {
    /// How many wait at the most: one for each part and another for who asks for it unpacked; few are ever in use at once.
    const KEPT: usize = 8;
    /// For how long they wait: for two scrapes a minute apart.
    const WAITS: Duration = Duration::from_secs(150);
    /// How much larger a buffer may be than what is wanted. One that held an answer as it is holds a packed one too, and
    /// would stay large for as long as those are asked for.
    const LARGER: usize = 3;

    /// An empty buffer for an answer of about this length: the smallest in which there was one of about this length.
    pub(super) fn take(&self, length: usize) -> Vec<u8> {
        let mut waiting = self.waiting();
        let fits = |it: &Waiting| it.filled >= length / Self::LARGER && it.filled / Self::LARGER <= length;
        let found = (0..waiting.len()).filter(|i| fits(&waiting[*i])).min_by_key(|i| waiting[*i].filled);
        found.map(|i| waiting.swap_remove(i).buffer).unwrap_or_default()
    }

    /// Makes a filled buffer an answer; it comes back when the last reader of the answer is done.
    pub(super) fn lend(&self, buffer: Vec<u8>) -> Bytes {
        Bytes::from_owner(Lent { buffer, pool: self.clone() })
    }

    /// Takes a buffer back.
    pub(super) fn give_back(&self, buffer: Vec<u8>) {
        self.give_back_at(buffer, Instant::now());
    }

    fn give_back_at(&self, mut buffer: Vec<u8>, now: Instant) {
        let mut waiting = self.waiting();
        waiting.retain(|it| now.duration_since(it.since) < Self::WAITS);
        if waiting.len() < Self::KEPT {
            let filled = buffer.len();
            buffer.clear();
            waiting.push(Waiting { buffer, filled, since: now });
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Lent {
    buffer: Vec<u8>,
    pool: Pool,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.pool.give_back(std::mem::take(&mut self.buffer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_when_its_last_reader_is_done() {
        let pool = Pool::default();
        let mut buffer = pool.take(3);
        buffer.extend_from_slice(b"abc");
        let capacity = buffer.capacity();
        let first = pool.lend(buffer);
        let second = first.clone();
        drop(first);
        assert!(pool.take(3).capacity() == 0, "it is still lent");
        drop(second);
        assert_eq!(pool.take(3).capacity(), capacity);
    }

    #[test]
    fn a_large_buffer_serves_large_answers_only_and_not_for_ever() {
        let (pool, now) = (Pool::default(), Instant::now());
        let later = |seconds| now + Duration::from_secs(seconds);
        pool.give_back_at(vec![1; 1000], now);
        let small = pool.take(100);
        assert_eq!(small.capacity(), 0);
        assert!(pool.take(900).capacity() >= 1000);
        pool.give_back_at(vec![1; 1000], now);
        for seconds in [60, 120, 180] {
            pool.give_back_at(vec![1; 100], later(seconds));
            assert!(pool.take(100).capacity() >= 100);
        }
        assert_eq!(pool.take(1000).capacity(), 0, "nobody wanted it for three minutes");
    }
}
