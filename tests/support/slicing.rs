//! Recording the oplog of a replica set in a test, and restoring to any moment of it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use mongokeep::artifact::keys::Keys;
use mongokeep::domain::pitr::{self, Archive, Slice};
use mongokeep::domain::restore::{RestorePlan, RestoreRequest};
use mongokeep::domain::timestamp::Timestamp;
use mongokeep::engine::contract::OplogTail;
use mongokeep::engine::contract::RestoreReport;
use mongokeep::engine::logical::LogicalManifest;
use mongokeep::engine::logical::{self, OpenBackup};
use mongokeep::engine::pitr::{Event, Following, follow};
use mongokeep::error::Result;
use mongokeep::mongo::Server;
use mongokeep::storage::Storage;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::pair::context;

/// What was heard of a recording.
#[derive(Debug, Default)]
pub struct Heard {
    pub archive: Option<Archive>,
    pub member: Option<String>,
    pub slices: Vec<Slice>,
    /// Warnings, and errors of the storage.
    pub said: Vec<String>,
}

/// A recording that goes on beside the test.
pub struct Recorder {
    cancel: CancellationToken,
    task: JoinHandle<Result<()>>,
    hearing: JoinHandle<()>,
    pub heard: Arc<Mutex<Heard>>,
    changed: watch::Receiver<()>,
}

/// How to record.
pub struct Options {
    pub home_id: String,
    pub folder: String,
    pub slice_length: Duration,
    pub read_back: bool,
    pub known: Vec<(Archive, Slice)>,
    pub base: Option<Timestamp>,
    /// The replica set of the base, where it is said.
    pub base_of: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            home_id: "home".into(),
            folder: "prod".into(),
            slice_length: Duration::from_millis(300),
            read_back: false,
            known: Vec::new(),
            base: None,
            base_of: None,
        }
    }
}

impl Recorder {
    pub fn start(server: &Server, storage: &Arc<dyn Storage>, options: Options) -> Self {
        let cancel = CancellationToken::new();
        let heard: Arc<Mutex<Heard>> = Arc::default();
        let (tell, changed) = watch::channel(());
        let (sender, mut events) = mpsc::channel(1);
        let told = Arc::clone(&heard);
        let hearing = tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                {
                    let mut heard = told.lock().unwrap();
                    match event {
                        Event::Began { archive, member, .. } => {
                            (heard.archive, heard.member) = (Some(archive), Some(member));
                        }
                        Event::Stored { slice, .. } => heard.slices.push(*slice),
                        Event::StorageAway(e) => heard.said.push(format!("away: {e}")),
                        Event::StorageBack => heard.said.push("back".into()),
                        Event::Stalled(e) => heard.said.push(format!("stalled: {e}")),
                        Event::Moving => heard.said.push("moving".into()),
                        Event::Warning(text) => heard.said.push(text),
                    }
                }
                tell.send_replace(());
            }
        });
        let request = Following {
            service: "prod".into(),
            home_id: options.home_id,
            storage: "store".into(),
            folder: options.folder,
            known: options.known,
            bases: options.base.into_iter().map(|at| (options.base_of.clone(), at)).collect(),
            encryption: None,
            slice_length: watch::channel(options.slice_length).1,
            read_back: watch::channel(options.read_back).1,
        };
        let (server, storage, token) = (server.clone(), Arc::clone(storage), cancel.clone());
        let task = tokio::spawn(async move { follow(&token, storage, &server, &request, sender).await });
        Self { cancel, task, hearing, heard, changed }
    }

    /// Waits until `done` says so.
    pub async fn wait_for(&mut self, what: &str, done: impl Fn(&Heard) -> bool) {
        let waiting = async {
            while !done(&self.heard.lock().unwrap()) {
                if self.changed.changed().await.is_err() {
                    assert!(done(&self.heard.lock().unwrap()), "it ended before {what}: {:?}", self.heard);
                    return;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(180), waiting).await.expect(what);
    }

    /// Waits until `done` says so, or until it has ended by itself, which is told.
    pub async fn wait_until_ended_or(&mut self, done: impl Fn(&Heard) -> bool) -> bool {
        let waiting = async {
            while !done(&self.heard.lock().unwrap()) {
                if self.changed.changed().await.is_err() {
                    return true;
                }
            }
            false
        };
        tokio::time::timeout(Duration::from_secs(180), waiting).await.expect("nothing happens")
    }

    /// The same, and waits until recording has begun.
    pub async fn begun(server: &Server, storage: &Arc<dyn Storage>, options: Options) -> Self {
        let mut recorder = Self::start(server, storage, options);
        recorder.began().await;
        recorder
    }

    pub async fn began(&mut self) {
        self.wait_for("recording began", |heard| heard.archive.is_some()).await;
    }

    /// Waits until everything up to `ts` is stored.
    pub async fn reached(&mut self, ts: Timestamp) {
        self.wait_for("everything is stored", |heard| heard.slices.iter().any(|s| s.last.ts >= ts)).await;
    }

    /// Stops in order: what is held is stored.
    pub async fn stop(self) -> (Result<()>, Heard) {
        self.cancel.cancel();
        self.ended().await
    }

    /// Waits for the end that comes by itself.
    pub async fn ended(self) -> (Result<()>, Heard) {
        let outcome = tokio::time::timeout(Duration::from_secs(180), self.task).await.unwrap().unwrap();
        self.hearing.await.unwrap();
        (outcome, std::mem::take(&mut self.heard.lock().unwrap()))
    }

    /// As if the process had died: nothing is stored any more.
    pub async fn kill(self) -> Heard {
        self.task.abort();
        let _ = self.task.await;
        std::mem::take(&mut self.heard.lock().unwrap())
    }
}

/// The backup with the slices that lead to `until`.
pub fn at(
    storage: &Arc<dyn Storage>,
    manifest: &LogicalManifest,
    archive: &Archive,
    slices: &[Slice],
    until: Timestamp,
) -> Result<OpenBackup> {
    let path = pitr::path(slices, manifest.consistent_at_ts, until).expect("a way to the moment");
    let slices = path.into_iter().cloned().collect();
    let later =
        OplogTail { storage: Arc::clone(storage), archive: archive.clone(), slices, until, keys: Keys::default() };
    OpenBackup::new(Arc::clone(storage), manifest.clone())?.followed_by(later)
}

/// Plans and restores.
pub async fn restore(
    stored: &OpenBackup,
    target: &Server,
    request: &RestoreRequest,
) -> Result<(RestorePlan, RestoreReport)> {
    let ctx = context();
    let plan = logical::plan(&ctx.cancel, stored, target, request).await?;
    let report = logical::restore(&ctx, stored, target, request, &plan).await?;
    Ok((plan, report))
}
