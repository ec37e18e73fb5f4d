//! Whether SELinux is there, and what it does.

use rustix::io::Errno;

use super::{CollectError, Collector, NodeCollector, Run};
use crate::metric::{Labels, Writer, families};
use crate::source::Paths;
use crate::source::file::{NodeFile, read_in_root};
use crate::source::text::{lines, only_number};

/// `selinux`
pub(super) const COLLECTOR: Collector = Collector {
    name: "selinux",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[],
    options: &[],
    exclusive: &[],
    run: Run::Node {
        start: |paths, _| {
            Box::new(Selinux {
                enforce: NodeFile::whole(paths.sysfs.join("fs/selinux/enforce")),
                context: NodeFile::whole(paths.procfs.join("self/attr/current")),
                paths: paths.clone(),
                text: Vec::new(),
            })
        },
        can_block: false,
    },
};

families! {
    ConfigMode Gauge "node_selinux_config_mode" "Configured SELinux enforcement mode.";
    CurrentMode Gauge "node_selinux_current_mode" "Current SELinux enforcement mode.";
    Enabled Gauge "node_selinux_enabled" "SELinux is enabled, 1 is true, 0 is false.";
}

const ENFORCING: f64 = 1.0;
const PERMISSIVE: f64 = 0.0;
const DISABLED: f64 = -1.0;

struct Selinux {
    /// There as long as the file system of SELinux is mounted.
    enforce: NodeFile,
    context: NodeFile,
    paths: Paths,
    text: Vec<u8>,
}

impl NodeCollector for Selinux {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let mode = match self.enforce.read() {
            Ok(text) => only_number(text).map_or(DISABLED, |mode| mode as f64),
            Err(error) if matches!(error.source, Errno::NOENT | Errno::NOTDIR) => {
                out.node(F::Enabled, Labels::NONE, 0.0);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        // Before a policy is loaded everything runs as `kernel` (security/selinux/include/initial_sid_to_string.h).
        let has_policy = !self
            .context
            .read()
            .is_ok_and(|context| context.trim_ascii_end() == b"kernel\0" || context == b"kernel");
        out.node(F::Enabled, Labels::NONE, f64::from(has_policy));
        if has_policy {
            out.node(F::CurrentMode, Labels::NONE, mode);
            let configured = read_in_root(&self.paths.rootfs, "/etc/selinux/config", &mut self.text);
            out.node(
                F::ConfigMode,
                Labels::NONE,
                configured.map_or(DISABLED, |()| configured_mode(&self.text)),
            );
        }
        Ok(())
    }
}

/// The line `SELINUX=` of selinux_config(5).
fn configured_mode(text: &[u8]) -> f64 {
    let value = lines(text).find_map(|line| line.trim_ascii().strip_prefix(b"SELINUX="));
    match value.map(|value| value.trim_ascii().strip_prefix(b"\"").unwrap_or(value.trim_ascii())) {
        Some(b"enforcing" | b"enforcing\"") => ENFORCING,
        Some(b"permissive" | b"permissive\"") => PERMISSIVE,
        _ => DISABLED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::shown::gives;

    #[test]
    fn both_modes_are_given_where_it_is_enabled() {
        let files = [
            ("sys/fs/selinux/enforce", "0"),
            ("etc/selinux/config", "# SELINUX=disabled\nSELINUXTYPE=targeted\nSELINUX=enforcing\n"),
        ];
        let (lines, result) = gives(&COLLECTOR, &files, &[]);
        result.unwrap();
        let expected =
            ["node_selinux_config_mode 1", "node_selinux_current_mode 0", "node_selinux_enabled 1"];
        assert_eq!(lines, expected);
    }

    #[test]
    fn without_it_only_that_is_said() {
        for files in [&[][..], &[("sys/fs/selinux/enforce", "1"), ("proc/self/attr/current", "kernel\0")]] {
            let (lines, result) = gives(&COLLECTOR, files, &[]);
            result.unwrap();
            assert_eq!(lines, ["node_selinux_enabled 0"]);
        }
    }

    #[test]
    fn what_is_not_configured_counts_as_disabled() {
        for (text, mode) in [("SELINUX=\"permissive\"\n", 0.0), ("SELINUX=disabled\n", -1.0), ("", -1.0)] {
            assert_eq!(configured_mode(text.as_bytes()), mode, "{text}");
        }
    }
}
