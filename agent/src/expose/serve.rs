//! The HTTP server: paths, limits, compression.

use std::convert::Infallible;
use std::io::Write as _;
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
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

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
    texts: Flights<(Part, Format), Bytes>,
    packed: Flights<(Part, Format), Bytes>,
    pool: Pool,
    requests: Arc<Semaphore>,
    telemetry_path: String,
}

/// An answer on its way. It keeps its place among the requests until its last byte is written, so that slow readers, too,
/// are bounded in number: the server lets go of a body once it has its bytes, and of the bytes once they are sent.
struct Answer {
    text: Bytes,
    _place: OwnedSemaphorePermit,
    /// Dropped with the last byte, which [`stuck`] sees.
    _sending: mpsc::Sender<()>,
}

impl AsRef<[u8]> for Answer {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

/// A client that sends its request slower than this is cut off, and one that sends no further request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// A client that takes its answer slower than this is cut off, so that those who never read cannot take all places.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

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
            texts: Flights::default(),
            packed: Flights::default(),
            pool: Pool::default(),
            requests: Arc::new(Semaphore::new(max_requests)),
            telemetry_path,
        }
    }

    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        unsent: mpsc::Sender<Unsent>,
    ) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        let path = request.uri().path();
        let part = match path.strip_prefix(self.telemetry_path.as_str()) {
            Some("" | "/") => Part::All,
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
        let Some(body) = self.body(part, format, gzip).await else {
            return plain(StatusCode::INTERNAL_SERVER_ERROR, "the scrape failed; see the agent's log\n");
        };
        let (sending, sent) = mpsc::channel(1);
        // One answer at a time is under way on a connection; a second one in its queue waits no longer than the first.
        let _ = unsent.try_send(sent);
        let body = Bytes::from_owner(Answer { text: body, _place: place, _sending: sending });
        let mut response = Response::new(Full::new(body));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
        headers.insert(VARY, HeaderValue::from_static("accept, accept-encoding"));
        if gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }

    /// The answer, shared with the requests that overlap: one collection for all encodings.
    async fn body(self: &Arc<Self>, part: Part, format: Format, gzip: bool) -> Option<Bytes> {
        let this = self.clone();
        let text = self.texts.get((part, format), move || this.scrape(part, format)).await?;
        if !gzip {
            return Some(text);
        }
        let this = self.clone();
        self.packed.get((part, format), move || this.pack(&text)).await
    }

    fn scrape(&self, part: Part, format: Format) -> Bytes {
        let mut text = self.pool.take();
        self.scraper.lock().unwrap_or_else(PoisonError::into_inner).scrape(part, format, &mut text);
        self.pool.lend(text)
    }

    fn pack(&self, text: &[u8]) -> Bytes {
        let mut encoder = GzEncoder::new(self.pool.take(), Compression::fast());
        // Writing to memory does not fail.
        self.pool.lend(encoder.write_all(text).and_then(|()| encoder.finish()).unwrap_or_default())
    }

    fn other(&self, path: &str) -> Response<Full<Bytes>> {
        match path {
            "/-/healthy" => plain(StatusCode::OK, "healthy\n"),
            "/-/ready" => plain(StatusCode::OK, "ready\n"),
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

/// Ends when an answer is sent.
type Unsent = mpsc::Receiver<()>;

/// Returns when an answer is not sent in time.
async fn stuck(mut answers: mpsc::Receiver<Unsent>) {
    while let Some(mut unsent) = answers.recv().await {
        if tokio::time::timeout(READ_TIMEOUT, unsent.recv()).await.is_err() {
            return;
        }
    }
    std::future::pending().await
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
            let (unsent, answers) = mpsc::channel(2);
            let answer = service_fn(move |request| {
                let (exposition, unsent) = (exposition.clone(), unsent.clone());
                async move { Ok::<_, Infallible>(exposition.answer(request, unsent).await) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .max_buf_size(64 << 10)
                .serve_connection(TokioIo::new(stream), answer);
            tokio::select! {
                end = connection => if let Err(error) = end {
                    tracing::debug!("connection: {error}");
                },
                () = stuck(answers) => tracing::debug!("a client that does not read is cut off"),
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
