//! A configuration file in place of an operator: what is garbage is named and changes nothing.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use agent::config::Config;
use agent::expose::text::Format;
use agent::plan::{Overlay, Plan};
use agent::scrape::{Part, Scraper};
use agent::source::Paths;
use agent::telemetry::Telemetry;

/// An agent of this machine, and the file that it is told to read.
struct Machine {
    scraper: Arc<Mutex<Scraper>>,
    config: Config,
    file: PathBuf,
}

impl Machine {
    fn new(name: &str) -> Self {
        let paths = Paths::default();
        let telemetry = Arc::new(Telemetry::new().unwrap());
        let plan = Plan::waiting(&Overlay::default());
        let scraper = Arc::new(Mutex::new(Scraper::new(paths, String::new(), 100, plan, telemetry.clone())));
        let config = Config::new(scraper.clone(), telemetry, Overlay::default(), None);
        let file = std::env::temp_dir().join(format!("config-{name}-{}.yaml", std::process::id()));
        Machine { scraper, config, file }
    }

    fn take(&self, text: &str) -> Result<(), String> {
        std::fs::write(&self.file, text).unwrap();
        self.config.use_file(&self.file).map_err(|error| error.to_string())
    }

    fn has(&self, family: &str) -> bool {
        let mut out = Vec::new();
        self.scraper.lock().unwrap().scrape(Part::Node, Format::Text, &mut out);
        String::from_utf8(out).unwrap().lines().any(|line| line.starts_with(family))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

const GOOD: &str = "policies: [{name: less, metrics: {exclude: [node_load1]}}]";

#[test]
fn a_file_holds_until_another_good_one_comes() {
    let machine = Machine::new("holds");
    machine.take(GOOD).unwrap();
    assert_eq!([machine.has("node_load1 "), machine.has("node_load5 ")], [false, true]);
    for (garbage, said) in [
        ("policies: [", "line"),
        ("polices: []", "polices"),
        ("policies: [{name: bad, metrics: {exclude: ['(']}}]", "policy `bad`: metrics.exclude[0]"),
        (
            "policies: [{name: bad, collectors: [{name: cpu, options: {guest: maybe}}]}]",
            "collectors[0].options.guest",
        ),
        ("policies: [{name: bad, metric: {exclude: [node_load5]}}]", "metric"),
        ("policies: [{name: bad, metrics: {profile: Tiny}}]", "Tiny"),
        ("policies: [{name: bad, namespaceSelecter: team=web}]", "namespaceSelecter"),
        ("policies: [{name: twice}, {name: twice}]", "two policies are called `twice`"),
        ("\u{0}\u{1}", "config-holds"),
    ] {
        let error = machine.take(garbage).unwrap_err();
        assert!(error.contains(said) && error.contains("config-holds"), "`{said}` is not in: {error}");
        assert_eq!(
            [machine.has("node_load1 "), machine.has("node_load5 ")],
            [false, true],
            "after {garbage}"
        );
    }
    machine.take("policies: []").unwrap();
    assert!(machine.has("node_load1 "));
}

#[test]
fn the_sample_is_taken_whole() {
    let machine = Machine::new("sample");
    machine.take(include_str!("../../samples/local.yaml")).unwrap();
    assert!(machine.has("node_memory_MemTotal_bytes ") && !machine.has("node_memory_DirectMap"));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let machine = Machine::new("absent");
    let error = machine.config.use_file(&machine.file).unwrap_err().to_string();
    assert!(error.contains("config-absent"), "{error}");
}

#[test]
fn flags_overrule_the_file() {
    let machine = Machine::new("flags");
    let flags = Overlay { enabled: [("loadavg".to_owned(), false)].into(), ..Overlay::default() };
    let telemetry = Arc::new(Telemetry::new().unwrap());
    let config = Config::new(machine.scraper.clone(), telemetry, flags, None);
    std::fs::write(&machine.file, "policies: [{name: on, collectors: [{name: loadavg, enabled: true}]}]")
        .unwrap();
    config.use_file(&machine.file).unwrap();
    assert!(!machine.has("node_load1 "));
}
