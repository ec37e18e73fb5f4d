//! What the operator promises: what policies mean, what agents are told, what users are told.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "operator/compile.rs"]
mod compile;
#[path = "operator/objects.rs"]
mod objects;
#[path = "operator/validate.rs"]
mod validate;
