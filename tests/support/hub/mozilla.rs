//! The Mozilla layout, answered as a Google Cloud Storage bucket answers.

use std::time::SystemTime;

use super::answer::Answer;
use super::content::World;
use super::request::{Request, decode};

/// Whether something is published at the request's path.
pub(super) fn has(world: &World, request: &Request) -> bool {
    world.objects.contains_key(&key(request))
}

/// The object at the request's path, or the bucket's 404.
pub(super) fn answer(world: &World, request: &Request) -> Answer {
    let key = key(request);
    let Some(object) = world.objects.get(&key) else {
        let text = "<?xml version='1.0' encoding='UTF-8'?><Error><Code>NoSuchKey</Code>\
                    <Message>The specified key does not exist.</Message></Error>";
        return Answer::new(404, "application/xml; charset=UTF-8", text).about(&key);
    };
    let mut answer = Answer::content(content_type(&key), object.bytes.clone())
        .about(&key)
        .with("ETag", &object.etag)
        .with("Last-Modified", httpdate::fmt_http_date(object.modified))
        .with("Cache-Control", "public, max-age=3600")
        .with("Expires", httpdate::fmt_http_date(SystemTime::now()))
        .with("x-goog-generation", object.generation.to_string())
        .with("x-goog-metageneration", "1")
        .with("x-goog-stored-content-encoding", "identity")
        .with("x-goog-stored-content-length", object.bytes.len().to_string())
        .with("x-goog-storage-class", "STANDARD")
        .with("Access-Control-Allow-Origin", "*")
        .with("Server", "UploadServer");
    for hash in &object.hashes {
        answer = answer.with("x-goog-hash", hash);
    }
    answer
}

fn key(request: &Request) -> String {
    decode(request.path().trim_start_matches('/'))
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.') {
        Some((_, "json")) => "application/json",
        Some((_, "txt")) => "text/plain",
        _ => "application/octet-stream",
    }
}
