//! A file of tokens and rules, changed as an operator does.

use std::path::PathBuf;
use std::process::{Command, Output};

use tempfile::TempDir;

use super::daemon::Builder;

/// The file, in a directory of its own.
pub struct Tokens {
    dir: TempDir,
}

impl Tokens {
    /// There is none yet.
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a scratch directory can be made") }
    }

    /// One with this in it.
    pub fn with(text: &str) -> Self {
        let tokens = Self::new();
        tokens.write(text);
        tokens
    }

    /// Where it is.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("tokens.toml")
    }

    /// What it says.
    pub fn text(&self) -> String {
        std::fs::read_to_string(self.path()).expect("there is a file")
    }

    /// Puts this in its place.
    pub fn write(&self, text: &str) {
        let new = self.dir.path().join("new");
        std::fs::write(&new, text).expect("a file can be written");
        std::fs::rename(new, self.path()).expect("it can be put in place");
    }

    /// Has a daemon go by it.
    pub fn guard(&self, builder: Builder) -> Builder {
        builder.arg("--access=token").arg(&format!("--tokens={}", self.path().display()))
    }

    /// Runs `hubcache token`.
    pub fn command(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hubcache"));
        command.env_clear().env("HOME", self.dir.path()).arg("token").args(arguments);
        command.arg("--tokens").arg(self.path()).output().expect("the program can be run")
    }

    /// Makes a token, and tells it.
    pub fn add(&self, name: &str, more: &[&str]) -> String {
        let output = self.command(&[&["add", name], more].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("a token is text").trim_end().to_owned()
    }

    /// The id of the token of that name.
    pub fn id(&self, name: &str) -> String {
        let output = self.command(&["list", "--json"]);
        let listed: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
        let tokens = listed["tokens"].as_array().expect("a list");
        let token = tokens.iter().find(|token| token["name"] == name).expect("it is listed");
        token["id"].as_str().expect("it has an id").to_owned()
    }
}
