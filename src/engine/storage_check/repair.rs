//! Removing what a person let go: exactly what the plan names, as far as it is still what it was then.
//!
//! Everything is looked at once more. What went meanwhile is no error; what came meanwhile, or became a backup, stays.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};

use super::known::{LOOKS_AT_ONCE, Place};
use super::uploads::ABANDONED;
use crate::artifact::layout::{BackupRoot, BlocksRoot};
use crate::domain::clock;
use crate::domain::storage_check::{Amount, PlannedAttempt, PlannedObject, PlannedOrphans, PlannedUploads, RepairPlan};
use crate::domain::text::{bytes, counted, escape};
use crate::engine::attempt::{discard, is_attempt_object};
use crate::engine::backup_reader::{Held, held};
use crate::engine::blocks::collector;
use crate::engine::{Context, engine};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::{Key, Storage};

/// What the store says right before something goes.
#[async_trait::async_trait]
pub trait Permits: Send + Sync {
    /// Whether a job works on the backup now, or deletes it.
    async fn is_at_work(&self, place: &Place) -> Result<bool>;

    /// Nothing is left of this attempt.
    async fn discarded(&self, attempt_id: &str) -> Result<()>;
}

/// Carries out `plan`. Returns what was removed.
///
/// Errors: what the storage or the store reports, `Cancelled`; what was removed by then is gone.
pub async fn repair(
    ctx: &Context,
    storage: &dyn Storage,
    home_id: &str,
    plan: &RepairPlan,
    permits: &dyn Permits,
) -> Result<Amount> {
    let amount = plan.amount();
    ctx.meter.set_totals(amount.bytes, amount.objects, 0);
    let mut removed = Amount::default();
    for attempt in &plan.attempts {
        goes_on(ctx)?;
        ctx.meter.set_phase(format!("what the attempt at {} left", attempt.backup));
        if let Some(of) = abandoned(ctx, storage, home_id, attempt, permits).await? {
            done(ctx, &mut removed, of);
        }
    }
    for orphans in &plan.orphans {
        goes_on(ctx)?;
        ctx.meter.set_phase(format!("objects beside backup {}", orphans.backup));
        let of = beside(ctx, storage, orphans, permits).await?;
        done(ctx, &mut removed, of);
    }
    for uploads in &plan.uploads {
        goes_on(ctx)?;
        ctx.meter.set_phase("unfinished uploads");
        let of = unfinished(ctx, storage, plan, uploads, permits).await?;
        done(ctx, &mut removed, of);
    }
    for blocks in &plan.blocks {
        goes_on(ctx)?;
        let collected = collector::collect(ctx, storage, &BlocksRoot::new(&blocks.folder)?, home_id).await?;
        if let Some(words) = collected.in_words() {
            ctx.meter.info(format!("{:?}: {words}", blocks.folder));
        }
        if let collector::Collected::Done { blocks, bytes } = collected {
            done(ctx, &mut removed, Amount { objects: blocks, bytes });
        }
    }
    ctx.meter.info(format!("removed {}, {}", counted(removed.objects, "object"), bytes(removed.bytes)));
    Ok(removed)
}

fn goes_on(ctx: &Context) -> Result<()> {
    if ctx.cancel.is_cancelled() {
        return Err(Error::cancelled().hint("what was removed is gone; mongokeep storage check says what is left"));
    }
    Ok(())
}

fn done(ctx: &Context, removed: &mut Amount, of: Amount) {
    removed.add(of.objects, of.bytes);
    ctx.meter.add_bytes(of.bytes);
    for _ in 0..of.objects.min(1_000_000) {
        ctx.meter.object_done();
    }
}

/// `None`: it stays.
async fn abandoned(
    ctx: &Context,
    storage: &dyn Storage,
    home_id: &str,
    planned: &PlannedAttempt,
    permits: &dyn Permits,
) -> Result<Option<Amount>> {
    let PlannedAttempt { folder, backup, attempt_id, bytes, .. } = planned;
    let root = BackupRoot::new(folder, backup)?;
    if permits.is_at_work(&(folder.clone(), backup.clone())).await? {
        ctx.meter.warn(format!("{} stays: a job works on it by now", root.key()));
        return Ok(None);
    }
    match discard(storage, &root, attempt_id, home_id).await {
        Ok(objects) => {
            permits.discarded(attempt_id).await?;
            Ok(Some(Amount { objects, bytes: if objects > 0 { *bytes } else { 0 } }))
        }
        // It became a backup, or is another's by now.
        Err(e) if e.kind() == ErrorKind::Conflict => {
            ctx.meter.warn(format!("{} stays: {e}", root.key()));
            Ok(None)
        }
        Err(e) => Err(e),
    }
}

/// Objects beside those of a good backup, as far as its manifest still does not name them.
async fn beside(
    ctx: &Context,
    storage: &dyn Storage,
    planned: &PlannedOrphans,
    permits: &dyn Permits,
) -> Result<Amount> {
    let PlannedOrphans { folder, backup, attempt_id, objects } = planned;
    let root = BackupRoot::new(folder, backup)?;
    let stays = |why: &str| {
        ctx.meter.warn(format!("what lies beside backup {} stays: {why}", escape(backup)));
        Ok(Amount::default())
    };
    if permits.is_at_work(&(folder.clone(), backup.clone())).await? {
        return stays("a job works on it by now");
    }
    let manifest = match held(storage, &root).await {
        Ok(Held::Complete(manifest, owner)) if owner.attempt_id == *attempt_id => manifest,
        Ok(_) => return stays("it is not the backup that was looked at"),
        Err(e) if matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported) => {
            return stays("its manifest cannot be read any more");
        }
        Err(e) => return Err(e),
    };
    let named = engine(manifest.envelope.engine, manifest.envelope.model)?.objects(&manifest)?;
    let named: HashSet<&str> = named.iter().map(|object| object.path.as_str()).collect();
    // Every name is checked before the first object goes.
    let mut going: Vec<(Key, u64)> = Vec::new();
    for PlannedObject { path, size } in objects {
        if !named.contains(path.as_str()) && is_attempt_object(path) {
            going.push((root.key().join(path)?, *size));
        }
    }
    let deletes = going.into_iter().map(|(key, size)| async move {
        // What was written there since is not what a person let go.
        match storage.stat(&key).await? {
            Some(found) if found.size == size => storage.delete(&key).await.map(|()| Some(size)),
            Some(_) | None => Ok::<_, Error>(None),
        }
    });
    let mut deletes = stream::iter(deletes).buffer_unordered(LOOKS_AT_ONCE);
    let mut removed = Amount::default();
    while let Some(size) = deletes.try_next().await? {
        if let Some(size) = size {
            removed.add(1, size);
        }
        goes_on(ctx)?;
    }
    Ok(removed)
}

async fn unfinished(
    ctx: &Context,
    storage: &dyn Storage,
    plan: &RepairPlan,
    planned: &PlannedUploads,
    permits: &dyn Permits,
) -> Result<Amount> {
    let prefix = Key::new(&*planned.prefix)?;
    // What was begun after the plan is younger than it.
    let since = (clock::now() - plan.made_at).to_std().unwrap_or_default();
    let age = match &planned.backup {
        Some(place) => {
            if permits.is_at_work(place).await? {
                ctx.meter.warn(format!("unfinished uploads below {prefix} stay: a job works there by now"));
                return Ok(Amount::default());
            }
            Duration::ZERO
        }
        None => ABANDONED.saturating_add(since),
    };
    let ended = storage.sweep_older(&prefix, age).await?;
    Ok(Amount { objects: ended, bytes: if ended > 0 { planned.bytes } else { 0 } })
}
