//! Runs other programs: short ones to their end, long ones until they are stopped.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::wait::settled;

/// Runs a command to its end and returns what it printed; its error output is part of the error.
pub fn output(command: &mut Command) -> Result<String> {
    output_with_input(command, "")
}

/// As [`output`], with something to read on its standard input.
pub fn output_with_input(command: &mut Command, input: &str) -> Result<String> {
    let shown = shown(command);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{shown}`"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends without reading its input tells why in its exit status.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().with_context(|| format!("cannot wait for `{shown}`"))?;
    if !output.status.success() {
        bail!("`{shown}` ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{shown}` printed something that is not text"))
}

/// A program of the cluster that runs until it is stopped, with its output in a log file.
///
/// It dies with the thread that started it (`setpriv --pdeathsig`), so start it from one that lives as long as the
/// cluster.
#[derive(Debug)]
pub struct Component {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Component {
    /// Starts it in a process group of its own, so that Ctrl-C in the terminal does not reach it before us.
    pub fn start(name: &str, command: &Command, log: PathBuf) -> Result<Self> {
        let file = File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
        let mut bound = Command::new("setpriv");
        bound.args(["--pdeathsig", "KILL", "--"]).arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => bound.env(key, value),
                None => bound.env_remove(key),
            };
        }
        let child = bound
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(file.try_clone().context("cannot share a log file")?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// Its name in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Fails when it has ended, with the end of its log.
    pub fn check(&mut self) -> Result<()> {
        if let Some(status) =
            self.child.try_wait().with_context(|| format!("cannot ask for {}", self.name))?
        {
            bail!("{} ended with {status}; its log ends with\n{}", self.name, tail(&self.log, 20));
        }
        Ok(())
    }

    /// Its process, which `setpriv` has become.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal, while nobody has found it ended ([`Component::check`]): its number may be somebody else's then.
    pub fn send(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(self.child.id().cast_signed()).context("no process")?;
        kill_process(pid, signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// Asks it to end, waits, then kills it.
    pub fn stop(&mut self, patience: Duration) {
        self.signal(Signal::TERM);
        if !self.ended_within(patience) {
            self.kill();
        }
    }

    /// Waits for its end; false when it goes on.
    pub fn ended_within(&mut self, patience: Duration) -> bool {
        settled(patience, || matches!(self.child.try_wait(), Ok(Some(_))))
    }

    /// Kills it at once.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        // What SIGKILL cannot end hangs in the kernel; nobody can do more.
        let _ = self.child.wait();
    }

    /// The end of its log.
    pub fn tail(&self, lines: usize) -> String {
        tail(&self.log, lines)
    }

    fn signal(&mut self, signal: Signal) {
        // Once it has been waited for, its number may be somebody else's.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.send(signal);
        }
    }
}

impl Drop for Component {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The last lines of a log file, or why there are none.
pub fn tail(log: &Path, lines: usize) -> String {
    match std::fs::read(log) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let all: Vec<&str> = text.lines().collect();
            all[all.len().saturating_sub(lines)..].join("\n")
        }
        Err(error) => format!("({}: {error})", log.display()),
    }
}

/// Sends SIGKILL to the processes found until none is found any more.
pub fn kill_all(what: &str, find: impl Fn() -> Vec<Pid>) -> Result<()> {
    let gone = settled(Duration::from_secs(20), || {
        let left = find();
        for &pid in &left {
            let _ = kill_process(pid, Signal::KILL);
        }
        left.is_empty()
    });
    if !gone {
        bail!("processes of {what} survive SIGKILL: {:?}", find());
    }
    Ok(())
}

fn shown(command: &Command) -> String {
    let mut words = vec![command.get_program()];
    words.extend(command.get_args());
    words.join(OsStr::new(" ")).to_string_lossy().into_owned()
}
