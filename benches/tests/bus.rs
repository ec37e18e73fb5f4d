//! What holds of the cost of what is asked over D-Bus, however much there is: how many allocations a scrape makes.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use agent::plan::{Overlay, Plan};
use agent::scrape::{Part, Scraper};
use agent::source::Paths;
use agent::telemetry::Telemetry;
use benches::measure;
use protocol::Facts;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const COLLECTORS: [&str; 2] = ["logind", "systemd"];

/// Answers of a bus with so many units, seats and sessions. It allocates nothing once its buffers have grown, since its
/// thread is one of those whose blocks are counted.
struct Bus {
    units: Vec<u8>,
    seats: Vec<u8>,
    sessions: Vec<u8>,
}

fn align(out: &mut Vec<u8>, to: usize) {
    out.resize(out.len().next_multiple_of(to), 0);
}

fn push_number(out: &mut Vec<u8>, number: usize) {
    align(out, 4);
    out.extend((number as u32).to_le_bytes());
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    push_number(out, text.len());
    out.extend(text.bytes().chain([0]));
}

/// ARRAY of so many STRUCTs.
fn array(count: usize, write: impl Fn(&mut Vec<u8>, usize)) -> Vec<u8> {
    let mut out = vec![0; 8];
    for i in 0..count {
        align(&mut out, 8);
        write(&mut out, i);
    }
    let length = (out.len() - 8) as u32;
    out[..4].copy_from_slice(&length.to_le_bytes());
    out
}

impl Bus {
    fn new(count: usize) -> Self {
        let texts = |out: &mut Vec<u8>, texts: &[&str]| texts.iter().for_each(|text| push_text(out, text));
        let units = array(count, |out, i| {
            let kind = ["service", "socket", "timer"][i % 3];
            let (name, path) = (format!("unit-{i}.{kind}"), format!("/unit/{i}"));
            texts(out, &[&name, "What it is", "loaded", "active", "running", "", &path]);
            push_number(out, 0);
            texts(out, &["", "/"]);
        });
        let seats = array(count, |out, i| texts(out, &[&format!("seat{i}"), &format!("/seat/{i}")]));
        let sessions = array(count, |out, i| {
            push_text(out, &format!("c{i}"));
            push_number(out, 1000);
            texts(out, &["someone", &format!("seat{i}"), &format!("/session/{i}")]);
        });
        Bus { units, seats, sessions }
    }

    /// Serves one client after the other, in the background until the test ends.
    fn listen(self, socket: &Path) {
        std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
        let listener = UnixListener::bind(socket).unwrap();
        std::thread::spawn(move || {
            let (mut message, mut out) = (Vec::new(), Vec::new());
            while let Ok((stream, _)) = listener.accept() {
                // The client goes when it has what it wanted.
                _ = self.serve(stream, &mut message, &mut out);
            }
        });
    }

    fn serve(&self, mut stream: UnixStream, message: &mut Vec<u8>, out: &mut Vec<u8>) -> io::Result<()> {
        let line = |stream: &mut UnixStream| {
            let mut byte = [0];
            while byte != *b"\n" {
                stream.read_exact(&mut byte)?;
            }
            io::Result::Ok(())
        };
        line(&mut stream)?;
        stream.write_all(b"OK 0123456789abcdef0123456789abcdef\r\n")?;
        line(&mut stream)?;
        loop {
            message.resize(16, 0);
            stream.read_exact(message)?;
            let number = |at: usize| u32::from_le_bytes(message[at..at + 4].try_into().unwrap()) as usize;
            let (body, serial, fields) = (number(4), number(8), number(12));
            message.resize(16 + fields.next_multiple_of(8) + body, 0);
            stream.read_exact(&mut message[16..])?;
            out.clear();
            self.answer(message, serial, out);
            stream.write_all(out)?;
        }
    }

    fn answer(&self, message: &[u8], serial: usize, out: &mut Vec<u8>) {
        let calls = |member: &str| message.windows(member.len()).any(|part| part == member.as_bytes());
        // What is asked for is the last text of the message.
        let asks = |name: &str| message.strip_suffix(b"\0").is_some_and(|m| m.ends_with(name.as_bytes()));
        let text = |out: &mut Vec<u8>, text| {
            out.extend(b"\x01s\0");
            push_text(out, text);
        };
        let number = |out: &mut Vec<u8>, kind, number| {
            out.extend([1, kind, 0]);
            push_number(out, number);
        };
        let kind = if asks("NRestarts") { 3 } else { 2 };
        // Kind, length of the body, serial, length of the fields; what it is a reply to.
        out.extend([b'l', kind, 1, 1, 0, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0, 5, 1, b'u', 0]);
        push_number(out, serial);
        let start = out.len();
        if calls("Hello") {
            push_text(out, ":1.1");
        } else if calls("ListUnits") {
            out.extend(&self.units);
        } else if calls("ListSeats") {
            out.extend(&self.seats);
        } else if calls("ListSessions") {
            out.extend(&self.sessions);
        } else if kind == 3 {
            push_text(out, "no such property");
        } else if asks("Version") {
            text(out, "255.4");
        } else if asks("SystemState") {
            text(out, "running");
        } else if asks("Type") {
            text(out, "tty");
        } else if asks("Class") {
            text(out, "user");
        } else if asks("Remote") {
            number(out, b'b', 1);
        } else {
            number(out, b'u', 7);
        }
        let length = (out.len() - start) as u32;
        out[4..8].copy_from_slice(&length.to_le_bytes());
    }
}

/// The fewest allocations of one scrape in steady state, and how many lines it gives.
fn allocations(root: &Path) -> (u64, usize) {
    let paths = Paths { rootfs: root.to_owned(), ..Paths::default() };
    let options = ["enableTaskMetrics", "enableRestartsMetrics", "enableStartTimeMetrics"];
    let flags = Overlay {
        disable_defaults: true,
        enabled: COLLECTORS.map(|collector| (collector.to_owned(), true)).into(),
        options: [(
            "systemd".to_owned(),
            options.map(|option| (option.to_owned(), "true".to_owned())).into_iter().collect(),
        )]
        .into(),
    };
    let plan = Plan::new(Vec::new(), Facts::default(), &flags);
    let mut scraper = Scraper::new(paths, String::new(), 1000, plan, Arc::new(Telemetry::new().unwrap()));
    let allocated = || dhat::HeapStats::get().total_blocks;
    let (blocks, lines, text) = measure::allocations(&mut scraper, Part::Node, 10, allocated);
    for collector in COLLECTORS {
        let success = format!("node_scrape_collector_success{{collector=\"{collector}\"}} 1");
        assert!(text.contains(&success), "{collector} fails");
    }
    (blocks, lines)
}

#[test]
fn a_scrape_over_d_bus_allocates_nothing_per_unit_or_session_in_steady_state() {
    let machines = [10, 100].map(|count| {
        let root: PathBuf = std::env::temp_dir().join(format!("bus-{}-{count}", std::process::id()));
        Bus::new(count).listen(&root.join("run/dbus/system_bus_socket"));
        root
    });
    let _profiler = dhat::Profiler::builder().testing().build();
    let [(few, small), (many, large)] = [&machines[0], &machines[1]].map(|root| allocations(root));
    machines.iter().for_each(|root| std::fs::remove_dir_all(root).unwrap());
    assert!(large > small + 6000, "{small} lines, {large} lines");
    assert_eq!(few, many, "ten times the units, seats and sessions take more allocations");
}
