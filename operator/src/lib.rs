//! Deciding: gather → validate → compile → publish → report.

pub mod world;

pub mod agents;
pub mod compile;
pub mod confine;
pub mod gather;
pub mod publish;
pub mod report;
pub mod validate;

pub mod accept;
pub mod access;
pub mod authority;
pub mod identity;

pub mod elect;
pub mod offline;
pub mod reconcile;
pub mod run;
pub mod serve;
pub mod telemetry;
