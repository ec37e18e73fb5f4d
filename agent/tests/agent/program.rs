//! The program itself: what ends it at the start, what it warns of, and the sockets that it is handed.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};

const PROGRAM: &str = env!("CARGO_BIN_EXE_exporter-agent");

/// What a run that fails at the start writes.
fn failure(arguments: &[&str]) -> String {
    let output = Command::new(PROGRAM).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{arguments:?}: {said}");
    said
}

#[test]
fn a_web_configuration_that_cannot_be_used_ends_the_program_with_the_field() {
    let file = std::env::temp_dir().join(format!("program-web-{}.yml", std::process::id()));
    std::fs::write(&file, "tls_server_config: {cert_file: a, key_file: b, min_version: TLS10}").unwrap();
    let said = failure(&["--web.listen-address=127.0.0.1:0", "--web.config.file", file.to_str().unwrap()]);
    std::fs::remove_file(&file).unwrap();
    assert!(said.contains("program-web-") && said.contains("tls_server_config.min_version"), "{said}");
}

#[test]
fn warnings_about_flags_come_in_the_format_that_is_asked_for() {
    let file = std::env::temp_dir().join(format!("program-arguments-{}", std::process::id()));
    std::fs::write(&file, "--log.format=json\n--collector.diskstats.ignored-devices=^loop\n").unwrap();
    let said = failure(&[&format!("@{}", file.display()), "--web.config.file=/nosuch"]);
    std::fs::remove_file(&file).unwrap();
    let line: serde_json::Value = serde_json::from_str(said.lines().next().unwrap()).unwrap();
    assert_eq!(line["level"], "WARN");
    assert!(line["msg"].as_str().unwrap().contains("--collector.diskstats.device-exclude"), "{said}");
}

/// The program as systemd starts it for a socket, which is the third of its files (sd_listen_fds(3)).
fn activated(socket: OwnedFd) -> Running {
    let script = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" --web.systemd-socket";
    let command =
        Command::new("sh").args(["-c", script, PROGRAM]).stdin(socket).stderr(Stdio::null()).spawn();
    Running(command.unwrap())
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const READY: &[u8] = b"GET /-/ready HTTP/1.1\r\nhost: agent\r\nconnection: close\r\n\r\n";

#[test]
fn a_tcp_socket_of_systemd_is_served_on() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let _running = activated(socket.into());
    // It waits in the socket's queue until the program is there.
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(READY).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn a_unix_socket_of_systemd_is_served_on() {
    let path = std::env::temp_dir().join(format!("program-socket-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let socket = UnixListener::bind(&path).unwrap();
    let _running = activated(socket.into());
    let mut stream = UnixStream::connect(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    stream.write_all(READY).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn without_a_socket_of_systemd_the_program_says_so() {
    let said = failure(&["--web.systemd-socket"]);
    assert!(said.contains("--web.systemd-socket") && said.contains("handed over no sockets"), "{said}");
}

/// The program, served on a port that it says in its log.
fn served(arguments: &[&str]) -> (Running, String) {
    // Who may look into every process is not confined.
    let is_root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    let mut command = match is_root {
        true => {
            let mut command = Command::new("setpriv");
            command.args(["--inh-caps=-sys_ptrace", "--bounding-set=-sys_ptrace", "--", PROGRAM]);
            command
        }
        false => Command::new(PROGRAM),
    };
    let mut child = command
        .args(["--web.listen-address=127.0.0.1:0"])
        .args(arguments)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    let serving =
        log.find_map(|line| Some(line.unwrap().split_once("http://")?.1.split_once('/')?.0.to_owned()));
    // What it says later must find somebody who reads it.
    std::thread::spawn(move || log.for_each(drop));
    (Running(child), serving.unwrap())
}

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: agent\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_confined_program_reads_what_it_did_before_and_nothing_beside_it() {
    let folder = std::env::temp_dir().join(format!("program-confined-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("named")).unwrap();
    std::fs::create_dir_all(folder.join("beside")).unwrap();
    std::fs::write(folder.join("named/a.prom"), "named 1\n").unwrap();
    std::fs::write(folder.join("beside/b.prom"), "beside 1\n").unwrap();
    std::os::unix::fs::symlink("../beside/b.prom", folder.join("named/b.prom")).unwrap();
    let named = format!("--collector.textfile.directory={}", folder.join("named").display());
    let families = |text: &str| -> Vec<String> {
        let of_line = |line: &str| Some(line.strip_prefix("# TYPE ")?.split_once(' ')?.0.to_owned());
        text.lines().filter_map(of_line).collect()
    };
    let (free, at_free) = served(&[&named, "--no-landlock"]);
    let (confined, at_confined) = served(&[&named]);
    let (before, after) = (get(&at_free, "/metrics"), get(&at_confined, "/metrics"));
    assert!(before.contains("exporter_agent_landlock_enforced 0"));
    assert!(before.contains("named 1") && before.contains("beside 1"), "{before}");
    assert!(after.contains("named 1"), "{after}");
    let mut expected = families(&before);
    if after.contains("exporter_agent_landlock_enforced 1") {
        expected.retain(|family| family != "beside");
    } else {
        println!("not confined here: the kernel has no Landlock");
    }
    assert_eq!(families(&after), expected);
    for running in [&free, &confined] {
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", running.0.id())).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().nth(4), Some("1"), "{core}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}
