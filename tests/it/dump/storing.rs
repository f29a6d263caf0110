//! Backups over a line: nothing waits for an answer that it does not need.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use mongodb::bson::{Document, doc};
use mongokeep::engine::Limits;
use mongokeep::engine::logical::OpenBackup;
use mongokeep::error::{Error, ErrorKind, Result};
use mongokeep::sandbox::ReplicaSet;
use mongokeep::storage::{Key, PutMode};
use tokio_util::sync::CancellationToken;

use crate::support;
use crate::support::dumps::{Folder, Running, dump_ok, entry, names, request, start, verify_ok};
use crate::support::hooked::{Gate, Hook, OverALine, hooked};

/// Collections of a database that nothing else of these tests has.
const COLLECTIONS: usize = 12;

async fn filled() -> ReplicaSet {
    let set = support::replica_set().await;
    let db = set.client().await.unwrap().database("shop");
    for n in 0..COLLECTIONS {
        let documents = (0..10).map(|id| doc! {"_id": id, "of": n as i32});
        db.collection::<Document>(&format!("c{n}")).insert_many(documents).await.unwrap();
    }
    set
}

/// Returns when everything was read.
async fn all_read(running: &Running) {
    let began = Instant::now();
    while running.ctx.meter.snapshot().documents_done < 10 * COLLECTIONS as u64 {
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", running.ctx.meter.snapshot());
        assert!(!running.task.is_finished());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_is_read_before_there_is_a_claim_and_nothing_is_stored() {
    let set = filled().await;
    let folder = Folder::new();
    let (gated, gate) = hooked(&folder.storage, OverALine::new(Gate::new(&["/attempt.json"])));
    let running = start(&set.uri(), gated, request("early"), Limits::default()).await;
    gate.inner.all_held().await;
    all_read(&running).await;
    assert_eq!(folder.files(), Vec::<String>::new());
    gate.inner.open();
    let (manifest, log) = running.done().await;
    let manifest = manifest.unwrap_or_else(|e| panic!("{e:?} {log:#?}"));
    assert_eq!(names(&manifest).len(), COLLECTIONS);
    for n in 0..COLLECTIONS {
        assert_eq!(entry(&manifest, &format!("shop.c{n}")).documents, 10);
    }
    verify_ok(&folder, &manifest).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_taken_meanwhile_keeps_what_has_it() {
    let set = filled().await;
    let folder = Folder::new();
    let (gated, gate) = hooked(&folder.storage, OverALine::new(Gate::new(&["/attempt.json"])));
    let running = start(&set.uri(), gated, request("taken"), Limits::default()).await;
    gate.inner.all_held().await;
    all_read(&running).await;
    let other = Key::new("prod/backups/taken/attempt.json").unwrap();
    folder.storage.put(&other, "{}".into(), PutMode::CreateNew).await.unwrap();
    gate.inner.open();
    let (outcome, log) = running.done().await;
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Conflict, "{log:#?}");
    assert_eq!(folder.files(), [other.as_str()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_refuses_before_there_is_a_claim_leaves_nothing() {
    let mut set = filled().await;
    let folder = Folder::new();
    let (gated, gate) = hooked(&folder.storage, OverALine::new(Gate::new(&["/attempt.json"])));
    let running = start(&set.uri(), gated, request("lost"), Limits::default()).await;
    gate.inner.all_held().await;
    all_read(&running).await;
    set.kill_member(0).await.unwrap();
    gate.inner.open();
    let (outcome, log) = running.done().await;
    let error = outcome.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    assert_eq!(folder.files(), Vec::<String>::new(), "{log:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rest_is_stored_while_an_answer_is_awaited() {
    let set = filled().await;
    let folder = Folder::new();
    let (gated, gate) = hooked(&folder.storage, OverALine::new(Gate::new(&["/c3/"])));
    let limits = Limits { parallel_collections: 1, ..Limits::default() };
    let running = start(&set.uri(), gated, request("awaited"), limits).await;
    gate.inner.all_held().await;
    let stored = |n: usize| folder.files().iter().filter(|file| file.contains(&format!("/c{n}/"))).count();
    let began = Instant::now();
    while !(0..COLLECTIONS).all(|n| n == 3 || stored(n) == 1) {
        assert!(began.elapsed() < Duration::from_secs(60), "{:#?}", folder.files());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!running.task.is_finished());
    assert_eq!(stored(3), 0);
    gate.inner.open();
    let (manifest, log) = running.done().await;
    verify_ok(&folder, &manifest.unwrap_or_else(|e| panic!("{e:?} {log:#?}"))).await;
}

/// Definitions that are asked for before one of them is answered.
#[derive(Default)]
struct Asked {
    now: AtomicUsize,
    most: AtomicUsize,
}

#[async_trait]
impl Hook for Asked {
    async fn read(&self, key: &Key) {
        if key.as_str().contains("metadata") {
            let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(now, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(100)).await;
            self.now.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn definitions_are_read_without_waiting_for_each_other() {
    let set = filled().await;
    let folder = Folder::new();
    let manifest = dump_ok(&set, &folder, &request("definitions"), Limits::default()).await;
    let (asked, hook) = hooked(&folder.storage, Asked::default());
    let stored = OpenBackup::new(asked, manifest).unwrap();
    let survey = stored.survey(&CancellationToken::new(), stored.until()).await.unwrap();
    assert_eq!(hook.most.load(Ordering::SeqCst), COLLECTIONS);
    assert_eq!(survey.catalogue.collections().count(), COLLECTIONS);
    for (_, collection) in survey.catalogue.collections() {
        let source = collection.source.unwrap();
        assert_eq!(stored.manifest.collections[source].namespace, collection.namespace);
    }
}

/// A storage that is full by the time it is let through.
struct FullLater {
    gate: Gate,
    is_full: AtomicBool,
}

#[async_trait]
impl Hook for FullLater {
    async fn write(&self, key: &Key) {
        self.gate.write(key).await;
    }

    fn refuse(&self) -> Result<()> {
        match self.is_full.load(Ordering::SeqCst) {
            true => Err(Error::new(ErrorKind::StorageFull, "no room is left")),
            false => Ok(()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_stored_after_it_was_read_fails_the_attempt() {
    let set = filled().await;
    for held in ["/c3/", "/c3.metadata", "/oplog/"] {
        let folder = Folder::new();
        let hook = FullLater { gate: Gate::new(&[held]), is_full: AtomicBool::new(false) };
        let (gated, hook) = hooked(&folder.storage, OverALine::new(hook));
        let running = start(&set.uri(), gated, request("full"), Limits::default()).await;
        hook.inner.gate.all_held().await;
        all_read(&running).await;
        hook.inner.is_full.store(true, Ordering::SeqCst);
        hook.inner.gate.open();
        let (outcome, log) = running.done().await;
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull, "{held}: {error:?} {log:#?}");
        assert_eq!(folder.files(), Vec::<String>::new(), "{held}: {log:#?}");
    }
}

/// What is on its way and not stored is bounded, whatever is read meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_storage_that_does_not_answer_is_not_read_for_without_end() {
    let set = support::replica_set().await;
    let client = set.client().await.unwrap();
    // Each is less than a part, which has no place of the storage.
    for n in 0..80 {
        support::dumps::fill(&client, "large", &format!("c{n}"), 1).await;
    }
    let folder = Folder::new();
    let (gated, gate) = hooked(&folder.storage, OverALine::new(Gate::new(&["/large/"])));
    let running = start(&set.uri(), gated, request("bounded"), Limits::default()).await;
    gate.inner.all_held().await;
    let read = || running.ctx.meter.snapshot().bytes_done;
    // It stands still before all is read.
    let (mut before, mut since) = (read(), Instant::now());
    while since.elapsed() < Duration::from_secs(2) {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if read() != before {
            (before, since) = (read(), Instant::now());
        }
    }
    assert!(before < 60 << 20, "{before} bytes were read for nothing");
    gate.inner.open();
    let (manifest, log) = running.done().await;
    verify_ok(&folder, &manifest.unwrap_or_else(|e| panic!("{e:?} {log:#?}"))).await;
}
