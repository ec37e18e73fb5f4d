//! What the policies mean here: which collectors run with which options, and who sees which family.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::LazyLock;

use protocol::{
    AddedLabels, Effective, Facts, FamilySelector, MetricSelection, Policy, PolicyContent, Profile, Subject,
    effective,
};

use crate::collector::{COLLECTORS, Collector, Options, Run};

/// The families that one kind of subject exposes, and the labels that are added to them.
#[derive(Debug)]
pub struct View {
    /// By the family's place in [`Families`].
    pub exposes: Vec<bool>,
    /// The same for families whose names are read.
    pub selector: FamilySelector,
    /// Labels that are added.
    pub labels: AddedLabels,
}

/// One collector that runs.
#[derive(Debug)]
pub struct PlannedCollector {
    /// Its place in the list of collectors.
    pub index: usize,
    /// Its options, checked.
    pub options: Options,
}

/// Everything that a set of policies means on this node.
#[derive(Debug)]
pub struct Plan {
    policies: Vec<Policy>,
    facts: Facts,
    /// The collectors that run.
    pub collectors: Vec<PlannedCollector>,
    views: Vec<View>,
    view_of: HashMap<Vec<String>, usize>,
}

/// The view of what is not a pod's: the machine, the root, the slices.
pub const NODE_VIEW: usize = 0;

impl Plan {
    /// The plan of these policies, which are in order of precedence; flags overrule them.
    pub fn new(policies: Vec<Policy>, facts: Facts, flags: &Overlay) -> Self {
        let node = effective(&policies, &facts, Subject::Node);
        let collectors =
            COLLECTORS.iter().enumerate().filter_map(|(i, c)| planned(i, c, &node, flags)).collect();
        let views = vec![view(&node)];
        Plan { policies, facts, collectors, views, view_of: HashMap::new() }
    }

    /// The plan of an agent that waits for its first snapshot: the machine only, so that nothing of a pod is exposed
    /// before its policy is known.
    pub fn waiting(flags: &Overlay) -> Self {
        let mut plan = Plan::new(Vec::new(), Facts::default(), flags);
        plan.collectors.retain(|c| matches!(COLLECTORS[c.index].run, Run::Node { .. }));
        plan
    }

    /// The plan of an agent that has waited for long enough: of containers only what alerts need.
    pub fn minimal(flags: &Overlay) -> Self {
        let metrics = MetricSelection { profile: Some(Profile::Minimal), ..MetricSelection::default() };
        let content = PolicyContent { metrics, ..PolicyContent::default() };
        Plan::new(vec![Policy::new("default-after", 0, content)], Facts::default(), flags)
    }

    /// The view of a pod; pods of which the same policies speak share one.
    pub fn view_of_pod(&mut self, namespace: &str, labels: &BTreeMap<String, String>) -> usize {
        let effective = effective(&self.policies, &self.facts, Subject::Pod { namespace, labels });
        if let Some(view) = self.view_of.get(&effective.policies) {
            return *view;
        }
        self.views.push(view(&effective));
        let index = self.views.len() - 1;
        self.view_of.insert(effective.policies, index);
        index
    }

    /// What only the API server knows.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// A view by its number.
    pub fn view(&self, index: usize) -> &View {
        &self.views[index]
    }
}

/// What flags say about collectors.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overlay {
    /// `--collector.disable-defaults`
    pub disable_defaults: bool,
    /// `--collector.NAME` and `--no-collector.NAME`
    pub enabled: BTreeMap<String, bool>,
    /// `--collector.NAME.OPTION`
    pub options: BTreeMap<String, BTreeMap<String, String>>,
}

/// Every declared family of every collector, numbered in the order of the list.
#[derive(Debug)]
pub struct Families;

impl Families {
    /// How many there are.
    pub fn count() -> usize {
        Self::of(COLLECTORS.len() - 1).end
    }

    /// The number of the family of this name.
    pub fn find(name: &str) -> Option<usize> {
        static NUMBERS: LazyLock<HashMap<&str, usize>> = LazyLock::new(|| {
            COLLECTORS.iter().flat_map(|c| c.families).enumerate().map(|(i, f)| (f.name, i)).collect()
        });
        NUMBERS.get(name).copied()
    }

    /// The numbers of a collector's families.
    pub fn of(collector: usize) -> Range<usize> {
        static ALL: LazyLock<Vec<Range<usize>>> = LazyLock::new(|| {
            let ends = COLLECTORS.iter().scan(0, |end, c| {
                *end += c.families.len();
                Some(*end - c.families.len()..*end)
            });
            ends.collect()
        });
        ALL[collector].clone()
    }
}

fn planned(
    index: usize,
    collector: &Collector,
    node: &Effective,
    flags: &Overlay,
) -> Option<PlannedCollector> {
    let policy = node.collectors.get(collector.name);
    let enabled = flags
        .enabled
        .get(collector.name)
        .copied()
        .or_else(|| policy.and_then(|p| p.enabled))
        .unwrap_or(collector.enabled_by_default && !flags.disable_defaults);
    let of_policy = policy.into_iter().flat_map(|p| &p.options);
    let of_flags = flags.options.get(collector.name).into_iter().flatten();
    let known = |key: &str| collector.options.iter().any(|o| o.key == key);
    let options = of_policy.chain(of_flags).filter(|(key, _)| known(key));
    let options = Options(options.map(|(key, value)| (key.clone(), value.clone())).collect());
    enabled.then_some(PlannedCollector { index, options })
}

fn view(effective: &Effective) -> View {
    let selector = FamilySelector::new(&effective.families);
    let exposes = COLLECTORS.iter().flat_map(|c| c.families).map(|f| selector.exposes(f.name)).collect();
    View { exposes, selector, labels: effective.labels.clone() }
}
