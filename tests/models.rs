//! `hubcache check-model`: what a publisher is told of a model, in a directory and at a hub.

use std::fs;
use std::path::Path;
use std::process::Output;

use crate::support;
use serde_json::Value;
use support::daemon::Daemon;
use support::hub::{File, ScriptedHub};

const GOOD: [&str; 4] =
    ["config.json", "onnx/model_quantized.onnx", "tokenizer.json", "tokenizer_config.json"];

fn directory(paths: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for path in paths {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "{}").unwrap();
    }
    folder
}

fn told(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

fn checked(daemon: &Daemon, folder: &Path, more: &[&str]) -> (Option<i32>, String) {
    told(&daemon.command(&[&["check-model", folder.to_str().unwrap()], more].concat()))
}

#[test]
fn a_directory_is_looked_at_without_any_hub() {
    let hub = ScriptedHub::start();
    let daemon = Daemon::builder().hub(&hub).alone();
    let good = directory(&[&GOOD[..], &[".git/HEAD", ".gitattributes"]].concat());
    let (code, said) = checked(&daemon, good.path(), &["--revision", "v1.0"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("good   there are weights in ONNX: q8\n") && !said.contains(".git"), "{said}");

    let (code, said) =
        checked(&daemon, good.path(), &["--revision", "stable", "--task", "image-to-text", "--quiet"]);
    assert_eq!(code, Some(65), "{said}");
    let lines: Vec<&str> = said.lines().filter(|line| !line.starts_with(' ')).collect();
    let want =
        ["fails  stable is no revision that Firefox asks for", "fails  preprocessor_config.json is missing"];
    assert_eq!(lines, want);

    fs::write(good.path().join("config.json"), "{\"is_encoder_decoder\": true}").unwrap();
    let (code, said) = checked(&daemon, good.path(), &["--json"]);
    let object: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (code, &object["ok"], &object["dtypes"][0]),
        (Some(65), &Value::from(false), &Value::from("q8"))
    );
    assert!(said.contains("onnx/encoder_model_quantized.onnx is missing"), "{said}");
    fs::write(good.path().join("config.json"), "{").unwrap();
    assert_eq!(checked(&daemon, good.path(), &[]).0, Some(65));
    assert!(hub.requests().is_empty(), "{}", hub.journal());
}

#[test]
fn of_a_hub_the_list_and_the_configuration_are_asked_for() {
    let hub = ScriptedHub::start();
    let files = GOOD.iter().map(|path| match path.ends_with(".onnx") {
        true => File::lfs(path, vec![7; 100_000]),
        false => File::small(path, "{\"transformers.js_config\": {\"use_external_data_format\": true}}"),
    });
    hub.hf("acme/tiny").commit(files.collect::<Vec<_>>());
    let daemon = Daemon::builder().hub(&hub).start();
    let (code, said) = told(&daemon.command(&["check-model", "acme/tiny"]));
    assert_eq!(code, Some(65), "{said}");
    assert!(said.contains("fails  onnx/model_quantized.onnx_data is missing\n"), "{said}");
    assert!(said.contains("good   Firefox asks for revisions such as main\n"), "{said}");
    let fetched = hub.requests();
    assert!(
        fetched
            .iter()
            .all(|seen| !seen.target.contains("/resolve/") || seen.target.ends_with("/config.json"))
    );

    assert_eq!(told(&daemon.command(&["check-model", "acme/none"])).0, Some(66));
    assert_eq!(told(&daemon.command(&["check-model", "moz:acme/tiny@v1.0"])).0, Some(64));
}
