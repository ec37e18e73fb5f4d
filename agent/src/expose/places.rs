//! How many connections there are at a time, in all and from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Connections at a time; more wait to be accepted.
const MOST: usize = 256;
/// Those of one address, so that one client that forgets its connections leaves places to the others; more are closed.
const MOST_OF_ONE: usize = 64;

/// How many connections each address has.
type Taken = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// The places that there are.
#[derive(Debug)]
pub(super) struct Places {
    free: Arc<Semaphore>,
    taken: Taken,
}

/// One that is taken, free again when dropped.
#[derive(Debug)]
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
    of: Option<(IpAddr, Taken)>,
}

impl Default for Places {
    fn default() -> Self {
        Places { free: Arc::new(Semaphore::new(MOST)), taken: Arc::default() }
    }
}

impl Places {
    /// Waits for a place, which somebody may then take.
    pub(super) async fn free(&self) -> Option<OwnedSemaphorePermit> {
        self.free.clone().acquire_owned().await.ok()
    }

    /// Gives it to whoever connects from this address, if not too many do; on a socket that is a path all are alike.
    pub(super) fn take(&self, permit: OwnedSemaphorePermit, address: Option<IpAddr>) -> Option<Place> {
        let Some(address) = address else { return Some(Place { _permit: permit, of: None }) };
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(address).or_default();
        if *count >= MOST_OF_ONE {
            return None;
        }
        *count += 1;
        Some(Place { _permit: permit, of: Some((address, self.taken.clone())) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some((address, taken)) = &self.of else { return };
        let mut taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(address) {
            *count -= 1;
            if *count == 0 {
                taken.remove(address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_address_cannot_take_all_places_and_what_it_leaves_is_free_again() {
        let places = Places::default();
        let [one, other] = ["192.0.2.1", "2001:db8::1"].map(|address| address.parse::<IpAddr>().unwrap());
        let mut taken = Vec::new();
        for _ in 0..MOST_OF_ONE {
            taken.push(places.take(places.free().await.unwrap(), Some(one)).unwrap());
        }
        assert!(places.take(places.free().await.unwrap(), Some(one)).is_none());
        let others = places.take(places.free().await.unwrap(), Some(other));
        let local = places.take(places.free().await.unwrap(), None);
        assert!(others.is_some() && local.is_some());
        taken.pop();
        taken.push(places.take(places.free().await.unwrap(), Some(one)).unwrap());
        drop((taken, others, local));
        assert_eq!((places.free.available_permits(), places.taken.lock().unwrap().len()), (MOST, 0));
    }
}
