//! What the benches share: deterministic synthetic nodes, and how a ratio is measured.

pub mod measure;
pub mod synthetic;
