//! Which distribution the machine runs.

use std::path::PathBuf;
use std::time::Instant;

use rustix::io::Errno;

use super::{CollectError, Collector, NodeCollector, Run};
use crate::metric::{Labels, Writer, families};
use crate::source::file::read_in_root;
use crate::source::recent::Recent;
use crate::source::text::{label, lines};

/// `os`
pub(super) const COLLECTOR: Collector = Collector {
    name: "os",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[],
    options: &[],
    exclusive: &[],
    run: Run::Node {
        start: |paths, _| {
            Box::new(Os {
                rootfs: paths.rootfs.clone(),
                path: FILES[0],
                text: Vec::new(),
                release: Release::default(),
                recent: Recent::default(),
            })
        },
        can_block: false,
    },
};

families! {
    Info Gauge "node_os_info" "A metric with a constant '1' value labeled by build_id, id, id_like, image_id, image_version, name, pretty_name, variant, variant_id, version, version_codename, version_id.";
    SupportEnd Gauge "node_os_support_end_timestamp_seconds" "Metric containing the end-of-life date timestamp of the OS.";
    Version Gauge "node_os_version" "Metric containing the major.minor part of the OS version.";
}

/// Where it is written, in the order of os-release(5).
pub(super) const FILES: [&str; 2] = ["/etc/os-release", "/usr/lib/os-release"];

/// The keys that are labels.
const KEYS: [(&str, &str); 12] = [
    ("BUILD_ID", "build_id"),
    ("ID", "id"),
    ("ID_LIKE", "id_like"),
    ("IMAGE_ID", "image_id"),
    ("IMAGE_VERSION", "image_version"),
    ("NAME", "name"),
    ("PRETTY_NAME", "pretty_name"),
    ("VARIANT", "variant"),
    ("VARIANT_ID", "variant_id"),
    ("VERSION", "version"),
    ("VERSION_CODENAME", "version_codename"),
    ("VERSION_ID", "version_id"),
];
const ID: usize = 1;
const ID_LIKE: usize = 2;
const NAME: usize = 5;
const VERSION_ID: usize = 11;

struct Os {
    rootfs: PathBuf,
    /// Which of [`FILES`] was read.
    path: &'static str,
    text: Vec<u8>,
    release: Release,
    recent: Recent,
}

/// What a text says, made anew when it has changed.
#[derive(Default)]
struct Release {
    text: Vec<u8>,
    values: [String; KEYS.len()],
    version: Option<f64>,
    support_end: Option<f64>,
    fault: Option<String>,
}

impl NodeCollector for Os {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let now = Instant::now();
        if !self.recent.holds(now) {
            self.look()?;
            self.recent.set(true, now);
        }
        let Release { values, version, support_end, fault, .. } = &self.release;
        let mut labels = [("", ""); KEYS.len()];
        for ((to, (_, name)), value) in labels.iter_mut().zip(KEYS).zip(values) {
            *to = (name, value);
        }
        let all = out.labels(&labels);
        out.node(F::Info, all, 1.0);
        if let Some(version) = version {
            let labels = out.labels(&[labels[ID], labels[ID_LIKE], labels[NAME]]);
            out.node(F::Version, labels, *version);
        }
        if let Some(end) = support_end {
            out.node(F::SupportEnd, Labels::NONE, *end);
        }
        fault.as_ref().map_or(Ok(()), |what| Err(CollectError::parse(self.path, what)))
    }
}

impl Os {
    /// By name each time: an upgrade puts another file in its place.
    fn look(&mut self) -> Result<(), CollectError> {
        let mut result = Err(Errno::NOENT);
        for file in FILES {
            self.path = file;
            result = read_in_root(&self.rootfs, file, &mut self.text);
            if result != Err(Errno::NOENT) {
                break;
            }
        }
        result.map_err(|source| CollectError::read(self.path, source))?;
        if self.text != self.release.text {
            self.release = Release::new(&self.text);
        }
        Ok(())
    }
}

impl Release {
    fn new(text: &[u8]) -> Self {
        let mut release = Release { text: text.to_owned(), ..Release::default() };
        for line in lines(text).map(<[u8]>::trim_ascii).filter(|line| !line.is_empty() && line[0] != b'#') {
            let Some((key, value)) = assignment(line) else {
                release.fault = Some(format!("`{}` is not a key with a value", label(line)));
                continue;
            };
            if let Some(i) = KEYS.iter().position(|(known, _)| known.as_bytes() == key) {
                release.values[i] = label(&value).into_owned();
            } else if key == b"SUPPORT_END" && !value.is_empty() {
                release.support_end = date(&value);
                if release.support_end.is_none() {
                    release.fault = Some(format!("SUPPORT_END=`{}` is not a date", label(&value)));
                }
            }
        }
        release.version = version(&release.values[VERSION_ID]).filter(|version| *version > 0.0);
        release
    }
}

/// What the machine's system calls itself.
pub(super) fn pretty_name(text: &[u8]) -> Option<String> {
    let name =
        lines(text).filter_map(|line| assignment(line.trim_ascii())).find(|(key, _)| *key == b"PRETTY_NAME");
    name.map(|(_, name)| label(&name).into_owned())
}

/// `PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"`, quoted as a shell has it (os-release(5)).
fn assignment(line: &[u8]) -> Option<(&[u8], Vec<u8>)> {
    let equals = line.iter().position(|b| *b == b'=')?;
    let (key, mut rest) = (line[..equals].trim_ascii(), line[equals + 1..].trim_ascii());
    let mut value = Vec::with_capacity(rest.len());
    let mut quote = None;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match (quote, first) {
            (None, b'"' | b'\'') => quote = Some(*first),
            (Some(open), _) if open == *first => quote = None,
            (Some(b'\''), _) => value.push(*first),
            (_, b'\\') => match rest.split_first() {
                Some((escaped @ (b'"' | b'\\' | b'$' | b'`' | b'\''), after)) => {
                    value.push(*escaped);
                    rest = after;
                }
                _ => value.push(b'\\'),
            },
            _ => value.push(*first),
        }
    }
    (!key.is_empty() && quote.is_none()).then_some((key, value))
}

/// The number that a version such as `22.04.1` begins with.
fn version(text: &str) -> Option<f64> {
    let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let major = digits(text);
    let end = match text[major..].strip_prefix('.') {
        Some(minor) => major + 1 + digits(minor),
        None => major,
    };
    text[..end].parse().ok().filter(|_| major > 0)
}

/// The start of a day such as `2026-06-10`, in seconds since 1970.
fn date(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?;
    let date: jiff::civil::Date = text.parse().ok().filter(|_| text.len() == "2026-06-10".len())?;
    Some(date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::shown::gives;

    #[test]
    fn values_are_quoted_as_in_a_shell() {
        let text = "# of the vendor\n\nID=debian\nNAME='A \"b\" $c'\nPRETTY_NAME=\"x \\\"y\\\" \\$z \\n\"\nVERSION_ID=22.04.1\n\
                    ID_LIKE=\nSUPPORT_END=2024-05-14\nOTHER=1\n";
        let (lines, result) = gives(&COLLECTOR, &[("etc/os-release", text)], &[]);
        result.unwrap();
        assert_eq!(
            lines[0],
            r#"node_os_info{build_id="",id="debian",id_like="",image_id="",image_version="",name="A \"b\" $c",pretty_name="x \"y\" $z \\n",variant="",variant_id="",version="",version_codename="",version_id="22.04.1"} 1"#
        );
        assert_eq!(lines[1], "node_os_support_end_timestamp_seconds 1715644800");
        assert_eq!(lines[2], r#"node_os_version{id="debian",id_like="",name="A \"b\" $c"} 22.04"#);
    }

    #[test]
    fn what_cannot_be_read_is_named_and_the_rest_is_given() {
        for (bad, said) in [("NAME=\"x", "NAME"), ("SUPPORT_END=soon", "SUPPORT_END"), ("nothing", "nothing")]
        {
            let text = format!("ID=debian\n{bad}\n");
            let (lines, result) = gives(&COLLECTOR, &[("usr/lib/os-release", &text)], &[]);
            assert!(lines[0].contains(r#"id="debian""#) && lines.len() == 1, "{bad}");
            assert!(result.unwrap_err().to_string().contains(said), "{bad}");
        }
        let (_, result) = gives(&COLLECTOR, &[], &[]);
        assert!(matches!(result, Err(CollectError::Absent(_))));
    }

    #[test]
    fn a_version_is_what_it_begins_with() {
        let versions = ["12", "22.04.1", "3.19_alpha", "24.", "rolling", "", ".5"];
        assert_eq!(
            versions.map(version),
            [Some(12.0), Some(22.04), Some(3.19), Some(24.0), None, None, None]
        );
    }
}
