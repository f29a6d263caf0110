//! Removing blocks that no backup needs any more.
//!
//! What may not happen: a block goes that a backup needs. Two are at work at once, perhaps from two installations, so that
//! three rules hold.
//!
//! 1. Whoever makes a backup writes its `attempt.json` first and then waits while there is a claim to collect
//!    ([`wait_until_free`]); whoever collects writes that claim first and then looks for attempts. One of them sees the
//!    other. An attempt renews its `attempt.json` while it lives; one that may live keeps everything from being collected.
//! 2. All manifests of the folder are read, and one that cannot be read keeps everything from being collected.
//! 3. One at a time collects. A claim ends by itself, and nothing is removed when its time is nearly over. One that a killed
//!    process of the same installation left is over at once: an installation has one daemon at a time, by the lock of its home.
//!
//! And before a backup's manifest is written, it is compared once more with the blocks that are there.

use std::collections::HashSet;
use std::sync::OnceLock;
use std::time::Duration;

use blake3::Hash;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::parse_name;
use crate::artifact::layout::BlocksRoot;
use crate::domain::clock;
use crate::domain::key::Key;
use crate::domain::text::{bytes, counted, escape};
use crate::engine::attempt::{delete_all, host_name};
use crate::engine::{Context, backup_reader, engine};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::{ObjectInfo, PutMode, Storage, random_name, read_all};

/// How long an attempt that was not renewed may still be alive. Renewed are they far more often
/// ([`crate::engine::attempt::RENEW_INTERVAL`]); clocks of two machines may differ by most of it.
pub const ATTEMPT_LEASE: TimeDelta = TimeDelta::hours(2);
/// How long a claim to collect holds.
const CLAIM_LEASE: TimeDelta = TimeDelta::hours(1);
/// Nothing is removed in the last part of it, in which others may already take it for over.
const CLAIM_MARGIN: TimeDelta = TimeDelta::minutes(20);
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// A claim is a few hundred bytes.
const CLAIM_LIMIT: usize = 64 << 10;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Claim {
    token: String,
    home_id: String,
    host: String,
    /// Of the collector, for as long as it runs.
    #[serde(default)]
    process: String,
    until: DateTime<Utc>,
}

impl Claim {
    /// Whether it keeps nobody of the installation `home_id` from anything any more.
    fn is_over(&self, home_id: &str, process: &str) -> bool {
        let is_ours = self.home_id == home_id && self.host == host_name() && !self.process.is_empty();
        (is_ours && self.process != process) || self.until + CLAIM_MARGIN < clock::now()
    }
}

/// Names this process among all that ever ran.
fn process() -> Result<&'static str> {
    static PROCESS: OnceLock<String> = OnceLock::new();
    let name = random_name()?;
    Ok(PROCESS.get_or_init(|| name))
}

/// What became of a collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Collected {
    Done {
        blocks: u64,
        bytes: u64,
    },
    /// Nothing was removed, for this reason. The next deletion tries again.
    Postponed(String),
}

impl Collected {
    /// For the log; nothing when there was nothing to do.
    pub fn in_words(&self) -> Option<String> {
        match self {
            Self::Done { blocks: 0, .. } => None,
            Self::Done { blocks, bytes: size } => {
                Some(format!("removed {} that no backup needs any more: {}", counted(*blocks, "block"), bytes(*size)))
            }
            Self::Postponed(why) => Some(format!("blocks that no backup needs stay for now: {why}")),
        }
    }
}

/// Removes the blocks of a folder that no manifest names.
///
/// Errors: what the storage reports, `Cancelled`. What was removed by then was needed by nobody.
pub async fn collect(ctx: &Context, storage: &dyn Storage, root: &BlocksRoot, home_id: &str) -> Result<Collected> {
    let key = root.collector()?;
    // Without blocks there is nothing to claim. Another collector, killed at its end, may have left its claim, or a write
    // unfinished.
    if storage.list_folders(Some(root.key())).await?.is_empty() {
        let process = process()?;
        if read(storage, &key).await?.is_some_and(|held| held.is_over(home_id, process)) {
            storage.delete(&key).await?;
        }
        storage.sweep(root.key()).await?;
        return Ok(Collected::Done { blocks: 0, bytes: 0 });
    }
    let claim = Claim {
        token: random_name()?,
        home_id: home_id.to_owned(),
        host: host_name(),
        process: process()?.to_owned(),
        until: clock::now() + CLAIM_LEASE,
    };
    if let Some(why) = take(storage, &key, &claim).await? {
        return Ok(Collected::Postponed(why));
    }
    let outcome = collect_claimed(ctx, storage, root, &key, claim).await;
    // Of a storage that does not answer the claim ends by itself.
    let released = storage.delete(&key).await;
    let collected = outcome?;
    released?;
    Ok(collected)
}

/// Says why not, when somebody else collects.
async fn take(storage: &dyn Storage, key: &Key, claim: &Claim) -> Result<Option<String>> {
    let body =
        serde_json::to_vec_pretty(claim).map_err(|e| Error::new(ErrorKind::Internal, "writing a claim").source(e))?;
    for _ in 0..2 {
        match storage.put(key, body.clone().into(), PutMode::CreateNew).await {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::Conflict => {}
            Err(e) => return Err(e),
        }
        // A storage that does not know conditions lets the second write over the first.
        match read(storage, key).await? {
            Some(held) if held.token == claim.token => return Ok(None),
            Some(held) if !held.is_over(&claim.home_id, &claim.process) => {
                return Ok(Some(format!("an installation on {} removes blocks now", escape(&held.host))));
            }
            // Its owner stopped unexpectedly.
            Some(_) => storage.delete(key).await?,
            None => {}
        }
    }
    Ok(Some("another installation begins to remove blocks".to_owned()))
}

/// `None`: there is none. One that cannot be read was cut off; it counts as over.
async fn read(storage: &dyn Storage, key: &Key) -> Result<Option<Claim>> {
    match read_all(storage, key, CLAIM_LIMIT).await {
        Ok(body) => Ok(Some(serde_json::from_slice(&body).unwrap_or(Claim {
            token: String::new(),
            home_id: String::new(),
            host: String::new(),
            process: String::new(),
            until: DateTime::<Utc>::MIN_UTC,
        }))),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

async fn collect_claimed(
    ctx: &Context,
    storage: &dyn Storage,
    root: &BlocksRoot,
    key: &Key,
    mut claim: Claim,
) -> Result<Collected> {
    let needed = match needed(ctx, storage, root).await? {
        Ok(needed) => needed,
        Err(why) => return Ok(Collected::Postponed(why)),
    };
    ctx.meter.set_phase("removing blocks that no backup needs");
    let mut listing = storage.list(Some(root.key())).await?;
    let (mut blocks, mut size) = (0, 0_u64);
    let mut batch: Vec<ObjectInfo> = Vec::new();
    loop {
        let next = listing.next().await.transpose()?;
        let is_last = next.is_none();
        if let Some(object) = next {
            let hash = root.block_name(&object.key).and_then(parse_name).map(|(hash, _)| hash);
            if hash.is_some_and(|hash| !needed.contains(&hash)) {
                batch.push(object);
            }
        }
        if batch.len() < 1000 && !is_last {
            continue;
        }
        if ctx.cancel.is_cancelled() {
            return Err(Error::cancelled());
        }
        if let Some(why) = renew(storage, key, &mut claim).await? {
            return Ok(Collected::Postponed(why));
        }
        blocks += batch.len() as u64;
        size += batch.iter().map(|object| object.size).sum::<u64>();
        delete_all(storage, std::mem::take(&mut batch).into_iter().map(|object| object.key).collect()).await?;
        if is_last {
            storage.delete(&root.left()?).await?;
            // Nobody writes here now, as was seen before: what is unfinished was left by a kill.
            storage.sweep(root.key()).await?;
            return Ok(Collected::Done { blocks, bytes: size });
        }
    }
}

/// Holds on to the claim. Says why not, when that came too late.
async fn renew(storage: &dyn Storage, key: &Key, claim: &mut Claim) -> Result<Option<String>> {
    let left = claim.until - clock::now();
    if left < CLAIM_MARGIN || read(storage, key).await?.is_none_or(|held| held.token != claim.token) {
        return Ok(Some("it took too long; what is left is removed next time".to_owned()));
    }
    if left < CLAIM_LEASE / 2 {
        claim.until = clock::now() + CLAIM_LEASE;
        let body = serde_json::to_vec_pretty(claim)
            .map_err(|e| Error::new(ErrorKind::Internal, "writing a claim").source(e))?;
        storage.put(key, body.into(), PutMode::Overwrite).await?;
    }
    Ok(None)
}

/// The blocks that the manifests of the folder name, or why that cannot be known now.
async fn needed(
    ctx: &Context,
    storage: &dyn Storage,
    root: &BlocksRoot,
) -> Result<std::result::Result<HashSet<Hash>, String>> {
    ctx.meter.set_phase("looking for blocks that no backup needs");
    let mut needed = HashSet::new();
    for name in storage.list_folders(Some(&root.backups()?)).await? {
        if ctx.cancel.is_cancelled() {
            return Err(Error::cancelled());
        }
        // What is no name of a backup was put there by somebody else.
        let Ok(backup) = root.backup(&name) else { continue };
        if storage.stat(&backup.manifest()?).await?.is_some() {
            let read = backup_reader::read_manifest(storage, &backup).await;
            let named = read.and_then(|manifest| {
                let envelope = &manifest.envelope;
                engine(envelope.engine, envelope.model)?.blocks(&manifest)
            });
            match named {
                Ok(named) => {
                    for entry in named {
                        needed.insert(entry.hash()?);
                    }
                    continue;
                }
                // Deleted between two looks: it needs nothing.
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) if matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported) => {
                    return Ok(Err(format!("what backup {} needs is not known: {e}", escape(&name))));
                }
                Err(e) => return Err(e),
            }
        }
        if let Some(attempt) = backup_reader::read_attempt(storage, &backup).await?
            && attempt.renewed_at.is_some_and(|at| at + ATTEMPT_LEASE > clock::now())
        {
            let host = escape(&attempt.host);
            return Ok(Err(format!("backup {} is being made on {host}", escape(&name))));
        }
    }
    Ok(Ok(needed))
}

/// Waits while somebody removes blocks. To be called after `attempt.json` was written and before blocks are looked at.
/// `home_id`: of the installation that waits.
pub async fn wait_until_free(
    storage: &dyn Storage,
    root: &BlocksRoot,
    home_id: &str,
    cancel: &CancellationToken,
    say: &(dyn Fn(String) + Sync),
) -> Result<()> {
    let key = root.collector()?;
    let mut said = false;
    loop {
        let Some(claim) = read(storage, &key).await? else { return Ok(()) };
        if claim.is_over(home_id, process()?) {
            return Ok(());
        }
        if !said {
            say(format!("waiting for an installation on {} that removes blocks", escape(&claim.host)));
            said = true;
        }
        tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(Error::cancelled()),
            () = tokio::time::sleep(POLL_INTERVAL) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_over_when_its_time_is_or_its_process_of_this_installation_is_gone() {
        let claim = |home_id: &str, process: &str, minutes| Claim {
            token: "t".into(),
            home_id: home_id.into(),
            host: host_name(),
            process: process.into(),
            until: Utc::now() + TimeDelta::minutes(minutes),
        };
        assert!(!claim("home", "p1", 60).is_over("home", "p1"), "its own");
        assert!(claim("home", "p1", 60).is_over("home", "p2"), "of a process before");
        assert!(!claim("other", "p1", 60).is_over("home", "p2"), "of another installation");
        assert!(!claim("home", "", 60).is_over("home", "p2"), "written by an older version");
        assert!(!claim("other", "p1", -10).is_over("home", "p2"), "its clock may be late");
        assert!(claim("other", "p1", -30).is_over("home", "p2"), "long over");
    }
}
