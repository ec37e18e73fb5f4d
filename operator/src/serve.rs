//! The operator's own HTTP endpoints: `/healthz`, `/readyz` and `/metrics`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::telemetry::Telemetry;

/// Says what is not ready; nothing when all is.
pub type Missing = Arc<dyn Fn() -> Vec<&'static str> + Send + Sync>;

/// Connections at a time; more wait to be accepted.
const MAX_CONNECTIONS: usize = 64;
const HEADERS_WITHIN: Duration = Duration::from_secs(5);
/// Bytes of a request before its body, which nobody reads.
const MAX_HEADERS: usize = 16 << 10;
/// A connection answers no further request after this time, so that its place is somebody else's.
const LONGEST: Duration = Duration::from_secs(60);
/// How long the last answer may take to be read.
const PARTING: Duration = Duration::from_secs(5);

/// Serves until the task is dropped.
pub async fn serve(listener: TcpListener, telemetry: Telemetry, missing: Missing) {
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = connections.clone().acquire_owned().await else { return };
        let (stream, _) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors: this passes, and must not spin.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (telemetry, missing) = (telemetry.clone(), missing.clone());
        tokio::spawn(async move {
            connection(stream, telemetry, missing).await;
            drop(permit);
        });
    }
}

/// Answers requests on one connection; returns in bounded time, whatever the other side does.
async fn connection(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin,
    telemetry: Telemetry,
    missing: Missing,
) {
    let answer = service_fn(move |request: Request<Incoming>| {
        let answer = answer(request.uri().path(), &telemetry, &missing);
        async move { Ok::<_, Infallible>(answer) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .max_buf_size(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), answer);
    let mut connection = std::pin::pin!(connection);
    let end = match timeout(LONGEST, connection.as_mut()).await {
        Ok(end) => end,
        Err(_) => {
            connection.as_mut().graceful_shutdown();
            timeout(PARTING, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = end {
        tracing::debug!(%error, "a connection broke");
    }
}

fn answer(path: &str, telemetry: &Telemetry, missing: &Missing) -> Response<Full<Bytes>> {
    match path {
        "/healthz" => text(StatusCode::OK, "ok\n"),
        "/readyz" => match missing().as_slice() {
            [] => text(StatusCode::OK, "ok\n"),
            missing => text(StatusCode::SERVICE_UNAVAILABLE, format!("waiting for {}\n", missing.join(", "))),
        },
        "/metrics" => text(StatusCode::OK, telemetry.text()),
        _ => text(StatusCode::NOT_FOUND, "there are /healthz, /readyz and /metrics\n"),
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let kind = hyper::header::HeaderValue::from_static(prometheus::TEXT_FORMAT);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::time::{Instant, sleep};

    use super::*;

    /// How long a connection is held to a client that does this.
    async fn held<F: Future<Output = ()> + Send + 'static>(
        client: impl FnOnce(DuplexStream) -> F,
    ) -> Duration {
        let (ours, theirs) = duplex(256);
        let start = Instant::now();
        tokio::spawn(client(theirs));
        let served = connection(ours, Telemetry::new().unwrap(), Arc::new(Vec::new));
        timeout(Duration::from_secs(3600), served).await.expect("it is held for an hour");
        start.elapsed()
    }

    const REQUEST: &[u8] = b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n";

    #[tokio::test(start_paused = true)]
    async fn no_client_holds_a_connection_for_longer_than_a_minute_and_a_few_seconds() {
        let silent = held(async |stream| {
            sleep(Duration::from_secs(3000)).await;
            drop(stream);
        });
        assert!(silent.await <= HEADERS_WITHIN);
        let writes_slowly = held(async |mut stream: DuplexStream| {
            while stream.write_u8(b'a').await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
        });
        assert!(writes_slowly.await <= HEADERS_WITHIN);
        let reads_slowly = held(async |mut stream: DuplexStream| {
            stream.write_all(REQUEST).await.unwrap();
            while stream.read_u8().await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
        });
        assert!(reads_slowly.await <= LONGEST + PARTING);
        let asks_for_ever = held(async |stream: DuplexStream| {
            let (mut read, mut write) = tokio::io::split(stream);
            tokio::spawn(async move {
                while write.write_all(REQUEST).await.is_ok() {
                    sleep(Duration::from_secs(1)).await;
                }
            });
            while read.read_u8().await.is_ok() {}
        });
        assert!(asks_for_ever.await <= LONGEST + PARTING);
    }
}
