//! How full file systems are, asked on a thread that can be left behind with a mount that does not answer.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::time::Duration;

use rustix::fs::{StatVfs, statvfs};
use rustix::io::Errno;

/// How long one mount is waited for; well below the deadline of a collector, so that the other mounts are still given.
const PATIENCE: Duration = Duration::from_millis(400);

/// What a mount says.
pub(super) enum Answer {
    /// Its sizes.
    Sizes(StatVfs),
    /// An error.
    Failed(Errno),
    /// Nothing; it is not asked again before it has answered what it was asked.
    Hangs,
}

/// Asks mounts, all of them with one change of threads.
#[derive(Default)]
pub(super) struct Asker {
    worker: Option<Worker>,
    hanging: Vec<(PathBuf, Worker)>,
}

impl Asker {
    /// The answer of each mount, in their order.
    pub(super) fn ask(&mut self, places: &Arc<[PathBuf]>, answers: &mut Vec<Answer>) {
        self.ask_with(places, answers, stat);
    }

    fn ask_with(&mut self, places: &Arc<[PathBuf]>, answers: &mut Vec<Answer>, stat: fn(&Path) -> Answer) {
        // A worker that has something to say, or has ended, hangs no more.
        self.hanging.retain(|(_, worker)| matches!(worker.rounds.try_recv(), Err(TryRecvError::Empty)));
        // Each turn of this loop but the last finds one more mount that hangs.
        for _ in 0..=places.len() {
            let mut round =
                Round { places: places.clone(), skip: Vec::new(), answers: std::mem::take(answers) };
            if !self.hanging.is_empty() {
                round.skip =
                    places.iter().map(|place| self.hanging.iter().any(|(hung, _)| hung == place)).collect();
            }
            let worker = match self.worker.take().map_or_else(|| Worker::start(stat), Some) {
                Some(worker) => worker,
                // Out of threads: better to risk hanging here than to say nothing.
                None => {
                    round.go(&AtomicUsize::new(0), stat);
                    *answers = round.answers;
                    return;
                }
            };
            match worker.wait_for(round) {
                Ok(round) => {
                    *answers = round.answers;
                    self.worker = Some(worker);
                    return;
                }
                Err(at) => self.hanging.extend(places.get(at).map(|place| (place.clone(), worker))),
            }
        }
    }
}

struct Worker {
    requests: SyncSender<Round>,
    rounds: Receiver<Round>,
    /// The mount that is being asked.
    at: Arc<AtomicUsize>,
}

struct Round {
    places: Arc<[PathBuf]>,
    /// By place, whether it hangs already; empty when none does.
    skip: Vec<bool>,
    answers: Vec<Answer>,
}

impl Round {
    fn go(&mut self, at: &AtomicUsize, stat: fn(&Path) -> Answer) {
        self.answers.clear();
        for (i, place) in self.places.iter().enumerate() {
            at.store(i, Ordering::Relaxed);
            let hangs = self.skip.get(i).is_some_and(|skip| *skip);
            self.answers.push(if hangs { Answer::Hangs } else { stat(place) });
        }
    }
}

impl Worker {
    fn start(stat: fn(&Path) -> Answer) -> Option<Self> {
        let (requests, asked) = sync_channel::<Round>(1);
        let (answer, rounds) = sync_channel(1);
        let at = Arc::new(AtomicUsize::new(0));
        let progress = at.clone();
        let thread = std::thread::Builder::new().name("statvfs".to_owned()).stack_size(64 << 10);
        let started = thread.spawn(move || {
            while let Ok(mut round) = asked.recv() {
                round.go(&progress, stat);
                if answer.send(round).is_err() {
                    return;
                }
            }
        });
        started.ok().map(|_| Worker { requests, rounds, at })
    }

    /// The round with its answers, or at which place it stands still.
    fn wait_for(&self, round: Round) -> Result<Round, usize> {
        // Where the last round ended says nothing about this one.
        let mut before = usize::MAX;
        if self.requests.send(round).is_ok() {
            loop {
                match self.rounds.recv_timeout(PATIENCE) {
                    Ok(round) => return Ok(round),
                    Err(RecvTimeoutError::Disconnected) => break,
                    Err(RecvTimeoutError::Timeout) => {}
                }
                let now = self.at.load(Ordering::Relaxed);
                if now == before {
                    return Err(now);
                }
                before = now;
            }
        }
        // It has panicked, and where is the best guess.
        Err(self.at.load(Ordering::Relaxed))
    }
}

fn stat(place: &Path) -> Answer {
    match rustix::io::retry_on_intr(|| statvfs(place)) {
        Ok(sizes) => Answer::Sizes(sizes),
        Err(error) => Answer::Failed(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stands for a dead server: answers only when the file that the place names has gone.
    fn until_gone(place: &Path) -> Answer {
        while place.exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
        stat(place)
    }

    fn check(asker: &mut Asker, places: &Arc<[PathBuf]>, expected: &str) {
        let mut answers = Vec::new();
        asker.ask_with(places, &mut answers, until_gone);
        let letters = answers.iter().map(|answer| match answer {
            Answer::Sizes(_) => 's',
            Answer::Failed(_) => 'f',
            Answer::Hangs => 'h',
        });
        assert_eq!(letters.collect::<String>(), expected);
    }

    #[test]
    fn a_mount_that_hangs_costs_only_its_own_answer_and_is_asked_again_when_it_has_answered() {
        let folder = std::env::temp_dir().join(format!("ask-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let places: Arc<[PathBuf]> = ["a", "dead", "b"].map(|name| folder.join(name)).into();
        std::fs::write(&places[1], "").unwrap();
        let mut asker = Asker::default();
        check(&mut asker, &places, "fhf");
        let started = std::time::Instant::now();
        check(&mut asker, &places, "fhf");
        assert!(started.elapsed() < PATIENCE, "what hangs is not waited for a second time");
        assert_eq!(asker.hanging.len(), 1, "and not asked");
        std::fs::remove_file(&places[1]).unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        while !asker.hanging.is_empty() && std::time::Instant::now() < deadline {
            asker.ask_with(&places, &mut Vec::new(), until_gone);
        }
        check(&mut asker, &places, "fff");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn sizes_are_those_that_the_kernel_gives() {
        let mut answers = Vec::new();
        Asker::default().ask(&Arc::from([PathBuf::from("/"), PathBuf::from("/no such place")]), &mut answers);
        assert!(
            matches!(&answers[..], [Answer::Sizes(sizes), Answer::Failed(Errno::NOENT)] if sizes.f_frsize > 0)
        );
    }
}
