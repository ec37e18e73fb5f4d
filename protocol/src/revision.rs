//! What identifies content: a policy's revision and a snapshot's digest.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Identifies what one policy says: 16 hexadecimal digits, equal for equal content whoever computed it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(String);

/// Identifies a whole snapshot: 32 hexadecimal digits.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(String);

impl Revision {
    pub(crate) fn of(content: &impl Serialize) -> Self {
        Revision(hash(content, 8))
    }
}

impl Digest {
    pub(crate) fn of(content: &impl Serialize) -> Self {
        Digest(hash(content, 16))
    }
}

macro_rules! text {
    ($($name:ident)*) => {$(
        impl $name {
            /// The text as it travels.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Whether there is none.
            pub fn is_empty(&self) -> bool {
                self.0.is_empty()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                $name(text)
            }
        }
    )*};
}
text!(Revision Digest);

/// The first `bytes` of the SHA-256 of the content's JSON, which is canonical: fields in declared order, maps and
/// sets sorted.
fn hash(content: &impl Serialize, bytes: usize) -> String {
    use std::fmt::Write as _;
    struct Hasher(Sha256);
    impl std::io::Write for Hasher {
        fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
            self.0.update(data);
            Ok(data.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut hasher = Hasher(Sha256::new());
    if serde_json::to_writer(&mut hasher, content).is_err() {
        unreachable!("the types that are hashed have string keys and the writer takes everything");
    }
    hasher.0.finalize()[..bytes].iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
