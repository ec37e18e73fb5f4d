//! The operator's authority before a stand-in for the API server: made once, renewed with overlap, and believed by whoever
//! reads the ConfigMap.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use kube::Client;
use operator::authority::{AgentsCertificate, Authority, Schedule, Serving, Source};
use operator::telemetry::Telemetry;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use crate::api_server::{Answer, Asked, Record, client, failure};

const NAME: &str = "exporter-operator.ns.svc";

/// Secrets and ConfigMaps, by path, and how often each was written.
#[derive(Clone, Default)]
struct Objects(Arc<Mutex<BTreeMap<String, Value>>>);

/// How the names of objects end that nobody may write.
const REFUSED: &str = "refused";

impl Objects {
    fn answer(&self, asked: &Asked) -> Answer {
        let mut objects = self.0.lock().unwrap();
        let is_refused = |name: &Value| name.as_str().is_some_and(|name| name.ends_with(REFUSED));
        if asked.method != "GET" && is_refused(&asked.body["metadata"]["name"]) {
            return failure(403, "Forbidden").into();
        }
        if asked.method == "POST" {
            let name = asked.body["metadata"]["name"].as_str().unwrap();
            let path = format!("{}/{name}", asked.path);
            if objects.contains_key(&path) {
                return failure(409, "AlreadyExists").into();
            }
            let mut object = asked.body.clone();
            object["metadata"]["resourceVersion"] = json!("1");
            objects.insert(path, object.clone());
            return (201, object).into();
        }
        let Some(there) = objects.get_mut(&asked.path) else { return failure(404, "NotFound").into() };
        if asked.method == "PUT" {
            let version = &there["metadata"]["resourceVersion"];
            if asked.body["metadata"]["resourceVersion"] != *version {
                return failure(409, "Conflict").into();
            }
            let next: u64 = version.as_str().unwrap().parse().unwrap();
            *there = asked.body.clone();
            there["metadata"]["resourceVersion"] = json!((next + 1).to_string());
        }
        (200, there.clone()).into()
    }

    fn client(&self) -> (Client, Record) {
        let answers = self.clone();
        client(move |asked| answers.answer(asked))
    }

    fn change(&self, kind: &str, change: impl Fn(&mut Value)) {
        let mut objects = self.0.lock().unwrap();
        change(objects.get_mut(&format!("/api/v1/namespaces/ns/{kind}/exporter-operator-ca")).unwrap());
    }

    fn bundle(&self) -> String {
        let objects = self.0.lock().unwrap();
        let found = &objects["/api/v1/namespaces/ns/configmaps/exporter-operator-ca"];
        found["data"]["ca.crt"].as_str().unwrap().to_owned()
    }

    fn secret(&self, key: &str) -> Option<String> {
        let objects = self.0.lock().unwrap();
        let text = objects["/api/v1/namespaces/ns/secrets/exporter-operator-ca"]["data"][key].as_str()?;
        Some(String::from_utf8(BASE64_STANDARD.decode(text).unwrap()).unwrap())
    }
}

fn start(client: &Client, overlap: Duration, telemetry: &Telemetry) -> Arc<Serving> {
    start_with(client, overlap, telemetry, "agents")
}

fn start_with(client: &Client, overlap: Duration, telemetry: &Telemetry, agents: &str) -> Arc<Serving> {
    let schedule = Schedule { lifetime: Duration::from_secs(90 * 24 * 3600), overlap };
    let names = vec![NAME.to_owned(), "10.96.0.7".to_owned()];
    let agents = Some(AgentsCertificate { secret: agents.into(), names: vec!["agents.ns.svc".to_owned()] });
    let source = Source::Own { secret: "exporter-operator-ca".into(), names, schedule, agents };
    let authority = Authority::new(client, "ns", source, "exporter-operator-ca", telemetry.clone());
    let serving = authority.serving();
    tokio::spawn(authority.run(CancellationToken::new()));
    serving
}

/// The certificate that is served with, if a client that believes the bundle takes it for this name.
async fn served(serving: &Arc<Serving>, bundle: &str, name: &'static str) -> Result<Vec<u8>, String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = serving.acceptor().unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        if let Ok(mut stream) = acceptor.accept(stream).await {
            let _ = stream.write_all(b"x").await;
        }
    });
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(address).await.unwrap();
    let stream =
        TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(name).unwrap(), stream).await;
    let mut stream = stream.map_err(|error| error.to_string())?;
    stream.read_u8().await.map_err(|error| error.to_string())?;
    Ok(stream.get_ref().1.peer_certificates().unwrap()[0].to_vec())
}

#[tokio::test]
async fn two_replicas_of_a_new_cluster_share_an_authority_that_the_config_map_names() {
    let objects = Objects::default();
    let (client, _) = objects.client();
    let telemetry = Telemetry::new().unwrap();
    let replicas = [(); 2].map(|()| start(&client, Duration::from_secs(3600), &telemetry));
    for serving in &replicas {
        serving.ready().await;
        for name in [NAME, "10.96.0.7"] {
            served(serving, &objects.bundle(), name).await.unwrap();
        }
        let error = served(serving, &objects.bundle(), "elsewhere.ns.svc").await.unwrap_err();
        assert!(error.contains("not valid for name"), "{error}");
    }
    let own = objects.secret("ca.crt").unwrap();
    assert_eq!(objects.bundle(), own);
    assert!(String::from_utf8(telemetry.text()).unwrap().contains("certificate=\"serving\""));
}

#[tokio::test(start_paused = true)]
async fn an_authority_that_somebody_asks_for_is_known_first_signs_then_and_the_old_bundle_goes_on_to_hold() {
    let objects = Objects::default();
    let (client, record) = objects.client();
    let serving = start(&client, Duration::ZERO, &Telemetry::new().unwrap());
    serving.ready().await;
    let (old_bundle, old_authority) = (objects.bundle(), objects.secret("ca.crt").unwrap());
    let old = served(&serving, &old_bundle, NAME).await.unwrap();
    objects.change("secrets", |secret| {
        secret["metadata"]["annotations"] = json!({"exporter-operator.dev/rotate": "now"});
    });
    let puts = |asked: &Vec<Asked>| asked.iter().filter(|a| a.method == "PUT").cloned().collect::<Vec<_>>();
    // The Secret with the next one, the Secret with its turn, the ConfigMap with both, and the agents' own.
    let written = puts(&record.wait_for_all(|asked| puts(asked).len() >= 4).await);
    let agents = written[3].body["data"]["ca.crt"].as_str().unwrap();
    assert_eq!(
        String::from_utf8(BASE64_STANDARD.decode(agents).unwrap()).unwrap(),
        objects.secret("ca.crt").unwrap()
    );
    assert!(written[0].body["data"]["next.crt"].is_string(), "it is announced before it signs");
    assert!(written[0].body["metadata"]["annotations"].get("exporter-operator.dev/rotate").is_none());
    assert_ne!(objects.secret("ca.crt").unwrap(), old_authority);
    assert!(objects.bundle().contains(&old_authority), "what the old one signed is in use");
    // The next look renews the certificate.
    tokio::time::sleep(Duration::from_secs(25)).await;
    let new = served(&serving, &objects.bundle(), NAME).await.unwrap();
    assert_ne!(new, old);
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_is_broken_is_counted_and_changes_nothing() {
    let objects = Objects::default();
    let (client, record) = objects.client();
    let telemetry = Telemetry::new().unwrap();
    let serving = start(&client, Duration::ZERO, &telemetry);
    serving.ready().await;
    let (bundle, writes) = (objects.bundle(), record.wait_for(0).await.len());
    objects.change("secrets", |secret| secret["data"]["ca.key"] = json!(BASE64_STANDARD.encode("no key")));
    record.wait_for(writes + 2).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    served(&serving, &bundle, NAME).await.unwrap();
    let text = String::from_utf8(telemetry.text()).unwrap();
    let failures = text.lines().find(|line| line.starts_with("exporter_operator_certificate_failures_total"));
    assert_ne!(failures, Some("exporter_operator_certificate_failures_total 0"));
}

#[tokio::test(start_paused = true)]
async fn a_secret_of_the_agents_that_cannot_be_written_keeps_nobody_from_the_operators_own_certificate() {
    let objects = Objects::default();
    let (client, _) = objects.client();
    let telemetry = Telemetry::new().unwrap();
    let serving = start_with(&client, Duration::ZERO, &telemetry, REFUSED);
    serving.ready().await;
    served(&serving, &objects.bundle(), NAME).await.unwrap();
    // It is a failure all the same.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let text = String::from_utf8(telemetry.text()).unwrap();
    assert!(text.contains("exporter_operator_certificate_failures_total 1\n"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_config_map_that_somebody_changed_is_mended_and_nothing_else_is_written() {
    let objects = Objects::default();
    let (client, record) = objects.client();
    let serving = start(&client, Duration::from_secs(3600), &Telemetry::new().unwrap());
    serving.ready().await;
    let bundle = objects.bundle();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let writes = |asked: &Vec<Asked>| asked.iter().filter(|a| a.method != "GET").count();
    assert_eq!(writes(&record.wait_for(1).await), 3, "each is made once");
    objects.change("configmaps", |it| it["data"]["ca.crt"] = json!("nobody"));
    record.wait_for_all(|asked| writes(asked) == 4).await;
    assert_eq!(objects.bundle(), bundle);
}
