//! What the program takes away from itself at its start, so that whoever takes it over has little of it.
//!
//! It leaves no core dump, which would hold tokens and the keys of redactions. With Landlock (landlock(7)) it opens no file
//! but below the folders that its collectors and its flags name, writes only where the last good configuration is, and
//! starts no program. Landlock also forbids to look into processes that are not confined alike, so it is left off where
//! this program is meant to look into all of them.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use landlock::{
    ABI, Access as _, AccessFs, BitFlags, PathBeneath, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _,
    RulesetError, RulesetStatus, Scope,
};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

use crate::flags::Flags;
use crate::rights;

/// What was taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confinement {
    /// All that is asked of the kernel.
    Full,
    /// What this kernel knows of it.
    Partial,
    /// Nothing, because of this.
    None(&'static str),
}

/// The newest access rights that are known here; of a kernel that knows fewer, those.
const FILES: ABI = ABI::V5;
const SCOPES: ABI = ABI::V6;

/// What collectors read below the node's root file system: names, time zone, users, lists of devices and the links of
/// containers. The system's libraries are for a program that is not built statically and looks up a name.
const BELOW_ROOT: &[&str] = &[
    "etc",
    "nix/store",
    "run/udev/data",
    "usr/lib",
    "usr/share/hwdata",
    "usr/share/misc",
    "usr/share/zoneinfo",
    "var/lib/dbus",
    "var/log/containers",
];
/// What the program itself reads, wherever the node's root is: its own process, and where name servers are kept.
const OWN: &[&str] = &[
    "/proc",
    "/etc",
    "/run/NetworkManager",
    "/run/resolvconf",
    "/run/systemd/resolve",
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/share/zoneinfo",
    "/nix/store",
];
/// A folder that takes longer to be found is left out: a dead mount must not keep the program from starting.
const PATIENCE: Duration = Duration::from_secs(1);

/// Sees to it that no core dump is written, and that no other process of the same user looks into this one.
///
/// # Errors
/// What the kernel says.
pub fn no_core_dumps(flags: &Flags) -> Result<(), Errno> {
    // A byte, less than any dump has: a dump that goes to a program ignores a limit of 0 and heeds this one (fs/coredump.c).
    setrlimit(Resource::Core, Rlimit { current: Some(1), maximum: Some(1) })?;
    // Then /proc/self/mountstats is root's alone, and where no other /proc is given the collector of that name reads it.
    match flags.paths.procfs == Path::new("/proc") && !rustix::process::geteuid().is_root() {
        true => Ok(()),
        false => set_dumpable_behavior(DumpableBehavior::NotDumpable),
    }
}

/// Confines this thread, and every one that it starts from then on, to the files that these flags need.
///
/// # Errors
/// When the kernel has Landlock and refuses the rules.
pub fn landlock(flags: &Flags) -> Result<Confinement, RulesetError> {
    if !flags.landlock {
        return Ok(Confinement::None("--no-landlock"));
    }
    if rights::may_trace() {
        return Ok(Confinement::None("this process may look into all others, which Landlock would forbid"));
    }
    let all = AccessFs::from_all(FILES);
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let write = read | AccessFs::WriteFile | AccessFs::MakeReg | AccessFs::RemoveFile | AccessFs::Truncate;
    let mut rules = Ruleset::default().handle_access(all)?.scope(Scope::from_all(SCOPES))?.create()?;
    for path in read_only(flags) {
        if let Some(rule) = rule(&path, read) {
            rules = rules.add_rule(rule)?;
        }
    }
    if let Some(rule) = flags.last_good.as_deref().and_then(|folder| rule(folder, write)) {
        rules = rules.add_rule(rule)?;
    }
    Ok(match rules.restrict_self()?.ruleset {
        RulesetStatus::FullyEnforced => Confinement::Full,
        RulesetStatus::PartiallyEnforced => Confinement::Partial,
        RulesetStatus::NotEnforced => {
            Confinement::None("this kernel has no Landlock, or it is not switched on")
        }
    })
}

/// The folders, and single files, that may be read.
fn read_only(flags: &Flags) -> BTreeSet<PathBuf> {
    let paths = &flags.paths;
    let node = [&paths.procfs, &paths.sysfs, &paths.udev].map(PathBuf::from);
    let below_root = BELOW_ROOT.iter().map(|path| paths.rootfs.join(path));
    let own = OWN.iter().map(PathBuf::from);
    // Certificates and users may be in any place that the file names.
    let web = flags.web_config.as_deref().and_then(|file| std::fs::read_to_string(file).ok());
    let web = web.iter().flat_map(|text| text.split(|c: char| c.is_whitespace() || "'\",[]{}".contains(c)));
    let named = flags.named.iter().map(String::as_str).chain(web.filter(|word| word.starts_with('/')));
    // Most values are no path, and whoever names a file without a folder is in its folder.
    let look = |value: String| match value.contains('/') {
        true => patiently(move || around(&value)),
        false => Some(around(&value)),
    };
    let named = named.map(str::to_owned).filter_map(look);
    node.into_iter().chain(below_root).chain(own).chain(named.flatten()).collect()
}

/// What a flag's value may name: a folder, or the folder of a file, which is replaced rather than written; of a pattern, or
/// of what is not there yet, the part that is there.
fn around(value: &str) -> Vec<PathBuf> {
    let path = Path::new(value);
    let found = path.ancestors().find(|it| it.parent().is_some() && it.exists());
    // All but the root, by which everything could be read.
    let Some(found) = found.filter(|it| it.is_absolute() || *it == path) else { return Vec::new() };
    let real = found.canonicalize().unwrap_or_else(|_| found.to_owned());
    [found, &real]
        .into_iter()
        .filter_map(|it| if it.is_dir() { Some(it) } else { it.parent() })
        .map(|it| if it.as_os_str().is_empty() { Path::new(".") } else { it })
        .filter(|it| it.parent().is_some())
        .map(Path::to_owned)
        .collect()
}

/// The rule for a path that is there.
fn rule(path: &Path, access: BitFlags<AccessFs>) -> Option<PathBeneath<OwnedFd>> {
    let of_thread = path.to_owned();
    let open = move || -> Result<_, Errno> {
        let fd = rustix::fs::open(&of_thread, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode);
        Ok((fd, kind == FileType::Directory))
    };
    let (fd, is_folder) = patiently(open)?.ok()?;
    let access = if is_folder { access } else { access & AccessFs::from_file(FILES) };
    Some(PathBeneath::new(fd, access))
}

/// What comes back in time; nothing of a mount that does not answer.
fn patiently<T: Send + 'static>(look: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (say, said) = sync_channel(1);
    std::thread::spawn(move || say.send(look()));
    said.recv_timeout(PATIENCE)
        .inspect_err(|_| tracing::warn!("a folder that a flag names does not answer, and cannot be read"))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_of_a_file_may_be_read_and_the_root_never() {
        let folder =
            std::env::temp_dir().canonicalize().unwrap().join(format!("confine-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("real")).unwrap();
        std::fs::write(folder.join("real/token"), "").unwrap();
        std::os::unix::fs::symlink("real/token", folder.join("token")).unwrap();
        let check = |value: &str, expected: &[&str]| {
            let found: BTreeSet<_> = around(&format!("{}{value}", folder.display())).into_iter().collect();
            let expected = expected.iter().map(|path| folder.join(path)).collect();
            assert_eq!(found, expected, "{value}");
        };
        check("/real", &["real"]);
        check("/real/token", &["real"]);
        check("/token", &["", "real"]);
        check("/real/*/x.prom", &["real"]);
        for other in ["/", "https://host:1", "^/(dev|proc)($|/)", "info", ""] {
            assert_eq!(around(other), Vec::<PathBuf>::new(), "{other}");
        }
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_the_web_configuration_names_may_be_read() {
        let file = std::env::temp_dir().join(format!("confine-web-{}.yml", std::process::id()));
        std::fs::write(&file, "tls_server_config: {cert_file: '/usr/bin/env', key_file: key.pem}\n").unwrap();
        let flags = Flags::parse(&[&format!("--web.config.file={}", file.display())]).unwrap();
        let read = read_only(&flags);
        std::fs::remove_file(&file).unwrap();
        assert!(read.contains(Path::new("/usr/bin")) && read.contains(file.parent().unwrap()), "{read:?}");
        assert!(!read.contains(Path::new("/")) && read.contains(Path::new("/sys")), "{read:?}");
    }
}
