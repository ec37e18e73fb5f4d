//! The main job, live: a real cluster on this machine, a policy on it, and what the agent then exposes.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this program speaks to a person at a terminal"
)]

#[cfg(target_os = "linux")]
mod demonstration;
#[cfg(target_os = "linux")]
mod embedded;
#[cfg(target_os = "linux")]
mod screen;
#[cfg(target_os = "linux")]
mod table;

use std::process::ExitCode;

const HELP: &str = "\
Brings up a real cluster on this machine, runs the operator and an agent on it, applies a sample policy, and shows
what the agent exposes and what changes when the policy is edited. Needs root; without it, the agent alone runs.

Usage: cargo up [--once]

  --once    end after the demonstration instead of waiting for Ctrl-C";

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    let mut once = false;
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--once" => once = true,
            "--help" | "-h" => {
                println!("{HELP}");
                return ExitCode::SUCCESS;
            }
            other => {
                eprintln!("unknown option {other}\n\n{HELP}");
                return ExitCode::FAILURE;
            }
        }
    }
    let result =
        if rustix::process::geteuid().is_root() { demonstration::run(once) } else { embedded::run() };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever pressed Ctrl-C knows why it ends.
        Err(_) if e2e::interrupt::interrupted() => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    eprintln!("Linux is needed: this measures Linux nodes and runs one.\n\n{HELP}");
    ExitCode::FAILURE
}
