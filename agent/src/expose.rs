//! The HTTP endpoint: which part, in which format, shared by requests that overlap.

mod answer;
mod authorization;
mod flight;
mod gzip;
mod listen;
mod negotiate;
mod paced;
mod places;
mod pool;
mod serve;
pub mod text;
mod web_config;

pub use answer::Exposition;
pub use authorization::{Authorization, Tokens};
pub use flight::Flights;
pub use gzip::Gzip;
pub use listen::Listener;
pub use serve::serve;
pub use web_config::{WebConfig, WebConfigError};
