//! What is generated from the types is what is committed, and the rules say what they should.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "crds/generated.rs"]
mod generated;
#[path = "crds/reference.rs"]
mod reference;
#[path = "crds/rules.rs"]
mod rules;
