//! What the server answers: of itself, in a tunnel, at the operators' door, and for a file that is held.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use http::{HeaderMap, Method};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use url::Url;

use super::super::answers::{Answers, Heard};
use super::http::{ask, connect};
use super::trust::trusting;
use super::{PATIENCE, TOO_LONG, in_time};
use crate::admin::control::{Command, Reply, Row, Selector, Status};
use crate::cli::owner::{self, Asked};
use crate::config::Config;
use crate::hub;
use crate::listen::authority;
use crate::model::{Hub, Place, Promiser, Question, Resource, Revision, Topic};

/// Longest answer that is read where only its head matters, in bytes.
const SMALL: usize = 64 << 10;
/// Longest list of files that is looked at, in bytes.
const MAX_TREE: usize = 8 << 20;
/// Rows of the index that are looked at for a file to ask for.
const MAX_ROWS: usize = 2000;
/// Longest head with which a tunnel is answered, in bytes.
const MAX_HEAD: usize = 8 << 10;

/// Who answers.
#[derive(Clone, Debug)]
pub enum Answered {
    /// This program.
    Here,
    /// Something else, with this status.
    Other(String),
    /// Nobody.
    Silent(String),
}

/// Asks for what only this program has.
pub async fn answered(at: &Place) -> Answered {
    let reply = match ask(at, Method::GET, "/proxy.pac", SMALL).await {
        Ok(reply) => reply,
        Err(why) => return Answered::Silent(why),
    };
    let is_ours = text(&reply.headers, "cache-status").is_some_and(|status| status.starts_with("hubcache"));
    match reply.status.is_success() && is_ours {
        true => Answered::Here,
        false => Answered::Other(reply.status.to_string()),
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Why no tunnel is answered as clients expect it.
#[derive(Clone, Debug)]
pub enum TunnelTrouble {
    /// It was not opened.
    Refused(String),
    /// The certificate in it is not trusted.
    Certificate(String),
    /// Nothing came.
    Silent(String),
}

/// Opens a tunnel to a hub and speaks TLS in it, trusting the certificates in that file and no others.
pub async fn tunnel(at: &Place, certificate: &Path) -> Result<(), TunnelTrouble> {
    let opened = tokio::time::timeout(PATIENCE, open_tunnel(at, certificate)).await;
    opened.unwrap_or_else(|_| Err(TunnelTrouble::Silent(TOO_LONG.to_owned())))
}

async fn open_tunnel(at: &Place, certificate: &Path) -> Result<(), TunnelTrouble> {
    let host = Hub::Mozilla.hosts()[0];
    let silent = |error: std::io::Error| TunnelTrouble::Silent(error.to_string());
    let distrusted = |why: String| TunnelTrouble::Certificate(why);
    let mut stream = connect(at).await.map_err(TunnelTrouble::Silent)?;
    let request = format!("CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(silent)?;
    let mut head = Vec::new();
    // Byte by byte, so that nothing is taken of what is said in the tunnel.
    while !head.ends_with(b"\r\n\r\n") && head.len() < MAX_HEAD {
        head.push(stream.read_u8().await.map_err(silent)?);
    }
    let head = String::from_utf8_lossy(&head);
    let line = head.lines().next().unwrap_or_default();
    if line.split(' ').nth(1) != Some("200") {
        return Err(TunnelTrouble::Refused(line.to_owned()));
    }
    let roots = authority::read_chain(certificate).map_err(|error| distrusted(error.to_string()))?;
    let config = trusting(roots).map_err(|error| distrusted(error.to_string()))?;
    let name = ServerName::try_from(host).expect("the host of a hub is a name");
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    match connector.connect(name, stream).await {
        Ok(_) => Ok(()),
        Err(error) if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => {
            Err(distrusted(error.to_string()))
        }
        Err(error) => Err(silent(error)),
    }
}

/// What the operators' door says of whether clients are taken.
pub async fn ready(at: SocketAddr) -> Result<(u16, String), String> {
    let reply = ask(&reachable(at).into(), Method::GET, "/readyz", SMALL).await?;
    Ok((reply.status.as_u16(), String::from_utf8_lossy(&reply.body).into_owned()))
}

/// An address at which this machine reaches what listens there.
pub fn reachable(at: SocketAddr) -> SocketAddr {
    match at {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => (std::net::Ipv4Addr::LOCALHOST, at.port()).into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => (std::net::Ipv6Addr::LOCALHOST, at.port()).into(),
        at => at,
    }
}

/// What a client gets for a file that the server holds, asked for at `at`.
pub async fn answers(config: &Config, status: Option<&Status>, at: &Place) -> Answers {
    let Some(status) = status else { return Answers::NoServer };
    if status.access.asks() {
        return Answers::Unknown;
    }
    let held = match in_time(held(config, status)).await {
        Ok(Some(held)) => held,
        Ok(None) => return Answers::NothingHeld,
        Err(why) => return Answers::Silent(why),
    };
    let Held { row, revision, tree } = held;
    let file = format!("{}/{}", row.key.repo, row.key.path);
    let (hub, repo) = (row.key.hub, row.key.repo);
    let path = hub::file_path(&Resource { hub, repo, revision, path: row.key.path });
    let (reply, url) =
        match (ask(at, Method::HEAD, &path, SMALL).await, Url::parse(&format!("http://{at}{path}"))) {
            (Ok(reply), Ok(url)) => (reply, url),
            (Err(why), _) => return Answers::Silent(why),
            (_, Err(why)) => return Answers::Silent(why.to_string()),
        };
    let tree = match tree {
        Some(question) => ask(at, Method::GET, &hub::api::question_path(&question), MAX_TREE).await.ok(),
        None => None,
    };
    Answers::Heard(Box::new(Heard {
        file,
        size: row.entry.size,
        url,
        status: reply.status,
        headers: reply.headers,
        took: reply.took,
        tree: tree.and_then(|reply| serde_json::from_slice(&reply.body).ok()),
    }))
}

/// A file that is held.
struct Held {
    row: Row,
    /// By which clients ask for it: the branch `main`, where that stands for the commit.
    revision: Revision,
    /// The list of the commit's files, if that is held as well: one that is not would be fetched.
    tree: Option<Question>,
}

async fn held(config: &Config, status: &Status) -> Result<Option<Held>, String> {
    let mut best: Option<(u8, Row)> = None;
    told(config, Selector::default(), |reply| {
        let Reply::Entry { entry } = reply else { return false };
        let rank = rank(&entry, status);
        if rank > best.as_ref().map_or(0, |(best, _)| *best) {
            best = Some((rank, entry));
        }
        rank < BEST
    })
    .await?;
    let Some((_, row)) = best else { return Ok(None) };
    let mut held = Held { revision: Revision::parse(row.key.hub, &row.key.revision), tree: None, row };
    if held.row.key.hub == Hub::HuggingFace {
        let selector = Selector {
            hub: Some(Hub::HuggingFace),
            repo: Some(held.row.key.repo.to_string()),
            ..Selector::default()
        };
        told(config, selector, |reply| {
            held.learn(&reply);
            true
        })
        .await?;
    }
    Ok(Some(held))
}

/// A large file of Hugging Face: there is most that can go wrong with it.
const BEST: u8 = 3;

/// How much can be learned from asking for it; nothing of what is of another root than the server's.
fn rank(row: &Row, status: &Status) -> u8 {
    if !status.hubs.iter().any(|hub| hub.hub == row.key.hub && hub.root == row.key.root) {
        return 0;
    }
    let is_large = row.entry.promises.iter().any(|promise| promise.by == Promiser::LinkedEtag);
    match row.key.hub {
        Hub::HuggingFace if is_large => BEST,
        Hub::HuggingFace => 2,
        Hub::Mozilla => 1,
        Hub::Settings => 0,
    }
}

impl Held {
    fn learn(&mut self, reply: &Reply) {
        let key = &self.row.key;
        match reply {
            Reply::Reference { reference } => {
                let is_it = reference.key.root == key.root && reference.commit.as_str() == key.revision;
                if is_it && reference.key.name == "main" {
                    self.revision = Revision::Named("main".to_owned());
                }
            }
            Reply::Answer { answer }
                if answer.key.root == key.root && answer.key.revision == key.revision =>
            {
                let parameters = match answer.key.path.as_str() {
                    "tree" => vec![],
                    "tree?recursive=true" => vec![("recursive".to_owned(), "true".to_owned())],
                    _ => return,
                };
                let revision = Revision::parse(key.hub, &key.revision);
                let topic = Topic::Tree { revision, path: String::new() };
                self.tree = Some(Question { repo: key.repo.clone(), topic, parameters });
            }
            _ => {}
        }
    }
}

/// Hands what the owner tells of the selected files to `each`, until that has had enough.
async fn told(
    config: &Config,
    selector: Selector,
    mut each: impl FnMut(Reply) -> bool,
) -> Result<(), String> {
    let asked = owner::ask(config, &Command::Ls { selector }).await;
    let Asked::Answered(mut connection, first) = asked.map_err(|failure| failure.message().to_owned())?
    else {
        return Err("the server has left".to_owned());
    };
    let mut reply = *first;
    for _ in 0..MAX_ROWS {
        match reply {
            Reply::Done { .. } => break,
            Reply::Failed(failure) => return Err(failure.error),
            other => {
                if !each(other) {
                    break;
                }
            }
        }
        reply = connection.next().await;
    }
    Ok(())
}
