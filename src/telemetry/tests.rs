//! That counters stand where their names say.

use super::*;

#[test]
fn a_counter_stands_where_its_label_says() {
    for (i, outcome) in Outcome::ALL.into_iter().enumerate() {
        assert_eq!(outcome as usize, i, "{}", outcome.name());
    }
    for (i, hub) in Hub::ALL.into_iter().enumerate() {
        assert_eq!(hub_index(hub), i, "{hub}");
    }
    let telemetry = Telemetry::new("1.2.3");
    telemetry.request_ended(Some(Hub::HuggingFace), Outcome::Hit, Duration::from_millis(3));
    telemetry.request_ended(None, Outcome::Rejected, Duration::from_millis(3));
    telemetry.served(Hub::Mozilla, 10);
    let text = telemetry.render();
    for line in [
        r#"hubcache_requests_total{hub="huggingface",result="hit"} 1"#,
        r#"hubcache_requests_total{hub="mozilla",result="hit"} 0"#,
        r#"hubcache_requests_total{hub="none",result="rejected"} 1"#,
        r#"hubcache_served_bytes_total{hub="mozilla"} 10"#,
        "hubcache_request_duration_seconds_count 2",
        r#"hubcache_build_info{version="1.2.3"} 1"#,
    ] {
        assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
    }
}

#[test]
fn every_name_that_dashboards_use_is_there() {
    let text = Telemetry::new("0").render();
    for name in [
        "hubcache_requests_total{",
        "hubcache_upstream_requests_total{",
        "hubcache_upstream_bytes_total{",
        "hubcache_upstream_withheld_total{",
        "hubcache_hub_down{",
        "hubcache_served_bytes_total{",
        "hubcache_cache_bytes ",
        "hubcache_cache_limit_bytes ",
        "hubcache_evicted_files_total{",
        "hubcache_evicted_bytes_total{",
        "hubcache_inflight_fetches ",
        "hubcache_coalesced_requests_total ",
        "hubcache_verify_failures_total ",
        "hubcache_xet_token_requests_total ",
        "hubcache_xet_hints_total ",
        "hubcache_settings_polls_total{",
        "hubcache_settings_bad_signatures_total ",
        "hubcache_settings_announced_total ",
        "hubcache_settings_superseded_total ",
        "hubcache_limited_total{",
        "hubcache_scrubbed_bytes_total ",
        "hubcache_scrubbed_blobs_total ",
        "hubcache_damaged_blobs_total ",
        "hubcache_audit_lost_total ",
        "hubcache_audit_unwritten_total ",
        "hubcache_request_duration_seconds_bucket{",
        "hubcache_fill_duration_seconds_bucket{",
        "hubcache_build_info{",
    ] {
        assert!(text.lines().any(|l| l.starts_with(name)), "{name} in\n{text}");
    }
}

#[test]
fn a_fetch_counts_as_running_until_its_guard_is_dropped() {
    let telemetry = Telemetry::new("0");
    let running = telemetry.fetch_started();
    assert!(telemetry.render().contains("hubcache_inflight_fetches 1\n"));
    drop(running);
    assert!(telemetry.render().contains("hubcache_inflight_fetches 0\n"));
}
