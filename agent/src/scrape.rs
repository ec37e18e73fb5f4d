//! One scrape: collect → transform → expose.

mod blocking;
mod crew;
mod part;
mod runner;
mod selection;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use jiff::Timestamp;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use tokio::sync::Notify;

use crate::collector::{self, COLLECTORS, Cgroups, CollectError, Options, Run};
use crate::expose::text::{self, Format, Sink};
use crate::metric::{Samples, families};
use crate::oom_kills::OomKills;
use crate::plan::{Families, NODE_VIEW, Plan, PlannedCollector};
use crate::pods::PodIndex;
use crate::process_groups::Whose;
use crate::source::Paths;
use crate::source::cgroup::CgroupTree;
use crate::source::file::HandleBudget;
use crate::source::kubelet::{Pod, StatsSummary};
use crate::source::links::LinkedContainer;
use crate::source::network::Networks;
use crate::source::recent::Recent;
use crate::storage::{Demand, Storage};
use crate::telemetry::Telemetry;
use crate::transform::Rows;
use blocking::Blocking;
use crew::Crew;
pub use part::Part;
use runner::{Runner, caught};
pub use selection::{Selection, SelectionError};

families! {
    Duration Gauge "node_scrape_collector_duration_seconds" "Duration of a collector scrape.";
    Success Gauge "node_scrape_collector_success" "Whether a collector succeeded.";
}

/// What the node is measured with: the plan, the handles that it needs, and the buffers of one scrape.
pub struct Scraper {
    paths: Paths,
    sandbox_image: String,
    telemetry: Arc<Telemetry>,
    plan: Plan,
    plan_number: u64,
    running: Vec<Running>,
    tree: CgroupTree,
    /// Why there is no tree, and where it should be.
    tree_error: Option<(PathBuf, Errno)>,
    networks: Networks,
    pods: PodIndex,
    oom_kills: OomKills,
    storage: Storage,
    rows: Rows,
    samples: Samples,
    buffer: Vec<u8>,
    wanted: Vec<bool>,
    crew: Crew,
    changed: Arc<Notify>,
    planned: Arc<Notify>,
}

struct Running {
    index: usize,
    options: Options,
    collector: Runner,
    /// That it found nothing of what it reads, for which it looks once a minute.
    absence: Recent,
    /// Whether it is left out of this scrape, since it found nothing not long ago.
    is_absent: bool,
    /// How many seconds it took this time, and whether it did all of its work; nothing where it was not asked.
    took: Option<(f64, bool)>,
}

impl Scraper {
    /// Acts on a scraper that tasks share. It may be busy for as long as a scrape takes, so it is waited for where waiting
    /// holds up nothing else.
    pub fn locked<T>(shared: &Mutex<Self>, act: impl FnOnce(&mut Self) -> T) -> T {
        tokio::task::block_in_place(|| act(&mut shared.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Ready to scrape with this plan.
    pub fn new(
        paths: Paths,
        sandbox_image: String,
        budget: usize,
        plan: Plan,
        telemetry: Arc<Telemetry>,
    ) -> Self {
        // A pod's cgroups have about eight handles each, and its interface, which is the machine's too, about twenty.
        let paths = Paths { handles: Arc::new(HandleBudget::new(budget / 2)), ..paths };
        let budget = budget - budget / 2;
        let networks = Networks::new(&paths, HandleBudget::new(budget / 8));
        let tree = CgroupTree::new(&paths, HandleBudget::new(budget - budget / 8));
        let mut scraper = Scraper {
            paths,
            sandbox_image,
            telemetry,
            plan: Plan::waiting(&Default::default()),
            plan_number: 0,
            running: Vec::new(),
            tree,
            tree_error: None,
            networks,
            pods: PodIndex::default(),
            oom_kills: OomKills::new(Timestamp::now()),
            storage: Storage::default(),
            rows: Rows::default(),
            samples: Samples::new(Families::count() + FAMILIES.len()),
            buffer: Vec::new(),
            wanted: Vec::new(),
            crew: Crew::new(),
            changed: Arc::default(),
            planned: Arc::default(),
        };
        scraper.set_plan(plan);
        scraper
    }

    /// Puts another plan in force; collectors that go on with the same options keep their handles.
    pub fn set_plan(&mut self, plan: Plan) {
        let mut before = std::mem::take(&mut self.running);
        let mut same = |planned: &PlannedCollector| {
            let at = before.iter().position(|r| r.index == planned.index && r.options == planned.options)?;
            Some(before.swap_remove(at))
        };
        let kept: Vec<_> = plan.collectors.iter().map(&mut same).collect();
        // Before others start, who must know which threads they leave behind.
        for stopped in before {
            self.telemetry.forget_collector(COLLECTORS[stopped.index].name);
        }
        for (planned, kept) in plan.collectors.iter().zip(kept) {
            // Other families may be wanted now, of which there is something.
            let kept = kept.map(|running| Running { absence: Recent::default(), ..running });
            let running = kept.unwrap_or_else(|| Running {
                index: planned.index,
                options: planned.options.clone(),
                collector: self.start(planned.index, &planned.options),
                absence: Recent::default(),
                is_absent: false,
                took: None,
            });
            self.running.push(running);
        }
        self.samples.select(plan.view(NODE_VIEW).selector.clone());
        self.plan = plan;
        self.plan_number += 1;
        self.planned.notify_one();
    }

    /// Takes up the kubelet's list of pods.
    pub fn set_pods(&mut self, pods: Vec<Pod>) {
        self.pods.set_pods(pods, &self.tree);
    }

    /// Takes up what the log links say.
    pub fn set_links(&mut self, links: Vec<LinkedContainer>) {
        self.pods.set_links(links);
    }

    /// Told of whenever another plan is in force.
    pub fn planned(&self) -> Arc<Notify> {
        self.planned.clone()
    }

    /// Lets collectors look at what only shows between two scrapes; answers whether any wants to.
    pub fn sample(&mut self) -> bool {
        let node = &self.plan.facts().node;
        self.tree.begin(Instant::now());
        let mut cgroups = Cgroups::new(&mut self.tree, &mut self.networks, node, &mut self.buffer);
        let mut is_wanted = false;
        for running in &mut self.running {
            if let Runner::Cgroups(collector) = &mut running.collector {
                let sample = || {
                    is_wanted |= collector.sample(&mut cgroups);
                    Ok(())
                };
                if let Err(error) = caught(sample) {
                    self.telemetry.collector_failed(COLLECTORS[running.index].name, &error);
                }
            }
        }
        is_wanted
    }

    /// Told of whenever a cgroup came or went.
    pub fn changed(&self) -> Arc<Notify> {
        self.changed.clone()
    }

    /// A handle that becomes readable when a cgroup comes or goes, as long as [`Self::is_watched`].
    pub fn changes(&self) -> Option<OwnedFd> {
        self.tree.changes()
    }

    /// Whether the kernel tells of new cgroups.
    pub fn is_watched(&self) -> bool {
        self.tree.is_watched()
    }

    /// Takes up what the kubelet says of storage.
    pub fn set_stats(&mut self, summary: StatsSummary, came: Instant) {
        self.storage.set(summary, came);
    }

    /// Raised whenever somebody scrapes what the kubelet is asked about storage for.
    pub fn storage_demand(&self) -> Arc<Demand> {
        self.storage.demand().clone()
    }

    /// Changes whenever a cgroup came or went.
    pub fn generation(&self) -> u64 {
        self.tree.generation()
    }

    /// Takes up new and ended cgroups; returns how many nobody has told of.
    pub fn refresh(&mut self) -> usize {
        let before = self.tree.generation();
        self.tree_error = self.tree.refresh().err().map(|source| (self.tree.folder(), source));
        self.rows.update(&self.tree, &self.pods, &mut self.plan, self.plan_number, &self.sandbox_image);
        // A handle keeps its network namespace alive, so none is kept that nobody reads.
        match self.is_network_wanted() {
            true => self.networks.set(self.rows.networks()),
            false => self.networks.set(&HashMap::new()),
        }
        self.telemetry.set_tree(&self.tree, &self.networks, self.rows.withheld());
        if self.tree.generation() != before {
            self.changed.notify_one();
        }
        self.rows.withheld()
    }

    /// Measures, and writes the exposition.
    pub fn scrape(&mut self, part: Part, format: Format, out: &mut impl Sink) {
        self.gather(part);
        self.telemetry.scraped(part.word(), self.samples.len());
        self.write(part, format, out);
    }

    /// The same of the collectors that are selected.
    ///
    /// # Errors
    /// Where one is selected by name that does not run; nothing is measured.
    pub fn scrape_selected(
        &mut self,
        part: Part,
        selection: Selection,
        format: Format,
        out: &mut impl Sink,
    ) -> Result<(), SelectionError> {
        if selection == Selection::ALL {
            self.scrape(part, format, out);
            return Ok(());
        }
        selection.check(|index| self.running.iter().any(|r| r.index == index))?;
        self.gather_selected(part, selection);
        self.write(part, format, out);
        Ok(())
    }

    fn write(&self, part: Part, format: Format, out: &mut impl Sink) {
        self.expose(format, out);
        if part.has_node() {
            text::own(out.text(), format, &self.telemetry.gather_build());
        }
        if part.has_node() || part.has_agent() {
            text::own(out.text(), format, &self.telemetry.gather_exporter());
        }
        if part.has_agent() {
            text::own(out.text(), format, &self.telemetry.gather());
        }
        text::end(out.text(), format);
    }

    /// Collects, and brings the rows up to date.
    pub fn gather(&mut self, part: Part) {
        self.gather_selected(part, Selection::ALL);
    }

    fn gather_selected(&mut self, part: Part, selection: Selection) {
        self.samples.clear();
        if self.running.iter().any(|r| r.collector.is_of_pods() && r.collector.is_of(part)) {
            self.refresh();
        }
        // Those that can block begin at once, on other threads, and are waited for when the others are done.
        let asked_at = Instant::now();
        self.tree.begin(asked_at);
        self.crew.begin();
        for i in 0..self.running.len() {
            self.running[i].took = None;
            self.running[i].is_absent = self.running[i].absence.holds(asked_at);
            if self.is_asked(i, part, selection) {
                self.ask(i);
            }
        }
        self.crew.send();
        for can_block in [false, true] {
            if can_block {
                self.crew.wait(self.paths.timeout.saturating_sub(asked_at.elapsed()));
            }
            for i in 0..self.running.len() {
                let is_blocking = matches!(self.running[i].collector, Runner::Blocking(_));
                if is_blocking == can_block && self.is_asked(i, part, selection) {
                    self.collect(i);
                }
            }
        }
        let mut own = self.samples.writer(Families::count(), &[true; FAMILIES.len()]);
        for Running { index, took, .. } in &self.running {
            let Some((seconds, is_success)) = *took else { continue };
            let labels = own.labels(&[("collector", COLLECTORS[*index].name)]);
            own.node(F::Duration, labels, seconds);
            own.node(F::Success, labels, f64::from(is_success));
        }
        self.count_stuck_threads();
    }

    fn is_asked(&self, i: usize, part: Part, selection: Selection) -> bool {
        let Running { index, collector, .. } = &self.running[i];
        collector.is_of(part) && selection.has(*index)
    }

    /// Writes what was gathered.
    pub fn expose(&self, format: Format, out: &mut impl Sink) {
        let own = Families::count()..Families::count() + FAMILIES.len();
        text::families(out, format, &self.samples, &self.rows, &self.plan, own, FAMILIES);
    }

    fn is_network_wanted(&self) -> bool {
        let network = |r: &&Running| COLLECTORS[r.index].name == collector::CONTAINER_NETWORK;
        let is_wanted = |r: &Running| Families::of(r.index).any(|family| self.rows.wants(&self.plan, family));
        self.running.iter().find(network).is_some_and(is_wanted)
    }

    /// The samples of the last scrape.
    pub fn samples(&self) -> &Samples {
        &self.samples
    }

    /// Every file that is kept for the container families, and whether each scrape reads it, for measuring what reading
    /// alone costs.
    pub fn files(&self) -> Vec<(PathBuf, bool)> {
        self.tree.open_files().chain(self.networks.open_files().map(|file| (file, true))).collect()
    }

    /// Lets a collector begin that can block; one that is lost is made anew.
    fn ask(&mut self, i: usize) {
        if self.running[i].is_absent {
            return;
        }
        if matches!(&self.running[i].collector, Runner::Blocking(collector) if collector.is_lost()) {
            self.running[i].collector = self.start(self.running[i].index, &self.running[i].options);
        }
        if matches!(self.running[i].collector, Runner::Blocking(_)) && self.is_wanted(i) {
            let Runner::Blocking(collector) = &mut self.running[i].collector else { return };
            collector.ask(&self.crew, &self.wanted);
        }
    }

    /// Which families of a collector anybody sees, into `wanted`; tells whether there are any.
    fn is_wanted(&mut self, i: usize) -> bool {
        let Running { index, collector, .. } = &self.running[i];
        self.wanted.clear();
        for family in Families::of(*index) {
            self.wanted.push(match collector.has_rows() {
                true => self.rows.wants(&self.plan, family),
                false => self.plan.view(NODE_VIEW).exposes[family],
            });
        }
        self.wanted.contains(&true) || !COLLECTORS[*index].named.is_empty()
    }

    fn collect(&mut self, i: usize) {
        if self.running[i].is_absent {
            self.running[i].took = Some((0.0, false));
            return;
        }
        let started = Instant::now();
        let is_wanted = self.is_wanted(i);
        if is_wanted && matches!(self.running[i].collector, Runner::Storage { .. }) {
            self.storage.demand().raise();
            self.storage.update(&self.tree, &self.pods, Instant::now());
        }
        if is_wanted && matches!(self.running[i].collector, Runner::OomKills(_)) {
            let (family, number) = (Families::of(self.running[i].index).start, self.plan_number);
            self.oom_kills.update(&self.tree, &self.pods, &mut self.plan, number, family);
            self.oom_kills.read(&mut self.tree, &mut self.buffer);
        }
        let Running { index, collector, .. } = &mut self.running[i];
        let (description, base) = (COLLECTORS[*index], Families::of(*index).start);
        if let (Runner::Cgroups(_), Some((path, source))) = (&*collector, &self.tree_error) {
            let error = CollectError::Read { path: path.clone(), source: *source };
            self.telemetry.collector_failed(description.name, &error);
            self.telemetry.collected(description.name, 0.0, false);
            return;
        }
        let (samples, wanted, buffer) = (&mut self.samples, &self.wanted, &mut self.buffer);
        let mut seconds = None;
        let result = match collector {
            _ if !is_wanted => Ok(()),
            Runner::Node(collector) => caught(|| collector.collect(&mut samples.writer(base, wanted))),
            Runner::Blocking(collector) => {
                let (result, took) = collector.answer(self.paths.timeout);
                seconds = Some(took.as_secs_f64());
                let appended = samples.append(collector.last(), base, wanted).map_err(|family| {
                    let what = format!("another collector has it as a {}", family.kind.word());
                    CollectError::parse(&family.name, what)
                });
                result.and(appended)
            }
            Runner::Cgroups(collector) => {
                let mut cgroups =
                    Cgroups::new(&mut self.tree, &mut self.networks, &self.plan.facts().node, buffer);
                caught(|| collector.collect(&mut cgroups, &mut samples.writer(base, wanted)))
            }
            Runner::Processes(collector) => {
                let (tree, pods, plan_number) = (&self.tree, &self.pods, self.plan_number);
                let mut whose = Whose { tree, pods, plan: &mut self.plan, plan_number };
                let result =
                    caught(|| collector.collect(&mut whose, base, &mut samples.writer(base, wanted)));
                self.telemetry.set_processes(collector.counts());
                result
            }
            Runner::OomKills(collect) => caught(|| {
                collect(&mut self.oom_kills, &mut samples.writer(base, wanted));
                Ok(())
            }),
            Runner::Storage { collect, .. } => caught(|| {
                collect(&self.storage, &mut samples.writer(base, wanted));
                Ok(())
            }),
        };
        let seconds = seconds.unwrap_or_else(|| started.elapsed().as_secs_f64());
        match &result {
            Ok(()) => self.telemetry.collector_recovered(description.name),
            Err(error) => self.telemetry.collector_failed(description.name, error),
        }
        match collector {
            collector if collector.is_of_pods() => {
                self.telemetry.collected(description.name, seconds, result.is_ok());
            }
            _ => {
                let has_nothing = description.named.is_empty()
                    && Families::of(self.running[i].index)
                        .all(|family| self.samples.family(family).is_empty());
                let is_absent = has_nothing && matches!(result, Err(CollectError::Absent(_)));
                self.running[i].absence.set(is_absent, started);
                self.running[i].took = Some((seconds, result.is_ok()));
            }
        }
    }

    fn count_stuck_threads(&self) {
        for (index, collector) in COLLECTORS.iter().enumerate() {
            if !matches!(collector.run, Run::Node { can_block: true, .. }) {
                continue;
            }
            let running = self.running.iter().find_map(|running| match &running.collector {
                Runner::Blocking(collector) if running.index == index => {
                    Some(usize::from(collector.is_stuck()))
                }
                _ => None,
            });
            let left_behind = self.paths.stuck.count(collector.name);
            let threads = running.or((left_behind > 0).then_some(0)).map(|own| own + left_behind);
            self.telemetry.set_stuck_threads(collector.name, threads);
        }
    }

    fn start(&self, index: usize, options: &Options) -> Runner {
        let collector = COLLECTORS[index];
        match collector.run {
            Run::Cgroups { start } => Runner::Cgroups(start(&self.paths, options)),
            Run::OomKills { collect } => Runner::OomKills(collect),
            Run::Processes { start, .. } => Runner::Processes(start(&self.paths, options)),
            Run::Storage { part, collect } => Runner::Storage { part, collect },
            Run::Node { start, can_block: false } => Runner::Node(start(&self.paths, options)),
            Run::Node { start, can_block: true } => {
                // One that ran with other options still waits, and another would wait beside it.
                let is_stuck = self.paths.stuck.has(collector.name);
                let ready = (!is_stuck).then(|| start(&self.paths, options));
                Runner::Blocking(Box::new(Blocking::new(ready, collector, self.paths.stuck.clone())))
            }
        }
    }
}

#[cfg(test)]
mod tests;
