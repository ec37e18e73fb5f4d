//! A stand-in for the API server: a function that answers requests, and a record of what was asked.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http_body_util::BodyExt;
use hyper::{Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::watch;

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) content_type: String,
    pub(crate) body: Value,
}

/// What was asked so far.
#[derive(Clone)]
pub(crate) struct Record(watch::Sender<Vec<Asked>>);

impl Record {
    /// Waits until so many requests were made, and gives them.
    pub(crate) async fn wait_for(&self, count: usize) -> Vec<Asked> {
        self.0.subscribe().wait_for(|asked| asked.len() >= count).await.unwrap().clone()
    }
}

/// A client of an API server that answers in this way.
pub(crate) fn client(answer: impl FnMut(&Asked) -> (u16, Value) + Send + 'static) -> (Client, Record) {
    let record = Record(watch::Sender::new(Vec::new()));
    let (answer, kept) = (Arc::new(Mutex::new(answer)), record.clone());
    let service = tower::service_fn(move |request: Request<Body>| {
        let (answer, record) = (answer.clone(), kept.clone());
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let asked = Asked {
                method: parts.method.to_string(),
                path: parts.uri.path().to_owned(),
                query: parts.uri.query().unwrap_or_default().to_owned(),
                content_type: parts
                    .headers
                    .get("content-type")
                    .map_or_else(String::new, |v| v.to_str().unwrap().to_owned()),
                body: serde_json::from_slice(&body).unwrap_or_default(),
            };
            let (status, body) = (answer.lock().unwrap())(&asked);
            record.0.send_modify(|all| all.push(asked));
            let body = Body::from(serde_json::to_vec(&body).unwrap());
            Ok::<_, Infallible>(Response::builder().status(status).body(body).unwrap())
        }
    });
    (Client::new(service, "default"), record)
}

/// The answer to what is not possible.
pub(crate) fn failure(code: u16, reason: &str) -> (u16, Value) {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": reason,
    });
    (code, status)
}
