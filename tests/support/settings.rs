//! A scripted Remote Settings server on a real socket: signed collections, attachments, and every way to misbehave.
//!
//! [`ScriptedSettings::start`] opens one listener on the loopback interface, for the API (`/v1` and `/v2` alike),
//! the certificate chains (`/chains/`) and the attachments (`/attachments/`). It blocks, on a thread for each
//! connection, so that blocking and async tests can use it alike, and it ends when it is dropped.
//!
//! It signs as the real one does, with certificates of its own; the canonical form of what is signed is written
//! here once more, apart from the program's, so that each checks the other. What is wrong with an answer is a list
//! of faults ([`SettingsFault`]); where one names a collection, it means those of that name in every bucket.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P384_SHA384, PublicKeyData as _,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpSocket;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The certificates that sign from now on. The default ones are in order.
#[derive(Clone, Debug)]
pub struct Chain {
    /// When the leaf begins to be valid; an hour ago.
    pub not_before: SystemTime,
    /// When it ends; in 60 days.
    pub not_after: SystemTime,
    /// The host in it.
    pub name: String,
    /// Whether it is for signing code, rather than for servers.
    pub code_signing: bool,
    /// Whether the leaf is served alone.
    pub truncated: bool,
    /// Whether it is under a root that has another fingerprint.
    pub foreign: bool,
}

impl Default for Chain {
    fn default() -> Self {
        let now = SystemTime::now();
        Self {
            not_before: now - HOUR,
            not_after: now + 60 * DAY,
            name: "remote-settings.content-signature.mozilla.org".to_owned(),
            code_signing: true,
            truncated: false,
            foreign: false,
        }
    }
}

/// What goes wrong until [`ScriptedSettings::behave`]. `on` is a part of path and query as they arrive; `times` is
/// how often, and always when it is `None`.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum SettingsFault {
    /// A signature of the right form over something else.
    WrongSignature { collection: String, times: Option<usize> },
    /// The state of that earlier timestamp, with its signature, as if nothing had come after it.
    Replay { collection: String, timestamp: u64 },
    /// 307 to the same URL without `_since`; `changes` is the list of all collections.
    SinceTooOld { collection: String },
    /// 200 with a page.
    Html { on: String },
    /// That status with these headers.
    Status { on: String, status: u16, headers: Vec<(String, String)>, times: Option<usize> },
    /// Every answer asks for that many seconds of quiet.
    Backoff(u64),
    /// The records in another order; the signature is right.
    Unsorted { collection: String },
    /// No answer until the fault is gone, then the right one.
    Hang { on: String },
    /// No changes, at a higher timestamp, with the signature of the present one.
    EmptyUnsigned { collection: String },
}

/// A Remote Settings server under the control of a test.
pub struct ScriptedSettings {
    shared: Arc<Shared>,
    /// Bound and never listening: it keeps the port from being given to others while the server is stopped.
    _reserved: TcpSocket,
    /// Accepts, and ends with the threads of the connections.
    running: Mutex<Option<JoinHandle<Vec<JoinHandle<()>>>>>,
}

impl ScriptedSettings {
    /// Starts a server without collections on a free port.
    pub fn start() -> Self {
        let reserved = TcpSocket::new_v4().expect("a socket can be opened");
        reserved.set_reuseaddr(true).expect("the option exists on every system");
        reserved.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a loopback port can be bound");
        let address = reserved.local_addr().expect("a bound socket has an address");
        let root = Authority::root("Scripted root");
        let fingerprint = hex(&Sha256::digest(root.certificate.der()));
        let signer = Signer::new(&root, &Chain::default());
        let mut world = World {
            root,
            signer,
            chains: Vec::new(),
            collections: BTreeMap::new(),
            attachments: BTreeMap::new(),
            startup: Vec::new(),
            faults: Vec::new(),
            requests: Vec::new(),
            open: false,
            connections: HashMap::new(),
        };
        world.serve_chain();
        let origin = format!("http://{address}");
        let shared =
            Shared { address, origin, fingerprint, world: Mutex::new(world), changed: Condvar::new() };
        let server = Self { shared: Arc::new(shared), _reserved: reserved, running: Mutex::default() };
        server.restart();
        server
    }

    /// The server as clients are told of it, `http://127.0.0.1:PORT/v1`.
    pub fn url(&self) -> String {
        format!("{}/v1", self.shared.origin)
    }

    /// `http://127.0.0.1:PORT`.
    pub fn origin(&self) -> String {
        self.shared.origin.clone()
    }

    /// The SHA-256 of the root certificate, as 64 hex digits.
    pub fn fingerprint(&self) -> String {
        self.shared.fingerprint.clone()
    }

    /// Ends every connection and refuses new ones; content, faults and what was seen stay.
    pub fn stop(&self) {
        let Some(accepting) = self.running().take() else { return };
        self.shared.world().open = false;
        self.shared.changed.notify_all();
        // Wakes the thread that accepts.
        if TcpStream::connect(self.shared.address).is_err() {
            return;
        }
        let connections = accepting.join().unwrap_or_default();
        for stream in self.shared.world().connections.values() {
            // It may have ended by itself.
            let _ = stream.shutdown(Shutdown::Both);
        }
        for connection in connections {
            // A panic has been reported.
            let _ = connection.join();
        }
    }

    /// Listens again, on the same port.
    pub fn restart(&self) {
        let mut running = self.running();
        if running.is_some() {
            return;
        }
        let listener =
            TcpListener::bind(self.shared.address).expect("the reserved port is free to listen on");
        self.shared.world().open = true;
        let shared = self.shared.clone();
        *running = Some(thread::spawn(move || accept(&shared, &listener)));
    }

    fn running(&self) -> MutexGuard<'_, Option<JoinHandle<Vec<JoinHandle<()>>>>> {
        // Drop comes here too, also after a failed restart.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ScriptedSettings {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Publishing content.
impl ScriptedSettings {
    /// Makes `records`, an array of objects with an `id` and no `last_modified`, all that is in a collection of the
    /// bucket `main`, and signs that. Those that are unchanged keep their `last_modified`, the others get the
    /// collection's new timestamp, which is returned, and tombstones take the place of those that are gone.
    pub fn publish(&self, collection: &str, records: Value) -> u64 {
        self.publish_in("main", collection, records)
    }

    /// The same in another bucket.
    pub fn publish_in(&self, bucket: &str, collection: &str, records: Value) -> u64 {
        let Value::Array(records) = records else { panic!("records are an array") };
        let mut world = self.shared.world();
        let key = (bucket.to_owned(), collection.to_owned());
        let mut all = BTreeMap::new();
        if let Some(old) = world.present(&key) {
            all.clone_from(&old.records);
        }
        // No two are alike, so that the list of collections has another one after each.
        let newest = world.collections.values().flatten().map(|state| state.timestamp).max().unwrap_or(0);
        let timestamp = milliseconds(SystemTime::now()).max(newest + 1);
        let mut gone: Vec<String> = all.keys().cloned().collect();
        for mut record in records {
            let id = record["id"].as_str().expect("a record has an id").to_owned();
            gone.retain(|other| *other != id);
            let before = all.get(&id).map_or(Value::Null, |old| old["last_modified"].clone());
            record["last_modified"] = before;
            if all.get(&id) != Some(&record) {
                record["last_modified"] = json!(timestamp);
                all.insert(id, record);
            }
        }
        gone.retain(|id| !deleted(&all[id]));
        for id in gone {
            let tombstone = json!({"id": id, "deleted": true, "last_modified": timestamp});
            all.insert(id, tombstone);
        }
        let state = self.shared.signed(&world, &key, timestamp, all);
        world.collections.entry(key).or_default().push(state);
        timestamp
    }

    /// Signs collections of that name once more as they are, with the present chain at a new URL.
    ///
    /// # Panics
    /// When there is none.
    pub fn resign(&self, collection: &str) {
        let mut world = self.shared.world();
        let keys: Vec<_> = world.collections.keys().filter(|(_, name)| name == collection).cloned().collect();
        assert!(!keys.is_empty(), "{collection} was published");
        world.serve_chain();
        for key in keys {
            let old = world.present(&key).expect("it was just found").clone();
            let mut state = self.shared.signed(&world, &key, old.timestamp, old.records);
            state.resigned = true;
            let states = world.collections.get_mut(&key).expect("it was just found");
            states.pop();
            states.push(state);
        }
    }

    /// Signs with `chain` whatever is published or signed again from now on.
    pub fn use_chain(&self, chain: Chain) {
        let mut world = self.shared.world();
        world.signer = if chain.foreign {
            Signer::new(&Authority::root("Foreign root"), &chain)
        } else {
            Signer::new(&world.root, &chain)
        };
        world.serve_chain();
    }

    /// Serves `bytes`, also where they were corrupted, and returns what a record holds as its `attachment`.
    pub fn attach(&self, collection: &str, record_id: &str, filename: &str, bytes: &[u8]) -> Value {
        let place = hex(&Sha256::digest([record_id.as_bytes(), &[0], bytes].concat()));
        let extension = filename.rsplit_once('.').map_or("bin", |(_, extension)| extension);
        let location = format!("main-workspace/{collection}/{}.{extension}", &place[..32]);
        let mimetype = match extension {
            "wasm" => "application/wasm",
            "json" => "application/json",
            "txt" => "text/plain",
            _ => "application/octet-stream",
        };
        let attachment = Attachment { mimetype, bytes: bytes.to_vec() };
        self.shared.world().attachments.insert(location.clone(), attachment);
        json!({
            "hash": hex(&Sha256::digest(bytes)),
            "size": bytes.len(),
            "filename": filename,
            "location": location,
            "mimetype": mimetype,
        })
    }

    /// Serves other bytes there, as many as there were (one where there was none).
    ///
    /// # Panics
    /// When nothing was attached there.
    pub fn corrupt_attachment(&self, location: &str) {
        let mut world = self.shared.world();
        let attachment = world.attachments.get_mut(location).expect("it was attached");
        match attachment.bytes.first_mut() {
            Some(byte) => *byte ^= 1,
            None => attachment.bytes.push(b'x'),
        }
    }

    /// Puts these collections, each behind its bucket, into the bundle that clients fetch when they start, as they
    /// are when it is asked for. Without this it is empty.
    pub fn startup(&self, collections: &[(&str, &str)]) {
        let owned = |&(bucket, collection): &(&str, &str)| (bucket.to_owned(), collection.to_owned());
        self.shared.world().startup = collections.iter().map(owned).collect();
    }
}

/// Misbehaving.
impl ScriptedSettings {
    /// Arms a fault. The first that applies is taken where only one can be. An answer whose timestamp does not tell
    /// which it is, because of a fault or of [`ScriptedSettings::resign`], has no ETag.
    ///
    /// # Panics
    /// When what is to be replayed was not published.
    pub fn fault(&self, fault: SettingsFault) {
        let mut world = self.shared.world();
        if let SettingsFault::Replay { collection, timestamp } = &fault {
            let named = world.collections.iter().filter(|(key, _)| key.1 == *collection);
            let published = named.flat_map(|(_, states)| states).any(|state| state.timestamp == *timestamp);
            assert!(published, "{collection} was published at {timestamp}");
        }
        world.faults.push(fault);
    }

    /// Disarms all faults.
    pub fn behave(&self) {
        self.shared.world().faults.clear();
        self.shared.changed.notify_all();
    }
}

/// Observing.
impl ScriptedSettings {
    /// Path and query of every request since the start or the last [`ScriptedSettings::clear`], in order of arrival.
    pub fn requests(&self) -> Vec<String> {
        self.shared.world().requests.clone()
    }

    /// How many requests have `on` in path and query.
    pub fn count(&self, on: &str) -> usize {
        self.shared.world().requests.iter().filter(|target| target.contains(on)).count()
    }

    /// Forgets what was seen.
    pub fn clear(&self) {
        self.shared.world().requests.clear();
    }

    /// Waits until the requests satisfy `done`, which is asked after each of them.
    ///
    /// # Panics
    /// After `patience`, with the requests in the message.
    pub fn wait_for(&self, patience: Duration, what: &str, done: impl Fn(&[String]) -> bool) {
        let world = self.shared.world();
        let (world, waited) = self
            .shared
            .changed
            .wait_timeout_while(world, patience, |world| !done(&world.requests))
            .unwrap_or_else(PoisonError::into_inner);
        let seen = waited.timed_out().then(|| world.requests.join("\n"));
        drop(world);
        if let Some(seen) = seen {
            panic!("not seen within {patience:?}: {what}\n{seen}");
        }
    }
}

/// What the threads of one server share.
struct Shared {
    address: SocketAddr,
    origin: String,
    fingerprint: String,
    world: Mutex<World>,
    /// A request came, faults were disarmed, or the server was stopped.
    changed: Condvar,
}

impl Shared {
    fn world(&self) -> MutexGuard<'_, World> {
        // A test that fails inside `wait_for` still comes here to end the server.
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was published, signed by the present signer.
    fn signed(&self, world: &World, key: &Key, timestamp: u64, records: BTreeMap<String, Value>) -> State {
        let x5u = format!("{}/chains/{}", self.origin, chain_name(world.chains.len() - 1));
        let live: Vec<&Value> = records.values().filter(|record| !deleted(record)).collect();
        let data = canonical(&json!({"data": live, "last_modified": timestamp.to_string()}));
        let signature = json!({
            "signature": world.signer.sign(&data),
            "x5u": x5u,
            "mode": "p384ecdsa",
            "type": "contentsignaturepki",
            "signer_id": "remote-settings",
            "hash_algorithm": "sha384",
            "public_key": world.signer.public_key,
        });
        let metadata = json!({
            "id": key.1,
            "bucket": key.0,
            "last_modified": timestamp,
            "flags": [],
            "signature": signature,
            "signatures": [signature],
        });
        State { timestamp, records, metadata, resigned: false }
    }
}

/// Bucket and collection.
type Key = (String, String);

struct World {
    root: Authority,
    signer: Signer,
    /// PEM by number; the last is the signer's.
    chains: Vec<String>,
    /// Every signed state, the present one last.
    collections: BTreeMap<Key, Vec<State>>,
    /// By location.
    attachments: BTreeMap<String, Attachment>,
    startup: Vec<Key>,
    faults: Vec<SettingsFault>,
    requests: Vec<String>,
    open: bool,
    connections: HashMap<SocketAddr, TcpStream>,
}

struct Attachment {
    mimetype: &'static str,
    bytes: Vec<u8>,
}

/// A collection at a timestamp.
#[derive(Clone)]
struct State {
    timestamp: u64,
    /// By id, the tombstones among them.
    records: BTreeMap<String, Value>,
    metadata: Value,
    /// Whether there was another signature at this timestamp.
    resigned: bool,
}

/// What the faults make of a collection.
struct Shown {
    state: State,
    empty: bool,
    backwards: bool,
    /// Whether its timestamp tells which it is.
    sound: bool,
}

impl World {
    /// Serves the signer's chain at a new URL.
    fn serve_chain(&mut self) {
        self.chains.push(self.signer.pem.clone());
    }

    fn present(&self, key: &Key) -> Option<&State> {
        self.collections.get(key)?.last()
    }

    /// The collection as it is shown, but for a wrong signature.
    fn shown(&self, key: &Key) -> Option<Shown> {
        let state = self.present(key)?.clone();
        let sound = !state.resigned;
        let mut shown = Shown { state, empty: false, backwards: false, sound };
        for fault in &self.faults {
            match fault {
                SettingsFault::Replay { collection, timestamp } if *collection == key.1 => {
                    let old = self.collections[key].iter().find(|state| state.timestamp == *timestamp);
                    // A collection of that name in another bucket has others.
                    let Some(old) = old else { continue };
                    shown.state = old.clone();
                }
                SettingsFault::EmptyUnsigned { collection } if *collection == key.1 => {
                    shown.state.timestamp += 1;
                    shown.empty = true;
                }
                SettingsFault::Unsorted { collection } if *collection == key.1 => shown.backwards = true,
                _ => continue,
            }
            shown.sound = false;
        }
        Some(shown)
    }

    /// The body of a changeset, and whether its timestamp tells which it is.
    fn changeset(&mut self, key: &Key, since: Option<u64>) -> Option<(Value, bool)> {
        let Shown { mut state, empty, backwards, mut sound } = self.shown(key)?;
        let wrong = self.faults.iter_mut().find_map(|fault| match fault {
            SettingsFault::WrongSignature { collection, times } if *collection == key.1 => take(times),
            _ => None,
        });
        if wrong.is_some() {
            let signature = json!(self.signer.sign("something else"));
            state.metadata["signature"]["signature"] = signature.clone();
            state.metadata["signatures"][0]["signature"] = signature;
            sound = false;
        }
        let mut changes: Vec<Value> = match since {
            _ if empty => Vec::new(),
            Some(since) => state.records.into_values().filter(|record| modified(record) > since).collect(),
            None => state.records.into_values().filter(|record| !deleted(record)).collect(),
        };
        newest_first(&mut changes);
        if backwards {
            changes.reverse();
        }
        Some((json!({"metadata": state.metadata, "timestamp": state.timestamp, "changes": changes}), sound))
    }

    /// The list of collections, and whether its timestamp tells which it is.
    fn list(&self, host: &str, asked: &Query<'_>) -> (Value, bool) {
        let mut changes = Vec::new();
        let mut timestamp = 0;
        let mut sound = true;
        for key in self.collections.keys() {
            let Some(shown) = self.shown(key) else { continue };
            let last_modified = shown.state.timestamp;
            sound &= shown.sound;
            timestamp = timestamp.max(last_modified);
            let named = |name: &str, value: &str| asked.get(name).is_none_or(|asked| asked == value);
            if asked.since.is_none_or(|since| last_modified > since)
                && named("bucket", &key.0)
                && named("collection", &key.1)
            {
                changes.push(json!({
                    "id": uuid(key),
                    "bucket": key.0,
                    "collection": key.1,
                    "host": host,
                    "last_modified": last_modified,
                }));
            }
        }
        newest_first(&mut changes);
        (json!({"metadata": {}, "timestamp": timestamp, "changes": changes}), sound)
    }

    fn bundle(&mut self) -> Vec<u8> {
        let keys = self.startup.clone();
        let changesets: Vec<Value> =
            keys.iter().filter_map(|key| self.changeset(key, None)).map(|(body, _)| body).collect();
        let plain = Value::from(changesets).to_string().into_bytes();
        let mut bundle = b"mozLz40\0".to_vec();
        bundle.extend(u32::try_from(plain.len()).expect("a small bundle").to_le_bytes());
        bundle.extend(lz4_flex::block::compress(&plain));
        bundle
    }

    fn hangs(&self, target: &str) -> bool {
        self.faults.iter().any(|fault| matches!(fault, SettingsFault::Hang { on } if target.contains(on)))
    }

    /// What a fault answers in place of the server.
    fn refusal(&mut self, target: &str) -> Option<Answer> {
        self.faults.iter_mut().find_map(|fault| match fault {
            SettingsFault::Status { on, status, headers, times } if target.contains(&*on) => {
                take(times)?;
                let mut answer = error(*status, "Scripted");
                answer.headers.extend(headers.iter().cloned());
                Some(answer)
            }
            SettingsFault::Html { on } if target.contains(&*on) => {
                Some(Answer::new(200, "text/html", "<!doctype html><title>Welcome</title>"))
            }
            _ => None,
        })
    }
}

/// Whether a fault acts once more.
fn take(times: &mut Option<usize>) -> Option<()> {
    match times {
        Some(0) => None,
        Some(left) => {
            *left -= 1;
            Some(())
        }
        None => Some(()),
    }
}

fn modified(record: &Value) -> u64 {
    record["last_modified"].as_u64().expect("every record has one")
}

fn deleted(record: &Value) -> bool {
    record["deleted"] == true
}

fn newest_first(records: &mut [Value]) {
    records.sort_by_key(|record| std::cmp::Reverse((modified(record), record["id"].to_string())));
}

fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).expect("the clock is right");
    u64::try_from(since.as_millis()).expect("the clock is right")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn chain_name(number: usize) -> String {
    format!("chain-{number}.pem")
}

/// The same for the same collection.
fn uuid(key: &Key) -> String {
    let hex = hex(&Sha256::digest(format!("{}/{}", key.0, key.1)));
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..32])
}

/// JSON in the one spelling that is signed: sorted keys, no white space, ASCII only.
fn canonical(value: &Value) -> String {
    let mut text = String::new();
    write_canonical(value, &mut text);
    text
}

fn write_canonical(value: &Value, text: &mut String) {
    match value {
        Value::String(string) => write_string(string, text),
        Value::Array(items) => write_items('[', ']', text, items, write_canonical),
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|&(name, _)| name);
            write_items('{', '}', text, members, |(name, value), text| {
                write_string(name, text);
                text.push(':');
                write_canonical(value, text);
            });
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => text.push_str(&value.to_string()),
    }
}

fn write_items<T>(
    open: char,
    close: char,
    text: &mut String,
    items: impl IntoIterator<Item = T>,
    mut write: impl FnMut(T, &mut String),
) {
    text.push(open);
    for (at, item) in items.into_iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        write(item, text);
    }
    text.push(close);
}

fn write_string(string: &str, text: &mut String) {
    text.push('"');
    for unit in string.encode_utf16() {
        match u8::try_from(unit) {
            Ok(byte @ (b'"' | b'\\')) => text.extend(['\\', byte.into()]),
            Ok(0x08) => text.push_str("\\b"),
            Ok(0x0c) => text.push_str("\\f"),
            Ok(b'\n') => text.push_str("\\n"),
            Ok(b'\r') => text.push_str("\\r"),
            Ok(b'\t') => text.push_str("\\t"),
            Ok(byte @ b' '..=b'~') => text.push(byte.into()),
            _ => {
                let _ = write!(text, "\\u{unit:04x}");
            }
        }
    }
    text.push('"');
}

/// A certificate that vouches for others.
struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn root(name: &str) -> Self {
        let params = Self::params(name);
        let key = new_key();
        let certificate = params.self_signed(&key).expect("the parameters are complete");
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    fn intermediate(&self) -> Self {
        let mut params = Self::params("Scripted intermediate");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
        params.use_authority_key_identifier_extension = true;
        let key = new_key();
        let certificate = params.signed_by(&key, &self.issuer).expect("the parameters are complete");
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    /// Ten years, of which some are over: leaves may be old.
    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = (SystemTime::now() - 3 * 365 * DAY).into();
        params.not_after = (SystemTime::now() + 7 * 365 * DAY).into();
        params
    }
}

fn new_key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).expect("a key can be made")
}

/// A leaf with its key and what is served of its chain.
struct Signer {
    key: EcdsaKeyPair,
    public_key: String,
    pem: String,
}

impl Signer {
    fn new(root: &Authority, chain: &Chain) -> Self {
        let intermediate = root.intermediate();
        let mut params = CertificateParams::new(vec![chain.name.clone()]).expect("a host is given");
        params.distinguished_name.push(DnType::CommonName, &chain.name);
        params.not_before = chain.not_before.into();
        params.not_after = chain.not_after.into();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        params.extended_key_usages = vec![if chain.code_signing {
            ExtendedKeyUsagePurpose::CodeSigning
        } else {
            ExtendedKeyUsagePurpose::ServerAuth
        }];
        let key = new_key();
        let leaf = params.signed_by(&key, &intermediate.issuer).expect("the parameters are complete");
        let mut pem = leaf.pem();
        if !chain.truncated {
            pem += &intermediate.certificate.pem();
            pem += &root.certificate.pem();
        }
        let public_key = STANDARD.encode(key.subject_public_key_info());
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, key.serialized_der());
        Self { key: key.expect("both write keys alike"), public_key, pem }
    }

    /// r and s of 48 bytes each.
    fn sign(&self, data: &str) -> String {
        let message = format!("Content-Signature:\0{data}");
        let signature = self.key.sign(&SystemRandom::new(), message.as_bytes());
        URL_SAFE.encode(signature.expect("the system has randomness"))
    }
}

/// Parameters of a request.
struct Query<'a> {
    pairs: Vec<(&'a str, &'a str)>,
    since: Option<u64>,
    /// 0 where it is no number: clients put in what they like to get past caches.
    expected: u64,
}

impl<'a> Query<'a> {
    /// What it says, or what is wrong with it.
    fn parse(text: &'a str) -> Result<Self, &'static str> {
        let pairs = text.split('&').filter_map(|pair| pair.split_once('=')).collect();
        let mut query = Self { pairs, since: None, expected: 0 };
        if let Some(since) = query.get("_since") {
            let plain = since.replace("%22", "\"");
            query.since =
                Some(plain.trim_matches('"').parse().map_err(|_| "_since in querystring: Invalid value")?);
        }
        let expected = query.get("_expected").ok_or("_expected in querystring: Required")?;
        query.expected = expected.replace("%22", "").trim_matches('"').parse().unwrap_or(0);
        Ok(query)
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        self.pairs.iter().find(|(n, _)| *n == name).map(|&(_, value)| value)
    }
}

struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn new(status: u16, kind: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: vec![("Content-Type".to_owned(), kind.to_owned())], body: body.into() }
    }

    fn json(body: &Value) -> Self {
        Self::new(200, "application/json", body.to_string())
    }

    fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

/// An error as Kinto words it.
fn error(status: u16, message: &str) -> Answer {
    let errno = match status {
        400 => 107,
        404 => 111,
        429 => 117,
        503 => 201,
        _ => 999,
    };
    let body = json!({"code": status, "errno": errno, "error": reason(status), "message": message});
    Answer::new(status, "application/json", body.to_string())
}

fn not_found() -> Answer {
    error(404, "The resource you are looking for could not be found.")
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        429 => "Too Many Requests",
        503 => "Service Unavailable",
        _ => "Scripted",
    }
}

/// Serves connections until the server is stopped; their threads.
fn accept(shared: &Arc<Shared>, listener: &TcpListener) -> Vec<JoinHandle<()>> {
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    loop {
        let accepted = listener.accept();
        let mut world = shared.world();
        if !world.open {
            return threads;
        }
        // A client that is gone already, or a lack of descriptors: the next one may do.
        let Ok((stream, peer)) = accepted else { continue };
        let Ok(handle) = stream.try_clone() else { continue };
        world.connections.insert(peer, handle);
        drop(world);
        threads.retain(|thread| !thread.is_finished());
        let shared = shared.clone();
        threads.push(thread::spawn(move || {
            // The client went away, or the server was stopped.
            let _ = serve(&shared, &stream);
            let _ = stream.shutdown(Shutdown::Both);
            shared.world().connections.remove(&peer);
        }));
    }
}

/// Answers one request after the other.
fn serve(shared: &Shared, stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    while let Some(request) = read(&mut reader)? {
        let Some(answer) = answer(shared, &request) else { return Ok(()) };
        let mut bytes = format!("HTTP/1.1 {} {}\r\n", answer.status, reason(answer.status));
        for (name, value) in &answer.headers {
            let _ = write!(bytes, "{name}: {value}\r\n");
        }
        if !matches!(answer.status, 204 | 304) {
            let _ = write!(bytes, "Content-Length: {}\r\n", answer.body.len());
        }
        bytes += if request.last { "Connection: close\r\n\r\n" } else { "\r\n" };
        let mut bytes = bytes.into_bytes();
        if request.method != "HEAD" {
            bytes.extend(answer.body);
        }
        (&*stream).write_all(&bytes)?;
        if request.last {
            break;
        }
    }
    Ok(())
}

struct Request {
    method: String,
    /// Path and query.
    target: String,
    held: Option<String>,
    /// Whether the connection ends behind it.
    last: bool,
}

/// The next request; `None` when the client sends no more.
fn read(reader: &mut BufReader<&TcpStream>) -> io::Result<Option<Request>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.by_ref().take(64 * 1024).read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        lines.push(line.to_owned());
    }
    let first: Vec<&str> = lines.first().map(|line| line.split(' ').collect()).unwrap_or_default();
    let [method, target, version] = first[..] else { return Ok(None) };
    let header = |name: &str| {
        let mut headers = lines.iter().skip(1).filter_map(|line| line.split_once(':'));
        headers.find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    };
    let body =
        header("content-length").is_some_and(|length| length != "0") || header("transfer-encoding").is_some();
    let close = header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    // Without the origin, where a proxy was meant.
    let target = match target.split_once("://") {
        Some((_, rest)) if !target.starts_with('/') => rest.find('/').map_or("/", |at| &rest[at..]),
        _ => target,
    };
    Ok(Some(Request {
        method: method.to_owned(),
        target: target.to_owned(),
        held: header("if-none-match").map(str::to_owned),
        last: body || close || version != "HTTP/1.1",
    }))
}

/// The answer to one request; `None` when the server is stopped before there is one.
fn answer(shared: &Shared, request: &Request) -> Option<Answer> {
    let mut world = shared.world();
    world.requests.push(request.target.clone());
    shared.changed.notify_all();
    let mut world = shared
        .changed
        .wait_while(world, |world| world.open && world.hangs(&request.target))
        .unwrap_or_else(PoisonError::into_inner);
    if !world.open {
        return None;
    }
    let mut answer = match world.refusal(&request.target) {
        Some(refusal) => refusal,
        None if !matches!(&*request.method, "GET" | "HEAD") => {
            error(405, "Method not allowed on this endpoint.")
        }
        None => found(shared, &mut world, request),
    };
    for fault in &world.faults {
        if let SettingsFault::Backoff(seconds) = fault {
            answer = answer.header("Backoff", seconds.to_string());
        }
    }
    Some(answer)
}

/// What the server answers when nothing is wrong with it.
fn found(shared: &Shared, world: &mut World, request: &Request) -> Answer {
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match segments[..] {
        ["v1" | "v2", ""] => Answer::json(&hello(&shared.origin)),
        [version @ ("v1" | "v2"), "buckets", bucket, "collections", collection, "changeset"] => {
            let asked = match Query::parse(query) {
                Ok(asked) => asked,
                Err(message) => return error(400, message),
            };
            let key = (bucket.to_owned(), collection.to_owned());
            changeset(shared, world, request, version, &key, &asked)
        }
        ["chains", name] => match (0..world.chains.len()).find(|&at| chain_name(at) == name) {
            Some(at) => Answer::new(200, "application/x-pem-file", world.chains[at].as_bytes()),
            None => not_found(),
        },
        ["attachments", "bundles", "startup.json.mozlz4"] => {
            Answer::new(200, "application/x-mozlz4", world.bundle())
        }
        ["attachments", ..] => match world.attachments.get(path.trim_start_matches("/attachments/")) {
            Some(Attachment { mimetype, bytes }) => Answer::new(200, mimetype, bytes.as_slice()),
            None => not_found(),
        },
        _ => not_found(),
    }
}

fn hello(origin: &str) -> Value {
    json!({
        "project_name": "Scripted Remote Settings",
        "project_version": "1.0",
        "http_api_version": "1.22",
        "url": format!("{origin}/v1/"),
        "settings": {"readonly": true},
        "capabilities": {"attachments": {"base_url": format!("{origin}/attachments/")}},
    })
}

/// A changeset of `key`; `monitor/changes` is that of all collections.
fn changeset(
    shared: &Shared,
    world: &mut World,
    request: &Request,
    version: &str,
    key: &Key,
    asked: &Query<'_>,
) -> Answer {
    let monitor = key.0 == "monitor" && key.1 == "changes";
    if !monitor && !world.collections.contains_key(key) {
        return not_found();
    }
    if let Some(since) = asked.since {
        // 0 is asked for by those who expect nothing.
        if asked.expected > 0 && asked.expected < since {
            return match version {
                "v1" => Answer { status: 204, headers: Vec::new(), body: Vec::new() },
                _ => error(400, "_expected must be superior to _since if both are provided"),
            };
        }
        let too_old = |fault: &SettingsFault| match fault {
            SettingsFault::SinceTooOld { collection } => *collection == key.1,
            _ => false,
        };
        if world.faults.iter().any(too_old) {
            let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
            let kept: Vec<&str> = query.split('&').filter(|pair| !pair.starts_with("_since=")).collect();
            let location = format!("{}{path}?{}", shared.origin, kept.join("&"));
            return Answer::new(307, "text/plain", "").header("Location", location);
        }
    }
    let found = if monitor {
        Some(world.list(&shared.address.to_string(), asked))
    } else {
        world.changeset(key, asked.since)
    };
    let Some((body, sound)) = found else {
        return not_found();
    };
    let answer = Answer::json(&body);
    if !sound {
        return answer;
    }
    let etag = format!("\"{}\"", body["timestamp"]);
    if request.held.as_ref() == Some(&etag) {
        return Answer { status: 304, headers: Vec::new(), body: Vec::new() }.header("ETag", etag);
    }
    answer.header("ETag", etag)
}
