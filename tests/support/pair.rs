//! Two throw-away replica sets: one to record, one to restore into.

use std::time::Duration;

use mongodb::Client;
use mongokeep::domain::restore::{RestorePlan, RestoreRequest};
use mongokeep::domain::secret::Secret;
use mongokeep::engine::contract::RestoreReport;
use mongokeep::engine::logical::LogicalManifest;
use mongokeep::engine::logical::{OpenBackup, plan, restore};
use mongokeep::engine::{Context, Meter};
use mongokeep::error::Result;
use mongokeep::mongo::Server;
use mongokeep::sandbox::{ReplicaSet, ReplicaSetOptions};
use tokio_util::sync::CancellationToken;

use super::compare;
use super::recording::{Recording, folder};

pub struct Pair {
    pub source: ReplicaSet,
    pub target: ReplicaSet,
    pub from: Client,
    pub to: Client,
    pub dir: tempfile::TempDir,
}

pub fn context() -> Context {
    let meter = Meter::new(|level, line| eprintln!("{level:?}: {line}"));
    Context { meter: meter.into(), ..Context::default() }
}

/// Everything, under its own name.
pub fn request() -> RestoreRequest {
    RestoreRequest {
        data_folder: None,
        mongod: None,
        no_check: false,
        replset_map: Vec::new(),
        identity_file: None,
        backup: "b".into(),
        point_in_time: None,
        to: "target".into(),
        include: vec![],
        rename: vec![],
        exact: false,
        no_ttl: false,
        users_and_roles: false,
        safety_backup: false,
    }
}

impl Pair {
    pub async fn start() -> Self {
        let mongod = super::mongod().await;
        let start = || ReplicaSet::start(&mongod, ReplicaSetOptions::default().test_commands());
        let (source, target) = tokio::join!(start(), start());
        let (source, target) = (source.unwrap(), target.unwrap());
        let (from, to) = (source.client().await.unwrap(), target.client().await.unwrap());
        Self { source, target, from, to, dir: tempfile::tempdir().unwrap() }
    }

    pub async fn restore(&self, manifest: &LogicalManifest, request: &RestoreRequest) -> Result<RestoreReport> {
        let confirmed = self.plan(manifest, request).await?;
        self.execute(manifest, request, &confirmed).await
    }

    pub async fn server(&self) -> Result<Server> {
        Server::connect("target", &Secret::new(self.target.uri()), Duration::from_secs(20)).await
    }

    pub async fn stored(&self, manifest: &LogicalManifest) -> Result<OpenBackup> {
        OpenBackup::new(folder(self.dir.path()).await, manifest.clone())
    }

    pub async fn plan(&self, manifest: &LogicalManifest, request: &RestoreRequest) -> Result<RestorePlan> {
        plan(&CancellationToken::new(), &self.stored(manifest).await?, &self.server().await?, request).await
    }

    pub async fn execute(
        &self,
        manifest: &LogicalManifest,
        request: &RestoreRequest,
        confirmed: &RestorePlan,
    ) -> Result<RestoreReport> {
        restore(&context(), &self.stored(manifest).await?, &self.server().await?, request, confirmed).await
    }

    /// Ends the recording, restores it, and compares everything.
    pub async fn round_trip(&self, recording: Recording, name: &str) {
        let expected = compare::state(&self.from).await;
        let manifest = recording.end(&folder(self.dir.path()).await, name).await;
        self.restore(&manifest, &request()).await.unwrap();
        compare::assert_same(&expected, &compare::state(&self.to).await, name);
    }
}
