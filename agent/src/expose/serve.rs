//! The server: connections, with TLS or without, and what cuts them off.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use super::answer::Exposition;
use super::listen::{Io, Listener};

/// A client that sends its request slower than this is cut off, and one that sends no further request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// A client that takes its answer slower than this is cut off, so that those who never read cannot take all places.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// A client that takes longer for its handshake is cut off.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How many requests of one HTTP/2 connection are answered at a time: as many as [`stuck`] watches.
const STREAMS: u32 = 2;

/// Ends when an answer is sent.
pub(super) type Unsent = mpsc::Receiver<()>;

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
pub async fn serve(listener: impl Into<Listener>, exposition: Arc<Exposition>) {
    let listener = listener.into();
    loop {
        match listener.accept().await {
            Ok(stream) => {
                tokio::spawn(connection(stream, exposition.clone()));
            }
            Err(error) => {
                // Out of handles, most likely: accepting at once again would only spin.
                tracing::warn!("accept: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(stream: Box<dyn Io>, exposition: Arc<Exposition>) {
    let tls = match exposition.web_config() {
        Some(web) => web.current().await.tls.clone(),
        None => None,
    };
    let Some(tls) = tls else { return http(stream, false, exposition).await };
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, TlsAcceptor::from(tls).accept(stream)).await {
        Ok(Ok(stream)) => {
            let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            http(Box::new(stream), is_http2, exposition).await;
        }
        Ok(Err(error)) => tracing::debug!("TLS handshake: {error}"),
        Err(_) => tracing::debug!("a client that is slow with its handshake is cut off"),
    }
}

async fn http(stream: Box<dyn Io>, is_http2: bool, exposition: Arc<Exposition>) {
    let (unsent, answers) = mpsc::channel(2);
    let answer = service_fn(move |request| {
        let (exposition, unsent) = (exposition.clone(), unsent.clone());
        async move { Ok::<_, Infallible>(exposition.answer(request, unsent).await) }
    });
    let stream = TokioIo::new(stream);
    let served = async {
        match is_http2 {
            true => {
                hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .timer(TokioTimer::new())
                    .keep_alive_interval(HEADER_TIMEOUT)
                    .max_concurrent_streams(STREAMS)
                    .max_header_list_size(16 << 10)
                    .serve_connection(stream, answer)
                    .await
            }
            false => {
                hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEADER_TIMEOUT)
                    .max_buf_size(64 << 10)
                    .serve_connection(stream, answer)
                    .await
            }
        }
    };
    tokio::select! {
        end = served => if let Err(error) = end {
            tracing::debug!("connection: {error}");
        },
        () = stuck(answers) => tracing::debug!("a client that does not read is cut off"),
    }
}
