//! A thread for one collector whose reads can hang: it is waited for until a deadline, and never doubled.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::caught;
use crate::collector::{CollectError, Collector, NodeCollector};
use crate::metric::Samples;

/// The thread, and the last reading that it gave.
pub(super) struct CollectorThread {
    name: &'static str,
    /// Nothing where the machine had no thread to give.
    thread: Option<JoinHandle<()>>,
    requests: SyncSender<Request>,
    readings: Receiver<Reading>,
    is_busy: bool,
    last: Samples,
    spare: Option<Samples>,
}

struct Request {
    wanted: Vec<bool>,
    samples: Samples,
}

struct Reading {
    samples: Samples,
    result: Result<(), CollectError>,
}

impl CollectorThread {
    /// Starts the thread; it ends when this is dropped and its last read has come back.
    pub(super) fn new(mut collector: Box<dyn NodeCollector>, description: &'static Collector) -> Self {
        let (requests, asked) = sync_channel::<Request>(1);
        let (answer, readings) = sync_channel::<Reading>(1);
        let spawned = std::thread::Builder::new().name(description.name.to_owned()).spawn(move || {
            while let Ok(Request { wanted, mut samples }) = asked.recv() {
                samples.clear();
                let result = caught(|| collector.collect(&mut samples.writer(0, &wanted)));
                if answer.send(Reading { samples, result }).is_err() {
                    return;
                }
            }
        });
        let spawned = spawned.inspect_err(|error| {
            tracing::error!(
                collector = description.name,
                "cannot start a thread: {error}; the next scrape tries again"
            );
        });
        let families = description.families.len();
        CollectorThread {
            name: description.name,
            thread: spawned.ok(),
            requests,
            readings,
            is_busy: false,
            last: Samples::new(families),
            spare: Some(Samples::new(families)),
        }
    }

    /// Whether there is no thread any more, or never was.
    pub(super) fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Asks for a reading and waits for it until the deadline; past it the reading before stays.
    pub(super) fn collect(&mut self, wanted: &[bool], deadline: Duration) -> Result<(), CollectError> {
        if self.is_busy {
            // What comes late is taken as the last good reading, and another is asked for.
            match self.readings.try_recv() {
                Ok(late) => self.take(late)?,
                Err(_) => return Err(CollectError::Deadline(deadline)),
            }
        }
        let samples = self.spare.take().unwrap_or_else(|| self.last.like());
        if self.requests.try_send(Request { wanted: wanted.to_vec(), samples }).is_err() {
            return Err(CollectError::Panic(format!("the thread of {} has ended", self.name)));
        }
        self.is_busy = true;
        match self.readings.recv_timeout(deadline) {
            Ok(reading) => self.take(reading),
            Err(RecvTimeoutError::Timeout) => Err(CollectError::Deadline(deadline)),
            Err(RecvTimeoutError::Disconnected) => {
                Err(CollectError::Panic(format!("the thread of {} has ended", self.name)))
            }
        }
    }

    /// The last reading.
    pub(super) fn last(&self) -> &Samples {
        &self.last
    }

    fn take(&mut self, reading: Reading) -> Result<(), CollectError> {
        self.is_busy = false;
        self.spare = Some(std::mem::replace(&mut self.last, reading.samples));
        reading.result
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

    #[test]
    fn past_the_deadline_the_last_reading_stays_and_no_second_read_begins() {
        let (go, wait) = sync_channel(4);
        let mut thread = CollectorThread::new(Box::new(Slow(wait, 0.0)), &DESCRIPTION);
        let long = Duration::from_secs(60);
        go.send(()).unwrap();
        thread.collect(&[true], long).unwrap();
        let short = Duration::from_millis(1);
        for _ in 0..3 {
            assert!(matches!(thread.collect(&[true], short), Err(CollectError::Deadline(_))));
            assert_eq!(thread.last().family(0)[0].value, 1.0);
        }
        // Two more may go: the one that hung, and the one that is asked for after it.
        go.send(()).unwrap();
        go.send(()).unwrap();
        let late = loop {
            if thread.collect(&[true], long).is_ok() {
                break thread.last().family(0)[0].value;
            }
        };
        assert_eq!(late, 3.0);
    }
}
