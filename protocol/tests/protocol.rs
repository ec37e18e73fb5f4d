//! What two versions of the programs rely on: the generated code is that of the contract, and what is said arrives.

#[path = "protocol/contract.rs"]
mod contract;
#[path = "protocol/merge.rs"]
mod merge;
