//! A running fill as its followers see it.
//!
//! The state is changed under one lock by the fill and read by any number of followers, which are woken by a version
//! number. The fill holds a [`Landing`]; when that is dropped without a word (a panic, a cancelled task), the flight
//! ends as [`FillError::Abandoned`], so that nobody waits for ever.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use super::FillError;
use super::chunks::Chunks;
use super::places::Place;
use super::schedule::Wanted;
use crate::model::{Entry, EntryKey, Expectation, Outcome, Timestamp, Urgency};
use crate::store::Blob;
use crate::upstream::Haste;

/// How a fill ended well.
#[derive(Clone, Debug)]
pub enum Landed {
    /// The file is in the store.
    Stored(Arc<Entry>),
    /// The file is in the store without having been fetched: its bytes were there under another name.
    Linked(Arc<Entry>),
    /// The bytes were right, and were not kept.
    Unstored,
}

/// A running fill, for those who watch.
#[derive(Clone, Debug)]
pub struct Running {
    /// The file.
    pub key: EntryKey,
    /// Bytes of it that are here.
    pub arrived_bytes: u64,
    /// Its size, once known.
    pub size_bytes: Option<u64>,
    /// How many wait for it or read it.
    pub followers: u64,
    /// When the fill began.
    pub since: Timestamp,
}

/// The shared part of a fill.
pub struct Flight {
    pub(super) key: EntryKey,
    pub(super) since: Timestamp,
    state: Mutex<State>,
    /// Counts the changes of the state, for readers.
    version: watch::Sender<u64>,
    /// Counts those that are more than further bytes of a chunk, for whoever works with whole chunks.
    milestones: watch::Sender<u64>,
    /// Whether a client waits, or did.
    urgency: watch::Sender<Urgency>,
    /// Rung when a reader waits for bytes or leaves.
    pub(super) readers_changed: Notify,
}

pub(super) struct State {
    /// Counts the attempts; readers of an earlier one are broken or start again.
    pub(super) attempt: u32,
    /// What this attempt's file is, once the hub has said so.
    pub(super) head: Option<Arc<Expectation>>,
    pub(super) chunks: Chunks,
    /// Where complete chunks are read back from.
    pub(super) blob: Option<Blob>,
    /// The store is about to have a place for them, and they wait for it.
    pub(super) beginning: bool,
    /// Whether the bytes are being stored; once not, a reader that comes later finds the beginning gone.
    pub(super) keeps: bool,
    pub(super) end: Option<Result<Landed, Arc<FillError>>>,
    pub(super) readers: HashMap<u64, Reader>,
    next_reader: u64,
    /// How many of those who came said at once that they want a part.
    pub(super) parts: u64,
    /// The names under which bytes of this attempt were sent to somebody.
    pub(super) told: HashSet<EntryKey>,
    /// Its place among the fills that run.
    pub(super) place: Option<Place>,
}

pub(super) struct Reader {
    pub(super) position: u64,
    pub(super) end: Option<u64>,
    /// It has nothing to send until more comes.
    pub(super) waits: bool,
    /// It reads bytes, as opposed to waiting for the head or the verdict.
    pub(super) reads: bool,
    /// What it will read, as far as it has said so before it does.
    part: Option<(u64, u64)>,
}

impl Reader {
    fn wanted(&self) -> Wanted {
        match self.part.filter(|_| !self.reads) {
            Some((start, end)) => Wanted { position: start, end: Some(end), waits: true },
            None => Wanted { position: self.position, end: self.end, waits: self.waits || !self.reads },
        }
    }
}

impl Flight {
    pub(super) fn new(key: EntryKey, urgency: Urgency) -> Arc<Self> {
        let state = State {
            attempt: 1,
            head: None,
            chunks: Chunks::default(),
            blob: None,
            beginning: false,
            keeps: true,
            end: None,
            readers: HashMap::new(),
            next_reader: 0,
            parts: 0,
            told: HashSet::new(),
            place: None,
        };
        Arc::new(Self {
            key,
            since: Timestamp::now(),
            state: Mutex::new(state),
            version: watch::Sender::new(0),
            milestones: watch::Sender::new(0),
            urgency: watch::Sender::new(urgency),
            readers_changed: Notify::new(),
        })
    }

    /// How urgent it is, now and later.
    pub(super) fn haste(&self) -> Haste {
        Haste::of(self.urgency.subscribe())
    }

    /// Somebody waits for it with this urgency; it never becomes less urgent.
    pub(super) fn hasten(&self, urgency: Urgency) {
        if urgency == Urgency::Awaited
            && self.urgency.send_replace(Urgency::Awaited) == Urgency::Background
            && let Some(place) = &self.look().place
        {
            place.leave_background();
        }
    }

    /// Takes a place for as long as the fill runs.
    pub(super) fn take_place(&self, place: Place) {
        let mut state = self.look();
        // It may have become urgent since the place was asked for; from here on `hasten` sees the place.
        if *self.urgency.borrow() == Urgency::Awaited {
            place.leave_background();
        }
        state.place = Some(place);
    }

    /// The state, to look at. Held for moments, never across an await.
    pub(super) fn look(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves counters and byte ranges that are still true.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far it is; `None` once it has ended.
    pub(super) fn running(&self) -> Option<Running> {
        let state = self.look();
        let size_bytes = state.head.as_ref().and_then(|head| head.representation.size);
        state.end.is_none().then(|| Running {
            key: self.key.clone(),
            arrived_bytes: state.chunks.arrived(),
            size_bytes,
            followers: state.readers.len() as u64,
            since: self.since,
        })
    }

    /// Changes the state and wakes everybody.
    pub(super) fn change<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        let result = self.grow(f);
        self.milestones.send_modify(|v| *v = v.wrapping_add(1));
        result
    }

    /// Adds bytes to a chunk, and wakes readers.
    pub(super) fn grow<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        let result = f(&mut self.look());
        self.version.send_modify(|v| *v = v.wrapping_add(1));
        result
    }

    pub(super) fn watch(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// As [`Flight::watch`], but not for each arrival of bytes.
    pub(super) fn watch_milestones(&self) -> watch::Receiver<u64> {
        self.milestones.subscribe()
    }

    /// Ends it, and gives its place to another.
    fn end(&self, end: Result<Landed, FillError>) {
        let place = self.change(|s| {
            s.end = Some(end.map_err(Arc::new));
            s.place.take()
        });
        drop(place);
    }

    /// Gives up the current attempt: every body that has sent a byte of it breaks, the others wait for the next.
    /// `warn` is called before any of them can notice, with the names under which bytes were sent.
    pub(super) fn next_attempt<R>(&self, warn: impl FnOnce(HashSet<EntryKey>) -> R) -> R {
        self.change(|s| {
            s.attempt += 1;
            s.head = None;
            s.chunks = Chunks::default();
            s.blob = None;
            s.beginning = false;
            warn(std::mem::take(&mut s.told))
        })
    }

    /// Lets go of memory that nobody needs any more.
    pub(super) fn trim(&self) {
        self.change(State::trim);
    }

    pub(super) fn has_readers(&self) -> bool {
        !self.look().readers.is_empty()
    }

    /// Registers somebody who waits, for a `part` of the file if that is known already; `None` when there are `most`
    /// already.
    pub(super) fn board(&self, most: usize, part: Option<(u64, u64)>) -> Option<u64> {
        let mut state = self.look();
        if state.readers.len() >= most {
            return None;
        }
        let id = state.next_reader;
        state.next_reader += 1;
        state.parts += u64::from(part.is_some());
        let reader = Reader { position: 0, end: None, waits: false, reads: false, part };
        state.readers.insert(id, reader);
        Some(id)
    }

    pub(super) fn leave(&self, id: u64) {
        self.look().readers.remove(&id);
        self.trim();
        self.readers_changed.notify_one();
    }

    pub(super) fn landing(self: &Arc<Self>) -> Landing {
        Landing(Some(Arc::clone(self)))
    }
}

impl State {
    /// What the readers want, those further in front first.
    pub(super) fn wanted(&self) -> Vec<Wanted> {
        let mut wanted: Vec<Wanted> = self.readers.values().map(Reader::wanted).collect();
        wanted.sort_by_key(|w| w.position);
        wanted
    }

    pub(super) fn trim(&mut self) {
        let first_needed = self.readers.values().map(|r| r.position).min();
        self.chunks.trim(self.keeps, first_needed.unwrap_or(u64::MAX));
    }
}

/// The duty to end a flight.
pub(super) struct Landing(Option<Arc<Flight>>);

impl Landing {
    pub(super) fn publish(mut self, end: Result<Landed, FillError>) {
        if let Some(flight) = self.0.take() {
            flight.end(end);
        }
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        if let Some(flight) = self.0.take() {
            flight.end(Err(FillError::Abandoned));
        }
    }
}

/// What a waiting request learns.
pub enum Settled {
    /// The file is whole and right.
    Landed(Landed),
    /// The file is on its way and this is what it will be.
    Coming(Arc<Expectation>),
}

/// A place in a flight: somebody who waits for the file, and does not read it yet.
pub struct Ticket {
    pub(super) flight: Arc<Flight>,
    pub(super) id: u64,
    /// The name under which the client asked.
    pub(super) asked: EntryKey,
    /// `Miss` for the request that began the fill, `Collapsed` for those that joined it.
    pub outcome: Outcome,
}

impl Ticket {
    /// Waits until it is known what the file is.
    ///
    /// # Errors
    /// How the fill failed.
    pub async fn head(&self) -> Result<Settled, Arc<FillError>> {
        let mut version = self.flight.watch();
        loop {
            version.borrow_and_update();
            if let Some(settled) = self.settled(true)? {
                return Ok(settled);
            }
            version.changed().await.map_err(|_| Arc::new(FillError::Abandoned))?;
        }
    }

    /// Waits for the verdict.
    ///
    /// # Errors
    /// How the fill failed.
    pub async fn verdict(&self) -> Result<Settled, Arc<FillError>> {
        let mut version = self.flight.watch();
        loop {
            version.borrow_and_update();
            if let Some(settled) = self.settled(false)? {
                return Ok(settled);
            }
            version.changed().await.map_err(|_| Arc::new(FillError::Abandoned))?;
        }
    }

    fn settled(&self, head_suffices: bool) -> Result<Option<Settled>, Arc<FillError>> {
        let state = self.flight.look();
        match (&state.end, &state.head) {
            (Some(Err(e)), _) => Err(Arc::clone(e)),
            // The bytes of a file that was not kept are gone for whoever has not read them.
            (Some(Ok(Landed::Unstored)), _) => Err(Arc::new(FillError::NoSpace)),
            (Some(Ok(landed)), _) => Ok(Some(Settled::Landed(landed.clone()))),
            (None, _) if !head_suffices && !state.keeps => Err(Arc::new(FillError::NoSpace)),
            (None, Some(head)) if head_suffices => Ok(Some(Settled::Coming(Arc::clone(head)))),
            (None, _) => Ok(None),
        }
    }

    /// Whether the file is on its way to the store.
    pub fn keeps(&self) -> bool {
        self.flight.look().keeps
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.flight.leave(self.id);
    }
}
