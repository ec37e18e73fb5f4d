//! A collector whose reads can hang: it is waited for until a deadline, and not asked again before it has come back.

use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::crew::{self, Crew};
use super::runner::caught;
use crate::collector::{CollectError, Collector, NodeCollector};
use crate::metric::Samples;
use crate::source::stuck::StuckThreads;

/// The collector, and the last reading that it gave.
pub(super) struct Blocking {
    name: &'static str,
    /// Nothing while it is at work, and where it is lost or was left behind with other options.
    idle: Option<Box<Collecting>>,
    answers: Receiver<Box<Collecting>>,
    /// There for as long as it is at work or its answer waits.
    under_way: Weak<()>,
    /// Since when it has been at work.
    busy_since: Option<Instant>,
    last: Samples,
    stuck: Arc<StuckThreads>,
}

/// The collector while it goes from thread to thread.
struct Collecting {
    collector: Box<dyn NodeCollector>,
    wanted: Vec<bool>,
    samples: Samples,
    result: Result<(), CollectError>,
    took: Duration,
    answer: SyncSender<Box<Collecting>>,
    _under_way: Arc<()>,
}

impl crew::Job for Collecting {
    fn run(mut self: Box<Self>) {
        let started = Instant::now();
        self.samples.clear();
        let Collecting { collector, samples, wanted, .. } = &mut *self;
        self.result = caught(|| collector.collect(&mut samples.writer(0, wanted)));
        self.took = started.elapsed();
        let answer = self.answer.clone();
        // Nobody waits where another plan is in force.
        let _ = answer.send(self);
    }
}

impl Blocking {
    /// Ready to be asked; without a collector where the one before is still under way and another would hang beside it.
    pub(super) fn new(
        collector: Option<Box<dyn NodeCollector>>,
        description: &'static Collector,
        stuck: Arc<StuckThreads>,
    ) -> Self {
        let (answer, answers) = sync_channel(1);
        let families = description.families.len();
        let under_way = Arc::new(());
        Blocking {
            name: description.name,
            answers,
            under_way: Arc::downgrade(&under_way),
            busy_since: None,
            last: Samples::new(families),
            idle: collector.map(|collector| {
                Box::new(Collecting {
                    collector,
                    wanted: Vec::new(),
                    samples: Samples::new(families),
                    result: Ok(()),
                    took: Duration::ZERO,
                    answer,
                    _under_way: under_way,
                })
            }),
            stuck,
        }
    }

    /// Whether it must be made anew: there is none, and none at work.
    pub(super) fn is_lost(&self) -> bool {
        self.idle.is_none() && self.under_way.strong_count() == 0
    }

    /// Whether it has not come back by the deadline.
    pub(super) fn is_stuck(&self) -> bool {
        self.busy_since.is_some() && self.under_way.strong_count() > 0
    }

    /// Asks for a reading, unless one is still under way.
    pub(super) fn ask(&mut self, crew: &Crew, wanted: &[bool]) {
        // What comes late is a good reading, too, until the one that is asked for now.
        if self.busy_since.is_some()
            && let Ok(late) = self.answers.try_recv()
        {
            let _ = self.take(late);
        }
        let Some(mut collecting) = self.idle.take() else { return };
        collecting.wanted.clear();
        collecting.wanted.extend_from_slice(wanted);
        self.busy_since = Some(Instant::now());
        crew.push(collecting);
    }

    /// Takes up the reading that was asked for, where it is there; else the reading before stays, and this one is past
    /// the deadline. Tells how long it took.
    pub(super) fn answer(&mut self, deadline: Duration) -> (Result<(), CollectError>, Duration) {
        // One that was left behind with other options has been asked, long ago, and may have come back since.
        let Some(since) = self.busy_since else {
            return (Err(CollectError::Deadline(deadline)), Duration::ZERO);
        };
        match self.answers.try_recv() {
            Ok(answer) => {
                let took = answer.took;
                (self.take(answer), took)
            }
            Err(TryRecvError::Empty) => {
                (Err(CollectError::Deadline(deadline)), since.elapsed().max(deadline))
            }
            Err(TryRecvError::Disconnected) => {
                let what = format!("the thread of {} has ended", self.name);
                (Err(CollectError::Panic(what)), since.elapsed())
            }
        }
    }

    /// The last reading.
    pub(super) fn last(&self) -> &Samples {
        &self.last
    }

    fn take(&mut self, mut answer: Box<Collecting>) -> Result<(), CollectError> {
        self.busy_since = None;
        std::mem::swap(&mut self.last, &mut answer.samples);
        let result = std::mem::replace(&mut answer.result, Ok(()));
        self.idle = Some(answer);
        result
    }
}

impl Drop for Blocking {
    fn drop(&mut self) {
        if self.is_stuck() {
            self.stuck.add(self.name, None, self.under_way.clone());
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

    fn slow(stuck: &Arc<StuckThreads>) -> (SyncSender<()>, Blocking) {
        let (go, wait) = sync_channel(4);
        (go, Blocking::new(Some(Box::new(Slow(wait, 0.0))), &DESCRIPTION, stuck.clone()))
    }

    fn collect(crew: &Crew, slow: &mut Blocking, deadline: Duration) -> Result<(), CollectError> {
        crew.begin();
        slow.ask(crew, &[true]);
        crew.send();
        crew.wait(deadline);
        slow.answer(deadline).0
    }

    fn is_late(result: Result<(), CollectError>) -> bool {
        matches!(result, Err(CollectError::Deadline(_)))
    }

    const LONG: Duration = Duration::from_secs(60);
    const SHORT: Duration = Duration::from_millis(1);

    #[test]
    fn past_the_deadline_the_last_reading_stays_and_no_second_read_begins() {
        let (crew, stuck) = (Crew::new(), Arc::default());
        let (go, mut slow) = slow(&stuck);
        go.send(()).unwrap();
        collect(&crew, &mut slow, LONG).unwrap();
        assert!(!slow.is_stuck());
        for _ in 0..3 {
            assert!(is_late(collect(&crew, &mut slow, SHORT)));
            assert_eq!(slow.last().family(0)[0].value, 1.0);
            assert!(slow.is_stuck());
        }
        // The one that hung, and, if that had come before anybody waited, the one that is asked for after it.
        go.send(()).unwrap();
        go.send(()).unwrap();
        let deadline = Instant::now() + LONG;
        while is_late(collect(&crew, &mut slow, LONG)) {
            assert!(Instant::now() < deadline, "it does not come back");
        }
        let late = slow.last().family(0)[0].value;
        assert!(late == 2.0 || late == 3.0, "{late}");
    }

    #[test]
    fn one_that_hangs_keeps_nobody_else_from_answering() {
        let (crew, stuck) = (Crew::new(), Arc::default());
        let ((_go, mut hangs), (go, mut other)) = (slow(&stuck), slow(&stuck));
        go.send(()).unwrap();
        crew.begin();
        hangs.ask(&crew, &[true]);
        other.ask(&crew, &[true]);
        crew.send();
        let deadline = Instant::now() + LONG;
        while is_late(other.answer(LONG).0) {
            assert!(Instant::now() < deadline, "no other thread takes it");
            crew.wait(Duration::from_millis(30));
        }
        assert!(is_late(hangs.answer(SHORT).0));
        assert!(hangs.is_stuck() && !other.is_stuck());
    }

    #[test]
    fn a_collector_that_is_left_behind_is_not_doubled() {
        let (crew, stuck) = (Crew::new(), Arc::new(StuckThreads::default()));
        let (go, mut one) = slow(&stuck);
        assert!(is_late(collect(&crew, &mut one, SHORT)));
        drop(one);
        assert_eq!((stuck.has("slow"), stuck.count("slow"), stuck.has("other")), (true, 1, false));
        let mut next = Blocking::new(None, &DESCRIPTION, stuck.clone());
        assert!(next.is_lost() && is_late(collect(&crew, &mut next, LONG)));
        go.send(()).unwrap();
        let deadline = Instant::now() + LONG;
        while stuck.has("slow") {
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::yield_now();
        }
        // It came back after somebody had looked and before it was waited for: late, and no panic.
        assert!(is_late(next.answer(LONG).0));
    }

    #[test]
    fn one_whose_thread_is_gone_says_so_and_is_made_anew() {
        let (crew, stuck) = (Crew::new(), Arc::default());
        let (_go, mut slow) = slow(&stuck);
        slow.ask(&crew, &[true]);
        drop(crew);
        assert!(matches!(slow.answer(LONG).0, Err(CollectError::Panic(_))));
        assert!(slow.is_lost() && !slow.is_stuck());
    }
}
