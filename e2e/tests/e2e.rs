//! The promises of the product, each a test, on a real cluster that they share.
//!
//! A new test is a function `fn(&Cluster) -> Result<()>` in a module of `tests/e2e/` and a line in [`TESTS`].

#![expect(clippy::print_stdout, reason = "a list of tests is printed as cargo prints it")]

#[cfg(target_os = "linux")]
#[path = "e2e/cadvisor.rs"]
mod cadvisor;
#[cfg(target_os = "linux")]
#[path = "e2e/chart.rs"]
mod chart;
#[cfg(target_os = "linux")]
#[path = "e2e/churn.rs"]
mod churn;
#[cfg(target_os = "linux")]
#[path = "e2e/claim.rs"]
mod claim;
#[cfg(target_os = "linux")]
#[path = "e2e/confined.rs"]
mod confined;
#[cfg(target_os = "linux")]
#[path = "e2e/emergency.rs"]
mod emergency;
#[cfg(target_os = "linux")]
#[path = "e2e/grant.rs"]
mod grant;
#[cfg(target_os = "linux")]
#[path = "e2e/identity.rs"]
mod identity;
#[cfg(target_os = "linux")]
#[path = "e2e/installed.rs"]
mod installed;
#[cfg(target_os = "linux")]
#[path = "e2e/kubernetes_mixin.rs"]
mod kubernetes_mixin;
#[cfg(target_os = "linux")]
#[path = "e2e/last_good.rs"]
mod last_good;
#[cfg(target_os = "linux")]
#[path = "e2e/monitoring.rs"]
mod monitoring;
#[cfg(target_os = "linux")]
#[path = "e2e/node.rs"]
mod node;
#[cfg(target_os = "linux")]
#[path = "e2e/node_exporter.rs"]
mod node_exporter;
#[cfg(target_os = "linux")]
#[path = "e2e/policy.rs"]
mod policy;
#[cfg(target_os = "linux")]
#[path = "e2e/processes.rs"]
mod processes;
#[cfg(target_os = "linux")]
#[path = "e2e/protection.rs"]
mod protection;
#[cfg(target_os = "linux")]
#[path = "e2e/release.rs"]
mod release;
#[cfg(target_os = "linux")]
#[path = "e2e/replicas.rs"]
mod replicas;
#[cfg(target_os = "linux")]
#[path = "e2e/restart.rs"]
mod restart;
#[cfg(target_os = "linux")]
#[path = "e2e/runner.rs"]
mod runner;
#[cfg(target_os = "linux")]
#[path = "e2e/told.rs"]
mod told;
#[cfg(target_os = "linux")]
#[path = "e2e/two_nodes.rs"]
mod two_nodes;

#[cfg(target_os = "linux")]
use runner::{Test, test};

/// In the order in which they run.
#[cfg(target_os = "linux")]
const TESTS: &[Test] = &[
    test!(node::a_node_becomes_ready_and_runs_pods),
    test!(node::a_pod_reaches_a_service_of_the_cluster),
    test!(node::the_kubelet_takes_a_service_account_token_and_shows_its_pods),
    test!(node::a_mount_made_on_the_node_shows_in_a_running_pod),
    test!(policy::an_agent_without_policies_exposes_everything_of_its_node_and_its_pods),
    test!(policy::every_row_that_the_kubelet_gives_of_pods_is_there_with_its_labels),
    test!(cadvisor::every_series_of_the_kubelet_is_there_with_its_value_or_a_known_difference),
    test!(policy::a_policy_changes_what_a_running_agent_exposes_without_a_restart),
    test!(policy::a_family_that_a_policy_excludes_is_gone_and_comes_back_with_its_deletion),
    test!(told::a_container_that_is_killed_for_want_of_memory_shows_under_its_name_though_it_is_gone),
    test!(told::what_pods_take_of_the_disk_is_there_as_the_kubelet_tells_it),
    test!(claim::every_figure_of_a_claim_is_the_kubelets_own),
    test!(processes::a_policy_shows_the_processes_of_each_container_for_as_long_as_their_pod_is_there),
    test!(processes::a_secret_on_a_command_line_reaches_neither_an_answer_nor_the_log),
    test!(policy::an_invalid_policy_is_refused_by_the_api_server_with_the_field),
    test!(policy::a_policy_that_only_an_agent_can_refuse_ends_as_a_condition_with_its_reason),
    test!(policy::an_unknown_collector_is_a_warning_and_the_rest_applies),
    test!(policy::a_policy_that_asks_for_peaks_shows_those_of_a_container_that_burns),
    test!(policy::a_bad_option_in_one_policy_holds_up_no_other_not_even_after_the_operator_restarts),
    test!(policy::kubectl_explains_the_policy_in_sentences),
    test!(
        emergency::an_annotated_node_exposes_the_minimal_profile_within_seconds_and_is_back_without_a_restart
    ),
    test!(emergency::an_operator_in_emergency_tells_every_agent_and_one_without_it_ends_it),
    test!(identity::an_agent_is_told_of_its_own_node_and_whoever_pretends_to_be_one_of_nothing),
    test!(identity::authorities_follow_each_other_without_the_end_of_a_stream_and_a_new_operator_is_believed),
    test!(grant::a_kubelet_that_refuses_is_named_in_the_policys_condition_until_it_is_mended),
    test!(restart::nothing_changes_when_the_operator_is_killed_and_restarted),
    test!(restart::nothing_changes_when_the_agents_container_is_killed_and_restarted),
    test!(restart::an_agent_that_restarts_while_the_operator_is_away_keeps_what_was_last_good),
    test!(churn::containers_that_come_and_go_are_shown_as_long_as_they_live_and_under_their_own_names),
    // From here on with the chart, since these remove what the ones before share.
    test!(chart::the_chart_installs_and_its_agents_expose_pods),
    test!(chart::a_policy_acts_through_the_chart_and_survives_upgrade_rollback_and_uninstall),
    test!(replicas::when_the_leader_is_gone_agents_believe_the_other_operator_and_hear_it),
    test!(protection::nobody_else_runs_pods_or_asks_for_tokens_under_the_agents_account),
    test!(protection::metrics_are_for_those_alone_whom_the_cluster_lets_read_them),
    test!(protection::metrics_are_for_those_alone_who_show_a_certificate),
    test!(confined::under_its_own_seccomp_profile_and_landlock_the_agent_gives_the_same),
    test!(chart::helm_4_installs_and_upgrades_too),
    test!(processes::what_processes_read_and_have_open_is_there_with_the_privileged_profile_only),
    test!(chart::pod_security_that_refuses_the_agent_says_so_in_an_event),
    test!(last_good::on_a_host_path_it_outlives_the_pod),
    test!(last_good::without_one_a_new_pod_exposes_the_machine_only_until_it_hears_the_operator),
    test!(last_good::a_directory_of_somebody_else_is_refused_in_the_status_of_the_pod),
    // Before there is a Prometheus operator.
    test!(monitoring::without_the_kinds_of_monitors_the_chart_installs_and_an_upgrade_makes_them_later),
    test!(monitoring::the_installed_chart_is_found_and_answers_in_promql_for_both_nodes),
    test!(monitoring::rows_of_the_node_and_its_slices_are_nobodys),
    test!(monitoring::what_stock_rules_and_dashboards_select_answers),
    test!(node_exporter::every_family_of_stock_dashboards_that_node_exporter_has_there_answers_in_promql),
    test!(
        kubernetes_mixin::every_container_and_volume_family_of_stock_dashboards_answers_without_the_kubelet
    ),
    test!(two_nodes::a_policy_with_a_node_selector_acts_on_one_node_only),
    test!(two_nodes::a_drained_node_keeps_its_agent_which_follows_the_operator_to_another_node),
    test!(two_nodes::a_node_object_that_is_deleted_and_made_again_is_selected_again),
    test!(monitoring::pod_monitors_find_the_same_as_service_monitors),
    test!(monitoring::protected_agents_are_scraped_by_a_prometheus_that_may_read_metrics),
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
