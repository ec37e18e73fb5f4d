//! A stand-in for the API server: a function that answers requests, and a record of what was asked.

use std::collections::BTreeMap;
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

/// The objects that the API server has, and who watches them.
#[derive(Clone, Default)]
pub(crate) struct Cluster(Arc<Mutex<Objects>>);

#[derive(Default)]
struct Objects {
    lists: BTreeMap<&'static str, Vec<Value>>,
    watches: BTreeMap<String, mpsc::UnboundedSender<Value>>,
}

impl Cluster {
    pub(crate) fn with(nodes: &[&str], policies: &[Value]) -> Self {
        let cluster = Cluster::default();
        let nodes = nodes.iter().map(|n| {
            json!({"metadata": {
                "name": n, "uid": format!("uid-of-{n}"), "resourceVersion": "1", "labels": {"node": n},
            }})
        });
        let namespace =
            json!({"metadata": {"name": "kube-system", "uid": "cluster", "resourceVersion": "1"}});
        cluster.0.lock().unwrap().lists = BTreeMap::from([
            ("nodes", nodes.collect()),
            ("namespaces", vec![namespace]),
            ("exporterpolicies", policies.to_vec()),
        ]);
        cluster
    }

    /// As it is with these objects of another kind too.
    pub(crate) fn and(self, kind: &'static str, list: &[Value]) -> Self {
        self.0.lock().unwrap().lists.insert(kind, list.to_vec());
        self
    }

    pub(crate) fn answer(&self, asked: &Asked) -> Answer {
        if asked.method != "GET" {
            let mut object = asked.body.clone();
            object["metadata"]["resourceVersion"] = json!("100");
            return (200, object).into();
        }
        let kind = asked.path.rsplit('/').next().unwrap().to_owned();
        let mut objects = self.0.lock().unwrap();
        if asked.query.contains("watch=true") {
            let (sender, events) = mpsc::unbounded_channel();
            objects.watches.insert(kind, sender);
            return Answer::Watch(events);
        }
        let list = json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": "9"},
            "items": objects.lists[kind.as_str()]});
        (200, list).into()
    }

    /// Tells the watch of policies of a change.
    pub(crate) fn change(&self, event: &str, policy: &Value) {
        self.change_of("exporterpolicies", event, policy);
    }

    pub(crate) fn change_of(&self, kind: &str, event: &str, object: &Value) {
        let event = json!({"type": event, "object": object});
        self.0.lock().unwrap().watches[kind].send(event).unwrap();
    }
}

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

    /// Waits until what was asked is such, and gives it.
    pub(crate) async fn wait_for_all(&self, such: impl Fn(&Vec<Asked>) -> bool) -> Vec<Asked> {
        self.0.subscribe().wait_for(such).await.unwrap().clone()
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
