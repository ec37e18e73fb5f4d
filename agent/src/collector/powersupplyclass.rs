//! Charge, voltage, temperature and state of each battery and power supply.

use regex::Regex;

use super::{CollectError, Collector, NodeCollector, OptionDesc, OptionKind, Run};
use crate::devices::Devices;
use crate::metric::{Writer, families};

/// `powersupplyclass`
pub(super) const COLLECTOR: Collector = Collector {
    name: "powersupplyclass",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[],
    options: &[OptionDesc::new(
        "ignoredSupplies",
        OptionKind::Regex,
        "^$",
        "Batteries and power supplies to leave out.",
    )
    .flag("collector.powersupply.ignored-supplies")],
    exclusive: &[],
    run: Run::Node {
        start: |paths, options| {
            Box::new(PowerSupply {
                supplies: Devices::new(paths.sysfs.join("class/power_supply"), FILES, &paths.handles),
                ignored: options.regex(&COLLECTOR, "ignoredSupplies"),
            })
        },
        // A battery is asked through firmware.
        can_block: true,
    },
};

families! {
    Authentic Gauge "node_power_supply_authentic" "Value of authentic of /sys/class/power_supply/<power_supply>.";
    Calibrate Gauge "node_power_supply_calibrate" "Value of calibrate of /sys/class/power_supply/<power_supply>.";
    Capacity Gauge "node_power_supply_capacity" "Value of capacity of /sys/class/power_supply/<power_supply>.";
    CapacityAlertMax Gauge "node_power_supply_capacity_alert_max" "Value of capacity_alert_max of /sys/class/power_supply/<power_supply>.";
    CapacityAlertMin Gauge "node_power_supply_capacity_alert_min" "Value of capacity_alert_min of /sys/class/power_supply/<power_supply>.";
    ChargeAmpere Gauge "node_power_supply_charge_ampere" "Value of charge_now of /sys/class/power_supply/<power_supply>.";
    ChargeControlLimit Gauge "node_power_supply_charge_control_limit" "Value of charge_control_limit of /sys/class/power_supply/<power_supply>.";
    ChargeControlLimitMax Gauge "node_power_supply_charge_control_limit_max" "Value of charge_control_limit_max of /sys/class/power_supply/<power_supply>.";
    ChargeCounter Gauge "node_power_supply_charge_counter" "Value of charge_counter of /sys/class/power_supply/<power_supply>.";
    ChargeEmpty Gauge "node_power_supply_charge_empty" "Value of charge_empty of /sys/class/power_supply/<power_supply>.";
    ChargeEmptyDesign Gauge "node_power_supply_charge_empty_design" "Value of charge_empty_design of /sys/class/power_supply/<power_supply>.";
    ChargeFull Gauge "node_power_supply_charge_full" "Value of charge_full of /sys/class/power_supply/<power_supply>.";
    ChargeFullDesign Gauge "node_power_supply_charge_full_design" "Value of charge_full_design of /sys/class/power_supply/<power_supply>.";
    ChargeTermCurrent Gauge "node_power_supply_charge_term_current" "Value of charge_term_current of /sys/class/power_supply/<power_supply>.";
    ConstantChargeCurrent Gauge "node_power_supply_constant_charge_current" "Value of constant_charge_current of /sys/class/power_supply/<power_supply>.";
    ConstantChargeCurrentMax Gauge "node_power_supply_constant_charge_current_max" "Value of constant_charge_current_max of /sys/class/power_supply/<power_supply>.";
    ConstantChargeVoltage Gauge "node_power_supply_constant_charge_voltage" "Value of constant_charge_voltage of /sys/class/power_supply/<power_supply>.";
    ConstantChargeVoltageMax Gauge "node_power_supply_constant_charge_voltage_max" "Value of constant_charge_voltage_max of /sys/class/power_supply/<power_supply>.";
    CurrentAmpere Gauge "node_power_supply_current_ampere" "Value of current_now of /sys/class/power_supply/<power_supply>.";
    CurrentBoot Gauge "node_power_supply_current_boot" "Value of current_boot of /sys/class/power_supply/<power_supply>.";
    CurrentMax Gauge "node_power_supply_current_max" "Value of current_max of /sys/class/power_supply/<power_supply>.";
    Cyclecount Gauge "node_power_supply_cyclecount" "Value of cycle_count of /sys/class/power_supply/<power_supply>.";
    EnergyEmpty Gauge "node_power_supply_energy_empty" "Value of energy_empty of /sys/class/power_supply/<power_supply>.";
    EnergyEmptyDesign Gauge "node_power_supply_energy_empty_design" "Value of energy_empty_design of /sys/class/power_supply/<power_supply>.";
    EnergyFull Gauge "node_power_supply_energy_full" "Value of energy_full of /sys/class/power_supply/<power_supply>.";
    EnergyFullDesign Gauge "node_power_supply_energy_full_design" "Value of energy_full_design of /sys/class/power_supply/<power_supply>.";
    EnergyWatthour Gauge "node_power_supply_energy_watthour" "Value of energy_now of /sys/class/power_supply/<power_supply>.";
    InputCurrentLimit Gauge "node_power_supply_input_current_limit" "Value of input_current_limit of /sys/class/power_supply/<power_supply>.";
    Online Gauge "node_power_supply_online" "Value of online of /sys/class/power_supply/<power_supply>.";
    PowerWatt Gauge "node_power_supply_power_watt" "Value of power_now of /sys/class/power_supply/<power_supply>.";
    PrechargeCurrent Gauge "node_power_supply_precharge_current" "Value of precharge_current of /sys/class/power_supply/<power_supply>.";
    Present Gauge "node_power_supply_present" "Value of present of /sys/class/power_supply/<power_supply>.";
    TempAlertMaxCelsius Gauge "node_power_supply_temp_alert_max_celsius" "Value of temp_alert_max of /sys/class/power_supply/<power_supply>.";
    TempAlertMinCelsius Gauge "node_power_supply_temp_alert_min_celsius" "Value of temp_alert_min of /sys/class/power_supply/<power_supply>.";
    TempAmbientCelsius Gauge "node_power_supply_temp_ambient_celsius" "Value of temp_ambient of /sys/class/power_supply/<power_supply>.";
    TempAmbientMaxCelsius Gauge "node_power_supply_temp_ambient_max_celsius" "Value of temp_ambient_max of /sys/class/power_supply/<power_supply>.";
    TempAmbientMinCelsius Gauge "node_power_supply_temp_ambient_min_celsius" "Value of temp_ambient_min of /sys/class/power_supply/<power_supply>.";
    TempCelsius Gauge "node_power_supply_temp_celsius" "Value of temp of /sys/class/power_supply/<power_supply>.";
    TempMaxCelsius Gauge "node_power_supply_temp_max_celsius" "Value of temp_max of /sys/class/power_supply/<power_supply>.";
    TempMinCelsius Gauge "node_power_supply_temp_min_celsius" "Value of temp_min of /sys/class/power_supply/<power_supply>.";
    TimeToEmptySeconds Gauge "node_power_supply_time_to_empty_seconds" "Value of time_to_empty_now of /sys/class/power_supply/<power_supply>.";
    TimeToFullSeconds Gauge "node_power_supply_time_to_full_seconds" "Value of time_to_full_now of /sys/class/power_supply/<power_supply>.";
    VoltageBoot Gauge "node_power_supply_voltage_boot" "Value of voltage_boot of /sys/class/power_supply/<power_supply>.";
    VoltageMax Gauge "node_power_supply_voltage_max" "Value of voltage_max of /sys/class/power_supply/<power_supply>.";
    VoltageMaxDesign Gauge "node_power_supply_voltage_max_design" "Value of voltage_max_design of /sys/class/power_supply/<power_supply>.";
    VoltageMin Gauge "node_power_supply_voltage_min" "Value of voltage_min of /sys/class/power_supply/<power_supply>.";
    VoltageMinDesign Gauge "node_power_supply_voltage_min_design" "Value of voltage_min_design of /sys/class/power_supply/<power_supply>.";
    VoltageOcv Gauge "node_power_supply_voltage_ocv" "Value of voltage_ocv of /sys/class/power_supply/<power_supply>.";
    VoltageVolt Gauge "node_power_supply_voltage_volt" "Value of voltage_now of /sys/class/power_supply/<power_supply>.";
    Info Gauge "node_power_supply_info" "Info of /sys/class/power_supply/<power_supply>.";
}

/// What an attribute is counted in (Documentation/power/power_supply_class.rst, "Units").
#[derive(Clone, Copy)]
enum Unit {
    One,
    Millionths,
    Tenths,
}

/// The families of the files that are numbers; those after them are labels.
const NUMBERS: [(F, Unit); 49] = [
    (F::Authentic, Unit::One),
    (F::Calibrate, Unit::One),
    (F::Capacity, Unit::One),
    (F::CapacityAlertMax, Unit::One),
    (F::CapacityAlertMin, Unit::One),
    (F::ChargeAmpere, Unit::Millionths),
    (F::ChargeControlLimit, Unit::Millionths),
    (F::ChargeControlLimitMax, Unit::Millionths),
    (F::ChargeCounter, Unit::Millionths),
    (F::ChargeEmpty, Unit::Millionths),
    (F::ChargeEmptyDesign, Unit::Millionths),
    (F::ChargeFull, Unit::Millionths),
    (F::ChargeFullDesign, Unit::Millionths),
    (F::ChargeTermCurrent, Unit::Millionths),
    (F::ConstantChargeCurrent, Unit::Millionths),
    (F::ConstantChargeCurrentMax, Unit::Millionths),
    (F::ConstantChargeVoltage, Unit::Millionths),
    (F::ConstantChargeVoltageMax, Unit::Millionths),
    (F::CurrentAmpere, Unit::Millionths),
    (F::CurrentBoot, Unit::Millionths),
    (F::CurrentMax, Unit::Millionths),
    (F::Cyclecount, Unit::One),
    (F::EnergyEmpty, Unit::Millionths),
    (F::EnergyEmptyDesign, Unit::Millionths),
    (F::EnergyFull, Unit::Millionths),
    (F::EnergyFullDesign, Unit::Millionths),
    (F::EnergyWatthour, Unit::Millionths),
    (F::InputCurrentLimit, Unit::Millionths),
    (F::Online, Unit::One),
    (F::PowerWatt, Unit::Millionths),
    (F::PrechargeCurrent, Unit::Millionths),
    (F::Present, Unit::One),
    (F::TempAlertMaxCelsius, Unit::Tenths),
    (F::TempAlertMinCelsius, Unit::Tenths),
    (F::TempAmbientCelsius, Unit::Tenths),
    (F::TempAmbientMaxCelsius, Unit::Tenths),
    (F::TempAmbientMinCelsius, Unit::Tenths),
    (F::TempCelsius, Unit::Tenths),
    (F::TempMaxCelsius, Unit::Tenths),
    (F::TempMinCelsius, Unit::Tenths),
    (F::TimeToEmptySeconds, Unit::One),
    (F::TimeToFullSeconds, Unit::One),
    (F::VoltageBoot, Unit::Millionths),
    (F::VoltageMax, Unit::Millionths),
    (F::VoltageMaxDesign, Unit::Millionths),
    (F::VoltageMin, Unit::Millionths),
    (F::VoltageMinDesign, Unit::Millionths),
    (F::VoltageOcv, Unit::Millionths),
    (F::VoltageVolt, Unit::Millionths),
];
const FILES: &[&str] = &[
    "authentic",
    "calibrate",
    "capacity",
    "capacity_alert_max",
    "capacity_alert_min",
    "charge_now",
    "charge_control_limit",
    "charge_control_limit_max",
    "charge_counter",
    "charge_empty",
    "charge_empty_design",
    "charge_full",
    "charge_full_design",
    "charge_term_current",
    "constant_charge_current",
    "constant_charge_current_max",
    "constant_charge_voltage",
    "constant_charge_voltage_max",
    "current_now",
    "current_boot",
    "current_max",
    "cycle_count",
    "energy_empty",
    "energy_empty_design",
    "energy_full",
    "energy_full_design",
    "energy_now",
    "input_current_limit",
    "online",
    "power_now",
    "precharge_current",
    "present",
    "temp_alert_max",
    "temp_alert_min",
    "temp_ambient",
    "temp_ambient_max",
    "temp_ambient_min",
    "temp",
    "temp_max",
    "temp_min",
    "time_to_empty_now",
    "time_to_full_now",
    "voltage_boot",
    "voltage_max",
    "voltage_max_design",
    "voltage_min",
    "voltage_min_design",
    "voltage_ocv",
    "voltage_now",
    "capacity_level",
    "charge_type",
    "health",
    "manufacturer",
    "model_name",
    "scope",
    "serial_number",
    "status",
    "technology",
    "type",
    "usb_type",
];

struct PowerSupply {
    supplies: Devices,
    ignored: Option<Regex>,
}

impl NodeCollector for PowerSupply {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        let PowerSupply { supplies, ignored } = self;
        supplies.list()?;
        for i in 0..supplies.len() {
            let name = supplies.name(i);
            if ignored.as_ref().is_some_and(|ignored| ignored.is_match(name)) {
                continue;
            }
            let labels = out.labels(&[("power_supply", name)]);
            for (file, (family, unit)) in NUMBERS.into_iter().enumerate() {
                if let Some(value) = supplies.number(i, file) {
                    let value = match unit {
                        Unit::One => value as f64,
                        Unit::Millionths => value as f64 / 1e6,
                        Unit::Tenths => value as f64 / 10.0,
                    };
                    out.node(family, labels, value);
                }
            }
            let mut info = labels;
            for (file, name) in FILES.iter().enumerate().skip(NUMBERS.len()) {
                if let Some(text) = supplies.text(i, file).filter(|text| !text.is_empty()) {
                    info = out.with(info, name, &text);
                }
            }
            out.node(F::Info, info, 1.0);
        }
        supplies.result()
    }
}
