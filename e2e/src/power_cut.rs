//! Cuts the agent's last good configuration off from its disk while it is written, and reads what is left.
//!
//! A file system in a file, told to forget what its journal has not committed (`EXT4_IOC_SHUTDOWN`): what a loss of
//! power leaves behind, without one. Root alone may do that.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use agent::in_force::InForce;
use agent::last_good::{FILES, LastGood, encode};
use anyhow::{Context as _, Result, ensure};
use protocol::{MetricSelection, Policy, PolicyContent, Snapshot};

use crate::interrupt;
use crate::parts::POWER_CUT;
use crate::process::output;

/// How a version comes onto the disk.
type Store = fn(&LastGood, &Path, &InForce) -> io::Result<()>;

/// What so many cuts have left.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Cuts.
    pub rounds: u32,
    /// Versions that were stored in all of them.
    pub stored: u64,
    /// Cuts after which the version was there that was being stored, rather than the one before.
    pub newer: u32,
    /// Cuts after which a version was gone that had been stored, or the file was damaged.
    pub lost: u32,
    /// The first of these.
    pub first_loss: Option<String>,
}

/// Cuts so often while the agent stores, and then a tenth as often while a writer stores that syncs nothing: a bench
/// that finds nothing there would not find anything.
///
/// # Errors
/// When a version is gone that had been stored, when the careless writer loses none, and when there can be no file system.
pub fn check(rounds: u32) -> Result<String> {
    let start = Instant::now();
    let careful = cut(rounds, |last_good, _, in_force| last_good.store(in_force))?;
    let took = start.elapsed().as_secs_f64();
    let careless = cut((rounds / 10).max(10), |_, folder, in_force| {
        fs::write(folder.join(FILES[1]), encode(in_force)?)?;
        fs::rename(folder.join(FILES[1]), folder.join(FILES[0]))
    })?;
    let said = format!(
        "{} cuts in {took:.0} s, {} versions stored: none lost, none damaged; {} times the one being stored was there\n\
         the same without syncing: {} of {} cuts lost what was stored",
        careful.rounds, careful.stored, careful.newer, careless.lost, careless.rounds
    );
    ensure!(careful.lost == 0, "{} of {rounds} cuts: {:?}", careful.lost, careful.first_loss);
    ensure!(careless.lost > 0, "the cuts cut nothing: {said}");
    Ok(said)
}

/// Cuts so often while versions are stored in this way.
///
/// # Errors
/// When the file system cannot be made, mounted or cut.
pub fn cut(rounds: u32, store: Store) -> Result<Outcome> {
    let disk = Disk::new()?;
    let helper = POWER_CUT.program("power-cut")?;
    let mut outcome = Outcome { rounds, ..Outcome::default() };
    // The last one whose storing came back, and the last one whose storing began.
    let (stored, begun) = (AtomicU64::new(0), AtomicU64::new(0));
    for round in 0..=rounds {
        interrupt::check()?;
        let mounted = disk.mount()?;
        let folder = mounted.0.join("last-good");
        fs::create_dir_all(&folder)?;
        let last_good = LastGood::new(&folder);
        let (from, to) = (stored.load(Ordering::Relaxed), begun.load(Ordering::Relaxed));
        let found = match last_good.load() {
            Ok(found) => {
                let version = found.as_ref().map_or(0, |it| it.snapshot.term);
                let is_whole = found.is_none_or(|it| it == in_force(version));
                if is_whole && (from..=to).contains(&version) {
                    Ok(version)
                } else {
                    Err(format!("round {round}: {version}, whole: {is_whole}; stored {from}, begun {to}"))
                }
            }
            Err(error) => Err(format!("round {round}: {error}")),
        };
        match found {
            Ok(version) => {
                outcome.newer += u32::from(version > from);
                stored.store(version, Ordering::Relaxed);
            }
            Err(what) => {
                outcome.lost += 1;
                outcome.first_loss.get_or_insert(what);
            }
        }
        if round == rounds {
            break;
        }
        let mut helper = Command::new(&helper)
            .arg(&mounted.0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start power-cut")?;
        let mut said = String::new();
        BufReader::new(helper.stdout.take().context("no output")?).read_line(&mut said)?;
        std::thread::scope(|threads| -> Result<()> {
            threads.spawn(|| {
                // From the last one that was begun, so that no two have one number.
                for version in begun.load(Ordering::Relaxed) + 1.. {
                    begun.store(version, Ordering::Relaxed);
                    if store(&last_good, &folder, &in_force(version)).is_err() {
                        break;
                    }
                    stored.store(version, Ordering::Relaxed);
                }
            });
            // Anywhere within the first few versions.
            std::thread::sleep(Duration::from_micros(u64::from(round * 7919 % 20_000)));
            helper.stdin.take().context("no input")?.write_all(b"cut\n")?;
            ensure!(helper.wait()?.success(), "the file system was not cut");
            Ok(())
        })?;
        outcome.stored = stored.load(Ordering::Relaxed);
    }
    Ok(outcome)
}

/// What is in force in this version: told by its number, and from a few hundred bytes to many blocks long.
fn in_force(version: u64) -> InForce {
    let exclude = (0..version * 37 % 2000).map(|n| format!("node_family_{version}_{n}")).collect();
    let metrics = MetricSelection { exclude, ..MetricSelection::default() };
    let policy = Policy::new("p", 1, PolicyContent { metrics, ..PolicyContent::default() });
    let snapshot = Snapshot {
        cluster: "c".to_owned(),
        node: "n".to_owned(),
        term: version,
        policies: vec![policy.clone()],
        ..Snapshot::default()
    };
    InForce { snapshot, policies: vec![policy], ..InForce::default() }
}

/// A file system in a file, gone when dropped.
struct Disk(PathBuf);

/// Where it is mounted, unmounted when dropped.
struct Mounted(PathBuf);

impl Disk {
    fn new() -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("power-cut-{}", std::process::id()));
        fs::create_dir_all(folder.join("mnt"))?;
        let disk = Disk(folder);
        fs::File::create(disk.0.join("disk"))?.set_len(32 << 20)?;
        output(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(disk.0.join("disk")))?;
        Ok(disk)
    }

    fn mount(&self) -> Result<Mounted> {
        let at = self.0.join("mnt");
        output(Command::new("mount").args(["-o", "loop"]).arg(self.0.join("disk")).arg(&at))?;
        Ok(Mounted(at))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = output(Command::new("umount").arg(&self.0));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
