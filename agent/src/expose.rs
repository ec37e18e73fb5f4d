//! The HTTP endpoint: which part, in which format, shared by requests that overlap.

mod answer;
mod flight;
mod listen;
mod negotiate;
mod pack;
mod pool;
mod serve;
pub mod text;
mod web_config;

pub use answer::Exposition;
pub use flight::Flights;
pub use listen::Listener;
pub use serve::serve;
pub use web_config::{WebConfig, WebConfigError};
