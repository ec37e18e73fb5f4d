//! The command line: node_exporter's spellings, and the agent's own.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::collector::{COLLECTORS, OptionDesc, OptionKind};
use crate::duration;
use crate::plan::Overlay;
use crate::source::Paths;
use crate::source::file::HandleBudget;
use crate::source::kubelet::{Kubelet, KubeletOptions};

/// Everything that the command line says.
#[derive(Clone, Debug)]
pub struct Flags {
    /// `--web.listen-address`
    pub listen: Vec<String>,
    /// `--web.telemetry-path`
    pub telemetry_path: String,
    /// `--web.max-requests`
    pub max_requests: usize,
    /// `--log.level`
    pub log_level: String,
    /// `--path.*`
    pub paths: Paths,
    /// `--node-name`
    pub node: String,
    /// `--operator`
    pub operators: Vec<String>,
    /// `--last-good`
    pub last_good: Option<PathBuf>,
    /// `--default-after`
    pub default_after: Option<Duration>,
    /// `--config`
    pub config: Option<PathBuf>,
    /// `--kubelet.*`
    pub kubelet: Option<KubeletOptions>,
    /// `--sandbox-image`
    pub sandbox_image: String,
    /// `--collector.*`
    pub overlay: Overlay,
}

impl Flags {
    /// Reads the program's arguments; ends the program where they make no sense or ask for help.
    pub fn from_args() -> Self {
        let matches = command().get_matches();
        from_matches(&matches).unwrap_or_else(|message| {
            command().error(clap::error::ErrorKind::ValueValidation, message).exit()
        })
    }

    /// Reads these arguments, without the program's name.
    ///
    /// # Errors
    /// A sentence that names the argument.
    pub fn parse(arguments: &[&str]) -> Result<Self, String> {
        let all = std::iter::once("exporter-agent").chain(arguments.iter().copied());
        from_matches(&command().try_get_matches_from(all).map_err(|e| e.to_string())?)
    }
}

/// node_exporter's flag for an option: `mountPointsExclude` is `--collector.filesystem.mount-points-exclude`.
pub fn option_flag(collector: &str, option: &OptionDesc) -> String {
    let mut flag = format!("collector.{collector}.");
    match option.flag {
        // node_exporter has some that are not named after their collector.
        Some(whole) if whole.starts_with("collector.") => return whole.to_owned(),
        Some(spelling) => return flag + spelling,
        None => {}
    }
    for c in option.key.chars() {
        if c.is_ascii_uppercase() {
            flag.push('-');
        }
        flag.push(c.to_ascii_lowercase());
    }
    flag
}

fn value(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).help(help).action(ArgAction::Set)
}

fn switch(name: impl Into<clap::builder::Str>, help: &str) -> Arg {
    let name = name.into();
    Arg::new(name.clone()).long(name).help(help.to_owned()).action(ArgAction::SetTrue)
}

fn command() -> Command {
    let mut command = Command::new("exporter-agent")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Measures this node and exposes what the policies ask for. Without --operator and --config: everything.")
        .arg(
            value("web.listen-address", "Address to serve on; may be repeated.")
                .action(ArgAction::Append)
                .default_value(":9100"),
        )
        .arg(value("web.telemetry-path", "Path of the metrics; their parts are below it.").default_value("/metrics"))
        .arg(
            value("web.max-requests", "Most scrapes at a time; one more is answered with 503.")
                .default_value("40")
                .value_parser(clap::value_parser!(u16).range(1..)),
        )
        .arg(
            value("log.level", "How much is logged.")
                .default_value("info")
                .value_parser(["error", "warn", "info", "debug", "trace"]),
        )
        .arg(value("path.procfs", "Where the node's procfs is mounted.").default_value("/proc"))
        .arg(value("path.sysfs", "Where the node's sysfs is mounted.").default_value("/sys"))
        .arg(value("path.rootfs", "Where the node's root file system is mounted.").default_value("/"))
        .arg(value("path.udev.data", "Where udev keeps what it knows of devices.").default_value("/run/udev/data"))
        .arg(value("path.cgroup-root", "The cgroup that holds the kubelet's own, where that is not the root."))
        .arg(value("node-name", "Name of this node; the host's name where it is not given.").env("NODE_NAME"))
        .arg(
            value("operator", "The operator's stream, as http://HOST:PORT; may be repeated, tried in turn.")
                .action(ArgAction::Append),
        )
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
        .arg(
            switch("kubelet.insecure-skip-verify", "Take any certificate from the kubelet.")
                .requires("kubelet.url")
                .conflicts_with("kubelet.ca-file"),
        )
        .arg(value("sandbox-image", "Image label of pod sandboxes, which nobody tells the agent.").default_value(""))
        .arg(switch("collector.disable-defaults", "Run only the collectors that are switched on."));
    for collector in COLLECTORS {
        let on = format!("collector.{}", collector.name);
        let off = format!("no-{on}");
        command = command
            .arg(
                switch(on.clone(), &format!("Run the {} collector.", collector.name))
                    .overrides_with(off.clone()),
            )
            .arg(
                switch(off.clone(), &format!("Do not run the {} collector.", collector.name))
                    .overrides_with(on),
            );
        for option in collector.options {
            let flag = option_flag(collector.name, option);
            let argument = Arg::new(flag.clone())
                .long(flag.clone())
                .help(option.help)
                .action(ArgAction::Set)
                .aliases(option.deprecated.iter().copied());
            command = command.arg(match option.kind {
                OptionKind::Regex | OptionKind::Text | OptionKind::Number | OptionKind::Duration => argument,
                OptionKind::Lines => argument.action(ArgAction::Append),
                // As kingpin has it: the bare flag switches on, and `no-` before it switches off.
                OptionKind::Bool => {
                    argument.num_args(0..=1).require_equals(true).default_missing_value("true")
                }
            });
            if option.kind == OptionKind::Bool {
                let off = format!("no-{flag}");
                let help = format!("The opposite of --{flag}.");
                command = command.arg(switch(off.clone(), &help).overrides_with(flag.clone()));
                command = command.mut_arg(flag, |on| on.overrides_with(off));
            }
        }
    }
    command
}

fn from_matches(matches: &ArgMatches) -> Result<Flags, String> {
    let text = |name: &str| matches.get_one::<String>(name).cloned();
    let all =
        |name: &str| matches.get_many::<String>(name).into_iter().flatten().cloned().collect::<Vec<_>>();
    let node = match text("node-name") {
        Some(name) => name,
        None => rustix::system::uname().nodename().to_string_lossy().into_owned(),
    };
    Ok(Flags {
        listen: all("web.listen-address"),
        telemetry_path: telemetry_path(&text("web.telemetry-path").unwrap_or_default())?,
        max_requests: usize::from(matches.get_one::<u16>("web.max-requests").copied().unwrap_or(40)),
        log_level: text("log.level").unwrap_or_default(),
        paths: Paths {
            procfs: text("path.procfs").unwrap_or_default().into(),
            sysfs: text("path.sysfs").unwrap_or_default().into(),
            rootfs: text("path.rootfs").unwrap_or_default().into(),
            udev: text("path.udev.data").unwrap_or_default().into(),
            cgroup_root: text("path.cgroup-root"),
            // Until the scraper shares out what the machine allows.
            handles: Arc::new(HandleBudget::new(0)),
        },
        node,
        operators: all("operator"),
        last_good: text("last-good").map(Into::into),
        default_after: matches.get_one::<Duration>("default-after").copied(),
        config: text("config").map(Into::into),
        kubelet: text("kubelet.url").map(|url| KubeletOptions {
            url,
            token_file: text("kubelet.token-file").map(Into::into),
            ca_file: text("kubelet.ca-file").map(Into::into),
            insecure_skip_verify: matches.get_flag("kubelet.insecure-skip-verify"),
            deadline: Kubelet::DEADLINE,
        }),
        sandbox_image: text("sandbox-image").unwrap_or_default(),
        overlay: overlay(matches)?,
    })
}

/// The path without its last slash, so that `/` is empty.
fn telemetry_path(path: &str) -> Result<String, String> {
    match path.strip_prefix('/') {
        Some(_) => Ok(path.trim_end_matches('/').to_owned()),
        None => Err(format!("--web.telemetry-path={path}: a path begins with a slash")),
    }
}

fn overlay(matches: &ArgMatches) -> Result<Overlay, String> {
    let mut overlay =
        Overlay { disable_defaults: matches.get_flag("collector.disable-defaults"), ..Overlay::default() };
    for collector in COLLECTORS {
        if matches.get_flag(&format!("collector.{}", collector.name)) {
            overlay.enabled.insert(collector.name.to_owned(), true);
        } else if matches.get_flag(&format!("no-collector.{}", collector.name)) {
            overlay.enabled.insert(collector.name.to_owned(), false);
        }
        let mut options = BTreeMap::new();
        for option in collector.options {
            let flag = option_flag(collector.name, option);
            if option.kind == OptionKind::Bool && matches.get_flag(&format!("no-{flag}")) {
                options.insert(option.key.to_owned(), "false".to_owned());
            } else if let Some(values) = matches.get_many::<String>(&flag) {
                let value = values.map(String::as_str).collect::<Vec<_>>().join("\n");
                option.kind.check(&value).map_err(|what| format!("--{flag}: {what}"))?;
                options.insert(option.key.to_owned(), value);
            }
        }
        for (one, other) in collector.exclusive {
            if options.contains_key(*one) && options.contains_key(*other) {
                return Err(format!(
                    "collector `{}`: only one of `{one}` and `{other}` can be set",
                    collector.name
                ));
            }
        }
        if !options.is_empty() {
            overlay.options.insert(collector.name.to_owned(), options);
        }
    }
    Ok(overlay)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_exporters_flags_switch_collectors_and_set_options() {
        let flags = Flags::parse(&[
            "--collector.disable-defaults",
            "--collector.cpu",
            "--no-collector.cpu",
            "--collector.loadavg",
            "--collector.filesystem.mount-points-exclude=^/mnt",
            "--web.listen-address=:1",
            "--web.listen-address=[::1]:2",
        ])
        .unwrap();
        assert!(flags.overlay.disable_defaults);
        assert_eq!(flags.overlay.enabled, [("cpu".into(), false), ("loadavg".into(), true)].into());
        assert_eq!(flags.overlay.options["filesystem"]["mountPointsExclude"], "^/mnt");
        assert_eq!(flags.listen, [":1", "[::1]:2"]);
    }

    #[test]
    fn a_switch_among_the_options_is_written_as_kingpin_has_it() {
        let guest = |flag: &str| Flags::parse(&[flag]).unwrap().overlay.options["cpu"]["guest"].clone();
        let flags = ["--collector.cpu.guest", "--no-collector.cpu.guest", "--collector.cpu.guest=false"];
        assert_eq!(flags.map(guest), ["true", "false", "false"]);
        assert!(Flags::parse(&["--collector.cpu.guest=maybe"]).unwrap_err().contains("collector.cpu.guest"));
    }

    #[test]
    fn what_makes_no_sense_is_an_error_that_names_the_flag() {
        let error = |arguments: &[&str]| Flags::parse(arguments).unwrap_err();
        assert!(error(&["--collector.filesystem.mount-points-exclude=("]).contains("mount-points-exclude"));
        assert!(error(&["--config=x", "--operator=y"]).contains("--operator"));
        assert!(error(&["--collector.nosuch"]).contains("--collector.nosuch"));
        assert!(error(&["--kubelet.ca-file=x"]).contains("--kubelet.url"));
        assert!(error(&["--web.telemetry-path=metrics"]).contains("slash"));
        assert!(error(&["--log.level=warning"]).contains("--log.level"));
        assert!(error(&["--operator=y", "--default-after=soon"]).contains("--default-after"));
        assert!(error(&["--default-after=10m"]).contains("--operator"));
    }
}
