//! Times two things in turn, so that their ratio holds although the machine's speed drifts.

use std::time::{Duration, Instant};

use agent::expose::text::Format;
use agent::scrape::{Part, Scraper};
use rustix::time::{ClockId, clock_gettime};

/// What one thing cost, each figure a median.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Processor time of this thread.
    pub cpu: Duration,
    /// Time that passed.
    pub wall: Duration,
}

/// Runs each of the two in turn, so many times after a tenth of that to warm up.
///
/// Returns the cost of each, and the median of the ratios of processor time, pair by pair.
pub fn pair(rounds: usize, one: impl FnMut(), other: impl FnMut()) -> (Cost, Cost, f64) {
    pair_after(rounds, || (), one, other)
}

/// The same, with something done before each round that is not timed.
pub fn pair_after(
    rounds: usize,
    mut before: impl FnMut(),
    mut one: impl FnMut(),
    mut other: impl FnMut(),
) -> (Cost, Cost, f64) {
    let mut round = || {
        before();
        (timed(&mut one), timed(&mut other))
    };
    for _ in 0..rounds.div_ceil(10) {
        round();
    }
    let runs: Vec<_> = (0..rounds).map(|_| round()).collect();
    let ratio = |(one, other): &(Cost, Cost)| one.cpu.as_secs_f64() / other.cpu.as_secs_f64();
    let mut ratios: Vec<f64> = runs.iter().map(ratio).collect();
    ratios.sort_by(f64::total_cmp);
    (median(runs.iter().map(|r| r.0)), median(runs.iter().map(|r| r.1)), ratios[ratios.len() / 2])
}

/// Runs one thing so many times after a tenth of that to warm up.
pub fn alone(rounds: usize, mut one: impl FnMut()) -> Cost {
    pair(rounds, &mut one, || ()).0
}

/// Scrapes, untimed, until no cgroup counts as new and all count as standing still.
pub fn settle(mut scrape: impl FnMut()) {
    /// The agent takes a cgroup for new for ten seconds, and for standing still after two.
    const SETTLES_IN: Duration = Duration::from_secs(11);
    let began = Instant::now();
    while began.elapsed() < SETTLES_IN {
        scrape();
    }
}

fn timed(run: &mut impl FnMut()) -> Cost {
    let (cpu, wall) = (thread_time(), Instant::now());
    run();
    Cost { cpu: thread_time() - cpu, wall: wall.elapsed() }
}

fn thread_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec as u32)
}

fn median(costs: impl Iterator<Item = Cost>) -> Cost {
    let (mut cpu, mut wall): (Vec<_>, Vec<_>) = costs.map(|c| (c.cpu, c.wall)).unzip();
    cpu.sort();
    wall.sort();
    Cost { cpu: cpu[cpu.len() / 2], wall: wall[wall.len() / 2] }
}

/// The fewest blocks that one of so many scrapes allocates, after three to warm up; how many lines it gives; and the text
/// of the last. `allocated` tells how many blocks there have been so far.
pub fn allocations(
    scraper: &mut Scraper,
    part: Part,
    rounds: usize,
    allocated: fn() -> u64,
) -> (u64, usize, String) {
    let mut out = Vec::new();
    let mut scrape = || {
        out.clear();
        let before = allocated();
        scraper.scrape(part, Format::Text, &mut out);
        (allocated() - before, out.iter().filter(|b| **b == b'\n').count())
    };
    for _ in 0..3 {
        scrape();
    }
    let (blocks, lines) = (0..rounds).map(|_| scrape()).min().unwrap_or_default();
    (blocks, lines, String::from_utf8_lossy(&out).into_owned())
}

/// A duration as a person reads it in a table.
pub fn text(duration: Duration) -> String {
    format!("{:.3} ms", duration.as_secs_f64() * 1e3)
}
