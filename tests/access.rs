//! Who may use the program, and what they are given.

use std::io::Write as _;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustix::process::Signal;
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;

use crate::support;
use support::client::{Reply, Request};
use support::daemon::{Builder, Daemon};
use support::hub::{File, ScriptedHub};
use support::tls;
use support::tokens::Tokens;

const HF: &str = "huggingface.co";
const READER: &str = "hf_reader_canary_5d21";
const OWN: &str = "X-Hubcache-Token";

/// A hub with models of two organizations, and one that is gated.
fn hub() -> ScriptedHub {
    let hub = ScriptedHub::start();
    for id in ["acme/tiny", "other/tiny", "acme/guarded"] {
        hub.hf(id).commit([
            File::small("config.json", format!("{{\"of\": \"{id}\"}}")),
            File::lfs("model.safetensors", vec![7; 300_000]),
            File::lfs("pytorch_model.bin", vec![8; 200_000]),
        ]);
    }
    hub.hf("acme/guarded").gated(&[READER]);
    hub.moz("acme/tiny", "v1.0", "config.json", "mozilla");
    hub
}

struct Scene {
    hub: ScriptedHub,
    tokens: Tokens,
    daemon: Daemon,
}

impl Scene {
    fn start(tokens: Tokens, more: impl FnOnce(Builder) -> Builder) -> Self {
        let hub = hub();
        let builder = tokens.guard(Daemon::builder().hub(&hub).set("cache.ref_ttl", "1h"));
        let daemon = more(builder).start();
        Self { hub, tokens, daemon }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.daemon.url())
    }

    /// GET at this server itself, with a token of it.
    fn get(&self, path: &str, token: &str) -> Reply {
        Request::get(&self.url(path)).header(OWN, token).send()
    }

    /// How it stands with access, as `hubcache status` tells.
    fn status(&self) -> Value {
        let output = self.daemon.command(&["status", "--json"]);
        let status: Value = serde_json::from_slice(&output.stdout).unwrap();
        status["access"].clone()
    }
}

const CONFIG: &str = "/acme/tiny/resolve/main/config.json";
const OTHER: &str = "/other/tiny/resolve/main/config.json";

/// All of an answer but when it was made.
fn told(reply: &Reply) -> (u16, Vec<(String, String)>, String) {
    let fields = reply.headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("date")).cloned();
    (reply.status, fields.collect(), reply.text())
}

#[test]
fn an_unknown_client_is_told_the_same_whatever_it_asks_for() {
    let tokens = Tokens::new();
    let token = tokens.add("ci", &[]);
    let scene = Scene::start(tokens, |b| b);
    assert_eq!(scene.get(CONFIG, &token).status, 200, "held from now on");
    scene.hub.clear();
    let held = Request::get(&scene.url(CONFIG)).send();
    assert_eq!(
        (held.status, held.header("www-authenticate")),
        (401, Some("Hubcache-Token realm=\"hubcache\""))
    );
    assert_eq!(held.header("cache-status"), Some("hubcache; detail=unauthorized"));
    assert!(held.header("x-error-message").is_some_and(|text| text.contains("x-hubcache-token")));
    for path in [
        OTHER,
        "/acme/none/resolve/main/x",
        "/api/models/acme/tiny",
        "/api/whoami-v2",
        "/..",
        "/hub/none/x",
        "/rs/v1/",
    ] {
        assert_eq!(told(&Request::get(&scene.url(path)).send()), told(&held), "{path}");
    }
    for (name, value) in [
        (OWN, "hct_wrong"),
        (OWN, ""),
        ("X-Hubcache-Tokens", &*token),
        ("Authorization", &*format!("Bearer {token}")),
    ] {
        let reply = Request::get(&scene.url(CONFIG)).header(name, value).send();
        assert_eq!(
            (reply.status, reply.header("etag"), reply.header("content-range")),
            (401, None, None),
            "{name}"
        );
    }
    let twice = Request::get(&scene.url(CONFIG)).header(OWN, &token).header(OWN, &token).send();
    assert_eq!(twice.status, 401, "two are none");
    let head = Request::new("HEAD", &scene.url(CONFIG)).send();
    assert_eq!((head.status, head.header("etag")), (401, None));
    let post = Request::new("POST", &scene.url("/api/models/acme/tiny/commit/main")).body(b"x").send();
    assert_eq!(post.status, 401);
    assert!(scene.hub.requests().is_empty(), "{}", scene.hub.journal());
    assert_eq!(Request::get(&scene.url("/proxy.pac")).send().status, 200, "browsers know no proxy yet");
    let preflight = Request::new("OPTIONS", &scene.url(CONFIG))
        .header("Origin", "https://app.example")
        .header("Access-Control-Request-Method", "GET")
        .send();
    let allowed = preflight.header("access-control-allow-headers").unwrap_or_default();
    assert!(preflight.status == 204 && allowed.contains("x-hubcache-token"), "{allowed}");
}

#[test]
fn a_token_opens_what_it_grants_and_is_named_by_its_id() {
    let tokens = Tokens::new();
    let all = tokens.add("all", &[]);
    let acme = tokens.add("lab", &["--models", "acme/*", "--models", "mozilla:other/*"]);
    let text = tokens.text();
    assert!(!text.contains(&all) && !text.contains(&acme), "the file has no token");
    assert_eq!(std::fs::metadata(tokens.path()).unwrap().permissions().mode() & 0o777, 0o600);
    let again = tokens.command(&["add", "lab"]);
    assert_eq!(again.status.code(), Some(73), "names are taken once");
    let scene = Scene::start(tokens, |b| b);
    for path in [CONFIG, OTHER, "/acme/tiny/v1.0/config.json", "/api/models/other/tiny", "/api/whoami-v2"] {
        // The scripted hub knows nobody, and says so itself.
        assert_ne!(
            scene.get(path, &all).header("cache-status"),
            Some("hubcache; detail=not-permitted"),
            "{path}"
        );
    }
    let path = "/acme/tiny/resolve/main/model.safetensors";
    scene.get(path, &acme).assert_is(200, &[7; 300_000], "granted");
    let commit = scene.get(CONFIG, &all).header("x-repo-commit").unwrap().to_owned();
    let at_commit = format!("/other/tiny/resolve/{commit}/config.json");
    let held = scene.get(OTHER, &all);
    let other_commit = held.header("x-repo-commit").unwrap();
    let ready = at_commit.replace(&commit, other_commit);
    for _ in 0..2 {
        assert_eq!(scene.get(&ready, &all).status, 200, "also when the answer is ready");
    }
    assert_eq!(scene.get("/acme/tiny/v1.0/config.json", &acme).status, 200, "at every hub");
    scene.hub.clear();
    let id = scene.tokens.id("lab");
    let refused = |path: &str| {
        let reply = scene.get(path, &acme);
        assert_eq!(
            reply.header("cache-status"),
            Some("hubcache; detail=not-permitted"),
            "{path}: {}",
            reply.text()
        );
        let message = reply.header("x-error-message").unwrap().to_owned();
        assert!(reply.status == 403 && message.contains(&id) && !message.contains(&acme), "{message}");
        assert_eq!((reply.header("etag"), reply.header("x-repo-commit")), (None, None));
        message
    };
    for path in [OTHER, &ready, "/api/models/other/tiny/tree/main", "/other/tiny/raw/main/config.json"] {
        assert!(refused(path).contains("huggingface:other/tiny"), "{path}");
    }
    assert_eq!(refused("/other/tiny/resolve/main/none"), refused(OTHER), "held or not");
    for path in ["/api/models?search=x", "/api/whoami-v2"] {
        assert!(refused(path).contains("for some models only"), "{path}");
    }
    assert!(scene.hub.requests().is_empty(), "{}", scene.hub.journal());
}

#[test]
fn a_proxy_asks_for_its_own_credential_and_the_hubs_stays_the_hubs() {
    let tokens = Tokens::new();
    let token = tokens.add("ci", &[]);
    let scene = Scene::start(tokens, |b| b.arg("--intercept"));
    let absolute = |fields: &[(&str, &str)]| {
        let request = Request::get(&scene.daemon.url()).target(&format!("http://{HF}{CONFIG}"));
        fields.iter().fold(request, |request, (name, value)| request.header(name, value)).send()
    };
    let asked = absolute(&[]);
    assert_eq!((asked.status, asked.header("proxy-authenticate")), (407, Some("Basic realm=\"hubcache\"")));
    let bearer = format!("Bearer {token}");
    for (name, value) in [
        ("Authorization", &*bearer),
        (OWN, &*token),
        ("Proxy-Authorization", "Basic !"),
        ("Proxy-Authorization", "Bearer no"),
    ] {
        assert_eq!(absolute(&[(name, value)]).status, 407, "{name}");
    }
    assert_eq!(absolute(&[("Proxy-Authorization", &bearer)]).status, 200);

    let target = format!("{HF}:443");
    let refused = tls::tunnel(scene.daemon.listen(), &target, "").unwrap_err();
    assert_eq!(
        (refused.status, refused.header("proxy-authenticate")),
        (407, Some("Basic realm=\"hubcache\""))
    );
    let ca = scene.daemon.data().join("ca/ca.pem");
    let stream =
        tls::tunnel(scene.daemon.listen(), &target, &format!("Proxy-Authorization: {bearer}\r\n")).unwrap();
    let mut stream = tls::over(stream, HF, &ca).unwrap();
    let guarded = "/acme/guarded/resolve/main/config.json";
    let request = format!(
        "GET {guarded} HTTP/1.1\r\nHost: {HF}\r\nAuthorization: Bearer {READER}\r\nConnection: close\r\n\r\n"
    );
    let answer = tls::exchange(&mut stream, &request);
    assert_eq!(
        (answer.status, answer.text()),
        (200, "{\"of\": \"acme/guarded\"}".to_owned()),
        "{}",
        answer.head
    );
    // This server's own, shown as the hub's, is no key to anything.
    assert_eq!(scene.get(guarded, &token).status, 401);
    let both = Request::get(&scene.url(guarded)).header(OWN, &token).token(READER).send();
    both.assert_is(200, b"{\"of\": \"acme/guarded\"}", "each in its place");
}

#[test]
fn curl_uses_a_token_as_the_password_of_its_proxy() {
    let tokens = Tokens::new();
    let token = tokens.add("ci", &[]);
    let scene = Scene::start(tokens, |b| b.arg("--intercept"));
    let ca = scene.daemon.data().join("ca/ca.pem");
    let curl = |scheme: &str, user: &str| {
        let mut command = Command::new("curl");
        command.args(["--silent", "--write-out", " %{http_code} %{http_connect}", "--proxy-user", user]);
        command.arg("--proxy").arg(scene.daemon.url()).arg("--cacert").arg(&ca);
        let output = command.arg(format!("{scheme}://{HF}{CONFIG}")).output().expect("curl can be run");
        String::from_utf8(output.stdout).unwrap()
    };
    let (good, bad) = (format!("ci:{token}"), "ci:hct_no");
    assert_eq!(curl("http", &good), "{\"of\": \"acme/tiny\"} 200 000");
    assert_eq!(curl("https", &good), "{\"of\": \"acme/tiny\"} 200 200");
    assert!(curl("http", bad).ends_with(" 407 000"), "{}", curl("http", bad));
    assert!(curl("https", bad).ends_with(" 000 407"), "{}", curl("https", bad));
}

#[test]
fn a_revoked_and_an_expired_token_are_none_also_in_open_tunnels() {
    let tokens = Tokens::new();
    let (gone, old) = (tokens.add("gone", &[]), tokens.add("old", &["--expires", "1d"]));
    let scene = Scene::start(tokens, |b| b.arg("--intercept"));
    assert_eq!((scene.get(CONFIG, &gone).status, scene.get(CONFIG, &old).status), (200, 200));
    let fields = format!("Proxy-Authorization: Bearer {gone}\r\n");
    let stream = tls::tunnel(scene.daemon.listen(), &format!("{HF}:443"), &fields).unwrap();
    let mut open = tls::over(stream, HF, &scene.daemon.data().join("ca/ca.pem")).unwrap();

    let revoked = scene.tokens.command(&["revoke", "gone"]);
    assert!(revoked.status.success(), "{}", String::from_utf8_lossy(&revoked.stderr));
    assert_eq!(scene.tokens.command(&["revoke", "gone"]).status.code(), Some(66));
    scene.daemon.wait_for_log("tokens=1 rules=0");
    let wrong = scene.get(CONFIG, &gone);
    assert_eq!(wrong.status, 401);
    assert!(wrong.text().contains("was revoked"), "{}", wrong.text());
    let request = format!("GET {CONFIG} HTTP/1.1\r\nHost: {HF}\r\nConnection: close\r\n\r\n");
    let inside = tls::exchange(&mut open, &request);
    assert_eq!(inside.status, 403, "{}", inside.head);

    let text = scene.tokens.text();
    let line = text.lines().find(|line| line.starts_with("expires")).unwrap();
    scene.tokens.write(
        &(text.replace(line, "expires = 2020-01-01T00:00:00Z")
            + "\n[[rule]]\ngroup = \"x\"\nmay = [\"read\"]\n"),
    );
    scene.daemon.wait_for_log("tokens=1 rules=1");
    let expired = scene.get(CONFIG, &old);
    assert_eq!(expired.status, 401);
    assert!(expired.text().contains("has expired"), "{}", expired.text());
    let list = scene.tokens.command(&["list"]);
    assert!(String::from_utf8_lossy(&list.stdout).contains("2020-01-01T00:00:00Z (expired)"));
}

#[test]
fn commands_at_once_do_not_undo_each_other() {
    let tokens = Tokens::new();
    support::client::at_once(6, |i| tokens.add(&format!("number {i}"), &[]));
    let listed = tokens.command(&["list", "--json"]);
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed["tokens"].as_array().unwrap().len(), 6, "{listed}");
    support::client::at_once(5, |i| tokens.command(&["revoke", &format!("number {i}")]));
    let text = tokens.text();
    assert!(text.matches("[[token]]").count() == 1 && text.contains("number 5"), "{text}");
}

#[test]
fn a_file_that_means_nothing_leaves_the_one_before_in_force() {
    let tokens = Tokens::new();
    let token = tokens.add("ci", &[]);
    let scene = Scene::start(tokens, |b| b);
    let good = scene.tokens.text();
    scene.tokens.write("[[token]]\nid = \"x\"\n");
    scene.daemon.wait_for_log("tokens and rules stay as they were");
    assert_eq!(scene.get(CONFIG, &token).status, 200);
    let status = scene.status();
    let trouble = status["trouble"].as_str().unwrap();
    assert!(status["tokens"] == 1 && trouble.contains("missing field"), "{status}");
    let shown = scene.daemon.command(&["status"]);
    assert!(String::from_utf8_lossy(&shown.stdout).contains("as before, because of the file as it is now"));
    scene.tokens.write(&good);
    scene.daemon.wait_for_log("tokens=1 rules=0");
    assert_eq!(scene.status()["trouble"], Value::Null);
    scene.daemon.signal(Signal::HUP);
    scene.daemon.wait_for_log("SIGHUP");
    assert_eq!(scene.get(CONFIG, &token).status, 200, "it goes on");
}

#[test]
fn networks_are_known_without_a_token() {
    let rules = "[[rule]]\nnetwork = \"127.0.0.0/8\"\nmay = [\"read\"]\nmodels = [\"acme/*\"]\n\
                 [[rule]]\nnetwork = \"192.0.2.0/24\"\nmay = [\"read\"]\n";
    let tokens = Tokens::with(rules);
    let token = tokens.add("all", &[]);
    let scene = Scene::start(tokens, |b| b.arg("--intercept"));
    let get = |path: &str| Request::get(&scene.url(path)).send();
    assert_eq!(get(CONFIG).status, 200);
    let refused = get(OTHER);
    assert!(refused.status == 403 && refused.text().contains("address 127.0.0.1"), "{}", refused.text());
    assert_eq!(scene.get(OTHER, &token).status, 200, "what several grant adds up");
    assert_eq!(scene.get(CONFIG, "hct_wrong").status, 401, "what is shown must be good");
    let ca = scene.daemon.data().join("ca/ca.pem");
    assert_eq!(tls::get(scene.daemon.listen(), HF, CONFIG, "", &ca).status, 200);
    assert_eq!(tls::get(scene.daemon.listen(), HF, OTHER, "", &ca).status, 403);
    let relay = tls::tunnel(scene.daemon.listen(), "example.org:443", "").unwrap_err();
    assert_eq!(relay.status, 403, "any model could come that way");
    // A rule that is taken away is no longer one.
    scene.tokens.write("");
    scene.daemon.wait_for_log("tokens=0 rules=0");
    assert_eq!(get(CONFIG).status, 401);
}

/// An authority for clients, and the certificate of the server.
struct Certificates {
    dir: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Certificates {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (issuer, pem) = authority();
        std::fs::write(dir.path().join("clients.pem"), pem).unwrap();
        let made = Self { dir, issuer };
        made.renew();
        made
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Has the server have another certificate.
    fn renew(&self) {
        let made = rcgen::generate_simple_self_signed(["cache.example".to_owned()]).unwrap();
        self.put("key.pem", &made.signing_key.serialize_pem());
        self.put("cert.pem", &made.cert.pem());
    }

    fn put(&self, name: &str, text: &str) {
        let new = self.path("new");
        std::fs::write(&new, text).unwrap();
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::rename(new, self.path(name)).unwrap();
    }

    fn listen(&self, builder: Builder) -> Builder {
        let file = |flag: &str, name: &str| format!("--{flag}={}", self.path(name).display());
        builder
            .arg("--listen-tls=127.0.0.1:0")
            .arg(&file("cert", "cert.pem"))
            .arg(&file("key", "key.pem"))
            .arg(&file("client-ca", "clients.pem"))
    }

    /// A client that trusts the server, with a certificate of this subject.
    fn client(&self, subject: Option<&[(DnType, &str)]>) -> ClientConfig {
        match subject {
            None => tls::config(&self.path("cert.pem")),
            Some(subject) => self.client_of(&self.issuer, subject),
        }
    }

    fn client_of(&self, issuer: &Issuer<'static, KeyPair>, subject: &[(DnType, &str)]) -> ClientConfig {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        for (what, text) in subject {
            params.distinguished_name.push(what.clone(), *text);
        }
        let certificate = params.signed_by(&key, issuer).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        let pem = std::fs::read(self.path("cert.pem")).unwrap();
        roots.add(CertificateDer::pem_slice_iter(&pem).next().unwrap().unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        builder
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![certificate.der().clone()], key)
            .unwrap()
    }
}

fn authority() -> (Issuer<'static, KeyPair>, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "clients");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = params.self_signed(&key).unwrap().pem();
    (Issuer::new(params, key), pem)
}

/// GET over TLS by this configuration; nothing when it comes to no answer.
fn over_tls(daemon: &Daemon, config: ClientConfig, path: &str, fields: &str) -> Option<tls::Answer> {
    let stream = TcpStream::connect(daemon.listen_tls()).unwrap();
    let mut stream = tls::over_with(stream, "cache.example", Arc::new(config)).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: cache.example\r\nConnection: close\r\n{fields}\r\n");
    // In TLS 1.3 the server looks at the certificate after the client is done.
    stream.write_all(request.as_bytes()).and_then(|()| stream.flush()).ok()?;
    let answer = tls::read(&mut stream);
    (answer.status != 0).then_some(answer)
}

const RULES: &str = "[[rule]]\ngroup = \"ml\"\nmay = [\"read\"]\nmodels = [\"acme/*\"]\n\
                     [[rule]]\ngroup = \"Acme\"\nmay = [\"read\"]\n";

#[test]
fn certificates_are_needed_and_their_groups_count() {
    let certificates = Certificates::new();
    let tokens = Tokens::with(RULES);
    let token = tokens.add("all", &[]);
    let scene = Scene::start(tokens, |b| certificates.listen(b).arg("--access=mtls"));
    let status = |subject: Option<&[(DnType, &str)]>, path: &str, fields: &str| {
        over_tls(&scene.daemon, certificates.client(subject), path, fields).map(|answer| answer.status)
    };
    let (unit, organization, name) =
        (DnType::OrganizationalUnitName, DnType::OrganizationName, DnType::CommonName);
    let ml: &[_] = &[(name.clone(), "ann"), (unit.clone(), "ml"), (organization.clone(), "Acme")];
    let web: &[_] = &[(name.clone(), "bob"), (unit, "web"), (organization.clone(), "Acme")];
    let whole: &[_] = &[(name, "eve"), (organization, "Acme")];
    assert_eq!((status(Some(ml), CONFIG, ""), status(Some(ml), OTHER, "")), (Some(200), Some(403)));
    assert_eq!(status(Some(web), CONFIG, ""), Some(403), "the organization counts only without a unit");
    assert_eq!((status(Some(whole), CONFIG, ""), status(Some(whole), OTHER, "")), (Some(200), Some(200)));
    assert_eq!(status(None, CONFIG, ""), None);
    assert_eq!(status(None, CONFIG, &format!("{OWN}: {token}\r\n")), None, "a token does not make up for it");
    assert_eq!(status(Some(web), OTHER, &format!("{OWN}: {token}\r\n")), Some(200), "beside it, it adds");
    let (stranger, _) = authority();
    let forged = certificates.client_of(&stranger, ml);
    assert!(over_tls(&scene.daemon, forged, CONFIG, "").is_none());
    let plain = scene.get(CONFIG, &token);
    assert!(plain.status == 403 && plain.text().contains("listen.tls_address"), "{}", plain.text());
    let refused = over_tls(&scene.daemon, certificates.client(Some(web)), CONFIG, "").unwrap();
    assert!(refused.text().contains("CN=bob"), "{}", refused.text());
}

#[test]
fn a_session_with_a_certificate_is_not_resumed() {
    use rustls::HandshakeKind;
    let certificates = Certificates::new();
    let scene = Scene::start(Tokens::with(RULES), |b| certificates.listen(b).arg("--access=mtls"));
    let config = Arc::new(certificates.client(Some(&[(DnType::OrganizationalUnitName, "ml")])));
    let kinds = [(); 2].map(|()| {
        let stream = TcpStream::connect(scene.daemon.listen_tls()).unwrap();
        let mut stream = tls::over_with(stream, "cache.example", config.clone()).unwrap();
        let request = format!("GET {CONFIG} HTTP/1.1\r\nHost: cache.example\r\nConnection: close\r\n\r\n");
        assert_eq!(tls::exchange(&mut stream, &request).status, 200);
        stream.conn.handshake_kind().unwrap()
    });
    assert_eq!(kinds, [HandshakeKind::Full; 2], "each is checked anew");
}

#[test]
fn with_tokens_a_certificate_may_be_shown() {
    let certificates = Certificates::new();
    let tokens = Tokens::with(RULES);
    let token = tokens.add("all", &[]);
    let scene = Scene::start(tokens, |b| certificates.listen(b));
    let get = |config, fields: &str| over_tls(&scene.daemon, config, CONFIG, fields).unwrap().status;
    assert_eq!(get(certificates.client(None), ""), 401);
    assert_eq!(get(certificates.client(None), &format!("{OWN}: {token}\r\n")), 200);
    let ml: &[_] = &[(DnType::OrganizationalUnitName, "ml")];
    assert_eq!(get(certificates.client(Some(ml)), ""), 200);
}

#[test]
fn over_http_2_a_client_shows_a_token_as_to_any_server() {
    let certificates = Certificates::new();
    let tokens = Tokens::new();
    let token = tokens.add("ci", &[]);
    let mut scene = Scene::start(tokens, |b| certificates.listen(b).set("log.level", "trace"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ask = |fields: &[(&str, &str)]| {
        let stream = TcpStream::connect(scene.daemon.listen_tls()).unwrap();
        let ca = certificates.path("cert.pem");
        let mut request = http::Request::get(format!("https://cache.example{CONFIG}"));
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(tls::empty()).unwrap();
        runtime.block_on(async {
            let mut sender = tls::http2(stream, "cache.example", &ca).await;
            sender.send_request(request).await.unwrap().status().as_u16()
        })
    };
    let bearer = format!("Bearer {token}");
    assert_eq!(ask(&[]), 401);
    assert_eq!(ask(&[("proxy-authorization", &bearer)]), 401, "it is nobody's proxy");
    assert_eq!(ask(&[(OWN, "hct_wrong_canary_5b70"), ("authorization", &format!("Bearer {READER}"))]), 401);
    assert_eq!(ask(&[(OWN, &token), ("authorization", &format!("Bearer {READER}"))]), 200);
    assert!(scene.daemon.terminate().success());
    let log = scene.daemon.log();
    for secret in [&*token, "hct_wrong_canary_5b70", READER] {
        assert_eq!(log.lines().find(|line| line.contains(secret)), None, "{secret} is logged");
    }
}

#[test]
fn certificates_are_read_again_and_connections_stay() {
    let certificates = Certificates::new();
    let scene = Scene::start(Tokens::with(RULES), |b| certificates.listen(b));
    let ml: &[_] = &[(DnType::OrganizationalUnitName, "ml")];
    let before = Arc::new(certificates.client(Some(ml)));
    let connect = |config: &Arc<ClientConfig>| {
        let stream = TcpStream::connect(scene.daemon.listen_tls()).unwrap();
        tls::over_with(stream, "cache.example", Arc::clone(config))
    };
    let mut open = connect(&before).unwrap();
    certificates.put("cert.pem", "nothing");
    scene.daemon.wait_for_log("certificates stay as they were");
    assert!(scene.status()["certificate_trouble"].as_str().unwrap().contains("cert.pem"));
    assert!(connect(&before).is_ok(), "the one before is in use");

    certificates.renew();
    scene.daemon.wait_for_log("certificates were read");
    let after = Arc::new(certificates.client(Some(ml)));
    assert!(connect(&after).is_ok() && connect(&before).is_err(), "another is shown from now on");
    assert_eq!(scene.status()["certificate_trouble"], Value::Null);
    let request = format!("GET {CONFIG} HTTP/1.1\r\nHost: cache.example\r\nConnection: close\r\n\r\n");
    assert_eq!(tls::exchange(&mut open, &request).status, 200, "what is open goes on");

    let (_, others) = authority();
    certificates.put("clients.pem", &others);
    scene.daemon.signal(Signal::HUP);
    scene.daemon.wait_for_log("SIGHUP");
    // The signal is answered a moment after it is logged.
    support::eventually(|| {
        let answer = over_tls(&scene.daemon, certificates.client(Some(ml)), CONFIG, "");
        answer.is_none().then_some(())
    });
}

#[cfg(feature = "real-clients")]
#[test]
fn huggingface_hub_shows_a_token_as_its_own() {
    use crate::drivers::HuggingFaceHub;
    for client in HuggingFaceHub::ALL {
        let tokens = Tokens::new();
        let token = tokens.add("ci", &["--models", "acme/*"]);
        let scene = Scene::start(tokens, |b| b.set("access.header", "Authorization"));
        let home = tempfile::tempdir().unwrap();
        let fetch = |token: &str, model: &str| {
            let with = [("HF_TOKEN", token)];
            client.fetch_with(
                &with,
                &scene.daemon.url(),
                home.path(),
                model,
                &["config.json", "model.safetensors"],
            )
        };
        let files =
            fetch(&token, "acme/tiny").unwrap_or_else(|gave_up| panic!("{client:?}: {}", gave_up.stderr));
        assert_eq!(std::fs::read(&files[1]).unwrap(), [7; 300_000], "{client:?}");
        let refused = fetch(&token, "other/tiny").unwrap_err().stderr;
        // The oldest keeps the reason to itself.
        let reason =
            if client == HuggingFaceHub("0.36.2") { "LocalEntryNotFound" } else { "for other models" };
        assert!(refused.contains(reason), "{client:?}: {refused}");
        let unknown = fetch("hct_wrong", "other/tiny").unwrap_err().stderr;
        assert!(unknown.contains("401"), "{client:?}: {unknown}");
        let seen = scene.hub.requests();
        assert_eq!(scene.hub.count("", "other/tiny"), 0, "{}", scene.hub.journal());
        assert!(
            !seen.is_empty() && seen.iter().all(|seen| seen.header("authorization").is_none()),
            "{}",
            scene.hub.journal()
        );
        // Nobody has a credential of the hub.
        assert_eq!(
            Request::get(&scene.url("/acme/guarded/resolve/main/config.json")).token(&token).send().status,
            401
        );
        assert!(scene.hub.requests().iter().all(|seen| seen.header("authorization").is_none()));
    }
}

/// Asserts that no file below `dir` has any of these in it.
fn assert_nowhere(secrets: &[&str], dir: &Path) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            assert_nowhere(secrets, &path);
        } else if path.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            for secret in secrets {
                let found = bytes.windows(secret.len()).any(|w| w == secret.as_bytes());
                assert!(!found, "{secret:?} stands in {}", path.display());
            }
        }
    }
}

#[test]
fn secrets_stand_nowhere_and_go_nowhere_but_where_they_belong() {
    use base64::Engine as _;
    let tokens = Tokens::new();
    let token = tokens.add("ci", &["--may", "read,admin"]);
    let audit = tempfile::tempdir().unwrap();
    let flag = format!("--audit={}", audit.path().join("audit.jsonl").display());
    let mut scene = Scene::start(tokens, |b| b.arg("--intercept").arg(&flag).set("log.level", "trace"));
    let basic = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let wrong = "hct_wrong_canary_91c3";
    let guarded = "/acme/guarded/resolve/main/config.json";
    for own in [&*token, wrong] {
        for path in [CONFIG, guarded, "/api/models/acme/tiny", "/api/whoami-v2", "/acme/tiny/raw/main/x"] {
            Request::get(&scene.url(path)).header(OWN, own).token(READER).send();
            Request::get(&scene.daemon.url())
                .target(&format!("http://{HF}{path}"))
                .header("Proxy-Authorization", &format!("Basic {}", basic(&format!("ci:{own}"))))
                .header(OWN, own)
                .token(READER)
                .send();
        }
        let _ = Request::new("POST", &scene.url("/api/models/acme/tiny/commit/main"))
            .header(OWN, own)
            .body(b"x")
            .send();
        let field = format!("Proxy-Authorization: Bearer {own}\r\n");
        if let Ok(stream) = tls::tunnel(scene.daemon.listen(), &format!("{HF}:443"), &field) {
            let mut stream = tls::over(stream, HF, &scene.daemon.data().join("ca/ca.pem")).unwrap();
            let fields = format!(
                "Host: {HF}\r\n{OWN}: {own}\r\nProxy-Authorization: Bearer {own}\r\nAuthorization: Bearer {READER}\r\n"
            );
            tls::exchange(
                &mut stream,
                &format!("GET {guarded} HTTP/1.1\r\n{fields}Connection: close\r\n\r\n"),
            );
        }
        let sync = format!("{}/api/v1/settings/sync", scene.daemon.admin_url());
        Request::new("POST", &sync).token(own).send();
    }
    let seen = scene.hub.requests();
    let shows = |secret: &str| {
        seen.iter()
            .any(|seen| seen.target.contains(secret) || seen.headers.iter().any(|(_, v)| v.contains(secret)))
    };
    assert!(shows(READER), "the hub's own reaches the hub");
    let encoded = [basic(&format!("ci:{token}")), basic(&format!("ci:{wrong}"))];
    let own = [&*token, wrong, &*encoded[0], &*encoded[1]];
    for secret in own {
        assert!(!shows(secret), "{secret} reached the hub\n{}", scene.hub.journal());
    }
    let metrics = scene.daemon.metrics();
    assert!(scene.daemon.terminate().success());
    let log = scene.daemon.log();
    assert!(log.contains("TRACE") || log.contains("DEBUG"), "{log}");
    for secret in own.into_iter().chain([READER]) {
        assert_eq!(log.lines().find(|line| line.contains(secret)), None, "{secret} is logged");
        assert!(!metrics.contains(secret), "{secret} is in the metrics");
        assert_nowhere(&[secret], scene.daemon.data());
        assert_nowhere(&[secret], audit.path());
    }
    assert!(std::fs::read_to_string(audit.path().join("audit.jsonl")).unwrap().contains("unauthorized"));
}

#[test]
fn what_changes_something_at_the_operators_door_needs_a_right() {
    let tokens = Tokens::new();
    let (reader, operator) = (tokens.add("reader", &[]), tokens.add("operator", &["--may", "admin"]));
    let preloader = tokens.add("preloader", &["--may", "preload"]);
    let scene = Scene::start(tokens, |b| b);
    let sync = format!("{}/api/v1/settings/sync", scene.daemon.admin_url());
    let post =
        |token: Option<&str>| token.into_iter().fold(Request::new("POST", &sync), Request::token).send();
    let asked = post(None);
    assert_eq!((asked.status, asked.header("www-authenticate")), (401, Some("Bearer realm=\"hubcache\"")));
    assert_eq!(post(Some("hct_wrong")).status, 401);
    let refused = post(Some(&reader));
    assert!(
        refused.status == 403 && refused.text().contains("lacks the right to preload"),
        "{}",
        refused.text()
    );
    // Remote Settings is off in this test, which is told to whoever may know.
    assert_eq!((post(Some(&operator)).status, post(Some(&preloader)).status), (404, 404));
    let get = |path: &str| Request::get(&format!("{}{path}", scene.daemon.admin_url())).send().status;
    assert_eq!((get("/healthz"), get("/metrics")), (200, 200), "what only tells is as before");
}

#[test]
fn it_does_not_start_where_nobody_could_be_known() {
    let hub = ScriptedHub::start();
    let start = |arguments: &[&str]| {
        let builder = arguments.iter().fold(Daemon::builder().hub(&hub), |builder, a| builder.arg(a));
        let (status, log) = builder.try_start().err().expect("it does not start");
        (status.and_then(|status| status.code()), log)
    };
    let (code, log) = start(&["--access=token"]);
    assert!(code == Some(78) && log.contains("hubcache token add NAME --tokens FILE"), "{log}");
    let (code, log) = start(&["--access=token", "--tokens=/nowhere/tokens.toml"]);
    assert!(
        code == Some(66) && log.contains("hubcache token add NAME --tokens /nowhere/tokens.toml"),
        "{log}"
    );
    let tokens = Tokens::with("");
    let file = format!("--tokens={}", tokens.path().display());
    let (code, log) = start(&["--access=mtls", &file]);
    assert!(code == Some(78) && log.contains("--client-ca FILE"), "{log}");
    std::fs::set_permissions(tokens.path(), std::fs::Permissions::from_mode(0o666)).unwrap();
    let (code, log) = start(&["--access=token", &file]);
    assert!(code == Some(78) && log.contains("chmod go-w"), "{log}");
    let (code, log) = start(&["--listen=0.0.0.0:0"]);
    assert!(
        code == Some(78) && ["token", "mtls", "--access anonymous"].iter().all(|w| log.contains(w)),
        "{log}"
    );
}

#[test]
fn what_the_operator_bars_is_given_to_nobody_and_not_fetched() {
    let hub = hub();
    let start = |settings: &[(&str, &str)]| {
        let builder = Daemon::builder().hub(&hub).set("cache.ref_ttl", "1h");
        settings.iter().fold(builder, |builder, (key, value)| builder.set(key, value))
    };
    let mut daemon = start(&[]).start();
    let get = |daemon: &Daemon, path: &str| Request::get(&format!("{}{path}", daemon.url())).send();
    let pickle = "/acme/tiny/resolve/main/pytorch_model.bin";
    for path in [CONFIG, OTHER, pickle, "/acme/tiny/v1.0/config.json"] {
        assert_eq!(get(&daemon, path).status, 200, "{path}");
    }
    daemon.restart_with(&[
        ("models.allow", "acme/*,huggingface:other/*"),
        ("models.deny", "other/tiny"),
        ("models.deny_formats", "pickle"),
        ("models.deny_paths", "*.exe"),
    ]);
    hub.clear();
    let barred = |path: &str, why: &str| {
        for method in ["GET", "HEAD"] {
            let reply = Request::new(method, &format!("{}{path}", daemon.url())).send();
            assert_eq!(reply.header("cache-status"), Some("hubcache; detail=denied"), "{method} {path}");
            let said = reply.header("x-error-message").unwrap();
            assert!(reply.status == 403 && said.contains(why), "{path}: {said}");
            assert_eq!(reply.header("etag"), None);
        }
    };
    barred(OTHER, "models.deny of this server has other/tiny");
    barred("/OTHER/tiny/resolve/main/config.json", "models.deny");
    barred("/api/models/other/tiny", "models.deny");
    barred("/api/models/other/tiny/tree/main", "models.deny");
    barred("/api/models/other/tiny/xet-read-token/main", "models.deny");
    barred("/other/tiny/raw/main/config.json", "models.deny");
    barred("/hub/huggingface/other/tiny/resolve/main/config.json", "models.deny");
    barred("/third/x/resolve/main/config.json", "models.allow");
    barred(pickle, "models.deny_formats of this server has pickle");
    barred("/acme/tiny/resolve/main/a/b.EXE", "models.deny_paths");
    barred("/acme/tiny/raw/main/x.pkl", "models.deny_formats");
    let relay = tls::tunnel(daemon.listen(), &format!("{HF}:443"), "").unwrap_err();
    assert!(relay.status == 403 && relay.text().contains("intercept.enabled"), "{}", relay.text());
    let absolute = Request::get(&daemon.url()).target(&format!("http://{HF}{OTHER}")).send();
    assert_eq!(absolute.status, 403);
    assert!(hub.requests().is_empty(), "{}", hub.journal());
    assert_eq!(get(&daemon, CONFIG).status, 200);
    assert_eq!(get(&daemon, "/acme/tiny/v1.0/config.json").status, 200);

    let explained = daemon.command(&["explain", OTHER]);
    assert!(String::from_utf8_lossy(&explained.stdout).contains("models.deny"), "{explained:?}");
    let preload = daemon.command(&["preload", "moz:acme/tiny@v2.0", "--file", "model.pt"]);
    let said = [preload.stdout, preload.stderr].concat();
    assert!(hub.count("", "model.pt") == 0, "{}", hub.journal());
    assert!(!preload.status.success());
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("models.deny_formats of this server has pickle"), "{said}");
}
