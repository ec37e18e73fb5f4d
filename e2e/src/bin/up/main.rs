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

Usage: cargo up [--once | --bare] [--nodes N]

  --once      end after the demonstration instead of waiting for Ctrl-C
  --bare      only the cluster, without the product, until Ctrl-C
  --nodes N   as many nodes, 1 by default";

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    let asked = match Asked::from_arguments() {
        Ok(asked) => asked,
        Err(error) => {
            eprintln!("{error:#}\n\n{HELP}");
            return ExitCode::FAILURE;
        }
    };
    let root = rustix::process::geteuid().is_root();
    let result = match asked {
        Asked { help: true, .. } => {
            println!("{HELP}");
            Ok(())
        }
        _ if !root => embedded::run(),
        Asked { bare: true, nodes, .. } => demonstration::bare(nodes),
        Asked { once, nodes, .. } => demonstration::run(nodes, once),
    };
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

/// What the command line asks for.
#[cfg(target_os = "linux")]
struct Asked {
    once: bool,
    bare: bool,
    nodes: u8,
    help: bool,
}

#[cfg(target_os = "linux")]
impl Asked {
    fn from_arguments() -> anyhow::Result<Self> {
        use anyhow::Context as _;

        let mut asked = Self { once: false, bare: false, nodes: 1, help: false };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--once" => asked.once = true,
                "--bare" => asked.bare = true,
                "--help" | "-h" => asked.help = true,
                "--nodes" => {
                    let nodes = arguments.next().and_then(|nodes| nodes.parse().ok());
                    asked.nodes = nodes
                        .filter(|nodes| (1..=9).contains(nodes))
                        .context("--nodes needs a number from 1 to 9")?;
                }
                other => anyhow::bail!("unknown option {other}"),
            }
        }
        Ok(asked)
    }
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    eprintln!("Linux is needed: this measures Linux nodes and runs one.\n\n{HELP}");
    ExitCode::FAILURE
}
