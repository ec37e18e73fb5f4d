//! What is taken of a web configuration, and what is refused by its name.

use super::*;

fn parsed(text: &str) -> Result<Settings, Fault> {
    parse(text, Path::new("/etc/web"))
}

#[track_caller]
fn refused(text: &str, field: &str, said: &str) {
    let fault = parsed(text).unwrap_err();
    assert_eq!(fault.field, field, "{text}: {}", fault.message);
    assert!(fault.message.contains(said), "{text}: {}", fault.message);
}

fn tls_with(line: &str) -> String {
    format!("tls_server_config:\n  cert_file: a.pem\n  key_file: /b.pem\n  {line}\n")
}

#[test]
fn every_field_of_the_toolkit_is_taken() {
    let hash = bcrypt::hash("secret", 4).unwrap();
    let text = format!(
        "
tls_server_config:
  cert_file: web.pem
  key: inline
  client_ca_file: /ca.pem
  client_auth_type: RequireAndVerifyClientCert
  client_allowed_sans: [prometheus.example, 10.0.0.1, 'spiffe://a/b@c']
  min_version: TLS12
  max_version: TLS12
  cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_AES_128_GCM_SHA256]
  prefer_server_cipher_suites: false
  curve_preferences: [CurveP256, X25519]
http_server_config:
  http2: false
  headers:
    X-Frame-Options: deny
    Content-Security-Policy: ''
basic_auth_users:
  alice: {hash}
rate_limit:
  interval: 1s
  burst: 3
"
    );
    let settings = parsed(&text).unwrap();
    let tls = settings.tls.unwrap();
    assert_eq!(tls.certificate.place, Place::File("/etc/web/web.pem".into()));
    assert_eq!(tls.key.place, Place::Inline("inline".into()));
    assert_eq!(tls.client_ca.unwrap().place, Place::File("/ca.pem".into()));
    assert_eq!(tls.client_auth, ClientAuth::RequireAndVerify);
    assert_eq!(tls.client_sans.unwrap().len(), 3);
    assert_eq!(tls.versions, [&version::TLS12]);
    let suites: Vec<_> = tls.suites.into_iter().map(suite_name).collect();
    assert_eq!(suites.len(), 4, "{suites:?}");
    assert_eq!(suites[3], "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256");
    assert_eq!(tls.groups.len(), 2);
    assert!(!tls.prefers_own_suites && !settings.http2 && settings.warnings.is_empty());
    assert_eq!(settings.headers.len(), 1);
    assert_eq!(settings.users["alice"], hash);
    assert_eq!(settings.rate, Some(Rate { interval: Duration::from_secs(1), burst: 3 }));
}

#[test]
fn what_is_not_said_has_the_toolkits_defaults() {
    for text in ["", "# nothing\n", "tls_server_config:\nbasic_auth_users:\n", "tls_server_config: {}"] {
        let settings = parsed(text).unwrap();
        assert!(settings.tls.is_none() && settings.users.is_empty() && settings.rate.is_none(), "{text}");
        assert!(settings.http2);
    }
    let tls = parsed(&tls_with("")).unwrap().tls.unwrap();
    assert_eq!((tls.client_auth, tls.versions.len(), tls.prefers_own_suites), (ClientAuth::None, 2, true));
    assert_eq!((tls.suites.len(), tls.groups.len()), (9, 3));
    assert_eq!(parsed("rate_limit: {interval: 0}").unwrap().rate, None);
}

#[test]
fn what_cannot_be_done_is_refused_by_its_name() {
    for version in ["TLS10", "TLS11"] {
        refused(&tls_with(&format!("min_version: {version}")), "tls_server_config.min_version", version);
        refused(&tls_with(&format!("max_version: {version}")), "tls_server_config.max_version", version);
    }
    refused(&tls_with("min_version: SSL30"), "tls_server_config.min_version", "SSL30");
    refused(
        &tls_with("min_version: TLS13\n  max_version: TLS12"),
        "tls_server_config.max_version",
        "min_version",
    );
    let cbc = "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA";
    refused(&tls_with(&format!("cipher_suites: [{cbc}]")), "tls_server_config.cipher_suites", cbc);
    refused(&tls_with("curve_preferences: [CurveP521]"), "tls_server_config.curve_preferences", "CurveP521");
    refused(
        &tls_with("client_auth_type: RequestClientCert\n  client_allowed_sans: [a@b.example]"),
        "tls_server_config.client_allowed_sans",
        "a@b.example",
    );
}

#[test]
fn what_makes_no_sense_is_refused_by_its_name() {
    refused("tls_server_config: {cert_file: a}", "tls_server_config.key_file", "missing");
    refused("tls_server_config: {key_file: a}", "tls_server_config.cert_file", "missing");
    refused("tls_server_config: {client_auth_type: NoClientCert}", "tls_server_config.cert_file", "missing");
    refused(&tls_with("client_auth_type: Maybe"), "tls_server_config.client_auth_type", "Maybe");
    refused(&tls_with("client_ca_file: c"), "tls_server_config.client_auth_type", "client CA");
    let verify = tls_with("client_auth_type: RequireAndVerifyClientCert");
    refused(&verify, "tls_server_config.client_ca_file", "needs a CA");
    let headers = "http_server_config.headers";
    refused("http_server_config: {headers: {Server: x}}", &format!("{headers}.Server"), "cannot be set");
    let frame = "http_server_config: {headers: {X-Frame-Options: never}}";
    refused(frame, &format!("{headers}.X-Frame-Options"), "sameorigin");
    let policy = "http_server_config: {headers: {Content-Security-Policy: \"a\\nb\"}}";
    refused(policy, &format!("{headers}.Content-Security-Policy"), "not a value");
    refused("basic_auth_users: {bob: secret}", "basic_auth_users.bob", "bcrypt");
    refused("rate_limit: {interval: often, burst: 1}", "rate_limit.interval", "often");
    refused("rate_limit: {interval: 1s}", "rate_limit.burst", "every request");
    for (text, said) in [
        ("tls_server_conf: {}", "tls_server_conf"),
        ("tls_server_config: {certfile: a}", "certfile"),
        ("basic_auth_users: [", "line"),
        ("rate_limit: {}\nrate_limit: {}", "rate_limit"),
    ] {
        refused(text, "the file", said);
    }
}

#[test]
fn names_that_nobody_is_asked_for_are_worth_a_warning() {
    let settings = parsed(&tls_with("client_allowed_sans: [a]")).unwrap();
    assert!(settings.warnings[0].contains("client_allowed_sans"), "{:?}", settings.warnings);
}

#[test]
fn what_is_wrong_is_said_without_the_secrets_beside_it() {
    for text in [
        "basic_auth_users:\n  bob: [hunter2]\n",
        "basic_auth_users:\n  bob: hunter2\n",
        "tls_server_config:\n  key: hunter2\n  no_such_key: 1\n",
        "tls_server_config:\n  key: |\n    hunter2\n  cert: [\n",
    ] {
        let fault = parsed(text).unwrap_err();
        assert!(!fault.message.contains("hunter2"), "{text}: {}", fault.message);
    }
}
