//! A certificate that somebody else renews, in files: read again and again, and served with once agents know its authority.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::AuthorityError;
use super::config_map::Told;
use super::x509::{self, Pair};

pub(super) struct Files {
    certificate: PathBuf,
    key: PathBuf,
    ca: PathBuf,
    /// What the certificate has to be for.
    names: Vec<String>,
    overlap: Duration,
    /// The texts that are served with.
    served: Option<Found>,
}

/// What the files say.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Found {
    certificate: String,
    key: String,
    pub(super) ca: String,
}

/// Authorities that have not ended are kept, but no more than these: a directory of somebody else's is not a log.
const MOST_AUTHORITIES: usize = 4;

impl Files {
    pub(super) fn new(
        certificate: PathBuf,
        key: PathBuf,
        ca: PathBuf,
        names: Vec<String>,
        overlap: Duration,
    ) -> Self {
        Files { certificate, key, ca, names, overlap, served: None }
    }

    /// What the files say now, if it is what an agent would believe that knows the authority.
    pub(super) fn read(&self, now: SystemTime) -> Result<Found, AuthorityError> {
        let text =
            |path: &Path| std::fs::read_to_string(path).map_err(|error| content(path, error.to_string()));
        let found =
            Found { certificate: text(&self.certificate)?, key: text(&self.key)?, ca: text(&self.ca)? };
        x509::certificates(&found.ca).map_err(|what| content(&self.ca, what))?;
        found.pair().map_err(|what| content(&self.certificate, what))?;
        x509::is_believed(&found.certificate, &found.ca, &self.names, now)
            .map_err(|what| content(&self.certificate, what))?;
        Ok(found)
    }

    /// What is to be served with from now on, where that is another than before. Agents first have the time to learn of
    /// its authority, if that is another; whoever has nothing else to serve with that they would believe does not wait,
    /// as after a restart.
    pub(super) fn due(&mut self, found: Found, told: &Told, now: SystemTime) -> Option<Pair> {
        if self.served.as_ref() == Some(&found) {
            return None;
        }
        let is_good = |it: &Found, ca: &str| x509::is_believed(&it.certificate, ca, &self.names, now).is_ok();
        let waits = self.served.as_ref().is_some_and(|served| {
            let is_renewal = is_good(&found, &served.ca);
            is_good(served, &told.authorities) && !is_renewal
        });
        if waits && now.duration_since(told.since).unwrap_or_default() < self.overlap {
            return None;
        }
        let pair = found.pair().ok();
        self.served = Some(found);
        pair
    }
}

impl Found {
    fn pair(&self) -> Result<Pair, String> {
        x509::pair(&self.certificate, &self.key)
    }
}

/// The authorities of the file, then those that agents know and that have not ended. Where they know all, nothing changes:
/// the files of two replicas do not change at once.
pub(super) fn joined(ca: &str, known: &str, now: SystemTime) -> String {
    let new = x509::certificates(ca).unwrap_or_default();
    let most = new.len().max(MOST_AUTHORITIES);
    let mut living = x509::certificates(known).unwrap_or_default();
    living.retain(|old| x509::validity(old).is_ok_and(|it| it.until > now));
    let is_known = new.iter().all(|it| living.contains(it));
    if !is_known || living.len() > most {
        living.retain(|old| !new.contains(old));
        living.splice(..0, new);
        living.truncate(most);
    }
    living.iter().map(|it| x509::pem(it)).collect()
}

fn content(path: &Path, what: String) -> AuthorityError {
    AuthorityError::Content { place: path.display().to_string(), what }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;
    use crate::authority::generations::{Generations, Schedule};
    use crate::authority::leaf;

    const HOUR: Duration = Duration::from_secs(3600);

    /// A certificate that is its own authority.
    fn found(name: &str) -> Found {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        let now = SystemTime::now();
        (params.not_before, params.not_after) = ((now - HOUR).into(), (now + 10 * HOUR).into());
        let certificate = params.self_signed(&key).unwrap().pem();
        Found { ca: certificate.clone(), certificate, key: key.serialize_pem() }
    }

    fn told(authorities: &str, since: SystemTime) -> Told {
        Told { authorities: authorities.to_owned(), since }
    }

    fn files() -> Files {
        Files::new("c".into(), "k".into(), "a".into(), vec!["a".to_owned()], HOUR)
    }

    #[test]
    fn the_first_is_served_with_at_once_and_the_same_is_nothing_new() {
        let (mut files, first, now) = (files(), found("a"), SystemTime::now());
        let told = told(&first.ca, now);
        assert!(files.due(first.clone(), &told, now).is_some());
        assert!(files.due(first.clone(), &told, now).is_none());
    }

    #[test]
    fn one_of_a_new_authority_waits_for_agents_to_learn_of_it_or_for_the_end_of_the_old_one() {
        let (mut files, first, second, now) = (files(), found("a"), found("a"), SystemTime::now());
        let told_at = |of: &Found, since| told(&joined(&of.ca, &first.ca, now), since);
        files.due(first.clone(), &told_at(&first, now), now);
        let both = told_at(&second, now);
        assert!(files.due(second.clone(), &both, now).is_none());
        assert!(files.due(second.clone(), &both, now + HOUR / 2).is_none());
        assert!(files.due(second.clone(), &both, now + HOUR).is_some());
        let third = found("a");
        let all = told(&joined(&third.ca, &both.authorities, now), now + 11 * HOUR - HOUR / 2);
        assert!(files.due(third.clone(), &all, now + 9 * HOUR).is_none());
        let late = files.due(third, &all, now + 11 * HOUR);
        assert!(late.is_some(), "a client believes no certificate that has ended");
    }

    #[test]
    fn a_renewal_by_the_same_authority_is_served_with_at_once_however_new_that_is() {
        let now = SystemTime::now();
        let schedule = Schedule { lifetime: 10 * HOUR, overlap: HOUR };
        let signer = Generations::first("ca", now, &schedule).unwrap().current;
        let signed = || {
            let leaf = leaf::sign(&signer, &["a".to_owned()], now, HOUR).unwrap();
            Found { certificate: leaf.certificate, key: leaf.key, ca: signer.certificate.clone() }
        };
        let (mut files, told) = (files(), told(&signer.certificate, now));
        assert!(files.due(signed(), &told, now).is_some());
        assert!(files.due(signed(), &told, now).is_some(), "agents believe it as they do the one before");
    }

    #[test]
    fn one_whose_authority_agents_are_no_longer_to_believe_is_replaced_at_once() {
        let (mut files, first, second, now) = (files(), found("a"), found("a"), SystemTime::now());
        files.due(first.clone(), &told(&first.ca, now), now);
        assert!(files.due(second.clone(), &told(&joined(&second.ca, &first.ca, now), now), now).is_none());
        let alone = told(&joined(&second.ca, "", now), now);
        assert!(files.due(second, &alone, now).is_some(), "nobody else would be believed");
    }

    #[test]
    fn agents_go_on_believing_authorities_that_have_not_ended() {
        let (first, second, now) = (found("a"), found("b"), SystemTime::now());
        let both = joined(&second.ca, &first.ca, now);
        assert_eq!(x509::certificates(&both).unwrap().len(), 2);
        assert_eq!(joined(&second.ca, &both, now), both);
        assert_eq!(joined(&first.ca, &both, now), both, "a replica whose files are older changes nothing");
        assert_eq!(x509::certificates(&joined(&second.ca, &both, now + 11 * HOUR)).unwrap().len(), 1);
    }

    #[test]
    fn files_that_do_not_belong_together_are_refused_with_the_file() {
        let folder = std::env::temp_dir().join(format!("authority-files-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (one, other) = (found("a"), found("b"));
        let names = vec!["a".to_owned()];
        let files = Files::new(folder.join("c"), folder.join("k"), folder.join("a"), names, HOUR);
        let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
        let now = SystemTime::now();
        let error_at = |now| files.read(now).err().map(|error| error.to_string()).unwrap_or_default();
        let error = |_: &Files| error_at(now);
        assert!(error(&files).contains("/c: No such file"), "{}", error(&files));
        write("c", &one.certificate);
        write("k", &other.key);
        write("a", &one.ca);
        assert!(error(&files).contains("/c: the key is not that of the certificate"), "{}", error(&files));
        write("k", &one.key[..one.key.len() / 2]);
        assert!(error(&files).contains("/c: the key is no private key"), "{}", error(&files));
        write("k", &one.key);
        assert!(files.read(now).is_ok());
        for (at, said) in [(now + 11 * HOUR, "expired"), (now - 2 * HOUR, "not valid yet")] {
            assert!(error_at(at).contains(said), "{}", error_at(at));
        }
        write("a", &other.ca);
        assert!(error(&files).contains("/c: "), "{}", error(&files));
        write("c", &other.certificate);
        write("k", &other.key);
        assert!(error(&files).contains("not valid for name"), "{}", error(&files));
        write("a", "");
        assert!(error(&files).contains("/a: holds no certificate"), "{}", error(&files));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
