//! Who records an oplog into an archive: advisory, so that two daemons do not do the same work unknowingly.
//!
//! It rests on clocks and on a storage that may forget conditions, so nothing depends on it: slices of two daemons
//! overlap, and readers take overlapping slices that agree. Two services of one installation that are the same replica set
//! count as two: retention of one would delete what the other needs.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::domain::clock;
use crate::domain::key::Key;
use crate::domain::text::escape;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::{PutMode, Storage, read_all};

/// How often it is renewed.
pub const RENEW: std::time::Duration = std::time::Duration::from_secs(60);
/// One that was not renewed for so long belongs to nobody.
const EXPIRES: TimeDelta = TimeDelta::seconds(180);
const LIMIT: usize = 64 << 10;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Held {
    home_id: String,
    host: String,
    pid: u32,
    service: String,
    renewed_at: DateTime<Utc>,
}

/// A lease that is held.
#[derive(Debug, Clone)]
pub struct Lease {
    key: Key,
    home_id: String,
    host: String,
    service: String,
}

impl Lease {
    /// Takes the lease of the archive in `folder`, or renews it: one of the same service of the same home is its own.
    ///
    /// Errors: `Conflict`, naming who holds it.
    pub async fn take(storage: &dyn Storage, folder: &Key, home_id: &str, host: &str, service: &str) -> Result<Self> {
        let lease = Self {
            key: folder.join("lease.json")?,
            home_id: home_id.into(),
            host: host.into(),
            service: service.into(),
        };
        lease.renew(storage).await?;
        Ok(lease)
    }

    /// Errors: `Conflict` when another daemon has it now.
    pub async fn renew(&self, storage: &dyn Storage) -> Result<()> {
        let now = clock::now();
        if let Some(held) = self.held(storage).await?
            && (&held.home_id, &held.service) != (&self.home_id, &self.service)
            && (now - held.renewed_at).abs() < EXPIRES
        {
            if held.home_id == self.home_id {
                let of = escape(&held.service);
                return Err(Error::new(
                    ErrorKind::Conflict,
                    format!("service {of} is the same replica set, and records this oplog"),
                )
                .hint("record it for one of the two only, or let this one write to another folder"));
            }
            let (host, pid, since) = (escape(&held.host), held.pid, held.renewed_at.format("%Y-%m-%d %H:%M:%S UTC"));
            return Err(Error::new(
                ErrorKind::Conflict,
                format!("another mongokeep records this oplog already: on {host}, process {pid}, seen at {since}"),
            )
            .hint(
                "disable its schedule, or let this one write to another folder; a lease that is not renewed ends after \
                 3 minutes",
            ));
        }
        let held = Held {
            home_id: self.home_id.clone(),
            host: self.host.clone(),
            pid: std::process::id(),
            service: self.service.clone(),
            renewed_at: now,
        };
        let body = serde_json::to_vec_pretty(&held)
            .map_err(|e| Error::new(ErrorKind::Internal, "writing a lease").source(e))?;
        storage.put(&self.key, body.into(), PutMode::Overwrite).await
    }

    /// Gives it back, unless somebody else has it.
    pub async fn release(&self, storage: &dyn Storage) -> Result<()> {
        match self.held(storage).await? {
            Some(held) if (&held.home_id, &held.service) == (&self.home_id, &self.service) => {
                storage.delete(&self.key).await
            }
            _ => Ok(()),
        }
    }

    /// `None` as well for one that cannot be understood: it keeps nobody away.
    async fn held(&self, storage: &dyn Storage) -> Result<Option<Held>> {
        match read_all(storage, &self.key, LIMIT).await {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => Ok(None),
            Err(e) => Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::filesystem::Filesystem;

    #[tokio::test]
    async fn the_second_is_told_who_is_first() {
        let folder = tempfile::tempdir().unwrap();
        let storage = Filesystem::new(folder.path());
        let archive = Key::new("f/oplog/rs0-1").unwrap();
        let first = Lease::take(&storage, &archive, "home-a", "host-a", "s").await.unwrap();
        let refused = Lease::take(&storage, &archive, "home-b", "host-b", "s").await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Conflict);
        assert!(refused.to_string().contains("host-a"), "{refused}");
        let other = Lease::take(&storage, &archive, "home-a", "host-a", "t").await.unwrap_err();
        assert!(
            other.kind() == ErrorKind::Conflict && other.to_string().starts_with("service s is the same"),
            "{other}"
        );
        // Its own process may have been killed.
        Lease::take(&storage, &archive, "home-a", "host-a", "s").await.unwrap();

        let mut held = first.held(&storage).await.unwrap().unwrap();
        held.renewed_at -= EXPIRES;
        storage.put(&first.key, serde_json::to_vec(&held).unwrap().into(), PutMode::Overwrite).await.unwrap();
        let second = Lease::take(&storage, &archive, "home-b", "host-b", "s").await.unwrap();
        assert_eq!(first.renew(&storage).await.unwrap_err().kind(), ErrorKind::Conflict);
        first.release(&storage).await.unwrap();
        assert!(second.held(&storage).await.unwrap().is_some(), "nobody releases what is another's");
        second.release(&storage).await.unwrap();
        assert_eq!(second.held(&storage).await.unwrap(), None);

        storage.put(&first.key, "{".into(), PutMode::Overwrite).await.unwrap();
        first.renew(&storage).await.unwrap();
    }
}
