//! Gives the agent a directory of the node for its last good configuration; what the chart's init container runs as root.
//!
//! It needs no capability but `CAP_CHOWN`, so that it can neither look into a directory of somebody else nor change its
//! mode. A path that a symbolic link or somebody's files are at is refused, since a slip in a value would otherwise take a
//! directory away from whoever needs it.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use clap::{Arg, ArgMatches, Command, value_parser};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;

use crate::last_good;

/// The name of the subcommand.
pub const NAME: &str = "prepare-last-good";

/// What the subcommand is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preparation {
    /// The directory; the one above it must be there.
    pub path: PathBuf,
    /// User and group of the agent.
    pub owner: (u32, u32),
}

/// Why there is no directory for the agent.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The kernel refuses a step.
    #[error("{}: cannot {step}: {source}", path.display())]
    Refused {
        /// The directory.
        path: PathBuf,
        /// What was to be done.
        step: &'static str,
        /// What the kernel says.
        source: Errno,
    },
    /// It is a link or a file.
    #[error("{}: not a directory, and links are not followed; choose another path or remove it from the node", path.display())]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// It belongs to neither of both.
    #[error("{}: belongs to user {user}; choose another path, or remove it from the node if it is of no use", path.display())]
    OtherOwner {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        user: u32,
    },
    /// It is root's and in use.
    #[error("{}: is not empty, there is `{entry}`; choose a path that nothing else uses", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
        /// Something in it.
        entry: String,
    },
}

/// The subcommand's own flags.
pub fn command() -> Command {
    Command::new(NAME)
        .about("Makes the folder for --last-good and gives it to the agent's user; for an init container that runs as root.")
        .arg(
            Arg::new("path")
                .long("path")
                .help("The folder.")
                .value_name("DIR")
                .value_parser(value_parser!(PathBuf))
                .required(true),
        )
        .arg(
            Arg::new("owner")
                .long("owner")
                .help("User and group of the agent, as numbers.")
                .value_name("UID:GID")
                .value_parser(owner)
                .required(true),
        )
}

impl Preparation {
    /// Reads the subcommand's flags.
    pub fn from_matches(matches: &ArgMatches) -> Option<Self> {
        Some(Preparation {
            path: matches.get_one::<PathBuf>("path")?.clone(),
            owner: *matches.get_one::<(u32, u32)>("owner")?,
        })
    }

    /// Makes the directory, or takes the one that is there if it is ours: then only its owner enters it.
    ///
    /// # Errors
    /// See [`PrepareError`]; nothing has changed but where the kernel refused a step half-way, and then the next call goes on.
    pub fn run(&self) -> Result<(), PrepareError> {
        let path = self.path.as_path();
        let refused = |step| move |source| PrepareError::Refused { path: path.to_owned(), step, source };
        let (user, group) = (Uid::from_raw(self.owner.0), Gid::from_raw(self.owner.1));
        match rustix::fs::mkdir(path, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(refused("make it")(error)),
        }
        let found =
            rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW).map_err(refused("look at it"))?;
        if FileType::from_raw_mode(found.st_mode) != FileType::Directory {
            return Err(PrepareError::NotADirectory { path: path.to_owned() });
        }
        if is_ready(&found, self.owner) {
            return Ok(());
        }
        let own = rustix::process::geteuid();
        if found.st_uid != own.as_raw() {
            if found.st_uid != self.owner.0 {
                return Err(PrepareError::OtherOwner { path: path.to_owned(), user: found.st_uid });
            }
            // Only its owner may list it and set its mode, so it is taken back for a moment.
            rustix::fs::chownat(CWD, path, Some(own), None, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(refused("take it back"))?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path, flags, Mode::empty()).map_err(refused("open it"))?;
        if let Some(entry) = foreign_entry(&directory).map_err(refused("list it"))? {
            rustix::fs::fchown(&directory, Some(Uid::from_raw(found.st_uid)), None)
                .map_err(refused("give it back"))?;
            return Err(PrepareError::InUse { path: path.to_owned(), entry });
        }
        rustix::fs::fchmod(&directory, Mode::RWXU).map_err(refused("set its mode"))?;
        rustix::fs::fchown(&directory, Some(user), Some(group)).map_err(refused("give it to the agent"))
    }
}

fn is_ready(found: &Stat, owner: (u32, u32)) -> bool {
    (found.st_uid, found.st_gid) == owner && Mode::from_raw_mode(found.st_mode) == Mode::RWXU
}

/// The name of something that no agent put there.
fn foreign_entry(directory: &OwnedFd) -> Result<Option<String>, Errno> {
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy();
        if !matches!(&*name, "." | "..") && !last_good::FILES.contains(&&*name) {
            return Ok(Some(name.into_owned()));
        }
    }
    Ok(None)
}

fn owner(text: &str) -> Result<(u32, u32), String> {
    let pair = text.split_once(':').and_then(|(user, group)| Some((number(user)?, number(group)?)));
    pair.ok_or_else(|| "not UID:GID in numbers".to_owned())
}

/// The largest number means "unchanged" to the kernel.
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|number| *number != u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    use super::*;

    /// A place for a directory, removed with all that is there when dropped.
    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("prepare-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Place(path)
        }

        fn with_mode(name: &str, mode: u32) -> Self {
            let place = Self::new(name);
            fs::create_dir(place.path()).unwrap();
            fs::set_permissions(place.path(), fs::Permissions::from_mode(mode)).unwrap();
            place
        }

        fn path(&self) -> PathBuf {
            self.0.join("last-good")
        }

        /// For whoever runs the test, so that no privilege is needed.
        fn prepare(&self) -> Result<(), PrepareError> {
            let owner = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
            Preparation { path: self.path(), owner }.run()
        }

        fn mode(&self) -> u32 {
            fs::metadata(self.path()).unwrap().mode() & 0o7777
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_directory_is_made_that_only_its_owner_enters_and_is_taken_again() {
        let place = Place::new("made");
        place.prepare().unwrap();
        assert_eq!(place.mode(), 0o700);
        place.prepare().unwrap();
    }

    #[test]
    fn one_that_the_kubelet_made_and_one_with_a_last_good_configuration_are_closed_to_others() {
        let place = Place::with_mode("kubelet", 0o755);
        fs::write(place.path().join("last-good.json"), "{}").unwrap();
        place.prepare().unwrap();
        assert_eq!(place.mode(), 0o700);
        assert_eq!(fs::read_to_string(place.path().join("last-good.json")).unwrap(), "{}");
    }

    #[test]
    fn one_with_files_of_somebody_else_is_refused_and_left_as_it_is() {
        let place = Place::with_mode("in-use", 0o755);
        fs::write(place.path().join("passwd"), "").unwrap();
        assert!(place.prepare().unwrap_err().to_string().contains("passwd"));
        assert_eq!(place.mode(), 0o755);
    }

    #[test]
    fn a_link_is_refused_whatever_it_leads_to() {
        let place = Place::new("link");
        fs::create_dir(place.0.join("elsewhere")).unwrap();
        symlink("elsewhere", place.path()).unwrap();
        assert!(matches!(place.prepare(), Err(PrepareError::NotADirectory { .. })));
    }

    #[test]
    fn one_of_another_user_is_refused_with_his_number() {
        // Without root nobody can give a directory away, but then /usr is somebody else's.
        let foreign = Place::new("foreign");
        let path = if rustix::process::geteuid().is_root() {
            fs::create_dir(foreign.path()).unwrap();
            rustix::fs::chown(foreign.path(), Some(Uid::from_raw(4242)), None).unwrap();
            foreign.path()
        } else {
            PathBuf::from("/usr")
        };
        let user = fs::metadata(&path).unwrap().uid();
        let error = Preparation { path, owner: (65532, 65532) }.run().unwrap_err();
        assert!(error.to_string().contains(&format!("user {user};")), "{error}");
    }

    #[test]
    fn an_owner_is_two_numbers() {
        let check = |text: &str| {
            let matches = command().try_get_matches_from([NAME, "--path=/x", &format!("--owner={text}")]);
            matches.ok().and_then(|it| Preparation::from_matches(&it)).map(|it| it.owner)
        };
        assert_eq!(check("65532:65532"), Some((65532, 65532)));
        for wrong in ["65532", "agent:agent", "1:-1", "4294967295:0", ""] {
            assert_eq!(check(wrong), None, "{wrong}");
        }
    }
}
