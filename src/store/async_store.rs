//! The store for async code: every call runs beside the runtime, so that no caller has to see to it.

use super::{Claimed, Deletion, SlicingWanted, Store};
use crate::domain::backup::Backup;
use crate::domain::job::Job;
use crate::domain::notification::{Channel, Event};
use crate::domain::pitr::{Archive, EngineRecord, Slice, SlicerState};
use crate::domain::service::Service;
use crate::domain::storage::StorageLocation;
use crate::domain::timestamp::Timestamp;
use crate::error::{Error, ErrorKind, Result};

/// Runs something that blocks (the store, a file) on a thread beside the runtime.
///
/// Errors: what `work` returns; `Internal` when it panicked.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| Error::new(ErrorKind::Internal, "a step beside the runtime ended early").source(e))?
}

/// A [`Store`] whose calls are awaited. Cheap to clone; all clones share one connection.
#[derive(Clone)]
pub struct AsyncStore(Store);

impl AsyncStore {
    pub fn new(store: Store) -> Self {
        Self(store)
    }

    /// For code that is on a thread of its own already.
    pub fn sync(&self) -> &Store {
        &self.0
    }

    /// Several calls in a row, without going back to the runtime between them.
    pub async fn with<T: Send + 'static>(&self, calls: impl FnOnce(&Store) -> Result<T> + Send + 'static) -> Result<T> {
        let store = self.0.clone();
        blocking(move || calls(&store)).await
    }
}

/// For each method of the store named here one that is awaited. `&T` is borrowed by the caller and owned on the way;
/// `=T` is given away.
macro_rules! calls {
    ($($name:ident($($arg:ident: $(&$lent:ty)? $(=$given:ty)?),*) -> $out:ty;)*) => {
        impl AsyncStore {
            $(
                #[doc = concat!("See [`Store::", stringify!($name), "`].")]
                pub async fn $name(&self, $($arg: $(&$lent)? $($given)?),*) -> Result<$out> {
                    $($(let $arg = <$lent as ToOwned>::to_owned($arg);)?)*
                    self.with(move |store| store.$name($(
                        $(std::borrow::Borrow::<$lent>::borrow(&$arg))?
                        $({ let given: $given = $arg; given })?
                    ),*)).await
                }
            )*
        }
    };
}

calls! {
    abandoned() -> Vec<Claimed>;
    archives_going(service: &str) -> Vec<Archive>;
    attempt_clean(job: =i64, attempt: =u32) -> ();
    backup(name: &str) -> Backup;
    claim(concurrency: =usize) -> Option<Claimed>;
    data_version() -> u64;
    deletion(name: &str) -> Deletion;
    derived_key(purpose: &str) -> [u8; 32];
    engine_note(service: &str) -> Option<String>;
    deletion_begins(name: &str) -> ();
    deletion_undone(name: &str) -> ();
    engine_began(id: =i64, name: &str) -> ();
    engine_needs_base(service: &str, at: =chrono::DateTime<chrono::Utc>) -> ();
    engine_recorded(wanted: &SlicingWanted, record: &EngineRecord) -> ();
    engine_recording(service: &str) -> Option<super::EngineRecording>;
    engine_restores(service: &str, at: =chrono::DateTime<chrono::Utc>) -> ();
    engine_switched_off(service: &str) -> ();
    engine_switched_on(wanted: &SlicingWanted) -> ();
    forget_slices(storage: &str, keys: &[String]) -> ();
    is_cancel_requested(id: =i64) -> bool;
    job(id: =i64) -> Job;
    jobs_writing() -> Vec<i64>;
    next_retry() -> Option<chrono::DateTime<chrono::Utc>>;
    other_set(service: &str, replica_set_id: &str, after: =Timestamp) -> bool;
    outbox_failed(channel: =Channel, error: &str) -> usize;
    outbox_next(channel: =Channel) -> Option<super::Pending>;
    queue_retentions() -> usize;
    recorded_into(wanted: &SlicingWanted) -> Vec<(Archive, Slice)>;
    restore_writes(id: =i64) -> ();
    retire_cancelled(name: &str, error: &str) -> ();
    retire_failed(name: &str, error: &str) -> ();
    retire_postponed(schedule: &str, storage: &str, error: &str) -> usize;
    retire_replaced(name: &str, error: &str) -> ();
    retired(name: &str) -> ();
    service(name: &str) -> Service;
    set_conditions(event: =Event, present: &[(String, String)], refresh: =bool) -> ();
    set_engine_note(service: &str, note: &str) -> ();
    set_slicer_state(service: &str, state: &SlicerState) -> ();
    slice_recorded(service: &str, archive: &Archive, slice: &Slice) -> bool;
    slicers_stopped() -> ();
    storage(name: &str) -> StorageLocation;
}
