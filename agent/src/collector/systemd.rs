//! The units of systemd and their states.

mod unit;

use std::path::{Path, PathBuf};

use regex::Regex;
use rustix::io::Errno;

use super::{CollectError, Collector, NodeCollector, OptionDesc, OptionKind, Options, Run};
use crate::metric::{Labels, Writer, families};
use crate::source::dbus::{Bus, BusError, Method, Property, Value};
use unit::{Question, Unit};

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
    include: Option<Regex>,
    exclude: Option<Regex>,
    tasks: bool,
    restarts: bool,
    start_times: bool,
}

impl Systemd {
    fn new(rootfs: &Path, options: &Options) -> Self {
        let whole = |key| options.whole_regex(&COLLECTOR, key);
        let flag = |key| options.flag(&COLLECTOR, key);
        Systemd {
            bus: rootfs.join("run/dbus/system_bus_socket"),
            own: rootfs.join("run/systemd/private"),
            is_private: flag("private"),
            include: whole("unitInclude"),
            exclude: whole("unitExclude"),
            tasks: flag("enableTaskMetrics"),
            restarts: flag("enableRestartsMetrics"),
            start_times: flag("enableStartTimeMetrics"),
        }
    }

    fn connect(&self) -> Result<(Bus, &Path), CollectError> {
        let own = || Bus::private(&self.own).map(|bus| (bus, self.own.as_path()));
        if self.is_private {
            return own().map_err(|error| failed(&self.own, error));
        }
        match Bus::system(&self.bus) {
            Ok(bus) => Ok((bus, &self.bus)),
            // Where no bus runs, root may ask systemd itself.
            Err(error) => own().map_err(|_| failed(&self.bus, error)),
        }
    }

    fn is_chosen(&self, unit: &Unit) -> bool {
        let is_in =
            |pattern: &Option<Regex>| pattern.as_ref().is_some_and(|pattern| pattern.is_match(&unit.name));
        unit.load == "loaded" && is_in(&self.include) && !is_in(&self.exclude)
    }

    fn give(&self, bus: &mut Bus, out: &mut Writer<'_>) -> Result<(), BusError> {
        let version = manager(bus, "Version")?.unwrap_or_default();
        let number = version_number(&version);
        let version = if number > 0.0 { version.as_str() } else { "" };
        let labels = out.labels(&[("version", version)]);
        out.node(F::Version, labels, number);
        let virtualization = manager(bus, "Virtualization")?;
        let kind =
            virtualization.as_deref().map_or("unknown", |kind| if kind.is_empty() { "none" } else { kind });
        let labels = out.labels(&[("virtualization_type", kind)]);
        out.node(F::Virtualization, labels, 1.0);

        let list = Method { service: SERVICE, path: PATH, interface: MANAGER, member: "ListUnits" };
        let mut units = bus.call(list, &[], |body| body.structs(Unit::read))?;
        summary(&units, out);
        units.retain(|unit| self.is_chosen(unit));
        self.units(bus, &units, number >= TELLS_STATE, out)?;
        if number >= TELLS_STATE {
            let state =
                manager(bus, "SystemState")?.ok_or_else(|| BusError::Error("no SystemState".to_owned()))?;
            out.node(F::Running, Labels::NONE, f64::from(state == "running"));
        }
        Ok(())
    }

    /// All questions about all units go out together.
    fn units(
        &self,
        bus: &mut Bus,
        units: &[Unit],
        timers: bool,
        out: &mut Writer<'_>,
    ) -> Result<(), BusError> {
        let wants = |question: &Question| {
            (match question.family {
                F::TasksCurrent | F::TasksMax => self.tasks,
                F::Restarts => self.restarts,
                F::StartTime => self.start_times,
                F::LastTrigger => timers,
                _ => true,
            }) && out.wants(question.family)
        };
        let asked: Vec<(&Unit, &Question)> = units
            .iter()
            .flat_map(|unit| {
                unit.questions().filter(|question| wants(question)).map(move |question| (unit, question))
            })
            .collect();
        let wanted: Vec<_> = asked
            .iter()
            .map(|(unit, question)| Property {
                path: &unit.path,
                interface: question.interface,
                name: question.name,
            })
            .collect();
        let mut answers = asked.iter().copied().zip(bus.properties(SERVICE, &wanted)?).peekable();
        for unit in units {
            let mut kind = String::new();
            let labels = out.labels(&[("name", &unit.name)]);
            let mut is_accepted = true;
            while let Some(((_, question), answer)) = answers.next_if(|((of, _), _)| std::ptr::eq(*of, unit))
            {
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
                let labels = out.labels(&[("name", &unit.name), ("state", state), ("type", &kind)]);
                out.node(F::UnitState, labels, f64::from(state == unit.active));
            }
        }
        Ok(())
    }
}

impl NodeCollector for Systemd {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let (mut bus, socket) = self.connect()?;
        self.give(&mut bus, out).map_err(|error| failed(socket, error))
    }
}

fn manager(bus: &mut Bus, name: &str) -> Result<Option<String>, BusError> {
    Ok(bus.property(SERVICE, Property { path: PATH, interface: MANAGER, name })?.and_then(Value::text))
}

fn summary(units: &[Unit], out: &mut Writer<'_>) {
    let mut states: Vec<(&str, u32)> = STATES.map(|state| (state, 0)).to_vec();
    for unit in units {
        match states.iter_mut().find(|(state, _)| *state == unit.active) {
            Some((_, count)) => *count += 1,
            None => states.push((&unit.active, 1)),
        }
    }
    for (state, count) in states {
        let labels = out.labels(&[("state", state)]);
        out.node(F::Units, labels, f64::from(count));
    }
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
