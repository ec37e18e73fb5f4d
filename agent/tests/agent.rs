//! What the agent promises of every collector: what it gives of recorded nodes, and what it is called.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test fails")]

#[path = "agent/answers.rs"]
mod answers;
#[path = "agent/dead_mount.rs"]
mod dead_mount;
#[path = "agent/file.rs"]
mod file;
#[path = "agent/fixture.rs"]
mod fixture;
#[path = "agent/fuse.rs"]
mod fuse;
#[path = "agent/generated.rs"]
mod generated;
#[path = "agent/golden.rs"]
mod golden;
#[path = "agent/http.rs"]
mod http;
#[path = "agent/kubelet.rs"]
mod kubelet;
#[path = "agent/list.rs"]
mod list;
#[path = "agent/node_exporter.rs"]
mod node_exporter;
#[path = "agent/profile.rs"]
mod profile;
#[path = "agent/program.rs"]
mod program;
#[path = "agent/secrets.rs"]
mod secrets;
#[path = "agent/stream.rs"]
mod stream;
#[path = "agent/web_config.rs"]
mod web_config;
