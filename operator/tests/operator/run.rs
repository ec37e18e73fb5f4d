//! What the operator refuses to start with.

use operator::run::{Options, Trust, run};
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn an_operator_that_believes_everybody_listens_on_this_machine_only() {
    let options = Options {
        listen: "0.0.0.0:0".parse().unwrap(),
        trust: Trust::Nothing,
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
