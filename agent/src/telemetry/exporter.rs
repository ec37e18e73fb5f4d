//! What node_exporter says of itself, in its own names: its build, its process, the requests it answers.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use prometheus::{Counter, Gauge, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::register;

/// The release of node_exporter whose names are kept, which `node_exporter_build_info` gives as its version: dashboards
/// and alerts that ask for it want to know which families to expect.
pub const NODE_EXPORTER_VERSION: &str = "1.12.1";

/// The families beside those of the collectors, as an exporter has them.
pub(super) struct Exporter {
    build: Registry,
    own: Registry,
    process: Process,
    /// `promhttp_metric_handler_requests_total`
    requests: IntCounterVec,
    in_flight: IntGauge,
    errors: IntCounterVec,
}

impl Exporter {
    pub(super) fn new() -> Result<Self, prometheus::Error> {
        let (build, own) = (Registry::new(), Registry::new());
        let info = Opts::new(
            "node_exporter_build_info",
            "Which release of node_exporter has these families (version), and what gives them instead (revision).",
        );
        let info = register(
            &build,
            IntGaugeVec::new(
                info,
                &["branch", "goarch", "goos", "goversion", "revision", "tags", "version"],
            )?,
        )?;
        let arch = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let revision = concat!("exporter-agent ", env!("CARGO_PKG_VERSION"));
        let values = ["unknown", arch, "linux", "unknown", revision, "unknown", NODE_EXPORTER_VERSION];
        info.with_label_values(&values).set(1);
        let requests = Opts::new(
            "promhttp_metric_handler_requests_total",
            "Total number of scrapes by HTTP status code.",
        );
        let errors = Opts::new(
            "promhttp_metric_handler_errors_total",
            "Total number of internal errors encountered by the promhttp metric handler.",
        );
        let in_flight = IntGauge::new(
            "promhttp_metric_handler_requests_in_flight",
            "Current number of scrapes being served.",
        )?;
        let exporter = Exporter {
            process: Process::new(&own)?,
            requests: register(&own, IntCounterVec::new(requests, &["code"])?)?,
            in_flight: register(&own, in_flight)?,
            errors: register(&own, IntCounterVec::new(errors, &["cause"])?)?,
            build,
            own,
        };
        for code in ["200", "500", "503"] {
            exporter.requests.with_label_values(&[code]);
        }
        for cause in ["encoding", "gathering"] {
            exporter.errors.with_label_values(&[cause]);
        }
        Ok(exporter)
    }

    /// Which build this is.
    pub(super) fn build(&self) -> Vec<prometheus::proto::MetricFamily> {
        self.build.gather()
    }

    /// What the process takes now, and its requests.
    pub(super) fn own(&self) -> Vec<prometheus::proto::MetricFamily> {
        self.process.update();
        self.own.gather()
    }

    /// A scrape has begun; it is being served until this is dropped.
    pub(super) fn begin(&self) -> InFlight {
        self.in_flight.inc();
        InFlight(self.in_flight.clone())
    }

    /// A scrape was answered with this status.
    pub(super) fn answered(&self, code: u16) {
        self.requests.with_label_values(&[itoa::Buffer::new().format(code)]).inc();
        if code == 500 {
            self.errors.with_label_values(&["gathering"]).inc();
        }
    }
}

/// A scrape that is being served.
#[derive(Debug)]
pub struct InFlight(IntGauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// This process, as every exporter that is written in Go gives it.
struct Process {
    statm: Option<File>,
    cpu: Counter,
    open: Gauge,
    virtual_memory: Gauge,
    resident: Gauge,
}

impl Process {
    fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str| register(registry, Gauge::new(name, help)?);
        let of_now = |limit: Option<u64>| limit.unwrap_or(u64::MAX) as f64;
        gauge("process_max_fds", "Maximum number of open file descriptors.")?
            .set(of_now(getrlimit(Resource::Nofile).current));
        gauge("process_virtual_memory_max_bytes", "Maximum amount of virtual memory available in bytes.")?
            .set(of_now(getrlimit(Resource::As).current));
        let started =
            gauge("process_start_time_seconds", "Start time of the process since unix epoch in seconds.")?;
        let (stat, boot) = (std::fs::read("/proc/self/stat"), std::fs::read("/proc/stat"));
        if let (Some(after_boot), Some(boot)) =
            (stat.ok().and_then(|s| started_after_boot(&s)), boot.ok().and_then(|s| boot_time(&s)))
        {
            started.set(boot as f64 + after_boot);
        }
        let process = Process {
            // Its own /proc, whatever `--path.procfs` says.
            statm: File::open("/proc/self/statm").ok(),
            cpu: register(
                registry,
                Counter::new(
                    "process_cpu_seconds_total",
                    "Total user and system CPU time spent in seconds.",
                )?,
            )?,
            open: gauge("process_open_fds", "Number of open file descriptors.")?,
            virtual_memory: gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.")?,
            resident: gauge("process_resident_memory_bytes", "Resident memory size in bytes.")?,
        };
        process.update();
        Ok(process)
    }

    /// Reads what changes.
    fn update(&self) {
        self.open.set(open_files() as f64);
        let time = clock_gettime(ClockId::ProcessCPUTime);
        self.cpu.reset();
        self.cpu.inc_by(time.tv_sec as f64 + time.tv_nsec as f64 / 1e9);
        let mut text = [0; 128];
        let read = self.statm.as_ref().and_then(|file| file.read_at(&mut text, 0).ok()).unwrap_or_default();
        if let Some([pages, resident]) = memory(&text[..read]) {
            self.virtual_memory.set(pages * rustix::param::page_size() as f64);
            self.resident.set(resident * rustix::param::page_size() as f64);
        }
    }
}

/// How many files are open: the folder's size, since Linux 6.2; before, that is 0 and each of its entries is one.
fn open_files() -> u64 {
    match std::fs::metadata("/proc/self/fd").map(|folder| folder.len()) {
        Ok(0) | Err(_) => {
            // One of them is the folder itself.
            std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count().saturating_sub(1) as u64)
        }
        Ok(count) => count,
    }
}

/// Of /proc/PID/statm (Documentation/filesystems/proc.rst, table 1-3): all pages and those in memory.
fn memory(statm: &[u8]) -> Option<[f64; 2]> {
    let mut fields = std::str::from_utf8(statm).ok()?.split_ascii_whitespace();
    Some([fields.next()?.parse().ok()?, fields.next()?.parse().ok()?])
}

/// Of /proc/PID/stat (Documentation/filesystems/proc.rst, table 1-4): when it started, in seconds after the machine.
fn started_after_boot(stat: &[u8]) -> Option<f64> {
    // The name is in parentheses and may hold some; after it come the state, the third field, and then numbers only.
    let after_name = stat.iter().rposition(|b| *b == b')')? + 1;
    let mut fields = std::str::from_utf8(&stat[after_name..]).ok()?.split_ascii_whitespace();
    let ticks: u64 = fields.nth(22 - 3)?.parse().ok()?;
    Some(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// When the machine started, in seconds since 1970.
fn boot_time(stat: &[u8]) -> Option<u64> {
    let line = stat.split(|b| *b == b'\n').find_map(|line| line.strip_prefix(b"btime "))?;
    std::str::from_utf8(line).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_numbers() {
        let text = b"7 (a) (b) 9) S 1 7 7 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 1 0 300 4096 2 18446744073709551615\n";
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        assert_eq!(started_after_boot(text), Some(300.0 / ticks));
        assert_eq!(started_after_boot(b"7 (a) S 1"), None);
        assert_eq!(started_after_boot(b""), None);
        assert_eq!(boot_time(b"cpu 1 2\nbtime 1700000000\nprocesses 3\n"), Some(1_700_000_000));
        assert_eq!(memory(b"4711 42 3 1 0 5 0\n"), Some([4711.0, 42.0]));
        assert_eq!(memory(b"4711"), None);
    }

    #[test]
    fn a_scrape_is_in_flight_until_its_answer_is_gone() {
        let exporter = Exporter::new().unwrap();
        let value = |name: &str| {
            let families = exporter.own();
            let family = families.iter().find(|f| f.name() == name).unwrap();
            family.get_metric()[0].get_gauge().get_value()
        };
        let one = exporter.begin();
        assert_eq!(value("promhttp_metric_handler_requests_in_flight"), 1.0);
        drop(one);
        assert_eq!(value("promhttp_metric_handler_requests_in_flight"), 0.0);
        assert!(value("process_open_fds") >= 3.0 && value("process_start_time_seconds") > 1e9);
        assert!(value("process_virtual_memory_bytes") > value("process_resident_memory_bytes"));
        assert!(value("process_resident_memory_bytes") > 0.0);
    }
}
