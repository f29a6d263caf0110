//! One attempt at a backup: its claim on the name, what it has put into the storage, and how that is removed.
//!
//! An attempt removes exactly the objects it began to write, never a prefix. What one leaves behind when its process
//! dies is removed by [`discard`], which trusts names only as far as the layout gives them.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::watch;

use crate::artifact::layout::{BackupRoot, FORMAT_VERSION};
use crate::artifact::manifest::Attempt;
use crate::domain::clock;
use crate::domain::key::Key;
use crate::domain::text::escape;
use crate::engine::backup_reader;
use crate::engine::blocks::left;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::{PutMode, Storage, read_all};

/// Deletes at once when an attempt cleans up.
const DELETES_AT_ONCE: usize = 16;

/// The longest an attempt spends on removing what it wrote; what is left then is found by [`discard`].
pub const CLEAN_UP_LIMIT: Duration = Duration::from_secs(60);

/// How often an attempt that uses shared blocks says that it is alive (see [`crate::engine::blocks::collector`]).
pub const RENEW_INTERVAL: Duration = Duration::from_secs(600);

/// An `attempt.json` is a few hundred bytes.
const ATTEMPT_LIMIT: usize = 64 << 10;

/// The claim on a backup's name, and the record of what was begun under it.
pub struct Claim {
    storage: Arc<dyn Storage>,
    root: BackupRoot,
    attempt: Attempt,
    objects: Mutex<BTreeSet<Key>>,
}

/// A claim that is being taken while what needs none begins. Clones wait for the same one.
#[derive(Clone)]
pub struct Claiming(watch::Receiver<Option<Arc<Claim>>>);

impl Claiming {
    /// For whoever takes the claim, who drops his end when there is none; and for whoever needs it.
    pub fn begin() -> (watch::Sender<Option<Arc<Claim>>>, Self) {
        let (taken, waits) = watch::channel(None);
        (taken, Self(waits))
    }

    /// Waits for the claim. Errors: `Cancelled` when there is none, the reason for which is said by whoever takes it.
    pub async fn claim(&self) -> Result<Arc<Claim>> {
        let mut waits = self.0.clone();
        let taken = waits.wait_for(Option::is_some).await.map_err(|_| Error::cancelled())?;
        taken.clone().ok_or_else(Error::cancelled)
    }
}

/// Who attempts what.
pub struct Identity<'a> {
    pub attempt_id: &'a str,
    pub name: &'a str,
    pub service: &'a str,
    pub home_id: &'a str,
    /// It uses blocks that it shares with other backups.
    pub shares_blocks: bool,
}

impl Claim {
    /// Writes `attempt.json`, unless there is one or a manifest.
    ///
    /// Errors: `Conflict` when the name is taken in this folder of this storage.
    pub async fn take(storage: Arc<dyn Storage>, root: BackupRoot, identity: &Identity<'_>) -> Result<Self> {
        let name = identity.name;
        if storage.stat(&root.manifest()?).await?.is_some() {
            return Err(taken(&*storage, &root, identity).await);
        }
        let attempt = Attempt {
            format_version: FORMAT_VERSION,
            attempt_id: identity.attempt_id.to_owned(),
            name: name.to_owned(),
            service: identity.service.to_owned(),
            home_id: identity.home_id.to_owned(),
            host: host_name(),
            pid: std::process::id(),
            started_at: clock::now(),
            renewed_at: identity.shares_blocks.then(clock::now),
            pbm_name: None,
        };
        match storage.put(&root.attempt()?, body_of(&attempt)?.into(), PutMode::CreateNew).await {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::Conflict => {
                // The answer to a first try may have been lost on its way: then it is ours.
                let stored = backup_reader::read_attempt(&*storage, &root).await;
                if !matches!(stored, Ok(Some(stored)) if stored == attempt) {
                    return Err(taken(&*storage, &root, identity).await.source(e));
                }
            }
            Err(e) => return Err(e),
        }
        let claim = Self { storage, root, attempt, objects: Mutex::new(BTreeSet::new()) };
        // A storage that does not know conditions lets the second write over the claim of the first.
        claim.must_hold().await?;
        Ok(claim)
    }

    /// The claim of the attempt `attempt_id` of this home, whose process was killed. `None` when it had not begun, has written
    /// its manifest, or somebody else has the name.
    pub async fn resume(
        storage: Arc<dyn Storage>,
        root: BackupRoot,
        attempt_id: &str,
        home_id: &str,
    ) -> Result<Option<Self>> {
        if storage.stat(&root.manifest()?).await?.is_some() {
            return Ok(None);
        }
        let attempt = backup_reader::read_attempt(&*storage, &root).await?;
        let own = attempt.filter(|attempt| attempt.attempt_id == attempt_id && attempt.home_id == home_id);
        Ok(own.map(|attempt| Self { storage, root, attempt, objects: Mutex::new(BTreeSet::new()) }))
    }

    /// What `attempt.json` says, as it was when the claim was taken or resumed.
    pub fn attempt(&self) -> &Attempt {
        &self.attempt
    }

    /// Notes which backup of PBM this attempt waits for, so that it is known when the process is killed.
    ///
    /// Errors: those of [`Claim::must_hold`].
    pub async fn note_pbm(&self, name: &str) -> Result<()> {
        self.must_hold().await?;
        let noted = Attempt { pbm_name: Some(name.to_owned()), ..self.attempt.clone() };
        self.storage.put(&self.root.attempt()?, body_of(&noted)?.into(), PutMode::Overwrite).await
    }

    /// Errors: `Conflict` when somebody else has the name by now; then nothing below it is ours any more.
    pub async fn must_hold(&self) -> Result<()> {
        let key = self.root.attempt()?;
        match backup_reader::read_attempt(&*self.storage, &self.root).await? {
            Some(attempt) if attempt.attempt_id == self.attempt.attempt_id => Ok(()),
            Some(attempt) => {
                let (service, host) = (escape(&attempt.service), escape(&attempt.host));
                let place = self.storage.place();
                let what = format!("{place}/{key} was written over by another backup, of service {service} on {host}");
                Err(Error::new(ErrorKind::Conflict, what)
                    .hint("choose another name or folder; this storage does not keep two writers apart"))
            }
            None => Err(Error::new(ErrorKind::Conflict, format!("{}/{key} is gone", self.storage.place()))
                .hint("somebody removed it while the backup was being made; make the backup again")),
        }
    }

    /// Says again that this attempt is alive.
    ///
    /// Errors: those of [`Claim::must_hold`].
    pub async fn renew(&self) -> Result<()> {
        self.must_hold().await?;
        let renewed = Attempt { renewed_at: Some(clock::now()), ..self.attempt.clone() };
        self.storage.put(&self.root.attempt()?, body_of(&renewed)?.into(), PutMode::Overwrite).await
    }

    /// Notes that `key` is about to be written.
    pub fn began(&self, key: &Key) {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone());
    }

    /// Removes an object that is no part of the backup after all.
    pub async fn remove(&self, key: &Key) -> Result<()> {
        self.storage.delete(key).await?;
        self.objects.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        Ok(())
    }

    /// Removes everything this attempt began to write, `attempt.json` last. Nothing of it may still be writing.
    ///
    /// Errors: what could not be removed stays, with its `attempt.json`, for [`discard`].
    pub async fn clean_up(&self) -> Result<()> {
        let objects: Vec<Key> = {
            let objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
            objects.iter().cloned().collect()
        };
        let work = async {
            // Where somebody else has the name by now, the objects of that name are not ours to remove.
            match backup_reader::read_attempt(&*self.storage, &self.root).await? {
                Some(attempt) if attempt.attempt_id != self.attempt.attempt_id => return self.must_hold().await,
                Some(_) | None => {}
            }
            // First, so that nobody takes for a backup what is being taken apart.
            self.storage.delete(&self.root.manifest()?).await?;
            sweep(&*self.storage, &self.root).await?;
            delete_all(&*self.storage, objects).await?;
            self.storage.delete(&self.root.attempt()?).await
        };
        match tokio::time::timeout(CLEAN_UP_LIMIT, work).await {
            Ok(done) => done,
            Err(_) => {
                let seconds = CLEAN_UP_LIMIT.as_secs();
                Err(Error::new(
                    ErrorKind::Transient,
                    format!("{} did not answer within {seconds} s", self.storage.place()),
                ))
            }
        }
    }
}

fn body_of(attempt: &Attempt) -> Result<Vec<u8>> {
    serde_json::to_vec_pretty(attempt).map_err(|e| Error::new(ErrorKind::Internal, "writing attempt.json").source(e))
}

/// That the name has somebody, and who. What there is to do about it removes nothing: whoever has it may still be at work.
async fn taken(storage: &dyn Storage, root: &BackupRoot, identity: &Identity<'_>) -> Error {
    let held = backup_reader::held(storage, root).await;
    let whose = match held.as_ref().ok().and_then(|held| held.owner()) {
        Some(owner) => {
            let here = owner.home_id.as_deref() == Some(identity.home_id);
            let what = if owner.complete { "a backup" } else { "a backup without a manifest" };
            let whose = if here { "this installation" } else { "another installation" };
            format!(" by {what} of {whose} ({})", owner.words())
        }
        None => String::new(),
    };
    Error::new(ErrorKind::Conflict, format!("{}: {} is taken{whose}", storage.place(), root.key()))
        .hint("nothing of it was touched: choose another name or folder, for a schedule another folder")
}

/// Ends unfinished uploads. A key that may not look for them still removes the objects; what an upload that was not
/// ended left goes by the rules of the bucket.
async fn sweep(storage: &dyn Storage, root: &BackupRoot) -> Result<()> {
    match storage.sweep(root.key()).await {
        Err(e) if e.kind() == ErrorKind::Denied => {
            tracing::warn!("unfinished uploads below {} could not be looked for: {e}", root.key());
            Ok(())
        }
        other => other.map(drop),
    }
}

/// Removes all of them, some at once. Errors: the first; the others were tried.
pub(super) async fn delete_all(storage: &dyn Storage, keys: Vec<Key>) -> Result<()> {
    let deletes = futures_util::stream::iter(keys).map(|key| async move { storage.delete(&key).await });
    let mut outcomes = deletes.buffer_unordered(DELETES_AT_ONCE);
    let mut first = Ok(());
    while let Some(outcome) = outcomes.next().await {
        if first.is_ok() {
            first = outcome;
        }
    }
    first
}

/// Removes what the abandoned attempt `attempt_id` of this home left below `root`. Returns how many objects went.
/// Nothing there is no error: the attempt had not begun, or was removed before.
///
/// Errors: `Conflict` when there is a manifest (then it is a backup), or when the attempt is another's.
pub async fn discard(storage: &dyn Storage, root: &BackupRoot, attempt_id: &str, home_id: &str) -> Result<u64> {
    let place = storage.place();
    if storage.stat(&root.manifest()?).await?.is_some() {
        return Err(Error::new(ErrorKind::Conflict, format!("{place}: {} is a complete backup", root.key()))
            .hint("nothing was removed: a complete backup is no left-over"));
    }
    let key = root.attempt()?;
    let body = match read_all(storage, &key, ATTEMPT_LIMIT).await {
        Ok(body) => body,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(0),
        Err(e) => return Err(e),
    };
    let attempt: Attempt = serde_json::from_slice(&body)
        .map_err(|e| Error::new(ErrorKind::Corrupt, format!("{place}/{key} cannot be read")).source(e))?;
    if attempt.attempt_id != attempt_id || attempt.home_id != home_id {
        let host = escape(&attempt.host);
        return Err(Error::new(
            ErrorKind::Conflict,
            format!("{place}: {} belongs to another attempt (host {host}, process {})", root.key(), attempt.pid),
        )
        .hint("nothing was removed; if that attempt is dead, remove it from the installation that made it"));
    }
    sweep(storage, root).await?;
    if attempt.renewed_at.is_some() {
        left::note_left(storage, &root.blocks()?).await?;
    }
    let mut ours = Vec::new();
    let mut listing = storage.list(Some(root.key())).await?;
    while let Some(object) = listing.next().await {
        let object = object?;
        if object.key.below(root.key()).is_some_and(is_attempt_object) {
            ours.push(object.key);
        }
    }
    let count = ours.len() as u64 + 1;
    delete_all(storage, ours).await?;
    storage.delete(&key).await?;
    Ok(count)
}

/// Whether an unfinished attempt writes an object of this path (relative to the backup's root).
pub(super) fn is_attempt_object(path: &str) -> bool {
    let part = |name: &str| {
        let name = name.strip_suffix(".zst").or_else(|| name.strip_suffix(".gz")).unwrap_or(name);
        name.strip_suffix(".bson").is_some_and(|n| n.len() >= 5 && n.bytes().all(|b| b.is_ascii_digit()))
    };
    match path.split('/').collect::<Vec<_>>()[..] {
        ["oplog", name] => part(name),
        ["data", _, _, name] => part(name),
        ["data", _, name] => name.ends_with(".metadata.json"),
        _ => false,
    }
}

/// For people who wonder which machine something was done on; nothing depends on it.
pub fn host_name() -> String {
    let told = std::fs::read_to_string("/proc/sys/kernel/hostname").or_else(|_| std::env::var("HOSTNAME"));
    told.map(|name| name.trim().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_layout_names_is_removed() {
        for ours in [
            "oplog/00000.bson.zst",
            "data/shop/orders/00012.bson.gz",
            "data/shop/orders/123456.bson",
            "data/shop/orders.metadata.json",
        ] {
            assert!(is_attempt_object(ours), "{ours}");
        }
        for other in [
            "manifest.json",
            "notes.txt",
            "data/shop/orders/x.bson",
            "oplog/a/00000.bson",
            "data/00000.bson",
            "oplog/1.bson",
        ] {
            assert!(!is_attempt_object(other), "{other}");
        }
    }
}
