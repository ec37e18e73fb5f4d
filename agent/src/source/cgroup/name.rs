//! What a directory of the kubelet's cgroup tree is, by the names that kubelet and runtimes give.

use std::ffi::OsStr;

use super::CgroupKind;
use crate::source::process::container_id;

/// What the directory is, below the cgroup in slot `parent`; nothing for what is neither a pod's nor a slice of pods.
pub(super) fn kind(name: &OsStr, parent: usize) -> Option<CgroupKind> {
    let name = name.to_str()?;
    if let Some(id) = container_id(name) {
        return Some(CgroupKind::Container { pod: parent, id: id.to_owned() });
    }
    if let Some(uid) = pod_uid(name) {
        return Some(CgroupKind::Pod { uid });
    }
    let is_slice = matches!(
        name,
        "burstable" | "besteffort" | "guaranteed" | "kubepods-burstable.slice" | "kubepods-besteffort.slice"
    );
    is_slice.then_some(CgroupKind::Slice)
}

/// `pod<uid>` with the cgroupfs driver, `kubepods[-<qos>]-pod<uid>.slice` with dashes as underscores with systemd's
/// (pkg/kubelet/cm/cgroup_manager_linux.go).
fn pod_uid(name: &str) -> Option<String> {
    let uid = match name.strip_suffix(".slice") {
        Some(slice) => slice.rsplit_once("-pod").map(|(_, uid)| uid.replace('_', "-"))?,
        None => name.strip_prefix("pod")?.to_owned(),
    };
    (!uid.is_empty()).then_some(uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, expected: Option<CgroupKind>) {
        assert_eq!(kind(OsStr::new(name), 7), expected, "{name}");
    }

    #[test]
    fn names_of_both_drivers_and_of_each_runtime_are_known() {
        let id = "0123456789abcdef".repeat(4);
        let container = Some(CgroupKind::Container { pod: 7, id: id.clone() });
        for name in ["ID", "cri-containerd-ID.scope", "crio-ID.scope", "crio-ID", "docker-ID.scope"] {
            check(&name.replace("ID", &id), container.clone());
        }
        check(&format!("crio-conmon-{id}.scope"), None);
        let uid = "20278a2f-19e0-4f45-8b06-97912d2ffcf8";
        let pod = Some(CgroupKind::Pod { uid: uid.to_owned() });
        check(&format!("pod{uid}"), pod.clone());
        let under = uid.replace('-', "_");
        check(&format!("kubepods-burstable-pod{under}.slice"), pod.clone());
        check(&format!("kubepods-pod{under}.slice"), pod);
        check("kubepods-besteffort.slice", Some(CgroupKind::Slice));
        check("system.slice", None);
        check("init.scope", None);
    }
}
