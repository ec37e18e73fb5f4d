//! A real cluster on this machine, brought up and taken down by one process.
//!
//! [`parts`] builds what a cluster consists of, [`cluster`] starts it, [`kubectl`] talks to it, and dropping the
//! cluster removes every trace. With `KUBECONFIG` set, the cluster is the one that it names.

// Namespaces and cgroups are what all of it is made of.
#![cfg(target_os = "linux")]

pub mod big_machine;
pub mod cadvisor;
pub mod cgroup;
pub mod channel;
pub mod chart;
pub mod client;
pub mod cluster;
pub mod control_plane;
pub mod debian;
pub mod differential;
pub mod dns;
pub mod exporter;
pub mod exposition;
pub mod floor;
pub mod http;
pub mod https;
pub mod image;
pub mod instance;
pub mod interrupt;
pub mod kubectl;
pub mod many_pods;
pub mod measured;
pub mod monitoring;
pub mod netns;
pub mod node;
pub mod node_exporter_flags;
pub mod packages;
pub mod parts;
pub mod pki;
pub mod power_cut;
pub mod process;
pub mod process_exporter;
pub mod product;
pub mod programs;
pub mod progress;
pub mod sbom;
pub mod scraper;
pub mod seccomp;
pub mod tiny;
pub mod tools;
pub mod wait;
pub mod weigh;
