//! The endpoints, over real connections on loopback: what is answered, and to how many at a time.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent::expose::{Authorization, Exposition, WebConfig, serve};
use agent::plan::{Overlay, Plan};
use agent::scrape::Scraper;
use agent::source::Paths;
use agent::telemetry::Telemetry;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// An agent of this machine without policies, which answers so many at a time.
async fn agent(max_requests: usize) -> SocketAddr {
    let telemetry = Arc::new(Telemetry::new().unwrap());
    telemetry.set_revision("abc");
    serve_at_loopback(exposition(telemetry, max_requests)).await
}

/// The same behind a web configuration.
pub(crate) async fn serve_behind(web: Arc<WebConfig>, telemetry: Arc<Telemetry>) -> SocketAddr {
    serve_at_loopback(exposition(telemetry, 4).behind(web)).await
}

/// As [`serve_behind`], for those alone who show a certificate.
pub(crate) async fn serve_to_certificates(web: Arc<WebConfig>, telemetry: Arc<Telemetry>) -> SocketAddr {
    serve_at_loopback(exposition(telemetry, 4).behind(web).to(Authorization::Certificate)).await
}

fn exposition(telemetry: Arc<Telemetry>, max_requests: usize) -> Exposition {
    let paths = Paths::default();
    let plan = Plan::new(Vec::new(), Default::default(), &Overlay::default());
    let scraper = Arc::new(Mutex::new(Scraper::new(paths, String::new(), 100, plan, telemetry.clone())));
    Exposition::new(scraper, telemetry, "/metrics".to_owned(), max_requests)
}

async fn serve_at_loopback(exposition: Exposition) -> SocketAddr {
    serve_on(TcpListener::bind("127.0.0.1:0").await.unwrap(), exposition)
}

fn serve_on(listener: TcpListener, exposition: Exposition) -> SocketAddr {
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, Arc::new(exposition)));
    address
}

pub(crate) async fn ask(address: SocketAddr, request: &str) -> String {
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
        ("/metrics/agent", "exporter_agent_build_info{revision=\"abc\",version=", "node_load1"),
        ("/-/healthy", "healthy", "#"),
        ("/-/ready", "ready", "#"),
        ("/", "/metrics/cadvisor", "#"),
    ] {
        let answer = ask(agent, &format!("GET {path} HTTP/1.1")).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{path}: {answer}");
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        assert!(body.contains(has) && !body.contains(has_not), "{path}: {body}");
    }
    for path in ["/nothing", "/debug/pprof/", "/debug/pprof/heap", "/metricsx"] {
        assert!(ask(agent, &format!("GET {path} HTTP/1.1")).await.starts_with("HTTP/1.1 404"), "{path}");
    }
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
    // The kernel takes so little on either side that an answer does not fit, and nobody reads it.
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_send_buffer_size(4096).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let agent = serve_on(socket.listen(16).unwrap(), exposition(Arc::new(Telemetry::new().unwrap()), 1));
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(1024).unwrap();
    let mut slow = socket.connect(agent).await.unwrap();
    slow.write_all(b"GET /metrics HTTP/1.1\r\nhost: agent\r\n\r\n").await.unwrap();
    let mut status = [0; 15];
    slow.read_exact(&mut status).await.unwrap();
    assert_eq!(status, *b"HTTP/1.1 200 OK");
    for _ in 0..3 {
        let answer = ask(agent, "GET /metrics/agent HTTP/1.1").await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(answer.contains("retry-after: 1") && answer.contains("--web.max-requests"), "{answer}");
    }
    drop(slow);
    while !ask(agent, "GET /metrics/agent HTTP/1.1").await.starts_with("HTTP/1.1 200") {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_chooses_collectors_as_with_node_exporter() {
    let agent = agent(4).await;
    let body = async |query: &str| {
        let answer = ask(agent, &format!("GET /metrics{query} HTTP/1.1")).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        answer
    };
    let ran = |body: &str, name: &str| {
        body.contains(&format!("node_scrape_collector_success{{collector=\"{name}\"}} "))
    };
    let some = body("/node?collect[]=loadavg&collect[]=meminfo").await;
    assert!(ran(&some, "loadavg") && ran(&some, "meminfo") && !ran(&some, "cpu"), "{some}");
    assert!(some.contains("node_load1 ") && !some.contains("node_cpu_seconds_total"), "{some}");
    // What is said of the exporter itself stays.
    assert!(some.contains("node_exporter_build_info{") && some.contains("process_open_fds "), "{some}");
    let others = body("?exclude%5B%5D=cpu&exclude[]=nosuch").await;
    assert!(ran(&others, "loadavg") && !ran(&others, "cpu") && others.contains("container_cpu"), "{others}");
    for (path, query, said) in [
        ("", "collect[]=cpu&exclude[]=cpu", "Combined collect and exclude queries are not allowed."),
        ("/node", "collect[]=nosuch", "missing collector: nosuch"),
        ("/cadvisor", "collect[]=", "missing collector: "),
        ("/agent", "collect[]=cpu&collect[]=no%20such", "missing collector: no such"),
    ] {
        let answer = ask(agent, &format!("GET /metrics{path}?{query} HTTP/1.1")).await;
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains(said), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_does_not_run_cannot_be_asked_for() {
    let telemetry = Arc::new(Telemetry::new().unwrap());
    let flags = Overlay { enabled: [("loadavg".to_owned(), false)].into(), ..Overlay::default() };
    let plan = Plan::new(Vec::new(), Default::default(), &flags);
    let scraper = Scraper::new(Paths::default(), String::new(), 100, plan, telemetry.clone());
    let exposition = Exposition::new(Arc::new(Mutex::new(scraper)), telemetry, "/metrics".to_owned(), None);
    let agent = serve_at_loopback(exposition).await;
    let answer = ask(agent, "GET /metrics/node?collect[]=cpu&collect[]=loadavg HTTP/1.1").await;
    assert!(
        answer.starts_with("HTTP/1.1 400") && answer.ends_with("disabled collector: loadavg"),
        "{answer}"
    );
    // To leave out what does not run is no error.
    let answer = ask(agent, "GET /metrics/node?exclude[]=loadavg HTTP/1.1").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn process_and_requests_are_given_where_node_exporter_has_them_or_nowhere() {
    let own = ["process_cpu_seconds_total ", "process_resident_memory_bytes ", "process_max_fds "];
    let handler = "promhttp_metric_handler_requests_total{code=\"200\"} 2\n";
    let given = agent(4).await;
    for (path, has_build) in [("", true), ("/node", true), ("/agent", false)] {
        let answer = ask(given, &format!("GET /metrics{path} HTTP/1.1")).await;
        assert!(own.iter().all(|name| answer.contains(name)), "{path}: {answer}");
        assert!(answer.contains("promhttp_metric_handler_requests_in_flight 1\n"), "{path}: {answer}");
        assert_eq!(answer.contains("node_exporter_build_info{"), has_build, "{path}");
        // Counted as the third request is answered.
        assert_eq!(answer.contains(handler), path == "/agent", "{path}: {answer}");
    }
    let mut telemetry = Telemetry::new().unwrap();
    telemetry.disable_exporter_metrics();
    let withheld = serve_at_loopback(exposition(Arc::new(telemetry), 4)).await;
    let answer = ask(withheld, "GET /metrics HTTP/1.1").await;
    assert!(!answer.contains("process_") && !answer.contains("promhttp_"), "{answer}");
    assert!(answer.contains("node_exporter_build_info{"), "{answer}");
}
