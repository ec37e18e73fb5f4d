//! Buffers for answers: used again, and bounded in number.

use std::sync::{Arc, Mutex, PoisonError};

use hyper::body::Bytes;

/// Buffers that go round.
#[derive(Clone, Debug, Default)]
pub(super) struct Pool(Arc<Mutex<Vec<Vec<u8>>>>);

impl Pool {
    /// How many wait at the most; with the default of 40 requests at a time few are ever in use at once.
    const KEPT: usize = 4;

    /// An empty buffer.
    pub(super) fn take(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    /// Makes a filled buffer an answer; it comes back when the last reader of the answer is done.
    pub(super) fn lend(&self, buffer: Vec<u8>) -> Bytes {
        Bytes::from_owner(Lent { buffer, pool: self.clone() })
    }

    /// Takes a buffer back.
    pub(super) fn give_back(&self, mut buffer: Vec<u8>) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < Self::KEPT {
            buffer.clear();
            waiting.push(buffer);
        }
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
        let mut buffer = pool.take();
        buffer.extend_from_slice(b"abc");
        let capacity = buffer.capacity();
        let first = pool.lend(buffer);
        let second = first.clone();
        drop(first);
        assert!(pool.take().capacity() == 0, "it is still lent");
        drop(second);
        assert_eq!(pool.take().capacity(), capacity);
    }
}
