//! Enterprise policies of Firefox, as far as they matter to a proxy. Pure.

use std::path::PathBuf;

use serde_json::Value;

use super::holds::Holds;

/// Enterprise policies of Firefox.
#[derive(Clone, Debug)]
pub struct Policies {
    /// The file.
    pub file: PathBuf,
    /// What it says, or why that cannot be read.
    pub said: Result<Said, String>,
    /// What the certificates are that it has installed.
    pub installed: Vec<Holds>,
}

/// What policies say, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Files of certificates that Firefox is to trust.
    pub install: Vec<String>,
    /// Whether it is to trust what the system trusts.
    pub import_roots: bool,
    /// How it is to reach servers: the mode, and the URL or place of the proxy where there is one.
    pub proxy: Option<(String, Option<String>)>,
}

impl Said {
    /// Reads `policies.json`.
    ///
    /// # Errors
    /// When it is not what Firefox reads.
    pub fn of(text: &str) -> Result<Self, String> {
        let all: Value = serde_json::from_str(text).map_err(|why| why.to_string())?;
        let policies =
            all.get("policies").filter(|p| p.is_object()).ok_or("it has no object \"policies\"")?;
        let certificates = &policies["Certificates"];
        let install = certificates["Install"].as_array().into_iter().flatten();
        let proxy = policies.get("Proxy").map(|proxy| {
            let text = |name: &str| proxy[name].as_str().filter(|value| !value.is_empty()).map(str::to_owned);
            let mode = text("Mode").unwrap_or_else(|| "none".to_owned());
            let place = match mode.as_str() {
                "autoConfig" => text("AutoConfigURL"),
                _ => text("SSLProxy").or_else(|| text("HTTPProxy")),
            };
            (mode, place)
        });
        Ok(Self {
            install: install.filter_map(|name| name.as_str().map(str::to_owned)).collect(),
            import_roots: certificates["ImportEnterpriseRoots"].as_bool().unwrap_or(false),
            proxy,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read_as_firefox_reads_them() {
        let text = r#"{"policies": {"Proxy": {"Mode": "autoConfig", "AutoConfigURL": "http://h/proxy.pac"},
            "Certificates": {"Install": ["a", 1, "b"], "ImportEnterpriseRoots": true}}}"#;
        let said = Said::of(text).unwrap();
        assert_eq!(said.install, ["a", "b"]);
        assert_eq!(said.proxy, Some(("autoConfig".into(), Some("http://h/proxy.pac".into()))));
        assert!(said.import_roots && Said::of("[]").is_err());
    }
}
