//! What the operator promises: what policies mean, what agents are told, what users are told.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test fails")]

#[path = "operator/api_server.rs"]
mod api_server;
#[path = "operator/authority.rs"]
mod authority;
#[path = "operator/compile.rs"]
mod compile;
#[path = "operator/degraded.rs"]
mod degraded;
#[path = "operator/elect.rs"]
mod elect;
#[path = "operator/identity.rs"]
mod identity;
#[path = "operator/objects.rs"]
mod objects;
#[path = "operator/offline.rs"]
mod offline;
#[path = "operator/publish.rs"]
mod publish;
#[path = "operator/reconcile.rs"]
mod reconcile;
#[path = "operator/report.rs"]
mod report;
#[path = "operator/run.rs"]
mod run;
#[path = "operator/secrets.rs"]
mod secrets;
#[path = "operator/validate.rs"]
mod validate;
#[path = "operator/write.rs"]
mod write;
