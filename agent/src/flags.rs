//! The command line: node_exporter's spellings, and the agent's own.

mod arguments;
mod collectors;
mod command;
mod unused;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::compare::{self, command::Comparison};
use crate::log::LogFormat;
use crate::plan::Overlay;
use crate::prepare_last_good::{self, Preparation};
use crate::reach::Reach;
use crate::source::Paths;
use crate::source::file::HandleBudget;
use crate::source::kubelet::{Kubelet, KubeletOptions};
pub use collectors::option_flag;

/// Everything that the command line says.
#[derive(Clone, Debug)]
pub struct Flags {
    /// `--web.listen-address`
    pub listen: Vec<String>,
    /// `--web.systemd-socket`
    pub systemd_socket: bool,
    /// `--web.config.file`
    pub web_config: Option<PathBuf>,
    /// `--web.authorization`
    pub authorization: AuthorizationFlag,
    /// `--web.telemetry-path`
    pub telemetry_path: String,
    /// `--web.max-requests`; nothing where there is no limit.
    pub max_requests: Option<usize>,
    /// `--web.disable-exporter-metrics`
    pub disable_exporter_metrics: bool,
    /// `--log.level`
    pub log_level: String,
    /// `--log.format`
    pub log_format: LogFormat,
    /// `--path.*`
    pub paths: Paths,
    /// `--node-name`
    pub node: String,
    /// `--operator` and what belongs to it
    pub operator: Reach,
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
    /// `--no-landlock` is not given.
    pub landlock: bool,
    /// The values of all flags but `--path.rootfs`: some are files or folders.
    pub named: Vec<String>,
    /// What was taken and should be said otherwise, or does nothing.
    pub warnings: Vec<String>,
}

/// Who may read the metrics, of those whom the web configuration lets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthorizationFlag {
    /// All of them.
    None,
    /// Who shows a certificate.
    Certificate,
    /// Whose token the operator says it of.
    Operator,
}

/// What the program is started for.
#[derive(Clone, Debug)]
pub enum Invocation {
    /// To measure and to serve.
    Serve(Box<Flags>),
    /// To make the folder for the last good configuration.
    Prepare(Preparation),
    /// To say what two endpoints differ in.
    Compare(Comparison),
}

impl Invocation {
    /// Reads the program's arguments; ends the program where they make no sense or ask for help.
    ///
    /// `version` is what `--version` answers.
    pub fn from_args(version: String) -> Self {
        let read = || -> Result<Self, String> {
            let arguments = arguments::expand(std::env::args_os())?;
            let matches = command::command().version(version).get_matches_from(arguments);
            if let Some(comparison) = matches.subcommand_matches(compare::command::NAME) {
                return Ok(Invocation::Compare(Comparison::from_matches(comparison)));
            }
            let preparation = matches.subcommand_matches(prepare_last_good::NAME);
            match preparation.and_then(Preparation::from_matches) {
                Some(preparation) => Ok(Invocation::Prepare(preparation)),
                None => Ok(Invocation::Serve(Box::new(from_matches(&matches)?))),
            }
        };
        read().unwrap_or_else(|message| command::command().error(ErrorKind::ValueValidation, message).exit())
    }
}

impl Flags {
    /// Reads these arguments, without the program's name.
    ///
    /// # Errors
    /// A sentence that names the argument.
    pub fn parse(arguments: &[&str]) -> Result<Self, String> {
        let all = std::iter::once("exporter-agent").chain(arguments.iter().copied());
        let all = arguments::expand(all.map(OsString::from))?;
        from_matches(&command::command().try_get_matches_from(all).map_err(|e| e.to_string())?)
    }
}

/// Adds a flag that is true or false, as kingpin has it: bare it switches on, with `no-` before it off.
fn switch(command: Command, name: &str, help: &str) -> Command {
    let (on, off) = (name.to_owned(), format!("no-{name}"));
    let argument = Arg::new(on.clone())
        .long(on.clone())
        .help(help.to_owned())
        .value_name("true|false")
        .value_parser(clap::value_parser!(bool))
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true")
        .overrides_with(off.clone());
    let opposite = Arg::new(off.clone()).long(off).hide(true).action(ArgAction::SetTrue).overrides_with(on);
    command.arg(argument).arg(opposite)
}

/// What a [`switch`] was set to, if it was.
fn given_switch(matches: &ArgMatches, name: &str) -> Option<bool> {
    match matches.get_flag(&format!("no-{name}")) {
        true => Some(false),
        false => matches.get_one::<bool>(name).copied(),
    }
}

fn from_matches(matches: &ArgMatches) -> Result<Flags, String> {
    let text = |name: &str| matches.get_one::<String>(name).cloned();
    let all =
        |name: &str| matches.get_many::<String>(name).into_iter().flatten().cloned().collect::<Vec<_>>();
    let is_on = |name: &str| given_switch(matches, name).unwrap_or_default();
    let node = match text("node-name") {
        Some(name) => name,
        None => rustix::system::uname().nodename().to_string_lossy().into_owned(),
    };
    let mut warnings: Vec<String> = unused::warnings(matches).collect();
    let operator = Reach {
        addresses: all("operator"),
        ca_file: text("operator.ca-file").map(Into::into),
        server_name: text("operator.server-name"),
        token_file: text("operator.token-file").map(Into::into),
    };
    operator.check()?;
    Ok(Flags {
        listen: all("web.listen-address").into_iter().map(listen_address).collect::<Result<_, _>>()?,
        systemd_socket: is_on("web.systemd-socket"),
        web_config: text("web.config.file").filter(|path| !path.is_empty()).map(Into::into),
        authorization: match text("web.authorization").as_deref() {
            Some("certificate") => AuthorizationFlag::Certificate,
            Some("operator") if operator.addresses.is_empty() => {
                return Err(
                    "--web.authorization=operator: there is nobody to ask; give --operator".to_owned()
                );
            }
            Some("operator") => AuthorizationFlag::Operator,
            _ => AuthorizationFlag::None,
        },
        telemetry_path: telemetry_path(&text("web.telemetry-path").unwrap_or_default())?,
        max_requests: matches
            .get_one::<i64>("web.max-requests")
            .and_then(|most| usize::try_from(*most).ok())
            .filter(|most| *most > 0),
        disable_exporter_metrics: is_on("web.disable-exporter-metrics"),
        log_level: text("log.level").unwrap_or_default().to_lowercase(),
        log_format: match text("log.format").as_deref() {
            Some("json") => LogFormat::Json,
            _ => LogFormat::Logfmt,
        },
        paths: Paths {
            procfs: text("path.procfs").unwrap_or_default().into(),
            sysfs: text("path.sysfs").unwrap_or_default().into(),
            rootfs: text("path.rootfs").unwrap_or_default().into(),
            udev: text("path.udev.data").unwrap_or_default().into(),
            cgroup_root: text("path.cgroup-root"),
            node: text("node-name"),
            timeout: matches.get_one("collector.timeout").copied().unwrap_or(Paths::TIMEOUT),
            // Until the scraper shares out what the machine allows.
            handles: Arc::new(HandleBudget::new(0)),
            stuck: Arc::default(),
            shared: Arc::default(),
        },
        node,
        operator,
        last_good: text("last-good").map(Into::into),
        default_after: matches.get_one::<Duration>("default-after").copied(),
        config: text("config").map(Into::into),
        kubelet: text("kubelet.url").map(|url| KubeletOptions {
            url,
            token_file: text("kubelet.token-file").map(Into::into),
            ca_file: text("kubelet.ca-file").map(Into::into),
            insecure_skip_verify: is_on("kubelet.insecure-skip-verify"),
            deadline: Kubelet::DEADLINE,
        }),
        sandbox_image: text("sandbox-image").unwrap_or_default(),
        overlay: collectors::overlay(matches, &mut warnings)?,
        landlock: given_switch(matches, "landlock").unwrap_or(true),
        named: named(matches),
        warnings,
    })
}

fn named(matches: &ArgMatches) -> Vec<String> {
    let ids = matches.ids().filter(|id| id.as_str() != "path.rootfs");
    let values = ids.filter_map(|id| matches.try_get_raw(id.as_str()).ok().flatten()).flatten();
    values.map(|value| value.to_string_lossy().into_owned()).collect()
}

/// An address that can be served on.
fn listen_address(address: String) -> Result<String, String> {
    match address.starts_with("vsock://") {
        true => {
            Err(format!("--web.listen-address={address}: vsock is not supported; serve on a TCP address"))
        }
        false => Ok(address),
    }
}

/// The path without its last slash, so that `/` is empty.
fn telemetry_path(path: &str) -> Result<String, String> {
    match path.strip_prefix('/') {
        Some(_) => Ok(path.trim_end_matches('/').to_owned()),
        None => Err(format!("--web.telemetry-path={path}: a path begins with a slash")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_taken_as_kingpin_takes_them() {
        let flags = Flags::parse(&[
            "--web.listen-address=:1",
            "--web.listen-address",
            "[::1]:2",
            "--web.max-requests=3",
            "--web.max-requests=0",
            "--web.systemd-socket",
            "--no-web.systemd-socket",
            "--web.disable-exporter-metrics",
            "--log.level=WARN",
            "--log.format=json",
        ])
        .unwrap();
        assert_eq!(flags.listen, [":1", "[::1]:2"]);
        assert_eq!(flags.max_requests, None);
        assert!(!flags.systemd_socket && flags.disable_exporter_metrics);
        assert_eq!((flags.log_level.as_str(), flags.log_format), ("warn", LogFormat::Json));
        assert!(flags.warnings.is_empty());
        let flags = Flags::parse(&[]).unwrap();
        assert_eq!((flags.listen, flags.max_requests), (vec![":9100".to_owned()], Some(40)));
        assert!(!flags.systemd_socket && !flags.disable_exporter_metrics);
    }

    #[test]
    fn what_does_nothing_here_is_taken_and_told() {
        let flags = Flags::parse(&["--runtime.gomaxprocs=4"]).unwrap();
        assert!(flags.warnings[0].contains("--runtime.gomaxprocs"), "{:?}", flags.warnings);
    }

    #[test]
    fn what_makes_no_sense_is_an_error_that_names_the_flag() {
        let error = |arguments: &[&str]| Flags::parse(arguments).unwrap_err();
        assert!(error(&["--collector.filesystem.mount-points-exclude=("]).contains("mount-points-exclude"));
        assert!(error(&["--config=x", "--operator=y"]).contains("--operator"));
        assert!(error(&["--collector.nosuch"]).contains("--collector.nosuch"));
        assert!(error(&["--kubelet.ca-file=x"]).contains("--kubelet.url"));
        assert!(error(&["--kubelet.insecure-skip-verify"]).contains("--kubelet.url"));
        assert!(error(&["--web.telemetry-path=metrics"]).contains("slash"));
        assert!(error(&["--web.max-requests=many"]).contains("--web.max-requests"));
        assert!(error(&["--web.listen-address=vsock://:9100"]).contains("vsock"));
        assert!(error(&["--log.level=warning"]).contains("--log.level"));
        assert!(error(&["--log.format=xml"]).contains("--log.format"));
        assert!(error(&["--operator=y", "--default-after=soon"]).contains("--default-after"));
        assert!(error(&["--default-after=10m"]).contains("--operator"));
        assert!(error(&["--collector.timeout=0s"]).contains("--collector.timeout"));
        assert!(error(&["@/nosuch/file"]).contains("@/nosuch/file"));
    }
}
