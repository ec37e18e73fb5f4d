//! Notices Ctrl-C, SIGTERM and SIGHUP, so that a run ends through its ordinary clean-up.
//!
//! A signal only sets a flag. Everything that waits looks at it and returns an error, the error travels up, and what
//! was started is dropped on the way.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

static FLAG: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Starts noticing. Call it first in `main`.
pub fn watch() -> Result<()> {
    let flag = FLAG.get_or_init(|| Arc::new(AtomicBool::new(false)));
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(flag)).context("cannot handle signals")?;
    }
    Ok(())
}

/// As [`watch`], and the death of the process that started this one counts as a signal too.
///
/// For a test binary, whose parent is cargo: when cargo is killed, nobody waits for the result any more.
pub fn watch_with_parent() -> Result<()> {
    watch()?;
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))
        .context("cannot ask for a signal at the parent's death")
}

/// True once a signal came.
pub fn interrupted() -> bool {
    FLAG.get().is_some_and(|flag| flag.load(Ordering::Relaxed))
}

/// An error once a signal came.
pub fn check() -> Result<()> {
    if interrupted() {
        bail!("interrupted");
    }
    Ok(())
}
