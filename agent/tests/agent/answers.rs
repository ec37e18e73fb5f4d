//! What a kubelet may answer, and that each answer which is of no use is named for what it is.

use std::time::Duration;

use agent::source::kubelet::{Kubelet, KubeletError, KubeletOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// Asks a kubelet on loopback that answers each request with these bytes, or not at all.
async fn ask(answer: Option<&'static [u8]>) -> Result<usize, KubeletError> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 1024];
        let _ = stream.read(&mut request).await;
        match answer {
            Some(answer) => stream.write_all(answer).await.unwrap(),
            None => std::future::pending().await,
        }
    });
    let deadline = Duration::from_millis(if answer.is_some() { 60_000 } else { 50 });
    let options =
        KubeletOptions { url, token_file: None, ca_file: None, insecure_skip_verify: false, deadline };
    let pods = Kubelet::new(options).unwrap().pods().await;
    server.abort();
    pods.map(|pods| pods.len())
}

async fn check(answer: Option<&'static [u8]>, reason: &str, said: &str) {
    let error = ask(answer).await.unwrap_err();
    assert_eq!(error.reason(), reason, "{error}");
    assert!(error.to_string().contains(said), "`{said}` is not in: {error}");
}

#[tokio::test]
async fn a_kubelet_that_is_no_help_is_named_for_what_it_does() {
    check(Some(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n"), "unauthorized", "audience").await;
    let forbidden = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 7\r\n\r\nno verb";
    check(Some(forbidden), "forbidden", "grant `get` on `nodes/pods`: no verb").await;
    check(Some(b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n"), "status", "500").await;
    let garbage = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>";
    check(Some(garbage), "garbage", "not what the kubelet should answer").await;
    check(
        Some(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{\"items\":"),
        "unreachable",
        "http://127.0.0.1",
    )
    .await;
    check(Some(b"\x00\x01"), "unreachable", "http://127.0.0.1").await;
    check(None, "slow", "no answer within 0.05 s").await;
}

#[tokio::test]
async fn a_kubelet_that_answers_is_understood() {
    let answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n\
        {\"items\":[{\"metadata\":{\"name\":\"a\",\"namespace\":\"b\",\"uid\":\"c\"},\"spec\":{}}]}";
    assert_eq!(ask(Some(answer)).await.unwrap(), 1);
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named() {
    let options = |token: Option<&str>, ca: Option<&str>| KubeletOptions {
        url: "https://127.0.0.1:1".to_owned(),
        token_file: token.map(Into::into),
        ca_file: ca.map(Into::into),
        insecure_skip_verify: false,
        deadline: Kubelet::DEADLINE,
    };
    let error = Kubelet::new(options(None, Some("/no/such/ca"))).unwrap_err();
    assert!(error.to_string().contains("CA file /no/such/ca"), "{error}");
    let error = Kubelet::new(options(None, None)).unwrap_err();
    assert!(error.to_string().contains("--kubelet.ca-file"), "{error}");
    let plain = |token| KubeletOptions { url: "http://127.0.0.1:1".to_owned(), ..options(token, None) };
    let error = Kubelet::new(plain(Some("/no/such/token"))).unwrap().pods().await.unwrap_err();
    assert_eq!(error.reason(), "token");
    assert!(error.to_string().contains("/no/such/token"), "{error}");
    let error = Kubelet::new(plain(None)).unwrap().pods().await.unwrap_err();
    assert_eq!(error.reason(), "unreachable", "{error}");
}
