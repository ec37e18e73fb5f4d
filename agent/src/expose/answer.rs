//! Requests to answers: paths, who may ask, limits, compression.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ALLOW, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, RETRY_AFTER, VARY, WWW_AUTHENTICATE,
};
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::authorization::{Authorization, Unauthorized};
use super::flight::Flights;
use super::gzip::Gzip;
use super::negotiate::{self, Encoding};
use super::pool::Pool;
use super::serve::Unsent;
use super::text::Format;
use super::web_config::{Gate, Refusal, WebConfig};
use crate::scrape::{Part, Scraper, Selection, SelectionError};
use crate::telemetry::{InFlight, Telemetry};

/// What the server answers with.
pub struct Exposition {
    scraper: Arc<Mutex<Scraper>>,
    telemetry: Arc<Telemetry>,
    answers: Flights<Asked, Result<Bytes, SelectionError>>,
    pool: Pool,
    /// How long the last answer of each part was, as it is and packed.
    lengths: [[AtomicUsize; 2]; Part::COUNT],
    gzip: Mutex<Gzip>,
    requests: Arc<Semaphore>,
    telemetry_path: String,
    gate: Option<Gate>,
    authorization: Option<Authorization>,
}

/// What requests must agree in to share an answer.
type Asked = (Part, Selection, Format, Encoding);

/// An answer on its way. It keeps its place among the requests until its last byte is written, so that slow readers, too,
/// are bounded in number: the server lets go of a body once it has its bytes, and of the bytes once they are sent.
struct Answer {
    text: Bytes,
    _place: OwnedSemaphorePermit,
    _in_flight: InFlight,
    /// Dropped with the last byte, which the connection sees.
    _sending: mpsc::Sender<()>,
}

impl AsRef<[u8]> for Answer {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

impl Exposition {
    /// Answers from this scraper, to so many requests at a time, or to any number.
    pub fn new(
        scraper: Arc<Mutex<Scraper>>,
        telemetry: Arc<Telemetry>,
        telemetry_path: String,
        max_requests: impl Into<Option<usize>>,
    ) -> Self {
        let most = max_requests.into().unwrap_or(Semaphore::MAX_PERMITS).min(Semaphore::MAX_PERMITS);
        Exposition {
            scraper,
            telemetry,
            answers: Flights::default(),
            pool: Pool::default(),
            lengths: Default::default(),
            gzip: Mutex::default(),
            requests: Arc::new(Semaphore::new(most)),
            telemetry_path,
            gate: None,
            authorization: None,
        }
    }

    /// Answers only whom this configuration lets in.
    pub fn behind(self, web: Arc<WebConfig>) -> Self {
        Exposition { gate: Some(Gate::new(web)), ..self }
    }

    /// Gives metrics only to these; before, the web configuration lets in.
    pub fn to(self, authorization: Authorization) -> Self {
        Exposition { authorization: Some(authorization), ..self }
    }

    pub(super) fn web_config(&self) -> Option<&Arc<WebConfig>> {
        self.gate.as_ref().map(Gate::config)
    }

    pub(super) async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        unsent: mpsc::Sender<Unsent>,
        has_certificate: bool,
    ) -> Response<Full<Bytes>> {
        let Some(gate) = &self.gate else { return self.clone().admitted(request, unsent).await };
        // Who asks whether the agent is well need not be known, and is told no more than that.
        let is_open = matches!(request.uri().path(), "/-/healthy" | "/-/ready");
        let (loaded, refusal) = gate.admit(request.headers(), is_open, Instant::now()).await;
        let unauthorized = match &self.authorization {
            Some(authorization) if !is_open && refusal.is_none() => {
                authorization.check(request.headers(), has_certificate).await.err()
            }
            _ => None,
        };
        let mut response = match (refusal, unauthorized) {
            (None, None) => self.clone().admitted(request, unsent).await,
            (Some(refusal), _) => refused(refusal),
            (None, Some(why)) => unauthorized_answer(why),
        };
        for (name, value) in loaded.headers() {
            response.headers_mut().insert(name, value.clone());
        }
        response
    }

    async fn admitted(
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
            Some("/processes") => Part::Processes,
            Some("/volumes") => Part::Volumes,
            Some("/agent") => Part::Agent,
            _ => return self.other(path),
        };
        let selection = match Selection::parse(request.uri().query().unwrap_or_default()) {
            Ok(selection) => selection,
            Err(error) => return plain(StatusCode::BAD_REQUEST, &error.to_string()),
        };
        let in_flight = self.telemetry.begin_request();
        let Ok(place) = self.requests.clone().try_acquire_owned() else {
            self.telemetry.refused();
            return self.counted(busy("too many requests at a time; raise --web.max-requests\n"));
        };
        let (format, encoding) =
            (negotiate::format(request.headers()), negotiate::encoding(request.headers()));
        let (this, asked) = (self.clone(), (part, selection, format, encoding));
        // Shared with the requests that overlap and ask for the same.
        let body = match self.answers.get(asked, move || this.scrape(asked)).await {
            Some(Ok(body)) => body,
            Some(Err(error)) => return plain(StatusCode::BAD_REQUEST, &error.to_string()),
            None => {
                let failed = "the scrape failed; see the agent's log\n";
                return self.counted(plain(StatusCode::INTERNAL_SERVER_ERROR, failed));
            }
        };
        let (sending, sent) = mpsc::channel(1);
        // One answer at a time is under way on a connection; a second one in its queue waits no longer than the first.
        let _ = unsent.try_send(sent);
        let body = Answer { text: body, _place: place, _in_flight: in_flight, _sending: sending };
        let mut response = Response::new(Full::new(Bytes::from_owner(body)));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
        headers.insert(VARY, HeaderValue::from_static("accept, accept-encoding"));
        if encoding == Encoding::Gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        self.counted(response)
    }

    /// Counts an answer to a request for metrics.
    fn counted(&self, response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
        self.telemetry.answered(response.status().as_u16());
        response
    }

    fn scrape(&self, (part, selection, format, encoding): Asked) -> Result<Bytes, SelectionError> {
        let length = &self.lengths[part as usize][usize::from(encoding == Encoding::Gzip)];
        let mut out = self.pool.take(length.load(Ordering::Relaxed));
        let mut scraper = self.scraper.lock().unwrap_or_else(PoisonError::into_inner);
        let result = match encoding {
            Encoding::Identity => scraper.scrape_selected(part, selection, format, &mut out),
            Encoding::Gzip => {
                let mut gzip = self.gzip.lock().unwrap_or_else(PoisonError::into_inner);
                gzip.begin(out);
                let result = scraper.scrape_selected(part, selection, format, &mut *gzip);
                out = gzip.finish();
                result
            }
        };
        drop(scraper);
        match result {
            Ok(()) => {
                length.store(out.len(), Ordering::Relaxed);
                Ok(self.pool.lend(out))
            }
            Err(error) => {
                self.pool.give_back(out);
                Err(error)
            }
        }
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

fn refused(refusal: Refusal) -> Response<Full<Bytes>> {
    match refusal {
        Refusal::Unauthorized => {
            let mut response = plain(StatusCode::UNAUTHORIZED, "Unauthorized\n");
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic"));
            response
        }
        Refusal::TooMany => plain(StatusCode::TOO_MANY_REQUESTS, "Too Many Requests\n"),
        Refusal::Busy => busy("too many passwords wait to be checked\n"),
    }
}

fn unauthorized_answer(why: Unauthorized) -> Response<Full<Bytes>> {
    match why {
        Unauthorized::NoCertificate => plain(StatusCode::UNAUTHORIZED, "a client certificate is needed\n"),
        Unauthorized::Unauthenticated => {
            let mut response = plain(StatusCode::UNAUTHORIZED, "a token of the cluster is needed\n");
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            response
        }
        Unauthorized::Forbidden => {
            plain(StatusCode::FORBIDDEN, "needs a role that grants `get` on the path /metrics\n")
        }
        Unauthorized::Unknown => busy("the operator does not say who may read\n"),
    }
}

fn busy(text: &str) -> Response<Full<Bytes>> {
    let mut response = plain(StatusCode::SERVICE_UNAVAILABLE, text);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
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
        ("/processes", "processes in groups, if the collector process_groups runs"),
        ("/volumes", "persistent volume claims, if the collector kubelet_volumes runs"),
        ("/agent", "the agent itself"),
    ];
    let items: String = links
        .iter()
        .map(|(part, what)| format!("<li><a href=\"{path}{part}\">{path}{part}</a> {what}</li>"))
        .collect();
    let version = env!("CARGO_PKG_VERSION");
    format!("<!doctype html><title>exporter-agent</title><h1>exporter-agent {version}</h1><ul>{items}</ul>\n")
}
