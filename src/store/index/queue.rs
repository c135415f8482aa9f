//! The one thread that writes the index: changes that wait together are committed together.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::{Effects, Tables, begin};
use crate::store::around::Around;
use crate::store::error::{Failure, StoreError};
use crate::store::handle::Handle;
use crate::store::settings::{BATCH_CHANGES, QUEUE_CHANGES, USES_FLUSH};

/// A change of the index. It may run more than once (on a database opened anew, or again without its neighbours);
/// only the last run counts.
trait Change: Send {
    /// Checks, then modifies. A refusal is no failure: it is kept for `finish`, and nothing was modified.
    fn run(&mut self, tables: &mut Tables<'_>) -> Result<(), Failure>;

    /// Tells whoever waits.
    fn finish(self: Box<Self>, committed: Result<(), StoreError>);
}

struct Asked<F, T, E> {
    change: F,
    result: Option<Result<T, E>>,
    reply: oneshot::Sender<Result<T, E>>,
}

impl<F, T, E> Change for Asked<F, T, E>
where
    F: FnMut(&mut Tables<'_>) -> Result<Result<T, E>, Failure> + Send,
    T: Send,
    E: From<StoreError> + Send,
{
    fn run(&mut self, tables: &mut Tables<'_>) -> Result<(), Failure> {
        self.result = Some((self.change)(tables)?);
        Ok(())
    }

    fn finish(self: Box<Self>, committed: Result<(), StoreError>) {
        let result = match (committed, self.result) {
            (Ok(()), Some(result)) => result,
            (Ok(()), None) => Err(StoreError::Closed.into()),
            (Err(e), _) => Err(e.into()),
        };
        // Whoever asked may have gone away; the change stands all the same.
        let _ = self.reply.send(result);
    }
}

struct Untold<F>(F);

impl<F: FnMut(&mut Tables<'_>) -> Result<(), Failure> + Send> Change for Untold<F> {
    fn run(&mut self, tables: &mut Tables<'_>) -> Result<(), Failure> {
        (self.0)(tables)
    }

    fn finish(self: Box<Self>, committed: Result<(), StoreError>) {
        if let Err(e) = committed {
            tracing::debug!(error = %e, "a background change of the index failed and will be repeated");
        }
    }
}

enum Message {
    Change(Box<dyn Change>, Option<OwnedSemaphorePermit>),
    Close,
}

/// The way to the thread.
pub(in crate::store) struct IndexQueue {
    sender: Sender<Message>,
    waiting: Arc<Semaphore>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl IndexQueue {
    /// Starts the thread; `make` builds what it needs of the rest of the store.
    pub(in crate::store) fn start(
        index: Arc<Handle>,
        make: impl FnOnce(Notifier) -> Around,
    ) -> std::io::Result<Self> {
        let (sender, receiver) = channel();
        let around = make(Notifier(sender.clone()));
        let thread = thread::Builder::new()
            .name("hubcache-index".into())
            .spawn(move || Writer { index, receiver, around }.run())?;
        let waiting = Arc::new(Semaphore::new(QUEUE_CHANGES));
        Ok(Self { sender, waiting, thread: Mutex::new(Some(thread)) })
    }

    /// Makes a change and waits until it is on disk.
    pub(in crate::store) async fn change<T, E>(
        &self,
        change: impl FnMut(&mut Tables<'_>) -> Result<Result<T, E>, Failure> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let permit = self.waiting.clone().acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let (reply, answer) = oneshot::channel();
        let asked = Asked { change, result: None, reply };
        self.sender.send(Message::Change(Box::new(asked), Some(permit))).map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// The way for threads of the store: it never waits, because the index must not wait for them in turn.
    pub(in crate::store) fn notifier(&self) -> Notifier {
        Notifier(self.sender.clone())
    }

    /// Lets nobody new in; the thread ends once it has written what waits.
    pub(in crate::store) fn begin_close(&self) {
        self.waiting.close();
        let _ = self.sender.send(Message::Close);
    }

    /// As [`IndexQueue::begin_close`], and waits for the end of the thread.
    pub(in crate::store) fn close(&self) {
        self.begin_close();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

/// Hands the thread changes that nobody waits for.
#[derive(Clone)]
pub(in crate::store) struct Notifier(Sender<Message>);

impl Notifier {
    pub(in crate::store) fn change(
        &self,
        change: impl FnMut(&mut Tables<'_>) -> Result<(), Failure> + Send + 'static,
    ) {
        // After the end of the thread the change is lost; its cause is still in the index and is met again.
        let _ = self.0.send(Message::Change(Box::new(Untold(change)), None));
    }
}

struct Writer {
    index: Arc<Handle>,
    receiver: Receiver<Message>,
    around: Around,
}

type Batch = Vec<(Box<dyn Change>, Option<OwnedSemaphorePermit>)>;

impl Writer {
    fn run(self) {
        let mut due = Instant::now() + USES_FLUSH;
        let mut open = true;
        while open {
            let mut batch = Vec::new();
            match self.receiver.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(message) => open = self.collect(message, &mut batch),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => open = false,
            }
            if !open || Instant::now() >= due {
                due = Instant::now() + USES_FLUSH;
                batch.extend(
                    self.around
                        .uses
                        .flush()
                        .map(|change| -> (Box<dyn Change>, _) { (Box::new(Untold(change)), None) }),
                );
            }
            if !batch.is_empty() {
                self.write(batch);
            }
        }
    }

    /// Takes what waits; says whether to go on afterwards.
    fn collect(&self, first: Message, batch: &mut Batch) -> bool {
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Change(change, permit) => batch.push((change, permit)),
                Message::Close => {
                    // Sent before the semaphore closed, but queued after this message.
                    batch.extend(self.receiver.try_iter().filter_map(|message| match message {
                        Message::Change(change, permit) => Some((change, permit)),
                        Message::Close => None,
                    }));
                    return false;
                }
            }
            next = if batch.len() < BATCH_CHANGES { self.receiver.try_recv().ok() } else { None };
        }
        true
    }

    fn write(&self, mut batch: Batch) {
        match self.commit(&mut batch) {
            // One unreadable row must not fail the neighbours.
            Err(StoreError::Damaged(_)) if batch.len() > 1 => {
                for one in batch {
                    self.write(vec![one]);
                }
            }
            outcome => {
                for (change, _permit) in batch {
                    change.finish(outcome.clone());
                }
            }
        }
    }

    fn commit(&self, batch: &mut Batch) -> Result<(), StoreError> {
        let mut effects = Effects::default();
        let committed = self.index.run(|database| {
            let txn = begin(database)?;
            let mut tables = Tables::open(&txn)?;
            let ran = batch.iter_mut().try_for_each(|(change, _)| change.run(&mut tables));
            effects = std::mem::take(&mut tables.effects);
            drop(tables);
            match ran {
                Ok(()) => Ok(txn.commit()?),
                Err(e) => {
                    let _ = txn.abort();
                    Err(e)
                }
            }
        });
        match &committed {
            Ok(()) => self.around.committed(effects),
            Err(_) => {
                if let Err(e) = self.index.recover() {
                    tracing::error!(error = %e, "the index could not be opened again");
                }
                self.around.uncertain(effects);
            }
        }
        committed
    }
}
