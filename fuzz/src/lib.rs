//! Any bytes in place of what the programs read: each entry must come back without a panic and with a whole answer.
//!
//! The fuzzer (`libfuzzer/`, nightly) and the tests, which replay the recorded nodes with mutations, both enter here.

mod channel;
mod machine;
mod mutation;
mod policy;

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::net::UnixListener;
use std::sync::Arc;

use agent::expose::WebConfig;
use agent::process_groups::{Names, Process, Redaction};
use agent::scrape::Selection;
use agent::source::dbus::{Buffers, Bus, BusError, Method, Property, Value};
use agent::telemetry::Telemetry;

pub use channel::{agent_message, last_good, operator_message};
pub use machine::Machine;
pub use mutation::mutations;
pub use policy::exporter_policy;

/// The kubelet's list of pods.
pub fn pod_list(bytes: &[u8]) {
    let _ = agent::source::kubelet::parse(bytes);
}

/// What the kubelet says of storage.
pub fn stats_summary(bytes: &[u8]) {
    let _ = agent::source::kubelet::StatsSummary::parse(bytes);
}

/// What a scrape asks for, behind the question mark.
pub fn query(bytes: &[u8]) {
    let _ = Selection::parse(&String::from_utf8_lossy(bytes));
}

/// The configuration of process-exporter, by which a process is then named.
pub fn process_names(bytes: &[u8]) {
    let process = Process {
        comm: "web",
        arguments: "/bin/web --for=ann -x",
        exe: "/bin/web",
        user: "ann",
        pid: 7,
        started: Default::default(),
        cgroups: "0::/kubepods/poda\n",
    };
    if let Ok(names) = Names::parse(&String::from_utf8_lossy(bytes)) {
        names.name(&process, &mut String::new());
    }
}

/// The command line of a process.
pub fn command_line(bytes: &[u8]) {
    let _ = Redaction::default().apply(bytes);
}

/// The file of `--web.config.file`.
///
/// # Errors
/// When the file cannot be written.
pub fn web_config(bytes: &[u8]) -> io::Result<()> {
    let telemetry = Arc::new(Telemetry::new().map_err(io::Error::other)?);
    let path = std::env::temp_dir().join(format!("fuzz-web-config-{}.yml", std::process::id()));
    fs::write(&path, bytes)?;
    let _ = WebConfig::open(path.clone(), telemetry);
    fs::remove_file(path)
}

/// What a service sends over D-Bus, from its first line on; returns the texts of its properties and of its list.
///
/// # Errors
/// When there can be no socket, and when what is sent is not as it should be.
pub fn bus(bytes: &[u8]) -> Result<Vec<String>, BusError> {
    let socket = std::env::temp_dir().join(format!("fuzz-bus-{}", std::process::id()));
    let listener = UnixListener::bind(&socket)?;
    let result = std::thread::scope(|threads| {
        threads.spawn(|| {
            let (mut stream, _) = listener.accept()?;
            stream.write_all(bytes)?;
            stream.shutdown(std::net::Shutdown::Write)?;
            // What is asked is taken until the other side goes.
            io::copy(&mut stream, &mut io::sink())
        });
        asked(&mut Bus::private(&socket, &mut Buffers::default())?)
    });
    fs::remove_file(socket)?;
    result
}

fn asked(bus: &mut Bus<'_>) -> Result<Vec<String>, BusError> {
    let (service, path, interface) = ("a.b", "/c", "d.e");
    let wanted = ["F", "G"].map(|name| Property { path, interface, name });
    let answers = bus.properties(service, wanted)?.iter();
    let mut texts: Vec<_> = answers.filter_map(|answer| answer?.text().map(str::to_owned)).collect();
    bus.call(Method { service, path, interface, member: "H" }, &[], |body| {
        body.array(8, |body| {
            texts.push(body.text()?.to_owned());
            let (_, _) = (body.u32()?, body.u64()?);
            match body.variant()? {
                Value::Text(text) => texts.push(text.to_owned()),
                Value::Number(_) | Value::Bool(_) | Value::Other => {}
            }
            Some(())
        })
    })?;
    Ok(texts)
}
