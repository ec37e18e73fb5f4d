//! A unit, and what it is asked for.

use super::F;
use crate::source::dbus::Body;

/// One unit as the list has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unit<'a> {
    pub(super) name: &'a str,
    pub(super) load: &'a str,
    pub(super) active: &'a str,
    pub(super) path: &'a str,
}

/// A property, and the family that it becomes; of [`F::UnitState`] it is a label.
pub(super) struct Question {
    suffix: &'static str,
    pub(super) interface: &'static str,
    pub(super) name: &'static str,
    pub(super) family: F,
    unit: Unit64,
}

/// What becomes of a number.
#[derive(Clone, Copy)]
enum Unit64 {
    One,
    Microseconds,
    /// The highest number stands for none.
    OrNone,
}

const SERVICE: &str = "org.freedesktop.systemd1.Service";
const SOCKET: &str = "org.freedesktop.systemd1.Socket";

const fn question(
    suffix: &'static str,
    interface: &'static str,
    name: &'static str,
    family: F,
    unit: Unit64,
) -> Question {
    Question { suffix, interface, name, family, unit }
}

/// org.freedesktop.systemd1(5)
pub(super) const QUESTIONS: [Question; 10] = [
    question(".service", SERVICE, "Type", F::UnitState, Unit64::One),
    question(".mount", "org.freedesktop.systemd1.Mount", "Type", F::UnitState, Unit64::One),
    question(".service", SERVICE, "NRestarts", F::Restarts, Unit64::One),
    question(".service", SERVICE, "TasksCurrent", F::TasksCurrent, Unit64::OrNone),
    question(".service", SERVICE, "TasksMax", F::TasksMax, Unit64::OrNone),
    question(
        ".timer",
        "org.freedesktop.systemd1.Timer",
        "LastTriggerUSec",
        F::LastTrigger,
        Unit64::Microseconds,
    ),
    question(".socket", SOCKET, "NAccepted", F::Accepted, Unit64::One),
    question(".socket", SOCKET, "NConnections", F::Current, Unit64::One),
    question(".socket", SOCKET, "NRefused", F::Refused, Unit64::One),
    question("", "org.freedesktop.systemd1.Unit", "ActiveEnterTimestamp", F::StartTime, Unit64::Microseconds),
];

impl<'a> Unit<'a> {
    /// `(ssssssouso)`: name, description, load state, active state, sub-state, followed unit, path, job with kind and path.
    pub(super) fn read(body: &mut Body<'a>) -> Option<Self> {
        let [name, _, load, active, _, _, path] = [(); 7].map(|()| body.text());
        body.u32()?;
        let (_, _) = (body.text()?, body.text()?);
        Some(Unit { name: name?, load: load?, active: active?, path: path? })
    }

    /// What of it there is to ask; what is not active was not started.
    pub(super) fn questions(self, wanted: &[&'static Question]) -> impl Iterator<Item = &'static Question> {
        let is_asked = move |question: &&Question| {
            self.name.ends_with(question.suffix)
                && (!matches!(question.family, F::StartTime) || self.active == "active")
        };
        wanted.iter().copied().filter(is_asked)
    }
}

impl Question {
    pub(super) fn value(&self, number: u64) -> Option<f64> {
        match self.unit {
            Unit64::One => Some(number as f64),
            Unit64::Microseconds => Some(number as f64 / 1e6),
            Unit64::OrNone => (number != u64::MAX).then_some(number as f64),
        }
    }

    pub(super) fn is_of_socket(&self) -> bool {
        self.interface == SOCKET
    }
}
