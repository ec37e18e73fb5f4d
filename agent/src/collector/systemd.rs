//! The units of systemd and their states.

mod unit;

use std::path::{Path, PathBuf};

use regex::Regex;
use rustix::io::Errno;

use super::{CollectError, Collector, NodeCollector, OptionDesc, OptionKind, Options, Run};
use crate::metric::{Labels, Writer, families};
use crate::source::dbus::{Buffers, Bus, BusError, List, Method, Property, Value};
use unit::{QUESTIONS, Question, Unit};

/// `systemd`
pub(super) const COLLECTOR: Collector = Collector {
    name: "systemd",
    enabled_by_default: false,
    families: FAMILIES,
    named: &[],
    options: &[
        OptionDesc::new(
            "unitInclude",
            OptionKind::WholeRegex,
            ".+",
            "Units to give; the whole name must match.",
        )
        .deprecated(&["collector.systemd.unit-whitelist"]),
        OptionDesc::new(
            "unitExclude",
            OptionKind::WholeRegex,
            r".+\.(automount|device|mount|scope|slice)",
            "Units to leave out, also of those to give; the whole name must match.",
        )
        .deprecated(&["collector.systemd.unit-blacklist"]),
        OptionDesc::new(
            "private",
            OptionKind::Bool,
            "false",
            "Whether to ask systemd directly and not over D-Bus, as root.",
        ),
        OptionDesc::new(
            "enableTaskMetrics",
            OptionKind::Bool,
            "false",
            "Whether to give the tasks of services.",
        ),
        OptionDesc::new(
            "enableRestartsMetrics",
            OptionKind::Bool,
            "false",
            "Whether to give how often services were restarted.",
        ),
        OptionDesc::new(
            "enableStartTimeMetrics",
            OptionKind::Bool,
            "false",
            "Whether to give when units were started.",
        ),
    ],
    exclusive: &[],
    run: Run::Node {
        start: |paths, options| Box::new(Systemd::new(&paths.rootfs, options)),
        can_block: true,
    },
};

families! {
    UnitState Gauge "node_systemd_unit_state" "Systemd unit.";
    StartTime Gauge "node_systemd_unit_start_time_seconds" "Start time of the unit since unix epoch in seconds.";
    TasksCurrent Gauge "node_systemd_unit_tasks_current" "Current number of tasks per Systemd unit.";
    TasksMax Gauge "node_systemd_unit_tasks_max" "Maximum number of tasks per Systemd unit.";
    Running Gauge "node_systemd_system_running" "Whether the system is operational (see 'systemctl is-system-running').";
    Units Gauge "node_systemd_units" "Summary of systemd unit states.";
    Restarts Counter "node_systemd_service_restart_total" "Service unit count of Restart triggers.";
    LastTrigger Gauge "node_systemd_timer_last_trigger_seconds" "Seconds since epoch of last trigger.";
    Accepted Counter "node_systemd_socket_accepted_connections_total" "Total number of accepted socket connections.";
    Current Gauge "node_systemd_socket_current_connections" "Current number of socket connections.";
    Refused Gauge "node_systemd_socket_refused_connections_total" "Total number of refused socket connections.";
    Version Gauge "node_systemd_version" "Detected systemd version.";
    Virtualization Gauge "node_systemd_virtualization_info" "Detected virtualization technology.";
}

const SERVICE: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const PATH: &str = "/org/freedesktop/systemd1";
const STATES: [&str; 5] = ["active", "activating", "deactivating", "inactive", "failed"];

/// The first version that tells its own state, and when timers went off.
const TELLS_STATE: f64 = 212.0;

struct Systemd {
    bus: PathBuf,
    own: PathBuf,
    is_private: bool,
    choice: Choice,
    buffers: Buffers,
    units: Units,
}

/// What is given.
struct Choice {
    include: Option<Regex>,
    exclude: Option<Regex>,
    tasks: bool,
    restarts: bool,
    start_times: bool,
}

/// Name, state and path of each unit that is chosen.
type Units = List<3>;

impl Systemd {
    fn new(rootfs: &Path, options: &Options) -> Self {
        let whole = |key| options.whole_regex(&COLLECTOR, key);
        let flag = |key| options.flag(&COLLECTOR, key);
        Systemd {
            bus: rootfs.join("run/dbus/system_bus_socket"),
            own: rootfs.join("run/systemd/private"),
            is_private: flag("private"),
            choice: Choice {
                include: whole("unitInclude"),
                exclude: whole("unitExclude"),
                tasks: flag("enableTaskMetrics"),
                restarts: flag("enableRestartsMetrics"),
                start_times: flag("enableStartTimeMetrics"),
            },
            buffers: Buffers::default(),
            units: Units::default(),
        }
    }
}

impl NodeCollector for Systemd {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let Systemd { bus, own, choice, buffers, units, .. } = self;
        let mut no_bus = None;
        if !self.is_private {
            match Bus::system(bus, buffers) {
                Ok(mut to) => return choice.give(&mut to, units, out).map_err(|error| failed(bus, error)),
                Err(error) => no_bus = Some(failed(bus, error)),
            }
        }
        // Where no bus runs, root may ask systemd itself.
        let mut to =
            Bus::private(own, buffers).map_err(|error| no_bus.unwrap_or_else(|| failed(own, error)))?;
        choice.give(&mut to, units, out).map_err(|error| failed(own, error))
    }
}

impl Choice {
    fn is_chosen(&self, unit: &Unit<'_>) -> bool {
        let is_in =
            |pattern: &Option<Regex>| pattern.as_ref().is_some_and(|pattern| pattern.is_match(unit.name));
        unit.load == "loaded" && is_in(&self.include) && !is_in(&self.exclude)
    }

    fn give(&self, bus: &mut Bus<'_>, units: &mut Units, out: &mut Writer<'_>) -> Result<(), BusError> {
        let (version, is_running) = manager(bus, out)?;
        units.clear();
        let list = Method { service: SERVICE, path: PATH, interface: MANAGER, member: "ListUnits" };
        bus.call(list, &[], |body| {
            let mut states = STATES.map(|state| (state, 0)).to_vec();
            body.array(8, |body| {
                let unit = Unit::read(body)?;
                match states.iter_mut().find(|(state, _)| *state == unit.active) {
                    Some((_, count)) => *count += 1,
                    None => states.push((unit.active, 1)),
                }
                if self.is_chosen(&unit) {
                    units.push([unit.name, unit.active, unit.path]);
                }
                Some(())
            })?;
            for (state, count) in states {
                let labels = out.labels(&[("state", state)]);
                out.node(F::Units, labels, f64::from(count));
            }
            Some(())
        })?;
        self.units(bus, units, version >= TELLS_STATE, out)?;
        if version >= TELLS_STATE {
            let is_running = is_running.ok_or_else(|| BusError::Error("no SystemState".to_owned()))?;
            out.node(F::Running, Labels::NONE, f64::from(is_running));
        }
        Ok(())
    }

    /// All questions about all units go out together.
    fn units(
        &self,
        bus: &mut Bus<'_>,
        units: &Units,
        timers: bool,
        out: &mut Writer<'_>,
    ) -> Result<(), BusError> {
        let wants = |question: &&Question| {
            (match question.family {
                F::TasksCurrent | F::TasksMax => self.tasks,
                F::Restarts => self.restarts,
                F::StartTime => self.start_times,
                F::LastTrigger => timers,
                _ => true,
            }) && out.wants(question.family)
        };
        let wanted: Vec<_> = QUESTIONS.iter().filter(wants).collect();
        // Only those that are loaded are chosen.
        let units = || units.iter().map(|[name, active, path]| Unit { name, load: "loaded", active, path });
        let asked = units().flat_map(|unit| {
            let property =
                move |of: &Question| Property { path: unit.path, interface: of.interface, name: of.name };
            unit.questions(&wanted).map(property)
        });
        let mut answers = bus.properties(SERVICE, asked)?.iter();
        for unit in units() {
            let mut kind = "";
            let labels = out.labels(&[("name", unit.name)]);
            let mut is_accepted = true;
            for question in unit.questions(&wanted) {
                let answer = answers.next().flatten();
                if matches!(question.family, F::UnitState) {
                    kind = answer.and_then(Value::text).unwrap_or_default();
                } else if let Some(value) =
                    answer.as_ref().and_then(Value::number).and_then(|n| question.value(n))
                {
                    // What a socket says of connections counts from the first that it can say.
                    if is_accepted || !question.is_of_socket() {
                        out.node(question.family, labels, value);
                    }
                } else if question.is_of_socket() {
                    is_accepted = false;
                }
            }
            if self.start_times && unit.active != "active" {
                out.node(F::StartTime, labels, 0.0);
            }
            for state in STATES {
                let labels = out.labels(&[("name", unit.name), ("state", state), ("type", kind)]);
                out.node(F::UnitState, labels, f64::from(state == unit.active));
            }
        }
        Ok(())
    }
}

/// Gives what the manager says of itself; returns its version, and whether the system is running.
fn manager(bus: &mut Bus<'_>, out: &mut Writer<'_>) -> Result<(f64, Option<bool>), BusError> {
    let names = ["Version", "Virtualization", "SystemState"];
    let asked = names.map(|name| Property { path: PATH, interface: MANAGER, name });
    let mut answers = bus.properties(SERVICE, asked)?.iter();
    let [version, virtualization, state] = names.map(|_| answers.next().flatten().and_then(Value::text));
    let version = version.unwrap_or_default();
    let number = version_number(version);
    let labels = out.labels(&[("version", if number > 0.0 { version } else { "" })]);
    out.node(F::Version, labels, number);
    let kind = virtualization.map_or("unknown", |kind| if kind.is_empty() { "none" } else { kind });
    let labels = out.labels(&[("virtualization_type", kind)]);
    out.node(F::Virtualization, labels, 1.0);
    Ok((number, state.map(|state| state == "running")))
}

/// What talking over a socket ended with.
pub(super) fn failed(socket: &Path, error: BusError) -> CollectError {
    match error {
        BusError::Io(error) => CollectError::read(socket, Errno::from_io_error(&error).unwrap_or(Errno::IO)),
        error => CollectError::parse(socket, error.to_string()),
    }
}

/// The first number of three digits or more, with what follows a point: `252.22` of `252.22-1~deb12u1`.
fn version_number(version: &str) -> f64 {
    let is_long = |part: &&str| part.len() >= 3;
    let Some(whole) = version.split(|c: char| !c.is_ascii_digit()).find(is_long) else { return 0.0 };
    let start = version.find(whole).unwrap_or_default();
    let rest = &version[start + whole.len()..];
    let digits = rest
        .strip_prefix('.')
        .map_or("", |rest| &rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())]);
    format!("{whole}.{digits}0").parse().unwrap_or_default()
}

#[cfg(test)]
mod tests;
