//! The audit log: what it tells, and the queue on the way to its file.
//!
//! **States.** Off until [`Telemetry::start_audit`](super::Telemetry::start_audit); then each [`Record`] waits in a queue of
//! [`QUEUE`] places until the one thread of the program's shell that owns the file has written it.
//!
//! **What can fail.** Nothing that anybody waits for. When the queue is full a record is lost: it is counted in a metric,
//! and the file says how many were lost as soon as there is room. When the file cannot be written, that is counted too.
//!
//! A record names tokens by their ids. It has no place for a secret, a header field, or a query.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use serde::{Serialize, Serializer};

use super::Telemetry;
use crate::model::{Event, Happening, Hub, Sha256, Timestamp};

/// Records that wait for the file.
pub const QUEUE: usize = 8192;

/// What a record is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Deed {
    /// A request was answered with what it asked for.
    #[default]
    Served,
    /// A request was refused, or failed.
    Refused,
    /// A file was fetched, or was not.
    Filled,
    /// Something held was removed.
    Evicted,
    /// An operator changed something, or a file that is read again did.
    Changed,
    /// Records before this one are missing.
    Lost,
}

/// A line of the audit log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Record {
    /// When it ended.
    #[serde(serialize_with = "moment")]
    pub at: Timestamp,
    /// What it is about.
    #[serde(rename = "event")]
    pub deed: Deed,
    /// Who did it; nothing for what this server does by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub who: Option<Doer>,
    /// From where.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<SocketAddr>,
    /// The method of a request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The host that a request names, or to which a tunnel leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The hub.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hub: Option<Hub>,
    /// The repository with the prefix of its kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repo: Option<String>,
    /// The revision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The file in the repository, or what a request for no file asked for, without its query.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The digest of the whole file.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "digest")]
    pub sha256: Option<Sha256>,
    /// Bytes that were sent, fetched, or removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// The status of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// How it ended, in the words of the log and the metrics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// More about it, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Who did something.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Doer {
    /// The id of a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// What the token is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The subject of a certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// Whether it was whoever owns the data directory, by a command.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub operator: bool,
}

impl Doer {
    /// Whoever owns the data directory.
    pub fn operator() -> Self {
        Self { operator: true, ..Self::default() }
    }
}

impl Record {
    /// A record of something that was changed.
    pub fn changed(at: Timestamp, outcome: &str, detail: impl Into<String>) -> Self {
        Self {
            at,
            deed: Deed::Changed,
            outcome: Some(outcome.to_owned()),
            detail: Some(detail.into()),
            ..Self::default()
        }
    }

    /// What happened to a model, as far as it is a deed of somebody.
    pub fn of(happening: &Happening) -> Self {
        let Happening { at, event, model, hub, revision, to, detail } = happening;
        let (deed, is_operators) = match event {
            Event::Dropped | Event::Evicted | Event::Damaged => (Deed::Evicted, false),
            Event::Held | Event::Released | Event::Pinned | Event::Unpinned => (Deed::Changed, true),
            _ => (Deed::Changed, false),
        };
        let detail = to.as_ref().map_or_else(|| detail.clone(), |to| format!("{detail} (to {to})"));
        Self {
            at: *at,
            deed,
            who: is_operators.then(Doer::operator),
            hub: *hub,
            repo: Some(model.clone()),
            revision: revision.clone(),
            outcome: Some(event.name().to_owned()),
            detail: Some(detail).filter(|detail| !detail.is_empty()),
            ..Self::default()
        }
    }

    /// The line, with its end.
    pub fn line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).expect("names, numbers and texts are JSON");
        line.push(b'\n');
        line
    }
}

/// RFC 3339, to the millisecond, so that lines can be ordered.
fn moment<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    let seconds = at.rfc3339();
    serializer.collect_str(&format_args!("{}.{:03}Z", seconds.trim_end_matches('Z'), at.0 % 1000))
}

fn digest<S: Serializer>(sha256: &Option<Sha256>, serializer: S) -> Result<S::Ok, S::Error> {
    match sha256 {
        Some(sha256) => serializer.collect_str(sha256),
        None => serializer.serialize_none(),
    }
}

/// What the thread that owns the file is told.
#[derive(Debug)]
pub enum Message {
    /// To write this.
    Record(Box<Record>),
    /// To look whether the file is to be opened again.
    Wake,
    /// To write what waits, and end.
    Stop,
}

/// The way to the file.
#[derive(Debug)]
pub(super) struct Queue {
    to: SyncSender<Message>,
    reopen: AtomicBool,
}

impl Queue {
    pub(super) fn new() -> (Self, Receiver<Message>) {
        let (to, from) = sync_channel(QUEUE);
        (Self { to, reopen: AtomicBool::new(false) }, from)
    }

    /// Whether there was room.
    pub(super) fn tell(&self, message: Message) -> bool {
        !matches!(self.to.try_send(message), Err(TrySendError::Full(_)))
    }

    pub(super) fn reopen(&self) {
        self.reopen.store(true, Ordering::Release);
        // Where there is no room the thread is awake anyhow.
        self.tell(Message::Wake);
    }

    pub(super) fn is_to_reopen(&self) -> bool {
        self.reopen.swap(false, Ordering::AcqRel)
    }
}

impl Telemetry {
    /// Has records go to an audit log from now on; what comes out of the receiver is to be written.
    ///
    /// # Panics
    /// When there is one already.
    pub fn start_audit(&self) -> Receiver<Message> {
        let (queue, messages) = Queue::new();
        self.shared.audit.set(queue).expect("the program has one audit log");
        messages
    }

    /// Whether there is an audit log.
    pub fn audits(&self) -> bool {
        self.shared.audit.get().is_some()
    }

    /// Adds a record to the audit log, if there is one. It never waits.
    pub fn audit(&self, record: impl FnOnce() -> Record) {
        if let Some(queue) = self.shared.audit.get()
            && !queue.tell(Message::Record(Box::new(record())))
        {
            self.shared.audit_lost.inc();
        }
    }

    /// Has the file of the audit log opened again.
    pub fn reopen_audit(&self) {
        if let Some(queue) = self.shared.audit.get() {
            queue.reopen();
        }
    }

    /// Whether that is to be done now; it is told once.
    pub fn audit_is_to_reopen(&self) -> bool {
        self.shared.audit.get().is_some_and(Queue::is_to_reopen)
    }

    /// Ends the audit log, if there is room to say so.
    pub fn stop_audit(&self) -> bool {
        self.shared.audit.get().is_none_or(|queue| queue.tell(Message::Stop))
    }

    /// How many records of the audit log found no room.
    pub fn audit_lost(&self) -> u64 {
        self.shared.audit_lost.get()
    }

    /// Records of the audit log could not be written.
    pub fn audit_unwritten(&self, count: u64) {
        self.shared.audit_unwritten.inc_by(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Telemetry;

    #[test]
    fn a_line_has_what_is_known_and_nothing_else() {
        let at = Timestamp(1_795_867_200_123);
        let who = Some(Doer { token: Some("t1".into()), name: Some("ci".into()), ..Doer::default() });
        let record = Record { at, who, hub: Some(Hub::HuggingFace), bytes: Some(3), ..Record::default() };
        let line = String::from_utf8(record.line()).unwrap();
        let want = "{\"at\":\"2026-11-28T12:00:00.123Z\",\"event\":\"served\",\"who\":{\"token\":\"t1\",\"name\":\"ci\"},\
                    \"hub\":\"huggingface\",\"bytes\":3}\n";
        assert_eq!(line, want);
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        let telemetry = Telemetry::new("0");
        telemetry.audit(|| panic!("nothing is made where there is no audit log"));
        let queue = telemetry.start_audit();
        for _ in 0..QUEUE + 3 {
            telemetry.audit(Record::default);
        }
        assert_eq!(telemetry.audit_lost(), 3);
        assert!(telemetry.render().contains("hubcache_audit_lost_total 3\n"));
        assert_eq!(queue.try_iter().count(), QUEUE);
    }
}
