//! Every series of a real kubelet's `/metrics/cadvisor`, judged against what the agent gives at the same moment.

use anyhow::Result;
use e2e::cadvisor;
use e2e::cluster::Cluster;

use crate::claim::claimed;
use crate::installed::installed;

pub(crate) fn every_series_of_the_kubelet_is_there_with_its_value_or_a_known_difference(
    cluster: &Cluster,
) -> Result<()> {
    let agent = installed(cluster)?;
    claimed(cluster, &agent)?;
    // Whether its writes are counted for it, or with the root alone, is the kernel's (on cgroup v1 since 6.10 only
    // where a disk has a limit); what counts here is that both say the same.
    println!("{}", cadvisor::compare(cluster, &agent, "direct")?);
    Ok(())
}
