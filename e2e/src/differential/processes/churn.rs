//! Processes that begin and end thousands of times a second while the agent reads them, with numbers that are used again.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::exporter::Exporter;
use crate::exposition::Exposition;
use crate::programs::{WORKLOAD, build};
use crate::{tiny, weigh};

/// As in the issue that set the targets.
const PER_SECOND: u32 = 2000;
const PROCESSES: &str = "namedprocess_namegroup_num_procs";
const FAULTS: &str = "namedprocess_namegroup_minor_page_faults_total";
/// Those that there may be.
const GROUPS: [&str; 4] = ["churn-one churn-one", "churn-two churn-two", HELD, "churning"];
const HELD: &str = "churn-held churn-held";
/// Where Prometheus gives a scrape up by default.
const BOUND: Duration = Duration::from_secs(10);

/// The name comes from one file of a process and what follows from another: of one process they agree.
const NAMES: &str = "process_names:
- name: '{{.Comm}} {{.Matches.of}}'
  comm: [churn-one, churn-two, churn-held]
  cmdline: ['--of \\S+/(?P<of>\\S+)']
- name: churning
  comm: [churning]
";

/// How many processes there are, and out of how many numbers.
struct Population {
    /// `pid_max`.
    numbers: u32,
    /// Processes that are there all the time.
    held: u32,
    /// Processes that begin and end.
    starts: u32,
    /// How long each of these lives: long enough to be there when its turn comes in a scrape, which lists all first.
    life: Duration,
}

const POPULATIONS: [Population; 2] = [
    // So few numbers that each is used several times, often from one scrape to the next.
    Population { numbers: 1000, held: 0, starts: 4 * PER_SECOND, life: Duration::from_millis(30) },
    // The kernel's default of numbers, which it gives out in turn: those that are not held are used twice.
    Population { numbers: 32_768, held: 20_000, starts: 13 * PER_SECOND, life: Duration::from_secs(4) },
];

/// Runs it in a pid namespace of its own and says what came of it.
///
/// # Errors
/// When a process was taken for another, when a handle was kept or when anything was logged.
pub(super) fn check() -> Result<String> {
    if !has_own_numbers()? {
        return Ok("churn: skipped, since before Linux 6.14 pid_max is the whole machine's".to_owned());
    }
    let folder = std::env::temp_dir().join(format!("churn-{}", std::process::id()));
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let checked: Result<Vec<_>> = POPULATIONS.iter().map(|population| run(&folder, population)).collect();
    std::fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    Ok(checked?.join("\n"))
}

/// Whether a pid namespace has a pid_max of its own.
fn has_own_numbers() -> Result<bool> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let mut numbers =
        release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u32>().unwrap_or_default());
    Ok((numbers.next(), numbers.next()) >= (Some(6), Some(14)))
}

/// Every process has a number of the machine's, too.
fn has_room(held: u32) -> Result<bool> {
    let limit = |name: &str| -> Result<u32> {
        Ok(std::fs::read_to_string(format!("/proc/sys/kernel/{name}"))?.trim().parse()?)
    };
    Ok(limit("pid_max")? >= held + 10_000 && limit("threads-max")? >= 2 * held)
}

fn run(folder: &Path, population: &Population) -> Result<String> {
    let Population { numbers, held, starts, life } = population;
    if !has_room(*held)? {
        return Ok(format!("churn: skipped, since the machine has no room for {held} processes more"));
    }
    let churn = Programs::write(folder, *life)?;
    let agent = start_agent(folder, *numbers)?;
    let first = weigh::child(agent.pid())?;
    agent.text("/metrics/processes")?;
    let log = agent.log();
    let before = handles(first)?;

    let mut churning = Churning::start(first, &churn, population)?;
    // They are new to the agent, all at once, which no other scrape has to bear.
    let said = Exposition::parse(&agent.text("/metrics/processes")?)?;
    let known: f64 = said.select(PROCESSES, &[("groupname", HELD)]).iter().map(|sample| sample.value).sum();
    ensure!(known == f64::from(*held), "{known} of {held} processes are `{HELD}`");
    churning.go()?;
    let (mut scrapes, mut seen, mut slowest) = (0, 0.0, Duration::ZERO);
    let mut counted = 0.0;
    let took = loop {
        if let Some(took) = churning.ended()? {
            break took;
        }
        let start = std::time::Instant::now();
        let text = agent.text("/metrics/processes")?;
        slowest = slowest.max(start.elapsed());
        let said = Exposition::parse(&text)?;
        scrapes += 1;
        let (mut of_held, mut others) = (0.0, 0.0);
        for sample in said.select(PROCESSES, &[]) {
            let group = sample.label("groupname");
            ensure!(GROUPS.contains(&group), "{} processes are `{group}`", sample.value);
            *(if group == HELD { &mut of_held } else { &mut others }) += sample.value;
        }
        // All of them are there, and nothing else is ever taken for one.
        ensure!(of_held == f64::from(*held), "{of_held} of {held} processes are `{HELD}`");
        seen += others;
        let faults = said.select(FAULTS, &[("groupname", "churning")]);
        let faults = faults.first().map_or(counted, |sample| sample.value);
        ensure!(faults >= counted, "a counter went back from {counted} to {faults}");
        counted = faults;
    };
    // The one that starts them is among these.
    ensure!(
        seen > f64::from(scrapes),
        "of {starts} processes that come and go beside {held} none was seen in {scrapes} scrapes of at most {slowest:?}"
    );
    ensure!(*starts > 2 * (numbers - held), "{starts} starts: not every number is used again");
    ensure!(slowest < BOUND, "a scrape took {slowest:?}");
    churning.release()?;
    let own = agent.text("/metrics/agent")?;
    let errors = own.lines().find(|line| line.starts_with("exporter_agent_collector_errors_total{"));
    ensure!(errors.is_none(), "{errors:?}");
    ensure!(agent.log() == log, "it logged\n{}", agent.log());
    let rest = agent.text("/metrics/processes")?;
    ensure!(!rest.contains(PROCESSES), "groups of processes that have ended are there:\n{rest}");
    let after = handles(first)?;
    ensure!(after <= before + 2, "{before} handles became {after}");
    Ok(format!(
        "churn: {starts} starts, {:.0} a second, beside {held} processes, with {numbers} numbers; {scrapes} scrapes of \
         at most {:.0} ms",
        f64::from(*starts) / took,
        slowest.as_secs_f64() * 1e3
    ))
}

/// The agent as the first process of a pid namespace: with it everything there ends.
fn start_agent(folder: &Path, numbers: u32) -> Result<Exporter> {
    let (names, inside) = (folder.join("names.yml"), folder.join("inside.sh"));
    std::fs::write(&names, NAMES)?;
    let script = format!(
        "#!/bin/sh\nexec unshare --pid --fork --kill-child --mount-proc sh -c \
         'echo {numbers} >/proc/sys/kernel/pid_max; exec {} \"$@\"' sh \"$@\"\n",
        super::agent()?.display()
    );
    std::fs::write(&inside, script)?;
    std::fs::set_permissions(&inside, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let flags = [
        "--collector.disable-defaults".to_owned(),
        "--collector.process_groups".to_owned(),
        format!("--collector.process_groups.config-path={}", names.display()),
        "--collector.process_groups.expose-command-lines".to_owned(),
    ];
    Exporter::start("agent", &inside, &flags, folder)
}

/// What starts the others, what is held, and those that come and go.
struct Programs {
    churning: PathBuf,
    held: PathBuf,
    short: [PathBuf; 2],
}

impl Programs {
    fn write(folder: &Path, life: Duration) -> Result<Self> {
        let [churning, held, one, two] =
            ["churning", "churn-held", "churn-one", "churn-two"].map(|name| folder.join(name));
        let workload = build(&[WORKLOAD])?.pop().context("nothing was built")?;
        std::fs::copy(&workload, &churning)?;
        tiny::write(&held, Duration::from_secs(86_400), &workload)?;
        for program in [&one, &two] {
            tiny::write(program, life, &workload)?;
        }
        Ok(Programs { churning, held, short: [one, two] })
    }
}

/// The program that starts the others, in the agent's namespace; those that are held are there.
struct Churning {
    child: Child,
    said: Receiver<String>,
}

impl Churning {
    fn start(first: u32, programs: &Programs, population: &Population) -> Result<Self> {
        let mut command = Command::new("nsenter");
        command.args([&format!("--target={first}"), "--pid", "--mount", "--"]).arg(&programs.churning);
        command.args(["churn", "--per-second", &PER_SECOND.to_string()]);
        command.args(["--starts", &population.starts.to_string(), "--held", &population.held.to_string()]);
        command.args(["--milliseconds", &population.life.as_millis().to_string()]);
        command.arg("--held-program").arg(&programs.held);
        for program in &programs.short {
            command.arg("--program").arg(program);
        }
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("cannot start nsenter")?;
        let lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        let (tell, said) = channel();
        // Both ends are gone when the child is.
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| tell.send(line)));
        let first = said.recv().context("the churn ended before it had begun")?;
        ensure!(first == "held", "it says `{first}`");
        Ok(Churning { child, said })
    }

    /// Lets processes come and go.
    fn go(&mut self) -> Result<()> {
        let input = self.child.stdin.as_mut().context("it has no input")?;
        Ok(writeln!(input, "go")?)
    }

    /// How many seconds all starts took, once they are done.
    fn ended(&mut self) -> Result<Option<f64>> {
        match self.said.try_recv() {
            Ok(line) => Ok(Some(line.parse().with_context(|| format!("it says `{line}`"))?)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => bail!("the churn ended with {}", self.child.wait()?),
        }
    }

    /// Lets the others end, and waits until they have.
    fn release(&mut self) -> Result<()> {
        drop(self.child.stdin.take());
        let status = self.child.wait()?;
        ensure!(status.success(), "the churn ended with {status}");
        Ok(())
    }
}

fn handles(pid: u32) -> Result<usize> {
    Ok(std::fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}
