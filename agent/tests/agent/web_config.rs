//! `--web.config.file` over real connections: who gets in, by which TLS, and what a change does.

use std::path::PathBuf;
use std::sync::Arc;

use agent::expose::WebConfig;
use agent::telemetry::Telemetry;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, version};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::http::{ask, serve_behind, serve_to_certificates};

/// A folder with a web configuration and a CA that signs what it names.
struct Folder {
    folder: PathBuf,
    ca: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, as PEM.
struct Pem {
    certificate: String,
    key: String,
}

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("web-config-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let this = Folder { folder, ca };
        this.write("ca.pem", &this.ca.pem());
        this.certify("server", vec![SanType::IpAddress([127, 0, 0, 1].into())]);
        this
    }

    /// Writes a file below a new name and then in its place, as those do who care.
    fn write(&self, name: &str, text: &str) {
        let new = self.folder.join("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.folder.join(name)).unwrap();
    }

    /// A certificate with these names, in NAME.pem and NAME.key.
    fn certify(&self, name: &str, sans: Vec<SanType>) -> Pem {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = sans;
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.ca).unwrap().pem();
        let pem = Pem { certificate, key: key.serialize_pem() };
        self.write(&format!("{name}.pem"), &pem.certificate);
        self.write(&format!("{name}.key"), &pem.key);
        pem
    }

    fn configure(&self, text: &str) {
        self.write("web.yml", text);
    }

    fn open(&self, telemetry: &Arc<Telemetry>) -> Result<Arc<WebConfig>, String> {
        WebConfig::open(self.folder.join("web.yml"), telemetry.clone())
            .map(Arc::new)
            .map_err(|e| e.to_string())
    }

    /// Connects by TLS, with this certificate if there is one; a client that is turned away learns it when it reads.
    async fn connect(
        &self,
        agent: std::net::SocketAddr,
        client: Client<'_>,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(client.versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match client.certificate {
            None => builder.with_no_client_auth(),
            Some(pem) => {
                let chain = vec![CertificateDer::from_pem_slice(pem.certificate.as_bytes()).unwrap()];
                let key = PrivateKeyDer::from_pem_slice(pem.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        config.alpn_protocols = client.protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
        let stream = TcpStream::connect(agent).await?;
        let name = ServerName::try_from(agent.ip().to_string()).unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    /// Asks for the readiness by TLS; nothing where the client is turned away.
    async fn get(&self, agent: std::net::SocketAddr, client: Client<'_>) -> Option<String> {
        self.get_path(agent, client, "/-/ready").await
    }

    async fn get_path(&self, agent: std::net::SocketAddr, client: Client<'_>, path: &str) -> Option<String> {
        let mut stream = self.connect(agent, client).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: agent\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok()?;
        Some(String::from_utf8_lossy(&answer).into_owned())
    }

    async fn is_let_in(&self, agent: std::net::SocketAddr, client: Client<'_>) -> bool {
        self.get(agent, client).await.is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[derive(Clone, Copy)]
struct Client<'a> {
    certificate: Option<&'a Pem>,
    versions: &'static [&'static SupportedProtocolVersion],
    protocols: &'static [&'static str],
}

static OLD: [&SupportedProtocolVersion; 1] = [&version::TLS12];
static NEW: [&SupportedProtocolVersion; 1] = [&version::TLS13];
static BOTH: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];

const ANY: Client<'_> = Client { certificate: None, versions: &BOTH, protocols: &[] };

fn with(certificate: &Pem) -> Client<'_> {
    Client { certificate: Some(certificate), ..ANY }
}

const TLS: &str = "tls_server_config: {cert_file: server.pem, key_file: server.key}\n";

fn changes(telemetry: &Telemetry) -> [f64; 2] {
    let families = telemetry.gather();
    let family = families.iter().find(|f| f.name() == "exporter_agent_web_config_changes_total").unwrap();
    let of = |result: &str| {
        let metric = family.get_metric().iter().find(|m| m.get_label()[0].value() == result).unwrap();
        metric.get_counter().get_value()
    };
    [of("applied"), of("refused")]
}

fn basic(path: &str, pair: &str) -> String {
    use base64::Engine as _;
    let pair = base64::prelude::BASE64_STANDARD.encode(pair);
    format!("GET {path} HTTP/1.1\r\nauthorization: Basic {pair}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_served_by_tls_is_not_served_without() {
    let folder = Folder::new("tls");
    folder.configure(TLS);
    let telemetry = Arc::new(Telemetry::new().unwrap());
    let agent = serve_behind(folder.open(&telemetry).unwrap(), telemetry).await;
    assert!(folder.is_let_in(agent, ANY).await);
    assert!(!ask(agent, "GET /-/ready HTTP/1.1").await.contains("200 OK"));
    // HTTP/2 to those who offer it.
    let offered = Client { protocols: &["h2", "http/1.1"], ..ANY };
    let stream = folder.connect(agent, offered).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    folder.configure(&format!("{TLS}http_server_config: {{http2: false}}\n"));
    let stream = folder.connect(agent, offered).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_comes_by_http_2_as_well() {
    let folder = Folder::new("http2");
    folder.configure(TLS);
    let telemetry = Arc::new(Telemetry::new().unwrap());
    let agent = serve_behind(folder.open(&telemetry).unwrap(), telemetry).await;
    let stream = folder.connect(agent, Client { protocols: &["h2"], ..ANY }).await.unwrap();
    let executor = hyper_util::rt::TokioExecutor::new();
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    tokio::spawn(connection);
    for path in ["/-/ready", "/metrics/agent", "/metrics/node"] {
        let uri = format!("https://{agent}{path}");
        let request =
            hyper::Request::get(uri).body(http_body_util::Empty::<hyper::body::Bytes>::new()).unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        let body = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
        assert!(body.ends_with(b"\n"), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_are_those_that_are_said() {
    let folder = Folder::new("versions");
    let telemetry = Arc::new(Telemetry::new().unwrap());
    let line =
        |text: &str| format!("tls_server_config: {{cert_file: server.pem, key_file: server.key, {text}}}");
    folder.configure(&line("min_version: TLS13"));
    let agent = serve_behind(folder.open(&telemetry).unwrap(), telemetry).await;
    let lets_in = async |versions: &'static [&'static SupportedProtocolVersion]| {
        folder.is_let_in(agent, Client { versions, ..ANY }).await
    };
    assert_eq!([lets_in(&OLD).await, lets_in(&NEW).await], [false, true]);
    folder.configure(&line("max_version: TLS12, cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]"));
    assert_eq!([lets_in(&OLD).await, lets_in(&NEW).await], [true, false]);
    // The server's key is no RSA key, so that nothing is left to agree on.
    folder.configure(&line("max_version: TLS12, cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]"));
    assert_eq!([lets_in(&OLD).await, lets_in(&NEW).await], [false, false]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_are_asked_for_what_client_auth_type_says() {
    let folder = Folder::new("clients");
    let telemetry = Arc::new(Telemetry::new().unwrap());
    let dns = |name: &str| SanType::DnsName(name.try_into().unwrap());
    let known = folder.certify("known", vec![dns("prometheus.example")]);
    let stranger = Folder::new("stranger").certify("stranger", vec![dns("prometheus.example")]);
    let line = |auth: &str, rest: &str| {
        format!(
            "tls_server_config: {{cert_file: server.pem, key_file: server.key, client_auth_type: {auth}{rest}}}"
        )
    };
    let ca = ", client_ca_file: ca.pem";
    folder.configure(&line("NoClientCert", ""));
    let agent = serve_behind(folder.open(&telemetry).unwrap(), telemetry).await;
    // In the order in which they ask for more, for nothing may be taken away while the program runs.
    for (auth, rest, expected) in [
        ("NoClientCert", "", [true, true, true]),
        ("RequestClientCert", "", [true, true, true]),
        ("VerifyClientCertIfGiven", ca, [true, true, false]),
        ("RequireAnyClientCert", "", [false, true, true]),
        ("RequireAndVerifyClientCert", ca, [false, true, false]),
    ] {
        folder.configure(&line(auth, rest));
        let none = folder.is_let_in(agent, ANY).await;
        let seen = [
            none,
            folder.is_let_in(agent, with(&known)).await,
            folder.is_let_in(agent, with(&stranger)).await,
        ];
        assert_eq!(seen, expected, "{auth}");
    }
    let inline = folder.ca.pem().replace('\n', "\n    ");
    folder.configure(&format!(
        "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n  \
         client_auth_type: RequireAndVerifyClientCert\n  client_ca: |\n    {inline}\n"
    ));
    assert!(folder.is_let_in(agent, with(&known)).await && !folder.is_let_in(agent, with(&stranger)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_are_for_a_verified_certificate_where_that_is_asked_for_and_health_is_for_all() {
    let folder = Folder::new("certificate");
    let telemetry = Arc::new(Telemetry::new().unwrap());
    let known = folder.certify("known", vec![SanType::DnsName("prometheus.example".try_into().unwrap())]);
    let with_ca = "client_auth_type: VerifyClientCertIfGiven, client_ca_file: ca.pem";
    let line =
        |auth: &str| format!("tls_server_config: {{cert_file: server.pem, key_file: server.key, {auth}}}");
    folder.configure(&line(with_ca));
    let agent = serve_to_certificates(folder.open(&telemetry).unwrap(), telemetry).await;
    let status = async |client: Client<'_>, path: &str| {
        let answer = folder.get_path(agent, client, path).await.unwrap_or_default();
        answer.split(' ').nth(1).unwrap_or_default().to_owned()
    };
    assert_eq!(status(ANY, "/-/ready").await, "200");
    for path in ["/metrics", "/metrics/agent", "/", "/none"] {
        assert_eq!(status(ANY, path).await, "401", "{path}");
    }
    assert_eq!(status(with(&known), "/metrics/agent").await, "200");
    // A certificate that nobody verifies shows nothing, whatever the file has come to say.
    folder.configure(&line("client_auth_type: RequireAnyClientCert"));
    assert_eq!(status(with(&known), "/metrics/agent").await, "401");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clients_certificate_has_one_of_the_names_that_are_listed() {
    let folder = Folder::new("names");
    let telemetry = Arc::new(Telemetry::new().unwrap());
    let auth = |auth: &str| {
        folder.configure(&format!(
            "tls_server_config: {{cert_file: server.pem, key_file: server.key, client_ca_file: ca.pem, \
             client_auth_type: {auth}, \
             client_allowed_sans: [prometheus.example, 10.1.2.3, 'spiffe://here/prometheus']}}"
        ));
    };
    auth("VerifyClientCertIfGiven");
    let agent = serve_behind(folder.open(&telemetry).unwrap(), telemetry).await;
    let dns = |name: &str| SanType::DnsName(name.try_into().unwrap());
    // Where names are listed, to give no certificate is no way around them.
    assert!(!folder.is_let_in(agent, ANY).await);
    auth("RequireAndVerifyClientCert");
    let uri = |name: &str| SanType::URI(name.try_into().unwrap());
    for (sans, expected) in [
        (vec![dns("other.example"), dns("prometheus.example")], true),
        (vec![SanType::IpAddress([10, 1, 2, 3].into())], true),
        (vec![uri("spiffe://here/prometheus")], true),
        (vec![dns("*.example")], false),
        (vec![dns("prometheus.example.org")], false),
        (vec![uri("spiffe://there/prometheus")], false),
        (vec![SanType::IpAddress([10, 1, 2, 4].into())], false),
        (vec![], false),
    ] {
        let said = format!("{sans:?}");
        let pem = folder.certify("client", sans);
        assert_eq!(folder.is_let_in(agent, with(&pem)).await, expected, "{said}");
    }
    assert!(!folder.is_let_in(agent, ANY).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_headers_and_the_rate_hold_for_what_is_measured() {
    let folder = Folder::new("users");
    let telemetry = Arc::new(Telemetry::new().unwrap());
    let hash = bcrypt::hash("wonder:land", 4).unwrap();
    let users = format!("basic_auth_users: {{alice: '{hash}'}}\n");
    let headers = "http_server_config: {headers: {X-Frame-Options: deny}}\n";
    folder.configure(&format!("{users}{headers}"));
    let agent = serve_behind(folder.open(&telemetry).unwrap(), telemetry).await;
    let status = async |request: &str| ask(agent, request).await[9..12].to_owned();
    assert_eq!(status(&basic("/metrics/agent", "alice:wonder:land")).await, "200");
    assert_eq!(status(&basic("/metrics/agent", "alice:wonderland")).await, "401");
    assert_eq!(status(&basic("/", "bob:wonder:land")).await, "401");
    assert_eq!(status("GET /nothing HTTP/1.1").await, "401");
    // A kubelet that asks whether the agent is well has no password.
    assert_eq!(status("GET /-/healthy HTTP/1.1").await, "200");
    let refused = ask(agent, "GET /metrics HTTP/1.1").await;
    assert!(
        refused.contains("www-authenticate: Basic") && refused.contains("x-frame-options: deny"),
        "{refused}"
    );
    folder.configure(&format!("{users}rate_limit: {{interval: 1h, burst: 2}}\n"));
    let good = basic("/metrics/agent", "alice:wonder:land");
    assert_eq!([status(&good).await, status(&good).await, status(&good).await], ["200", "200", "429"]);
    assert_eq!(status("GET /-/ready HTTP/1.1").await, "200");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_holds_from_the_next_connection_on_and_a_bad_one_changes_nothing() {
    let folder = Folder::new("change");
    let telemetry = Arc::new(Telemetry::new().unwrap());
    let hash = bcrypt::hash("one", 4).unwrap();
    let good = format!("{TLS}basic_auth_users: {{alice: '{hash}'}}\n");
    folder.configure(&good);
    let agent = serve_behind(folder.open(&telemetry).unwrap(), telemetry.clone()).await;
    let served = async || {
        let stream = folder.connect(agent, ANY).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    };
    let first = served().await;
    folder.certify("server", vec![SanType::IpAddress([127, 0, 0, 1].into())]);
    // Its key is another by now, so that this is the change as a whole.
    let second = served().await;
    assert_ne!(first, second);
    assert_eq!(changes(&telemetry), [1.0, 0.0]);
    // Each is refused once, however many requests see it.
    for (n, (bad, _)) in [
        ("tls_server_config: [", "line"),
        ("tls_server_config: {cert_file: server.pem, key_file: ca.pem}", "key_file"),
        ("tls_server_config: {cert_file: nosuch.pem, key_file: server.key}", "nosuch.pem"),
        // What may be half a file.
        ("", "tls_server_config"),
        (TLS, "basic_auth_users"),
    ]
    .into_iter()
    .enumerate()
    {
        folder.configure(bad);
        assert_eq!([served().await, served().await], [second.clone(), second.clone()], "{bad}");
        assert_eq!(changes(&telemetry), [1.0, n as f64 + 1.0], "{bad}");
    }
    folder.configure(&good);
    assert_eq!(served().await, second);
    std::fs::remove_file(folder.folder.join("web.yml")).unwrap();
    assert_eq!(served().await, second);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_does_not_answer_keeps_nobody_waiting_for_long() {
    let folder = Folder::new("stuck");
    folder.configure(TLS);
    let telemetry = Arc::new(Telemetry::new().unwrap());
    let agent = serve_behind(folder.open(&telemetry).unwrap(), telemetry.clone()).await;
    // To read a pipe that nobody writes to takes for ever.
    let key = folder.folder.join("server.key");
    let text = std::fs::read(&key).unwrap();
    std::fs::remove_file(&key).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&key).status().unwrap().success());
    let meanwhile = [folder.is_let_in(agent, ANY).await, folder.is_let_in(agent, ANY).await];
    // The read ends when somebody writes; what it finds is what was there before, and so no change.
    let pipe = folder.folder.join("pipe");
    std::fs::rename(&key, &pipe).unwrap();
    std::fs::write(&key, &text).unwrap();
    std::fs::write(&pipe, &text).unwrap();
    assert_eq!(meanwhile, [true, true]);
    assert!(folder.is_let_in(agent, ANY).await);
    assert_eq!(changes(&telemetry)[0], 0.0);
}

#[tokio::test]
async fn a_file_that_cannot_be_used_at_the_start_is_an_error_that_names_the_field() {
    let folder = Folder::new("bad");
    let telemetry = Arc::new(Telemetry::new().unwrap());
    assert!(folder.open(&telemetry).map(|_| ()).unwrap_err().contains("web.yml"));
    let other = Folder::new("other");
    std::fs::copy(other.folder.join("server.key"), folder.folder.join("other.key")).unwrap();
    folder.write("garbage.pem", "garbage");
    for (text, said) in [
        ("tls_server_config: {cert_file: nosuch.pem, key_file: server.key}", "tls_server_config.cert_file"),
        ("tls_server_config: {cert_file: garbage.pem, key_file: server.key}", "tls_server_config.cert_file"),
        ("tls_server_config: {cert_file: server.pem, key_file: server.pem}", "tls_server_config.key_file"),
        ("tls_server_config: {cert_file: server.pem, key_file: other.key}", "tls_server_config.key_file"),
        (
            "tls_server_config: {cert_file: server.pem, key_file: server.key, client_ca_file: garbage.pem, \
             client_auth_type: RequireAndVerifyClientCert}",
            "tls_server_config.client_ca_file",
        ),
        ("basic_auth_users: {alice: secret}", "basic_auth_users.alice"),
    ] {
        folder.configure(text);
        let error = folder.open(&telemetry).map(|_| ()).unwrap_err();
        assert!(error.contains(said) && error.contains("web.yml"), "{text}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compare_asks_endpoints_that_want_tls_and_a_password() {
    let (folder, telemetry) = (Folder::new("compare"), Arc::new(Telemetry::new().unwrap()));
    let hash = bcrypt::hash("secret", 4).unwrap();
    folder.configure(&format!(
        "tls_server_config: {{cert_file: server.pem, key_file: server.key}}\nbasic_auth_users: {{alice: {hash}}}\n"
    ));
    let agent = serve_behind(folder.open(&telemetry).unwrap(), telemetry).await;
    folder.write("password", "secret\n");
    folder.write("old", "none 1\n");
    let path = |name: &str| folder.folder.join(name).to_str().unwrap().to_owned();
    let compared = async |flags: &[&str]| {
        let arguments =
            ["compare", &path("old"), &format!("https://{agent}/metrics/agent")].map(str::to_owned);
        let all = arguments.into_iter().chain(flags.iter().map(|flag| (*flag).to_owned()));
        let matches = agent::compare::command::command().try_get_matches_from(all).unwrap();
        let result = agent::compare::command::Comparison::from_matches(&matches).run().await;
        result.map_err(|error| format!("{error:#}"))
    };
    let (ca, password) =
        (format!("--ca-file={}", path("ca.pem")), format!("--password-file={}", path("password")));
    // What was in the file is not in the answer.
    assert_eq!(compared(&[&ca, "--user=alice", &password]).await, Ok(false));
    assert_eq!(compared(&["--insecure-skip-verify", "--user=alice", &password]).await, Ok(false));
    for (flags, said) in [
        (&[&ca][..], "status 401"),
        (&[&ca, &format!("--token-file={}", path("password"))], "status 401"),
        (&[], "--insecure-skip-verify"),
        (&[&format!("--ca-file={}", path("password"))], "no certificate in it"),
        (&[&ca, &"--user=alice".to_owned(), &format!("--password-file={}", path("none"))], "none"),
    ] {
        let flags: Vec<&str> = flags.iter().map(|flag| flag.as_str()).collect();
        let error = compared(&flags).await.unwrap_err();
        assert!(error.contains(said), "{flags:?}: {error}");
    }
}
