//! Becomes another program under the agent's seccomp profile: `under-seccomp --program=PROGRAM ARGUMENT…`.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context as _, Result};

fn main() -> Result<()> {
    let (named, arguments): (Vec<_>, Vec<_>) =
        std::env::args().skip(1).partition(|argument| argument.starts_with("--program="));
    let program = named.first().and_then(|it| it.strip_prefix("--program=")).context("no --program=")?;
    e2e::seccomp::apply()?;
    Err(Command::new(program).args(arguments).exec()).context(program.to_owned())
}
