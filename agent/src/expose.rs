//! The HTTP endpoint: which part, in which format, shared by requests that overlap.

mod flight;
mod negotiate;
mod pool;
mod serve;
pub mod text;

pub use flight::Flights;
pub use serve::{Exposition, serve};
