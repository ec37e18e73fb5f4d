//! A stand-in for the API server: a function that answers requests, and a record of what was asked.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame};
use hyper::{Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnboundedReceiverStream;

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) content_type: String,
    pub(crate) body: Value,
}

/// One answer.
pub(crate) enum Answer {
    /// A status and an object.
    Object(u16, Value),
    /// The events of a watch, as they come; the watch does not end.
    Watch(mpsc::UnboundedReceiver<Value>),
}

impl From<(u16, Value)> for Answer {
    fn from((status, body): (u16, Value)) -> Self {
        Answer::Object(status, body)
    }
}

/// What was asked so far.
#[derive(Clone)]
pub(crate) struct Record(watch::Sender<Vec<Asked>>);

impl Record {
    /// Waits until so many requests were made, and gives them.
    pub(crate) async fn wait_for(&self, count: usize) -> Vec<Asked> {
        self.0.subscribe().wait_for(|asked| asked.len() >= count).await.unwrap().clone()
    }

    /// Waits until such a request was made, and gives the first.
    pub(crate) async fn wait_for_one(&self, such: impl Fn(&Asked) -> bool) -> Asked {
        let mut record = self.0.subscribe();
        let asked = record.wait_for(|asked| asked.iter().any(&such)).await.unwrap();
        asked.iter().find(|a| such(a)).unwrap().clone()
    }

    /// Waits until the last status that was written is such.
    pub(crate) async fn wait_for_last_status(&self, such: impl Fn(&Asked) -> bool) {
        let last =
            |asked: &Vec<Asked>| asked.iter().rfind(|a| a.path.ends_with("/status")).is_some_and(&such);
        self.0.subscribe().wait_for(last).await.unwrap();
    }
}

/// A client of an API server that answers in this way.
pub(crate) fn client<A: Into<Answer>>(answer: impl FnMut(&Asked) -> A + Send + 'static) -> (Client, Record) {
    let record = Record(watch::Sender::new(Vec::new()));
    let (answer, kept) = (Arc::new(Mutex::new(answer)), record.clone());
    let service = tower::service_fn(move |request: Request<Body>| {
        let (answer, record) = (answer.clone(), kept.clone());
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let content_type = parts.headers.get("content-type").map_or("", |v| v.to_str().unwrap());
            let asked = Asked {
                method: parts.method.to_string(),
                path: parts.uri.path().to_owned(),
                query: parts.uri.query().unwrap_or_default().to_owned(),
                content_type: content_type.to_owned(),
                body: serde_json::from_slice(&body).unwrap_or_default(),
            };
            let answer = (answer.lock().unwrap())(&asked).into();
            record.0.send_modify(|all| all.push(asked));
            let (status, body) = match answer {
                Answer::Object(status, body) => (status, Full::from(body.to_string()).boxed_unsync()),
                Answer::Watch(events) => {
                    let frame = |event| Ok::<_, Infallible>(Frame::data(Bytes::from(format!("{event}\n"))));
                    let lines = UnboundedReceiverStream::new(events).map(frame);
                    (200, StreamBody::new(lines).boxed_unsync())
                }
            };
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
