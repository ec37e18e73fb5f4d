//! The endpoints, over real connections on loopback: what is answered, and to how many at a time.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent::expose::{Exposition, serve};
use agent::plan::{Overlay, Plan};
use agent::scrape::Scraper;
use agent::source::Paths;
use agent::telemetry::Telemetry;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// An agent of this machine without policies, which answers so many at a time.
async fn agent(max_requests: usize) -> SocketAddr {
    let paths = Paths::default();
    let telemetry = Arc::new(Telemetry::new().unwrap());
    let plan = Plan::new(Vec::new(), Default::default(), &Overlay::default());
    let scraper = Arc::new(Mutex::new(Scraper::new(paths, String::new(), 100, plan, telemetry.clone())));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let exposition = Exposition::new(scraper, telemetry, "/metrics".to_owned(), max_requests);
    tokio::spawn(serve(listener, Arc::new(exposition)));
    address
}

async fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(format!("{request}\r\nhost: agent\r\nconnection: close\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_endpoint_answers_with_its_part() {
    let agent = agent(4).await;
    for (path, has, has_not) in [
        ("/metrics", "node_load1 ", "# EOF"),
        ("/metrics/node", "node_scrape_collector_success", "exporter_agent_"),
        ("/metrics/cadvisor", "container_cpu_usage_seconds_total{", "node_"),
        ("/metrics/agent", "exporter_agent_build_info{", "node_load1"),
        ("/-/healthy", "healthy", "#"),
        ("/-/ready", "ready", "#"),
        ("/", "/metrics/cadvisor", "#"),
    ] {
        let answer = ask(agent, &format!("GET {path} HTTP/1.1")).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{path}: {answer}");
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        assert!(body.contains(has) && !body.contains(has_not), "{path}: {body}");
    }
    assert!(ask(agent, "GET /nothing HTTP/1.1").await.starts_with("HTTP/1.1 404"));
    assert!(ask(agent, "POST /metrics HTTP/1.1").await.starts_with("HTTP/1.1 405"));
    let head = ask(agent, "HEAD /metrics HTTP/1.1").await;
    assert!(head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"), "{head}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_format_is_the_one_that_is_asked_for() {
    let agent = agent(4).await;
    let plain = ask(agent, "GET /metrics/node HTTP/1.1").await;
    assert!(plain.contains("content-type: text/plain; version=0.0.4"), "{plain}");
    let open =
        ask(agent, "GET /metrics/node HTTP/1.1\r\naccept: application/openmetrics-text;version=1.0.0").await;
    assert!(open.contains("content-type: application/openmetrics-text; version=1.0.0"), "{open}");
    assert!(open.ends_with("# EOF\n") && open.contains("# TYPE node_cpu_seconds counter"), "{open}");
    let packed = ask(agent, "GET /metrics/node HTTP/1.1\r\naccept-encoding: gzip").await;
    assert!(packed.contains("content-encoding: gzip"), "{packed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_keeps_a_place_and_one_too_many_is_told_so() {
    tokio::time::timeout(Duration::from_secs(120), a_slow_reader()).await.expect("the place was given up");
}

async fn a_slow_reader() {
    let agent = agent(1).await;
    // A window so small that even the smallest answer does not fit, and nobody who reads it.
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(1024).unwrap();
    let mut slow = socket.connect(agent).await.unwrap();
    // Requests in a row on one connection fill what the kernel would still take for it.
    let requests = "GET /metrics HTTP/1.1\r\nhost: agent\r\n\r\n".repeat(400);
    slow.write_all(requests.as_bytes()).await.unwrap();
    // More often in a row than the requests take that the kernel's buffers have room for.
    let mut refused = 0;
    while refused < 2000 {
        let answer = ask(agent, "GET /metrics/agent HTTP/1.1").await;
        if answer.starts_with("HTTP/1.1 503") {
            assert!(answer.contains("retry-after: 1") && answer.contains("--web.max-requests"), "{answer}");
            refused += 1;
        } else {
            refused = 0;
        }
    }
    drop(slow);
    while !ask(agent, "GET /metrics/agent HTTP/1.1").await.starts_with("HTTP/1.1 200") {}
}
