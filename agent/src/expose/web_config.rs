//! `--web.config.file`: TLS, users, headers and a rate, in the format of the exporter toolkit; read again when it changes.

mod client;
mod gate;
mod limit;
mod settings;
mod tls;
mod users;
mod watch;

use std::path::PathBuf;

pub(super) use gate::{Gate, Refusal};
pub use watch::WebConfig;

/// What is wrong with a field of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fault {
    field: String,
    message: String,
}

impl Fault {
    fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Fault { field: field.into(), message: message.into() }
    }
}

/// Why a web configuration cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebConfigError {
    /// The file cannot be read.
    #[error("{}: {message}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel says.
        message: String,
    },
    /// A field, or what it names, cannot be used.
    #[error("{}: {field}: {message}", path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// The field, with its section.
        field: String,
        /// What is wrong, and what to do.
        message: String,
    },
}
