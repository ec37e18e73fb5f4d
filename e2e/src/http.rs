//! One GET over a plain connection, with the time that it took.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// Three times what process-exporter needs for twenty thousand processes.
const PATIENCE: Duration = Duration::from_secs(30);

/// What came back.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The body as it came, compressed if that was asked for.
    pub body: Vec<u8>,
    /// From before the connection to the last byte.
    pub took: Duration,
}

impl Response {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as text, if the status is 200.
    pub fn text(&self) -> Result<&str> {
        let text = std::str::from_utf8(&self.body).context("the answer is not text")?;
        anyhow::ensure!(self.status == 200, "status {}: {}", self.status, text.trim());
        Ok(text)
    }
}

/// Asks for a path, with further headers such as `("Accept", "…")`.
///
/// In HTTP 1.0, whose answers end with the connection and have no chunks to put together.
pub fn get(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Result<Response> {
    let start = Instant::now();
    let answer =
        exchange(address, path, headers).with_context(|| format!("no answer from http://{address}{path}"))?;
    let took = start.elapsed();
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").context("the answer has no head")?;
    let head = std::str::from_utf8(&answer[..end]).context("the answer's head is not text")?;
    let mut lines = head.lines();
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1)?.parse().ok())
        .context("the answer has no status")?;
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    Ok(Response { status, headers, body: answer[end + 4..].to_vec(), took })
}

fn exchange(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let mut request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn status_headers_and_body_are_told_apart() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let length = stream.read(&mut request).unwrap();
            stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nup 1\n").unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        let response = get(address, "/metrics", &[("Accept", "text/plain")]).unwrap();
        assert_eq!(response.text().unwrap(), "up 1\n");
        assert_eq!(response.header("content-type"), Some("text/plain"));
        assert!(server.join().unwrap().starts_with("GET /metrics HTTP/1.0\r\nHost: 127.0.0.1:"));
    }
}
