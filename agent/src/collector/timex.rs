//! How well the machine's clock is kept in step with others.

use rtime_clock::adjtime::{Timex as Answer, adjtimex};
use rustix::io::Errno;

use super::{CollectError, Collector, NodeCollector, Run};
use crate::metric::{Labels, Writer, families};

/// `timex`
pub(super) const COLLECTOR: Collector = Collector {
    name: "timex",
    enabled_by_default: true,
    families: FAMILIES,
    named: &[],
    options: &[],
    exclusive: &[],
    run: Run::Node { start: |_, _| Box::new(Timex), can_block: false },
};

families! {
    EstimatedError Gauge "node_timex_estimated_error_seconds" "Estimated error in seconds.";
    Frequency Gauge "node_timex_frequency_adjustment_ratio" "Local clock frequency adjustment.";
    Constant Gauge "node_timex_loop_time_constant" "Phase-locked loop time constant.";
    MaximumError Gauge "node_timex_maxerror_seconds" "Maximum error in seconds.";
    Offset Gauge "node_timex_offset_seconds" "Time offset in between local system and reference clock.";
    Calibrations Counter "node_timex_pps_calibration_total" "Pulse per second count of calibration intervals.";
    Errors Counter "node_timex_pps_error_total" "Pulse per second count of calibration errors.";
    PpsFrequency Gauge "node_timex_pps_frequency_hertz" "Pulse per second frequency.";
    Jitter Gauge "node_timex_pps_jitter_seconds" "Pulse per second jitter.";
    JitterExceeded Counter "node_timex_pps_jitter_total" "Pulse per second count of jitter limit exceeded events.";
    Shift Gauge "node_timex_pps_shift_seconds" "Pulse per second interval duration.";
    StabilityExceeded Counter "node_timex_pps_stability_exceeded_total" "Pulse per second count of stability limit exceeded events.";
    Stability Gauge "node_timex_pps_stability_hertz" "Pulse per second stability, average of recent frequency changes.";
    Status Gauge "node_timex_status" "Value of the status array bits.";
    Synchronized Gauge "node_timex_sync_status" "Is clock synchronized to a reliable server (1 = yes, 0 = no).";
    TaiOffset Gauge "node_timex_tai_offset_seconds" "International Atomic Time (TAI) offset.";
    Tick Gauge "node_timex_tick_seconds" "Seconds between clock ticks.";
}

/// The state TIME_ERROR (adjtimex(2)).
const NOT_SYNCHRONIZED: i32 = 5;
/// The bit STA_NANO: offset and jitter are in nanoseconds, otherwise in microseconds.
const NANOSECONDS: i32 = 0x2000;
const MICROS: f64 = 1e6;
/// Frequencies are in parts per million with 16 bits of fraction.
const SCALED_PPM: f64 = 1e6 * 65536.0;

struct Timex;

impl NodeCollector for Timex {
    fn collect(&mut self, out: &mut Writer<'_>) -> Result<(), CollectError> {
        // One of zeros asks and sets nothing, which needs no privilege.
        let mut answer = Answer::new();
        let state = adjtimex(&mut answer).map_err(|error| {
            match error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error) {
                // Sandboxes that keep programs from the clock.
                Errno::PERM | Errno::NOSYS => {
                    CollectError::Absent("adjtimex(2), which is not allowed here".to_owned())
                }
                source => CollectError::Read { path: "adjtimex(2)".into(), source },
            }
        })?;
        write(state, &answer, out);
        Ok(())
    }
}

fn write(state: i32, answer: &Answer, out: &mut Writer<'_>) {
    let timex = &answer.0;
    let fraction = if timex.status & NANOSECONDS != 0 { 1e9 } else { MICROS };
    for (family, value) in [
        (F::Synchronized, f64::from(state != NOT_SYNCHRONIZED)),
        (F::Offset, timex.offset as f64 / fraction),
        (F::Frequency, 1.0 + timex.freq as f64 / SCALED_PPM),
        (F::MaximumError, timex.maxerror as f64 / MICROS),
        (F::EstimatedError, timex.esterror as f64 / MICROS),
        (F::Status, f64::from(timex.status)),
        (F::Constant, timex.constant as f64),
        (F::Tick, timex.tick as f64 / MICROS),
        (F::PpsFrequency, timex.ppsfreq as f64 / SCALED_PPM),
        (F::Jitter, timex.jitter as f64 / fraction),
        (F::Shift, f64::from(timex.shift)),
        (F::Stability, timex.stabil as f64 / SCALED_PPM),
        (F::JitterExceeded, timex.jitcnt as f64),
        (F::Calibrations, timex.calcnt as f64),
        (F::Errors, timex.errcnt as f64),
        (F::StabilityExceeded, timex.stbcnt as f64),
        (F::TaiOffset, f64::from(timex.tai)),
    ] {
        out.node(family, Labels::NONE, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Samples;

    fn check(state: i32, status: i32, synchronized: f64, offset: f64) {
        let mut answer = Answer::new();
        (answer.0.status, answer.0.offset, answer.0.maxerror, answer.0.freq) =
            (status, -1500, 16_000_000, 65536 << 4);
        let mut samples = Samples::new(FAMILIES.len());
        write(state, &answer, &mut samples.writer(0, &[true; FAMILIES.len()]));
        let value = |family: F| samples.family(family as usize)[0].value;
        assert_eq!((value(F::Synchronized), value(F::Offset)), (synchronized, offset));
        assert_eq!((value(F::MaximumError), value(F::Frequency)), (16.0, 1.000016));
    }

    #[test]
    fn the_status_tells_in_what_the_offset_is() {
        check(0, NANOSECONDS, 1.0, -1.5e-6);
        check(NOT_SYNCHRONIZED, 0x40, 0.0, -1.5e-3);
    }
}
