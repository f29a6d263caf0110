//! Chains of increments: a base, which holds everything, and backups that hold what changed since the one before.
//!
//! PBM bases an increment on the last one of the cluster that is done, whoever made it, and deletes a chain as a whole.

use std::collections::BTreeSet;

use super::answers::{Snapshot, Status};
use super::console::Console;
use crate::artifact::layout::BackupRoot;
use crate::domain::backup::{BackupType, ChainLink};
use crate::engine::pbm_layout::{self, INCREMENTAL};
use crate::engine::{Context, contract::Problem};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::Storage;

/// Whether a backup of `wanted` begins a chain: it was asked to, or there is none to go on with.
///
/// Errors: `Unsupported` for a PBM that has no increments.
pub async fn begins(ctx: &Context, console: &Console<'_>, wanted: BackupType) -> Result<bool> {
    if !console.program.offers("backup", "--base", &ctx.cancel).await? {
        let what = format!("pbm {} makes no incremental backups", console.version);
        return Err(Error::new(ErrorKind::Unsupported, what).hint("a newer version of PBM does"));
    }
    if wanted == BackupType::IncrementalBase {
        return Ok(true);
    }
    let status = console.status(&["backups"]).await?;
    let snapshots = status.backups.map(|storage| storage.snapshot).unwrap_or_default();
    let is_first = !snapshots.iter().any(|snapshot| is_of_chain(snapshot) && snapshot.status == Status::Done);
    if is_first {
        ctx.meter.info("there is no chain of increments yet: this backup is the base of one");
    }
    Ok(is_first)
}

fn is_of_chain(snapshot: &Snapshot) -> bool {
    snapshot.kind == INCREMENTAL && snapshot.profile.as_deref().is_none_or(str::is_empty)
}

/// What of the chain of `link` is missing in the storage; nothing when it can be restored.
///
/// Errors: what keeps it from looking.
pub async fn missing(storage: &dyn Storage, folder: &str, link: &ChainLink) -> Result<Vec<Problem>> {
    let mut problems = Vec::new();
    let mut next = link.source.clone();
    let mut seen = BTreeSet::new();
    while let Some(name) = next.take().filter(|name| seen.insert(name.clone())) {
        let root = BackupRoot::pbm(folder, &name)?;
        match pbm_layout::describe(storage, &root).await {
            Ok(found) => next = found.source().map(str::to_owned),
            Err(e) => {
                let e = crate::engine::contract::about_the_backup(e)?;
                problems.push(Problem::new(&root.manifest()?, format!("the chain needs it: {e}")));
            }
        }
    }
    Ok(problems)
}

/// Whatever PBM deletes with `base`: all that is based on it, those that failed too.
pub fn dependents(snapshots: &[Snapshot], base: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut at = vec![base.to_owned()];
    while let Some(source) = at.pop() {
        for snapshot in snapshots.iter().filter(|s| s.kind == INCREMENTAL && s.source == source) {
            if snapshot.name != base && !found.contains(&snapshot.name) {
                found.push(snapshot.name.clone());
                at.push(snapshot.name.clone());
            }
        }
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(name: &str, source: &str, status: &str) -> Snapshot {
        let json = serde_json::json!({"name": name, "type": "incremental", "src": source, "status": status});
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn what_hangs_on_a_base_goes_with_it() {
        let all = [
            snapshot("a", "", "done"),
            snapshot("b", "a", "done"),
            snapshot("c", "a", "error"),
            snapshot("d", "b", "done"),
            snapshot("x", "", "done"),
            snapshot("y", "x", "done"),
        ];
        assert_eq!(dependents(&all, "a"), ["b", "c", "d"]);
        assert_eq!(dependents(&all, "x"), ["y"]);
        assert_eq!(dependents(&all, "d"), [""; 0]);
        // What cannot be ends all the same.
        assert_eq!(dependents(&[snapshot("a", "b", "done"), snapshot("b", "a", "done")], "a"), ["b"]);
    }
}
