//! The parent proxy, of the settings, else of the variables that most programs read; and credentials out of files.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use percent_encoding::percent_decode_str;

use super::keys::{HubHuggingFace, Upstream};
use super::setting::{ProxyAddress, Raw, Setting as _};
use super::{Origin, Problem, Sources, Values};
use crate::model::{Place, Secret};
use crate::upstream::Parent;

/// The parent proxy, if there is any.
///
/// # Errors
/// When its credentials cannot be read, or a variable is no address of a proxy.
pub(super) fn parent(values: &Values, sources: &Sources) -> Result<Option<Parent>, Problem> {
    let said = Upstream::from(values);
    let no_proxy: Vec<String> = said.no_proxy.into_iter().map(|entry| entry.0).collect();
    let no_proxy = match no_proxy.is_empty() && *values.origin("upstream.no_proxy") == Origin::Default {
        true => variable(sources, &["no_proxy", "NO_PROXY"]).map_or_else(String::new, |(_, value)| value),
        false => no_proxy.join(","),
    };
    let credentials = match &said.proxy_credentials {
        Some(file) => Some(credentials(file).map_err(|text| Problem {
            origin: values.origin("upstream.proxy_credentials").clone(),
            text: format!("upstream.proxy_credentials: {} {text}", file.display()),
        })?),
        None => None,
    };
    if let Some(ProxyAddress(place)) = said.proxy {
        return Ok(Some(Parent::new(place, credentials, &no_proxy, false)));
    }
    // That there is to be none can be said as well.
    if *values.origin("upstream.proxy") != Origin::Default {
        return Ok(None);
    }
    let Some((name, url)) = variable(sources, &["https_proxy", "HTTPS_PROXY"]) else { return Ok(None) };
    let (user, place) = of_variable(&url).map_err(|hint| Problem {
        origin: Origin::Variable(name.to_owned()),
        text: format!("expected {}{hint}; upstream.proxy = \"none\" lets it be", ProxyAddress::expects()),
    })?;
    Ok(Some(Parent::new(place, credentials.or(user), &no_proxy, true)))
}

/// The operator's own credentials for Hugging Face, if there are any.
///
/// # Errors
/// When they cannot be read.
pub(super) fn token(values: &Values) -> Result<Option<Secret>, Problem> {
    const KEY: &str = "hub.huggingface.token_file";
    let Some(file) = HubHuggingFace::from(values).token_file else { return Ok(None) };
    let problem = |text: String| Problem {
        origin: values.origin(KEY).clone(),
        text: format!("{KEY}: {} {text}", file.display()),
    };
    let text = std::fs::read_to_string(&file).map_err(|e| problem(format!("cannot be read: {e}")))?;
    let token = text.trim();
    let is_one = !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic());
    let field = HeaderValue::try_from(format!("Bearer {token}")).ok().filter(|_| is_one);
    field.map(Secret::new).map(Some).ok_or_else(|| problem("does not have one line with a token".to_owned()))
}

fn variable(sources: &Sources, names: &[&'static str]) -> Option<(&'static str, String)> {
    names.iter().find_map(|name| {
        let (_, value) = sources.variables.iter().find(|(n, _)| n.to_str() == Some(name))?;
        Some((*name, value.to_str()?.trim().to_owned())).filter(|(_, value)| !value.is_empty())
    })
}

/// The credentials and the place of `http://user:password@host:port`.
fn of_variable(url: &str) -> Result<(Option<Secret>, Place), String> {
    let rest = url.strip_prefix("http://").unwrap_or(url);
    if rest.contains("://") {
        return Err("; the proxy itself is spoken to in plain HTTP".to_owned());
    }
    let (user, place) = match rest.rsplit_once('@') {
        Some((user, place)) => (Some(user), place),
        None => (None, rest),
    };
    let place = match ProxyAddress::read(&Raw::Text(place.to_owned())) {
        Ok(ProxyAddress(place)) => place,
        Err(refusal) => return Err(refusal.0.map(|hint| format!("; {hint}")).unwrap_or_default()),
    };
    let decoded = user.map(|user| percent_decode_str(user).collect::<Vec<u8>>());
    Ok((decoded.and_then(|pair| basic(&pair)), place))
}

fn credentials(file: &Path) -> Result<Secret, String> {
    let text = std::fs::read_to_string(file).map_err(|e| format!("cannot be read: {e}"))?;
    let pair = text.trim_end_matches(['\r', '\n']);
    if !pair.contains(':') || pair.contains(['\r', '\n']) {
        return Err("does not have one line with a user name, a colon and a password".to_owned());
    }
    basic(pair.as_bytes()).ok_or_else(|| "cannot be used".to_owned())
}

/// RFC 7617.
fn basic(pair: &[u8]) -> Option<Secret> {
    HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair))).ok().map(Secret::new)
}
