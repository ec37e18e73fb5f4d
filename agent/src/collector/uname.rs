//! Which kernel the machine runs, and what it is called.

use std::borrow::Cow;
use std::path::Path;

use super::{CollectError, Collector, NodeCollector, Run};
use crate::metric::{Writer, families};
use crate::source::Paths;
use crate::source::file::read_in_root;

/// `uname`
pub(super) const COLLECTOR: Collector = Collector {
    name: "uname",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[],
    options: &[],
    exclusive: &[],
    run: Run::Node { start: |paths, _| Box::new(Uname(paths.clone())), can_block: false },
};

families! {
    Info Gauge "node_uname_info" "Labeled system information as provided by the uname system call.";
}

struct Uname(Paths);

impl NodeCollector for Uname {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let uname = rustix::system::uname();
        let own = uname.nodename().to_string_lossy();
        let labels = out.labels(&[
            ("domainname", &uname.domainname().to_string_lossy()),
            ("machine", &uname.machine().to_string_lossy()),
            ("nodename", &nodename(&self.0).map_or(own, Cow::Owned)),
            ("release", &uname.release().to_string_lossy()),
            ("sysname", &uname.sysname().to_string_lossy()),
            ("version", &uname.version().to_string_lossy()),
        ]);
        out.node(F::Info, labels, 1.0);
        Ok(())
    }
}

/// The machine's name, where uname(2) may tell another one: in a pod it tells the pod's, and so does
/// `/proc/sys/kernel/hostname` of whatever /proc (kernel/utsname_sysctl.c asks for the reader's namespace). Kubernetes
/// names a node for its host name; without that there is the name with which the machine boots.
fn nodename(paths: &Paths) -> Option<String> {
    if paths.procfs == Path::new("/proc") {
        return None;
    }
    if paths.node.is_some() {
        return paths.node.clone();
    }
    let mut text = Vec::new();
    read_in_root(&paths.rootfs, "/etc/hostname", &mut text).ok()?;
    // hostname(5)
    let lines = String::from_utf8_lossy(&text);
    let name = lines.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'))?;
    Some(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::shown::Tree;

    #[test]
    fn in_a_pod_the_name_is_the_node_s() {
        let tree = Tree::new(&[]);
        let mut paths = tree.paths();
        assert_eq!(nodename(&paths), None, "then uname(2) has to do");
        tree.write("etc/hostname", b"# static\nmachine-7\n");
        assert_eq!(nodename(&paths).as_deref(), Some("machine-7"));
        paths.node = Some("node-7".to_owned());
        assert_eq!(nodename(&paths).as_deref(), Some("node-7"));
        paths.procfs = "/proc".into();
        assert_eq!(nodename(&paths), None, "on a host the kernel knows");
    }
}
