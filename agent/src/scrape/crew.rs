//! The threads on which collectors run whose reads can hang: one for all of them, and one more whenever that stands still.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What is to be done; it hands over its result by itself.
pub(super) trait Job: Send {
    /// Does it.
    fn run(self: Box<Self>);
}

/// The jobs that wait, and the threads that take them in turn. A change of threads costs more than most collectors do, so
/// one thread goes through them all for as long as it comes along.
pub(super) struct Crew(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    change: Condvar,
    /// Told of when the last job of this round is done.
    done: Condvar,
}

#[derive(Default)]
struct State {
    /// Each with its round.
    jobs: VecDeque<(u64, Box<dyn Job>)>,
    round: u64,
    /// Jobs of this round that are not done.
    open: usize,
    /// Threads without a job.
    idle: usize,
    is_over: bool,
}

/// How long one thread is given before another takes what waits behind it: more than what does not wait for anything
/// takes, and so little that all of them could hang and still be found out before the deadline.
const GRACE: Duration = Duration::from_millis(20);

impl Crew {
    pub(super) fn new() -> Self {
        Crew(Arc::default())
    }

    /// Begins a round: the jobs that are pushed from now on are waited for together.
    pub(super) fn begin(&self) {
        let mut state = self.0.state();
        state.round += 1;
        state.open = 0;
    }

    /// Puts a job at the end of the queue.
    pub(super) fn push(&self, job: Box<dyn Job>) {
        let mut state = self.0.state();
        let round = state.round;
        state.jobs.push_back((round, job));
        state.open += 1;
    }

    /// Waits until the jobs of this round are done, or so long; woken when all are, and now and then to see whether anybody
    /// takes what waits.
    pub(super) fn wait(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let mut state = self.0.state();
        while state.open > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let jobs = state.jobs.len();
            let waited = self.0.done.wait_timeout(state, left.min(GRACE));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            // Nobody takes what waits: the thread stands still.
            if state.open > 0 && state.jobs.len() == jobs {
                drop(state);
                self.send();
                state = self.0.state();
            }
        }
    }

    /// Sends one more thread after the jobs that wait, if any do.
    pub(super) fn send(&self) {
        let state = self.0.state();
        if state.jobs.is_empty() {
            return;
        }
        let is_idle = state.idle > 0;
        // Who is woken while it is locked goes to sleep once more.
        drop(state);
        if is_idle {
            self.0.change.notify_one();
            return;
        }
        let shared = self.0.clone();
        let spawned = std::thread::Builder::new().name("collectors".to_owned()).spawn(move || shared.work());
        if let Err(error) = spawned {
            tracing::error!("cannot start a thread for collectors: {error}; it is tried again");
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.is_over = true;
        state.jobs.clear();
        self.0.change.notify_all();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut state = self.state();
        while !state.is_over {
            if let Some((round, job)) = state.jobs.pop_front() {
                drop(state);
                job.run();
                state = self.state();
                if state.round == round {
                    state.open -= 1;
                    if state.open == 0 {
                        drop(state);
                        self.done.notify_one();
                        state = self.state();
                    }
                }
                continue;
            }
            // One that waits is enough.
            if state.idle > 0 {
                return;
            }
            state.idle += 1;
            state = self.change.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::thread::{self, ThreadId};

    use super::*;

    /// Waits to be let go, and tells which thread it was on.
    struct Waits(Receiver<()>, Sender<ThreadId>);

    impl Job for Waits {
        fn run(self: Box<Self>) {
            self.0.recv().unwrap();
            self.1.send(thread::current().id()).unwrap();
        }
    }

    fn job(crew: &Crew) -> (Sender<()>, Receiver<ThreadId>) {
        let ((go, wait), (tell, told)) = (channel(), channel());
        crew.push(Box::new(Waits(wait, tell)));
        (go, told)
    }

    #[test]
    fn one_thread_does_all_and_another_takes_what_it_leaves() {
        let crew = Crew::new();
        let (first, second) = (job(&crew), job(&crew));
        crew.send();
        first.0.send(()).unwrap();
        second.0.send(()).unwrap();
        let [one, other] = [first.1, second.1].map(|told| told.recv().unwrap());
        assert_eq!(one, other);
        let (hangs, next) = (job(&crew), job(&crew));
        next.0.send(()).unwrap();
        crew.send();
        while crew.0.state().jobs.len() > 1 {
            thread::yield_now();
        }
        crew.send();
        let other = next.1.recv().unwrap();
        hangs.0.send(()).unwrap();
        assert_ne!(hangs.1.recv().unwrap(), other);
        while crew.0.state().idle != 1 || Arc::strong_count(&crew.0) > 2 {
            thread::yield_now();
        }
        let shared = Arc::downgrade(&crew.0);
        drop(crew);
        while shared.strong_count() > 0 {
            thread::yield_now();
        }
    }
}
