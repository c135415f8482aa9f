//! The task that downloads, verifies and stores one file.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use super::arrival::{Arrival, Opened};
use super::asker::Asker;
use super::chunks::Chunks;
use super::flight::{Flight, Landed};
use super::lane::differs;
use super::schedule::{self, Rules, Stretch};
use super::{Cache, Fetcher, FillError};
use crate::model::{Entry, EntryKey, Expectation, Hub, Openness, Resource, Standing, Timestamp};
use crate::store::{CHUNK, CommitError, PartialRecord, Room, StoreError};
use crate::upstream::{Answer, Failure, Want};
use crate::verify::{self, Digests, Flaw, Verdict};
use futures_util::future::BoxFuture;
use http::StatusCode;

/// How often wrong bytes are fetched: once, and once more from scratch.
const WRONG_ATTEMPTS: u32 = 2;
/// How often a file may change under its fill.
const CHANGED_ATTEMPTS: u32 = 4;
/// How often a file is asked for before its first byte.
const FIRST_TRIES: u32 = 3;
/// How an attempt ended.
pub(super) enum Attempt {
    /// Well.
    Landed(Landed),
    /// The bytes cannot be right.
    Wrong(Flaw),
    /// The hub's file is no longer the one begun.
    Changed,
}

/// One fill: what it fetches, for whom, with what.
pub(super) struct Fill {
    pub(super) fetcher: Arc<Fetcher>,
    pub(super) cache: Arc<Cache>,
    pub(super) flight: Arc<Flight>,
    pub(super) resource: Resource,
    pub(super) asker: Asker,
    pub(super) key: EntryKey,
}

/// Starts the fill of a flight.
pub(super) fn spawn(fetcher: Arc<Fetcher>, flight: Arc<Flight>, resource: Resource, asker: Asker) {
    let landing = flight.landing();
    let key = flight.key.clone();
    let cache = Arc::clone(&fetcher.cache);
    let fill = Fill { fetcher, cache, flight, resource, asker, key };
    tokio::spawn(async move {
        let began = Instant::now();
        let end = fill.placed().await;
        fill.report(&end, began);
        let is_for_everybody = fill.asker.is_for_everybody();
        if let (Err(FillError::Upstream(failure)), true) = (&end, is_for_everybody) {
            fill.cache.note_refusal(&fill.resource, failure).await;
            fill.cache.note_withdrawal(&fill.resource, failure).await;
        }
        if let (Err(FillError::Upstream(failure)), Asker::Caller(credential, _)) = (&end, &fill.asker)
            && failure.is_denied()
        {
            fill.cache.forget_grant(credential, &fill.resource).await;
        }
        let promises = match &end {
            Ok(Landed::Stored(entry) | Landed::Linked(entry)) if is_for_everybody => entry.promises.clone(),
            _ => Vec::new(),
        };
        landing.publish(end);
        fill.flight.trim();
        let mut flights = fill.fetcher.flights();
        let place = (fill.asker.whose(), fill.key.clone());
        if flights.get(&place).is_some_and(|f| Arc::ptr_eq(f, &fill.flight)) {
            flights.remove(&place);
        }
        drop(flights);
        fill.fetcher.take_twins(&fill.resource, &promises);
    });
}

impl Fill {
    async fn placed(&self) -> Result<Landed, FillError> {
        let mut stopping = self.fetcher.stopping.subscribe();
        let haste = self.flight.haste();
        let place = tokio::select! {
            place = self.fetcher.places.enter(&haste) => place?,
            _ = stopping.wait_for(|stop| *stop) => return Err(FillError::Stopped),
        };
        self.flight.take_place(place);
        let _running = self.fetcher.telemetry.fetch_started();
        tokio::select! {
            end = self.attempts() => end,
            _ = stopping.wait_for(|stop| *stop) => Err(FillError::Stopped),
        }
    }

    async fn attempts(&self) -> Result<Landed, FillError> {
        let known = match &self.asker {
            Asker::Caller(_, said) => said.clone(),
            Asker::Anyone | Asker::Operator(_) => self.cache.known(&self.resource),
        };
        if let Some(known) = known
            && let Some(linked) = self.link(&known).await?
        {
            return Ok(linked);
        }
        let (mut wrong, mut changed) = (0, 0);
        loop {
            let last_error = match self.attempt(wrong + changed == 0).await? {
                Attempt::Landed(landed) => return Ok(landed),
                Attempt::Wrong(flaw) => {
                    self.fetcher.telemetry.verify_failed();
                    tracing::warn!(file = %self.resource, error = %flaw, "the hub sent wrong bytes");
                    wrong += 1;
                    let durable = self.give_up_attempt(true).await;
                    if wrong >= WRONG_ATTEMPTS || !durable {
                        return Err(FillError::Corrupt(flaw));
                    }
                    continue;
                }
                Attempt::Changed => {
                    tracing::info!(file = %self.resource, "the hub's file changed while it was fetched");
                    changed += 1;
                    let durable = self.give_up_attempt(false).await;
                    if changed >= CHANGED_ATTEMPTS || !durable { Some(FillError::Unsteady) } else { None }
                }
            };
            if let Some(error) = last_error {
                return Err(error);
            }
        }
    }

    /// Drops the bytes of an attempt. Bodies that have sent some of them break now; where that can set the resume
    /// trap, the mark is durable when this returns `true`.
    async fn give_up_attempt(&self, always_mark: bool) -> bool {
        // The mark stands in memory before a body breaks, since its client may be back at once.
        let marking = self.flight.next_attempt(|told| {
            let sets_trap = always_mark || !told.is_empty();
            sets_trap.then(|| self.mark(told))
        });
        self.cache.known.invalidate(&self.key);
        let durable = match marking {
            Some(marking) => marking.await,
            None => true,
        };
        if let Err(error) = self.cache.store.discard_partial(&self.key).await {
            tracing::warn!(%error, file = %self.resource, "an abandoned part cannot be removed yet");
        }
        durable
    }

    /// Marks the file under its own name and those that it was asked by: in memory at once, on disk when the future
    /// says so.
    fn mark(&self, mut names: HashSet<EntryKey>) -> impl Future<Output = bool> + Send + use<> {
        names.insert(self.key.clone());
        let until = Timestamp::now().plus(self.fetcher.mark_for());
        let marking = self.cache.store.set_marks(names.into_iter().collect(), until);
        let file = self.resource.clone();
        async move {
            let durable = marking.await;
            if let Err(error) = &durable {
                tracing::warn!(%error, %file, "the mark against resuming stands in memory only");
            }
            durable.is_ok()
        }
    }

    /// Gives the promised bytes this name, if they are held and verified under another.
    async fn link(&self, expected: &Expectation) -> Result<Option<Landed>, FillError> {
        if !self.keeps() {
            return Ok(None);
        }
        let store = &self.cache.store;
        let blob = match (expected.sha256(), expected.git_sha1()) {
            (Some(sha256), _) => Some(sha256),
            (None, Some(oid)) => store.sha256_of_git(&oid)?,
            (None, None) => None,
        };
        let Some(blob) = blob else { return Ok(None) };
        let Some(info) = store.blob(&blob)? else { return Ok(None) };
        if expected.representation.size.is_some_and(|size| size != info.size) {
            return Ok(None);
        }
        let now = Timestamp::now();
        let openness = self.openness(expected);
        let entry = Entry::of(expected, (blob, info.size), Standing::Verified, openness, now);
        match store.link(&self.key, entry, self.cache.roots.equivalents(self.key.hub)).await {
            Ok(entry) => Ok(Some(Landed::Linked(entry))),
            Err(CommitError::NoBlob) => Ok(None),
            Err(CommitError::Conflict { held, offered }) => Err(FillError::Conflict { held, offered }),
            Err(CommitError::Store(e)) => Err(e.into()),
        }
    }

    /// Who may read the file of which the hub said this to whoever asked for it.
    fn openness(&self, said: &Expectation) -> Openness {
        match &self.asker {
            Asker::Anyone => self.cache.openness_of_all(&self.resource, said.learned_at),
            Asker::Operator(_) => Openness::Shared,
            Asker::Caller(..) => Openness::Restricted,
        }
    }

    pub(super) fn keeps(&self) -> bool {
        self.flight.look().keeps
    }

    /// One attempt at the file, taking up what an earlier run stored if this is the first.
    async fn attempt(&self, first: bool) -> Result<Attempt, FillError> {
        let resumed = if first && self.keeps() { self.take_up().await } else { None };
        if let Some(PartialRecord { expectation: expected, .. }) = &resumed
            && self.flight.look().chunks.all_here()
        {
            // Everything was stored and only the verdict is missing.
            self.confirm().await?;
            let head = Arc::new(expected.clone());
            self.flight.change(|s| s.head = Some(Arc::clone(&head)));
            return self.arrive(head, None, true, None).await;
        }
        let validator = resumed.as_ref().and_then(|r| r.expectation.validator.clone());
        let opened = match self.open(validator).await {
            Ok(opened) => opened,
            Err(Failure::OutOfRange) if resumed.is_some() => return Ok(Attempt::Changed),
            Err(failure) => return Err(FillError::Upstream(failure)),
        };
        let answer = &opened.answer;
        if resumed.as_ref().is_some_and(|begun| differs(&begun.expectation, &answer.expectation)) {
            return Ok(Attempt::Changed);
        }
        let mut expected = answer.expectation.clone();
        self.add_known_promises(&mut expected);
        if let Some(flaw) = self.signed_size(&mut expected) {
            return Ok(Attempt::Wrong(flaw));
        }
        let limit = self.fetcher.upstream.settings().max_file_bytes;
        if expected.representation.size.is_some_and(|size| size > limit) {
            return Err(FillError::TooLarge { limit });
        }
        if verify::is_page(&self.resource.path, &expected) {
            return Ok(Attempt::Wrong(Flaw::Html));
        }
        let beginning = match resumed {
            Some(record) => {
                self.touch(record).await;
                None
            }
            None => {
                if let Some(linked) = self.link(&expected).await? {
                    return Ok(Attempt::Landed(linked));
                }
                self.begin(&expected).await
            }
        };
        let takes_ranges = answer.takes_ranges;
        // What is not kept is passed on from its first byte.
        let opened = (self.keeps() || opened.stretch.first == 0).then_some(opened);
        let head = Arc::new(expected);
        if self.asker.is_for_everybody() {
            self.cache.note_fill(&self.resource, &head);
        }
        self.flight.change(|s| s.head = Some(Arc::clone(&head)));
        self.arrive(head, opened, takes_ranges, beginning).await
    }

    /// Has the hub refuse what it no longer gives to everybody, although no byte is missing of it.
    async fn confirm(&self) -> Result<(), FillError> {
        if self.asker.is_restricted() || self.resource.hub != Hub::HuggingFace {
            return Ok(());
        }
        match self.fetcher.upstream.inquire(&self.resource, None).await {
            Err(failure) if failure.is_denied() => Err(FillError::Upstream(failure)),
            // What was public stays so while the hub does not answer.
            _ => Ok(()),
        }
    }

    /// Prepares the flight to go on where an earlier run stopped; the volume says where that is.
    async fn take_up(&self) -> Option<PartialRecord> {
        let (record, blob, present) = match self.cache.store.resume_partial(&self.key).await {
            Ok(found) => found?,
            Err(error) => {
                tracing::warn!(%error, file = %self.resource, "an unfinished file cannot be taken up");
                return None;
            }
        };
        if record.restricted != self.asker.is_restricted() {
            return None;
        }
        // Without a size nothing says which chunk is the last.
        let size = record.expectation.representation.size?;
        self.flight.change(|s| {
            s.chunks = Chunks::resumed(size, &present);
            s.blob = Some(blob);
        });
        Some(record)
    }

    /// Notes that an unfinished file goes on, so that it expires counted from now.
    async fn touch(&self, record: PartialRecord) {
        let record = PartialRecord { touched_at: Timestamp::now(), ..record };
        if let Err(error) = self.cache.store.update_partial(&self.key, record).await {
            tracing::warn!(%error, file = %self.resource, "that an unfinished file goes on cannot be stored");
        }
    }

    /// Makes room in the store; without it the file is fetched for those who follow now, and not kept. Its place is on
    /// disk when the future that is returned has ended; bytes may arrive and be sent meanwhile.
    async fn begin(&self, expected: &Expectation) -> Option<BoxFuture<'_, ()>> {
        let size = expected.representation.size;
        let room = match self.keeps() {
            true => self.cache.store.room(size).await.inspect_err(|error| self.no_longer_kept(error)).ok(),
            false => None,
        };
        self.flight.change(|s| {
            s.chunks = Chunks::new(size);
            s.blob = None;
            s.beginning = room.is_some();
        });
        let now = Timestamp::now();
        let restricted = self.asker.is_restricted();
        let expectation = expected.clone();
        let record = PartialRecord { expectation, started_at: now, touched_at: now, restricted };
        Some(Box::pin(self.begin_in(room?, record)))
    }

    async fn begin_in(&self, room: Room, record: PartialRecord) {
        let begun = self.cache.store.begin_in(room, &self.key, record).await;
        let blob = begun.inspect_err(|error| self.no_longer_kept(error)).ok();
        self.flight.change(|s| {
            s.blob = blob;
            s.beginning = false;
        });
    }

    pub(super) fn no_longer_kept(&self, error: &StoreError) {
        if self.flight.change(|s| std::mem::replace(&mut s.keeps, false)) {
            tracing::warn!(%error, file = %self.resource, "the file is passed on without being kept");
        }
    }

    /// How many chunks behind a lane a reader waits until the lane is there.
    pub(super) fn far(&self) -> u32 {
        u32::try_from(self.fetcher.settings.far_ahead_bytes / CHUNK as u64).unwrap_or(u32::MAX)
    }

    /// The first request for the file: for all of it, for the part that is wanted of it, or for what is missing.
    async fn open(&self, validator: Option<String>) -> Result<Opened, Failure> {
        let (stretch, missing, fresh) = {
            let state = self.flight.look();
            let far = self.far();
            let rules = Rules {
                most_lanes: self.fetcher.settings.lanes,
                takes_ranges: state.keeps,
                far,
                stride: (state.parts > 0).then_some(far.max(1)),
                piece: None,
            };
            let (first, stop) = state.chunks.gap(0).unwrap_or((0, None));
            let missing = Stretch { first, stop };
            let stretch = schedule::next(&state.chunks, &[], &state.wanted(), &rules);
            (stretch.unwrap_or(missing), missing, state.chunks.size.is_none())
        };
        let answer = match self.ask_first(stretch, validator).await {
            // The part lies outside of the file, whose size the whole tells; so it does of a part without one.
            Err(Failure::OutOfRange) if fresh && stretch != Stretch::WHOLE => None,
            Ok(answer) if answer.end.is_some() && answer.expectation.representation.size.is_none() => None,
            answered => Some(answered?),
        };
        let (answer, stretch) = match answer {
            Some(answer) => (answer, stretch),
            None => (self.ask_first(Stretch::WHOLE, None).await?, Stretch::WHOLE),
        };
        // A hub that ignores ranges sends all of the file.
        let stretch = if answer.end.is_none() { missing.and_on() } else { stretch };
        Ok(Opened { answer, stretch })
    }

    async fn ask_first(&self, stretch: Stretch, validator: Option<String>) -> Result<Answer, Failure> {
        let (start, end) = stretch.bytes();
        let want = Want { start, end, validator, haste: self.flight.haste() };
        let settings = self.fetcher.upstream.settings();
        let mut tried = 0;
        loop {
            let asked = self.fetcher.upstream.fetch(&self.resource, &want, self.asker.credential()).await;
            let failure = match asked {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            tried += 1;
            if tried >= FIRST_TRIES || !may_pass(&failure) {
                return Err(failure);
            }
            tracing::debug!(file = %self.resource, error = %failure, "asking the hub once more");
            tokio::time::sleep(settings.wait(tried - 1, failure.retry_after())).await;
        }
    }

    /// What an earlier HEAD, the list of the commit's files, or the revision itself promised of the same immutable file
    /// is held against it too.
    fn add_known_promises(&self, expected: &mut Expectation) {
        if !self.resource.revision.is_immutable() {
            return;
        }
        let known = self.cache.known(&self.resource);
        let listed = self.cache.listed(&self.resource);
        let own = self.resource.own_promise();
        for promise in known.iter().flat_map(|known| &known.promises).chain(&listed).chain(&own) {
            if !expected.promises.iter().any(|p| p.digest == promise.digest) {
                expected.promises.push(*promise);
            }
        }
    }

    /// The size that a signed record says holds where the hub says none; where it says another, the file is wrong.
    fn signed_size(&self, expected: &mut Expectation) -> Option<Flaw> {
        self.resource.own_promise()?;
        let promised = self.cache.known(&self.resource)?.representation.size?;
        let found = *expected.representation.size.get_or_insert(promised);
        (found != promised).then_some(Flaw::Length { promised, found })
    }

    /// Runs lanes until every byte is here, hashed and durable, then judges.
    async fn arrive(
        &self,
        head: Arc<Expectation>,
        opened: Option<Opened>,
        takes_ranges: bool,
        beginning: Option<BoxFuture<'_, ()>>,
    ) -> Result<Attempt, FillError> {
        let arrival = Arrival::new(self, Arc::clone(&head), takes_ranges, beginning);
        let digests = match arrival.run(opened).await? {
            Ok(digests) => digests,
            Err(ended) => return Ok(ended),
        };
        match verify::judge(&self.resource.path, &head, &digests) {
            Verdict::Wrong(flaw) => Ok(Attempt::Wrong(flaw)),
            Verdict::Good(standing) => self.commit(&head, &digests, standing).await.map(Attempt::Landed),
        }
    }

    async fn commit(
        &self,
        head: &Expectation,
        digests: &Digests,
        standing: Standing,
    ) -> Result<Landed, FillError> {
        let blob = {
            let state = self.flight.look();
            state.blob.clone().filter(|_| state.keeps)
        };
        let Some(blob) = blob else { return Ok(Landed::Unstored) };
        let now = Timestamp::now();
        let bytes = (digests.sha256, digests.length);
        let entry = Entry::of(head, bytes, standing, self.openness(head), now);
        let equivalents = self.cache.roots.equivalents(self.key.hub);
        match self.cache.store.commit(&self.key, &blob, entry, equivalents).await {
            Ok(entry) => Ok(Landed::Stored(entry)),
            Err(CommitError::Conflict { held, offered }) => {
                if let Err(error) = self.cache.store.discard_partial(&self.key).await {
                    tracing::warn!(%error, file = %self.resource, "refused bytes cannot be removed yet");
                }
                let marking = self.flight.change(|s| self.mark(std::mem::take(&mut s.told)));
                marking.await;
                Err(FillError::Conflict { held, offered })
            }
            // The bytes are right all the same.
            Err(CommitError::NoBlob) => Ok(Landed::Unstored),
            Err(CommitError::Store(error)) => {
                self.no_longer_kept(&error);
                Ok(Landed::Unstored)
            }
        }
    }
}

/// Whether the same request may succeed a moment later: the content network refused (a signature that expired on the
/// way), the connection broke, or the hub had a passing fault and did not ask to be left alone.
fn may_pass(failure: &Failure) -> bool {
    match failure {
        Failure::Refused(r) if !r.at_hub => true,
        Failure::Refused(r) => {
            matches!(
                r.status,
                StatusCode::INTERNAL_SERVER_ERROR
                    | StatusCode::BAD_GATEWAY
                    | StatusCode::SERVICE_UNAVAILABLE
                    | StatusCode::GATEWAY_TIMEOUT
            ) && failure.retry_after().is_none()
        }
        Failure::Unreachable(_) | Failure::Shifted => true,
        _ => false,
    }
}
