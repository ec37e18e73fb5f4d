//! Runs a list of tests on one cluster, and prints what cargo's own runner would.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, ensure};
use e2e::cluster::{Cluster, NoMachine, Tier, tier};
use e2e::interrupt;

/// A promise with its proof.
#[derive(Clone, Copy)]
pub(crate) struct Test {
    /// Module and function.
    pub(crate) name: &'static str,
    /// The proof.
    pub(crate) run: fn(&Cluster) -> Result<()>,
}

/// A test by the path of its function.
macro_rules! test {
    ($($path:tt)+) => {
        $crate::runner::Test { name: concat!($(stringify!($path)),+), run: $($path)+ }
    };
}
pub(crate) use test;

/// What the end of every run has to prove.
const TEARDOWN: &str = "teardown_leaves_nothing_behind";

/// Removes from a given cluster what tests made there.
pub(crate) type Clean = fn(&Cluster) -> Result<()>;

/// Runs those tests that the command line asks for.
pub(crate) fn run(tests: &[Test], clean: Clean) -> ExitCode {
    let asked = Asked::from_arguments();
    let chosen: Vec<Test> = tests.iter().copied().filter(|test| asked.wants(test.name)).collect();
    let teardown = asked.wants(TEARDOWN);
    let names = chosen.iter().map(|test| test.name).chain(teardown.then_some(TEARDOWN));
    if asked.list {
        names.for_each(|name| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let count = names.count();
    println!("\nrunning {count} test{}", if count == 1 { "" } else { "s" });
    let mut outcome = Outcome { passed: 0, ignored: 0, failures: Vec::new(), start: Instant::now() };
    if count > 0 {
        if let Tier::None(reason) = tier() {
            return skipped(count, &reason);
        }
        if let Err(error) =
            interrupt::watch_with_parent().and_then(|()| on_a_cluster(&chosen, clean, teardown, &mut outcome))
        {
            outcome.failures.push(("the cluster".to_owned(), format!("{error:#}")));
        }
    }
    if is_required() && outcome.ignored > 0 {
        let why = "CI or E2E_REQUIRED is set, and these need a cluster of our own: unset KUBECONFIG";
        outcome.failures.push(("ignored tests".to_owned(), why.to_owned()));
    }
    outcome.print(tests.len() + 1 - count)
}

fn on_a_cluster(tests: &[Test], clean: Clean, teardown: bool, outcome: &mut Outcome) -> Result<()> {
    let cluster = Cluster::up(2)?;
    if let Ok(machine) = cluster.machine() {
        // So that tests know where pods are: with the first agent, until a test wants them elsewhere.
        for node in machine.nodes.iter().skip(1) {
            cluster.kubectl.run(&["cordon", &node.name])?;
        }
    }
    for test in tests {
        interrupt::check()?;
        outcome.record(test.name, || {
            (test.run)(&cluster).map_err(|error| match cluster.machine() {
                Ok(_) => anyhow!("{error:#}\n\nthe logs of the cluster end with\n{}", cluster.tails(10)),
                Err(_) => error,
            })
        });
    }
    if cluster.machine().is_err() {
        // It goes on without us, so it should look as before.
        clean(&cluster)?;
    }
    let leftovers = cluster.machine().ok().map(|machine| machine.instance.leftovers_later());
    drop(cluster);
    if teardown {
        outcome.record(TEARDOWN, || {
            let left = leftovers.context(NoMachine)?()?;
            ensure!(left.is_empty(), "left behind:\n{}", left.join("\n"));
            Ok(())
        });
    }
    Ok(())
}

/// A tier that cannot run is named, and is a failure where it was to be run.
fn skipped(count: usize, reason: &str) -> ExitCode {
    println!("skipped: all {count} tests on a real cluster, because {reason}");
    if is_required() {
        println!("\ntest result: FAILED. CI or E2E_REQUIRED is set, so they may not be skipped");
        return ExitCode::FAILURE;
    }
    println!("\ntest result: ok. 0 passed; 0 failed; {count} ignored; 0 measured; 0 filtered out");
    ExitCode::SUCCESS
}

/// Whether this run may leave nothing out.
fn is_required() -> bool {
    let set = |name| std::env::var(name).is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false"));
    set("CI") || set("E2E_REQUIRED")
}

struct Outcome {
    passed: usize,
    ignored: usize,
    failures: Vec<(String, String)>,
    start: Instant,
}

impl Outcome {
    fn record(&mut self, name: &str, run: impl FnOnce() -> Result<()>) {
        let start = Instant::now();
        let result =
            catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Err(anyhow!("it panicked; see above")));
        let seconds = start.elapsed().as_secs_f64();
        match result {
            Ok(()) => {
                self.passed += 1;
                println!("test {name} ... ok <{seconds:.1}s>");
            }
            Err(error) if error.is::<NoMachine>() => {
                self.ignored += 1;
                println!("test {name} ... ignored, {NoMachine}");
            }
            Err(error) => {
                println!("test {name} ... FAILED <{seconds:.1}s>");
                self.failures.push((name.to_owned(), format!("{error:#}")));
            }
        }
    }

    fn print(self, filtered: usize) -> ExitCode {
        if !self.failures.is_empty() {
            println!("\nfailures:\n");
            for (name, error) in &self.failures {
                println!("---- {name} ----\n{error}\n");
            }
        }
        println!(
            "\ntest result: {}. {} passed; {} failed; {} ignored; 0 measured; {filtered} filtered out; finished in {:.2}s\n",
            if self.failures.is_empty() { "ok" } else { "FAILED" },
            self.passed,
            self.failures.len(),
            self.ignored,
            self.start.elapsed().as_secs_f64(),
        );
        if self.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// What the command line asks for, in the words of cargo's own runner.
#[derive(Default)]
struct Asked {
    filters: Vec<String>,
    skip: Vec<String>,
    exact: bool,
    list: bool,
}

impl Asked {
    fn from_arguments() -> Self {
        let mut asked = Self::default();
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--list" => asked.list = true,
                "--exact" => asked.exact = true,
                "--skip" => asked.skip.extend(arguments.next()),
                // Options of cargo's runner that mean nothing here, with their value.
                "--test-threads" | "--format" | "--color" | "--logfile" | "--shuffle-seed" | "-Z" => {
                    arguments.next();
                }
                option if option.starts_with('-') => {}
                filter => asked.filters.push(filter.to_owned()),
            }
        }
        asked
    }

    fn wants(&self, name: &str) -> bool {
        let matches =
            |filter: &String| if self.exact { name == filter } else { name.contains(filter.as_str()) };
        (self.filters.is_empty() || self.filters.iter().any(matches)) && !self.skip.iter().any(matches)
    }
}
