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
use super::paced::Paced;
use super::places::Places;

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
    let (listener, places) = (listener.into(), Places::default());
    while let Some(free) = places.free().await {
        match listener.accept().await {
            Ok((stream, address)) => match places.take(free, address) {
                Some(place) => {
                    let exposition = exposition.clone();
                    tokio::spawn(async move {
                        connection(stream, exposition).await;
                        drop(place);
                    });
                }
                None => tracing::debug!(?address, "too many connections of one address; this one is closed"),
            },
            Err(error) => {
                // Out of handles, most likely: accepting at once again would only spin.
                tracing::warn!("accept: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(stream: Box<dyn Io>, exposition: Arc<Exposition>) {
    let stream: Box<dyn Io> = Box::new(Paced::new(stream, READ_TIMEOUT));
    let (tls, verifies) = match exposition.web_config() {
        Some(web) => {
            let loaded = web.current().await;
            (loaded.tls.clone(), loaded.verifies_clients())
        }
        None => (None, false),
    };
    let Some(tls) = tls else { return http(stream, Spoken::default(), exposition).await };
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, TlsAcceptor::from(tls).accept(stream)).await {
        Ok(Ok(stream)) => {
            let session = stream.get_ref().1;
            let spoken = Spoken {
                is_http2: session.alpn_protocol() == Some(b"h2"),
                has_certificate: verifies && session.peer_certificates().is_some_and(|it| !it.is_empty()),
            };
            http(Box::new(stream), spoken, exposition).await;
        }
        Ok(Err(error)) => tracing::debug!("TLS handshake: {error}"),
        Err(_) => tracing::debug!("a client that is slow with its handshake is cut off"),
    }
}

/// What the handshake has shown.
#[derive(Clone, Copy, Default)]
struct Spoken {
    is_http2: bool,
    /// One that was verified.
    has_certificate: bool,
}

async fn http(stream: Box<dyn Io>, spoken: Spoken, exposition: Arc<Exposition>) {
    let Spoken { is_http2, has_certificate } = spoken;
    let (unsent, answers) = mpsc::channel(2);
    let answer = service_fn(move |request| {
        let (exposition, unsent) = (exposition.clone(), unsent.clone());
        async move { Ok::<_, Infallible>(exposition.answer(request, unsent, has_certificate).await) }
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::time::{Instant, sleep, timeout};

    use super::*;
    use crate::plan::{Overlay, Plan};
    use crate::scrape::Scraper;
    use crate::source::Paths;
    use crate::telemetry::Telemetry;

    /// How long the program holds a connection to a client that does this; its clock runs as fast as nobody has to wait.
    async fn held<F: Future<Output = ()> + Send + 'static>(
        client: impl FnOnce(DuplexStream) -> F,
    ) -> Duration {
        let telemetry = Arc::new(Telemetry::new().unwrap());
        let plan = Plan::waiting(&Overlay::default());
        let scraper = Scraper::new(Paths::default(), String::new(), 0, plan, telemetry.clone());
        let exposition = Exposition::new(Arc::new(Mutex::new(scraper)), telemetry, "/metrics".to_owned(), 4);
        // As little as a kernel may take from either side.
        let (ours, theirs) = duplex(256);
        let start = Instant::now();
        tokio::spawn(client(theirs));
        let served = connection(Box::new(ours), Arc::new(exposition));
        timeout(Duration::from_secs(3600), served).await.expect("it is held for an hour");
        start.elapsed()
    }

    async fn one_byte_a_second(mut stream: DuplexStream) {
        while stream.read_u8().await.is_ok() {
            sleep(Duration::from_secs(1)).await;
        }
    }

    const BOUND: Duration = Duration::from_secs(31);

    #[tokio::test(start_paused = true)]
    async fn who_sends_no_request_is_cut_off() {
        let silent = held(async |stream| {
            sleep(Duration::from_secs(3000)).await;
            drop(stream);
        });
        assert!(silent.await <= BOUND);
    }

    #[tokio::test(start_paused = true)]
    async fn who_sends_a_byte_a_second_is_cut_off() {
        let slow = held(async |mut stream: DuplexStream| {
            for byte in b"GET / HTTP/1.1\r\nhost: ".iter().chain(std::iter::repeat_n(&b'a', 3000)) {
                if stream.write_u8(*byte).await.is_err() {
                    return;
                }
                sleep(Duration::from_secs(1)).await;
            }
        });
        assert!(slow.await <= BOUND);
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_a_byte_a_second_of_an_answer_is_cut_off() {
        let slow = held(async |mut stream: DuplexStream| {
            stream.write_all(b"GET /metrics/agent HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
            one_byte_a_second(stream).await;
        });
        assert!(slow.await <= BOUND);
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_again_and_again_and_reads_a_byte_a_second_is_cut_off() {
        let slow = held(async |stream: DuplexStream| {
            let (mut read, mut write) = tokio::io::split(stream);
            tokio::spawn(async move {
                while write.write_all(b"GET /-/ready HTTP/1.1\r\nhost: a\r\n\r\n").await.is_ok() {}
            });
            while read.read_u8().await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
        });
        assert!(slow.await <= BOUND * 3);
    }

    #[tokio::test(start_paused = true)]
    async fn headers_longer_than_any_that_is_meant_are_refused() {
        let (say, said) = tokio::sync::oneshot::channel();
        let long = held(async |stream: DuplexStream| {
            let (mut read, mut write) = tokio::io::split(stream);
            tokio::spawn(async move {
                let _ = write.write_all(b"GET / HTTP/1.1\r\na: ").await;
                while write.write_all(&[b'a'; 1024]).await.is_ok() {}
            });
            let mut answer = String::new();
            let _ = read.read_to_string(&mut answer).await;
            let _ = say.send(answer);
        });
        assert!(long.await <= BOUND);
        assert!(said.await.unwrap().starts_with("HTTP/1.1 431"));
    }
}
