//! The demonstration with root: cluster, product, pods, a policy, an edit of it, and the table that shows it all.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use e2e::cluster::Cluster;
use e2e::exposition::Exposition;
use e2e::interrupt;
use e2e::product::{self, Agent, POLICIES};
use e2e::programs::{self, AGENT, OPERATOR};
use e2e::progress::Step;
use e2e::wait::wait_for_every;
use serde_json::{Value, json};

use crate::screen::{Screen, Style};
use crate::table::{Table, added_labels, count, expendable_family};

/// The namespace of the sample pods for which the first sample policy is.
const NAMESPACE: &str = "shop";
/// What the edit adds.
const ADDED_LABEL: &str = "app.kubernetes.io/component";
const ADDED_NAME: &str = "label_app_kubernetes_io_component";

const FRAME: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(30);

/// Brings up a cluster with nothing on it, and waits for Ctrl-C.
pub(crate) fn bare(nodes: u8) -> Result<()> {
    interrupt::watch()?;
    let cluster = Cluster::own(nodes)?;
    println!(
        "Ctrl-C cleans up; from another terminal:\n  {} get nodes",
        cluster.machine()?.plane.script.display()
    );
    wait_for_every(FRAME / 20, "Ctrl-C", Duration::MAX, || Ok(None))
}

/// Runs it until Ctrl-C, or to its end.
pub(crate) fn run(nodes: u8, once: bool) -> Result<()> {
    interrupt::watch()?;
    // First, so that no cluster stands idle while cargo works.
    println!("building the operator and the agent");
    programs::build(&[OPERATOR, AGENT])?;
    // Never the cluster of KUBECONFIG: a demonstration has no business there.
    let cluster = Cluster::own(nodes)?;
    let result = show(&cluster, once);
    if interrupt::interrupted() {
        println!("\ncleaning up");
    }
    result
}

fn show(cluster: &Cluster, once: bool) -> Result<()> {
    cluster.load(&[OPERATOR, AGENT])?;
    let step = Step::start("installing the operator and the agent");
    product::apply(cluster)?;
    step.done();
    let step = Step::start("starting sample pods");
    product::start_sample_pods(cluster)?;
    step.done();

    let mut live = Live::start(cluster)?;
    live.frames(2)?;
    let policy = live.apply_sample()?;
    live.frames(if once { 2 } else { 6 })?;
    live.edit(&policy)?;
    live.invite(&policy)?;
    live.frames(if once { 2 } else { usize::MAX })
}

/// The live view of one agent.
struct Live<'a> {
    cluster: &'a Cluster,
    agent: Agent,
    screen: Screen,
    /// Labels that were there when the last change was announced; newer ones are highlighted.
    known: Vec<String>,
    before: (Instant, Exposition),
}

impl<'a> Live<'a> {
    fn start(cluster: &'a Cluster) -> Result<Self> {
        let agent = Agent::first(cluster)?;
        // Containers that have just started may still be without a name.
        let first = wait_for_every(FRAME / 5, "containers in what the agent exposes", PATIENCE, || {
            let exposition = agent.scrape(cluster, "/metrics")?;
            Ok((count(&exposition, "container_cpu_usage_seconds_total", NAMESPACE) > 0).then_some(exposition))
        })?;
        let known = added_labels(&first).into_iter().collect();
        let mut live = Self { cluster, agent, screen: Screen::new(), known, before: (Instant::now(), first) };
        live.say(&format!("what the agent of {} exposes, each second:", live.agent.node));
        Ok(live)
    }

    /// Draws so many pictures, one each second; off a terminal only the last of them, or now and then one.
    fn frames(&mut self, frames: usize) -> Result<()> {
        const SELDOM: usize = 30;
        for frame in 1..=frames {
            self.pause()?;
            let lines = match self.frame() {
                Ok(lines) => lines,
                // Whoever plays with the cluster may well restart the agent.
                Err(error) if frames == usize::MAX => {
                    if let Some(agent) =
                        Agent::all(self.cluster).ok().and_then(|agents| agents.into_iter().next())
                    {
                        self.agent = agent;
                    }
                    vec![format!("no answer from the agent of {}: {error:#}", self.agent.node)]
                }
                Err(error) => return Err(error),
            };
            if self.screen.is_terminal() || frame == frames || frame % SELDOM == 0 {
                self.screen.draw(&lines);
            }
        }
        Ok(())
    }

    /// Scrapes, and makes a picture of the difference from the scrape before.
    fn frame(&mut self) -> Result<Vec<String>> {
        let response = self.agent.get(self.cluster, "/metrics", &[])?;
        let now = (Instant::now(), Exposition::parse(response.text()?)?);
        let table = Table::of(&self.before.1, &now.1, now.0 - self.before.0);
        let mut lines = self.picture(&table);
        let (series, size) = (now.1.samples().len(), response.body.len() / 1000);
        let milliseconds = response.took.as_secs_f64() * 1000.0;
        let summary = format!("{series} series, {size} kB, scraped in {milliseconds:.1} ms");
        lines.push(self.screen.styled(Style::Dim, &summary));
        self.before = now;
        Ok(lines)
    }

    /// Applies the first sample policy and returns its name.
    fn apply_sample(&mut self) -> Result<String> {
        let file = product::sample_policies()?.into_iter().next().context("there is no sample policy")?;
        let text =
            std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let file = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let start = Instant::now();
        let said = self.cluster.kubectl.apply(&text)?;
        let took = self.until(&format!("the labels that {file} asks for"), start, |exposition, known| {
            added_labels(exposition).iter().any(|label| !known.contains(label))
        })?;
        self.say(&format!("applied crds/samples/{file}: its labels were exposed {took}"));
        // kubectl says KIND.GROUP/NAME created.
        let name = said.split_whitespace().next().and_then(|object| object.split('/').next_back());
        name.map(str::to_owned).context("kubectl does not say what it applied")
    }

    /// Adds a label to the policy and takes a family away.
    fn edit(&mut self, policy: &str) -> Result<()> {
        let spec = self.cluster.kubectl.get(&[POLICIES, policy])?["spec"].take();
        let family = expendable_family(&self.before.1, NAMESPACE).context("no family to take away")?;
        let with = |list: &Value, item: &str| {
            let mut list = list.as_array().cloned().unwrap_or_default();
            list.push(item.into());
            Value::from(list)
        };
        let patch = json!({"spec": {
            "labels": {"podLabels": with(&spec["labels"]["podLabels"], ADDED_LABEL)},
            "metrics": {"exclude": with(&spec["metrics"]["exclude"], &family)},
        }});
        let had = count(&self.before.1, &family, NAMESPACE);
        self.known = added_labels(&self.before.1).into_iter().collect();
        let start = Instant::now();
        self.cluster.kubectl.run(&["patch", POLICIES, policy, "--type=merge", "-p", &patch.to_string()])?;
        let took = self.until("the edit of the policy to show", start, |exposition, _| {
            added_labels(exposition).contains(ADDED_NAME) && count(exposition, &family, NAMESPACE) == 0
        })?;
        self.say(&format!(
            "edited {policy}: + podLabels {ADDED_LABEL}, - family {family} ({had} series): exposed {took}"
        ));
        Ok(())
    }

    /// Says how to go on by hand.
    fn invite(&mut self, policy: &str) -> Result<()> {
        let kubectl = self.cluster.machine()?.plane.script.display().to_string();
        self.say(&format!(
            "\nyour turn, from another terminal; this one shows what changes, Ctrl-C cleans up:\n  \
             {kubectl} edit exporterpolicy {policy}\n  \
             {kubectl} get exporterpolicies,pods -A\n  \
             {kubectl} get --raw /api/v1/namespaces/{}/pods/{}:{}/proxy/metrics\n",
            product::NAMESPACE,
            self.agent.pod,
            product::AGENT_PORT,
        ));
        Ok(())
    }

    /// Scrapes until something shows, and says after how long.
    fn until(
        &self,
        what: &str,
        start: Instant,
        shows: impl Fn(&Exposition, &[String]) -> bool,
    ) -> Result<String> {
        let returned = start.elapsed();
        wait_for_every(Duration::from_millis(10), what, PATIENCE, || {
            Ok(shows(&self.agent.scrape(self.cluster, "/metrics")?, &self.known).then_some(()))
        })?;
        let whole = start.elapsed();
        let after = (whole - returned).as_secs_f64();
        Ok(format!("{:.2} s after kubectl began, {after:.2} s after it ended", whole.as_secs_f64()))
    }

    fn picture(&self, table: &Table) -> Vec<String> {
        let widths = table.widths();
        let line = |cells: &[String], head: bool| {
            let cells = cells.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
                let text = if (3..5).contains(&column) {
                    format!("{cell:>width$}")
                } else {
                    format!("{cell:<width$}")
                };
                let new = column >= 5 && !self.known.contains(&table.head[column]);
                match (head, new) {
                    (_, true) => self.screen.styled(Style::Green, &text),
                    (true, false) => self.screen.styled(Style::Bold, &text),
                    (false, false) => text,
                }
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        let mut lines = vec![String::new(), line(&table.head, true)];
        lines.extend(table.rows.iter().map(|row| line(row, false)));
        lines.push(String::new());
        lines
    }

    fn say(&mut self, line: &str) {
        let line = self.screen.styled(Style::Bold, line);
        self.screen.say(&line);
    }

    /// A second, or less when a signal comes.
    fn pause(&self) -> Result<()> {
        let start = Instant::now();
        while start.elapsed() < FRAME {
            interrupt::check()?;
            std::thread::sleep(FRAME / 20);
        }
        Ok(())
    }
}
