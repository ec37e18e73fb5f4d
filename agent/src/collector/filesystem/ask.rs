//! How full file systems are, asked on a thread that can be left behind with a mount that does not answer.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use rustix::fs::{StatVfs, statvfs};
use rustix::io::Errno;

use super::COLLECTOR;
use crate::source::stuck::StuckThreads;

/// How long one mount is waited for, where so much is asked for and the collector has so long.
///
/// Where a mount hangs it takes up to four times that to have the others' answers, which are to be there in time.
pub(in crate::collector) fn patience(asked: Option<Duration>, collector: Duration) -> Duration {
    // Less would take a healthy mount for a dead one on a machine that is busy.
    const LEAST: Duration = Duration::from_millis(50);
    let most = collector / 5;
    asked.unwrap_or(most).min(most).max(LEAST)
}

/// What a mount says.
pub(in crate::collector) enum Answer {
    /// Its sizes.
    Sizes(StatVfs),
    /// An error.
    Failed(Errno),
    /// Nothing; it is not asked again before it has answered what it was asked.
    Hangs,
}

/// Where a mount is for us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::collector) struct Place {
    pub(in crate::collector) path: PathBuf,
    /// The kernel has the answer at hand, and the way to it.
    pub(in crate::collector) is_at_hand: bool,
}

/// Asks mounts: at once where none of them can hang, else all of them with one change of threads.
pub(in crate::collector) struct Asker {
    patience: Duration,
    worker: Option<Worker>,
    /// Where others hang, those of an asker before this one among them.
    stuck: Arc<StuckThreads>,
}

impl Asker {
    /// Waits so long for one mount.
    pub(in crate::collector) fn new(stuck: Arc<StuckThreads>, patience: Duration) -> Self {
        Asker { patience, worker: None, stuck }
    }

    /// The answer of each mount, in their order.
    pub(in crate::collector) fn ask(&mut self, places: &Arc<[Place]>, answers: &mut Vec<Answer>) {
        if places.iter().all(|place| place.is_at_hand) {
            answers.clear();
            answers.extend(places.iter().map(|place| stat(&place.path)));
            return;
        }
        self.ask_with(places, answers, stat);
    }

    fn ask_with(&mut self, places: &Arc<[Place]>, answers: &mut Vec<Answer>, stat: fn(&Path) -> Answer) {
        let mut round = Round { places: places.clone(), skip: Vec::new(), answers: std::mem::take(answers) };
        let hanging = self.stuck.places(COLLECTOR.name);
        if !hanging.is_empty() {
            round.skip = places.iter().map(|place| hanging.contains(&place.path)).collect();
        }
        let Some(worker) = self.worker.take().or_else(|| Worker::start(stat)) else {
            // Out of threads: better to risk hanging here than to say nothing.
            round.go(&Progress::default(), stat);
            *answers = round.answers;
            return;
        };
        match worker.wait_for(round, self.patience) {
            Ok(round) => {
                *answers = round.answers;
                self.worker = Some(worker);
            }
            Err(at) => {
                self.leave_behind(worker, places.get(at));
                self.ask_each(places, answers, stat);
            }
        }
    }

    /// The same with a thread for each mount: where one hangs, others of its server do, and waiting for one after the
    /// other would take too long for all of them.
    fn ask_each(&self, places: &[Place], answers: &mut Vec<Answer>, stat: fn(&Path) -> Answer) {
        /// Threads at a time; each has little, but a machine may have thousands of mounts.
        const AT_ONCE: usize = 32;
        let hanging = self.stuck.places(COLLECTOR.name);
        answers.clear();
        answers.resize_with(places.len(), || Answer::Hangs);
        let asked: Vec<usize> = (0..places.len()).filter(|i| !hanging.contains(&places[*i].path)).collect();
        for some in asked.chunks(AT_ONCE) {
            let ask = |i: &usize| {
                let worker = Worker::start(stat)?;
                let places = Arc::from([places[*i].clone()]);
                worker.requests.send(Round { places, skip: Vec::new(), answers: Vec::new() }).ok()?;
                Some(worker)
            };
            let workers: Vec<_> = some.iter().map(|i| (*i, ask(i))).collect();
            let deadline = Instant::now() + 2 * self.patience;
            for (i, worker) in workers {
                let Some(worker) = worker else {
                    answers[i] = stat(&places[i].path);
                    continue;
                };
                match worker.rounds.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                    Ok(round) => answers[i] = round.answers.into_iter().next().unwrap_or(Answer::Hangs),
                    Err(_) => self.leave_behind(worker, Some(&places[i])),
                }
            }
        }
    }

    fn leave_behind(&self, worker: Worker, place: Option<&Place>) {
        worker.progress.is_left_behind.store(true, Ordering::Relaxed);
        // Ours goes with the worker, and leaves the thread's own.
        self.stuck.add(
            COLLECTOR.name,
            place.map(|place| place.path.as_path()),
            Arc::downgrade(&worker.progress),
        );
    }
}

struct Worker {
    requests: SyncSender<Round>,
    rounds: Receiver<Round>,
    progress: Arc<Progress>,
}

#[derive(Default)]
struct Progress {
    /// The mount that is being asked.
    at: AtomicUsize,
    /// Nobody waits for the round any more: the other mounts are for others to ask.
    is_left_behind: AtomicBool,
}

struct Round {
    places: Arc<[Place]>,
    /// By place, whether it hangs already; empty when none does.
    skip: Vec<bool>,
    answers: Vec<Answer>,
}

impl Round {
    fn go(&mut self, progress: &Progress, stat: fn(&Path) -> Answer) {
        self.answers.clear();
        for (i, place) in self.places.iter().enumerate() {
            if progress.is_left_behind.load(Ordering::Relaxed) {
                return;
            }
            progress.at.store(i, Ordering::Relaxed);
            let hangs = self.skip.get(i).is_some_and(|skip| *skip);
            self.answers.push(if hangs { Answer::Hangs } else { stat(&place.path) });
        }
    }
}

impl Worker {
    fn start(stat: fn(&Path) -> Answer) -> Option<Self> {
        let (requests, asked) = sync_channel::<Round>(1);
        let (answer, rounds) = sync_channel(1);
        let progress = Arc::new(Progress::default());
        let ours = progress.clone();
        let thread = std::thread::Builder::new().name("statvfs".to_owned()).stack_size(64 << 10);
        thread
            .spawn(move || {
                while let Ok(mut round) = asked.recv() {
                    round.go(&ours, stat);
                    if answer.send(round).is_err() {
                        return;
                    }
                }
            })
            .ok()?;
        Some(Worker { requests, rounds, progress })
    }

    /// The round with its answers, or at which place it stands still.
    fn wait_for(&self, round: Round, patience: Duration) -> Result<Round, usize> {
        // Where the last round ended says nothing about this one.
        let mut before = usize::MAX;
        if self.requests.send(round).is_ok() {
            loop {
                match self.rounds.recv_timeout(patience) {
                    Ok(round) => return Ok(round),
                    Err(RecvTimeoutError::Disconnected) => break,
                    Err(RecvTimeoutError::Timeout) => {}
                }
                let now = self.progress.at.load(Ordering::Relaxed);
                if now == before {
                    return Err(now);
                }
                before = now;
            }
        }
        // It has panicked, and where is the best guess.
        Err(self.progress.at.load(Ordering::Relaxed))
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

    fn check(asker: &mut Asker, places: &Arc<[Place]>, expected: &str) {
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
        let place = |name| Place { path: folder.join(name), is_at_hand: false };
        let places: Arc<[Place]> = ["a", "dead", "b", "dead too"].map(place).into();
        std::fs::write(&places[1].path, "").unwrap();
        std::fs::write(&places[3].path, "").unwrap();
        let stuck = Arc::new(StuckThreads::default());
        let mut asker = Asker::new(stuck.clone(), Duration::from_secs(2));
        check(&mut asker, &places, "fhfh");
        check(&mut asker, &places, "fhfh");
        assert_eq!(stuck.count(COLLECTOR.name), 2, "and not asked");
        let mut asker = Asker::new(stuck.clone(), Duration::from_secs(2));
        check(&mut asker, &places, "fhfh");
        assert_eq!(stuck.count(COLLECTOR.name), 2, "by nobody");
        // The one that answers again does not wait for the other.
        std::fs::remove_file(&places[1].path).unwrap();
        wait_until(|| stuck.count(COLLECTOR.name) == 1);
        check(&mut asker, &places, "fffh");
        std::fs::remove_file(&places[3].path).unwrap();
        wait_until(|| stuck.count(COLLECTOR.name) == 0);
        check(&mut asker, &places, "ffff");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    fn wait_until(condition: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !condition() {
            assert!(Instant::now() < deadline, "not within a minute");
            std::thread::yield_now();
        }
    }

    #[test]
    fn no_mount_is_waited_for_so_long_that_the_others_come_late() {
        let millis = Duration::from_millis;
        let check = |asked, collector, expected| {
            assert_eq!(patience(Some(millis(asked)), millis(collector)), millis(expected));
        };
        check(400, 2000, 400);
        // What node_exporter does by default.
        check(5000, 2000, 400);
        check(1000, 10_000, 1000);
        check(100, 2000, 100);
        check(0, 2000, 50);
    }

    #[test]
    fn sizes_are_those_that_the_kernel_gives() {
        for is_at_hand in [true, false] {
            let place = |path| Place { path: PathBuf::from(path), is_at_hand };
            let mut answers = Vec::new();
            Asker::new(Arc::default(), Duration::from_secs(2))
                .ask(&Arc::from(["/", "/no such place"].map(place)), &mut answers);
            assert!(
                matches!(&answers[..], [Answer::Sizes(sizes), Answer::Failed(Errno::NOENT)] if sizes.f_frsize > 0)
            );
        }
    }
}
