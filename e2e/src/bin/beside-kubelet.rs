//! What the containers and the machine cost on a real node with many pods, beside the kubelet's cAdvisor and
//! node_exporter: `beside-kubelet [PODS [MINUTES [working]]]`, 90 pods that do nothing and
//! 10 minutes of each when not given. `working` pods wake ten times a second.
//!
//! Nobody, a scrape of the kubelet's `/metrics/cadvisor` and a scrape of the agent take turns, so that what drifts on the
//! machine drifts for all; a real Prometheus scrapes. What the kubelet spends more than with nobody is what a scrape
//! causes; of the agent, that is a list of pods now and then, whose price is found by asking for many. The families of its summary are off. Meanwhile node_exporter and an agent, both with the same six collectors, are scraped as well.

#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use e2e::cluster::Cluster;
use e2e::http;
use e2e::interrupt;
use e2e::many_pods::{self, Work};
use e2e::node::Node;
use e2e::parts::NODE_EXPORTER;
use e2e::process::Component;
use e2e::product::{self, AGENT_PORT, Agent};
use e2e::programs::{AGENT, build};
use e2e::scraper::{Job, Scraper};
use e2e::wait::wait_for;
use e2e::weigh::{child, processor_time, resident};
use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::process::{Pid, Signal, kill_process};

const INTERVAL: Duration = Duration::from_secs(15);
/// How often the agent asks its kubelet for the list of pods while none comes or goes (`agent/src/follow_pods.rs`).
const LIST_INTERVAL: Duration = Duration::from_secs(60);
/// How many answers are asked for to find what one costs.
const ANSWERS: u32 = 100;
/// What only the kubelet's summary tells has a price of its own.
const WITHOUT_SUMMARY: &str = r#"{"apiVersion": "exporter-operator.dev/v1alpha1", "kind": "ExporterPolicy",
    "metadata": {"name": "without-summary"}, "spec": {"collectors": [{"name": "container_storage", "enabled": false}]}}"#;
/// How often each takes its turn.
const ROUNDS: u32 = 4;
const PATIENCE: Duration = Duration::from_secs(60);

const SIX: [&str; 6] = ["cpu", "diskstats", "filesystem", "loadavg", "meminfo", "netdev"];
/// Of the node's own programs.
const AGENT_OF_SIX: u16 = 19110;
const NODE_EXPORTER_PORT: u16 = 19100;

/// A process that is weighed, and what it has used in the turns so far.
struct Weighed {
    pid: u32,
    used: [Duration; 3],
}

impl Weighed {
    fn new(pid: u32) -> Self {
        Self { pid, used: Default::default() }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    Nobody,
    Kubelet,
    Agent,
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default, what| arguments.next().map_or(Ok(default), |n| n.parse::<u32>()).context(what);
    let pods = number(90, "PODS is a number")?;
    let minutes = number(10, "MINUTES is a number")?;
    let work = match arguments.next().as_deref() {
        None => Work::None,
        Some("working") => Work::Some,
        Some(other) => bail!("`{other}` is not `working`"),
    };
    interrupt::watch_with_parent()?;
    let program = build(&[AGENT])?.pop().context("nothing was built")?;
    let cluster = Cluster::own(1)?;
    let machine = cluster.machine()?;
    let node = machine.nodes.first().context("no node")?;
    product::install(&cluster)?;
    // Stopped while it is not its turn, it answers nobody.
    let probes = r#"[{"op": "remove", "path": "/spec/template/spec/containers/0/livenessProbe"},
        {"op": "remove", "path": "/spec/template/spec/containers/0/readinessProbe"}]"#;
    let set = ["daemonset", "exporter-agent", "-n", product::NAMESPACE];
    cluster.kubectl.run(&[&["patch"], &set[..], &["--type=json", "-p", probes]].concat())?;
    cluster.kubectl.rollout("daemonset/exporter-agent", product::NAMESPACE, PATIENCE)?;
    many_pods::start(&cluster, pods, work)?;

    let agent = Agent::first(&cluster)?;
    cluster.kubectl.apply(WITHOUT_SUMMARY)?;
    cluster.kubectl.wait("condition=Programmed", &[product::POLICIES, "without-summary"], PATIENCE)?;
    agent.scrape(&cluster, "/metrics")?;
    let exporters = [
        exporter(node, "agent of six", &program, AGENT_OF_SIX)?,
        exporter(node, "node_exporter", &NODE_EXPORTER.program("node_exporter")?, NODE_EXPORTER_PORT)?,
    ];
    let of_node = |port: u16| format!("{}:{port}", node.address);
    let certificate = ["ca.crt", "kubelet-client.crt", "kubelet-client.key"];
    let job = |name, target, path| Job { name, target, path, tls: None };
    let tls = Some(certificate.map(|file| machine.plane.authority.path(file)));
    let kubelet_job = Job { tls, ..job("kubelet", of_node(10250), "/metrics/cadvisor") };
    let agent_job = job("agent", agent.address().to_string(), "/metrics/cadvisor");
    let always = [
        job("agent-of-six", of_node(AGENT_OF_SIX), "/metrics/node"),
        job("node-exporter", of_node(NODE_EXPORTER_PORT), "/metrics"),
    ];

    let mut weighed = [
        weighed(node, "kubelet --config kubelet.yaml")?,
        weighed(node, &format!("0.0.0.0:{AGENT_PORT}"))?,
        Weighed::new(child(exporters[0].pid())?),
        Weighed::new(child(exporters[1].pid())?),
    ];
    let agent_process = weighed[1].pid;
    let slice = Duration::from_secs(60) * minutes / ROUNDS;
    let mut scraper = Scraper::start(&cluster, INTERVAL)?;
    let mut memory = 0;
    for round in 1..=ROUNDS {
        for turn in [Turn::Nobody, Turn::Kubelet, Turn::Agent] {
            eprint!("\rround {round} of {ROUNDS}, {} s each turn", slice.as_secs());
            signal(agent_process, if turn == Turn::Agent { Signal::CONT } else { Signal::STOP })?;
            let mut jobs = always.to_vec();
            match turn {
                Turn::Nobody => {}
                Turn::Kubelet => jobs.push(kubelet_job.clone()),
                Turn::Agent => jobs.push(agent_job.clone()),
            }
            scraper.scrape(&jobs)?;
            let before = weighed.each_ref().map(|it| processor_time(it.pid));
            let start = Instant::now();
            wait_for("the end of a turn", slice * 2, || Ok((start.elapsed() >= slice).then_some(())))?;
            for (it, before) in weighed.iter_mut().zip(before) {
                it.used[turn as usize] += processor_time(it.pid)?.saturating_sub(before?);
            }
            memory = memory.max(resident(agent_process)?);
        }
    }
    eprintln!();
    let scrapes = f64::from(ROUNDS) * (slice.as_secs_f64() / INTERVAL.as_secs_f64()).floor();
    let [kubelet, agent_pod, six, node_exporter] = &weighed;
    let per_scrape = |it: &Weighed, turn: Turn| it.used[turn as usize].as_secs_f64() * 1e3 / scrapes;
    let over_all = |it: &Weighed| it.used.iter().sum::<Duration>().as_secs_f64() * 1e3 / scrapes / 3.0;
    let idle = per_scrape(kubelet, Turn::Nobody);
    let more = per_scrape(kubelet, Turn::Kubelet) - idle;
    let caused = per_scrape(kubelet, Turn::Agent) - idle;
    let own = per_scrape(agent_pod, Turn::Agent);
    let price = |of: &str| price(&cluster, node, kubelet.pid, idle / 1e3 / INTERVAL.as_secs_f64(), of);
    let list = price("pods")? * 1e3;
    let summary = price("stats/summary")? * 1e3;
    let by_price = list * INTERVAL.as_secs_f64() / LIST_INTERVAL.as_secs_f64();
    let of = |name: &str, metric: &str| {
        scraper.value(&format!("quantile_over_time(0.5, {metric}{{job=\"{name}\"}}[12h])"))
    };

    println!("{pods} pods ({work:?} work), {scrapes} scrapes of each at {} s", INTERVAL.as_secs());
    println!("kubelet with nobody asking: {idle:.1} ms of processor time in {} s", INTERVAL.as_secs());
    println!("| a scrape of the containers | kubelet | agent | agent / kubelet |\n|---|---|---|---|");
    let row = |name: &str, unit: &str, theirs: f64, ours: f64| {
        println!("| {name} | {theirs:.2} {unit} | {ours:.2} {unit} | 1/{:.1} |", theirs / ours);
    };
    row("processor time", "ms", more, own);
    println!("| of the kubelet, more than with nobody | | {caused:.2} ms | |");
    println!("| of the kubelet, by the price of a list of pods, of {list:.2} ms | | {by_price:.2} ms | |");
    println!("| a summary of the kubelet, once a minute while its families are on | | {summary:.2} ms | |");
    row("both together, by the price of the list", "ms", more, own + by_price);
    let millis = 1e3;
    let pair = |metric: &str, names: [&str; 2]| -> Result<[f64; 2]> {
        Ok([of(names[0], metric)?, of(names[1], metric)?])
    };
    let rows = |names: [&str; 2]| -> Result<()> {
        let [theirs, ours] = pair("scrape_duration_seconds", names)?;
        row("latency, median", "ms", theirs * millis, ours * millis);
        let [theirs, ours] = pair("scrape_samples_scraped", names)?;
        row("series", "", theirs, ours);
        let [theirs, ours] = pair("scrape_body_size_bytes", names)?;
        row("answer", "kB", theirs / 1e3, ours / 1e3);
        Ok(())
    };
    rows(["kubelet", "agent"])?;
    let theirs =
        packed(&cluster.kubectl.raw(&format!("/api/v1/nodes/{}/proxy/metrics/cadvisor", node.name))?)?;
    let ours = agent.get(&cluster, "/metrics/cadvisor", &[("Accept-Encoding", "gzip")])?.body.len();
    row("answer, packed", "kB", theirs as f64 / 1e3, ours as f64 / 1e3);
    println!(
        "| resident memory | {:.1} MB | {:.1} MB | |",
        megabytes(resident(kubelet.pid)?),
        megabytes(memory)
    );

    println!(
        "\n| a scrape of {} | node_exporter | agent | agent / node_exporter |\n|---|---|---|---|",
        SIX.join(", ")
    );
    row("processor time", "ms", over_all(node_exporter), over_all(six));
    rows(["node-exporter", "agent-of-six"])?;
    row("resident memory", "MB", megabytes(resident(node_exporter.pid)?), megabytes(resident(six.pid)?));
    Ok(())
}

/// What an answer costs the kubelet, in seconds, over what it uses in each second anyway.
fn price(cluster: &Cluster, node: &Node, kubelet: u32, idle: f64, of: &str) -> Result<f64> {
    let (before, start) = (processor_time(kubelet)?, Instant::now());
    for _ in 0..ANSWERS {
        cluster.kubectl.raw(&format!("/api/v1/nodes/{}/proxy/{of}", node.name))?;
    }
    let used = processor_time(kubelet)?.saturating_sub(before);
    Ok((used.as_secs_f64() - idle * start.elapsed().as_secs_f64()) / f64::from(ANSWERS))
}

/// An exporter with the six collectors as a program of the node.
fn exporter(node: &Node, name: &str, program: &Path, port: u16) -> Result<Component> {
    let mut command = node.command(&program.to_string_lossy())?;
    command
        .arg(format!("--web.listen-address={}:{port}", node.address))
        .arg("--collector.disable-defaults")
        .args(SIX.map(|collector| format!("--collector.{collector}")));
    let mut component = Component::start(name, &command, node.folder().join(format!("{name}.log")))?;
    let address = format!("{}:{port}", node.address).parse()?;
    wait_for(&format!("{name} to answer"), PATIENCE, || {
        component.check()?;
        node.netns().inside(|| http::get(address, "/", &[]))??.text().map(|_| Some(()))
    })?;
    Ok(component)
}

fn weighed(node: &Node, command_line: &str) -> Result<Weighed> {
    let found = node.processes(command_line)?;
    ensure!(found.len() == 1, "{} processes with `{command_line}`", found.len());
    let pid = found[0].as_raw_nonzero().get().unsigned_abs();
    Ok(Weighed::new(pid))
}

fn signal(pid: u32, signal: Signal) -> Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("no process")?;
    kill_process(pid, signal).context("the agent has ended")
}

/// How long it is when packed as exporters pack it.
fn packed(text: &str) -> Result<usize> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes())?;
    Ok(encoder.finish()?.len())
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
