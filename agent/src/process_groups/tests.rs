//! Processes that come, go, change their names and have others' numbers, in and out of pods.

mod folded;
mod large;
mod threads;
mod whose;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use protocol::{CollectorSetting, Facts, MetricSelection, Policy, PolicyContent};

use crate::expose::text::Format;
use crate::metric::shown::Tree;
use crate::plan::Plan;
use crate::scrape::{Part, Scraper};
use crate::source::Paths;
use crate::source::kubelet::{Pod, PodContainer};
use crate::telemetry::Telemetry;

/// A machine whose processes are files, and an agent that reads them.
struct Machine {
    tree: Tree,
    scraper: Scraper,
}

type Told<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)]);

/// What is set of a process.
#[derive(Clone, Copy)]
struct Is<'a> {
    comm: &'a str,
    cmdline: &'a str,
    parent: u32,
    start: u64,
    cpu: u64,
    pages: u64,
    cgroup: &'a str,
}

const IS: Is<'_> =
    Is { comm: "web", cmdline: "/bin/web\0-x\0", parent: 1, start: 100, cpu: 0, pages: 1, cgroup: "0::/a\n" };

impl Machine {
    fn new(options: &[(&str, &str)]) -> Self {
        Self::with(options, &[])
    }

    fn with(options: &[(&str, &str)], exclude: &[&str]) -> Self {
        Machine::below(&std::env::temp_dir(), options, exclude)
    }

    fn below(parent: &Path, options: &[(&str, &str)], exclude: &[&str]) -> Self {
        let tree = Tree::below(
            parent,
            &[
                ("sys/fs/cgroup/cgroup.controllers", "cpu\n"),
                ("sys/fs/cgroup/kubepods/x", ""),
                ("proc/stat", "btime 1000\n"),
            ],
        );
        let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let setting = CollectorSetting { name: "process_groups".to_owned(), enabled: Some(true), options };
        let content = PolicyContent {
            collectors: vec![setting],
            metrics: MetricSelection {
                exclude: exclude.iter().map(|pattern| (*pattern).to_owned()).collect(),
                ..MetricSelection::default()
            },
            ..PolicyContent::default()
        };
        let plan = Plan::new(vec![Policy::new("a", 0, content)], Facts::default(), &Default::default());
        let telemetry = Arc::new(Telemetry::new().unwrap());
        let paths = Paths { procfs: tree.path().join("proc"), ..tree.paths() };
        Machine { scraper: Scraper::new(paths, String::new(), 100, plan, telemetry), tree }
    }

    fn set(&self, pid: u32, is: Is<'_>) {
        let Is { comm, cmdline, parent, start, cpu, pages, cgroup } = is;
        let stat = format!(
            "{pid} ({comm}) S {parent} 0 0 0 -1 0 {cpu} 0 0 0 {cpu} 0 0 0 20 0 1 0 {start} 4096 {pages} 0\n"
        );
        let status = "Uid:\t0\t0\t0\t0\nvoluntary_ctxt_switches:\t1\nnonvoluntary_ctxt_switches:\t0\n";
        for (file, text) in
            [("stat", stat.as_str()), ("cmdline", cmdline), ("cgroup", cgroup), ("status", status)]
        {
            self.tree.write(&format!("proc/{pid}/{file}"), text.as_bytes());
        }
    }

    fn end(&self, pid: u32) {
        std::fs::remove_dir_all(self.tree.path().join(format!("proc/{pid}"))).unwrap();
    }

    /// What is exposed of this family, without its labels of pods where these are empty.
    fn values(&mut self, family: &str) -> BTreeMap<String, f64> {
        let text = self.text();
        let lines = text
            .lines()
            .filter_map(|line| line.strip_prefix("namedprocess_namegroup_")?.strip_prefix(family));
        let lines = lines.filter_map(|line| line.strip_prefix('{')?.split_once("} "));
        let nobody = r#"container="",namespace="",pod="","#;
        lines.map(|(labels, value)| (labels.replace(nobody, ""), value.parse().unwrap())).collect()
    }

    fn text(&mut self) -> String {
        let mut out = Vec::new();
        self.scraper.scrape(Part::Processes, Format::Text, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[track_caller]
    fn check(&mut self, family: &str, expected: &[(&str, f64)]) {
        let expected: BTreeMap<_, _> =
            expected.iter().map(|(labels, v)| ((*labels).to_owned(), *v)).collect();
        assert_eq!(self.values(family), expected, "{family}");
    }

    fn cgroup(&self, pod: &str, id: &str) {
        std::fs::create_dir_all(self.tree.path().join(format!("sys/fs/cgroup/kubepods/pod{pod}/{id}")))
            .unwrap();
    }

    /// The kubelet tells of these pods: UID, name, and of each container id and name.
    fn tell(&mut self, pods: &[Told<'_>]) {
        let container = |(id, name): &(&str, &str)| PodContainer {
            id: (*id).to_owned(),
            name: (*name).to_owned(),
            ..PodContainer::default()
        };
        let pod = |(uid, name, containers): &Told<'_>| Pod {
            uid: (*uid).to_owned(),
            namespace: "shop".to_owned(),
            name: (*name).to_owned(),
            containers: containers.iter().map(container).collect(),
            ..Pod::default()
        };
        self.scraper.refresh();
        self.scraper.set_pods(pods.iter().map(pod).collect());
    }
}

const SECONDS: &str = "cpu_seconds_total";
const PROCS: &str = "num_procs";
const WEB: &str = r#"groupname="web""#;
const USER: &str = r#"groupname="web",mode="user""#;
const SYSTEM: &str = r#"groupname="web",mode="system""#;

#[test]
fn a_group_counts_what_its_members_grew_by_and_never_goes_back() {
    let mut machine = Machine::new(&[]);
    machine.set(2, Is { cpu: 500, ..IS });
    machine.check(SECONDS, &[(USER, 0.0), (SYSTEM, 0.0)]);
    machine.set(2, Is { cpu: 700, ..IS });
    machine.set(3, Is { start: 200, cpu: 100, ..IS });
    machine.check(SECONDS, &[(USER, 3.0), (SYSTEM, 0.0)]);
    machine.end(2);
    machine.check(SECONDS, &[(USER, 3.0), (SYSTEM, 0.0)]);
    machine.set(3, Is { start: 200, cpu: 50, ..IS });
    machine.check(SECONDS, &[(USER, 3.0), (SYSTEM, 0.0)]);
    machine.check("oldest_start_time_seconds", &[(WEB, 1002.0)]);
}

#[test]
fn a_process_that_could_not_be_read_once_goes_on_from_what_it_had_counted() {
    let mut machine = Machine::new(&[]);
    machine.set(2, Is { cpu: 500, ..IS });
    machine.set(3, IS);
    machine.text();
    machine.tree.write("proc/2/stat", b"nonsense\n");
    machine.check(SECONDS, &[(USER, 0.0), (SYSTEM, 0.0)]);
    machine.set(2, Is { cpu: 700, ..IS });
    machine.check(SECONDS, &[(USER, 2.0), (SYSTEM, 0.0)]);
}

#[test]
fn a_number_that_is_used_again_is_another_process() {
    let mut machine = Machine::new(&[]);
    machine.set(2, Is { cpu: 500, ..IS });
    machine.check(PROCS, &[(WEB, 1.0)]);
    machine.set(2, Is { comm: "job", start: 300, cpu: 100, ..IS });
    let job = r#"groupname="job""#;
    machine.check(PROCS, &[(job, 1.0)]);
    machine.check(
        SECONDS,
        &[(r#"groupname="job",mode="user""#, 1.0), (r#"groupname="job",mode="system""#, 0.0)],
    );
}

#[test]
fn groups_end_with_their_last_process_unless_they_are_kept() {
    for (keeps, expected) in [("true", &[][..]), ("false", &[(WEB, 0.0)])] {
        let mut machine = Machine::new(&[("removeEmptyGroups", keeps)]);
        machine.set(2, IS);
        machine.check(PROCS, &[(WEB, 1.0)]);
        machine.end(2);
        machine.check(PROCS, expected);
    }
}

#[test]
fn a_program_that_calls_itself_otherwise_changes_its_group() {
    let mut machine = Machine::new(&[]);
    machine.set(2, Is { cpu: 100, ..IS });
    machine.text();
    machine.set(2, Is { comm: "job", cpu: 300, ..IS });
    machine.check(
        SECONDS,
        &[(r#"groupname="job",mode="user""#, 2.0), (r#"groupname="job",mode="system""#, 0.0)],
    );
}

#[test]
fn a_process_without_a_name_is_in_the_group_of_its_parent() {
    let config = ("config", "process_names: [{name: '{{.Comm}}', comm: [web]}]");
    let tool = Is { comm: "tool", start: 300, ..IS };
    for (children, expected) in [("true", 3.0), ("false", 1.0)] {
        let mut machine = Machine::new(&[config, ("children", children)]);
        machine.set(2, IS);
        machine.set(8, Is { parent: 2, ..tool });
        machine.set(5, Is { parent: 8, ..tool });
        machine.set(9, Is { parent: 1, ..tool });
        machine.check(PROCS, &[(WEB, expected)]);
    }
}

#[test]
fn a_ring_of_parents_is_no_end_of_the_search() {
    let mut machine = Machine::new(&[("config", "process_names: [{name: x, comm: [none]}]")]);
    machine.set(2, Is { parent: 3, ..IS });
    machine.set(3, Is { parent: 2, ..IS });
    machine.check(PROCS, &[]);
}

#[test]
fn what_had_no_name_is_looked_at_again_only_where_that_is_asked_for() {
    let config = ("config", "process_names: [{name: x, cmdline: [ready]}]");
    for (option, value, expected) in
        [("recheck", "false", 0), ("recheck", "true", 1), ("recheckTimeLimit", "0", 0)]
    {
        let mut machine = Machine::new(&[config, (option, value)]);
        machine.set(2, IS);
        assert_eq!(machine.values(PROCS).len(), 0);
        machine.set(2, Is { cmdline: "ready\0", ..IS });
        assert_eq!(machine.values(PROCS).len(), expected);
    }
}

#[test]
fn a_process_counts_from_when_it_has_a_name_however_late() {
    let folder = Tree::new(&[("names.yml", "process_names: [{name: web, cmdline: [ready]}]")]);
    let path = folder.path().join("names.yml").display().to_string();
    let mut machine = Machine::new(&[("configPath", &path), ("recheck", "true")]);
    machine.text();
    machine.set(2, Is { cpu: 500, ..IS });
    machine.set(3, Is { cpu: 500, ..IS });
    machine.check(SECONDS, &[]);
    machine.set(2, Is { cpu: 600, cmdline: "ready\0", ..IS });
    machine.check(SECONDS, &[(USER, 0.0), (SYSTEM, 0.0)]);
    machine.set(2, Is { cpu: 700, cmdline: "ready\0", ..IS });
    machine.check(SECONDS, &[(USER, 1.0), (SYSTEM, 0.0)]);
    folder.write("names.yml", b"process_names: [{name: web, comm: [web]}]\n");
    machine.check(SECONDS, &[(USER, 1.0), (SYSTEM, 0.0)]);
}

#[test]
fn a_process_has_the_labels_of_its_container() {
    let (one, two) = ("1".repeat(64), "2".repeat(64));
    let mut machine = Machine::new(&[]);
    machine.cgroup("a", &one);
    machine.cgroup("a", &two);
    let cgroup = |id: &str| format!("0::/kubepods/poda/{id}/inner/{}\n", "f".repeat(64));
    machine.set(2, Is { cgroup: &cgroup(&one), ..IS });
    machine.set(3, Is { cgroup: &cgroup(&two), ..IS });
    machine.set(4, IS);
    machine.tell(&[("a", "shop-1", &[(&one, "main"), (&two, "side")])]);
    let of =
        |container: &str| format!(r#"container="{container}",namespace="shop",pod="shop-1",groupname="web""#);
    machine.check(PROCS, &[(&of("main"), 1.0), (&of("side"), 1.0), (WEB, 1.0)]);
}

#[test]
fn what_a_process_counts_before_its_pod_is_told_is_not_lost_and_is_nobody_elses() {
    let one = "1".repeat(64);
    let mut machine = Machine::new(&[]);
    machine.text();
    machine.cgroup("a", &one);
    let cgroup = format!("0::/kubepods/poda/{one}\n");
    let is = Is { cgroup: &cgroup, ..IS };
    machine.set(2, Is { cpu: 100, ..is });
    machine.check(PROCS, &[]);
    machine.set(2, Is { cpu: 200, ..is });
    machine.tell(&[("a", "shop-1", &[(&one, "main")])]);
    let of = |mode: &str| {
        format!(r#"container="main",namespace="shop",pod="shop-1",groupname="web",mode="{mode}""#)
    };
    machine.check(SECONDS, &[(&of("user"), 2.0), (&of("system"), 0.0)]);
}

#[test]
fn a_container_that_restarts_goes_on_counting_and_a_pod_of_the_same_name_does_not() {
    let (one, two, three) = ("1".repeat(64), "2".repeat(64), "3".repeat(64));
    let mut machine = Machine::new(&[]);
    let cgroup = |id: &str| format!("0::/kubepods/poda/{id}\n");
    let key = r#"container="main",namespace="shop",pod="shop-1",groupname="web",mode="user""#;
    let next = |machine: &mut Machine, uid: &str, id: &str, start: u64, expected: f64| {
        // The container before it is over.
        let _ = std::fs::remove_dir_all(machine.tree.path().join("sys/fs/cgroup/kubepods/poda"));
        machine.scraper.refresh();
        machine.cgroup(uid, id);
        machine.set(2, Is { cgroup: &cgroup(id), start, cpu: 100, ..IS });
        machine.tell(&[(uid, "shop-1", &[(id, "main")])]);
        assert_eq!(machine.values(SECONDS)[key], expected);
    };
    machine.text();
    next(&mut machine, "a", &one, 100, 1.0);
    next(&mut machine, "a", &two, 200, 2.0);
    next(&mut machine, "b", &three, 300, 1.0);
}

#[test]
fn the_largest_groups_of_a_pod_stay_whole_and_the_others_are_one() {
    let one = "1".repeat(64);
    let mut machine = Machine::new(&[("topPerPod", "1")]);
    machine.cgroup("a", &one);
    let cgroup = format!("0::/kubepods/poda/{one}\n");
    let is = |comm, pages, cpu| Is { comm, pages, cpu, cgroup: &cgroup, ..IS };
    machine.tell(&[("a", "shop-1", &[(&one, "main")])]);
    machine.text();
    machine.set(2, is("big", 10, 100));
    machine.set(3, is("mid", 4, 200));
    machine.set(4, is("low", 2, 300));
    let pod = |container: &str, name: &str| {
        format!(r#"container="{container}",namespace="shop",pod="shop-1",groupname="{name}""#)
    };
    machine.check(PROCS, &[(&pod("main", "big"), 1.0), (&pod("", "_other"), 2.0)]);
    let fold = format!(r#"{},mode="user""#, pod("", "_other"));
    assert_eq!(machine.values(SECONDS)[&fold], 5.0);
    // Another grows past twice the size and takes its place; from then on the fold counts the one that was whole.
    machine.set(3, is("mid", 21, 250));
    machine.set(2, is("big", 10, 200));
    let values = machine.values(SECONDS);
    let mid = format!(r#"{},mode="user""#, pod("main", "mid"));
    assert_eq!((values[&mid], values[&fold], values.len()), (0.5, 6.0, 4));
    machine.end(4);
    assert_eq!(machine.values(SECONDS)[&fold], 6.0, "the fold does not go back");
}

#[test]
fn names_show_no_command_line_unless_that_is_asked_for() {
    let config = ("config", "process_names: [{name: '{{.Matches.a}}', cmdline: ['(?P<a>--\\S+.*)']}]");
    let secret = Is { cmdline: "/bin/web\0--password=hunter2\0--for=ann\0", ..IS };
    let mut machine = Machine::new(&[config]);
    machine.set(2, secret);
    assert!(!machine.text().contains("namegroup"));
    let own = ("redact", "--for=\\S+");
    let mut machine = Machine::new(&[config, own, ("exposeCommandLines", "true")]);
    machine.set(2, secret);
    machine.check(PROCS, &[(r#"groupname="--password=<redacted> <redacted>""#, 1.0)]);
}

#[test]
fn a_file_is_read_again_when_it_changes_and_a_broken_one_leaves_what_was_good() {
    let folder = Tree::new(&[("names.yml", "process_names: [{name: one, comm: [web]}]")]);
    let path = folder.path().join("names.yml").display().to_string();
    let mut machine = Machine::new(&[("configPath", &path)]);
    machine.set(2, Is { cpu: 100, ..IS });
    machine.check(PROCS, &[(r#"groupname="one""#, 1.0)]);
    folder.write("names.yml", b"process_names: [{name: broken");
    machine.check(PROCS, &[(r#"groupname="one""#, 1.0)]);
    folder.write("names.yml", b"process_names: [{name: two, comm: [web]}]");
    machine.check(PROCS, &[(r#"groupname="two""#, 1.0)]);
}

#[test]
fn what_nobody_sees_is_not_read() {
    let status_of = |exclude: &[&str]| {
        let mut machine = Machine::with(&[], exclude);
        machine.set(2, IS);
        // A file that cannot be parsed is an error where it is read.
        machine.tree.write("proc/2/status", b"nonsense\n");
        machine.text();
        let mut out = Vec::new();
        machine.scraper.scrape(Part::Agent, Format::Text, &mut out);
        let text = String::from_utf8(out).unwrap();
        text.contains(r#"exporter_agent_collector_errors_total{collector="process_groups",reason="parse"}"#)
    };
    assert!(status_of(&[]));
    let of_status = ["namedprocess_namegroup_memory_bytes", "namedprocess_namegroup_.*switches_total"];
    assert!(!status_of(&of_status));
}
