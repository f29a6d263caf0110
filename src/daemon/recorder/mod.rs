//! Slicers: one for each service with a point-in-time schedule that is on, for as long as it is. Where the engine of the
//! service records by itself, there is one who sees to it that it does (see `by_engine`).
//!
//! What is to run follows from the store and the settings alone, and is looked at again whenever they change. A slicer
//! that fails is started again, for ever: the oplog waits, and the store says what is wrong.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::component::Component;
use super::env::Env;
use crate::domain::backup::Model;
use crate::domain::bandwidth::BandwidthLimit;
use crate::domain::service::Service;
use crate::domain::storage::StorageLocation;
use crate::engine::engine;
use crate::error::Result;
use crate::storage::throttle::Limiter;
use crate::store::{EngineRecording, SlicingWanted, blocking};

mod by_engine;
mod missing;
mod record;

/// How often it is asked whether something changed: the store at once, the settings with it.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How long the end of the daemon waits for what slicers hold to be stored.
const END_LIMIT: Duration = Duration::from_secs(8);

/// All slicers, while the daemon runs. At the end what they hold is stored, if that is soon; the rest is read again from the
/// oplog by the next daemon.
pub fn recorder(env: &Env) -> Component {
    let env = env.clone();
    Component::start("oplog recording", END_LIMIT, move |stop| supervise(env, stop))
}

/// What a slicer was started with: a change of it starts another one.
#[derive(Clone, PartialEq)]
struct Order {
    wanted: SlicingWanted,
    service: Service,
    storage: StorageLocation,
    who: Who,
}

/// Who records the oplog of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Who {
    Slicer,
    /// The engine, which is kept switched on.
    Engine,
    /// The engine, until it is switched off: no schedule wants it any more.
    EngineUntilOff,
}

/// A service whose engine was changed may be recorded by a slicer while the engine that recorded it is switched off.
type Key = (String, bool);

impl Order {
    fn key(&self) -> Key {
        (self.wanted.service.clone(), self.who != Who::Slicer)
    }
}

struct Running {
    order: Order,
    stop: CancellationToken,
    task: JoinHandle<()>,
    slice_length: watch::Sender<Duration>,
    read_back: watch::Sender<bool>,
    limiter: Limiter,
}

/// What the settings say of all that is recorded; it counts for those that run, too.
#[derive(Clone)]
struct Pace {
    slice_length: Duration,
    bandwidth: BandwidthLimit,
    read_back: bool,
}

async fn supervise(env: Env, stop: CancellationToken) {
    let mut running: HashMap<Key, Running> = HashMap::new();
    if let Err(e) = env.store.slicers_stopped().await {
        error!("the state of slicers: {e}");
    }
    let mut seen = Seen { version: None, orders: Vec::new() };
    loop {
        match poll_orders(&env, &mut seen).await {
            Ok(pace) => adjust(&env, &mut running, &seen.orders, pace).await,
            Err(e) => error!("looking for what is to be recorded: {e}"),
        }
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(POLL_INTERVAL) => {}
        }
    }
    // All at once: each has something to store.
    running.values().for_each(|r| r.stop.cancel());
    for (_, slicer) in running {
        let _ = slicer.task.await;
    }
}

/// What was found the last time.
struct Seen {
    version: Option<u64>,
    orders: Vec<Order>,
}

/// Brings `seen` up to date and returns what the settings say; `None`: nothing is to be recorded, or backup
/// management is off.
async fn poll_orders(env: &Env, seen: &mut Seen) -> Result<Option<Pace>> {
    let version = seen.version;
    let polled = env.store.with(move |store| {
        let now = store.data_version()?;
        Ok((now, if version == Some(now) { None } else { Some(orders(store)?) }))
    });
    let (now, orders) = polled.await?;
    seen.version = Some(now);
    if let Some(orders) = orders {
        seen.orders = orders;
    }
    // The settings matter to what is recorded only: where nothing is, they need not be read every time.
    if seen.orders.is_empty() {
        return Ok(None);
    }
    let last_good = env.settings.clone();
    // Those that cannot be read are no reason to lose a part of the oplog.
    let settings = blocking(move || Ok(last_good.settings())).await?;
    let pace = || Pace {
        slice_length: settings.slice_length(),
        bandwidth: settings.bandwidth_limit(),
        read_back: settings.read_back(),
    };
    Ok(settings.backup_enabled().then(pace))
}

fn orders(store: &crate::store::Store) -> Result<Vec<Order>> {
    let order = |wanted: SlicingWanted, who: Who| -> Result<Order> {
        let service = store.service(&wanted.service)?;
        // Its last test is no reason to begin anew.
        let storage = StorageLocation { last_test: None, ..store.storage(&wanted.storage)? };
        Ok(Order { wanted, service, storage, who })
    };
    let mut orders = Vec::new();
    for wanted in store.slicing_wanted()? {
        let who = match engine(store.service_row(&wanted.service)?.engine, Model::Logical)?.recording() {
            Some(_) => Who::Engine,
            None => Who::Slicer,
        };
        orders.push(order(wanted, who)?);
    }
    for EngineRecording { service, storage, folder, .. } in store.engine_recordings_on()? {
        if orders.iter().any(|o: &Order| o.who == Who::Engine && o.wanted.service == service) {
            continue;
        }
        let wanted = SlicingWanted { service, storage, folder, schedule: String::new() };
        orders.push(order(wanted, Who::EngineUntilOff)?);
    }
    Ok(orders)
}

/// Ends what is no longer wanted, begins what is, and tells all of their pace.
async fn adjust(env: &Env, running: &mut HashMap<Key, Running>, orders: &[Order], pace: Option<Pace>) {
    let orders = if pace.is_some() { orders } else { &[] };
    // One that takes long to end, because its storage does not answer, holds up no other.
    running.values().filter(|r| !orders.contains(&r.order)).for_each(|r| r.stop.cancel());
    let over: Vec<Key> = running.iter().filter(|(_, r)| r.task.is_finished()).map(|(key, _)| key.clone()).collect();
    for key in over {
        let Some(slicer) = running.remove(&key) else { continue };
        let service = key.0;
        if let Err(e) = slicer.task.await {
            error!(service, "a slicer ended by a bug: {e}");
        }
        match slicer.order.who {
            Who::Slicer => info!(service, "its oplog is no longer recorded"),
            Who::Engine | Who::EngineUntilOff => {
                info!(service, "the recording by its engine is no longer looked after")
            }
        }
    }
    let Some(pace) = pace else { return };
    for order in orders {
        match running.get(&order.key()) {
            Some(slicer) => {
                let length = pace.slice_length;
                slicer.slice_length.send_if_modified(|l| std::mem::replace(l, length) != length);
                slicer.read_back.send_replace(pace.read_back);
                slicer.limiter.set(pace.bandwidth.clone());
            }
            None => {
                match order.who {
                    Who::Slicer => info!(service = order.wanted.service, "its oplog is to be recorded"),
                    Who::Engine => info!(service = order.wanted.service, "its engine is to record its oplog"),
                    Who::EngineUntilOff => {
                        info!(service = order.wanted.service, "its engine is to record its oplog no longer");
                    }
                }
                running.insert(order.key(), begin(env, order, pace.clone()));
            }
        }
    }
}

fn begin(env: &Env, order: &Order, pace: Pace) -> Running {
    let (slice_length, lengths) = watch::channel(pace.slice_length);
    let (read_back, reading_back) = watch::channel(pace.read_back);
    let limiter = Limiter::new(pace.bandwidth);
    let stop = CancellationToken::new();
    let (env, own, token, handle) = (env.clone(), order.clone(), stop.clone(), tokio::runtime::Handle::current());
    // On a thread of its own, as every job: what it does between two awaits does not hold the others up.
    let limit = limiter.clone();
    let task = tokio::task::spawn_blocking(move || match own.who {
        Who::Slicer => handle.block_on(record::follow_service(env, own, lengths, reading_back, limit, token)),
        Who::Engine => handle.block_on(by_engine::keep_on(env, own, lengths, token)),
        Who::EngineUntilOff => handle.block_on(by_engine::switch_off(env, own, token)),
    });
    Running { order: order.clone(), stop, task, slice_length, read_back, limiter }
}
