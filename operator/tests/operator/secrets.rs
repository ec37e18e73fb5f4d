//! No log of the program holds the token by which it speaks to the API server, at its most talkative and refused.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

/// Part of every secret here.
const MARK: &str = "s3cr3t-mark";
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn no_token_is_ever_in_the_log() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.local_addr().unwrap();
    let (say, asked) = channel();
    // Whatever is asked is refused, without what was heard: an API server that sends tokens back is not one to ask.
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut bytes = [0; 4096];
            let Ok(length) = stream.read(&mut bytes) else { continue };
            let heard = String::from_utf8_lossy(&bytes[..length]).into_owned();
            let _ = stream
                .write_all(b"HTTP/1.1 401 Unauthorized\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
            let _ = say.send(heard);
        }
    });
    let file = std::env::temp_dir().join(format!("operator-secrets-{}", std::process::id()));
    let kubeconfig = format!(
        "{{apiVersion: v1, kind: Config, current-context: c, clusters: [{{name: c, cluster: {{server: 'http://{server}'}}}}], \
         users: [{{name: u, user: {{token: {MARK}}}}}], contexts: [{{name: c, context: {{cluster: c, user: u}}}}]}}"
    );
    std::fs::write(&file, kubeconfig).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_exporter-operator"))
        .args(["run", "--log.level=trace", "--namespace=x", "--web.listen-address=127.0.0.1:0"])
        .args(["--listen=127.0.0.1:0"])
        .env("KUBECONFIG", &file)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (line, lines) = channel();
    let log = BufReader::new(child.stderr.take().unwrap());
    std::thread::spawn(move || log.lines().map_while(Result::ok).try_for_each(|it| line.send(it)));
    for _ in 0..6 {
        let heard = asked.recv_timeout(PATIENCE).unwrap();
        assert!(heard.contains(MARK), "asked without the token: {heard}");
    }
    // It says that it is refused.
    let mut all = Vec::new();
    while !all.iter().any(|line: &String| line.contains("401") || line.contains("Unauthorized")) {
        all.push(lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no refusal in {all:?}")));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    std::fs::remove_file(&file).unwrap();
    all.extend(lines.iter());
    let said = all.iter().find(|line| line.contains(MARK));
    assert!(said.is_none(), "in the log: {said:?}");
}
