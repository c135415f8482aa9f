//! What a scripted hub saw, and what it really sent.

use std::fmt::Write as _;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::Listener;
use super::answer::Answer;
use super::request::{Request, decode, header};

/// One request and what became of it so far.
#[derive(Clone, Debug)]
pub struct Seen {
    /// When its head was complete.
    pub at: Instant,
    /// Where it came in.
    pub listener: Listener,
    /// The method.
    pub method: String,
    /// The request target, undecoded.
    pub target: String,
    /// Its headers in order.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
    /// `repository/path` of the file that it was about, also at the content network.
    pub file: Option<String>,
    /// The Range header.
    pub range: Option<String>,
    /// The status sent; `None` until the head is on its way.
    pub status: Option<u16>,
    /// Whether the body is a file's content.
    pub content: bool,
    /// The offset in the file at which the body begins.
    pub offset: u64,
    /// Bytes of the body that were handed to the kernel, without framing; as sent, so encoded if it was.
    pub body_sent: u64,
    /// How it ended.
    pub end: End,
}

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It has not.
    Running,
    /// The whole answer was written.
    Complete,
    /// A fault ended it.
    Cut,
    /// The client went away before.
    ClientGone,
}

impl Seen {
    /// The first header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    /// Whether it has that method (any when empty) and matches `on`: a substring of the decoded target, or of
    /// `repository/path` of its file.
    pub fn is(&self, method: &str, on: &str) -> bool {
        (method.is_empty() || self.method == method) && matches(on, &self.target, self.file.as_deref())
    }

    /// Whether its answer carried file content, whole or in part.
    pub fn carried_content(&self) -> bool {
        self.content && matches!(self.status, Some(200 | 206))
    }
}

/// Whether `on` stands in the decoded target or in the name of the file.
pub(super) fn matches(on: &str, target: &str, file: Option<&str>) -> bool {
    decode(target).contains(on) || file.is_some_and(|f| f.contains(on))
}

/// The requests of one hub, with a way to wait for more.
#[derive(Default)]
pub(super) struct Journal {
    pages: Mutex<Pages>,
    changed: Condvar,
}

#[derive(Default)]
struct Pages {
    seen: Vec<Seen>,
    /// How many were forgotten: the number of the first in `seen`.
    forgotten: usize,
}

/// Names one request in the journal.
#[derive(Clone, Copy)]
pub(super) struct Number(usize);

impl Journal {
    pub fn arrived(&self, listener: Listener, request: &Request) -> Number {
        let mut pages = self.pages();
        pages.seen.push(Seen {
            at: Instant::now(),
            listener,
            method: request.method.clone(),
            target: request.target.clone(),
            headers: request.headers.clone(),
            body: request.body.clone(),
            file: None,
            range: request.header("range").map(str::to_owned),
            status: None,
            content: false,
            offset: 0,
            body_sent: 0,
            end: End::Running,
        });
        self.changed.notify_all();
        Number(pages.forgotten + pages.seen.len() - 1)
    }

    pub fn about(&self, number: Number, file: Option<&str>) {
        self.update(number, |seen| seen.file = file.map(str::to_owned));
    }

    pub fn answered(&self, number: Number, answer: &Answer) {
        self.update(number, |seen| {
            seen.status = Some(answer.status);
            seen.content = answer.content;
            seen.offset = answer.offset;
        });
    }

    /// Runs one write of a body and counts it. Nobody reads the journal in between: a client that has a byte
    /// finds it counted.
    pub fn sending(&self, number: Number, write: &mut dyn FnMut() -> io::Result<usize>) -> io::Result<usize> {
        let mut pages = self.pages();
        let written = write()?;
        if let Some(place) = number.0.checked_sub(pages.forgotten) {
            pages.seen[place].body_sent += written as u64;
        }
        self.changed.notify_all();
        Ok(written)
    }

    pub fn ended(&self, number: Number, end: End) {
        self.update(number, |seen| seen.end = end);
    }

    fn update(&self, number: Number, change: impl FnOnce(&mut Seen)) {
        let mut pages = self.pages();
        let Some(place) = number.0.checked_sub(pages.forgotten) else { return };
        change(&mut pages.seen[place]);
        self.changed.notify_all();
    }

    pub fn all(&self) -> Vec<Seen> {
        self.pages().seen.clone()
    }

    pub fn clear(&self) {
        let mut pages = self.pages();
        pages.forgotten += pages.seen.len();
        pages.seen.clear();
        self.changed.notify_all();
    }

    /// Waits until `done`; after `patience`, what was seen instead.
    pub fn wait_for(&self, patience: Duration, done: impl Fn(&[Seen]) -> bool) -> Result<(), Vec<Seen>> {
        let (pages, waited) = self
            .changed
            .wait_timeout_while(self.pages(), patience, |pages| !done(&pages.seen))
            .expect("no thread panics while it writes the journal");
        if waited.timed_out() { Err(pages.seen.clone()) } else { Ok(()) }
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().expect("no thread panics while it writes the journal")
    }
}

/// One line for each request, for messages of failed tests.
pub(super) fn table(seen: &[Seen]) -> String {
    let mut out = String::new();
    for s in seen {
        let _ = writeln!(
            out,
            "{:?} {} {} range={} -> {} offset={} sent={} {:?}",
            s.listener,
            s.method,
            s.target,
            s.range.as_deref().unwrap_or("-"),
            s.status.map_or("-".to_owned(), |status| status.to_string()),
            s.offset,
            s.body_sent,
            s.end,
        );
    }
    out
}
