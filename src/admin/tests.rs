use http::header::HOST;
use http_body_util::BodyExt;

use super::*;
use crate::model::Timestamp;

struct Fixture {
    door: Arc<Door>,
    store: Store,
    dir: tempfile::TempDir,
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let store = control::tests::open_store(dir.path(), Timestamp::now());
    let door = Door::new(store.clone(), Telemetry::new("1.0"), vec![], None, Arc::default());
    Fixture { door: Arc::new(door), store, dir }
}

async fn ask(door: &Arc<Door>, method: Method, host: &str, path: &str) -> (StatusCode, String) {
    let request = Request::builder().method(method).uri(path).header(HOST, host).body(()).unwrap();
    let response =
        Arc::clone(door).handle(request, Peer::from(std::net::SocketAddr::from(([127, 0, 0, 1], 1)))).await;
    assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn health_readiness_and_metrics_are_told() {
    let Fixture { door, store, dir } = fixture();
    let get = |path: &'static str| ask(&door, Method::GET, "localhost:8471", path);
    assert_eq!(get("/healthz").await, (StatusCode::OK, "ok\n".into()));
    assert_eq!(get("/readyz").await, (StatusCode::OK, "ready\n".into()));
    let (status, metrics) = get("/metrics").await;
    assert_eq!(status, StatusCode::OK);
    assert!(metrics.contains("hubcache_build_info{version=\"1.0\"} 1\n"));
    let cache_bytes = metrics.lines().find(|l| l.starts_with("hubcache_cache_bytes ")).unwrap();
    assert_ne!(cache_bytes, "hubcache_cache_bytes 0", "an open store takes space");
    assert_eq!(get("/").await.0, StatusCode::NOT_FOUND);

    door.stopping();
    assert_eq!(get("/readyz").await, (StatusCode::SERVICE_UNAVAILABLE, "stopping\n".into()));
    assert_eq!(get("/healthz").await.0, StatusCode::OK);
    store.close().await;
    drop(dir);
}

#[tokio::test]
async fn other_hosts_and_methods_are_refused() {
    let Fixture { door, store, dir } = fixture();
    for path in ["/metrics", "/healthz", "/readyz"] {
        let (status, text) = ask(&door, Method::GET, "evil.example", path).await;
        assert_eq!(status, StatusCode::MISDIRECTED_REQUEST);
        assert!(text.contains("admin.hosts"), "{text}");
        assert_eq!(ask(&door, Method::POST, "localhost", path).await.0, StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(ask(&door, Method::HEAD, "[::1]", path).await.0, StatusCode::OK);
    }
    store.close().await;
    drop(dir);
}
