//! What sample pods do: wait, burn processor time, hold memory or write to a file, until SIGTERM; or end by themselves.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{park_timeout, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::fs::OFlags;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let ended = Arc::new(AtomicBool::new(false));
    // As process 1 of a container it would otherwise not even notice SIGTERM.
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&ended))?;
    }
    match arguments.first().map(String::as_str) {
        None | Some("pause") => pause(),
        Some("burn") => burn(&ended, option(&arguments, "--millicores")?),
        Some("memory") => memory(option(&arguments, "--mebibytes")?),
        Some("write") => {
            write(&ended, &option::<String>(&arguments, "--path")?, option(&arguments, "--bytes-per-second")?)
        }
        Some("direct") => direct(&ended, &option::<String>(&arguments, "--path")?),
        Some("threads") => threads(option(&arguments, "--count")?, option(&arguments, "--leave-with").ok()),
        Some("churn") => {
            churn(option(&arguments, "--per-second")?, option(&arguments, "--starts")?, &arguments)
        }
        Some("quit") => quit(&ended, &arguments),
        Some(other) => {
            bail!("unknown mode `{other}`: pause, burn, churn, memory, threads, write, direct or quit")
        }
    }
}

fn pause() -> Result<()> {
    // `forever` blocks without any timer, so that an idle pod is really idle.
    Signals::new([SIGINT, SIGTERM])?.forever().next();
    Ok(())
}

/// Ends by itself: with `--code`, and after `--milliseconds`, where these are given.
fn quit(ended: &AtomicBool, arguments: &[String]) -> Result<()> {
    let or_zero = |name: &str| match arguments.iter().any(|argument| argument == name) {
        true => option(arguments, name),
        false => Ok(0),
    };
    let (start, life) = (Instant::now(), Duration::from_millis(or_zero("--milliseconds")?));
    while start.elapsed() < life && !ended.load(Ordering::Relaxed) {
        sleep(life.saturating_sub(start.elapsed()).min(Duration::from_millis(20)));
    }
    std::process::exit(i32::try_from(or_zero("--code")?).context("--code is too large")?)
}

/// Computes for its share of each tenth of a second, so many thousandths of one processor.
fn burn(ended: &AtomicBool, millicores: u32) -> Result<()> {
    let period = Duration::from_millis(100);
    let share = period * millicores / 1000;
    while !ended.load(Ordering::Relaxed) {
        let start = Instant::now();
        let mut sum = 0u64;
        while start.elapsed() < share {
            for value in 0..10_000u64 {
                sum = std::hint::black_box(sum.wrapping_add(value * value));
            }
        }
        sleep(period.saturating_sub(start.elapsed()));
    }
    Ok(())
}

/// Starts `--held` processes of the program `--held-program` and says `held`; when it is told a line, starts so many of
/// those given by `--program` in turn, so many a second and for so many `--milliseconds`, waits for the end of each of
/// these and prints how many seconds the starts took. The others end with the standard input.
fn churn(per_second: u32, starts: u32, arguments: &[String]) -> Result<()> {
    let all = |name: &str| -> Vec<&String> {
        arguments.windows(2).filter(|pair| pair[0] == name).map(|pair| &pair[1]).collect()
    };
    let programs = all("--program");
    anyhow::ensure!(!programs.is_empty(), "--program is missing");
    let held = match all("--held-program").first() {
        Some(program) => (0..option(arguments, "--held")?)
            .map(|_| started(program, "86400000"))
            .collect::<Result<Vec<_>>>()?,
        None => Vec::new(),
    };
    writeln!(std::io::stdout(), "held")?;
    std::io::stdin().read_line(&mut String::new())?;
    let life: String = option(arguments, "--milliseconds")?;
    // They overlap, so that there are always some to be seen; each of the two threads has half of them.
    let most = 100.max(per_second as usize * life.parse::<usize>()? / 2000);
    let (start, next) = (Instant::now(), AtomicU32::new(0));
    let turns = || -> Result<Duration> {
        let mut running = std::collections::VecDeque::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= starts {
                break;
            }
            sleep((Duration::from_secs(1) * number / per_second.max(1)).saturating_sub(start.elapsed()));
            running.push_back(started(programs[number as usize % programs.len()], &life)?);
            while running.len() > most {
                running.pop_front().map(|mut child| child.wait()).transpose()?;
            }
        }
        let took = start.elapsed();
        running.into_iter().try_for_each(|mut child| child.wait().map(drop))?;
        Ok(took)
    };
    // One thread alone starts hardly more than two thousand a second.
    let took = std::thread::scope(|scope| -> Result<Duration> {
        let other = scope.spawn(turns);
        let took = turns()?;
        Ok(took.max(other.join().unwrap_or_else(|_| bail!("a thread panicked"))?))
    })?;
    writeln!(std::io::stdout(), "{}", took.as_secs_f64())?;
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    for mut child in held {
        child.kill()?;
        child.wait()?;
    }
    Ok(())
}

/// A process of a program that ends after so long.
fn started(program: &str, milliseconds: &str) -> Result<std::process::Child> {
    let mut command = std::process::Command::new(program);
    command
        .args(["quit", "--milliseconds", milliseconds, "--of", program])
        .stdin(std::process::Stdio::null())
        // Who reads ours learns of our end, whoever is left.
        .stdout(std::process::Stdio::null());
    command.spawn().with_context(|| format!("cannot start {program}"))
}

/// Waits in so many threads, which are called `thread-1` and so on after the first and look up ten times a second. With
/// `--leave-with` there is one `thread-1` more, which ends when somebody writes to this FIFO.
fn threads(count: usize, leave_with: Option<String>) -> Result<()> {
    if let Some(path) = leave_with {
        std::thread::Builder::new().name("thread-1".to_owned()).spawn(move || {
            // Blocked until then, so that nothing is counted between when it was last seen and its end.
            let fifo = OpenOptions::new().read(true).write(true).open(path);
            let _ = fifo.and_then(|mut fifo| fifo.read_exact(&mut [0]));
        })?;
    }
    for number in 1..count {
        let thread = std::thread::Builder::new().name(format!("thread-{number}"));
        thread.spawn(|| {
            loop {
                park_timeout(Duration::from_millis(100));
            }
        })?;
    }
    pause()
}

/// Touches every page of so many mebibytes, then waits.
fn memory(mebibytes: usize) -> Result<()> {
    // Not zeroes: the kernel may share one page among them.
    let held = vec![1u8; mebibytes << 20];
    std::hint::black_box(&held);
    pause()
}

/// Writes and syncs ten times a second, in a file that never grows beyond a second's worth.
fn write(ended: &AtomicBool, path: &str, bytes_per_second: usize) -> Result<()> {
    let mut file = File::create(path).with_context(|| format!("cannot create {path}"))?;
    let block = vec![1u8; bytes_per_second.div_ceil(10)];
    let mut next = Instant::now();
    for round in 0u64.. {
        if ended.load(Ordering::Relaxed) {
            break;
        }
        if round % 10 == 0 {
            file.rewind()?;
        }
        file.write_all(&block).with_context(|| format!("cannot write {path}"))?;
        // Without it the kernel keeps the bytes in memory, and no disk counter moves.
        file.sync_data().with_context(|| format!("cannot sync {path}"))?;
        next += Duration::from_millis(100);
        park_timeout(next.saturating_duration_since(Instant::now()));
    }
    Ok(())
}

/// Writes a block and reads it again, ten times a second, past the page cache, so that the disk's counters move at once.
fn direct(ended: &AtomicBool, path: &str) -> Result<()> {
    // The kernel takes only whole blocks from addresses that are a multiple of one (open(2), O_DIRECT).
    const BLOCK: usize = 4096;
    let flags = i32::try_from(OFlags::DIRECT.bits())?;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).custom_flags(flags);
    let file = options.open(path).with_context(|| format!("cannot open {path}"))?;
    let mut space = vec![1u8; 2 * BLOCK];
    let start = space.as_ptr().align_offset(BLOCK);
    let block = &mut space[start..start + BLOCK];
    while !ended.load(Ordering::Relaxed) {
        file.write_all_at(block, 0).with_context(|| format!("cannot write {path}"))?;
        file.read_exact_at(block, 0).with_context(|| format!("cannot read {path}"))?;
        park_timeout(Duration::from_millis(100));
    }
    Ok(())
}

fn option<T: std::str::FromStr>(arguments: &[String], name: &str) -> Result<T> {
    let value = arguments.iter().position(|argument| argument == name).and_then(|at| arguments.get(at + 1));
    let value = value.with_context(|| format!("{name} is missing"))?;
    value.parse().ok().with_context(|| format!("{name} cannot be `{value}`"))
}
