//! Measures one node and exposes what the policies ask for: subscribe; and on each scrape collect → transform → expose.

// In the order of the data.
mod duration;
pub mod flags;

pub mod config;
pub mod confine;
pub mod in_force;
pub mod judge;
pub mod last_good;
pub mod plan;
pub mod prepare_last_good;
pub mod subscribe;

pub mod access;
mod collect_error;
pub mod collector;
pub mod devices;
pub mod follow_pods;
pub mod follow_stats;
pub mod health;
pub mod metric;
pub mod oom_kills;
pub mod option;
pub mod pods;
pub mod process_groups;
pub mod reach;
pub mod rights;
pub mod sample;
pub mod scrape;
pub mod source;
pub mod storage;
pub mod transform;

pub mod compare;
pub mod expose;
pub mod log;
pub mod telemetry;
mod tls_client;
