//! Temperatures, fans, voltages and the like of each hardware monitoring chip.

mod chip;
mod sensor;

use std::fmt::Write as _;

use super::{CollectError, Collector, NodeCollector, OptionDesc, OptionKind, Pattern, Run};
use crate::devices::{Below, Devices};
use crate::metric::{NamedDesc, Suffix, Writer, families};
use crate::source::text::{float, label};
use sensor::{Attribute, is_sensor};

/// `hwmon`
pub(super) const COLLECTOR: Collector = Collector {
    name: "hwmon",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[NamedDesc {
        prefix: "node_hwmon_",
        help: "An attribute of a sensor below /sys/class/hwmon, as `node_hwmon_TYPE_ATTRIBUTE_UNIT`; the value \
               (`_input`) without its attribute's name.",
    }],
    options: &[
        OptionDesc::new("chipInclude", OptionKind::Regex, "", "Chips to give, and no others."),
        OptionDesc::new("chipExclude", OptionKind::Regex, "", "Chips to leave out."),
        OptionDesc::new(
            "sensorInclude",
            OptionKind::Regex,
            "",
            "Sensors to give, and no others, as `CHIP;SENSOR`, such as `platform_coretemp_0;temp3`.",
        ),
        OptionDesc::new("sensorExclude", OptionKind::Regex, "", "Sensors to leave out, as `CHIP;SENSOR`."),
    ],
    exclusive: &[],
    run: Run::Node {
        start: |paths, options| {
            Box::new(Hwmon {
                names: Vec::new(),
                chips: Devices::new(paths.sysfs.join("class/hwmon"), &["name"], &paths.handles),
                own: Below::new("", &[], is_sensor, &paths.handles),
                device: Below::new("device", &[], is_sensor, &paths.handles),
                chip_pattern: options.pattern(&COLLECTOR, "chipInclude", "chipExclude"),
                sensor_pattern: options.pattern(&COLLECTOR, "sensorInclude", "sensorExclude"),
                text: Texts::default(),
            })
        },
        // Most chips are asked over a slow bus, some through firmware.
        can_block: true,
    },
};

families! {
    ChipNames Gauge "node_hwmon_chip_names" "Annotation metric for human-readable chip names.";
    SensorLabel Gauge "node_hwmon_sensor_label" "Label for given chip and sensor.";
    BeepEnabled Gauge "node_hwmon_beep_enabled" "Hardware beep enabled.";
    VoltageRegulatorVersion Gauge "node_hwmon_voltage_regulator_version" "Hardware voltage regulator.";
    UpdateInterval Gauge "node_hwmon_update_interval_seconds" "Hardware monitor update interval.";
}

/// Chips come and go, and sensors of a chip do too, as those of CPU cores that go offline (drivers/hwmon/coretemp.c).
struct Hwmon {
    chips: Devices,
    names: Vec<String>,
    own: Below,
    /// Drivers of an older kind have the attributes in the folder of the device (Documentation/hwmon/hwmon-kernel-api.rst).
    device: Below,
    chip_pattern: Pattern,
    sensor_pattern: Pattern,
    text: Texts,
}

/// Buffers.
#[derive(Default)]
struct Texts {
    file: String,
    sensor: String,
    family: String,
    help: String,
}

impl NodeCollector for Hwmon {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        self.chips.list()?;
        let result = self.own.list(&self.chips).and(self.device.list(&self.chips));
        chip::names(&mut self.chips, &mut self.names);
        for (i, chip) in self.names.iter().enumerate() {
            if self.chip_pattern.ignores(chip) {
                continue;
            }
            if let Some(name) = self.chips.text(i, 0) {
                self.text.file.clear();
                chip::push_clean(&mut self.text.file, &name);
                if !self.text.file.is_empty() {
                    let labels = out.labels(&[("chip", chip), ("chip_name", &self.text.file)]);
                    out.node(F::ChipNames, labels, 1.0);
                }
            }
            let mut sensors = Sensors {
                chip,
                pattern: &self.sensor_pattern,
                folders: [self.own.of(i), self.device.of(i)],
                text: &mut self.text,
            };
            sensors.write(out);
        }
        result
    }
}

/// The sensors of one chip.
struct Sensors<'a> {
    chip: &'a str,
    pattern: &'a Pattern,
    /// Its own folder and that of its device; what is in both counts in the latter.
    folders: [&'a mut Devices; 2],
    text: &'a mut Texts,
}

impl Sensors<'_> {
    fn write(&mut self, out: &mut Writer<'_>) {
        for folder in 0..2 {
            for place in 0..self.folders[folder].len() {
                let file = self.folders[folder].name(place);
                if folder == 0 && self.folders[1].find(file).is_some() {
                    continue;
                }
                self.text.file.clear();
                self.text.file.push_str(file);
                self.attribute(folder, place, out);
            }
            // A sensor that cannot be read now is left out; some never can.
            let _ = self.folders[folder].result();
        }
    }

    fn attribute(&mut self, folder: usize, place: usize, out: &mut Writer<'_>) {
        let Texts { file, sensor, family, help } = &mut *self.text;
        let Some(attribute) = Attribute::parse(file) else { return };
        sensor.clear();
        let _ = write!(sensor, "{};", self.chip);
        let start = sensor.len();
        let _ = write!(sensor, "{}{}", attribute.kind, attribute.number);
        if self.pattern.ignores(sensor) {
            return;
        }
        let sensor = &sensor[start..];
        let has = |name: &str| self.folders.iter().any(|folder| folder.find(name).is_some());
        let is_value = attribute.property == "input" && !has(attribute.stem);
        let Some(text) = self.folders[folder].read(place, 0) else { return };
        let labels = out.labels(&[("chip", self.chip), ("sensor", sensor)]);
        if attribute.property == "label" {
            let labels = out.with(labels, "label", &label(text));
            out.node(F::SensorLabel, labels, 1.0);
        }
        let value = float(text);
        match (attribute.kind, value) {
            ("beep_enable", _) => out.node(F::BeepEnabled, labels, f64::from(text == b"1")),
            ("vrm", Some(value)) => out.node(F::VoltageRegulatorVersion, labels, value),
            ("update_interval", Some(value)) => out.node(F::UpdateInterval, labels, value * 0.001),
            ("freq", Some(value)) if attribute.property == "input" => {
                help.clear();
                let _ = write!(help, "{}_label", attribute.stem);
                for folder in &mut self.folders {
                    let Some(text) = folder.find(help).and_then(|place| folder.text(place, 0)) else {
                        continue;
                    };
                    family.clear();
                    chip::push_clean(family, &text);
                    let labels = out.labels(&[("chip", self.chip), ("sensor", family)]);
                    let form = attribute.describe(is_value, family, help);
                    let family = out.named(family, form.kind, help);
                    out.add(family, labels, Suffix::None, form.unit.of(value));
                    break;
                }
            }
            (_, Some(value)) if attribute.property != "label" => {
                let form = attribute.describe(is_value, family, help);
                let family = out.named(family, form.kind, help);
                out.add(family, labels, Suffix::None, form.unit.of(value));
            }
            _ => {}
        }
    }
}
