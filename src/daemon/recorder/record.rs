//! One slicer: follows its service until it is stopped, and writes what happens into the store.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::super::env::Env;
use super::{Order, missing};
use crate::control::storage_folder;
use crate::domain::clock;
use crate::domain::pitr::{Archive, Slice, SlicerState};
use crate::domain::timestamp::Timestamp;
use crate::engine::CONNECT_LIMIT;
use crate::engine::pitr::{Event, Following, follow};
use crate::error::{Error, ErrorKind, Result};
use crate::mongo::Server;
use crate::storage::retry::Backoff;
use crate::storage::throttle::Limiter;
use crate::storage::{Opener, Storage};
use crate::store::NeededBase;

/// Between two tries: doubled each time, and back to the first after a run that lasted.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
const LASTED: Duration = Duration::from_secs(60);
/// Events on their way to the store; a store that is slow slows the recording down.
const EVENTS: usize = 4;
/// A slice that the store does not take is noted again after this. It is in the storage already.
const STORE_PAUSE: Duration = Duration::from_secs(1);
/// A slice is tried again for as long as it takes; within one try only what a moment mends is, so that it is soon told that
/// the storage is away.
const BACKOFF: Backoff = Backoff {
    attempts: 4,
    first: Duration::from_millis(250),
    longest: Duration::from_secs(2),
    total: Duration::from_secs(30),
    after_cancel: Duration::from_secs(30),
};
/// How often it is looked whether a base that is needed was made, and asked for again if not.
const BASE_INTERVAL: Duration = Duration::from_secs(5);

pub async fn follow_service(
    env: Env,
    order: Order,
    slice_length: watch::Receiver<Duration>,
    read_back: watch::Receiver<bool>,
    limiter: Limiter,
    stop: CancellationToken,
) {
    let mut slicer = Slicer { env, order, slice_length, read_back, limiter, stored: None, replica_set_id: None };
    let mut pause = FIRST_PAUSE;
    while !stop.is_cancelled() {
        let began = Instant::now();
        let failed = match slicer.follow(&stop).await {
            Ok(()) => continue,
            Err(_) if stop.is_cancelled() => break,
            Err(e) => e,
        };
        warn!(service = slicer.order.wanted.service, "its oplog is not recorded: {failed}");
        slicer.note_state(false, Some(&failed)).await;
        if began.elapsed() > LASTED {
            pause = FIRST_PAUSE;
        }
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    slicer.note_state(false, None).await;
}

struct Slicer {
    env: Env,
    order: Order,
    slice_length: watch::Receiver<Duration>,
    read_back: watch::Receiver<bool>,
    limiter: Limiter,
    stored: Option<Timestamp>,
    /// Of the oplog that is followed.
    replica_set_id: Option<String>,
}

/// What is known before following begins.
struct Known {
    newest: Vec<(Archive, Slice)>,
    bases: Vec<(Option<String>, Timestamp)>,
}

impl Slicer {
    async fn follow(&mut self, stop: &CancellationToken) -> Result<()> {
        let known = self.known().await?;
        self.stored = known.newest.iter().map(|(_, slice)| slice.last.ts).max();
        let storage = self.storage(stop).await?;
        let connecting = Server::connect(&self.order.wanted.service, &self.order.service.uri, CONNECT_LIMIT);
        let server = tokio::select! {
            server = connecting => server?,
            () = stop.cancelled() => return Ok(()),
        };
        let request = Following {
            service: self.order.wanted.service.clone(),
            home_id: self.env.home_id.clone(),
            storage: self.order.wanted.storage.clone(),
            folder: self.order.wanted.folder.clone(),
            known: known.newest,
            bases: known.bases,
            encryption: self.order.storage.config.encryption(&self.order.storage.name)?,
            slice_length: self.slice_length.clone(),
            read_back: self.read_back.clone(),
        };
        let (sender, mut events) = mpsc::channel(EVENTS);
        let missing = missing::look_for_missing(self.env.clone(), storage.clone(), self.order.wanted.clone());
        let following = follow(stop, storage, &server, &request, sender);
        let hearing = async {
            let mut due = tokio::time::interval(BASE_INTERVAL);
            due.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    event = events.recv() => match event {
                        Some(event) => self.hear(event, stop).await,
                        None => break,
                    },
                    _ = due.tick() => self.ask_for_base().await,
                }
            }
        };
        tokio::select! {
            (outcome, ()) = async { tokio::join!(following, hearing) } => outcome,
            never = missing => match never {},
        }
    }

    async fn known(&self) -> Result<Known> {
        let wanted = self.order.wanted.clone();
        let known = self.env.store.with(move |store| {
            let newest = store.recorded_into(&wanted)?;
            Ok(Known { newest, bases: store.newest_bases(&wanted.service)? })
        });
        known.await
    }

    async fn storage(&self, stop: &CancellationToken) -> Result<Arc<dyn Storage>> {
        let name = self.order.storage.name.clone();
        // With its last test, which says whether the folder has been there before.
        self.env.store.with(move |store| storage_folder::claim(store, &store.storage(&name)?)).await?;
        // Not the slicer's own token: what it holds when it is stopped is still stored.
        let opener = Opener::new(&self.order.storage.config, BACKOFF, CancellationToken::new());
        opener.unheld().limited(self.limiter.clone()).open(stop).await
    }

    async fn hear(&mut self, event: Event, stop: &CancellationToken) {
        let service = self.order.wanted.service.as_str();
        match event {
            Event::Began { archive, member, after, state } => {
                info!(service, member, folder = archive.folder, "following the oplog of {state}");
                self.other_set(&archive.replica_set_id, after).await;
                self.replica_set_id = Some(archive.replica_set_id);
                self.note_state(true, None).await;
            }
            Event::Stored { archive, slice } => self.note_slice(archive, *slice, stop).await,
            Event::StorageAway(e) => {
                warn!(service, "a slice cannot be stored, trying again: {e}");
                self.note_state(true, Some(&e)).await;
            }
            Event::StorageBack => {
                info!(service, "the storage takes slices again");
                self.note_state(true, None).await;
            }
            Event::Stalled(e) => {
                warn!(service, "nothing new is recorded: {e}");
                self.note_state(true, Some(&e)).await;
            }
            Event::Moving => {
                info!(service, "the member that is recorded gets on again");
                self.note_state(true, None).await;
            }
            Event::Warning(text) => warn!(service, "{text}"),
        }
    }

    /// What was recorded or backed up of another replica set leads nowhere here: this one needs a base of its own.
    async fn other_set(&self, replica_set_id: &str, after: Timestamp) {
        match self.env.store.other_set(&self.order.wanted.service, replica_set_id, after).await {
            Ok(false) => {}
            Ok(true) => warn!(
                service = self.order.wanted.service,
                replica_set_id, "it is another replica set than before, and needs a base of its own"
            ),
            Err(e) => warn!(service = self.order.wanted.service, "whether a base is needed is not known: {e}"),
        }
    }

    async fn note_slice(&mut self, archive: Archive, slice: Slice, stop: &CancellationToken) {
        let service = self.order.wanted.service.clone();
        debug!(service, from = %slice.after.ts, to = %slice.last.ts, entries = slice.entries, bytes = slice.size, "stored");
        if let Some(gap) = &slice.gap {
            warn!(service, "a gap from {} to {}: {}", gap.from_ts, gap.to_ts, gap.reason);
        }
        self.stored = self.stored.max(Some(slice.last.ts));
        loop {
            match self.env.store.slice_recorded(&service, &archive, &slice).await {
                Ok(true) => break,
                Ok(false) => return,
                // Service or storage were removed meanwhile.
                Err(e) if e.kind() == ErrorKind::NotFound => return warn!("a slice is not noted: {e}"),
                // Without it the next base would be missing from what can be recovered: it is worth waiting for.
                Err(e) if !stop.is_cancelled() => {
                    warn!("a slice could not be noted, trying again: {e}");
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = tokio::time::sleep(STORE_PAUSE) => {}
                    }
                }
                Err(e) => return warn!("a slice could not be noted; it is found at the next start: {e}"),
            }
        }
        self.ask_for_base().await;
    }

    /// What comes after a gap or a restore needs a base of its own, and is asked for until there is one.
    async fn ask_for_base(&self) {
        let Some(replica_set_id) = self.replica_set_id.clone() else { return };
        let settings = self.env.settings.clone();
        let service = self.order.wanted.service.clone();
        let asked = self.env.store.with(move |store| {
            let Some(after) = store.base_needed(&service)? else { return Ok(None) };
            let compression = settings.settings().compression();
            let made = store.queue_needed_base(&service, &replica_set_id, compression, clock::now())?;
            Ok(Some((after, made)))
        });
        let service = self.order.wanted.service.as_str();
        match asked.await {
            Ok(Some((after, NeededBase::Queued(job)))) => {
                info!(service, job = job.id, %after, "a base is queued: what was recorded after a gap or restore needs one");
            }
            Ok(Some((after, NeededBase::Met))) => info!(service, %after, "there is a base after the gap or restore"),
            Ok(Some((_, NeededBase::Waits)) | None) => {}
            Err(e) => warn!(service, "a base that is needed could not be queued: {e}"),
        }
    }

    async fn note_state(&self, running: bool, error: Option<&Error>) {
        let state = SlicerState {
            running,
            stored: self.stored,
            error: error.map(ToString::to_string),
            hint: error.and_then(|e| e.hint_text().map(str::to_owned)),
            held: error.is_some_and(|e| e.kind() == ErrorKind::Conflict),
            at: clock::now(),
        };
        if let Err(e) = self.env.store.set_slicer_state(&self.order.wanted.service, &state).await {
            warn!("the state of a slicer: {e}");
        }
    }
}
