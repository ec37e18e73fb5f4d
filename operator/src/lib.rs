//! Deciding: gather → validate → compile → publish → report.

pub mod compile;
pub mod validate;
pub mod world;
