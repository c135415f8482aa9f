//! Taking out of what is handed on whatever would lead clients past this cache.

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, Method, header, response};

use super::Failure;
use super::client::is_gzip;
use super::gzip::Gzip;
use crate::hub::{self, Kept, NotJson, Stripper};
use crate::model::HubRoot;
use crate::request::{is_description, is_xet_token};
use crate::telemetry::Telemetry;

/// What an answer of Hugging Face is to be for the client that it is handed to.
#[derive(Clone, Debug)]
pub struct Fitting {
    /// The URL under which the client sees the hub.
    pub base: String,
    /// The size of files above which their Xet hashes stay; `None` keeps none.
    pub xet_above: Option<u64>,
}

/// Why the body of a description cannot be made fit.
#[derive(Debug)]
pub enum Unfit {
    /// Its encoded form cannot be decoded.
    Undecodable(std::io::Error),
    /// It is not JSON.
    NotJson(NotJson),
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Undecodable(_) => "the gzip form cannot be decoded",
            Self::NotJson(_) => "the description cannot be read",
        })
    }
}

impl std::error::Error for Unfit {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Undecodable(e) => Some(e),
            Self::NotJson(e) => Some(e),
        }
    }
}

/// Makes the body of a description fit while it passes.
pub(super) struct Fit {
    gzip: Option<Gzip>,
    /// What came and is not encoded.
    plain: Option<Bytes>,
    stripper: Option<Stripper>,
    telemetry: Telemetry,
    path: String,
}

impl Fit {
    /// Makes the head of an answer fit, and tells what the body needs, if anything.
    pub(super) fn of(
        head: &mut response::Parts,
        root: &HubRoot,
        method: &Method,
        path_and_query: &str,
        fitting: &Fitting,
        telemetry: &Telemetry,
    ) -> Result<Option<Self>, Failure> {
        hub::lead_pages_back(&mut head.headers, root, &fitting.base);
        // Who has asked for access to the store reads it from these fields.
        if is_xet_token(path_and_query) {
            return Ok(None);
        }
        hub::strip_xet_fields(&mut head.headers);
        if !is_description(path_and_query) || !is_json(&head.headers) {
            return Ok(None);
        }
        let gzip = is_gzip(&head.headers)?;
        // They describe a body that the client does not get.
        for name in [header::CONTENT_LENGTH, header::CONTENT_ENCODING, header::ETAG, header::ACCEPT_RANGES] {
            head.headers.remove(name);
        }
        let path = path_and_query.split('?').next().unwrap_or_default().to_owned();
        Ok(matches!(*method, Method::GET | Method::POST).then(|| Self {
            gzip: gzip.then(Gzip::new),
            plain: None,
            stripper: Some(Stripper::new(fitting.xet_above)),
            telemetry: telemetry.clone(),
            path,
        }))
    }

    /// Takes the next bytes of the body.
    pub(super) fn push(&mut self, piece: Bytes) {
        match &mut self.gzip {
            Some(gzip) => gzip.push(piece),
            None => self.plain = Some(piece),
        }
    }

    /// What can be handed on of what was pushed; `None` when that is all.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, Unfit> {
        loop {
            let text = match &mut self.gzip {
                Some(gzip) => gzip.next().map_err(Unfit::Undecodable)?,
                None => self.plain.take(),
            };
            let Some(text) = text else { return Ok(None) };
            let fit = self.strip(&text)?;
            if !fit.is_empty() {
                return Ok(Some(fit));
            }
        }
    }

    /// The body is over: what was still held back.
    pub(super) fn finish(&mut self) -> Result<Option<Bytes>, Unfit> {
        let last = match &mut self.gzip {
            Some(gzip) => gzip.finish().map_err(Unfit::Undecodable)?.unwrap_or_default(),
            None => Bytes::new(),
        };
        let rest = self.strip(&last)?;
        if let Some(stripper) = self.stripper.take() {
            let Kept(count) = stripper.finish().map_err(Unfit::NotJson)?;
            if count > 0 {
                self.telemetry.xet_hints_kept(count);
                tracing::info!(
                    path = self.path,
                    count,
                    "large files are listed with their place in the Xet store"
                );
            }
        }
        Ok((!rest.is_empty()).then_some(rest))
    }

    fn strip(&mut self, text: &[u8]) -> Result<Bytes, Unfit> {
        let mut fit = Vec::with_capacity(text.len());
        if let Some(stripper) = &mut self.stripper {
            stripper.push(text, &mut fit).map_err(Unfit::NotJson)?;
        }
        Ok(Bytes::from(fit))
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
}
