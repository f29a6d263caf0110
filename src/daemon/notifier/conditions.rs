//! What is wrong for as long as it lasts: services without a good backup for too long, disks that are nearly full.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::super::env::Env;
use crate::config::{Notify, Settings};
use crate::domain::clock;
use crate::domain::notification::Event;
use crate::domain::warning;
use crate::error::Result;
use crate::storage::backends;
use crate::store::Store;

/// How often everything is looked at.
const EVERY: Duration = Duration::from_secs(30);
/// A disk that does not say how full it is within this is left to itself: it is a network filesystem whose server is
/// gone, and the thread that asked it hangs until it is back.
const DISK_LIMIT: Duration = Duration::from_secs(5);

/// Subjects that something is wrong with, and the words for it.
type Wrong = Vec<(String, String)>;

/// Looks now and then until `stop`.
pub async fn watch_conditions(env: &Env, stop: &CancellationToken) {
    let mut asking: Option<JoinHandle<Result<Wrong>>> = None;
    loop {
        if let Err(e) = look_at_all(env, &mut asking).await {
            warn!("looking for what is wrong: {e}");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

async fn look_at_all(env: &Env, asking: &mut Option<JoinHandle<Result<Wrong>>>) -> Result<()> {
    let home = env.home.clone();
    let settings = env
        .store
        .with(move |store| {
            let settings = Settings::load(&home)?.notify();
            let now = clock::now();
            let stale = store.services()?.into_iter().filter_map(|s| {
                let warning = warning::stale(&s.name, s.last_good_backup_at, s.created_at, &settings.stale_after, now)?;
                Some((s.name, warning.text))
            });
            store.set_conditions(Event::Stale, &stale.collect::<Vec<_>>(), false)?;
            Ok(settings)
        })
        .await?;
    let mut asked = match asking.take() {
        Some(asked) => asked,
        None => {
            let store = env.store.sync().clone();
            tokio::task::spawn_blocking(move || full_disks(&store, &settings))
        }
    };
    match tokio::time::timeout(DISK_LIMIT, &mut asked).await {
        Ok(Ok(full)) => env.store.set_conditions(Event::StorageFull, &full?, true).await,
        Ok(Err(e)) => {
            warn!("asking how full the storages are: {e}");
            Ok(())
        }
        Err(_) => {
            debug!("a storage does not say how full it is");
            *asking = Some(asked);
            Ok(())
        }
    }
}

/// Storages in a folder whose disk is fuller than it should be. A bucket has no end.
fn full_disks(store: &Store, settings: &Notify) -> Result<Wrong> {
    let mut full = Vec::new();
    if settings.storage_full_percent == 0 {
        return Ok(full);
    }
    for row in store.storages()? {
        let Ok(Some(path)) = backends::local_folder(&row.config) else { continue };
        // A folder that is not there is a matter of its own, which every job that needs it tells.
        let Ok(stat) = rustix::fs::statvfs(&path) else { continue };
        let Some(percent) = percent_full(stat.f_blocks, stat.f_bavail) else { continue };
        if percent >= settings.storage_full_percent {
            full.push((row.name.clone(), format!("storage {}: its disk is {percent} % full", row.name)));
        }
    }
    Ok(full)
}

/// How full a disk is, of so many blocks in all. Whatever a filesystem tells, the largest numbers there are included;
/// `None` for one that has no end.
fn percent_full(blocks: u64, free: u64) -> Option<u64> {
    let used = u128::from(blocks.saturating_sub(free));
    u64::try_from((used * 100).checked_div(u128::from(blocks))?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_of_any_size_is_so_and_so_full() {
        for (blocks, free, percent) in
            [(1000, 100, Some(90)), (1000, 2000, Some(0)), (u64::MAX, 0, Some(100)), (u64::MAX, u64::MAX / 2, Some(50))]
        {
            assert_eq!(percent_full(blocks, free), percent, "{blocks} {free}");
        }
        assert_eq!(percent_full(0, 0), None);
    }
}
