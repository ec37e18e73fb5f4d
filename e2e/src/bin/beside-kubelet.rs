//! What the containers and the machine cost on a real node with many pods, beside the kubelet's cAdvisor and
//! node_exporter: `beside-kubelet [PODS [MINUTES [working]]]`, 90 pods that do nothing and 6 minutes of each when not
//! given, with which all of it takes 35 minutes. `working` pods wake ten times a second.
//!
//! Nobody, a scrape of the kubelet's `/metrics/cadvisor`, one of the agent, and one of the agent with the profile
//! `Dashboards` take turns, so that what drifts on the machine drifts for all; a real Prometheus scrapes. What the kubelet
//! spends more than with nobody is what a scrape causes; of the agent, that is a list of pods now and then, whose price is
//! found by asking for many. The families of its summary are off. Meanwhile node_exporter and an agent, both with the same
//! six collectors, are scraped as well. Latencies are a client's own, asked for after the turns: those of Prometheus hold
//! what it does with an answer.

#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use agent::source::cgroup::CgroupFile;
use anyhow::{Context as _, Result, bail, ensure};
use e2e::client::Client;
use e2e::cluster::Cluster;
use e2e::floor;
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
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

const INTERVAL: Duration = Duration::from_secs(15);
/// How often the agent asks its kubelet for the list of pods while none comes or goes (`agent/src/follow_pods.rs`).
const LIST_INTERVAL: Duration = Duration::from_secs(60);
/// How many answers are asked for to find what one costs.
const ANSWERS: u32 = 100;
/// The first scrapes of a turn count for nobody: one who has not been asked for minutes reads what a scraper that stays
/// has it read now and then.
const SETTLES_IN: Duration = Duration::from_secs(2 * INTERVAL.as_secs());
/// How often each takes its turn.
const ROUNDS: u32 = 3;
/// How many answers a client asks each for to see how long they take, which is in nobody's processor time.
const ASKED: usize = 25;
const PAUSE: Duration = Duration::from_secs(1);
/// How many passes over its files make a floor.
const PASSES: u32 = 100;
const PATIENCE: Duration = Duration::from_secs(60);

const SIX: [&str; 6] = ["cpu", "diskstats", "filesystem", "loadavg", "meminfo", "netdev"];
/// Of the node's own programs.
const AGENT_OF_SIX: u16 = 19110;
const NODE_EXPORTER_PORT: u16 = 19100;

/// A process that is weighed, and what it has used in the turns so far.
struct Weighed {
    pid: u32,
    used: [Duration; TURNS.len()],
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
    Dashboards,
}

const TURNS: [Turn; 4] = [Turn::Nobody, Turn::Kubelet, Turn::Agent, Turn::Dashboards];

impl Turn {
    fn profile(self) -> &'static str {
        if self == Turn::Dashboards { "Dashboards" } else { "Full" }
    }

    /// Whether what a scrape of the agent gives comes from this file, and is looked at each time.
    fn reads(self, file: &Path) -> bool {
        use CgroupFile::*;
        const IN_DASHBOARDS: [CgroupFile; 8] = [
            CpuacctUsage,
            CpuStat,
            MemoryStat,
            MemoryUsage,
            MemoryCurrent,
            BlkioServiceBytes,
            BlkioServiced,
            IoStat,
        ];
        let files = if self == Turn::Dashboards { &IN_DASHBOARDS[..] } else { CgroupFile::ALL };
        let is_it = |name: &str| files.iter().any(|it| it.name() == name && !it.is_fixed());
        file.ends_with("net/dev") || file.file_name().and_then(|name| name.to_str()).is_some_and(is_it)
    }
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default, what| arguments.next().map_or(Ok(default), |n| n.parse::<u32>()).context(what);
    let pods = number(90, "PODS is a number")?;
    let minutes = number(6, "MINUTES is a number")?;
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
    let mut memory = [0; 2];
    for round in 1..=ROUNDS {
        for turn in TURNS {
            eprint!("\rround {round} of {ROUNDS}, {} s each turn", slice.as_secs());
            let is_agents = matches!(turn, Turn::Agent | Turn::Dashboards);
            signal(agent_process, if is_agents { Signal::CONT } else { Signal::STOP })?;
            let mut jobs = always.to_vec();
            match turn {
                Turn::Nobody => {}
                Turn::Kubelet => jobs.push(kubelet_job.clone()),
                Turn::Agent | Turn::Dashboards => {
                    put_in_force(&cluster, turn.profile())?;
                    jobs.push(Job { name: name(turn), ..agent_job.clone() });
                }
            }
            scraper.scrape(&jobs)?;
            pass("the first scrapes of a turn", SETTLES_IN)?;
            let before = weighed.each_ref().map(|it| processor_time(it.pid));
            pass("the end of a turn", slice)?;
            for (it, before) in weighed.iter_mut().zip(before) {
                it.used[turn as usize] += processor_time(it.pid)?.saturating_sub(before?);
            }
            let of_turn = &mut memory[usize::from(turn == Turn::Dashboards)];
            *of_turn = resident(agent_process)?.max(*of_turn);
        }
    }
    eprintln!();
    let scrapes = f64::from(ROUNDS) * (slice.as_secs_f64() / INTERVAL.as_secs_f64()).floor();
    let [kubelet, agent_pod, six, node_exporter] = &weighed;
    let per_scrape = |it: &Weighed, turn: Turn| it.used[turn as usize].as_secs_f64() * 1e3 / scrapes;
    let over_all =
        |it: &Weighed| it.used.iter().sum::<Duration>().as_secs_f64() * 1e3 / scrapes / TURNS.len() as f64;
    let idle = per_scrape(kubelet, Turn::Nobody);
    let more = per_scrape(kubelet, Turn::Kubelet) - idle;
    let price = |of: &str| price(&cluster, node, kubelet.pid, idle / 1e3 / INTERVAL.as_secs_f64(), of);
    let list = price("pods")? * 1e3;
    let summary = price("stats/summary")? * 1e3;
    let by_price = list * INTERVAL.as_secs_f64() / LIST_INTERVAL.as_secs_f64();

    println!("{pods} pods ({work:?} work), {scrapes} scrapes of each at {} s", INTERVAL.as_secs());
    println!("kubelet with nobody asking: {idle:.1} ms of processor time in {} s", INTERVAL.as_secs());
    let row = |name: &str, unit: &str, theirs: f64, ours: f64| {
        println!("| {name} | {theirs:.2} {unit} | {ours:.2} {unit} | 1/{:.1} |", theirs / ours);
    };
    let pair = |metric: &str, names: [&str; 2]| -> Result<[f64; 2]> {
        let of =
            |name: &str| scraper.value(&format!("quantile_over_time(0.5, {metric}{{job=\"{name}\"}}[12h])"));
        Ok([of(names[0])?, of(names[1])?])
    };
    let rows = |names: [&str; 2]| -> Result<()> {
        let [theirs, ours] = pair("scrape_duration_seconds", names)?;
        row("latency, median, with what Prometheus does", "ms", theirs * 1e3, ours * 1e3);
        let [theirs, ours] = pair("scrape_samples_scraped", names)?;
        row("series", "", theirs, ours);
        let [theirs, ours] = pair("scrape_body_size_bytes", names)?;
        row("answer", "kB", theirs / 1e3, ours / 1e3);
        Ok(())
    };
    let tls = kubelet_job.tls.as_ref().context("the kubelet is asked over TLS")?;
    let kubelet_client = Client::new(of_node(10250).parse()?, kubelet_job.path).with_tls(tls)?;
    let clients = [kubelet_client, Client::new(agent.address(), agent_job.path)];
    for turn in [Turn::Agent, Turn::Dashboards] {
        put_in_force(&cluster, turn.profile())?;
        println!(
            "\n| a scrape of the containers, {} | kubelet | agent | agent / kubelet |\n|---|---|---|---|",
            turn.profile()
        );
        let own = per_scrape(agent_pod, turn);
        row("processor time", "ms", more, own);
        let caused = per_scrape(kubelet, turn) - idle;
        println!("| of the kubelet, more than with nobody | | {caused:.2} ms | |");
        println!(
            "| of the kubelet, by the price of a list of pods, of {list:.2} ms | | {by_price:.2} ms | |"
        );
        row("both together, by the price of the list", "ms", more, own + by_price);
        let [theirs, ours] = machine.plane.netns.inside(|| ask_in_turn(&clients))??;
        row("latency at a client, median", "ms", theirs.0, ours.0);
        row("answer, packed", "kB", theirs.1, ours.1);
        rows([name(Turn::Kubelet), name(turn)])?;
        let memory = memory[usize::from(turn == Turn::Dashboards)];
        row("resident memory", "MB", megabytes(resident(kubelet.pid)?), megabytes(memory));
        let (files, floor) = floor::of_open_files(agent_process, PASSES, |file| turn.reads(file))?;
        let floor = floor.as_secs_f64() * 1e3;
        println!("| floor: {files} files; agent / floor | | {floor:.2} ms | {:.2} |", own / floor);
    }
    println!("\na summary of the kubelet, once a minute while its families are on: {summary:.2} ms");

    println!(
        "\n| a scrape of {} | node_exporter | agent | agent / node_exporter |\n|---|---|---|---|",
        SIX.join(", ")
    );
    row("processor time", "ms", over_all(node_exporter), over_all(six));
    rows(["node-exporter", "agent-of-six"])?;
    row("resident memory", "MB", megabytes(resident(node_exporter.pid)?), megabytes(resident(six.pid)?));
    Ok(())
}

/// The name of the job in Prometheus.
fn name(turn: Turn) -> &'static str {
    match turn {
        Turn::Nobody => "nobody",
        Turn::Kubelet => "kubelet",
        Turn::Agent => "agent",
        Turn::Dashboards => "agent-dashboards",
    }
}

/// Puts a policy with this profile in force, without what only the kubelet's summary tells, which has a price of its own.
fn put_in_force(cluster: &Cluster, profile: &str) -> Result<()> {
    let policy = json!({
        "apiVersion": "exporter-operator.dev/v1alpha1",
        "kind": "ExporterPolicy",
        "metadata": {"name": "measured"},
        "spec": {
            "collectors": [{"name": "container_storage", "enabled": false}],
            "metrics": {"profile": profile},
        },
    });
    cluster.kubectl.apply(&policy.to_string())?;
    wait_for(&format!("the profile {profile} to be in force"), PATIENCE, || {
        let found = cluster.kubectl.get(&[product::POLICIES, "measured"])?;
        let conditions = found["status"]["conditions"].as_array().into_iter().flatten();
        let mut programmed = conditions.filter(|it| it["type"] == "Programmed");
        let generation = &found["metadata"]["generation"];
        let is_it = programmed.any(|it| it["status"] == "True" && it["observedGeneration"] == *generation);
        Ok(is_it.then_some(()))
    })
}

/// Lets time pass, which an interrupt ends.
fn pass(what: &str, time: Duration) -> Result<()> {
    let start = Instant::now();
    wait_for(what, time * 2, || Ok((start.elapsed() >= time).then_some(())))
}

/// Asks each in turn after one answer to warm up: the median of how long they took, in milliseconds, and how long they
/// are, in kilobytes.
fn ask_in_turn(clients: &[Client; 2]) -> Result<[(f64, f64); 2]> {
    let mut answers = [Vec::new(), Vec::new()];
    for _ in 0..=ASKED {
        // Not at once, which would find all in the processor's caches.
        sleep(PAUSE);
        for (client, answers) in clients.iter().zip(&mut answers) {
            answers.push(client.ask()?);
        }
    }
    Ok(answers.map(|mut answers| {
        answers.remove(0);
        answers.sort_by_key(|it| it.took);
        let median = answers[answers.len() / 2];
        (median.took.as_secs_f64() * 1e3, median.bytes as f64 / 1e3)
    }))
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

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
