//! A certificate that somebody else renews, in files: read again and again, and served with once agents know its authority.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::AuthorityError;
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

    /// What is to be served with from now on, where that is another than before. Agents have known its authority since
    /// then; one that has nothing else to serve with does not wait, as after a restart.
    pub(super) fn due(&mut self, found: Found, known_since: SystemTime, now: SystemTime) -> Option<Pair> {
        if self.served.as_ref() == Some(&found) {
            return None;
        }
        let is_late = self.served.as_ref().and_then(|it| it.pair().ok()).is_none_or(|it| it.ends <= now);
        if !is_late && now.duration_since(known_since).unwrap_or_default() < self.overlap {
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

/// The authorities of the file, then those that agents know and that have not ended.
pub(super) fn joined(ca: &str, known: &str, now: SystemTime) -> String {
    let new = x509::certificates(ca).unwrap_or_default();
    let mut joined = new.clone();
    for old in x509::certificates(known).unwrap_or_default() {
        let is_over = x509::validity(&old).map_or(true, |it| it.until <= now);
        if !is_over && !joined.contains(&old) && joined.len() < new.len().max(MOST_AUTHORITIES) {
            joined.push(old);
        }
    }
    joined.iter().map(|it| x509::pem(it)).collect()
}

fn content(path: &Path, what: String) -> AuthorityError {
    AuthorityError::Content { place: path.display().to_string(), what }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

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

    fn files() -> Files {
        Files::new("c".into(), "k".into(), "a".into(), vec!["a".to_owned()], HOUR)
    }

    #[test]
    fn the_first_is_served_with_at_once_and_the_same_is_nothing_new() {
        let (mut files, first, now) = (files(), found("a"), SystemTime::now());
        assert!(files.due(first.clone(), now, now).is_some());
        assert!(files.due(first.clone(), now, now).is_none());
    }

    #[test]
    fn one_of_a_new_authority_waits_for_agents_to_learn_of_it_or_for_the_end_of_the_old_one() {
        let (mut files, first, second, now) = (files(), found("a"), found("b"), SystemTime::now());
        files.due(first.clone(), now, now);
        assert!(files.due(second.clone(), now, now).is_none());
        assert!(files.due(second.clone(), now, now + HOUR / 2).is_none());
        assert!(files.due(second.clone(), now, now + HOUR).is_some());
        let (third, known) = (found("c"), now + 3 * HOUR);
        assert!(files.due(third.clone(), known, known).is_none());
        let late = files.due(third, now + 11 * HOUR, now + 11 * HOUR);
        assert!(late.is_some(), "a client believes no certificate that has ended");
    }

    #[test]
    fn agents_go_on_believing_authorities_that_have_not_ended() {
        let (first, second, now) = (found("a"), found("b"), SystemTime::now());
        let both = joined(&second.ca, &first.ca, now);
        assert_eq!(x509::certificates(&both).unwrap().len(), 2);
        assert_eq!(joined(&second.ca, &both, now), both);
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
