//! huggingface_hub and what is built on it, each version in an environment of Python of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::{Files, GaveUp, below, clean, driver, installed, lines, run};

/// huggingface_hub of this version, with hf_xet and a release of transformers that goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HuggingFaceHub(pub &'static str);

/// How a client reaches the hub.
#[derive(Clone, Copy, Debug)]
pub enum Reach<'a> {
    /// This URL is asked in place of the hub's.
    Endpoint(&'a str),
    /// The hub is named, and asked through this proxy.
    Proxy {
        /// `http://HOST:PORT`.
        url: &'a str,
        /// The certificate that is trusted, and no other.
        ca: &'a Path,
    },
    /// Nobody is asked: everything is in this cache directory.
    Cache(&'a Path),
}

impl<'a> From<&'a str> for Reach<'a> {
    fn from(url: &'a str) -> Self {
        Self::Endpoint(url)
    }
}

impl<'a> From<&'a String> for Reach<'a> {
    fn from(url: &'a String) -> Self {
        Self::Endpoint(url)
    }
}

impl Reach<'_> {
    fn tell(self, command: &mut Command) {
        match self {
            Self::Endpoint(url) => command.env("HF_ENDPOINT", url),
            Self::Cache(dir) => command.env("HF_HUB_CACHE", dir).env("HF_HUB_OFFLINE", "1"),
            Self::Proxy { url, ca } => {
                command.env("HTTPS_PROXY", url).env("REQUESTS_CA_BUNDLE", ca).env("SSL_CERT_FILE", ca)
            }
        };
    }
}

/// A repository as clients name it.
#[derive(Clone, Copy, Debug)]
pub struct Repository<'a> {
    /// `model`, `dataset` or `space`.
    pub kind: &'a str,
    /// `organization/name`.
    pub id: &'a str,
    /// What the client asks for; `main` when it says nothing.
    pub revision: Option<&'a str>,
}

impl<'a> Repository<'a> {
    /// A model at `main`.
    pub fn model(id: &'a str) -> Self {
        Self { kind: "model", id, revision: None }
    }

    /// A dataset at `main`.
    pub fn dataset(id: &'a str) -> Self {
        Self { kind: "dataset", id, revision: None }
    }

    /// The same at another revision.
    pub fn at(self, revision: &'a str) -> Self {
        Self { revision: Some(revision), ..self }
    }
}

/// What transformers made of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// The kind of model that the config names.
    pub model_type: String,
    /// The tokens of the text.
    pub tokens: Vec<u64>,
}

impl HuggingFaceHub {
    /// Every version that `tests/run` installs.
    pub const ALL: [Self; 3] = [Self("0.36.2"), Self("1.33.0"), Self("2.4.0")];

    /// Downloads `paths` of the model `repository` at `main`; where they are, in the same order.
    pub fn fetch<'r>(
        self,
        endpoint: impl Into<Reach<'r>>,
        home: &Path,
        repository: &str,
        paths: &[&str],
    ) -> Result<Vec<PathBuf>, GaveUp> {
        Ok(lines(&run(self.script(endpoint, home).args(["fetch", repository]).args(paths))?))
    }

    /// The same with more in its environment.
    pub fn fetch_with<'r>(
        self,
        environment: &[(&str, &str)],
        endpoint: impl Into<Reach<'r>>,
        home: &Path,
        repository: &str,
        paths: &[&str],
    ) -> Result<Vec<PathBuf>, GaveUp> {
        let mut command = self.script(endpoint, home);
        command.envs(environment.iter().copied()).args(["fetch", repository]).args(paths);
        Ok(lines(&run(&mut command)?))
    }

    /// Downloads everything with `snapshot_download`.
    pub fn snapshot<'r>(
        self,
        endpoint: impl Into<Reach<'r>>,
        home: &Path,
        of: Repository<'_>,
    ) -> Result<Files, GaveUp> {
        let mut command = self.script(endpoint, home);
        let out = run(command.args(["snapshot", of.kind, of.id]).args(of.revision))?;
        Ok(below(out.trim_end()))
    }

    /// Downloads everything with the program `hf`.
    pub fn hf_download<'r>(
        self,
        endpoint: impl Into<Reach<'r>>,
        home: &Path,
        of: Repository<'_>,
    ) -> Result<Files, GaveUp> {
        let mut command = self.command("hf", endpoint, home);
        command.args(["download", "--quiet", "--repo-type", of.kind, of.id]);
        if let Some(revision) = of.revision {
            command.args(["--revision", revision]);
        }
        Ok(below(run(&mut command)?.trim_end()))
    }

    /// Calls methods of `HfApi`, each `[NAME, ARGUMENTS]`; what each returned as `value`, or its `error`.
    pub fn calls<'r>(
        self,
        endpoint: impl Into<Reach<'r>>,
        home: &Path,
        calls: &Value,
    ) -> Result<Vec<Value>, GaveUp> {
        let out = run(self.script(endpoint, home).arg("calls").arg(calls.to_string()))?;
        Ok(serde_json::from_str(&out).expect("the driver prints a list"))
    }

    /// Loads the model `repository` with `AutoConfig` and `AutoTokenizer`, and has them read `text`.
    pub fn load<'r>(
        self,
        endpoint: impl Into<Reach<'r>>,
        home: &Path,
        repository: &str,
        text: &str,
    ) -> Result<Tokens, GaveUp> {
        let out = run(self.script(endpoint, home).args(["load", repository, text]))?;
        let out: Value = serde_json::from_str(&out).expect("the driver prints an object");
        let tokens = out["tokens"].as_array().expect("a list").iter();
        Ok(Tokens {
            model_type: out["model_type"].as_str().expect("a name").to_owned(),
            tokens: tokens.map(|token| token.as_u64().expect("a whole number")).collect(),
        })
    }

    /// The driver without a verb.
    pub(super) fn script<'r>(self, endpoint: impl Into<Reach<'r>>, home: &Path) -> Command {
        let mut command = self.command("python", endpoint, home);
        command.arg(driver("python/hub.py"));
        command
    }

    fn command<'r>(self, program: &str, endpoint: impl Into<Reach<'r>>, home: &Path) -> Command {
        let Self(version) = self;
        let mut command = clean(&installed(&format!("huggingface_hub-{version}/bin/{program}")), home);
        command
            .env("CLIENT_VERSION", version)
            .env("HF_HOME", home.join("hf"))
            .env("HF_HUB_DISABLE_PROGRESS_BARS", "1")
            .env("PYTHONDONTWRITEBYTECODE", "1");
        endpoint.into().tell(&mut command);
        command
    }
}
