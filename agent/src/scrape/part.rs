//! The parts of what is exposed, each with a path of its own.

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// `/metrics`
    All,
    /// `/metrics/node`
    Node,
    /// `/metrics/cadvisor`
    Cadvisor,
    /// `/metrics/processes`
    Processes,
    /// `/metrics/volumes`
    Volumes,
    /// `/metrics/agent`
    Agent,
}

impl Part {
    /// How many there are.
    pub(crate) const COUNT: usize = Part::Agent as usize + 1;

    pub(super) fn has_node(self) -> bool {
        matches!(self, Part::All | Part::Node)
    }

    pub(super) fn has_cgroups(self) -> bool {
        matches!(self, Part::All | Part::Cadvisor)
    }

    /// Whether what belongs to the other part is in this one.
    pub(super) fn has(self, other: Part) -> bool {
        self == Part::All || self == other
    }

    pub(super) fn has_agent(self) -> bool {
        matches!(self, Part::All | Part::Agent)
    }

    /// The word for it in the agent's own metrics.
    pub fn word(self) -> &'static str {
        match self {
            Part::All => "all",
            Part::Node => "node",
            Part::Cadvisor => "cadvisor",
            Part::Processes => "processes",
            Part::Volumes => "volumes",
            Part::Agent => "agent",
        }
    }
}
