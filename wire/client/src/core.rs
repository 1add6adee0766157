//! The core under both faces: picks the session, runs an operation, reconnects when it must.
//!
//! ```text
//!   call ─▶ session()? ─ alive ─▶ local or remote transport
//!              │ gone
//!              └─ back-off over? one caller tries to connect, within its own deadline;
//!                 everybody else: reads are misses, writes are `Restarting`
//! ```
//! No thread of its own. An old session's mappings stay until its last view is gone.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use chariot_proto::{Opcode, Status};
use chariot_shm::{ForkGuard, clock};

use crate::backoff::Backoff;
use crate::client::{Client, Place};
use crate::error::Error;
use crate::local::LocalSession;
use crate::mode::Mode;
use crate::options::{ConnectOptions, GetOptions, SetOptions, Version, whole_ms};
use crate::remote::RemoteSession;
use crate::sink::Sink;
use crate::stats::{ClientStats, Counters};
use crate::transport::{self, Link};
use crate::view::View;
use crate::write_buffer::WriteBuffer;

/// A question about keys whose answer is a number or a miss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    Exist,
    Size,
    Delete,
    /// New life in milliseconds; 0 for ever.
    Expire(u64),
}

impl Question {
    /// # Errors
    ///
    /// `InvalidArgument` for a life of zero, which would read as "for ever" on the wire.
    pub(crate) fn expire(ttl: Option<Duration>) -> Result<Self, Error> {
        match ttl {
            None => Ok(Self::Expire(0)),
            Some(ttl) if ttl.is_zero() => Err(Error::new(
                Status::InvalidArgument,
                "a life of zero: delete the key instead",
            )),
            Some(ttl) => Ok(Self::Expire(whole_ms(ttl))),
        }
    }

    pub(crate) fn opcode(self) -> Opcode {
        match self {
            Self::Exist => Opcode::Exist,
            Self::Size => Opcode::Size,
            Self::Delete => Opcode::Delete,
            Self::Expire(_) => Opcode::Expire,
        }
    }

    /// Whether a daemon that is away makes it an error rather than a miss.
    pub(crate) fn is_write(self) -> bool {
        matches!(self, Self::Delete | Self::Expire(_))
    }
}

/// The state behind all clones of a client.
#[derive(Debug)]
pub(crate) struct Core {
    options: ConnectOptions,
    link: RwLock<Link>,
    backoff: Mutex<Backoff>,
    fork: ForkGuard,
    counters: Arc<Counters>,
}

impl Core {
    pub(crate) fn connect(options: ConnectOptions) -> Result<Self, Error> {
        transport::check_options(&options)?;
        let fork = ForkGuard::here().map_err(|error| {
            Error::new(Status::Internal, "the kernel cannot mark memory for forks")
                .with_source(error)
        })?;
        let counters = Arc::default();
        let link = transport::connect(&options, &counters)?;
        Ok(Self {
            link: RwLock::new(link),
            backoff: Mutex::new(Backoff::new(clock::monotonic_ns())),
            options,
            fork,
            counters,
        })
    }

    pub(crate) fn options(&self) -> &ConnectOptions {
        &self.options
    }

    pub(crate) fn place(&self) -> Place {
        match &*self.link.read().unwrap_or_else(PoisonError::into_inner) {
            Link::Local(session) if session.is_alive() => Place::SharedMemory,
            Link::Remote(session) if session.is_alive() => Place::Tcp,
            Link::Local(_) | Link::Remote(_) => Place::Away,
        }
    }

    pub(crate) fn stats(&self) -> ClientStats {
        self.counters.sum()
    }

    /// The session to use now.
    ///
    /// # Errors
    ///
    /// `Restarting` while there is none; `Expelled` once this client was; `InvalidArgument` in a
    /// forked child.
    pub(crate) fn link(&self) -> Result<Link, Error> {
        if !self.fork.is_same_process() {
            return Err(Error::forked());
        }
        let link = self
            .link
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if link.is_alive() {
            Ok(link)
        } else if link.is_expelled() {
            // Not for this client to undo: its owner closes it, or is told by the operator why.
            Err(Error::from_status(Status::Expelled))
        } else {
            self.reconnect()
        }
    }

    /// What the index of a local session says about one key, without the machinery of a call that
    /// may have to wait and without a hold on the session. `None`: the whole call is needed.
    #[inline]
    fn here<T>(
        &self,
        ask: impl FnOnce(&Arc<LocalSession>) -> Option<Result<Option<T>, Error>>,
    ) -> Option<Result<Option<T>, Error>> {
        if !self.fork.is_same_process() {
            return None;
        }
        let link = self.link.read().unwrap_or_else(PoisonError::into_inner);
        let Link::Local(session) = &*link else {
            return None;
        };
        let answer = ask(session)?;
        drop(link);
        if let Ok(found) = &answer {
            let hits = u64::from(found.is_some());
            self.counters.add(hits, 1 - hits);
        }
        Some(answer)
    }

    #[inline]
    pub(crate) fn read_here(
        &self,
        key: &[u8],
        options: &GetOptions,
        sink: &mut dyn Sink,
    ) -> Option<Result<Option<usize>, Error>> {
        self.here(|session| session.read_here(key, options, sink))
    }

    #[inline]
    pub(crate) fn view_here(
        &self,
        key: &[u8],
        options: &GetOptions,
    ) -> Option<Result<Option<View>, Error>> {
        self.here(|session| session.view_here(key, options))
    }

    #[inline]
    pub(crate) fn ask_here(
        &self,
        question: Question,
        key: &[u8],
    ) -> Option<Result<Option<u64>, Error>> {
        match question {
            Question::Exist | Question::Size => self.here(|session| session.ask_here(key)),
            Question::Delete | Question::Expire(_) => None,
        }
    }

    #[cold]
    fn reconnect(&self) -> Result<Link, Error> {
        // One caller at a time; the others do not wait for it.
        let Ok(mut backoff) = self.backoff.try_lock() else {
            return Err(Error::restarting());
        };
        let current = self
            .link
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if current.is_alive() {
            return Ok(current);
        }
        if !backoff.may_try(clock::monotonic_ns()) {
            return Err(Error::restarting());
        }
        match transport::connect(&self.options, &self.counters) {
            Ok(link) => {
                backoff.succeeded();
                *self.link.write().unwrap_or_else(PoisonError::into_inner) = link.clone();
                Ok(link)
            },
            Err(error) => {
                backoff.failed(clock::monotonic_ns());
                Err(as_restarting(error))
            },
        }
    }

    pub(crate) async fn write(
        &self,
        mode: Mode,
        items: &[(&[u8], &[u8])],
        options: &SetOptions,
        out: &mut [Result<Version, Error>],
    ) {
        if items.is_empty() {
            return;
        }
        match self.link() {
            Ok(Link::Local(session)) => session.write(mode, items, options, out).await,
            Ok(Link::Remote(session)) => session.write(items, options, out),
            Err(error) => out.fill(Err(error)),
        }
    }

    pub(crate) async fn create(
        &self,
        mode: Mode,
        client: &Client,
        key: &[u8],
        len: usize,
        options: &SetOptions,
    ) -> Result<WriteBuffer, Error> {
        match self.link()? {
            Link::Local(session) => {
                let bytes = session.create(mode, key, len as u64, options).await?;
                Ok(WriteBuffer::leased(
                    client.clone(),
                    key,
                    options.clone(),
                    bytes,
                ))
            },
            Link::Remote(session) => {
                session.check_write(key, len as u64)?;
                WriteBuffer::owned(client.clone(), key, options.clone(), len)
            },
        }
    }

    pub(crate) async fn read(
        &self,
        mode: Mode,
        keys: &[&[u8]],
        options: &GetOptions,
        sink: &mut dyn Sink,
        out: &mut [Result<Option<usize>, Error>],
    ) {
        if keys.is_empty() {
            return;
        }
        match self.link() {
            Ok(Link::Local(session)) => session.read(mode, keys, options, sink, out).await,
            Ok(Link::Remote(session)) => session.read(keys, options, sink, out),
            Err(error) => out.fill(Err(error)),
        }
        miss_while_away(out);
        self.counters.count(out);
    }

    pub(crate) async fn view(
        &self,
        mode: Mode,
        keys: &[&[u8]],
        options: &GetOptions,
        out: &mut [Result<Option<View>, Error>],
    ) {
        if keys.is_empty() {
            return;
        }
        match self.link() {
            Ok(Link::Local(session)) => session.view(mode, keys, options, out).await,
            Ok(Link::Remote(session)) => session.view(keys, options, out),
            Err(error) => out.fill_with(|| Err(error.clone())),
        }
        miss_while_away(out);
        self.counters.count(out);
    }

    pub(crate) async fn ask(
        &self,
        mode: Mode,
        question: Question,
        keys: &[&[u8]],
        out: &mut [Result<Option<u64>, Error>],
    ) {
        if keys.is_empty() {
            return;
        }
        match self.link() {
            Ok(Link::Local(session)) => session.ask(mode, question, keys, out).await,
            Ok(Link::Remote(session)) => session.ask(question, keys, out),
            Err(error) => out.fill(Err(error)),
        }
        if !question.is_write() {
            miss_while_away(out);
            self.counters.count(out);
        }
    }

    pub(crate) async fn prefix(&self, mode: Mode, keys: &[&[u8]]) -> Result<usize, Error> {
        let limit = chariot_proto::limits::EXIST_BATCH_MAX as usize;
        if keys.len() > limit {
            return Err(Error::new(
                Status::TooLarge,
                format!("{} keys, a prefix takes {limit}", keys.len()),
            ));
        }
        let counted = match self.link() {
            _ if keys.is_empty() => Ok(0),
            Ok(Link::Local(session)) => session.prefix(mode, keys).await,
            Ok(Link::Remote(session)) => session.prefix(keys),
            Err(error) => Err(error),
        };
        let counted = match counted {
            Err(error) if error.status() == Status::Restarting => Ok(0),
            other => other,
        };
        if let Ok(found) = counted {
            self.counters
                .add(found as u64, u64::from(found < keys.len()));
        }
        counted
    }
}

/// Turns what a daemon that is away answers into misses: a reader must not care.
fn miss_while_away<T>(out: &mut [Result<Option<T>, Error>]) {
    for result in out {
        if matches!(result, Err(error) if error.status() == Status::Restarting) {
            *result = Ok(None);
        }
    }
}

/// While reconnecting, a daemon that answers strangely or not at all is one that restarts; only
/// what the caller must correct is passed on.
fn as_restarting(error: Error) -> Error {
    match error.status() {
        Status::NotAuthorized | Status::VersionMismatch | Status::Expelled | Status::Busy => error,
        _ => Error::restarting(),
    }
}

/// The sessions that a link may hold.
pub(crate) type Local = Arc<LocalSession>;
/// See [`Local`].
pub(crate) type Remote = Arc<RemoteSession>;
