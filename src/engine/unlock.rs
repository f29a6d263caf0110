//! The keys to what is read: looked for before anything else is done, so that a wrong or missing identity is told while
//! nothing was written yet.

use std::collections::BTreeMap;

use super::Context;
use super::contract::{OplogTail, RestoreSource};
use super::pitr::read_header;
use crate::artifact::identity::Locked;
use crate::artifact::keys::Keys;
use crate::artifact::manifest::Envelope;
use crate::domain::encryption::Recipient;
use crate::domain::key::Key;
use crate::domain::text::escape;
use crate::error::{Error, Result};

/// What opens the objects of a backup; no keys for one that is not encrypted.
///
/// Errors: `Unauthenticated`, naming the recipients.
pub async fn keys_of(ctx: &Context, envelope: &Envelope) -> Result<Keys> {
    unlock(ctx, locked(envelope).into_iter().collect()).await
}

/// Puts in what opens the objects of a backup and of the slices that follow it, which may have been written for others.
///
/// Errors: as [`keys_of`]; what the storage of the slices reports.
pub async fn unlock_source(ctx: &Context, source: &mut RestoreSource) -> Result<()> {
    let mut all: Vec<Locked> = locked(&source.manifest.envelope).into_iter().collect();
    if let Some(tail) = &source.tail {
        all.extend(locked_slices(ctx, tail).await?);
    }
    source.keys = unlock(ctx, all).await?;
    if let Some(tail) = &mut source.tail {
        tail.keys = source.keys.clone();
    }
    Ok(())
}

async fn unlock(ctx: &Context, locked: Vec<Locked>) -> Result<Keys> {
    let file = &ctx.around.identity_file;
    let is_needed = !locked.is_empty();
    let keys = tokio::select! {
        biased;
        () = ctx.cancel.cancelled() => return Err(Error::cancelled()),
        keys = file.unlock(locked) => keys?,
    };
    if is_needed && let Some(warning) = file.warning() {
        ctx.meter.warn(warning);
    }
    Ok(keys)
}

fn locked(envelope: &Envelope) -> Option<Locked> {
    let encryption = envelope.encryption.clone()?;
    Some(Locked { what: format!("backup {}", escape(&envelope.name)), encryption })
}

/// One slice for each set of recipients, as it describes itself.
async fn locked_slices(ctx: &Context, tail: &OplogTail) -> Result<Vec<Locked>> {
    let mut by_recipients: BTreeMap<&[Recipient], (&str, u64)> = BTreeMap::new();
    for slice in tail.slices.iter().filter(|slice| !slice.recipients.is_empty()) {
        by_recipients.entry(&slice.recipients).or_insert((&slice.key, slice.size));
    }
    let mut all = Vec::new();
    for (key, size) in by_recipients.into_values() {
        let key = Key::new(key)?;
        let header = tokio::select! {
            biased;
            () = ctx.cancel.cancelled() => return Err(Error::cancelled()),
            header = read_header(tail.storage.as_ref(), &key, size) => header?.0,
        };
        if let Some(encryption) = header.encryption {
            all.push(Locked { what: format!("slice {}", escape(key.file_name())), encryption });
        }
    }
    Ok(all)
}
