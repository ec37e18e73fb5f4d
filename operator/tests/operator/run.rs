//! What the operator refuses to start with.

use operator::run::{Options, run};
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn agents_from_elsewhere_are_let_in_without_tls_only_where_somebody_says_so() {
    let options = Options {
        listen: "0.0.0.0:0".parse().unwrap(),
        insecure: false,
        web: "127.0.0.1:0".parse().unwrap(),
        namespace: None,
        identity: "me".into(),
        emergency: false,
        revision: "unknown",
    };
    let error = run(options, CancellationToken::new()).await.unwrap_err().to_string();
    assert!(error.starts_with("--listen=0.0.0.0:0 is not a loopback address"), "{error}");
    assert!(error.contains("--insecure"), "{error}");
}
