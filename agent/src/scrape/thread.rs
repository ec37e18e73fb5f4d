//! A thread for one collector whose reads can hang: it is waited for until a deadline, and never doubled.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::caught;
use crate::collector::{CollectError, Collector, NodeCollector};
use crate::metric::Samples;
use crate::source::stuck::StuckThreads;

/// The thread, and the last reading that it gave.
pub(super) struct CollectorThread {
    name: &'static str,
    /// Nothing where the machine had no thread to give, or the one before is still stuck.
    thread: Option<JoinHandle<()>>,
    requests: SyncSender<Request>,
    readings: Receiver<Reading>,
    /// Since when the thread has been at work.
    busy_since: Option<Instant>,
    last: Samples,
    spare: Option<Samples>,
    stuck: Arc<StuckThreads>,
}

struct Request {
    wanted: Vec<bool>,
    samples: Samples,
}

struct Reading {
    samples: Samples,
    result: Result<(), CollectError>,
    took: Duration,
}

impl CollectorThread {
    /// Starts the thread, if there is a collector for it; it ends when this is dropped and its last read has come back.
    pub(super) fn new(
        collector: Option<Box<dyn NodeCollector>>,
        description: &'static Collector,
        stuck: Arc<StuckThreads>,
    ) -> Self {
        let (requests, asked) = sync_channel::<Request>(1);
        let (answer, readings) = sync_channel::<Reading>(1);
        let name = description.name;
        let thread = collector.and_then(|mut collector| {
            let work = move || {
                while let Ok(Request { wanted, mut samples }) = asked.recv() {
                    samples.clear();
                    let started = Instant::now();
                    let result = caught(|| collector.collect(&mut samples.writer(0, &wanted)));
                    if answer.send(Reading { samples, result, took: started.elapsed() }).is_err() {
                        return;
                    }
                }
            };
            let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(work);
            let spawned = spawned.inspect_err(|error| {
                tracing::error!(
                    collector = name,
                    "cannot start a thread: {error}; the next scrape tries again"
                );
            });
            spawned.ok()
        });
        let families = description.families.len();
        CollectorThread {
            name,
            thread,
            requests,
            readings,
            busy_since: None,
            last: Samples::new(families),
            spare: Some(Samples::new(families)),
            stuck,
        }
    }

    /// Whether there is no thread any more, or never was.
    pub(super) fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Whether the thread has not come back by the deadline.
    pub(super) fn is_stuck(&self) -> bool {
        self.busy_since.is_some() && !self.has_ended()
    }

    /// Asks for a reading, unless one is still under way.
    pub(super) fn ask(&mut self, wanted: &[bool]) {
        if self.busy_since.is_some() {
            // What comes late is a good reading, too, until the one that is asked for now.
            let Ok(late) = self.readings.try_recv() else { return };
            let _ = self.take(late);
        }
        let samples = self.spare.take().unwrap_or_else(|| self.last.like());
        if self.requests.try_send(Request { wanted: wanted.to_vec(), samples }).is_ok() {
            self.busy_since = Some(Instant::now());
        }
    }

    /// Waits for the reading until the deadline, which began when it was asked for; past it the reading before stays.
    /// Tells how long it took.
    pub(super) fn wait(&mut self, deadline: Duration) -> (Result<(), CollectError>, Duration) {
        let ended = || CollectError::Panic(format!("the thread of {} has ended", self.name));
        let waited = match self.busy_since {
            Some(since) => since.elapsed(),
            None if self.stuck.has(self.name) => {
                return (Err(CollectError::Deadline(deadline)), Duration::ZERO);
            }
            None => return (Err(ended()), Duration::ZERO),
        };
        match self.readings.recv_timeout(deadline.saturating_sub(waited)) {
            Ok(reading) => {
                let took = reading.took;
                (self.take(reading), took)
            }
            Err(RecvTimeoutError::Timeout) => (Err(CollectError::Deadline(deadline)), waited.max(deadline)),
            Err(RecvTimeoutError::Disconnected) => (Err(ended()), waited),
        }
    }

    /// The last reading.
    pub(super) fn last(&self) -> &Samples {
        &self.last
    }

    fn take(&mut self, reading: Reading) -> Result<(), CollectError> {
        self.busy_since = None;
        self.spare = Some(std::mem::replace(&mut self.last, reading.samples));
        reading.result
    }
}

impl Drop for CollectorThread {
    fn drop(&mut self) {
        let is_stuck = self.is_stuck();
        if let Some(thread) = self.thread.take().filter(|_| is_stuck) {
            self.stuck.add(self.name, None, thread);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::{FamilyDesc, Kind, Labels, Writer};
    use crate::source::Paths;

    /// Answers with how often it was asked, after being let go.
    struct Slow(Receiver<()>, f64);

    impl NodeCollector for Slow {
        fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
            self.0.recv().unwrap();
            self.1 += 1.0;
            out.node(0u16, Labels::NONE, self.1);
            Ok(())
        }
    }

    static DESCRIPTION: Collector = Collector {
        name: "slow",
        enabled_by_default: true,
        families: &[FamilyDesc { name: "slow", kind: Kind::Gauge, help: "Slow." }],
        named: &[],
        options: &[],
        exclusive: &[],
        run: crate::collector::Run::Node { start: never, can_block: true },
    };

    fn never(_: &Paths, _: &crate::collector::Options) -> Box<dyn NodeCollector> {
        unreachable!()
    }

    fn collect(thread: &mut CollectorThread, deadline: Duration) -> Result<(), CollectError> {
        thread.ask(&[true]);
        thread.wait(deadline).0
    }

    fn is_late(result: Result<(), CollectError>) -> bool {
        matches!(result, Err(CollectError::Deadline(_)))
    }

    const LONG: Duration = Duration::from_secs(60);
    const SHORT: Duration = Duration::from_millis(1);

    #[test]
    fn past_the_deadline_the_last_reading_stays_and_no_second_read_begins() {
        let (go, wait) = sync_channel(4);
        let slow = Box::new(Slow(wait, 0.0));
        let mut thread = CollectorThread::new(Some(slow), &DESCRIPTION, Arc::default());
        go.send(()).unwrap();
        collect(&mut thread, LONG).unwrap();
        assert!(!thread.is_stuck());
        for _ in 0..3 {
            assert!(is_late(collect(&mut thread, SHORT)));
            assert_eq!(thread.last().family(0)[0].value, 1.0);
            assert!(thread.is_stuck());
        }
        // The one that hung, and, if that had come before anybody waited, the one that is asked for after it.
        go.send(()).unwrap();
        go.send(()).unwrap();
        collect(&mut thread, LONG).unwrap();
        let late = thread.last().family(0)[0].value;
        assert!(late == 2.0 || late == 3.0, "{late}");
    }

    #[test]
    fn a_thread_that_is_left_behind_is_not_doubled() {
        let (go, wait) = sync_channel(4);
        let stuck = Arc::new(StuckThreads::default());
        let slow = Box::new(Slow(wait, 0.0));
        let mut thread = CollectorThread::new(Some(slow), &DESCRIPTION, stuck.clone());
        assert!(is_late(collect(&mut thread, SHORT)));
        drop(thread);
        assert_eq!((stuck.has("slow"), stuck.count("slow"), stuck.has("other")), (true, 1, false));
        let mut next = CollectorThread::new(None, &DESCRIPTION, stuck.clone());
        assert!(next.has_ended() && is_late(collect(&mut next, LONG)));
        go.send(()).unwrap();
        let deadline = Instant::now() + LONG;
        while stuck.has("slow") {
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::yield_now();
        }
    }
}
