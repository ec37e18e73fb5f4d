//! The promises of the product, each a test, on a real cluster that they share.
//!
//! A new test is a function `fn(&Cluster) -> Result<()>` in a module of `tests/e2e/` and a line in [`TESTS`].

#![expect(clippy::print_stdout, reason = "a list of tests is printed as cargo prints it")]

#[cfg(target_os = "linux")]
#[path = "e2e/node.rs"]
mod node;
#[cfg(target_os = "linux")]
#[path = "e2e/runner.rs"]
mod runner;

#[cfg(target_os = "linux")]
use runner::{Test, test};

/// In the order in which they run.
#[cfg(target_os = "linux")]
const TESTS: &[Test] = &[
    test!(node::a_node_becomes_ready_and_runs_pods),
    test!(node::a_pod_reaches_a_service_of_the_cluster),
    test!(node::the_kubelet_takes_a_service_account_token_and_shows_its_pods),
    test!(node::a_mount_made_on_the_node_shows_in_a_running_pod),
];

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    runner::run(TESTS, clean)
}

/// Removes from a given cluster what the tests made there.
#[cfg(target_os = "linux")]
fn clean(cluster: &e2e::cluster::Cluster) -> anyhow::Result<()> {
    node::stop(cluster)?;
    e2e::product::uninstall(cluster)
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("skipped: all tests on a real cluster, because a node needs Linux");
}
