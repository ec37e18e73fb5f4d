//! Which vulnerabilities of its CPUs the kernel knows, and what it does about them.

use super::{CollectError, Collector, NodeCollector, Run};
use crate::metric::{Writer, families};
use crate::source::file::read_once;
use crate::source::folder;
use crate::source::text::label;
use rustix::io::Errno;
use std::path::PathBuf;

/// `cpu_vulnerabilities`
pub(super) const COLLECTOR: Collector = Collector {
    name: "cpu_vulnerabilities",
    enabled_by_default: false,
    families: FAMILIES,
    named: &[],
    options: &[],
    exclusive: &[],
    run: Run::Node {
        start: |paths, _| {
            let folder = paths.sysfs.join("devices/system/cpu/vulnerabilities");
            Box::new(CpuVulnerabilities { folder, buffer: Vec::new() })
        },
        can_block: false,
    },
};

families! {
    Info Gauge "node_cpu_vulnerabilities_info" "Details of each CPU vulnerability reported by sysfs; the value is always 1.";
}

struct CpuVulnerabilities {
    folder: PathBuf,
    buffer: Vec<u8>,
}

impl NodeCollector for CpuVulnerabilities {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let names = match folder::names(&self.folder) {
            // Not each architecture has them.
            Err(Errno::NOENT) => return Ok(()),
            names => names.map_err(|source| CollectError::read(&self.folder, source))?,
        };
        let mut result = Ok(());
        for name in names {
            let path = self.folder.join(&name);
            match read_once(&path, &mut self.buffer) {
                Ok(()) => {
                    let (state, mitigation) = parse(&label(&self.buffer));
                    let labels =
                        out.labels(&[("codename", &*name), ("state", state), ("mitigation", &mitigation)]);
                    out.node(F::Info, labels, 1.0);
                }
                Err(source) => result = result.and(Err(CollectError::read(path, source))),
            }
        }
        result
    }
}

/// `Mitigation: PTI` is `mitigation` and `PTI` (Documentation/ABI/testing/sysfs-devices-system-cpu).
fn parse(text: &str) -> (&'static str, String) {
    let text = text.trim();
    let begins =
        |state: &&str| text.get(..state.len()).is_some_and(|start| start.eq_ignore_ascii_case(state));
    match ["not affected", "vulnerable", "mitigation", "unknown"].into_iter().find(begins) {
        Some(state @ "not affected") => (state, String::new()),
        Some(state) => (state, text.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")),
        // As some are, `KVM: Mitigation: VMX disabled`.
        None => ("unknown", text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_is_the_state() {
        let check = |text: &str, state: &str, mitigation: &str| {
            assert_eq!(parse(text), (parse(state).0, mitigation.to_owned()), "{text}");
        };
        check("Not affected\n", "not affected", "");
        check("Vulnerable\n", "vulnerable", "");
        check("Vulnerable: Clear CPU buffers  attempted\n", "vulnerable", "Clear CPU buffers attempted");
        check("Mitigation: PTI; usercopy\n", "mitigation", "PTI; usercopy");
        check("Unknown: No mitigations\n", "unknown", "No mitigations");
        check("KVM: Mitigation: VMX disabled\n", "unknown", "KVM: Mitigation: VMX disabled");
        check("", "unknown", "");
    }
}
