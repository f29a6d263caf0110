//! The places the conformance suite runs at.

use std::sync::Arc;

use futures_util::TryStreamExt;
use mongokeep::domain::bandwidth::BandwidthLimit;
use mongokeep::domain::secret::Secret;
use mongokeep::domain::storage::StorageConfig;
use mongokeep::storage::Storage;
use mongokeep::storage::azure::AzureConfig;
use mongokeep::storage::gcs::GcsConfig;
use mongokeep::storage::retry::{Backoff, Retrying};
use mongokeep::storage::s3::S3;
use mongokeep::storage::s3::{Checksums, S3Config};
use mongokeep::storage::throttle::{Limiter, Throttled};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::cloud_servers::{Azurite, FakeGcs};
use super::s3::{Conditions, Headers, S3Server};
use super::s3_servers::{Habits, Server};

/// A storage that is empty, and what keeps it alive.
pub struct Stand {
    storage: Arc<dyn Storage>,
    place: Place,
    pub habits: Habits,
}

enum Place {
    Folder(TempDir),
    Server(S3Server),
    /// A server of somebody's own, named by `MONGOKEEP_TEST_S3_ENDPOINT`: below a prefix of this test's own.
    Elsewhere,
}

impl Stand {
    pub async fn filesystem() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = StorageConfig::of("filesystem", [("path", folder.path().to_str().unwrap())]);
        let storage = mongokeep::storage::open(&config).await.unwrap();
        Self { storage, place: Place::Folder(folder), habits: Habits::OF_S3 }
    }

    /// With a prefix, and the smallest parts that S3 takes.
    pub async fn s3() -> Self {
        if let Some(config) = elsewhere() {
            return Self { storage: small_parts(&config).await, place: Place::Elsewhere, habits: Habits::OF_S3 };
        }
        Self::served(Conditions::Kept, "some prefix/é+%").await
    }

    /// Below a prefix of its own in a container of Azurite.
    pub async fn azure(server: &Azurite, case: &str) -> Self {
        let config = AzureConfig { prefix: format!("conformance é+%/{case}"), ..server.config() };
        Self { storage: opened(&(&config).into()).await, place: Place::Elsewhere, habits: Azurite::HABITS }
    }

    /// Below a prefix of its own in a bucket of fake-gcs-server.
    pub async fn gcs(server: &FakeGcs, case: &str) -> Self {
        let config = GcsConfig { prefix: format!("conformance é+%/{case}"), ..server.config() };
        Self { storage: opened(&(&config).into()).await, place: Place::Elsewhere, habits: FakeGcs::HABITS }
    }

    /// Below a prefix of its own at a server of somebody else.
    pub async fn on(server: &Server, case: &str) -> Self {
        let config = S3Config { prefix: format!("conformance/{case}"), ..server.config.clone() };
        Self { storage: small_parts(&config).await, place: Place::Elsewhere, habits: server.habits() }
    }

    pub async fn filesystem_decorated() -> Self {
        Self::filesystem().await.decorated()
    }

    pub async fn s3_decorated() -> Self {
        Self::s3().await.decorated()
    }

    /// As a job sees it: retrying, and throttled so little that it shows in nothing.
    pub fn decorated(mut self) -> Self {
        let throttled = Arc::new(Throttled::new(
            self.storage,
            Limiter::new(BandwidthLimit::parse("10GB", chrono_tz::Tz::UTC).unwrap()),
        ));
        self.storage = Arc::new(Retrying::new(throttled, Backoff::default(), CancellationToken::new()));
        self
    }

    /// The whole bucket of a server that ignores `If-None-Match`.
    pub async fn s3_ignoring_conditions() -> Self {
        Self::served(Conditions::Ignored, "").await
    }

    /// The whole bucket of a server that refuses `If-None-Match`.
    pub async fn s3_refusing_conditions() -> Self {
        Self::served(Conditions::Refused, "").await
    }

    /// The whole bucket of a server that takes the marker of a deletion for an object.
    pub async fn s3_counting_markers() -> Self {
        Self::served(Conditions::MarkersCount, "").await
    }

    /// The whole bucket of a server that refuses the headers of checksums.
    pub async fn s3_refusing_checksums() -> Self {
        Self::checked(Headers::Refused, Checksums::None).await
    }

    /// The whole bucket of a server that wants Content-MD5.
    pub async fn s3_wanting_md5() -> Self {
        Self::checked(Headers::Md5, Checksums::Md5).await
    }

    async fn checked(headers: Headers, checksums: Checksums) -> Self {
        let server = S3Server::answering(Conditions::Kept, headers, false).await;
        let config = S3Config { checksums, ..server.config() };
        Self { storage: small_parts(&config).await, place: Place::Server(server), habits: Habits::OF_S3 }
    }

    async fn served(conditions: Conditions, prefix: &str) -> Self {
        let server = S3Server::with(conditions, false).await;
        let config = S3Config { prefix: prefix.into(), ..server.config() };
        let exclusive = matches!(conditions, Conditions::Kept | Conditions::MarkersCount);
        let habits = Habits { exclusive, ..Habits::OF_S3 };
        Self { storage: small_parts(&config).await, place: Place::Server(server), habits }
    }

    pub fn storage(&self) -> &dyn Storage {
        &*self.storage
    }

    pub fn shared(&self) -> Arc<dyn Storage> {
        Arc::clone(&self.storage)
    }

    /// Nothing at all is there, not even what the storage itself would hide.
    pub fn assert_untouched(&self) {
        match &self.place {
            Place::Folder(folder) => {
                let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().path()).collect();
                assert!(left.is_empty(), "{left:?}");
            }
            Place::Server(server) => assert_eq!(server.unfinished(), 0),
            Place::Elsewhere => {}
        }
    }

    pub async fn close(self) {
        if matches!(self.place, Place::Elsewhere) {
            let objects: Vec<_> = self.storage.list(None).await.unwrap().try_collect().await.unwrap();
            for object in objects {
                self.storage.delete(&object.key).await.unwrap();
            }
        }
    }
}

async fn opened(config: &StorageConfig) -> Arc<dyn Storage> {
    mongokeep::storage::open(config).await.unwrap()
}

async fn small_parts(config: &S3Config) -> Arc<dyn Storage> {
    Arc::new(S3::new(config).await.unwrap().with_part_size(5 << 20).unwrap())
}

/// The server that the environment names: `MONGOKEEP_TEST_S3_ENDPOINT`, `_BUCKET`, `_ACCESS_KEY`, `_SECRET_KEY`.
fn elsewhere() -> Option<S3Config> {
    let variable = |name: &str| std::env::var(format!("MONGOKEEP_TEST_S3_{name}")).ok();
    Some(S3Config {
        endpoint: Some(variable("ENDPOINT")?),
        bucket: variable("BUCKET").unwrap_or_else(|| "backups".into()),
        access_key_id: variable("ACCESS_KEY"),
        secret_access_key: variable("SECRET_KEY").map(Secret::new),
        prefix: format!("conformance/{:032x}", rand::random::<u128>()),
        path_style: true,
        ..S3Config::default()
    })
}
