//! No log of the program holds a secret, at its most talkative and with everything failing.
//!
//! Every secret that it is given has a mark. Whoever it talks to sends back what it heard, so that errors hold it too.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

/// Part of every secret here.
const MARK: &str = "s3cr3t-mark";
const PATIENCE: Duration = Duration::from_secs(60);

/// Answers every request with this status and with what it heard, and tells the test.
fn echo(status: &'static str) -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (say, heard) = channel();
    std::thread::spawn(move || listener.incoming().flatten().for_each(|stream| answer(stream, status, &say)));
    (address, heard)
}

fn answer(mut stream: TcpStream, status: &str, say: &Sender<String>) {
    let mut bytes = [0; 4096];
    let Ok(length) = stream.read(&mut bytes) else { return };
    let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", text.len());
    let _ = stream.write_all((head + &text).as_bytes());
    let _ = say.send(text);
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("secrets-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn no_secret_is_ever_in_the_log() {
    let folder = Folder::new("log");
    let (kubelet, asked) = echo("401 Unauthorized");
    let (operator, hello) = echo("500 Internal Server Error");
    let token = folder.write("token", &format!("{MARK}-token"));
    let password = format!("{MARK}-password");
    let hash = bcrypt::hash(&password, 4).unwrap();
    let users = format!("basic_auth_users: {{ann: {hash}}}\n");
    let web = folder.write("web.yml", &users);
    folder.write("last-good.json", &format!("{{\"format\":1,\"inForce\":\"{MARK}-redaction-key\"}}"));

    let mut child = Command::new(env!("CARGO_BIN_EXE_exporter-agent"))
        .args(["--log.level=trace", "--web.listen-address=127.0.0.1:0", "--node-name=node"])
        .arg(format!("--kubelet.url=http://{kubelet}"))
        .arg(format!("--kubelet.token-file={token}"))
        .arg(format!("--operator=http://{operator}"))
        .arg(format!("--last-good={}", folder.0.display()))
        .arg(format!("--web.config.file={web}"))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (say, said) = channel();
    let log = BufReader::new(child.stderr.take().unwrap());
    std::thread::spawn(move || log.lines().map_while(Result::ok).try_for_each(|line| say.send(line)));
    let mut all = String::new();
    let mut until = |what: &str| loop {
        let line = said.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no `{what}` in:\n{all}"));
        all.push_str(&line);
        all.push('\n');
        if line.contains(what) {
            break line;
        }
    };
    until("last-good.json");
    let address = until("serving on http://");
    let address = address.split_once("http://").unwrap().1.split_once('/').unwrap().0.to_owned();
    let heard = asked.recv_timeout(PATIENCE).unwrap();
    assert!(heard.contains(&format!("{MARK}-token")), "the kubelet was asked without a token: {heard}");
    hello.recv_timeout(PATIENCE).unwrap();
    for (given, status) in [(&password, "200"), (&format!("{password}-wrong"), "401")] {
        let credentials = BASE64_STANDARD.encode(format!("ann:{given}"));
        let mut stream = TcpStream::connect(&address).unwrap();
        write!(
            stream,
            "GET /metrics HTTP/1.1\r\nhost: a\r\nauthorization: Basic {credentials}\r\nconnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        assert!(!answer.contains(MARK), "{answer}");
    }
    // Somebody writes a password where its hash belongs, and a key where its file does; the file is read when somebody asks.
    for wrong in [
        format!("basic_auth_users: {{ann: {MARK}}}\n"),
        format!("basic_auth_users: {{ann: {hash}\n{MARK}: ["),
        format!("{users}nosuch: {MARK}\n"),
        format!("basic_auth_users: [{MARK}]\n"),
    ] {
        folder.write("web.yml", &wrong);
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
        until("web.yml");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    all.extend(said.iter().map(|line| line + "\n"));
    for secret in [MARK, &hash, &BASE64_STANDARD.encode(format!("ann:{password}"))] {
        let line = all.lines().find(|line| line.contains(secret));
        assert!(line.is_none(), "`{secret}` in the log: {line:?}");
    }
    assert!(all.contains("kubelet") && all.contains("operator"), "it says nothing of what fails:\n{all}");
}

#[test]
fn a_private_key_that_cannot_be_read_is_not_in_the_message() {
    let folder = Folder::new("key");
    let key =
        folder.write("key.pem", &format!("-----BEGIN PRIVATE KEY-----\n{MARK}\n-----END PRIVATE KEY-----\n"));
    let config =
        folder.write("web.yml", &format!("tls_server_config: {{cert_file: {key}, key_file: {key}}}\n"));
    let output = Command::new(env!("CARGO_BIN_EXE_exporter-agent"))
        .args(["--log.level=trace", &format!("--web.config.file={config}")])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("tls_server_config"), "{said}");
    assert!(!said.contains(MARK), "{said}");
}
