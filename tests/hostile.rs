//! Clients and hubs that mean harm: what they cost is bounded, and a healthy client beside them is answered.
//!
//! Here the crowds are as large as an unoptimised build takes in a few seconds; `benches/hostile` has them in full,
//! with an optimised one.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support;
use support::client::{self, Ended, Request};
use support::daemon::{Builder, Daemon};
use support::hub::ScriptedHub;
use support::{eventually, tls};

const MIB: usize = 1 << 20;
/// Memory that each of a crowd may cost.
const MEMBER_MEMORY: u64 = 128 << 10;
/// Memory that a connection may cost, or an answer of a hub, however it misbehaves.
const ONE_MEMORY: u64 = 48 << 20;
/// What a download takes with `cache.window` and `store.cache` of 8 MiB, those 32 MiB included that wait for the disk.
const BOMB_MEMORY: u64 = 96 << 20;
/// The same with both as they are by default, of 64 MiB each.
const FILL_MEMORY: u64 = 192 << 20;
const MOZILLA: &str = "model-hub.mozilla.org";

struct Scene {
    hub: ScriptedHub,
    daemon: Daemon,
}

impl Scene {
    fn new(settings: impl FnOnce(Builder) -> Builder) -> Self {
        let hub = ScriptedHub::start();
        hub.moz("acme/tiny", "v1.0", "config.json", "{}");
        hub.moz("acme/tiny", "v1.0", "large.bin", vec![7; large()]);
        let daemon = settings(Daemon::builder().hub(&hub).arg("--intercept")).start();
        let scene = Self { hub, daemon };
        scene.get("config.json").assert_is(200, b"{}", "to be held");
        scene
    }

    fn url(&self, file: &str) -> String {
        format!("{}/acme/tiny/v1.0/{file}", self.daemon.url())
    }

    fn get(&self, file: &str) -> client::Reply {
        client::get(&self.url(file))
    }

    /// A client as it should be, which finds everything as it should be: held, in a tunnel, and cold.
    fn is_well_served(&self, cold: &str) {
        self.hub.moz("acme/tiny", "v1.0", cold, cold.as_bytes().to_vec());
        let mut took: Vec<Duration> = Vec::new();
        for _ in 0..20 {
            let began = Instant::now();
            self.get("config.json").assert_is(200, b"{}", "what is held");
            took.push(began.elapsed());
        }
        took.sort();
        let ca = self.daemon.data().join("ca/ca.pem");
        let tunnelled = tls::get(self.daemon.listen(), MOZILLA, "/acme/tiny/v1.0/config.json", "", &ca);
        assert_eq!((tunnelled.status, tunnelled.text()), (200, "{}".to_owned()));
        let began = Instant::now();
        self.get(cold).assert_is(200, cold.as_bytes(), "what is not");
        // For `benches/hostile`; here it says more of the machine than of the program.
        eprintln!(
            "a healthy client: hits in {:?} (the slowest {:?}), a cold file in {:?}",
            took[10],
            took[19],
            began.elapsed()
        );
    }

    /// Runs an attack, and asserts what it cost in memory at its height. What the attack returned.
    fn costs_at_most<T>(&self, bytes: u64, attack: impl FnOnce() -> T) -> T {
        let before = self.daemon.anonymous_memory_bytes();
        let (over, most) = (AtomicBool::new(false), AtomicU64::new(before));
        let result = thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    most.fetch_max(self.daemon.anonymous_memory_bytes(), Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(2));
                }
            });
            // Also when the attack fails an assertion, the sampler ends.
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(attack));
            over.store(true, Ordering::Relaxed);
            result
        });
        let cost = most.load(Ordering::Relaxed).saturating_sub(before);
        eprintln!("the attack cost {} KiB beside {} KiB", cost >> 10, before >> 10);
        let result = result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        assert!(
            cost <= bytes,
            "{} KiB beside {} KiB, and {} KiB are allowed",
            cost >> 10,
            before >> 10,
            bytes >> 10
        );
        result
    }

    /// HTTP/2 in a tunnel, spoken by hand.
    fn http2(&self) -> ByHand {
        let stream = tls::tunnel(self.daemon.listen(), &format!("{MOZILLA}:443"), "").unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut config = tls::config(&self.daemon.data().join("ca/ca.pem"));
        config.alpn_protocols = vec![b"h2".to_vec()];
        let stream = tls::over_with(stream, MOZILLA, Arc::new(config)).unwrap();
        let mut by_hand = ByHand { stream, goaway: None };
        by_hand.stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        assert!(by_hand.send(&frame(SETTINGS, 0, 0, b"")));
        by_hand
    }
}

/// Clients of each crowd: 200, or as many as `benches/hostile` says.
fn crowd() -> usize {
    scale("HUBCACHE_TEST_CROWD", 200)
}

/// The size of the file that slow readers ask for: 32 MiB, or as `benches/hostile` says.
fn large() -> usize {
    scale("HUBCACHE_TEST_LARGE", 32 * MIB)
}

fn scale(variable: &str, otherwise: usize) -> usize {
    std::env::var(variable).map_or(otherwise, |value| value.parse().expect("a number"))
}

fn crowd_memory() -> u64 {
    crowd() as u64 * MEMBER_MEMORY
}

// Types and flags of frames (RFC 9113, section 6).
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// The fields of GET of `path`, without a table and without Huffman codes (RFC 7541).
fn get_fields(path: &str) -> Vec<u8> {
    let mut out = vec![0x82, 0x87, 0x04, path.len() as u8];
    out.extend(path.as_bytes());
    out.extend([0x01, MOZILLA.len() as u8]);
    out.extend(MOZILLA.as_bytes());
    out
}

/// A connection of HTTP/2 without a client.
struct ByHand {
    stream: rustls::StreamOwned<rustls::ClientConnection, TcpStream>,
    /// The code with which the server ended it.
    goaway: Option<u32>,
}

impl ByHand {
    /// Sends bytes; false once the server takes no more.
    fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).and_then(|()| self.stream.flush()).is_ok()
    }

    /// Reads until the server ends the connection.
    ///
    /// # Panics
    /// When it does not.
    fn until_ended(&mut self) {
        loop {
            match self.read_frame() {
                Ok((GOAWAY, payload)) => {
                    self.goaway = Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
                }
                Ok(_) => {}
                Err(error) => {
                    let is_silent = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                    assert!(!is_silent, "the connection goes on");
                    return;
                }
            }
        }
    }

    fn read_frame(&mut self) -> std::io::Result<(u8, Vec<u8>)> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head)?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        self.stream.read_exact(&mut payload)?;
        Ok((head[3], payload))
    }
}

#[test]
fn a_crowd_of_readers_that_do_not_read_costs_little_and_keeps_nobody_waiting() {
    let scene = Scene::new(|b| b);
    scene.get("large.bin").assert_is(200, &vec![7; large()], "to be held");
    let crowd = scene.costs_at_most(crowd_memory(), || {
        let request =
            format!("GET /acme/tiny/v1.0/large.bin HTTP/1.1\r\nHost: {}\r\n\r\n", scene.daemon.listen());
        let reader = |_| {
            let mut stream = TcpStream::connect(scene.daemon.listen()).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            let mut begin = [0; 12];
            stream.read_exact(&mut begin).unwrap();
            assert_eq!(&begin, b"HTTP/1.1 200");
            stream
        };
        let crowd: Vec<_> = (0..crowd()).map(reader).collect();
        scene.is_well_served("cold.txt");
        scene.get("large.bin").assert_is(200, &vec![7; large()], "the same file, beside them");
        crowd
    });
    assert_eq!(crowd.len(), self::crowd());
}

#[test]
fn a_crowd_of_readers_of_an_unfinished_file_costs_little() {
    let scene = Scene::new(|b| b.set("cache.delivery_mozilla", "stream"));
    let gate = scene.hub.gate("large.bin", large() as u64 - 1);
    scene.costs_at_most(crowd_memory() + FILL_MEMORY, || {
        let reader = |_| {
            let mut reading = Request::get(&scene.url("large.bin")).open().unwrap();
            assert_eq!(reading.status(), 200);
            reading.read_to(1);
            reading
        };
        let crowd: Vec<_> = (0..crowd()).map(reader).collect();
        scene.is_well_served("cold.txt");
        gate.release();
        scene.get("large.bin").assert_is(200, &vec![7; large()], "the same file, beside them");
        drop(crowd);
    });
    assert_eq!(scene.hub.body_bytes("large.bin"), large() as u64, "once for all");
}

#[test]
fn heads_that_never_end_are_cut_and_keep_nobody_waiting() {
    let scene = Scene::new(|b| b.set("listen.header_timeout", "2s"));
    scene.costs_at_most(crowd_memory(), || {
        let mut crowd: Vec<_> =
            (0..crowd()).map(|_| TcpStream::connect(scene.daemon.listen()).unwrap()).collect();
        for piece in ["GET /acme/tiny/v1.0/config.json HTTP/1.1\r\n", "X-Slow: ", "a"] {
            for stream in &mut crowd {
                // One that was cut already needs no more.
                let _ = stream.write_all(piece.as_bytes());
            }
        }
        scene.is_well_served("cold.txt");
        for mut stream in crowd {
            stream.set_read_timeout(Some(Duration::from_secs(40))).unwrap();
            let mut answer = Vec::new();
            let end = stream.read_to_end(&mut answer).map_err(|e| e.kind());
            assert!(!matches!(end, Err(std::io::ErrorKind::WouldBlock)), "the connection was cut");
            assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
        }
    });
}

#[test]
fn a_flood_of_fields_is_refused_as_soon_as_it_is_too_much() {
    let scene = Scene::new(|b| b);
    let line = format!("X-Flood: {}\r\n", "a".repeat(1000));
    let flood = line.repeat(64);
    scene.costs_at_most(ONE_MEMORY, || {
        let sent = client::at_once(16, |_| {
            let mut stream = TcpStream::connect(scene.daemon.listen()).unwrap();
            stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
            stream.write_all(b"GET /acme/tiny/v1.0/config.json HTTP/1.1\r\nHost: x\r\n").unwrap();
            // 64 MiB, if nobody says no.
            (0..1024).take_while(|_| stream.write_all(flood.as_bytes()).is_ok()).count()
        });
        assert!(sent.iter().all(|pieces| *pieces < 1024), "the flood was taken: {sent:?}");
        scene.is_well_served("cold.txt");
    });
}

#[test]
fn streams_that_are_reset_at_once_end_the_connection_and_ask_the_hub_little() {
    const STREAMS: u32 = 20_000;
    let scene = Scene::new(|b| b);
    scene.hub.clear();
    let sent = scene.costs_at_most(ONE_MEMORY, || {
        let mut attacker = scene.http2();
        let mut sent = 0;
        for n in 0..STREAMS {
            let stream = 2 * n + 1;
            let fields = get_fields(&format!("/acme/tiny/v1.0/none-{n}"));
            let mut both = frame(HEADERS, END_STREAM | END_HEADERS, stream, &fields);
            both.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
            if !attacker.send(&both) {
                break;
            }
            sent = n;
        }
        attacker.until_ended();
        scene.is_well_served("cold.txt");
        (sent, attacker.goaway)
    });
    // ENHANCE_YOUR_CALM, where the end came as a frame and not as a reset of the connection.
    assert!(sent.1.is_none_or(|code| code == 11), "{sent:?}");
    let asked = scene.hub.count("", "none-");
    eprintln!("{sent:?} of {STREAMS} streams, and {asked} requests to the hub");
    assert!(asked < 1000, "{asked} of {} requests reached the hub", sent.0);
}

#[test]
fn a_head_of_endless_continuations_ends_the_connection() {
    const FRAMES: usize = 10_000;
    let scene = Scene::new(|b| b);
    let sent = scene.costs_at_most(ONE_MEMORY, || {
        let mut attacker = scene.http2();
        assert!(attacker.send(&frame(HEADERS, END_STREAM, 1, &get_fields("/acme/tiny/v1.0/config.json"))));
        // Each a field of 16,000 bytes that goes into no table.
        let mut field = vec![0x00, 0x01, b'x', 0x7f];
        field.extend([0x80 | ((16_000 - 127) & 0x7f) as u8, ((16_000 - 127) >> 7) as u8]);
        field.extend(vec![b'a'; 16_000]);
        let continuation = frame(CONTINUATION, 0, 1, &field);
        let sent = (0..FRAMES).take_while(|_| attacker.send(&continuation)).count();
        attacker.until_ended();
        scene.is_well_served("cold.txt");
        sent
    });
    assert!(sent < FRAMES, "160 MB of one head were taken");
}

#[test]
fn empty_continuations_and_pings_without_end_cost_no_memory() {
    let scene = Scene::new(|b| b);
    scene.costs_at_most(ONE_MEMORY, || {
        let mut attacker = scene.http2();
        assert!(attacker.send(&frame(HEADERS, END_STREAM, 1, &get_fields("/acme/tiny/v1.0/config.json"))));
        let many = frame(CONTINUATION, 0, 1, b"").repeat(1000);
        let _ = (0..100).take_while(|_| attacker.send(&many)).count();
        attacker.until_ended();
        // Nobody reads the answers to these.
        let mut attacker = scene.http2();
        let many = [frame(PING, 0, 0, &[1; 8]), frame(SETTINGS, 0, 0, b"")].concat().repeat(500);
        let _ = (0..200).take_while(|_| attacker.send(&many)).count();
        scene.is_well_served("cold.txt");
    });
}

/// A hub whose answers are 10 GiB of zeros in 10 MiB of gzip.
struct Bomb {
    url: String,
    blocks: Arc<AtomicU64>,
}

impl Bomb {
    const BLOCKS: u64 = 10 * 1024;

    /// With these fields in each answer.
    fn start(fields: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let blocks = Arc::new(AtomicU64::new(0));
        let block = Arc::new(Self::block());
        let counted = Arc::clone(&blocks);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (block, counted) = (Arc::clone(&block), Arc::clone(&counted));
                thread::spawn(move || Self::serve(stream, fields, &block, &counted));
            }
        });
        Self { url, blocks }
    }

    /// 1 MiB of zeros as a part of a deflate stream that can be repeated.
    fn block() -> Vec<u8> {
        let mut deflate = flate2::Compress::new(flate2::Compression::best(), false);
        let mut out = Vec::with_capacity(1 << 20);
        deflate.compress_vec(&vec![0; MIB], &mut out, flate2::FlushCompress::Full).unwrap();
        assert!(out.len() < 8192, "{}", out.len());
        out
    }

    fn serve(mut stream: TcpStream, fields: &str, block: &[u8], counted: &AtomicU64) {
        let mut head = Vec::new();
        let mut piece = [0; 4096];
        while !head.windows(4).any(|w| w == b"\r\n\r\n") {
            match stream.read(&mut piece) {
                Ok(count @ 1..) => head.extend_from_slice(&piece[..count]),
                _ => return,
            }
        }
        let begin = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Encoding: gzip\r\n{fields}\r\n");
        if stream.write_all(begin.as_bytes()).is_err() || head.starts_with(b"HEAD") {
            return;
        }
        let _ = stream.write_all(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
        for _ in 0..Self::BLOCKS {
            if stream.write_all(block).is_err() {
                return;
            }
            counted.fetch_add(1, Ordering::Relaxed);
        }
    }
}

const COMMIT: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

#[test]
fn a_gzip_bomb_of_a_hub_is_given_up_at_its_limit() {
    let unpromised = "ETag: \"bomb\"\r\nX-Repo-Commit: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n\
                      Content-Type: application/octet-stream\r\n";
    let promised = "ETag: \"bomb\"\r\nX-Repo-Commit: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n\
                    Content-Type: application/octet-stream\r\nX-Linked-Size: 1000\r\n";
    let json = "Content-Type: application/json\r\nETag: \"bomb\"\r\n";
    let file = format!("/acme/tiny/resolve/{COMMIT}/model.bin");
    let api = format!("/api/models/acme/tiny/revision/{COMMIT}");
    let cases = [
        (unpromised, file.clone(), false),
        (promised, file, false),
        (json, api.clone(), false),
        (json, api, true),
    ];
    for (fields, path, has_token) in cases {
        let bomb = Bomb::start(fields);
        let scene = Scene::new(|b| {
            b.root("huggingface", &bomb.url)
                .set("upstream.max_file", "128MiB")
                .set("cache.window", "8MiB")
                .set("store.cache", "8MiB")
        });
        let reply = scene.costs_at_most(BOMB_MEMORY, || {
            let request = Request::get(&format!("{}{path}", scene.daemon.url()));
            let request = if has_token { request.token("hf_x") } else { request };
            // It may break before its head.
            let reply = request.try_send();
            scene.is_well_served("cold.txt");
            reply
        });
        if let Ok(reply) = reply {
            let (status, length) = (reply.status, reply.body.len());
            assert!(reply.ended == Ended::Broken || status >= 500, "{path}: {status} and {length} bytes");
            assert!(length <= 160 * MIB, "{path}: {status} and {length} bytes");
        }
        // What is given up is not read on, after what the kernel had taken.
        let before = bomb.blocks.load(Ordering::Relaxed);
        assert!(before > 0, "{path} was asked for");
        eventually(|| (scene.daemon.metric("hubcache_inflight_fetches", &[]) == 0.0).then_some(()));
    }
}
