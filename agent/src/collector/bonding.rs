//! How many interfaces each bond of the machine has, and how many of them are up.

use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::{CollectError, Collector, NodeCollector, Run};
use crate::metric::{Writer, families};
use crate::source::file::{NodeFile, read_once};
use crate::source::text::label;

/// `bonding`
pub(super) const COLLECTOR: Collector = Collector {
    name: "bonding",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[],
    options: &[],
    exclusive: &[],
    run: Run::Node {
        start: |paths, _| {
            let folder = paths.sysfs.join("class/net");
            Box::new(Bonding {
                bonds: NodeFile::whole(folder.join("bonding_masters")),
                folder,
                buffer: Vec::new(),
            })
        },
        can_block: true,
    },
};

families! {
    Active Gauge "node_bonding_active" "Number of active slaves per bonding interface.";
    Slaves Gauge "node_bonding_slaves" "Number of configured slaves per bonding interface.";
}

/// Documentation/networking/bonding.rst, "Configuring Bonding Manually via Sysfs"
struct Bonding {
    bonds: NodeFile,
    folder: PathBuf,
    buffer: Vec<u8>,
}

impl NodeCollector for Bonding {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let Bonding { bonds, folder, buffer } = self;
        let mut result = Ok(());
        for bond in label(bonds.read()?).split_ascii_whitespace() {
            match count(&folder.join(bond), buffer) {
                Ok((interfaces, up)) => {
                    let labels = out.labels(&[("master", bond)]);
                    out.node(F::Slaves, labels, interfaces as f64);
                    out.node(F::Active, labels, up as f64);
                }
                Err(error) => result = result.and(Err(error)),
            }
        }
        result
    }
}

/// The interfaces of a bond, and those that are up.
fn count(bond: &Path, buffer: &mut Vec<u8>) -> Result<(usize, usize), CollectError> {
    let path = bond.join("bonding/slaves");
    read_once(&path, buffer).map_err(|source| CollectError::read(&path, source))?;
    let interfaces = label(buffer).into_owned();
    let (mut count, mut up) = (0, 0);
    for interface in interfaces.split_ascii_whitespace() {
        let path = bond.join(format!("lower_{interface}/bonding_slave/mii_status"));
        let old = || bond.join(format!("slave_{interface}/bonding_slave/mii_status"));
        match read_once(&path, buffer) {
            // So it was called before Linux 3.13.
            Err(Errno::NOENT) => read_once(&old(), buffer),
            result => result,
        }
        .map_err(|source| CollectError::read(&path, source))?;
        count += 1;
        up += usize::from(buffer.trim_ascii() == b"up");
    }
    Ok((count, up))
}
