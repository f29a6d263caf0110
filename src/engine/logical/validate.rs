//! What a manifest says about itself must agree: paths, identities, sums, positions.
//!
//! A checksum shows that a manifest is what somebody wrote, not that it makes sense. A storage is not trusted: a path
//! that leaves its folder, or names another object twice, is found here before anything is read through it.

use std::collections::HashSet;

use chrono::{DateTime, Utc};

use super::manifest::LogicalManifest;
use crate::artifact::layout::BackupRoot;
use crate::artifact::manifest::ObjectEntry;
use crate::domain::restore::CollectionKind;
use crate::domain::text::escape;

/// No backup has so many bytes or documents; with more, sums over a few backups would leave 64 bits.
const MOST: u64 = 1 << 61;

/// What no backup can be like: numbers and times that whoever counts with them need not expect; empty when there is
/// nothing of that kind. Cheaper than [`validate`], and enough for a catalogue, which looks at nothing else.
pub fn impossible(manifest: &LogicalManifest) -> Vec<String> {
    let mut found = Vec::new();
    let stored = manifest.objects().fold(0_u64, |sum, object| object.size.saturating_add(sum));
    if stored != manifest.size_bytes {
        found.push(format!("it has {} bytes in the storage, its objects have {stored}", manifest.size_bytes));
    }
    let numbers = [("bytes", manifest.size_bytes), ("bytes of BSON", manifest.uncompressed_bytes)];
    for (what, number) in numbers.into_iter().chain([("documents", manifest.documents)]) {
        if number > MOST {
            found.push(format!("it has {number} {what}, which is more than there can be"));
        }
    }
    // The times that a position of the oplog can stand for.
    let possible =
        DateTime::UNIX_EPOCH..=DateTime::from_timestamp(i64::from(u32::MAX), 0).unwrap_or(DateTime::<Utc>::MAX_UTC);
    for (what, at) in [("begun", manifest.started_at), ("finished", manifest.finished_at)] {
        if !possible.contains(&at) {
            found.push(format!("it was {what} at {}, which cannot be", at.to_rfc3339()));
        }
    }
    found
}

/// Everything in `manifest`, found below `root`, that cannot be true; empty when all agrees.
pub fn validate(manifest: &LogicalManifest, root: &BackupRoot) -> Vec<String> {
    let mut found = impossible(manifest);
    if BackupRoot::new(&manifest.folder, &manifest.name).ok().as_ref() != Some(root) {
        found.push(format!(
            "it belongs to the backup {} in folder {:?}",
            escape(&manifest.name),
            escape(&manifest.folder)
        ));
    }
    let mut paths = HashSet::new();
    let mut object = |entry: &ObjectEntry, folder: &str, found: &mut Vec<String>| {
        let path = &entry.path;
        if !path.starts_with(folder) || root.key().join(path).is_err() {
            found.push(format!("{} is no path of an object below {folder}", escape(path)));
        }
        if !paths.insert(path.clone()) {
            found.push(format!("{} is named twice", escape(path)));
        }
        if entry.blake3.len() != 64 || !entry.blake3.bytes().all(|b| b.is_ascii_hexdigit()) {
            found.push(format!("{} has no checksum", escape(path)));
        }
    };
    let mut uuids = HashSet::new();
    for collection in &manifest.collections {
        let name = escape(&collection.namespace.to_string());
        object(&collection.metadata, "data/", &mut found);
        for part in &collection.parts {
            object(part, "data/", &mut found);
        }
        match (&collection.uuid, collection.kind) {
            (None, CollectionKind::View) => {}
            (Some(uuid), CollectionKind::Collection | CollectionKind::Timeseries) => {
                if uuid.len() != 32 || !uuid.bytes().all(|b| b.is_ascii_hexdigit()) {
                    found.push(format!("{name} has the UUID {}, which is none", escape(uuid)));
                }
                if !uuids.insert(uuid.to_ascii_lowercase()) {
                    found.push(format!("{name} has the UUID of another collection"));
                }
            }
            (None, _) => found.push(format!("{name} has no UUID")),
            (Some(_), CollectionKind::View) => found.push(format!("the view {name} has a UUID")),
        }
        let (documents, bytes) = sums(&collection.parts);
        if documents != collection.documents || bytes != collection.bytes {
            found.push(format!(
                "{name} has {} documents of {} bytes, its parts have {documents} of {bytes}",
                collection.documents, collection.bytes
            ));
        }
        if collection.kind == CollectionKind::View && !collection.parts.is_empty() {
            found.push(format!("the view {name} has documents"));
        }
    }
    for part in &manifest.oplog {
        object(part, "oplog/", &mut found);
    }
    let (entries, oplog_bytes) = sums(&manifest.oplog);
    if entries != manifest.oplog_entries {
        found.push(format!("it has {} oplog entries, the parts have {entries}", manifest.oplog_entries));
    }
    if entries == 0 {
        found.push("it has no oplog, so that its data is of no single moment".into());
    }
    if manifest.oplog_from_ts > manifest.consistent_at_ts {
        found.push(format!(
            "its oplog begins at {}, after the position it is consistent at, {}",
            manifest.oplog_from_ts, manifest.consistent_at_ts
        ));
    }
    // Whether the sums count the oplog's entries as documents is the writer's choice.
    let all = manifest.collections.iter().flat_map(|c| &c.parts);
    let (documents, bytes) = all.fold((0_u64, 0_u64), |(documents, bytes), part| {
        (documents.saturating_add(part.documents), bytes.saturating_add(part.uncompressed))
    });
    if ![documents, documents.saturating_add(entries)].contains(&manifest.documents) {
        found.push(format!("it has {} documents, its collections have {documents}", manifest.documents));
    }
    if ![bytes, bytes.saturating_add(oplog_bytes)].contains(&manifest.uncompressed_bytes) {
        found.push(format!("it has {} bytes of BSON, its collections have {bytes}", manifest.uncompressed_bytes));
    }
    found
}

/// Documents and bytes of BSON; saturating, because a hostile manifest may hold any number.
fn sums(parts: &[ObjectEntry]) -> (u64, u64) {
    parts.iter().fold((0, 0), |(documents, bytes), part| {
        (part.documents.saturating_add(documents), part.uncompressed.saturating_add(bytes))
    })
}
