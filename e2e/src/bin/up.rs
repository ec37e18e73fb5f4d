//! Placeholder.
fn main() -> anyhow::Result<()> {
    e2e::interrupt::watch()?;
    let cluster = e2e::cluster::Cluster::up(1)?;
    e2e::wait::wait_for::<()>("the end", std::time::Duration::from_secs(3600), || Ok(None))?;
    drop(cluster);
    Ok(())
}
