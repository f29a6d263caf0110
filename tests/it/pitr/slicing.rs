//! Recording an oplog while everything happens to it: killed, stepped down, rolled back, rolled over, a storage that is
//! away, a second recorder, and damage to what was stored.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::TryStreamExt;
use mongodb::Client;
use mongodb::bson::{Document, doc};
use mongodb::options::{Acknowledgment, InsertManyOptions, WriteConcern};
use mongokeep::artifact::slice;
use mongokeep::domain::pitr::{self, Archive, Slice};
use mongokeep::domain::restore::RestoreRequest;
use mongokeep::domain::secret::Secret;
use mongokeep::domain::timestamp::Timestamp;
use mongokeep::engine::Limits;
use mongokeep::engine::logical::OpenBackup;
use mongokeep::engine::pitr::read_header;
use mongokeep::error::ErrorKind;
use mongokeep::mongo::{Server, topology};
use mongokeep::sandbox::{Member, ReplicaSet, ReplicaSetOptions};
use mongokeep::storage::filesystem::Filesystem;
use mongokeep::storage::{Key, PutMode, Storage, read_all};
use tokio_util::sync::CancellationToken;

use crate::support;
use crate::support::compare;
use crate::support::dumps::{self, Folder};
use crate::support::hooked::{Hook, Liar, Lie, NoSweep, hooked};
use crate::support::pair::{Pair, request};
use crate::support::recording::newest;
use crate::support::slicing::{self, Heard, Options, Recorder};

async fn insert(client: &Client, collection: &str, ids: std::ops::Range<i32>) {
    let documents = ids.map(|n| doc! {"_id": n, "pad": "x".repeat(100)});
    client.database("d").collection::<Document>(collection).insert_many(documents).await.unwrap();
}

fn newest_of(archive: &Archive, slices: &[Slice]) -> Vec<(Archive, Slice)> {
    slices.iter().max_by_key(|s| s.last).map(|s| (archive.clone(), s.clone())).into_iter().collect()
}

/// Positions of all entries of the live oplog in what slices cover.
async fn live(client: &Client, after: Timestamp, last: Timestamp) -> Vec<(u32, u32)> {
    let to = |ts: Timestamp| mongodb::bson::Timestamp { time: ts.t, increment: ts.i };
    let oplog = client.database("local").collection::<Document>("oplog.rs");
    let entries = oplog.find(doc! {"ts": {"$gt": to(after), "$lte": to(last)}}).await.unwrap();
    let entries: Vec<Document> = entries.try_collect().await.unwrap();
    entries.iter().map(|e| e.get_timestamp("ts").unwrap()).map(|ts| (ts.time, ts.increment)).collect()
}

/// The same of stored slices, as stock tools see them.
async fn stored(storage: &Arc<dyn Storage>, slices: &[Slice]) -> Vec<(u32, u32)> {
    let mut found = Vec::new();
    for slice in slices {
        let object = read_all(&**storage, &Key::new(&*slice.key).unwrap(), 64 << 20).await.unwrap();
        let plain = zstd::decode_all(&object[..]).unwrap();
        let mut rest = &plain[..];
        while !rest.is_empty() {
            let length = u32::from_le_bytes(rest[..4].try_into().unwrap()) as usize;
            let entry = Document::from_reader(&rest[..length]).unwrap();
            let ts = entry.get_timestamp("ts").unwrap();
            found.push((ts.time, ts.increment));
            rest = &rest[length..];
        }
    }
    found
}

/// All that was told, in order: no gap, and each entry of the live oplog once.
async fn each_entry_once(storage: &Arc<dyn Storage>, client: &Client, mut slices: Vec<Slice>) -> Vec<Slice> {
    slices.sort_by_key(|s| s.after);
    assert!(slices.iter().all(|s| s.gap.is_none()), "{slices:?}");
    let (after, last) = (slices[0].after.ts, slices.last().unwrap().last.ts);
    assert_eq!(stored(storage, &slices).await, live(client, after, last).await);
    slices
}

#[tokio::test(flavor = "multi_thread")]
async fn every_entry_is_stored_once_over_a_kill_and_a_step_down() {
    let set = ReplicaSet::start(&support::mongod().await, ReplicaSetOptions::default().members(3)).await.unwrap();
    let client = set.client().await.unwrap();
    let folder = Folder::new();
    let server = dumps::server(&set).await;

    let mut recorder = Recorder::begun(&server, &folder.storage, Options::default()).await;
    insert(&client, "a", 0..500).await;
    recorder.reached(newest(&client).await).await;
    // In mid slice: what it holds is gone with it.
    insert(&client, "a", 500..1000).await;
    let killed = recorder.kill().await;
    let archive = killed.archive.unwrap();

    // The next one is told of an older slice: what the dead one stored and nobody noted is found.
    let known = newest_of(&archive, &killed.slices[..1]);
    let mut recorder = Recorder::begun(&server, &folder.storage, Options { known, ..Options::default() }).await;
    set.step_down().await.unwrap();
    insert(&client, "b", 0..500).await;
    let top = newest(&client).await;
    // A recorder whose member changes its state may end; it is started again.
    let mut slices = killed.slices.clone();
    let reached = |slices: &[Slice]| slices.iter().any(|s| s.last.ts >= top);
    loop {
        let ended = recorder.wait_until_ended_or(|heard| reached(&heard.slices)).await;
        slices.extend(recorder.heard.lock().unwrap().slices.iter().cloned());
        if reached(&slices) && !ended {
            let (outcome, heard) = recorder.stop().await;
            outcome.unwrap();
            slices.extend(heard.slices);
            break;
        }
        let known = newest_of(&archive, &slices);
        recorder = Recorder::start(&server, &folder.storage, Options { known, ..Options::default() });
    }
    slices.sort_by_key(|s| s.after);
    slices.dedup_by(|a, b| a.key == b.key);
    assert_eq!(pitr::coverage(&slices).len(), 1, "one stretch without a gap");
    let slices = each_entry_once(&folder.storage, &client, slices).await;
    // What the listing and the first bytes tell is what was told.
    for slice in &slices {
        let key = Key::new(&*slice.key).unwrap();
        let size = folder.storage.stat(&key).await.unwrap().unwrap().size;
        assert_eq!(read_header(&*folder.storage, &key, size).await.unwrap().1, *slice);
        assert_eq!(slice::positions(key.file_name()).unwrap().1, slice.last.ts);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_is_rolled_back_is_stored() {
    let options = ReplicaSetOptions::default().members(3).test_commands();
    let mut set = ReplicaSet::start(&support::mongod().await, options).await.unwrap();
    let client = set.client().await.unwrap();
    let folder = Folder::new();
    insert(&client, "a", 0..100).await;
    let old = set.wait_for_primary().await.unwrap();
    let secret = Secret::new(set.direct_uri(old));
    let primary = Server::connect("prod", &secret, Duration::from_secs(20)).await.unwrap();
    let mut recorder = Recorder::begun(&primary, &folder.storage, Options::default()).await;
    insert(&client, "a", 100..200).await;
    recorder.reached(newest(&client).await).await;

    // Replication stops; the old primary takes writes that nobody else will ever see.
    let producer = |mode: &str| doc! {"configureFailPoint": "stopReplProducer", "mode": mode};
    for member in (0..3).filter(|m| *m != old) {
        let admin = set.direct_client(member).await.unwrap().database("admin");
        admin.run_command(producer("alwaysOn")).await.unwrap();
    }
    let direct = set.direct_client(old).await.unwrap();
    let alone =
        InsertManyOptions::builder().write_concern(WriteConcern::builder().w(Acknowledgment::Nodes(1)).build()).build();
    let lost = (0..50).map(|n| doc! {"_id": n});
    direct.database("d").collection::<Document>("lost").insert_many(lost).with_options(alone).await.unwrap();
    let rolled_back = newest(&direct).await;
    // Longer than several slices: it had every opportunity.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(recorder.heard.lock().unwrap().slices.iter().all(|s| s.last.ts < rolled_back));
    set.kill_member(old).await.unwrap();
    for member in (0..3).filter(|m| *m != old) {
        let admin = set.direct_client(member).await.unwrap().database("admin");
        admin.run_command(producer("off")).await.unwrap();
    }
    set.wait_for_primary().await.unwrap();
    insert(&client, "a", 200..300).await;
    let (outcome, heard) = recorder.ended().await;
    assert!(outcome.is_err(), "the member it read is gone");
    set.start_member(old).await.unwrap();
    set.wait_until_ready().await.unwrap();
    insert(&client, "a", 300..400).await;

    let archive = heard.archive.unwrap();
    let known = newest_of(&archive, &heard.slices);
    let server = dumps::server(&set).await;
    let mut recorder = Recorder::start(&server, &folder.storage, Options { known, ..Options::default() });
    let client = set.direct_client(set.wait_for_primary().await.unwrap()).await.unwrap();
    recorder.reached(newest(&client).await).await;
    let (outcome, later) = recorder.stop().await;
    outcome.unwrap();
    each_entry_once(&folder.storage, &client, [heard.slices, later.slices].concat()).await;
}

/// A set whose last member is hidden, which is the one that was read.
struct ReadOfHidden {
    set: ReplicaSet,
    client: Client,
    folder: Folder,
    server: Server,
    hidden: String,
    first: Heard,
}

async fn read_of_hidden() -> ReadOfHidden {
    let hidden = Member { priority: 0.0, hidden: true };
    let options =
        ReplicaSetOptions { members: vec![Member::default(), Member::default(), hidden], ..Default::default() };
    let set = ReplicaSet::start(&support::mongod().await, options.test_commands()).await.unwrap();
    let client = set.client().await.unwrap();
    let folder = Folder::new();
    let server = dumps::server(&set).await;
    let mut recorder = Recorder::begun(&server, &folder.storage, Options::default()).await;
    insert(&client, "a", 0..100).await;
    recorder.reached(newest(&client).await).await;
    let (_, first) = recorder.stop().await;
    let hidden = set.addresses().remove(2);
    assert_eq!(first.member.as_ref(), Some(&hidden));
    ReadOfHidden { set, client, folder, server, hidden, first }
}

/// A hidden secondary is read before all others, unless it is far behind what is stored.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_far_behind_what_is_stored_is_passed_over() {
    let ReadOfHidden { set, client, folder, server, hidden, first } = read_of_hidden().await;

    let archive = first.archive.unwrap();
    let known = newest_of(&archive, &first.slices);
    let direct = set.direct_client(2).await.unwrap();
    let count = fail_point(&direct, "stopReplProducer", "alwaysOn", doc! {}).await;
    let stopped = doc! {"waitForFailPoint": "stopReplProducer", "timesEntered": count + 1, "maxTimeMS": 60_000};
    direct.database("admin").run_command(stopped).await.unwrap();
    let behind = newest(&direct).await;
    let mut ids = 100..;
    while newest(&client).await.t <= behind.t {
        let id = ids.next().unwrap();
        insert(&client, "a", id..id + 1).await;
    }
    let secret = Secret::new(set.direct_uri(set.wait_for_primary().await.unwrap()));
    let primary = Server::connect("prod", &secret, Duration::from_secs(20)).await.unwrap();
    let mut recorder = Recorder::start(&primary, &folder.storage, Options { known, ..Options::default() });
    recorder.reached(newest(&client).await).await;
    let (_, second) = recorder.stop().await;

    // As if it had been left behind half a minute ago: so much is waited for.
    let mut known = newest_of(&archive, &second.slices);
    known[0].1.last.ts.t += 30;
    known[0].1.key.push('x');
    let mut recorder = Recorder::begun(&server, &folder.storage, Options { known, ..Options::default() }).await;
    insert(&client, "b", 0..100).await;
    recorder.reached(newest(&client).await).await;
    let (outcome, third) = recorder.stop().await;
    outcome.unwrap();
    assert_ne!(third.member.unwrap(), hidden);
    assert!(second.slices.iter().chain(&third.slices).all(|s| s.gap.is_none()));
}

/// The oplog of a member that was made anew begins with that moment; others have what was before it.
#[tokio::test(flavor = "multi_thread")]
async fn what_one_member_lacks_is_read_from_another() {
    let ReadOfHidden { mut set, client, folder, server, hidden, first } = read_of_hidden().await;

    insert(&client, "a", 100..200).await;
    let data = set.server(2).unwrap().dbpath().to_owned();
    set.kill_member(2).await.unwrap();
    std::fs::remove_dir_all(&data).unwrap();
    set.start_member(2).await.unwrap();
    set.wait_until_ready().await.unwrap();
    let last = first.slices.last().unwrap().last.ts;
    let end = mongodb::bson::Timestamp { time: last.t, increment: last.i };
    let oplog = set.direct_client(2).await.unwrap().database("local").collection::<Document>("oplog.rs");
    let oldest = oplog.find_one(doc! {}).sort(doc! {"$natural": 1}).await.unwrap().unwrap();
    assert!(oldest.get_timestamp("ts").unwrap() > end, "it has all that was recorded");
    // Until the others know that it can be read again, it is passed over anyway.
    let cancel = CancellationToken::new();
    while topology::replica_set(&server, &cancel).await.unwrap().candidates(last)[0].host != hidden {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let known = newest_of(&first.archive.unwrap(), &first.slices);
    let mut recorder = Recorder::begun(&server, &folder.storage, Options { known, ..Options::default() }).await;
    insert(&client, "b", 0..100).await;
    recorder.reached(newest(&client).await).await;
    let (outcome, second) = recorder.stop().await;
    outcome.unwrap();
    assert_ne!(second.member.unwrap(), hidden);
    assert!(second.slices.iter().all(|s| s.gap.is_none()));
    each_entry_once(&folder.storage, &client, [first.slices, second.slices].concat()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oplog_that_rolled_over_is_a_gap_with_its_reason() {
    let options = ReplicaSetOptions {
        oplog_mb: 1,
        // Nothing is cut off the oplog before a checkpoint no longer needs it.
        args: vec!["--syncdelay".into(), "1".into()],
        ..ReplicaSetOptions::default()
    };
    let set = ReplicaSet::start(&support::mongod().await, options).await.unwrap();
    let client = set.client().await.unwrap();
    let folder = Folder::new();
    let server = dumps::server(&set).await;
    let mut recorder = Recorder::begun(&server, &folder.storage, Options::default()).await;
    insert(&client, "a", 0..10).await;
    recorder.reached(newest(&client).await).await;
    let (_, first) = recorder.stop().await;
    let archive = first.archive.unwrap();
    let end = first.slices.last().unwrap().last;

    let oplog = client.database("local").collection::<Document>("oplog.rs");
    let pad = "x".repeat(1 << 20);
    let big = client.database("d").collection::<Document>("big");
    loop {
        let oldest = oplog.find_one(doc! {}).sort(doc! {"$natural": 1}).await.unwrap().unwrap();
        if oldest.get_timestamp("ts").unwrap().time > end.ts.t {
            break;
        }
        big.insert_one(doc! {"pad": &pad}).await.unwrap();
    }
    let known = newest_of(&archive, &first.slices);
    let mut recorder = Recorder::begun(&server, &folder.storage, Options { known, ..Options::default() }).await;
    insert(&client, "b", 0..10).await;
    recorder.reached(newest(&client).await).await;
    let (_, later) = recorder.stop().await;
    let gap = later.slices[0].gap.as_ref().expect("the gap is told");
    assert_eq!(gap.from_ts, end.ts);
    assert_eq!(gap.to_ts, later.slices[0].after.ts);
    assert!(gap.reason.contains("rolled over"), "{}", gap.reason);
    assert!(later.slices[1..].iter().all(|s| s.gap.is_none()), "it is told once");
    let all: Vec<Slice> = first.slices.iter().chain(&later.slices).cloned().collect();
    assert_eq!(pitr::coverage(&all).len(), 2);
    assert!(pitr::path(&all, end.ts, later.slices[0].last.ts).is_err());
}

/// A base was made, and nothing was stored after it yet: recording begins at the base, however often it is killed; and where
/// the oplog no longer has that position, what is missing is a gap that begins at the base.
#[tokio::test(flavor = "multi_thread")]
async fn recording_begins_at_the_base_or_tells_what_is_missing_of_it() {
    let options = ReplicaSetOptions {
        oplog_mb: 1,
        // Nothing is cut off the oplog before a checkpoint no longer needs it.
        args: vec!["--syncdelay".into(), "1".into()],
        ..ReplicaSetOptions::default()
    };
    let set = ReplicaSet::start(&support::mongod().await, options).await.unwrap();
    let client = set.client().await.unwrap();
    let folder = Folder::new();
    let server = dumps::server(&set).await;
    insert(&client, "a", 0..10).await;
    let base = newest(&client).await;
    insert(&client, "a", 10..20).await;
    // Killed twice before anything is stored.
    let long = || Options { base: Some(base), slice_length: Duration::from_secs(600), ..Options::default() };
    for _ in 0..2 {
        let recorder = Recorder::begun(&server, &folder.storage, long()).await;
        assert!(recorder.kill().await.slices.is_empty());
    }
    let mut recorder =
        Recorder::begun(&server, &folder.storage, Options { base: Some(base), ..Options::default() }).await;
    recorder.reached(newest(&client).await).await;
    let (_, heard) = recorder.stop().await;
    assert_eq!((heard.slices[0].after.ts, &heard.slices[0].gap), (base, &None));

    let oplog = client.database("local").collection::<Document>("oplog.rs");
    let pad = "x".repeat(1 << 20);
    let big = client.database("d").collection::<Document>("big");
    let rolled_over = async |since: Timestamp| {
        loop {
            let oldest = oplog.find_one(doc! {}).sort(doc! {"$natural": 1}).await.unwrap().unwrap();
            if oldest.get_timestamp("ts").unwrap().time > since.t {
                break;
            }
            big.insert_one(doc! {"pad": &pad}).await.unwrap();
        }
    };
    rolled_over(heard.slices.last().unwrap().last.ts).await;
    // A newer base that the oplog still has is gone on from; what is missing before it is told.
    insert(&client, "b", 0..10).await;
    let newer = newest(&client).await;
    insert(&client, "b", 10..20).await;
    let archive = heard.archive.unwrap();
    let known = newest_of(&archive, &heard.slices);
    let with = Options { known, base: Some(newer), ..Options::default() };
    let mut recorder = Recorder::begun(&server, &folder.storage, with).await;
    recorder.reached(newest(&client).await).await;
    let (_, later) = recorder.stop().await;
    let gap = later.slices[0].gap.as_ref().expect("the gap is told");
    assert_eq!((later.slices[0].after.ts, gap.to_ts), (newer, newer));

    // Elsewhere, where nothing was ever stored: the base has rolled out of the oplog.
    let anew =
        |base_of: Option<String>| Options { base: Some(base), base_of, folder: "new".into(), ..Options::default() };
    // Of another replica set a position says nothing.
    let other = anew(Some("ffffffffffffffffffffffff".into()));
    let recorder = Recorder::begun(&server, &folder.storage, other).await;
    let (_, heard) = recorder.stop().await;
    assert!(heard.slices.iter().all(|s| s.gap.is_none()), "{:?}", heard.slices);
    let own = Options { folder: "own".into(), ..anew(Some(archive.replica_set_id.clone())) };
    let mut recorder = Recorder::begun(&server, &folder.storage, own).await;
    insert(&client, "c", 0..10).await;
    recorder.reached(newest(&client).await).await;
    let (_, heard) = recorder.stop().await;
    let gap = heard.slices[0].gap.as_ref().expect("what is missing after the base is a gap");
    assert_eq!((gap.from_ts, gap.to_ts), (base, heard.slices[0].after.ts));
    assert!(gap.reason.contains("rolled over") && gap.reason.contains("the base"), "{}", gap.reason);
    assert!(heard.slices[1..].iter().all(|s| s.gap.is_none()), "it is told once");
}

/// Switches a failpoint, and returns how often it was met so far.
async fn fail_point(member: &Client, name: &str, mode: &str, data: Document) -> i64 {
    let switch = doc! {"configureFailPoint": name, "mode": mode, "data": data};
    let reply = member.database("admin").run_command(switch).await.unwrap();
    reply.get_i32("count").map(i64::from).or_else(|_| reply.get_i64("count")).unwrap_or_default()
}

/// Returns when a command waits at a failpoint.
async fn waits_at(member: &Client, name: &str) {
    let waiting = doc! {"currentOp": 1, "$all": true, "failpointMsg": name};
    let met = async {
        loop {
            let found = member.database("admin").run_command(waiting.clone()).await.unwrap();
            if !found.get_array("inprog").unwrap().is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(180), met).await.expect(name);
}

/// Returns when a member knows that a majority has everything up to `ts`.
async fn majority_reaches(member: &Client, ts: Timestamp) {
    let majority = |hello: &Document| {
        let majority = hello.get_document("lastWrite").ok()?.get_document("majorityOpTime").ok()?.get_timestamp("ts");
        majority.ok().map(|ts| Timestamp::new(ts.time, ts.increment))
    };
    let reached = async {
        loop {
            let hello = member.database("admin").run_command(doc! {"hello": 1}).await.unwrap();
            if majority(&hello).is_some_and(|found| found >= ts) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(180), reached).await.expect("a majority has it");
}

/// The member that is read is behind what is stored, and catches up just when it is asked what it has.
#[tokio::test(flavor = "multi_thread")]
async fn what_comes_while_a_member_is_asked_is_not_missing() {
    let options = ReplicaSetOptions::default().members(3).test_commands();
    let set = ReplicaSet::start(&support::mongod().await, options).await.unwrap();
    let client = set.client().await.unwrap();
    let folder = Folder::new();
    let primary = set.wait_for_primary().await.unwrap();
    let ids: Vec<usize> = (0..3).filter(|m| *m != primary).collect();
    let (behind, other) = (ids[0], set.direct_client(ids[1]).await.unwrap());
    let direct = set.direct_client(behind).await.unwrap();
    // Not by way of the one that will lag.
    let from = doc! {"replSetSyncFrom": &set.addresses()[primary]};
    other.database("admin").run_command(from).await.unwrap();

    let secret = Secret::new(set.direct_uri(primary));
    let source = Server::connect("prod", &secret, Duration::from_secs(20)).await.unwrap();
    let mut recorder = Recorder::begun(&source, &folder.storage, Options::default()).await;
    majority_reaches(&direct, newest(&client).await).await;
    let count = fail_point(&direct, "stopReplProducer", "alwaysOn", doc! {}).await;
    let stopped = doc! {"waitForFailPoint": "stopReplProducer", "timesEntered": count + 1, "maxTimeMS": 60_000};
    direct.database("admin").run_command(stopped).await.unwrap();
    insert(&client, "a", 0..100).await;
    recorder.reached(newest(&client).await).await;
    let (outcome, first) = recorder.stop().await;
    outcome.unwrap();
    let archive = first.archive.unwrap();
    let known = newest_of(&archive, &first.slices);
    let end = known[0].1.last.ts;
    assert!(newest(&direct).await < end);

    let secret = Secret::new(set.direct_uri(behind));
    let lagging = Server::connect("prod", &secret, Duration::from_secs(20)).await.unwrap();
    let asked = doc! {"ns": "local.oplog.rs", "commands": ["find"]};
    fail_point(&direct, "waitAfterCommandFinishesExecution", "alwaysOn", asked).await;
    let mut recorder = Recorder::start(&lagging, &folder.storage, Options { known, ..Options::default() });
    waits_at(&direct, "waitAfterCommandFinishesExecution").await;
    fail_point(&direct, "stopReplProducer", "off", doc! {}).await;
    majority_reaches(&direct, end).await;
    fail_point(&direct, "waitAfterCommandFinishesExecution", "off", doc! {}).await;
    recorder.began().await;
    insert(&client, "b", 0..100).await;
    recorder.reached(newest(&client).await).await;
    let (outcome, later) = recorder.stop().await;
    outcome.unwrap();
    each_entry_once(&folder.storage, &client, [first.slices, later.slices].concat()).await;
}

/// The storage was emptied, or another disk is mounted in its place.
#[tokio::test(flavor = "multi_thread")]
async fn slices_that_are_gone_are_a_gap_with_its_reason() {
    let set = support::replica_set().await;
    let client = set.client().await.unwrap();
    let folder = Folder::new();
    let server = dumps::server(&set).await;
    let mut recorder = Recorder::begun(&server, &folder.storage, Options::default()).await;
    insert(&client, "a", 0..10).await;
    let base = newest(&client).await;
    recorder.reached(base).await;
    insert(&client, "a", 10..20).await;
    recorder.reached(newest(&client).await).await;
    let (_, first) = recorder.stop().await;
    let archive = first.archive.unwrap();
    let known = newest_of(&archive, &first.slices);
    let end = known[0].1.last;
    let remove = async |slices: &[Slice]| {
        for slice in slices {
            folder.storage.delete(&Key::new(&*slice.key).unwrap()).await.unwrap();
        }
    };
    remove(&first.slices).await;

    // Without a base they go on where they ended, or, with one that is older, from there.
    let mut ids = 20..;
    for (base, after) in [(None, end.ts), (Some(base), base)] {
        let options = Options { known: known.clone(), base, ..Options::default() };
        let mut recorder = Recorder::begun(&server, &folder.storage, options).await;
        for _ in 0..2 {
            let id = ids.next().unwrap();
            insert(&client, "a", id..id + 1).await;
            recorder.reached(newest(&client).await).await;
        }
        let (_, later) = recorder.stop().await;
        assert_eq!(later.slices[0].after.ts, after);
        let gap = later.slices[0].gap.as_ref().expect("the gap is told");
        assert_eq!((gap.from_ts, gap.to_ts), (after, after));
        assert!(gap.reason.contains("no longer in storage store"), "{}", gap.reason);
        assert!(later.slices[1..].iter().all(|s| s.gap.is_none()), "it is told once");
        remove(&later.slices).await;
    }
}

/// Refuses every write while it is away.
struct Away(std::sync::atomic::AtomicBool);

#[async_trait]
impl Hook for Away {
    fn refuse(&self) -> mongokeep::error::Result<()> {
        match self.0.load(std::sync::atomic::Ordering::SeqCst) {
            true => Err(mongokeep::error::Error::new(ErrorKind::Unreachable, "the storage is away")),
            false => Ok(()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oplog_waits_while_the_storage_is_away() {
    let set = support::replica_set().await;
    let client = set.client().await.unwrap();
    let folder = Folder::new();
    let (storage, away) = hooked(&folder.storage, Away(false.into()));
    let mut recorder = Recorder::begun(&dumps::server(&set).await, &storage, Options::default()).await;
    insert(&client, "a", 0..100).await;
    recorder.reached(newest(&client).await).await;
    away.0.store(true, std::sync::atomic::Ordering::SeqCst);
    insert(&client, "a", 100..200).await;
    let top = newest(&client).await;
    let away_said = |said: &[String]| said.iter().any(|s| s.contains("the storage is away"));
    recorder.wait_for("it says that the storage is away", |heard| away_said(&heard.said)).await;
    assert!(recorder.heard.lock().unwrap().slices.iter().all(|s| s.last.ts < top));
    away.0.store(false, std::sync::atomic::Ordering::SeqCst);
    recorder.reached(top).await;
    let (outcome, heard) = recorder.stop().await;
    outcome.unwrap();
    assert!(heard.said.iter().any(|s| s == "back"), "{:?}", heard.said);
    assert_eq!(pitr::coverage(&heard.slices).len(), 1);
}

/// A slice counts as stored when the storage has it, and is stored again until it does.
#[tokio::test(flavor = "multi_thread")]
async fn a_slice_that_the_storage_does_not_keep_is_stored_again() {
    let set = support::replica_set().await;
    let client = set.client().await.unwrap();
    let server = dumps::server(&set).await;
    for (lie, read_back, says) in
        [(Lie::Nothing, false, "is not there"), (Lie::Less, false, "bytes"), (Lie::Other, true, "other bytes")]
    {
        let folder = Folder::new();
        let (storage, liar) = hooked(&folder.storage, Liar::new(".bson", lie, 1));
        let options = Options { read_back, ..Options::default() };
        let mut recorder = Recorder::begun(&server, &storage, options).await;
        insert(&client, &format!("of_{lie:?}"), 0..50).await;
        recorder.wait_for("it says what is wrong", |heard| heard.said.iter().any(|s| s.contains(says))).await;
        recorder.reached(newest(&client).await).await;
        let (outcome, heard) = recorder.stop().await;
        outcome.unwrap();
        assert!(liar.is_done() && heard.said.contains(&"back".to_owned()), "{:?}", heard.said);
        each_entry_once(&folder.storage, &client, heard.slices).await;
    }
}

/// A folder that is moved away is waited for. With another one in its place recording begins again, there: the disk may
/// have been changed.
#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_moved_away_is_not_written_to() {
    let set = support::replica_set().await;
    let client = set.client().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (here, away) = (dir.path().join("vault"), dir.path().join("vault.old"));
    std::fs::create_dir(&here).unwrap();
    let storage: Arc<dyn Storage> = Arc::new(Filesystem::unheld(&here));
    let server = dumps::server(&set).await;
    let mut recorder = Recorder::begun(&server, &storage, Options::default()).await;
    insert(&client, "a", 0..100).await;
    recorder.reached(newest(&client).await).await;

    std::fs::rename(&here, &away).unwrap();
    // What is just being written is held for as long as that takes.
    let held = async {
        while !open_below(&away).is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let held = tokio::time::timeout(Duration::from_secs(60), held).await;
    assert!(held.is_ok(), "it keeps a disk from being unmounted: {:?}", open_below(&away));
    insert(&client, "a", 100..200).await;
    let missing = |said: &[String]| said.iter().any(|s| s.contains("does not exist"));
    recorder.wait_for("it says that the folder is missing", |heard| missing(&heard.said)).await;
    std::fs::rename(&away, &here).unwrap();
    recorder.reached(newest(&client).await).await;

    std::fs::rename(&here, &away).unwrap();
    std::fs::create_dir(&here).unwrap();
    insert(&client, "a", 200..300).await;
    let (outcome, first) = recorder.ended().await;
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}");
    assert!(error.to_string().contains("no longer in storage store"), "{error}");
    let old: Arc<dyn Storage> = Arc::new(Filesystem::new(&away));
    each_entry_once(&old, &client, first.slices.clone()).await;

    let known = newest_of(&first.archive.unwrap(), &first.slices);
    let mut recorder = Recorder::begun(&server, &storage, Options { known, ..Options::default() }).await;
    recorder.reached(newest(&client).await).await;
    let (outcome, second) = recorder.stop().await;
    outcome.unwrap();
    assert!(second.slices[0].gap.as_ref().is_some_and(|gap| gap.reason.contains("no longer in storage")));
    // Of what the oplog still has, nothing is missing.
    assert_eq!(pitr::coverage(&[first.slices, second.slices].concat()).len(), 1);
}

/// What this process holds open in `folder`.
fn open_below(folder: &Path) -> Vec<std::path::PathBuf> {
    let all = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    all.filter_map(|entry| std::fs::read_link(entry.path()).ok()).filter(|path| path.starts_with(folder)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_recorder_is_told_who_is_first_and_overlaps_are_read() {
    let pair = Pair::start().await;
    let (set, client) = (&pair.source, pair.from.clone());
    let folder = Folder::new();
    let server = dumps::server(set).await;
    insert(&client, "a", 0..100).await;
    let mut first = Recorder::start(&server, &folder.storage, Options::default());
    first.began().await;
    let other = Options { home_id: "other".into(), ..Options::default() };
    let (refused, _) = Recorder::start(&server, &folder.storage, other).ended().await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert!(refused.to_string().contains("another mongokeep records this oplog"), "{refused}");

    // One that lost its lease unknowingly: both write, with other cuts, into one archive.
    let lease =
        slice::folder(&first.heard.lock().unwrap().archive.clone().unwrap()).unwrap().join("lease.json").unwrap();
    folder.storage.delete(&lease).await.unwrap();
    let other = Options { home_id: "other".into(), slice_length: Duration::from_millis(170), ..Options::default() };
    let mut second = Recorder::start(&server, &folder.storage, other);
    second.began().await;
    let manifest = dumps::dump_ok(set, &folder, &dumps::request("base"), Limits::default()).await;
    for n in 1..30 {
        insert(&client, "a", n * 100..(n + 1) * 100).await;
        client.database("d").collection::<Document>("a").delete_many(doc! {"_id": {"$lt": n * 50}}).await.unwrap();
    }
    let top = newest(&client).await;
    first.reached(top).await;
    second.reached(top).await;
    let (_, first) = first.stop().await;
    let (_, second) = second.stop().await;
    // Every other slice of each.
    let archive = first.archive.unwrap();
    let all: Vec<Slice> = first.slices.into_iter().chain(second.slices).collect();
    let expected = compare::database(&client, "d").await;
    let target = pair.server().await.unwrap();
    let way = slicing::at(&folder.storage, &manifest, &archive, &all, top).unwrap();
    slicing::restore(&way, &target, &request()).await.unwrap();
    compare::assert_same(&expected, &compare::database(&pair.to, "d").await, "two recorders");
}

/// Damage to the newest slices while nobody records: what they held is read again, as long as the server still has it.
#[tokio::test(flavor = "multi_thread")]
async fn what_damaged_slices_held_is_recorded_again() {
    let pair = Pair::start().await;
    let (set, client) = (&pair.source, pair.from.clone());
    let folder = Folder::new();
    let server = dumps::server(set).await;
    insert(&client, "a", 0..10).await;
    let mut recorder = Recorder::begun(&server, &folder.storage, Options::default()).await;
    let manifest = dumps::dump_ok(set, &folder, &dumps::request("base"), Limits::default()).await;
    for n in 1..4 {
        insert(&client, "a", n * 100..(n + 1) * 100).await;
        recorder.reached(newest(&client).await).await;
    }
    let (_, heard) = recorder.stop().await;
    let archive = heard.archive.unwrap();
    let mut slices = heard.slices;
    slices.sort_by_key(|s| s.last);
    assert!(slices.len() > 2, "{slices:?}");
    let [.., whole, flipped, cut] = &slices[..] else { panic!() };
    for (slice, at) in [(flipped, Some(20)), (cut, None)] {
        let key = Key::new(&*slice.key).unwrap();
        let mut body = read_all(&*folder.storage, &key, 64 << 20).await.unwrap().to_vec();
        match at {
            Some(at) => body[at] ^= 1,
            None => body.truncate(body.len() - 1),
        }
        folder.storage.put(&key, body.into(), PutMode::Overwrite).await.unwrap();
    }

    let known = newest_of(&archive, &slices);
    let mut recorder = Recorder::begun(&server, &folder.storage, Options { known, ..Options::default() }).await;
    insert(&client, "b", 0..10).await;
    let top = newest(&client).await;
    recorder.reached(top).await;
    let (outcome, again) = recorder.stop().await;
    outcome.unwrap();
    for bad in [flipped, cut] {
        let name = bad.key.rsplit('/').next().unwrap();
        assert!(again.said.iter().any(|s| s.contains(name) && s.contains("not used")), "{:?}", again.said);
    }
    let anew = again.slices.iter().find(|s| s.after == whole.last).expect("it goes on after the last whole one");
    assert!(anew.gap.is_none());
    let all: Vec<Slice> = slices.iter().chain(&again.slices).cloned().collect();
    let way = slicing::at(&folder.storage, &manifest, &archive, &all, top).unwrap();
    slicing::restore(&way, &pair.server().await.unwrap(), &request()).await.unwrap();
    compare::assert_same(&compare::state(&client).await, &compare::state(&pair.to).await, "recorded again");
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_found_before_anything_is_written() {
    let pair = Pair::start().await;
    let (set, client) = (&pair.source, pair.from.clone());
    let folder = Folder::new();
    insert(&client, "a", 0..100).await;
    let mut recorder = Recorder::begun(&dumps::server(set).await, &folder.storage, Options::default()).await;
    let manifest = dumps::dump_ok(set, &folder, &dumps::request("base"), Limits::default()).await;
    let mut top = newest(&client).await;
    for n in 1..4 {
        insert(&client, "a", n * 100..(n + 1) * 100).await;
        top = newest(&client).await;
        recorder.reached(top).await;
    }
    let (_, heard) = recorder.stop().await;
    let archive = heard.archive.unwrap();
    let target = pair.server().await.unwrap();
    let way = || slicing::at(&folder.storage, &manifest, &archive, &heard.slices, top).unwrap();
    let path = pitr::path(&heard.slices, manifest.consistent_at_ts, top).unwrap();
    assert!(path.len() > 1);
    let last = Key::new(&*path.last().unwrap().key).unwrap();
    let good = read_all(&*folder.storage, &last, 64 << 20).await.unwrap();
    let offset = path.last().unwrap().data_offset as usize;
    let mut flipped = good.to_vec();
    let middle = offset + (good.len() - offset) / 2;
    flipped[middle] ^= 0x10;
    let cases = [
        ("flipped", Some(flipped)),
        ("truncated", Some(good[..good.len() - 7].to_vec())),
        ("without its last entry", Some(good[..offset].to_vec())),
        ("missing", None),
    ];
    for (what, body) in cases {
        match body {
            Some(body) => folder.storage.put(&last, body.into(), PutMode::Overwrite).await.unwrap(),
            None => folder.storage.delete(&last).await.unwrap(),
        }
        let error = slicing::restore(&way(), &target, &request()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{what}: {error}");
        assert!(error.full().contains(last.file_name()), "{what}: {error}");
        let before = path[path.len() - 2].last.ts;
        assert!(error.hint_text().unwrap().contains(&format!("--time {before} ")), "{what}: {:?}", error.hint_text());
        assert!(compare::state(&pair.to).await.is_empty(), "{what}");
    }
    // A slice of another replica set of the same name is never replayed.
    let stranger = Archive { replica_set_id: "0".repeat(24), ..archive.clone() };
    let error = slicing::at(&folder.storage, &manifest, &stranger, &heard.slices, top).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    folder.storage.put(&last, good, PutMode::Overwrite).await.unwrap();
    let expected = compare::state(&client).await;
    slicing::restore(&way(), &target, &request()).await.unwrap();
    compare::assert_same(&expected, &compare::state(&pair.to).await, "whole again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_restore_is_marked_and_can_be_undone() {
    let pair = Pair::start().await;
    let (set, client) = (&pair.source, pair.from.clone());
    let folder = Folder::new();
    let server = dumps::server(set).await;
    insert(&client, "a", 0..500).await;
    let index = mongodb::IndexModel::builder().keys(doc! {"pad": 1}).build();
    client.database("d").collection::<Document>("a").create_index(index).await.unwrap();
    let mut recorder = Recorder::begun(&server, &folder.storage, Options::default()).await;
    let manifest = dumps::dump_ok(set, &folder, &dumps::request("base"), Limits::default()).await;
    insert(&client, "a", 500..1000).await;
    insert(&client, "b", 0..100).await;
    let expected = compare::database(&client, "d").await;
    let right = newest(&client).await;
    recorder.reached(right).await;

    // The wrong one: back to the base, into the service that is recorded.
    let stored = OpenBackup::new(folder.storage.clone(), manifest.clone()).unwrap();
    slicing::restore(&stored, &server, &RestoreRequest { exact: true, ..request() }).await.unwrap();
    assert_eq!(compare::database(&client, "d").await.len(), 1);
    insert(&client, "c", 0..10).await;
    let (wrong, after) = (compare::database(&client, "d").await, newest(&client).await);
    recorder.reached(after).await;
    let (outcome, heard) = recorder.stop().await;
    outcome.unwrap();

    let marks: Vec<_> = heard.slices.iter().flat_map(|s| &s.marks).collect();
    let kinds: Vec<_> = marks.iter().map(|m| m.kind).collect();
    assert_eq!(kinds, [pitr::MarkKind::RestoreBegan, pitr::MarkKind::RestoreEnded]);
    assert!(marks.iter().all(|m| m.text == "base") && right < marks[0].ts && marks[1].ts < after);
    let archive = heard.archive.unwrap();
    let target = pair.server().await.unwrap();
    // Just before it, and, through everything that it did, after it.
    let just_before = Timestamp::new(marks[0].ts.t, marks[0].ts.i.saturating_sub(1));
    for (until, expected, what) in [(just_before, &expected, "before"), (after, &wrong, "after")] {
        let way = slicing::at(&folder.storage, &manifest, &archive, &heard.slices, until).unwrap();
        let all = RestoreRequest { exact: true, ..request() };
        slicing::restore(&way, &target, &all).await.unwrap();
        compare::assert_same(expected, &compare::database(&pair.to, "d").await, what);
    }
    // And undone where it was done, one collection under another name.
    let way = slicing::at(&folder.storage, &manifest, &archive, &heard.slices, just_before).unwrap();
    let one = RestoreRequest {
        include: vec!["d.b".parse().unwrap()],
        rename: vec!["d.b=d.saved".parse().unwrap()],
        ..request()
    };
    slicing::restore(&way, &server, &one).await.unwrap();
    let found = compare::database(&client, "d").await;
    assert_eq!(found["saved"].hash, expected["b"].hash);
    assert_eq!(found["a"], wrong["a"]);
}

/// Two slices were on their way when their daemons died: one just now, one long ago.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_stored_to_its_end_is_removed_when_it_is_old() {
    let set = support::replica_set().await;
    let client = set.client().await.unwrap();
    let folder = Folder::new();
    let server = dumps::server(&set).await;
    let mut recorder = Recorder::begun(&server, &folder.storage, Options::default()).await;
    insert(&client, "a", 0..10).await;
    recorder.reached(newest(&client).await).await;
    let (_, heard) = recorder.stop().await;
    let archive = heard.archive.unwrap();
    let here = folder.dir.path().join(slice::folder(&archive).unwrap().as_str());
    let names = || -> std::collections::BTreeSet<_> { here.read_dir().unwrap().map(|f| f.unwrap().path()).collect() };
    let mut left = Vec::new();
    for last in [1, 2] {
        let before = names();
        let key = slice::key(&archive, Timestamp::new(1, 1), Timestamp::new(last, 1), false).unwrap();
        let upload = folder.storage.upload(&key).await.unwrap();
        upload.part(0, "x".into()).await.unwrap();
        std::mem::forget(upload);
        left.extend(names().difference(&before).cloned());
    }
    let [old, new] = &left[..] else { panic!("{left:?}") };
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(25 * 3600);
    std::fs::File::open(old).unwrap().set_modified(long_ago).unwrap();

    // A key that may not look for them records all the same.
    let known = newest_of(&archive, &heard.slices);
    let options = Options { known: known.clone(), ..Options::default() };
    let mut recorder = Recorder::start(&server, &hooked(&folder.storage, NoSweep).0, options);
    recorder.wait_for("it says so", |heard| heard.said.iter().any(|s| s.contains("is not removed"))).await;
    insert(&client, "b", 0..1).await;
    recorder.reached(newest(&client).await).await;
    recorder.stop().await.0.unwrap();
    assert!(old.exists() && new.exists());

    let recorder = Recorder::begun(&server, &folder.storage, Options { known, ..Options::default() }).await;
    let gone = async {
        while old.exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(180), gone).await.expect("it is removed");
    recorder.stop().await.0.unwrap();
    assert!(new.exists(), "somebody may still be writing it");
}
