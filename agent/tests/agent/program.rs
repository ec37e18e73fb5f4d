//! The program itself: what ends it at the start, what it warns of, and the sockets that it is handed.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
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
