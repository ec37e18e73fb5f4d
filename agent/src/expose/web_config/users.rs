//! Who may ask: the password of a request against the bcrypt hashes.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

/// What became of a request's name and password.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// They are right.
    Granted,
    /// There are none, or they are wrong.
    Denied,
    /// Too many wait for theirs to be checked.
    Busy,
}

/// Checks passwords, one at a time because a hash is meant to be slow, and remembers what came out.
pub(super) struct Passwords {
    /// Makes digests of no use to anyone else.
    key: [u8; 32],
    known: Mutex<Known>,
    turn: Semaphore,
    waiting: Semaphore,
}

/// Digests of what was checked. Only so many wrong ones are kept, and none of them can drive out a right one.
#[derive(Default)]
struct Known {
    right: HashMap<String, [u8; 32]>,
    wrong: VecDeque<[u8; 32]>,
}

/// How many wrong passwords are remembered, so that a scraper that has an old one costs no hash each time.
const WRONG_KEPT: usize = 100;
/// How many requests may wait for their turn.
const MOST_WAITING: usize = 20;

impl Passwords {
    /// Nothing is known yet.
    pub(super) fn new() -> Self {
        let mut key = [0; 32];
        // Where the kernel has no randomness to give, digests are only easier to compare.
        let _ = rustls::crypto::ring::default_provider().secure_random.fill(&mut key);
        Passwords {
            key,
            known: Mutex::default(),
            turn: Semaphore::new(1),
            waiting: Semaphore::new(MOST_WAITING),
        }
    }

    /// Whether this request is one of these users'.
    pub(super) async fn check(&self, users: &BTreeMap<String, String>, headers: &HeaderMap) -> Access {
        let Some((name, password)) = credentials(headers) else { return Access::Denied };
        // For an unknown name a hash is checked as well, so that the time does not tell which names there are.
        let hash = users.get(&name).or_else(|| users.values().next());
        let Some(hash) = hash.cloned() else { return Access::Denied };
        let is_user = users.contains_key(&name);
        let of_user = if is_user { hash.as_bytes() } else { b"" };
        let digest = self.digest([name.as_bytes(), of_user, &password]);
        if let Some(is_right) = self.recall(&name, &digest) {
            return access(is_right);
        }
        let Ok(_place) = self.waiting.try_acquire() else { return Access::Busy };
        let Ok(_turn) = self.turn.acquire().await else { return Access::Busy };
        // The one before may have had the same.
        if let Some(is_right) = self.recall(&name, &digest) {
            return access(is_right);
        }
        let checked =
            tokio::task::spawn_blocking(move || bcrypt::verify(password, &hash).unwrap_or(false)).await;
        let is_right = is_user && checked.unwrap_or(false);
        self.remember(name, digest, is_right);
        access(is_right)
    }

    fn digest(&self, pieces: [&[u8]; 3]) -> [u8; 32] {
        let mut digest = Sha256::new_with_prefix(self.key);
        for piece in pieces {
            digest.update((piece.len() as u64).to_le_bytes());
            digest.update(piece);
        }
        digest.finalize().into()
    }

    // Digests are compared as they are: how far two of them agree tells nothing of what they were made from.
    fn recall(&self, name: &str, digest: &[u8; 32]) -> Option<bool> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match known.right.get(name) == Some(digest) {
            true => Some(true),
            false => known.wrong.contains(digest).then_some(false),
        }
    }

    fn remember(&self, name: String, digest: [u8; 32], is_right: bool) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if is_right {
            known.right.insert(name, digest);
            return;
        }
        if known.wrong.len() == WRONG_KEPT {
            known.wrong.pop_front();
        }
        known.wrong.push_back(digest);
    }
}

fn access(is_right: bool) -> Access {
    if is_right { Access::Granted } else { Access::Denied }
}

/// The name and password of a request (RFC 7617).
fn credentials(headers: &HeaderMap) -> Option<(String, Vec<u8>)> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = BASE64_STANDARD.decode(encoded.trim()).ok()?;
    let colon = pair.iter().position(|b| *b == b':')?;
    Some((String::from_utf8(pair[..colon].to_vec()).ok()?, pair[colon + 1..].to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(pair: &str) -> HeaderMap {
        let value = format!("Basic {}", BASE64_STANDARD.encode(pair));
        HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())])
    }

    fn users() -> BTreeMap<String, String> {
        let hash = |password: &str| bcrypt::hash(password, 4).unwrap();
        [("alice".to_owned(), hash("wonder:land")), ("bob".to_owned(), hash("builder"))].into()
    }

    #[tokio::test]
    async fn a_password_opens_for_its_own_user_only() {
        let (passwords, users) = (Passwords::new(), users());
        // Twice: what is remembered says the same.
        for _ in 0..2 {
            for (pair, expected) in [
                ("alice:wonder:land", Access::Granted),
                ("bob:builder", Access::Granted),
                ("alice:builder", Access::Denied),
                ("bob:", Access::Denied),
                ("carol:wonder:land", Access::Denied),
                ("alice", Access::Denied),
                (":", Access::Denied),
            ] {
                assert_eq!(passwords.check(&users, &basic(pair)).await, expected, "{pair}");
            }
        }
        assert_eq!(passwords.check(&users, &HeaderMap::new()).await, Access::Denied);
        let bearer = HeaderMap::from_iter([(AUTHORIZATION, "Bearer YTpi".parse().unwrap())]);
        assert_eq!(passwords.check(&users, &bearer).await, Access::Denied);
    }

    #[tokio::test]
    async fn a_new_hash_makes_the_old_password_wrong() {
        let (passwords, mut users) = (Passwords::new(), users());
        assert_eq!(passwords.check(&users, &basic("bob:builder")).await, Access::Granted);
        users.insert("bob".to_owned(), bcrypt::hash("other", 4).unwrap());
        assert_eq!(passwords.check(&users, &basic("bob:builder")).await, Access::Denied);
        users.remove("bob");
        assert_eq!(passwords.check(&users, &basic("bob:builder")).await, Access::Denied);
    }

    #[tokio::test]
    async fn wrong_passwords_are_bounded_and_drive_out_no_right_one() {
        let (passwords, users) = (Passwords::new(), users());
        assert_eq!(passwords.check(&users, &basic("bob:builder")).await, Access::Granted);
        for guess in 0..WRONG_KEPT + 10 {
            passwords.remember(
                "bob".to_owned(),
                passwords.digest([b"bob", b"", &guess.to_le_bytes()]),
                false,
            );
        }
        let known = passwords.known.lock().unwrap();
        assert_eq!((known.wrong.len(), known.right.len()), (WRONG_KEPT, 1));
    }

    #[tokio::test]
    async fn one_too_many_is_not_left_waiting() {
        let (passwords, users) = (Passwords::new(), users());
        let _all = passwords.waiting.try_acquire_many(MOST_WAITING as u32).unwrap();
        assert_eq!(passwords.check(&users, &basic("bob:builder")).await, Access::Busy);
    }
}
