//! Requests that overlap share one answer.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

/// The answers that are being made, by what was asked for.
#[derive(Debug)]
pub struct Flights<K, V>(Arc<Mutex<HashMap<K, watch::Receiver<Option<V>>>>>);

impl<K, V> Clone for Flights<K, V> {
    fn clone(&self) -> Self {
        Flights(self.0.clone())
    }
}

impl<K, V> Default for Flights<K, V> {
    fn default() -> Self {
        Flights(Arc::default())
    }
}

impl<K: Copy + Eq + Hash + Send + 'static, V: Clone + Send + Sync + 'static> Flights<K, V> {
    /// The answer to this question: the one that is being made, or a new one made by `make` on a thread that may block.
    ///
    /// Nothing when `make` panicked.
    pub async fn get(&self, key: K, make: impl FnOnce() -> V + Send + 'static) -> Option<V> {
        let answer = match self.board(key) {
            Boarded::Another(answer) => answer,
            // Not tied to the request that began it: that one may go away while others wait.
            Boarded::First(flight) => {
                let answer = flight.answer.subscribe();
                tokio::task::spawn_blocking(move || flight.land(make()));
                answer
            }
        };
        arrived(answer).await
    }

    fn board(&self, key: K) -> Boarded<K, V> {
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = flights.get(&key) {
            return Boarded::Another(answer.clone());
        }
        let (answer, receiver) = watch::channel(None);
        flights.insert(key, receiver);
        Boarded::First(Flight { answer, landed: Landed { flights: self.0.clone(), key } })
    }
}

async fn arrived<V: Clone>(mut answer: watch::Receiver<Option<V>>) -> Option<V> {
    let value = answer.wait_for(Option::is_some).await.ok()?;
    value.clone()
}

enum Boarded<K: Eq + Hash, V> {
    First(Flight<K, V>),
    Another(watch::Receiver<Option<V>>),
}

struct Flight<K: Eq + Hash, V> {
    landed: Landed<K, V>,
    answer: watch::Sender<Option<V>>,
}

impl<K: Eq + Hash, V> Flight<K, V> {
    fn land(self, value: V) {
        drop(self.landed);
        self.answer.send_replace(Some(value));
    }
}

/// Takes the flight off the board before its answer is out, so that no later request is given an answer that is old.
struct Landed<K: Eq + Hash, V> {
    flights: Arc<Mutex<HashMap<K, watch::Receiver<Option<V>>>>>,
    key: K,
}

impl<K: Eq + Hash, V> Drop for Landed<K, V> {
    fn drop(&mut self) {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::mpsc;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn requests_that_overlap_share_one_answer_and_a_later_one_gets_its_own() {
        let flights: Flights<u8, u32> = Flights::default();
        let made = Arc::new(AtomicU32::new(0));
        let (go, wait) = mpsc::channel();
        let first = tokio::spawn({
            let (flights, made) = (flights.clone(), made.clone());
            async move {
                let make = move || {
                    wait.recv().unwrap();
                    made.fetch_add(1, Ordering::SeqCst)
                };
                flights.get(1, make).await
            }
        });
        while flights.0.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        let second = flights.get(1, || unreachable!("the first one's answer serves"));
        let mut second = std::pin::pin!(second);
        let joined =
            std::future::poll_fn(|cx| std::task::Poll::Ready(second.as_mut().poll(cx).is_pending())).await;
        assert!(joined);
        go.send(()).unwrap();
        assert_eq!((first.await.unwrap(), second.await), (Some(0), Some(0)));
        assert_eq!(flights.get(1, || 7).await, Some(7));
    }

    #[tokio::test]
    async fn a_panic_ends_its_own_requests_only() {
        let flights: Flights<u8, u32> = Flights::default();
        assert_eq!(flights.get(1, || panic!("on purpose")).await, None);
        assert_eq!(flights.get(1, || 7).await, Some(7));
    }
}
