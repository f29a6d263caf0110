//! Opening a storage for work that takes long. The decorators and their order are decided here, for everybody.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Storage;
use super::backend::Hold;
use super::backends;
use super::hinted::Hinted;
use super::in_flight::MOST_PARTS;
use super::retry::{Backoff, OnWait, Retrying};
use super::throttle::{Limiter, Throttled};
use crate::domain::storage::StorageConfig;
use crate::domain::text::escape;
use crate::error::{Error, ErrorKind, Result};

/// How long a folder may take to say that it is there.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// A storage to be opened. From the inside out: the backend, hints, the bandwidth limit, the repetition of calls. A call
/// that is repeated pays for its bytes again, as it sends them again.
pub struct Opener<'a> {
    config: &'a StorageConfig,
    hold: Hold,
    limiter: Option<Limiter>,
    parts: usize,
    backoff: Backoff,
    cancel: CancellationToken,
    on_wait: Option<OnWait>,
}

impl<'a> Opener<'a> {
    /// Calls are repeated by `backoff`, until `cancel` fires.
    pub fn new(config: &'a StorageConfig, backoff: Backoff, cancel: CancellationToken) -> Self {
        Self { config, hold: Hold::Open, limiter: None, parts: MOST_PARTS, backoff, cancel, on_wait: None }
    }

    /// See [`Hold::Nothing`].
    #[must_use]
    pub fn unheld(mut self) -> Self {
        self.hold = Hold::Nothing;
        self
    }

    #[must_use]
    pub fn limited(mut self, limiter: Limiter) -> Self {
        self.limiter = Some(limiter);
        self
    }

    /// So many parts are on their way at once at most.
    #[must_use]
    pub fn parallel_parts(mut self, most: usize) -> Self {
        self.parts = most;
        self
    }

    /// See [`Retrying::on_wait`].
    #[must_use]
    pub fn on_wait(mut self, on_wait: OnWait) -> Self {
        self.on_wait = Some(on_wait);
        self
    }

    /// Opens it. `stop` ends the question whether a folder is there.
    ///
    /// Errors: `Unreachable` at once for a folder that is not there: its disk is not back within seconds, so that each call
    /// should wait for it. `Cancelled`; what cannot be opened.
    pub async fn open(self, stop: &CancellationToken) -> Result<Arc<dyn Storage>> {
        let mut storage: Arc<dyn Storage> = Arc::new(Hinted::new(backends::open(self.config, self.hold).await?));
        if let Some(in_flight) = storage.in_flight() {
            in_flight.allow(self.parts);
        }
        is_there(storage.as_ref(), stop).await?;
        if let Some(limiter) = self.limiter {
            storage = Arc::new(Throttled::new(storage, limiter));
        }
        let mut retrying = Retrying::new(storage, self.backoff, self.cancel);
        if let Some(on_wait) = self.on_wait {
            retrying = retrying.on_wait(on_wait);
        }
        Ok(Arc::new(retrying))
    }
}

/// Opens the storage of `config` for a question or two of a person who waits: nothing is repeated. Contacts nothing: what
/// cannot be reached fails at the first call.
pub async fn open(config: &StorageConfig) -> Result<Arc<dyn Storage>> {
    Ok(Arc::new(Hinted::new(backends::open(config, Hold::Open).await?)))
}

/// Asks a storage that is a folder whether it is there, and waits for no disk that hangs.
///
/// Errors: what it reports; `Unreachable` when it does not answer, `Cancelled`.
async fn is_there(storage: &dyn Storage, stop: &CancellationToken) -> Result<()> {
    tokio::select! {
        biased;
        () = stop.cancelled() => Err(Error::cancelled()),
        space = storage.free_space() => space.map(drop),
        () = tokio::time::sleep(ANSWER_LIMIT) => {
            let what = format!("the storage folder {} is unreachable", escape(&storage.place()));
            Err(Error::new(ErrorKind::Unreachable, what).hint("is it on a network file system whose server is away?"))
        }
    }
}
