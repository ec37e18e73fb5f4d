//! What the names in `/var/log/containers` tell of containers, without kubelet and API server.

use std::path::Path;

/// A container as its log's link names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkedContainer {
    /// The runtime's id.
    pub id: String,
    /// The pod's name.
    pub pod: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The container's name.
    pub container: String,
}

/// The containers that have a log; none where the folder cannot be read.
pub fn containers(rootfs: &Path) -> Vec<LinkedContainer> {
    let Ok(entries) = std::fs::read_dir(rootfs.join("var/log/containers")) else { return Vec::new() };
    entries.flatten().filter_map(|entry| parse(entry.file_name().to_str()?)).collect()
}

/// `<pod>_<namespace>_<container>-<id>.log` (pkg/kubelet/kuberuntime/legacy.go); names hold no underscore.
fn parse(name: &str) -> Option<LinkedContainer> {
    let (rest, id) = name.strip_suffix(".log")?.rsplit_once('-')?;
    let mut parts = rest.splitn(3, '_').map(str::to_owned);
    let (pod, namespace, container) = (parts.next()?, parts.next()?, parts.next()?);
    (id.len() == 64).then(|| LinkedContainer { id: id.to_owned(), pod, namespace, container })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_name_tells_pod_namespace_and_container() {
        let id = "a".repeat(64);
        let linked = parse(&format!("web-7f6c-6gtg7_shop_side-car-{id}.log")).unwrap();
        assert_eq!(linked.pod, "web-7f6c-6gtg7");
        assert_eq!(linked.namespace, "shop");
        assert_eq!(linked.container, "side-car");
        assert_eq!(linked.id, id);
        assert_eq!(parse("something else.log"), None);
        assert_eq!(parse("a_b_c-short.log"), None);
    }
}
