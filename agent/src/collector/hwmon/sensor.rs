//! What the file names of sensors mean: type, number and property, and the family and unit that follow from them.

use std::fmt::Write as _;

use super::chip::push_clean;
use crate::metric::Kind;

/// Documentation/hwmon/sysfs-interface.rst
const TYPES: [&str; 14] = [
    "vrm",
    "beep_enable",
    "update_interval",
    "in",
    "cpu",
    "fan",
    "pwm",
    "temp",
    "curr",
    "power",
    "energy",
    "humidity",
    "intrusion",
    "freq",
];

/// An attribute's file, such as `temp1_max_alarm`.
#[derive(Debug, PartialEq)]
pub(super) struct Attribute<'a> {
    /// `temp`
    pub(super) kind: &'static str,
    /// 1; 0 where there is none.
    pub(super) number: u32,
    /// `max_alarm`; empty where there is none.
    pub(super) property: &'a str,
    /// `temp1`
    pub(super) stem: &'a str,
}

/// How the values of a family are to be read.
#[derive(Debug, PartialEq)]
pub(super) struct Form {
    pub(super) kind: Kind,
    pub(super) unit: Unit,
}

/// What an attribute is counted in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Unit {
    One,
    Thousandth,
    Millionth,
}

impl Unit {
    /// A value in whole units; by the same arithmetic as node_exporter, so that the last digit is the same.
    pub(super) fn of(self, value: f64) -> f64 {
        match self {
            Unit::One => value,
            Unit::Thousandth => value * 0.001,
            Unit::Millionth => value / 1_000_000.0,
        }
    }
}

/// Whether a file is that of a sensor.
pub(super) fn is_sensor(file: &str) -> bool {
    Attribute::parse(file).is_some()
}

impl<'a> Attribute<'a> {
    /// Nothing where the file is not that of a sensor.
    pub(super) fn parse(file: &'a str) -> Option<Self> {
        let (kind, rest) = file.split_at(file.find(|c: char| c.is_ascii_digit()).unwrap_or(file.len()));
        let kind = TYPES.into_iter().find(|known| *known == kind)?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, rest) = rest.split_at(digits);
        let number = if number.is_empty() { 0 } else { number.parse().ok()? };
        let property = match rest {
            "" => "",
            rest => rest.strip_prefix('_').filter(|property| !property.is_empty())?,
        };
        Some(Attribute { kind, number, property, stem: &file[..kind.len() + digits] })
    }

    /// Writes the family's name and help; `is_value`: the property `input` is the value itself, as nearly always.
    pub(super) fn describe(&self, is_value: bool, family: &mut String, help: &mut String) -> Form {
        let (kind, property) = (self.kind, self.property);
        let (suffix, unit, what) = match (kind, property) {
            (_, "fault" | "alarm") => {
                help.clear();
                let _ = write!(help, "Hardware sensor {property} status ({kind}).");
                ("", Unit::One, "")
            }
            (_, "beep") => ("_enabled", Unit::One, "sensor has beeping enabled"),
            ("in" | "cpu", _) => ("_volts", Unit::Thousandth, "for voltage"),
            ("temp", property) if property != "type" => ("_celsius", Unit::Thousandth, "for temperature"),
            ("curr", _) => ("_amps", Unit::Thousandth, "for current"),
            ("energy", _) => ("_joule_total", Unit::Millionth, "for joules used so far"),
            ("power", "accuracy") => ("", Unit::Millionth, "power meter accuracy, as a ratio"),
            ("power", "average_interval" | "average_interval_min" | "average_interval_max") => {
                ("_seconds", Unit::Thousandth, "power usage update interval")
            }
            ("power", _) => ("_watt", Unit::Millionth, "for power usage in watts"),
            ("humidity", _) => ("", Unit::Millionth, "for humidity, as a ratio (1 is 100 percent)"),
            ("fan", "input" | "min" | "max" | "target") => {
                ("_rpm", Unit::One, "for fan revolutions per minute")
            }
            ("freq", "input") => ("_freq_mhz", Unit::Millionth, "for GPU frequency in MHz"),
            _ => {
                help.clear();
                let _ = write!(help, "Hardware monitor {kind} element {property}.");
                ("", Unit::One, "")
            }
        };
        if !what.is_empty() {
            help.clear();
            let property = if kind == "temp" && property.is_empty() { "input" } else { property };
            let _ = match (property, kind) {
                ("beep", _) | ("accuracy", "power") | ("input", "freq") => {
                    write!(help, "Hardware monitor {what}.")
                }
                _ => write!(help, "Hardware monitor {what} ({property})."),
            };
        }
        family.clear();
        family.push_str("node_hwmon_");
        family.push_str(kind);
        match property {
            "" => {}
            "input" if is_value => {}
            property => {
                family.push('_');
                push_clean(family, property);
            }
        }
        family.push_str(suffix);
        let kind = if suffix.ends_with("_total") { Kind::Counter } else { Kind::Gauge };
        Form { kind, unit }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_type_number_and_property() {
        let check = |file: &str, expected: Option<(&str, u32, &str, &str)>| {
            let found = Attribute::parse(file);
            assert_eq!(found.map(|a| (a.kind, a.number, a.property, a.stem)), expected, "{file}");
        };
        check("temp1_max_alarm", Some(("temp", 1, "max_alarm", "temp1")));
        check("pwm12", Some(("pwm", 12, "", "pwm12")));
        check("pwm1_auto_point1_temp", Some(("pwm", 1, "auto_point1_temp", "pwm1")));
        check("beep_enable", Some(("beep_enable", 0, "", "beep_enable")));
        for file in ["power", "cpu"] {
            check(file, Some((file, 0, "", file)));
        }
        let none = [
            "temp_input",
            "temp1_",
            "temp1input",
            "temp99999999999_input",
            "uevent",
            "",
            "1",
            "name",
            "Temp1",
        ];
        for file in none {
            check(file, None);
        }
    }

    #[test]
    fn the_family_follows_from_type_and_property() {
        let check = |file: &str, expected: &str, unit: Unit| {
            let (mut family, mut help) = ("old".to_owned(), "old".to_owned());
            let form = Attribute::parse(file).unwrap().describe(true, &mut family, &mut help);
            assert_eq!((family.as_str(), form.unit), (expected, unit), "{file}");
            assert!(help.starts_with("Hardware ") && help.ends_with('.'), "{help}");
            assert_eq!(form.kind == Kind::Counter, family.ends_with("_total"));
        };
        check("temp1_input", "node_hwmon_temp_celsius", Unit::Thousandth);
        check("temp1_crit_hyst", "node_hwmon_temp_crit_hyst_celsius", Unit::Thousandth);
        check("temp1_type", "node_hwmon_temp_type", Unit::One);
        check("temp1_crit_alarm", "node_hwmon_temp_crit_alarm_celsius", Unit::Thousandth);
        check("temp1_alarm", "node_hwmon_temp_alarm", Unit::One);
        check("in0_min", "node_hwmon_in_min_volts", Unit::Thousandth);
        check("fan2_input", "node_hwmon_fan_rpm", Unit::One);
        check("fan2_pulses", "node_hwmon_fan_pulses", Unit::One);
        check("fan2_beep", "node_hwmon_fan_beep_enabled", Unit::One);
        check("pwm1", "node_hwmon_pwm", Unit::One);
        check("curr1_max", "node_hwmon_curr_max_amps", Unit::Thousandth);
        check("energy1_input", "node_hwmon_energy_joule_total", Unit::Millionth);
        check("power1_average", "node_hwmon_power_average_watt", Unit::Millionth);
        check("power1_average_interval", "node_hwmon_power_average_interval_seconds", Unit::Thousandth);
        check("power1_accuracy", "node_hwmon_power_accuracy", Unit::Millionth);
        check("humidity1_input", "node_hwmon_humidity", Unit::Millionth);
        check("intrusion0_alarm", "node_hwmon_intrusion_alarm", Unit::One);
        check("freq1_input", "node_hwmon_freq_freq_mhz", Unit::Millionth);
        let mut family = String::new();
        Attribute::parse("fan1_input").unwrap().describe(false, &mut family, &mut String::new());
        assert_eq!(family, "node_hwmon_fan_input_rpm", "beside a file `fan1`");
    }
}
