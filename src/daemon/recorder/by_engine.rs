//! A service whose engine records the oplog by itself: it is kept switched on, and what it has goes into the store.
//!
//! After a restore the engine records nothing. It is switched on again when there is a base that was made after it, and not
//! before: what it recorded until then would lead from nothing.

use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::super::env::Env;
use super::Order;
use crate::control::engine_notes::surroundings;
use crate::domain::backup::Model;
use crate::domain::clock;
use crate::domain::pitr::{Archive, BEGIN_LIMIT, SlicerState};
use crate::domain::service::EngineKind;
use crate::domain::text::utc;
use crate::domain::timestamp::Timestamp;
use crate::engine::recording::{OwnRecording, RecordingOrder, RecordingState};
use crate::engine::{Context, engine};
use crate::error::{Error, ErrorKind, Result};
use crate::store::{NeededBase, blocking};

/// How often it is asked how it does: half of a slice, within these.
const SHORTEST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How often it is looked for a base that the engine may wait for.
const BASE_POLL: Duration = Duration::from_secs(2);

/// Keeps the engine of a service recording until `stop`, which does not switch it off: the next daemon goes on.
pub async fn keep_on(env: Env, order: Order, mut slice_length: watch::Receiver<Duration>, stop: CancellationToken) {
    let mut keeper = Keeper { env, order, told: Some(String::new()), runs: false, base: None, begins_since: None };
    loop {
        let length = *slice_length.borrow_and_update();
        tokio::select! {
            () = keeper.look_after(length, &stop) => {}
            () = stop.cancelled() => break,
        }
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(keeper.pause(length)) => {}
            () = keeper.until_base() => {}
            _ = slice_length.changed() => {}
        }
    }
    keeper.note_state(false, None, None).await;
}

/// Switches the engine off, however often that has to be tried.
pub async fn switch_off(env: Env, order: Order, stop: CancellationToken) {
    let service = order.wanted.service.clone();
    while !stop.is_cancelled() {
        let switched = async {
            let (recording, _) = recording_of(&order)?;
            recording.switch_off(&context(&env, &stop).await?, &order.service).await
        };
        let over = match switched.await {
            Ok(true) => {
                info!(service, "its engine records its oplog no longer");
                true
            }
            Ok(false) => true,
            Err(_) if stop.is_cancelled() => return,
            Err(e) => {
                let hint = e.hint_text().unwrap_or_default();
                warn!(service, hint, "its engine is not switched off: {}", e.full());
                // Somebody else decides about it now.
                e.kind() == ErrorKind::Conflict
            }
        };
        if over {
            match env.store.engine_switched_off(&service).await {
                Ok(()) => return,
                Err(e) => warn!(service, "that its engine is off could not be noted: {e}"),
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LONGEST_PAUSE) => {}
        }
    }
}

/// The engine that records. One that was switched on stays that one, whatever the service uses by now.
fn recording_of(order: &Order) -> Result<(&'static dyn OwnRecording, EngineKind)> {
    let kinds = [order.service.engine, EngineKind::Pbm];
    for kind in kinds {
        if let Some(recording) = engine(kind, Model::Logical)?.recording() {
            return Ok((recording, kind));
        }
    }
    Err(Error::new(ErrorKind::Internal, "no engine records by itself"))
}

async fn context(env: &Env, stop: &CancellationToken) -> Result<Context> {
    let last_good = env.settings.clone();
    // Those that cannot be read are no reason to lose a part of the oplog.
    let settings = blocking(move || Ok(last_good.settings())).await?;
    Ok(Context { cancel: stop.clone(), around: surroundings(&env.store, &settings, None), ..Context::default() })
}

struct Keeper {
    env: Env,
    order: Order,
    /// What was logged last, so that it is logged once.
    told: Option<String>,
    /// It recorded at the last look.
    runs: bool,
    /// The newest base before that.
    base: Option<String>,
    /// Since when nothing has kept the engine from beginning, which it has not.
    begins_since: Option<Instant>,
}

impl Keeper {
    fn is_beginning(&self) -> bool {
        self.begins_since.is_some_and(|since| since.elapsed() < BEGIN_LIMIT)
    }

    /// Until the next look.
    fn pause(&self, slice_length: Duration) -> Duration {
        match self.is_beginning() {
            true => SHORTEST_PAUSE,
            false => (slice_length / 2).clamp(SHORTEST_PAUSE, LONGEST_PAUSE),
        }
    }

    /// Returns when there is a new base, for which an engine that does not record may wait.
    async fn until_base(&self) {
        if self.runs {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(BASE_POLL).await;
            let now = self.newest_base().await;
            if now.is_some() && now != self.base {
                return;
            }
        }
    }

    /// `None` also where the store cannot be read, which the look says.
    async fn newest_base(&self) -> Option<String> {
        let service = self.order.wanted.service.clone();
        let bases = self.env.store.with(move |store| store.bases(&service, None)).await;
        Some(bases.ok()?.pop()?.backup)
    }

    async fn look_after(&mut self, slice_length: Duration, stop: &CancellationToken) {
        self.base = self.newest_base().await;
        let looked = self.looked(slice_length, stop).await;
        let may_begin = matches!(&looked, Ok((state, _, None)) if state.begins);
        self.begins_since = may_begin.then(|| self.begins_since.unwrap_or_else(Instant::now));
        let (running, stored, error) = match looked {
            // It takes the engine a while, and that is nothing that is wrong.
            Ok((_, stored, None)) if self.is_beginning() => {
                self.runs = false;
                return self.note_state(false, stored, None).await;
            }
            // A base that is needed after a gap keeps nothing from being recorded.
            Ok((state, stored, _)) if state.running => (true, stored, state.error),
            Ok((state, stored, switched)) => (false, stored, switched.or(state.error)),
            Err(e) => (false, None, Some(e)),
        };
        self.runs = running;
        if stop.is_cancelled() {
            return;
        }
        let text = error.as_ref().map(Error::full);
        if self.told != text {
            match &text {
                Some(text) => {
                    warn!(service = self.order.wanted.service, "its engine does not record as it should: {text}")
                }
                None => info!(service = self.order.wanted.service, "its engine records its oplog"),
            }
            self.told = text;
        }
        self.note_state(running, stored, error.as_ref()).await;
    }

    /// How the engine does, the last position that it has, and what keeps it from being switched on.
    async fn looked(
        &self,
        slice_length: Duration,
        stop: &CancellationToken,
    ) -> Result<(RecordingState, Option<Timestamp>, Option<Error>)> {
        let (recording, _) = recording_of(&self.order)?;
        let ctx = context(&self.env, stop).await?;
        let wanted = &self.order.wanted;
        let switched = match self.waits_for().await? {
            Some(why) => Err(why),
            None => {
                let order = RecordingOrder {
                    service: &self.order.service,
                    location: &self.order.storage.config,
                    folder: &wanted.folder,
                    slice_length,
                };
                self.env.store.engine_switched_on(wanted).await?;
                recording.switch_on(&ctx, &order).await
            }
        };
        let state = recording.look(&ctx, &self.order.service).await;
        let state = match (state, &switched) {
            (Ok(state), _) => state,
            // Why it cannot be switched on says more than why it cannot be asked.
            (Err(_), Err(_)) => return Err(switched.err().unwrap_or_else(Error::cancelled)),
            (Err(e), Ok(())) => return Err(e),
        };
        if switched.is_ok() || self.is_ours().await? {
            self.env.store.engine_recorded(wanted, &state.record).await?;
        }
        if state.needs_base && switched.is_ok() {
            self.env.store.engine_needs_base(&wanted.service, clock::now()).await?;
        }
        let stored = state.record.newest();
        Ok((state, stored, switched.err()))
    }

    /// Whether the engine was ever switched on for this place.
    async fn is_ours(&self) -> Result<bool> {
        let wanted = &self.order.wanted;
        let known = self.env.store.engine_recording(&wanted.service).await?;
        Ok(known.is_some_and(|known| known.storage == wanted.storage && known.folder == wanted.folder))
    }

    /// Why it must not be switched on yet: a restore, or a base that is not there yet and is asked for.
    async fn waits_for(&self) -> Result<Option<Error>> {
        let settings = self.env.settings.clone();
        let service = self.order.wanted.service.clone();
        let schedule = self.order.wanted.schedule.clone();
        let waits = self.env.store.with(move |store| {
            let restore = store.restore_without_success(&service)?;
            if let Some(job) = restore.as_ref().filter(|job| job.finished_at.is_none()) {
                let what =
                    format!("a restore is to write into it (job {}), for which its engine stops recording", job.id);
                return Ok(Some(Error::new(ErrorKind::Failed, what).hint(format!("mongokeep job watch {}", job.id))));
            }
            let Some(after) = store.base_needed(&service)? else { return Ok(None) };
            let compression = settings.settings().compression();
            // What a restore left that failed is no base that anybody would ask for; one that is made meets the need.
            let made = match &restore {
                Some(_) => store.needed_base_made(&service, Archive::BY_ENGINE)?,
                None => store.queue_needed_base(&service, Archive::BY_ENGINE, compression, clock::now())?,
            };
            let at = utc(after.to_datetime());
            let what = format!("its engine stopped recording, and goes on with the first base after {at}");
            Ok(match (made, restore) {
                (NeededBase::Met, _) => None,
                (NeededBase::Queued(job), _) => {
                    info!(service, job = job.id, "a base is queued: its engine goes on recording after it");
                    Some(Error::new(ErrorKind::Failed, format!("{what}: job {} makes it", job.id)))
                }
                (NeededBase::Waits, Some(job)) => {
                    let what = format!("{what}; the last restore into it, job {}, did not succeed", job.id);
                    let hint = format!(
                        "restore it again, or take a base of what it holds now: mongokeep schedule run {schedule}"
                    );
                    Some(Error::new(ErrorKind::Failed, what).hint(hint))
                }
                (NeededBase::Waits, None) => {
                    let hint = format!("mongokeep schedule show {schedule} says how the last one ended");
                    Some(Error::new(ErrorKind::Failed, what).hint(hint))
                }
            })
        });
        waits.await
    }

    async fn note_state(&self, running: bool, stored: Option<Timestamp>, error: Option<&Error>) {
        let state = SlicerState {
            running,
            stored,
            error: error.map(Error::full),
            hint: error.and_then(|e| e.hint_text().map(str::to_owned)),
            held: false,
            at: clock::now(),
        };
        if let Err(e) = self.env.store.set_slicer_state(&self.order.wanted.service, &state).await {
            warn!("the state of a slicer: {e}");
        }
    }
}
