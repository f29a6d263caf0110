//! What retention would delete.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::join_all;

use super::Client;
use super::backups::ASK_LIMIT;
use crate::artifact::layout::BackupRoot;
use crate::domain::backup::Backup;
use crate::domain::key::Key;
use crate::domain::retention::RetentionPlan;
use crate::domain::schedule::Schedule;
use crate::domain::text::escape;
use crate::error::Result;
use crate::storage::{self, Freeing, Storage};

/// Backups that storages are asked about at once.
const AT_ONCE: usize = 16;
/// Backups of which a sentence names so many.
const NAMED: usize = 3;

impl Client {
    /// What the retention of a schedule would delete now, and why each other backup stays. The storages are asked what that
    /// frees, for `ASK_LIMIT` at most: a bucket may keep what is deleted.
    pub async fn plan_retention(&self, name: &str) -> Result<RetentionPlan> {
        let of = name.to_owned();
        let planned = self.call(move |client| {
            let plan = client.store.retention_plan(&of)?;
            let going = plan.going().map(|b| client.store.backup(&b.name)).collect::<Result<Vec<Backup>>>()?;
            Ok((plan, going, client.store.schedule(&of)?))
        });
        let (mut plan, going, schedule) = planned.await?;
        if tokio::time::timeout(ASK_LIMIT, self.ask_what_goes(&mut plan, &going, &schedule)).await.is_err() {
            let seconds = ASK_LIMIT.as_secs();
            plan.warnings.push(format!("whether that becomes free, the storage did not say within {seconds} s"));
        }
        Ok(plan)
    }

    async fn ask_what_goes(&self, plan: &mut RetentionPlan, going: &[Backup], schedule: &Schedule) {
        let deletes_oplog = plan.oplog.as_ref().is_some_and(|oplog| oplog.slices > 0);
        let mut storages: BTreeMap<&str, Arc<dyn Storage>> = BTreeMap::new();
        let names = going.iter().map(|backup| backup.storage.as_str());
        for name in names.chain(deletes_oplog.then_some(schedule.storage.as_str())) {
            if storages.contains_key(name) {
                continue;
            }
            match self.storage_to_ask(name).await {
                Ok(storage) => drop(storages.insert(name, storage)),
                Err(e) => {
                    let what = format!("whether that becomes free, storage {} does not say: {e}", escape(name));
                    plan.warnings.push(what);
                }
            }
        }
        let mut asks = Vec::new();
        for backup in going {
            if let Some(storage) = storages.get(backup.storage.as_str()) {
                asks.push((backup.clone(), Arc::clone(storage)));
            }
        }
        let mut asks = asks.into_iter();
        let mut said: BTreeMap<String, Vec<String>> = BTreeMap::new();
        loop {
            let batch: Vec<_> = asks.by_ref().take(AT_ONCE).map(ask).collect();
            if batch.is_empty() {
                break;
            }
            for (backup, freeing) in join_all(batch).await {
                let Some(freeing) = freeing.filter(|freeing| !freeing.is_now()) else { continue };
                plan.frees_bytes = plan.frees_bytes.saturating_sub(backup.size_bytes.unwrap_or(0));
                for warning in freeing.warnings() {
                    said.entry(warning).or_default().push(backup.name.clone());
                }
            }
        }
        plan.warnings.extend(said.iter().map(|(warning, names)| format!("{}: {warning}", listed(names))));
        // Slices are many: what the bucket does with anything that is deleted is enough to know.
        if let (Some(oplog), Some(storage)) = (&mut plan.oplog, storages.get(schedule.storage.as_str()))
            && deletes_oplog
            && let Ok(key) = Key::new("oplog")
            && let Ok(Some(freeing)) = storage.freeing(&key).await
            && !freeing.is_now()
        {
            oplog.frees_bytes = 0;
            plan.warnings.extend(freeing.warnings().iter().map(|warning| format!("the oplog: {warning}")));
        }
    }

    async fn storage_to_ask(&self, name: &str) -> Result<Arc<dyn Storage>> {
        storage::open(&self.location(name).await?.config).await.map_err(|e| e.of_storage(name))
    }
}

/// What deleting a backup does, as far as its storage says.
async fn ask((backup, storage): (Backup, Arc<dyn Storage>)) -> (Backup, Option<Freeing>) {
    let freeing = match BackupRoot::of(&backup).and_then(|root| root.manifest()) {
        Ok(key) => storage.freeing(&key).await.ok().flatten(),
        Err(_) => None,
    };
    (backup, freeing)
}

fn listed(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(NAMED).map(|name| escape(name)).collect();
    match names.len().saturating_sub(NAMED) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::listed;

    #[test]
    fn many_backups_are_counted() {
        let names = |names: &[&str]| listed(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(names(&["a", "b\n"]), "a, b\\n");
        assert_eq!(names(&["a", "b", "c", "d", "e"]), "a, b, c and 2 more");
    }
}
