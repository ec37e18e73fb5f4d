//! Authorities that follow each other: the next is known to agents before it signs, the previous for as long as what it
//! signed is in use.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose};

use super::x509::{self, Validity};

/// When authorities follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// How long an authority holds; the next one is made when a third of it is left.
    pub lifetime: Duration,
    /// How long agents know the next authority before it signs.
    pub overlap: Duration,
}

/// How long a certificate of the operator holds.
pub(super) const LEAF_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// Clocks differ.
pub(super) const BEFORE: Duration = Duration::from_secs(300);

/// An authority that can sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Signer {
    pub(super) certificate: String,
    pub(super) key: Key,
    pub(super) validity: Validity,
}

/// A private key in PEM, which nobody logs.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Key(pub(super) String);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(hidden)")
    }
}

/// Those that there are at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Generations {
    /// Signs.
    pub(super) current: Signer,
    /// Will sign, once agents have had the time to learn of it.
    pub(super) next: Option<Signer>,
    /// Has signed what may still be in use.
    pub(super) previous: Option<String>,
}

const CURRENT: (&str, &str) = ("ca.crt", "ca.key");
const NEXT: (&str, &str) = ("next.crt", "next.key");
const PREVIOUS: &str = "previous.crt";

impl Generations {
    /// The first.
    pub(super) fn first(name: &str, now: SystemTime, schedule: &Schedule) -> Result<Self, rcgen::Error> {
        Ok(Generations { current: Signer::make(name, now, schedule.lifetime)?, next: None, previous: None })
    }

    /// What comes after these, where it is time; `is_asked` is somebody's wish for a new one at once.
    pub(super) fn step(
        &self,
        name: &str,
        now: SystemTime,
        schedule: &Schedule,
        is_asked: bool,
    ) -> Result<Option<Self>, rcgen::Error> {
        let Generations { current, next, previous } = self;
        let since = |from: SystemTime| now.duration_since(from).unwrap_or_default();
        if let Some(next) = next {
            let is_known = since(next.validity.from + BEFORE) >= schedule.overlap;
            return Ok((is_known || now >= current.validity.until).then(|| Generations {
                current: next.clone(),
                next: None,
                previous: Some(current.certificate.clone()),
            }));
        }
        let third = schedule.lifetime / 3;
        if is_asked || now + third >= current.validity.until {
            let next = Some(Signer::make(name, now, schedule.lifetime)?);
            return Ok(Some(Generations { next, ..self.clone() }));
        }
        // It signs since it was known; what the one before signed then has ended.
        let is_over = since(current.validity.from + BEFORE) >= schedule.overlap + LEAF_LIFETIME;
        Ok((previous.is_some() && is_over).then(|| Generations { previous: None, ..self.clone() }))
    }

    /// Whom agents are to believe, in PEM.
    pub(super) fn bundle(&self) -> String {
        let next = self.next.as_ref().map(|next| next.certificate.as_str());
        let all = [Some(self.current.certificate.as_str()), next, self.previous.as_deref()];
        all.into_iter().flatten().collect()
    }

    /// When the authority that signs ends.
    pub(super) fn current_ends(&self) -> SystemTime {
        self.current.validity.until
    }

    /// As they are kept in a Secret.
    pub(super) fn to_data(&self) -> BTreeMap<String, String> {
        let mut data = BTreeMap::new();
        let signers = [(CURRENT, Some(&self.current)), (NEXT, self.next.as_ref())];
        for ((certificate, key), signer) in signers {
            if let Some(signer) = signer {
                data.insert(certificate.to_owned(), signer.certificate.clone());
                data.insert(key.to_owned(), signer.key.0.clone());
            }
        }
        data.extend(self.previous.clone().map(|previous| (PREVIOUS.to_owned(), previous)));
        data
    }

    /// As they are kept in a Secret, back.
    ///
    /// # Errors
    /// The key of the Secret and what is wrong with it.
    pub(super) fn from_data(data: &BTreeMap<String, String>) -> Result<Self, (&'static str, String)> {
        let signer = |(certificate, key): (&'static str, &'static str)| match data.get(certificate) {
            None => Ok(None),
            Some(pem) => {
                let key_pem = data.get(key).ok_or_else(|| (key, "is missing".to_owned()))?;
                x509::pair(pem, key_pem).map_err(|what| (certificate, what))?;
                let found = x509::certificates(pem).map_err(|what| (certificate, what))?;
                let validity = x509::validity(&found[0]).map_err(|what| (certificate, what))?;
                Ok(Some(Signer { certificate: pem.clone(), key: Key(key_pem.clone()), validity }))
            }
        };
        let previous = data.get(PREVIOUS).cloned();
        if let Some(previous) = &previous {
            x509::certificates(previous).map_err(|what| (PREVIOUS, what))?;
        }
        let current = signer(CURRENT)?.ok_or_else(|| (CURRENT.0, "is missing".to_owned()))?;
        Ok(Generations { current, next: signer(NEXT)?, previous })
    }
}

impl Signer {
    fn make(name: &str, now: SystemTime, lifetime: Duration) -> Result<Self, rcgen::Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, format!("{name} agents"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let from = now - BEFORE;
        (params.not_before, params.not_after) = (from.into(), (now + lifetime).into());
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        let validity = x509::validity(certificate.der()).map_err(|_| rcgen::Error::Time)?;
        Ok(Signer { certificate: certificate.pem(), key: Key(key.serialize_pem()), validity })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const DAY: Duration = Duration::from_secs(24 * 3600);
    const SCHEDULE: Schedule = Schedule { lifetime: Duration::from_secs(90 * 24 * 3600), overlap: DAY };

    fn start() -> SystemTime {
        SystemTime::UNIX_EPOCH + 20_000 * DAY
    }

    fn step(generations: &Generations, now: SystemTime) -> Option<Generations> {
        generations.step("operator", now, &SCHEDULE, false).unwrap()
    }

    #[test]
    fn an_authority_is_known_before_it_signs_and_until_what_it_signed_has_ended() {
        let first = Generations::first("operator", start(), &SCHEDULE).unwrap();
        assert_eq!(step(&first, start() + 59 * DAY), None);
        let announced = step(&first, start() + 60 * DAY).unwrap();
        assert_eq!(announced.current, first.current, "it signs as before");
        let next = announced.next.clone().unwrap();
        assert_eq!(announced.bundle(), format!("{}{}", first.current.certificate, next.certificate));
        assert_eq!(step(&announced, start() + 60 * DAY + 23 * HOUR), None);
        let taken = step(&announced, start() + 61 * DAY).unwrap();
        assert_eq!((&taken.current, &taken.next), (&next, &None));
        assert_eq!(taken.bundle(), format!("{}{}", next.certificate, first.current.certificate));
        assert_eq!(step(&taken, start() + 61 * DAY + 23 * HOUR), None);
        let alone = step(&taken, start() + 62 * DAY).unwrap();
        assert_eq!(alone.bundle(), next.certificate);
        assert_eq!(step(&alone, start() + 63 * DAY), None);
    }

    #[test]
    fn whoever_asks_for_a_new_one_gets_it_with_the_same_overlap() {
        let first = Generations::first("operator", start(), &SCHEDULE).unwrap();
        let asked = first.step("operator", start() + HOUR, &SCHEDULE, true).unwrap().unwrap();
        assert!(asked.next.is_some());
        assert_eq!(
            asked.step("operator", start() + 2 * HOUR, &SCHEDULE, true).unwrap(),
            None,
            "once is enough"
        );
    }

    #[test]
    fn an_authority_that_has_ended_makes_way_at_once() {
        let first = Generations::first("operator", start(), &SCHEDULE).unwrap();
        let announced = step(&first, start() + 400 * DAY).unwrap();
        let taken = step(&announced, start() + 400 * DAY).unwrap();
        assert_eq!(Some(taken.current), announced.next);
    }

    #[test]
    fn what_is_kept_comes_back_and_what_is_broken_is_named() {
        let first = Generations::first("operator", start(), &SCHEDULE).unwrap();
        let announced = step(&first, start() + 60 * DAY).unwrap();
        let taken = step(&announced, start() + 61 * DAY).unwrap();
        for generations in [&first, &announced, &taken] {
            assert_eq!(Generations::from_data(&generations.to_data()).as_ref(), Ok(generations));
        }
        let broken = |change: &dyn Fn(&mut BTreeMap<String, String>)| {
            let mut data = announced.to_data();
            change(&mut data);
            Generations::from_data(&data).unwrap_err().0
        };
        assert_eq!(broken(&|data| _ = data.remove("ca.crt")), "ca.crt");
        assert_eq!(broken(&|data| _ = data.remove("ca.key")), "ca.key");
        assert_eq!(broken(&|data| _ = data.insert("ca.crt".into(), "half of it".into())), "ca.crt");
        let swap =
            |data: &mut BTreeMap<String, String>| _ = data.insert("ca.key".into(), data["next.key"].clone());
        assert_eq!(broken(&swap), "ca.crt", "the key of another authority");
        assert_eq!(broken(&|data| _ = data.insert("previous.crt".into(), String::new())), "previous.crt");
    }

    #[test]
    fn a_key_is_not_logged() {
        let first = Generations::first("operator", start(), &SCHEDULE).unwrap();
        assert!(!format!("{first:?}").contains("PRIVATE"));
    }
}
