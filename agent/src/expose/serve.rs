//! The HTTP server: paths, limits, compression.

use std::convert::Infallible;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, RETRY_AFTER, VARY};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::flight::Flights;
use super::negotiate;
use super::pool::Pool;
use super::text::Format;
use crate::scrape::{Part, Scraper};
use crate::telemetry::Telemetry;

/// What the server answers with.
pub struct Exposition {
    scraper: Arc<Mutex<Scraper>>,
    telemetry: Arc<Telemetry>,
    flights: Flights<(Part, Format, bool), Bytes>,
    pool: Pool,
    requests: Arc<Semaphore>,
    telemetry_path: String,
    is_ready: AtomicBool,
}

/// An answer on its way. It keeps its place among the requests until its last byte is written, so that slow readers, too,
/// are bounded in number: the server lets go of a body once it has its bytes, and of the bytes once they are sent.
struct Answer {
    text: Bytes,
    _place: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Answer {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

/// A client that sends its request slower than this is cut off.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

impl Exposition {
    /// Answers from this scraper, to so many requests at a time.
    pub fn new(
        scraper: Arc<Mutex<Scraper>>,
        telemetry: Arc<Telemetry>,
        telemetry_path: String,
        max_requests: usize,
    ) -> Self {
        Exposition {
            scraper,
            telemetry,
            flights: Flights::default(),
            pool: Pool::default(),
            requests: Arc::new(Semaphore::new(max_requests)),
            telemetry_path,
            is_ready: AtomicBool::new(false),
        }
    }

    /// Whether `/-/ready` says so.
    pub fn set_ready(&self, is_ready: bool) {
        self.is_ready.store(is_ready, Ordering::Relaxed);
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        let path = request.uri().path();
        let part = match path.strip_prefix(self.telemetry_path.as_str()) {
            Some("") => Part::All,
            Some("/node") => Part::Node,
            Some("/cadvisor") => Part::Cadvisor,
            Some("/agent") => Part::Agent,
            _ => return self.other(path),
        };
        let Ok(place) = self.requests.clone().try_acquire_owned() else {
            self.telemetry.refused();
            let mut response = plain(
                StatusCode::SERVICE_UNAVAILABLE,
                "too many requests at a time; raise --web.max-requests\n",
            );
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
            return response;
        };
        let (format, gzip) = (negotiate::format(request.headers()), negotiate::gzip(request.headers()));
        let this = self.clone();
        let Some(body) = self.flights.get((part, format, gzip), move || this.make(part, format, gzip)).await
        else {
            return plain(StatusCode::INTERNAL_SERVER_ERROR, "the scrape failed; see the agent's log\n");
        };
        let body = Bytes::from_owner(Answer { text: body, _place: place });
        let mut response = Response::new(Full::new(body));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
        headers.insert(VARY, HeaderValue::from_static("accept, accept-encoding"));
        if gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }

    fn make(&self, part: Part, format: Format, gzip: bool) -> Bytes {
        let mut text = self.pool.take();
        self.scraper.lock().unwrap_or_else(PoisonError::into_inner).scrape(part, format, &mut text);
        if !gzip {
            return self.pool.lend(text);
        }
        let mut encoder = GzEncoder::new(self.pool.take(), Compression::fast());
        let packed = encoder.write_all(&text).and_then(|()| encoder.finish());
        self.pool.give_back(text);
        // Writing to memory does not fail.
        self.pool.lend(packed.unwrap_or_default())
    }

    fn other(&self, path: &str) -> Response<Full<Bytes>> {
        match path {
            "/-/healthy" => plain(StatusCode::OK, "healthy\n"),
            "/-/ready" if self.is_ready.load(Ordering::Relaxed) => plain(StatusCode::OK, "ready\n"),
            "/-/ready" => plain(StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
            "/" => {
                let mut response = plain(StatusCode::OK, &landing(&self.telemetry_path));
                response
                    .headers_mut()
                    .insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
                response
            }
            _ => plain(StatusCode::NOT_FOUND, "not found; see /\n"),
        }
    }
}

/// Serves on this listener until the program ends.
pub async fn serve(listener: TcpListener, exposition: Arc<Exposition>) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of handles, most likely: accepting at once again would only spin.
                tracing::warn!("accept: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let exposition = exposition.clone();
        tokio::spawn(async move {
            let answer = service_fn(move |request| {
                let exposition = exposition.clone();
                async move { Ok::<_, Infallible>(exposition.answer(request).await) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .max_buf_size(64 << 10)
                .serve_connection(TokioIo::new(stream), answer);
            if let Err(error) = connection.await {
                tracing::debug!("connection: {error}");
            }
        });
    }
}

fn plain(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(text.as_bytes())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn landing(path: &str) -> String {
    let links = [
        ("", "everything"),
        ("/node", "the machine"),
        ("/cadvisor", "containers"),
        ("/agent", "the agent itself"),
    ];
    let items: String = links
        .iter()
        .map(|(part, what)| format!("<li><a href=\"{path}{part}\">{path}{part}</a> {what}</li>"))
        .collect();
    let version = env!("CARGO_PKG_VERSION");
    format!("<!doctype html><title>exporter-agent</title><h1>exporter-agent {version}</h1><ul>{items}</ul>\n")
}
