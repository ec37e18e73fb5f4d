//! `exporter-agent compare OLD NEW`: what two endpoints, or files of what they answered, differ in.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use clap::{Arg, ArgAction, ArgMatches, Command};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::{Request, header};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

use crate::tls_client;

use super::{Exposition, accepted, differences, parse, report};

/// The word on the command line.
pub const NAME: &str = "compare";

/// How long an endpoint is waited for: longer than Prometheus would.
const PATIENCE: Duration = Duration::from_secs(30);
/// No exporter gives as much.
const LONGEST: usize = 256 << 20;
/// Of each family so many series are shown, unless all are asked for.
const MOST: usize = 10;
const SKIP: &str = "insecure-skip-verify";

/// What is compared.
#[derive(Clone, Debug)]
pub struct Comparison {
    old: String,
    new: String,
    is_about_values: bool,
    shows_all: bool,
    access: Access,
}

/// How endpoints are asked that do not answer everybody.
#[derive(Clone, Debug)]
struct Access {
    ca_file: Option<PathBuf>,
    insecure_skip_verify: bool,
    user: Option<String>,
    password_file: Option<PathBuf>,
    token_file: Option<PathBuf>,
}

/// The command, for `--help` and for reading.
pub fn command() -> Command {
    let endpoint = |name: &'static str, help: &'static str| Arg::new(name).required(true).help(help);
    let value = |name: &'static str, of: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(of).help(help)
    };
    let switch = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).help(help).action(ArgAction::SetTrue)
    };
    Command::new(NAME)
        .about("Says in which series and types two endpoints differ, and which differences are known")
        .after_help("Ends with 0 where all differences are known, with 1 where others are found, with 2 where it cannot tell.")
        .arg(endpoint("OLD", "What is replaced: http://HOST:9100/metrics, or a file with what it answered."))
        .arg(endpoint("NEW", "The agent, or a file with what it answered."))
        .arg(switch("values", "Compare values, too; of what moves they differ."))
        .arg(switch("all", "Show every series."))
        .arg(value("ca-file", "FILE", "CA that signed the certificates of the endpoints.").conflicts_with(SKIP))
        .arg(switch(SKIP, "Take any certificate from the endpoints."))
        .arg(value("user", "NAME", "Who asks both endpoints.").requires("password-file"))
        .arg(value("password-file", "FILE", "File with the password of this user.").requires("user"))
        .arg(value("token-file", "FILE", "File with a token that both endpoints take.").conflicts_with("user"))
}

impl Comparison {
    /// What the command line says.
    pub fn from_matches(matches: &ArgMatches) -> Self {
        let set = |name: &str| matches.get_one::<String>(name).cloned();
        let text = |name: &str| set(name).unwrap_or_default();
        Comparison {
            old: text("OLD"),
            new: text("NEW"),
            is_about_values: matches.get_flag("values"),
            shows_all: matches.get_flag("all"),
            access: Access {
                ca_file: set("ca-file").map(Into::into),
                insecure_skip_verify: matches.get_flag(SKIP),
                user: set("user"),
                password_file: set("password-file").map(Into::into),
                token_file: set("token-file").map(Into::into),
            },
        }
    }

    /// Compares, and prints; the program is then at its end.
    pub fn run_to_end(&self) -> ExitCode {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match runtime.context("starting the runtime").and_then(|runtime| runtime.block_on(self.run())) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::from(1),
            Err(error) => {
                let _ = writeln!(std::io::stderr(), "error: {error:#}");
                ExitCode::from(2)
            }
        }
    }

    /// Compares, and prints; tells whether all differences are known.
    ///
    /// # Errors
    /// The endpoint or file that cannot be read.
    pub async fn run(&self) -> Result<bool> {
        // At the same time, so that what comes and goes is in both or in none.
        let (old, new) =
            tokio::join!(exposition(&self.old, &self.access), exposition(&self.new, &self.access));
        let is_same = |a: f64, b: f64| a == b || (a.is_nan() && b.is_nan());
        let found = differences(&old?, &new?, |_, a, b| !self.is_about_values || is_same(a, b));
        let known = ["node_exporter", "kubelet"].map(accepted).into_iter().collect::<Result<Vec<_>, _>>();
        let known: Vec<_> = known.map_err(|what| anyhow!(what))?.into_iter().flatten().collect();
        let report = report(&found, &known, if self.shows_all { usize::MAX } else { MOST });
        // Who has closed the pipe has read enough.
        let _ = std::io::stdout().write_all(report.text.as_bytes());
        Ok(report.unexplained == 0)
    }
}

async fn exposition(place: &str, access: &Access) -> Result<Exposition> {
    let text = if ["http://", "https://"].iter().any(|scheme| place.starts_with(scheme)) {
        let answer = tokio::time::timeout(PATIENCE, get(place, access)).await;
        answer.map_err(|_| anyhow!("{place}: no answer within {} s", PATIENCE.as_secs()))??
    } else {
        std::fs::read_to_string(place).with_context(|| place.to_owned())?
    };
    parse(&text).map_err(|what| anyhow!("{place}: {what}"))
}

async fn get(url: &str, access: &Access) -> Result<String> {
    let is_trusted = access.ca_file.is_some() || access.insecure_skip_verify;
    ensure!(is_trusted || !url.starts_with("https:"), "{url}: over https it takes --ca-file or --{SKIP}");
    let tls = tls_client::config(access.ca_file.as_deref(), !access.insecure_skip_verify);
    let connector = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(tls.map_err(|what| anyhow!("--ca-file: {what}"))?)
        .https_or_http()
        .enable_http1()
        .build();
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build(connector);
    let mut request = Request::get(url).header(header::ACCEPT, "text/plain;version=0.0.4");
    if let Some(authorization) = access.authorization()? {
        request = request.header(header::AUTHORIZATION, authorization);
    }
    let request = request.body(Empty::new()).with_context(|| url.to_owned())?;
    let response = client.request(request).await.with_context(|| url.to_owned())?;
    let status = response.status();
    let body = Limited::new(response.into_body(), LONGEST).collect().await;
    let body = body.map_err(|error| anyhow!("{url}: {error}"))?.to_bytes();
    ensure!(status.is_success(), "{url}: status {status}");
    String::from_utf8(body.into()).with_context(|| format!("{url}: not text"))
}

impl Access {
    /// The header `Authorization`, if there is one.
    fn authorization(&self) -> Result<Option<String>> {
        let read = |path: &Path| -> Result<String> {
            let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
            Ok(text.trim_end_matches(['\r', '\n']).to_owned())
        };
        if let Some(file) = &self.token_file {
            return Ok(Some(format!("Bearer {}", read(file)?)));
        }
        let Some((user, file)) = self.user.as_ref().zip(self.password_file.as_ref()) else { return Ok(None) };
        Ok(Some(format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{}", read(file)?)))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comparison(arguments: &[&str]) -> Comparison {
        let all = std::iter::once(NAME).chain(arguments.iter().copied());
        Comparison::from_matches(&command().try_get_matches_from(all).unwrap())
    }

    #[tokio::test]
    async fn two_files_are_the_same_unless_values_are_asked_for() {
        let folder = std::env::temp_dir().join(format!("compare-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
        let (old, new) = (path("old"), path("new"));
        std::fs::write(&old, "a 1\nb NaN\n").unwrap();
        std::fs::write(&new, "a 2\nb NaN\n").unwrap();
        assert!(comparison(&[&old, &new]).run().await.unwrap());
        assert!(!comparison(&["--values", &old, &new]).run().await.unwrap());
        std::fs::write(&new, "a 2\n").unwrap();
        assert!(!comparison(&[&old, &new]).run().await.unwrap());
        std::fs::write(&new, "a\n").unwrap();
        let error = comparison(&[&old, &new]).run().await.unwrap_err().to_string();
        assert!(error.contains(&new), "{error}");
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(comparison(&[&old, &new]).run().await.is_err());
        let error = comparison(&[&old, "https://node/metrics"]).run().await.unwrap_err();
        assert!(error.to_string().contains(&old), "the old one is named first: {error}");
    }
}
