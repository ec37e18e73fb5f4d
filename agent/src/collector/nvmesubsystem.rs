//! The paths to each NVMe subsystem, and their states.

use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::{CollectError, Collector, NodeCollector, Run};
use crate::metric::{Writer, families};
use crate::source::file::read_once;
use crate::source::folder;
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
            let folder = paths.sysfs.join("class/nvme-subsystem");
            Box::new(NvmeSubsystem { folder, buffer: Vec::new(), fault: None })
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
    folder: PathBuf,
    buffer: Vec<u8>,
    fault: Option<CollectError>,
}

impl NodeCollector for NvmeSubsystem {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let names = folder::names(&self.folder);
        let names = names.map_err(|source| match source {
            Errno::ACCESS => CollectError::Absent(format!("{}: {source}", self.folder.display())),
            source => CollectError::read(&self.folder, source),
        })?;
        for name in names.iter().filter(|name| name.starts_with("nvme-subsys")) {
            self.subsystem(name, out);
        }
        self.fault.take().map_or(Ok(()), Err)
    }
}

impl NvmeSubsystem {
    fn subsystem(&mut self, name: &str, out: &mut Writer<'_>) {
        let folder = self.folder.join(name);
        let [nqn, model, serial, policy] =
            ["subsysnqn", "model", "serial", "iopolicy"].map(|file| self.text(&folder.join(file)));
        let labels = [
            ("subsystem", name),
            ("nqn", &nqn),
            ("model", &model),
            ("serial", &serial),
            ("iopolicy", &policy),
        ];
        let labels = out.labels(&labels);
        out.node(F::Info, labels, 1.0);
        let entries = folder::names(&folder).unwrap_or_else(|source| {
            self.fault.get_or_insert(CollectError::read(&folder, source));
            Vec::new()
        });
        let (mut paths, mut live) = (0, 0);
        for entry in &entries {
            match kind(entry) {
                Some(Kind::Controller) => {
                    let state = self.controller(name, entry, &folder.join(entry), out);
                    paths += 1;
                    live += u32::from(state == "live");
                }
                Some(Kind::Namespace) => {
                    let labels = out.labels(&[("subsystem", name), ("device", entry)]);
                    out.node(F::Namespace, labels, 1.0);
                }
                None => {}
            }
        }
        let labels = out.labels(&[("subsystem", name)]);
        out.node(F::Paths, labels, f64::from(paths));
        out.node(F::Live, labels, f64::from(live));
    }

    fn controller(
        &mut self,
        subsystem: &str,
        name: &str,
        folder: &Path,
        out: &mut Writer<'_>,
    ) -> &'static str {
        let [text, transport] = ["state", "transport"].map(|file| self.text(&folder.join(file)));
        let text = if text == "deleting (no IO)" { "deleting" } else { &text };
        let state = STATES.into_iter().find(|state| *state == text).unwrap_or("unknown");
        for of in STATES {
            let labels =
                [("subsystem", subsystem), ("controller", name), ("transport", &transport), ("state", of)];
            let labels = out.labels(&labels);
            out.node(F::State, labels, f64::from(of == state));
        }
        state
    }

    /// The text of a file; empty where it cannot be read, which is an error.
    fn text(&mut self, path: &Path) -> String {
        match read_once(path, &mut self.buffer) {
            Ok(()) => label(self.buffer.trim_ascii()).into_owned(),
            Err(source) => {
                self.fault.get_or_insert(CollectError::read(path, source));
                String::new()
            }
        }
    }
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
