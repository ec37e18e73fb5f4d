//! Why a stream is refused, or ends from this side: what its agent is told, and what is counted.

use protocol::PROTOCOL;
use tonic::{Code, Status};

use crate::identity::Denied;

/// Why a stream is refused, or ends from this side; its word is a metric's label.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("not leader")]
    NotLeader,
    #[error("this operator speaks protocol {PROTOCOL}, the agent {0}")]
    OtherProtocol(u32),
    #[error("the first message must be a hello that names the node")]
    NoHello,
    #[error("a newer stream of the same node took the place of this one")]
    Replaced,
    #[error("a younger agent of the same node has a stream")]
    Superseded,
    #[error("{0}")]
    Undecodable(protocol::DecodeError),
    #[error(transparent)]
    Denied(#[from] Denied),
}

impl Refused {
    /// Every word of [`Refused::label`].
    pub(crate) fn labels() -> Vec<&'static str> {
        let own = ["not_leader", "other_protocol", "no_hello", "replaced", "superseded", "undecodable"];
        own.into_iter().chain(Denied::LABELS).collect()
    }

    pub(crate) fn label(&self) -> &'static str {
        match self {
            Refused::NotLeader => "not_leader",
            Refused::OtherProtocol(_) => "other_protocol",
            Refused::NoHello => "no_hello",
            Refused::Replaced => "replaced",
            Refused::Superseded => "superseded",
            Refused::Undecodable(_) => "undecodable",
            Refused::Denied(denied) => denied.label(),
        }
    }

    pub(crate) fn status(&self) -> Status {
        let code = match self {
            Refused::NotLeader => Code::FailedPrecondition,
            // Another try will not do; FailedPrecondition would bring the agent back at once.
            Refused::OtherProtocol(_) => Code::Unimplemented,
            Refused::NoHello | Refused::Undecodable(_) => Code::InvalidArgument,
            Refused::Replaced | Refused::Superseded => Code::Aborted,
            Refused::Denied(Denied::NoAnswer(_)) => Code::Unavailable,
            Refused::Denied(_) => Code::PermissionDenied,
        };
        Status::new(code, self.to_string())
    }
}
