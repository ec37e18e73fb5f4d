//! What can be said on the command line, for clap.

use std::time::Duration;

use clap::{Arg, ArgAction, Command};

use super::{collectors, switch, unused};
use crate::{compare, duration, prepare_last_good};

fn value(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).help(help).action(ArgAction::Set)
}

/// Every flag there is.
pub(super) fn command() -> Command {
    let command = Command::new("exporter-agent")
        .about("Measures this node and exposes what the policies ask for. Without --operator and --config: everything.")
        .subcommand(compare::command::command())
        .subcommand(prepare_last_good::command())
        .args_conflicts_with_subcommands(true)
        .disable_help_subcommand(true)
        // Where kingpin refuses a flag that is repeated, the last one holds.
        .args_override_self(true)
        .arg(Arg::new("help-long").long("help-long").hide(true).action(ArgAction::HelpLong));
    let command = log(node(web(command)));
    unused::add(collectors::add(agent(command)))
}

fn web(command: Command) -> Command {
    let command = command
        .arg(
            value("web.listen-address", "Address to serve on; may be repeated.")
                .action(ArgAction::Append)
                .default_value(":9100"),
        )
        .arg(
            value("web.telemetry-path", "Path of the metrics; their parts are below it.")
                .default_value("/metrics"),
        )
        .arg(
            value(
                "web.max-requests",
                "Most scrapes at a time; one more is answered with 503. 0: any number.",
            )
            .default_value("40")
            .value_parser(clap::value_parser!(i64)),
        )
        .arg(value("web.config.file", "A file with TLS, users and headers, as the exporter toolkit has it."))
        .arg(
            value("web.authorization", "Who may read, beside what --web.config.file asks for: anybody (none), who shows a client certificate (certificate), or who shows a token whose bearer may `get` /metrics in the cluster (operator).")
                .default_value("none")
                .value_parser(["none", "certificate", "operator"]),
        );
    let command = switch(
        command,
        "web.systemd-socket",
        "Serve on the sockets that systemd hands over, and on no address.",
    );
    let help = "Leave out what is said of the exporter itself (promhttp_*, process_*).";
    switch(command, "web.disable-exporter-metrics", help)
}

fn log(command: Command) -> Command {
    command
        .arg(
            value("log.level", "How much is logged.")
                .default_value("info")
                .ignore_case(true)
                .value_parser(["error", "warn", "info", "debug", "trace"]),
        )
        .arg(
            value("log.format", "How it is written.")
                .default_value("logfmt")
                .value_parser(["logfmt", "json"]),
        )
}

fn node(command: Command) -> Command {
    command
        .arg(value("path.procfs", "Where the node's procfs is mounted.").default_value("/proc"))
        .arg(value("path.sysfs", "Where the node's sysfs is mounted.").default_value("/sys"))
        .arg(value("path.rootfs", "Where the node's root file system is mounted.").default_value("/"))
        .arg(
            value("path.udev.data", "Where udev keeps what it knows of devices.")
                .default_value("/run/udev/data"),
        )
        .arg(value(
            "path.cgroup-root",
            "The cgroup that holds the kubelet's own, where that is not the root.",
        ))
        .arg(value("node-name", "Name of this node; the host's name where it is not given.").env("NODE_NAME"))
}

fn agent(command: Command) -> Command {
    let command = command
        .arg(
            value("operator", "The operator's stream, as https://HOST:PORT; may be repeated, tried in turn.")
                .action(ArgAction::Append),
        )
        .arg(value("operator.ca-file", "Who signed the operator's certificate; read for each connection.").requires("operator"))
        .arg(value("operator.server-name", "The name in the operator's certificate, where it is not the host.").requires("operator"))
        .arg(value("operator.token-file", "The token that proves to the operator which node this is; read for each connection and every 10 s.").requires("operator"))
        .arg(value("last-good", "Folder for the last good configuration, so that a restart needs no operator.").requires("operator"))
        .arg(
            value("default-after", "How long, such as 10m, a first configuration is waited for; then containers show the profile Minimal. Without it: for ever.")
                .requires("operator")
                .value_parser(duration::parse),
        )
        .arg(value("config", "A configuration file instead of an operator; it is watched.").conflicts_with("operator"))
        .arg(value("kubelet.url", "The node's kubelet, as https://HOST:10250; it tells who the pods are."))
        .arg(value("kubelet.token-file", "Token for the kubelet; read for each request.").requires("kubelet.url"))
        .arg(value("kubelet.ca-file", "CA that signed the kubelet's certificate.").requires("kubelet.url"))
        .arg(value("sandbox-image", "Image label of pod sandboxes, which nobody tells the agent.").default_value(""))
        .arg(
            value("collector.timeout", "How long a collector is waited for that reads what may not answer; past it, its last good reading is given.")
                .default_value("2s")
                .value_parser(timeout),
        );
    let name = "kubelet.insecure-skip-verify";
    let command = switch(command, name, "Take any certificate from the kubelet.");
    let help = "Open no file but below the folders that collectors and flags name, and start no program, where the kernel has Landlock; on unless --no-landlock.";
    let command = switch(command, "landlock", help);
    command.mut_arg(name, |argument| argument.requires("kubelet.url").conflicts_with("kubelet.ca-file"))
}

fn timeout(text: &str) -> Result<Duration, String> {
    match duration::parse(text)? {
        Duration::ZERO => Err("nothing answers in no time".to_owned()),
        timeout => Ok(timeout),
    }
}
