//! The paths to each NVMe subsystem, and their states.

use std::borrow::Cow;
use std::sync::Arc;

use rustix::io::Errno;

use super::{CollectError, Collector, NodeCollector, Run};
use crate::metric::{Labels, Writer, families};
use crate::source::file::HandleBudget;
use crate::source::folder::Folder;
use crate::source::text::{label, number};

/// `nvmesubsystem`
pub(super) const COLLECTOR: Collector = Collector {
    name: "nvmesubsystem",
    enabled_by_default: false,
    families: FAMILIES,
    named: &[],
    options: &[],
    exclusive: &[],
    run: Run::Node {
        start: |paths, _| {
            let (path, handles) = (paths.sysfs.join("class/nvme-subsystem"), paths.handles.clone());
            let files = &["subsysnqn", "model", "serial", "iopolicy"];
            let subsystems =
                Folder::sysfs(path, files, &handles).only(|name| name.starts_with("nvme-subsys"));
            Box::new(NvmeSubsystem {
                subsystems: subsystems.sorted(),
                below: Vec::new(),
                handles,
                fault: None,
            })
        },
        can_block: false,
    },
};

families! {
    Info Gauge "node_nvmesubsystem_info" "Non-numeric information about an NVMe subsystem.";
    Namespace Gauge "node_nvmesubsystem_namespace_info" "Maps an NVMe namespace block device to its subsystem.";
    Paths Gauge "node_nvmesubsystem_paths" "Number of controller paths for an NVMe subsystem.";
    Live Gauge "node_nvmesubsystem_paths_live" "Number of controller paths in live state for an NVMe subsystem.";
    State Gauge "node_nvmesubsystem_path_state" "Current NVMe controller path state (1 for the current state, 0 for all others).";
}

/// drivers/nvme/host/sysfs.c, nvme_sysfs_show_state; what a later kernel has is the last.
const STATES: [&str; 7] = ["connecting", "dead", "deleting", "live", "new", "resetting", "unknown"];

struct NvmeSubsystem {
    subsystems: Folder,
    /// Controllers and namespaces, by the subsystem.
    below: Vec<(String, Folder)>,
    handles: Arc<HandleBudget>,
    fault: Option<CollectError>,
}

impl NodeCollector for NvmeSubsystem {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let path = self.subsystems.path().to_owned();
        self.subsystems.list().map_err(|source| match source {
            Errno::ACCESS => CollectError::Absent(format!("{}: {source}", path.display())),
            source => CollectError::read(&path, source),
        })?;
        for i in 0..self.subsystems.len() {
            let name = self.subsystems.name(i);
            match self.below[i..].iter().position(|(known, _)| known == name) {
                Some(0) => {}
                Some(further) => self.below.swap(i, i + further),
                None => {
                    let entries = Folder::sysfs(path.join(name), &["state", "transport"], &self.handles);
                    self.below
                        .insert(i, (name.to_owned(), entries.only(|name| kind(name).is_some()).sorted()));
                }
            }
        }
        self.below.truncate(self.subsystems.len());
        for i in 0..self.subsystems.len() {
            self.subsystem(i, out);
        }
        self.fault.take().map_or(Ok(()), Err)
    }
}

impl NvmeSubsystem {
    fn subsystem(&mut self, i: usize, out: &mut Writer<'_>) {
        let subsystem = out.labels(&[("subsystem", self.subsystems.name(i))]);
        let mut labels = subsystem;
        for (file, name) in ["nqn", "model", "serial", "iopolicy"].into_iter().enumerate() {
            let value = text(&mut self.subsystems, i, file, &mut self.fault);
            labels = out.with(labels, name, &value);
        }
        out.node(F::Info, labels, 1.0);
        let entries = &mut self.below[i].1;
        if let Err(source) = entries.list() {
            self.fault.get_or_insert(CollectError::read(entries.path(), source));
        }
        let (mut paths, mut live) = (0, 0);
        for entry in 0..entries.len() {
            match kind(entries.name(entry)) {
                Some(Kind::Controller) => {
                    let state = controller(entries, entry, subsystem, &mut self.fault, out);
                    paths += 1;
                    live += u32::from(state == "live");
                }
                Some(Kind::Namespace) => {
                    let labels = out.with(subsystem, "device", entries.name(entry));
                    out.node(F::Namespace, labels, 1.0);
                }
                None => {}
            }
        }
        out.node(F::Paths, subsystem, f64::from(paths));
        out.node(F::Live, subsystem, f64::from(live));
    }
}

fn controller(
    entries: &mut Folder,
    entry: usize,
    subsystem: Labels,
    fault: &mut Option<CollectError>,
    out: &mut Writer<'_>,
) -> &'static str {
    let state = match &*text(entries, entry, 0, fault) {
        "deleting (no IO)" => "deleting",
        text => STATES.into_iter().find(|state| *state == text).unwrap_or("unknown"),
    };
    let labels = out.with(subsystem, "controller", entries.name(entry));
    let labels = out.with(labels, "transport", &text(entries, entry, 1, fault));
    for of in STATES {
        let labels = out.with(labels, "state", of);
        out.node(F::State, labels, f64::from(of == state));
    }
    state
}

/// The text of a file; empty where it cannot be read, which is an error.
fn text<'a>(
    folder: &'a mut Folder,
    entry: usize,
    file: usize,
    fault: &mut Option<CollectError>,
) -> Cow<'a, str> {
    if let Err(source) = folder.read(entry, file) {
        fault.get_or_insert_with(|| CollectError::read(folder.file_path(entry, file), source));
        return Cow::Borrowed("");
    }
    label(folder.last().trim_ascii())
}

enum Kind {
    Controller,
    Namespace,
}

/// `nvme0` is a controller, `nvme0n1` a namespace; `nvme0c0n1` is one path to it, and hidden.
fn kind(name: &str) -> Option<Kind> {
    let rest = name.strip_prefix("nvme")?;
    let is_number = |text: &str| number(text.as_bytes()).is_some();
    match rest.split_once('n') {
        None => is_number(rest).then_some(Kind::Controller),
        Some((controller, namespace)) => {
            (is_number(controller) && is_number(namespace)).then_some(Kind::Namespace)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::shown::gives;

    #[test]
    fn paths_are_counted_and_what_cannot_be_read_is_an_error() {
        let mut files = vec![("nvme1/state", "live\n"), ("nvme1/transport", "tcp\n")];
        files.extend([("nvme2/state", "deleting (no IO)\n"), ("nvme2/transport", "fc\n")]);
        files.extend([("nvme1n1/size", "8\n"), ("nvme1c1n1/size", "8\n"), ("power/control", "auto\n")]);
        files.extend([("subsysnqn", "nqn.2014-08.org:a\n"), ("model", "Disk  \n"), ("serial", "7\n")]);
        let files: Vec<_> = files
            .iter()
            .map(|(file, text)| (format!("sys/class/nvme-subsystem/nvme-subsys1/{file}"), *text))
            .collect();
        let files: Vec<_> = files.iter().map(|(file, text)| (file.as_str(), *text)).collect();
        let (lines, result) = gives(&COLLECTOR, &files, &[]);
        let lines: Vec<_> = lines.iter().filter(|line| !line.ends_with(" 0")).collect();
        let expected = [
            r#"info{subsystem="nvme-subsys1",nqn="nqn.2014-08.org:a",model="Disk",serial="7",iopolicy=""} 1"#,
            r#"namespace_info{subsystem="nvme-subsys1",device="nvme1n1"} 1"#,
            r#"paths{subsystem="nvme-subsys1"} 2"#,
            r#"paths_live{subsystem="nvme-subsys1"} 1"#,
            r#"path_state{subsystem="nvme-subsys1",controller="nvme1",transport="tcp",state="live"} 1"#,
            r#"path_state{subsystem="nvme-subsys1",controller="nvme2",transport="fc",state="deleting"} 1"#,
        ];
        assert_eq!(
            lines,
            expected.map(|line| format!("node_nvmesubsystem_{line}")).iter().collect::<Vec<_>>()
        );
        assert!(matches!(result, Err(CollectError::Absent(_))), "there is no iopolicy");
    }
}
