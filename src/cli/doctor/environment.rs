//! The environment in which clients run, and which server they are to use. Pure.

use std::collections::BTreeMap;

use url::Url;

use crate::model::{Host, Place};
use crate::upstream::Parent;

/// Variables by name.
#[derive(Clone, Debug, Default)]
pub struct Environment(BTreeMap<String, String>);

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(variables: I) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

impl Environment {
    /// The value of a variable; an empty one counts as none.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    /// The first of these variables that has a value, and that.
    pub fn first<'a>(&'a self, names: &[&'a str]) -> Option<(&'a str, &'a str)> {
        names.iter().find_map(|name| Some((*name, self.get(name)?)))
    }

    /// Whether a switch of the Hugging Face clients is on.
    pub fn is_on(&self, name: &str) -> bool {
        let on = ["1", "ON", "YES", "TRUE"];
        self.get(name).is_some_and(|value| on.contains(&value.to_ascii_uppercase().as_str()))
    }

    /// The proxy for HTTPS: the variable and where it is; small letters come first in the programs that read both.
    pub fn proxy(&self) -> Option<(&str, Option<Place>)> {
        let (name, value) = self.first(&["https_proxy", "HTTPS_PROXY"])?;
        Some((name, place_of_proxy(value)))
    }

    /// The variable by which HTTPS requests to `host` go past the proxy, if they do.
    pub fn past_proxy(&self, host: &str) -> Option<&str> {
        let (name, value) = self.first(&["no_proxy", "NO_PROXY"])?;
        let any = Place { host: Host::Name("proxy.invalid".to_owned()), port: 3128 };
        let uri = format!("https://{host}/").parse().ok()?;
        (!Parent::new(any, None, value, false).is_for(&uri)).then_some(name)
    }
}

/// The place of a proxy, with a scheme or without.
pub fn place_of_proxy(text: &str) -> Option<Place> {
    let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    Place::of_url(&Url::parse(&with_scheme).ok()?)
}

/// The server that is looked at, as clients see it.
#[derive(Clone, Debug)]
pub struct Here {
    /// Where clients reach it.
    pub at: Place,
    /// Names of this machine.
    pub names: Vec<String>,
    /// Whether it answers there.
    pub answers: bool,
    /// Whether it intercepts tunnels to hubs.
    pub intercepts: bool,
}

impl Here {
    /// Whether a place is this server's.
    pub fn is(&self, place: &Place) -> bool {
        place.port == self.at.port
            && (place.host == self.at.host || self.is_local(&place.host) && self.is_local(&self.at.host))
    }

    /// Whether a place is this machine.
    pub fn is_local(&self, host: &Host) -> bool {
        match host {
            Host::Name(name) => name == "localhost" || self.names.contains(name),
            Host::Address(ip) => ip.is_loopback() || ip.is_unspecified(),
        }
    }

    /// Its URL, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.at)
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A server at the usual place that answers and intercepts.
    pub fn here() -> Here {
        let at = Place::parse("127.0.0.1:8470", None).unwrap();
        Here { at, names: vec!["lab".to_owned()], answers: true, intercepts: true }
    }

    #[test]
    fn a_place_is_here_by_every_name_of_this_machine() {
        for (text, is_here) in [
            ("127.0.0.1:8470", true),
            ("localhost:8470", true),
            ("lab:8470", true),
            ("127.0.0.1:8471", false),
            ("example.org:8470", false),
            ("10.0.0.1:8470", false),
        ] {
            assert_eq!(here().is(&Place::parse(text, None).unwrap()), is_here, "{text}");
        }
    }

    #[test]
    fn what_goes_past_the_proxy_is_told_by_the_usual_rules() {
        let past = |list: &str| {
            let environment: Environment = [("NO_PROXY", list)].into_iter().collect();
            environment.past_proxy("huggingface.co").map(str::to_owned)
        };
        for (list, is_past) in [
            ("localhost,127.0.0.1", false),
            ("huggingface.co", true),
            (".huggingface.co", true),
            ("*", true),
            ("face.co", false),
            ("", false),
        ] {
            assert_eq!(past(list).is_some(), is_past, "{list}");
        }
    }

    #[test]
    fn a_proxy_is_written_with_a_scheme_or_without() {
        let place = |text| place_of_proxy(text).map(|place| place.to_string());
        assert_eq!(place("http://u:p@localhost:8470/").as_deref(), Some("localhost:8470"));
        assert_eq!(place("localhost:8470").as_deref(), Some("localhost:8470"));
        assert_eq!(place("http://proxy").as_deref(), Some("proxy:80"));
        assert_eq!(place("::"), None);
        let environment: Environment = [("HTTPS_PROXY", "a:1"), ("https_proxy", "b:2")].into_iter().collect();
        assert_eq!(environment.proxy().unwrap().0, "https_proxy");
    }
}
