//! Which time series a change of the oplog concerns, where PBM did not write it down.
//!
//! Before 2.8 PBM kept the UUID of every collection but the buckets of a time series, as `mongodump` does. Changes name
//! them, so that the oplog of the backup, and what follows it, says which one is meant.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use tokio_util::sync::CancellationToken;

use crate::domain::namespace::Namespace;
use crate::domain::restore::CollectionKind;
use crate::domain::text::escape;
use crate::engine::logical::{OpenBackup, hex};
use crate::error::{Error, ErrorKind, Result};
use crate::mongo::oplog::catalogue::BUCKETS_PREFIX;
use crate::mongo::oplog::entry::{Entry, Uuid};

/// Gives the collections `unknown` the UUIDs that the oplog has for them, time series those of their buckets.
///
/// Errors: `Unsupported` for one that was made anew meanwhile, so that it cannot be told which of them was read.
pub async fn identify(opened: OpenBackup, unknown: Vec<Namespace>) -> Result<OpenBackup> {
    let is_series = |ns: &Namespace| {
        let kind = opened.manifest.collections.iter().find(|c| c.namespace == *ns).map(|c| c.kind);
        kind == Some(CollectionKind::Timeseries)
    };
    let stored_as = |ns: &Namespace| match is_series(ns) {
        true => format!("{}.{BUCKETS_PREFIX}{}", ns.db, ns.collection),
        false => ns.to_string(),
    };
    let names: BTreeMap<String, Namespace> = unknown.into_iter().map(|ns| (stored_as(&ns), ns)).collect();
    let state =
        (opened.transactions(), names.keys().map(|n| (n.clone(), BTreeSet::<Uuid>::new())).collect::<BTreeMap<_, _>>());
    let (_, seen) = opened
        .for_each_entry(&CancellationToken::new(), state, move |(transactions, seen), document| {
            let entry = Entry::parse(document)?;
            transactions.feed(&entry, &mut |_, op| {
                let target = op.command_target().map_or_else(|| op.ns.to_string(), |ns| ns.to_string());
                if let (Some(uuids), Some(uuid)) = (seen.get_mut(&target), op.ui) {
                    uuids.insert(uuid);
                }
                Ok(())
            })?;
            Ok(ControlFlow::Continue(()))
        })
        .await?;
    let mut found = BTreeMap::new();
    for (name, uuids) in seen {
        let Some(ns) = names.get(&name) else { continue };
        let uuid = match uuids.iter().collect::<Vec<_>>()[..] {
            [uuid] => *uuid,
            // Nothing ever names it: any other than those that are used will do.
            [] => made_up(&name),
            _ => {
                let what = format!("the backup does not say which collection {} it holds", escape(&ns.to_string()));
                return Err(Error::new(ErrorKind::Unsupported, format!("{what}: it was made anew meanwhile"))
                    .hint("restore it with the tool that made it, or use another backup"));
            }
        };
        found.insert(ns.clone(), hex(uuid));
    }
    Ok(opened.with_uuids(&found))
}

fn made_up(name: &str) -> Uuid {
    let mut uuid = [0; 16];
    uuid.iter_mut().zip(blake3::hash(name.as_bytes()).as_bytes()).for_each(|(to, from)| *to = *from);
    uuid
}
