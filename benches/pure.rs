//! Benches of what is pure: reading requests and answers of hubs, deciding, and digesting.
//!
//! `cargo bench --bench pure`. The store has benches of its own, `benches/store.rs`; what moves bytes through sockets
//! is measured by `benches/side_by_side`.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};

use hubcache::hub::{self, Hop};
use hubcache::model::{Digest, Expectation, Promise, Promiser, Representation, Resource, Sha256, Timestamp};
use hubcache::policy::{Ask, Check, Held, Progress, Rules, plan, release};
use hubcache::request::{Conditions, Named, Range, Target, classify, select};
use hubcache::store::CHUNK;
use hubcache::verify::{Digester, judge};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const NOW: Timestamp = Timestamp(1_700_000_000_000);
const SIZE: u64 = 5 << 30;

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    classifying(&mut criterion);
    planning(&mut criterion);
    ranges(&mut criterion);
    releasing(&mut criterion);
    expectations(&mut criterion);
    digesting(&mut criterion);
    judging(&mut criterion);
    criterion.final_summary();
}

fn headers(fields: &[(&str, &str)]) -> HeaderMap {
    let field = |(name, value): &(&str, &str)| {
        let name = HeaderName::try_from(*name).expect("a name of the table below");
        (name, HeaderValue::from_str(value).expect("a value of the table below"))
    };
    fields.iter().map(field).collect()
}

fn classifying(c: &mut Criterion) {
    let pinned = format!("/acme/tiny/resolve/{COMMIT}/onnx/model_quantized.onnx");
    let paths = [
        ("commit", pinned.as_str()),
        ("pull-request", "/acme/tiny/resolve/refs%2Fpr%2F1/odd%20names/a%20b%23c%2Bd%25%C3%A9.txt"),
        ("firefox", "/acme/tiny/v1.0.0/onnx/model_quantized.onnx?download=true"),
        ("passed", "/api/models/acme/tiny/tree/main/a%2Fb?recursive=true&expand=false"),
        ("refused", "/acme/tiny/resolve/main/a/%2e%2e/%2e%2e/b"),
    ];
    let mut group = c.benchmark_group("classify");
    for (name, path) in paths {
        let uri: Uri = path.parse().expect("a path of the table above");
        group.bench_function(name, |b| b.iter(|| classify(&Method::GET, black_box(&uri), &Named::Endpoint)));
    }
    group.finish();
}

fn planning(c: &mut Criterion) {
    let rules = Rules::default();
    let flags = [false, true];
    let mut cases = Vec::new();
    for bits in 0..1 << 10_u32 {
        let bit = |n: u32| flags[usize::from(bits & (1 << n) != 0)];
        let ask = Ask { head: bit(0), no_cache: bit(1), immutable: bit(2), needs_meaning: bit(3) };
        let checked_at = bit(4).then_some(Timestamp(NOW.0 - 30_000));
        let held = Held {
            checked_at,
            current: bit(5),
            older: bit(6),
            known: bit(7),
            absent: bit(8),
            refused: bit(9),
        };
        for check in [Check::NotMade, Check::Made, Check::Late, Check::Down] {
            cases.push((ask, held, check));
        }
    }
    let mut group = c.benchmark_group("plan");
    let count = u64::try_from(cases.len()).expect("a few thousand");
    group.throughput(Throughput::Elements(count));
    group.bench_function("every-combination", |b| {
        b.iter(|| {
            for (ask, held, check) in black_box(&cases) {
                black_box(plan(&rules, *ask, *held, *check, NOW));
            }
        });
    });
    group.finish();
}

fn ranges(c: &mut Criterion) {
    let cases = [
        ("none", headers(&[("accept", "*/*")])),
        ("closed", headers(&[("range", "bytes=62914560-67108863")])),
        ("suffix", headers(&[("range", "bytes=-500")])),
        ("resumed", headers(&[("range", "bytes=1073741824-"), ("if-range", "\"abc\"")])),
        ("several", headers(&[("range", "bytes=0-1,4-5,9-")])),
    ];
    let mut group = c.benchmark_group("range");
    for (name, headers) in &cases {
        group.bench_function(*name, |b| {
            b.iter(|| {
                let headers = black_box(headers);
                let applies = Conditions::of(headers).range_applies(Some("\"abc\""));
                select(Range::of(headers).filter(|_| applies), SIZE)
            });
        });
    }
    group.finish();
}

fn releasing(c: &mut Criterion) {
    let following = Progress {
        position: 1 << 30,
        end: SIZE,
        size: Some(SIZE),
        available: (1 << 30) + (1 << 20),
        judged: false,
        silent: false,
    };
    c.bench_function("release", |b| b.iter(|| release(black_box(following))));
}

fn file(path: &str) -> Resource {
    let uri: Uri = path.parse().expect("a path of this file");
    match classify(&Method::GET, &uri, &Named::Endpoint) {
        Ok(Target::File(resource)) => resource,
        other => unreachable!("{path} names a file, not {other:?}"),
    }
}

fn expectations(c: &mut Criterion) {
    let hop = |status, at_hub, fields: &[(&str, &str)]| Hop { status, headers: headers(fields), at_hub };
    let linked = format!("\"{}\"", "ab".repeat(32));
    let redirected = [
        hop(
            StatusCode::FOUND,
            true,
            &[
                ("x-repo-commit", COMMIT),
                ("x-linked-etag", &linked),
                ("x-linked-size", "1073741824"),
                ("etag", "\"hub\""),
                ("content-length", "339"),
                ("content-type", "text/plain; charset=utf-8"),
            ],
        ),
        hop(
            StatusCode::OK,
            false,
            &[("etag", "\"network\""), ("content-length", "1073741824"), ("content-type", "model/x")],
        ),
    ];
    let bucket = [hop(
        StatusCode::OK,
        true,
        &[
            ("etag", "\"6044040f6f69090f46b3fd1011cf7d5d\""),
            ("content-length", "1073741824"),
            ("content-type", "application/octet-stream"),
            ("last-modified", "Mon, 03 Nov 2025 10:00:00 GMT"),
            ("x-goog-hash", "crc32c=AAAAAA=="),
            ("x-goog-hash", "md5=1B2M2Y8AsgTpgAmY7PhCfg=="),
            ("x-goog-stored-content-encoding", "identity"),
        ],
    )];
    let cases = [
        ("huggingface-redirected", file("/acme/tiny/resolve/main/model.onnx"), &redirected[..]),
        ("mozilla", file("/acme/tiny/v1.0/model.onnx"), &bucket[..]),
    ];
    let mut group = c.benchmark_group("expectation");
    for (name, resource, hops) in &cases {
        group.bench_function(*name, |b| b.iter(|| hub::expectation(resource, black_box(hops), NOW)));
    }
    group.finish();
}

/// What hubs promise of a file, singly and together.
fn promises() -> [(&'static str, Vec<Promise>); 6] {
    let by = |by, digests: &[Digest]| digests.iter().map(|&digest| Promise { digest, by }).collect();
    [
        ("nothing", Vec::new()),
        ("sha256", by(Promiser::LinkedEtag, &[Digest::Sha256(Sha256([1; 32]))])),
        ("git-sha1", by(Promiser::Etag, &[Digest::GitSha1([1; 20])])),
        ("md5", by(Promiser::GoogHash, &[Digest::Md5([1; 16])])),
        ("crc32c", by(Promiser::GoogHash, &[Digest::Crc32c(1)])),
        ("crc32c-and-md5", by(Promiser::GoogHash, &[Digest::Crc32c(1), Digest::Md5([1; 16])])),
    ]
}

fn expected(size: u64, promises: Vec<Promise>) -> Expectation {
    let representation = Representation { size: Some(size), ..Representation::default() };
    Expectation { representation, promises, ..Expectation::default() }
}

/// From the first byte of a file to the verdict. SHA-256 is always computed, and the promised digests beside it.
fn digesting(c: &mut Criterion) {
    const FILE: usize = 16 * CHUNK;
    let piece: Vec<u8> = (0..CHUNK).map(|i| (i * 31 % 251).to_le_bytes()[0]).collect();
    let mut group = c.benchmark_group("digest");
    group.throughput(Throughput::Bytes(FILE as u64)).sample_size(20);
    for (name, promises) in promises() {
        let expected = expected(FILE as u64, promises);
        group.bench_with_input(BenchmarkId::from_parameter(name), &expected, |b, expected| {
            b.iter(|| {
                let mut digester = Digester::new(&expected.promises, expected.representation.size);
                for _ in 0..FILE / CHUNK {
                    digester.update(black_box(&piece));
                }
                judge("onnx/model.onnx", expected, &digester.finish())
            });
        });
    }
    group.finish();
}

fn judging(c: &mut Criterion) {
    let mut group = c.benchmark_group("judge");
    for (name, promises) in promises() {
        let mut digester = Digester::new(&promises, Some(2048));
        digester.update(&[7; 2048]);
        let found = digester.finish();
        let expected = expected(2048, promises);
        group.bench_function(name, |b| b.iter(|| judge("onnx/model.onnx", black_box(&expected), &found)));
    }
    group.finish();
}
