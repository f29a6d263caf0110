//! Which member is read, and waiting for a majority: sets of several members of which one stands still or is down.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mongodb::Client;
use mongodb::bson::{Document, Timestamp as BsonTimestamp, doc};
use mongokeep::domain::pitr::Slice;
use mongokeep::domain::secret::Secret;
use mongokeep::domain::service::CheckState;
use mongokeep::domain::timestamp::Timestamp;
use mongokeep::engine::logical::{OpenBackup, check, dump, plan, restore};
use mongokeep::engine::{Context, Limits};
use mongokeep::mongo::{Server, reader, topology};
use mongokeep::sandbox::{self, Member, ReplicaSet, ReplicaSetOptions, ServerOptions};
use tokio_util::sync::CancellationToken;

use crate::support;
use crate::support::dumps::{self, Folder};
use crate::support::recording::{Recording, folder, newest};
use crate::support::slicing::{Options, Recorder};

/// Far more than a member that gets on is ever behind.
const BEHIND: u32 = 100;

/// As if `seconds` had gone by on the primary: the next change there has such a position.
async fn jump(client: &Client, seconds: u32) {
    let now = newest(client).await;
    let to = BsonTimestamp { time: now.t + seconds, increment: 1 };
    let unsigned = doc! {"hash": mongodb::bson::Binary { subtype: mongodb::bson::spec::BinarySubtype::Generic, bytes: vec![0; 20] }, "keyId": 0i64};
    let mut session = client.start_session().await.unwrap();
    session.advance_cluster_time(
        &mongodb::bson::deserialize_from_document(doc! {"clusterTime": to, "signature": unsigned}).unwrap(),
    );
    client.database("admin").run_command(doc! {"ping": 1}).session(&mut session).await.unwrap();
    insert(client, "jump", now.t as i32).await;
    assert!(newest(client).await.t >= now.t + seconds, "the clock did not jump");
}

async fn insert(client: &Client, collection: &str, id: i32) {
    let write = doc! {"insert": collection, "documents": [{"_id": id}], "writeConcern": {"w": 1}};
    client.database("shop").run_command(write).await.unwrap();
}

fn three_with_a_hidden_one() -> ReplicaSetOptions {
    let hidden = Member { priority: 0.0, hidden: true };
    let never = Member { priority: 0.0, hidden: false };
    ReplicaSetOptions { members: vec![Member::default(), never, hidden], ..Default::default() }.test_commands()
}

/// Member `i` applies nothing any more, until it is let go.
async fn hold(set: &ReplicaSet, i: usize, hold: bool) {
    let mode = if hold { "alwaysOn" } else { "off" };
    let admin = set.direct_client(i).await.unwrap().database("admin");
    let switch = doc! {"configureFailPoint": "stopReplProducer", "mode": mode};
    let reply = admin.run_command(switch).await.unwrap();
    if hold {
        let count = reply.get_i32("count").map(i64::from).or_else(|_| reply.get_i64("count")).unwrap_or_default();
        let met = doc! {"waitForFailPoint": "stopReplProducer", "timesEntered": count + 1, "maxTimeMS": 60_000};
        admin.run_command(met).await.unwrap();
    }
}

/// Returns when the primary knows that member `i` has everything.
async fn caught_up(client: &Client, set: &ReplicaSet, i: usize) {
    let address = set.addresses().remove(i);
    let began = Instant::now();
    loop {
        let status = client.database("admin").run_command(doc! {"replSetGetStatus": 1}).await.unwrap();
        let time = |wanted: &dyn Fn(&Document) -> bool| {
            let members = status.get_array("members").unwrap().iter().map(|m| m.as_document().unwrap());
            let member = members.into_iter().find(|m| wanted(m)).unwrap();
            member.get_document("optime").unwrap().get_timestamp("ts").unwrap()
        };
        if time(&|m| m.get_str("name").unwrap() == address) >= time(&|m| m.get_i32("state").unwrap() == 1) {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(180), "member {i} does not catch up");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Returns when member `i` knows that another one has `top`: members hear of each other every two seconds.
async fn has_heard_of(set: &ReplicaSet, i: usize, top: Timestamp) {
    let admin = set.direct_client(i).await.unwrap().database("admin");
    let began = Instant::now();
    loop {
        let status = admin.run_command(doc! {"replSetGetStatus": 1}).await.unwrap();
        let members = status.get_array("members").unwrap().iter().map(|m| m.as_document().unwrap());
        let newest = members.filter_map(|m| m.get_document("optime").unwrap().get_timestamp("ts").ok()).max().unwrap();
        if Timestamp::new(newest.time, newest.increment) >= top {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(180), "member {i} hears nothing");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_far_behind_is_not_read_without_a_word() {
    let set = ReplicaSet::start(&support::mongod().await, three_with_a_hidden_one()).await.unwrap();
    let client = set.client().await.unwrap();
    insert(&client, "orders", 1).await;
    let hidden = set.addresses().remove(2);
    let store = Folder::new();
    let server = dumps::server(&set).await;

    // The recording begins on the hidden member, which then stands still.
    let recorder = Recorder::begun(&server, &store.storage, Options::default()).await;
    assert_eq!(recorder.heard.lock().unwrap().member.as_ref(), Some(&hidden));
    hold(&set, 2, true).await;
    let direct = Server::connect("prod", &Secret::new(set.direct_uri(2)), Duration::from_secs(20)).await.unwrap();
    let elsewhere = Folder::new();
    let mut named = Recorder::begun(&direct, &elsewhere.storage, Options::default()).await;
    jump(&client, BEHIND).await;
    insert(&client, "orders", 2).await;
    let top = newest(&client).await;
    caught_up(&client, &set, 1).await;

    // Choosing: another one is read, and both are named.
    let warnings = Mutex::new(Vec::new());
    let warn = |text: String| warnings.lock().unwrap().push(text);
    let reader = reader::reader(&server, &CancellationToken::new(), &warn).await.unwrap();
    assert_eq!(reader.member.host, set.addresses()[1]);
    let said = warnings.into_inner().unwrap().join("\n");
    assert!(said.contains(&hidden) && said.contains("behind"), "{said}");

    // A backup holds what the set had when it began, and its log says who was read.
    let (ctx, log) = dumps::context(Limits::default());
    let manifest = dump(&ctx, Arc::clone(&store.storage), &server, &dumps::request("near")).await.unwrap();
    let said = log.lock().unwrap().join("\n");
    assert_eq!(manifest.member, set.addresses()[1]);
    assert!(manifest.consistent_at_ts >= top, "{said}");
    assert!(
        said.contains("(secondary of rs0") && said.contains(&format!("{hidden} (hidden secondary) is not read")),
        "{said}"
    );
    assert!(!said.contains("before the newest change"), "{said}");

    // Where the connection string names it alone it is read, and the backup says how old it is.
    has_heard_of(&set, 2, top).await;
    let (ctx, log) = dumps::context(Limits::default());
    let manifest = dump(&ctx, Arc::clone(&store.storage), &direct, &dumps::request("far")).await.unwrap();
    let said = log.lock().unwrap().join("\n");
    assert!(manifest.consistent_at_ts < top);
    assert!(
        said.contains("warning: ") && said.contains("before the newest change that the set had when it began"),
        "{said}"
    );

    // The check goes by the same rule.
    let cancel = CancellationToken::new();
    for (uri, says) in [(set.uri(), "is not read"), (set.direct_uri(2), "names it alone")] {
        let items = check("prod", &Secret::new(uri), &cancel).await;
        let item = items.iter().find(|i| i.id == "replica_set").unwrap();
        assert!(item.state == CheckState::Warn && item.detail.contains(says), "{item:?}");
    }

    // The recording goes to another member, and loses nothing.
    let (outcome, first) = recorder.ended().await;
    let error = outcome.unwrap_err();
    assert!(error.full().contains(&hidden) && error.full().contains("read from now on"), "{error}");
    let archive = first.archive.unwrap();
    let newest_slice = first.slices.iter().max_by_key(|s| s.last).cloned();
    let known = newest_slice.map(|s: Slice| (archive, s)).into_iter().collect();
    let mut recorder = Recorder::begun(&server, &store.storage, Options { known, ..Options::default() }).await;
    recorder.reached(top).await;
    let (outcome, second) = recorder.stop().await;
    outcome.unwrap();
    assert_eq!(second.member.as_ref(), Some(&set.addresses()[1]));
    assert!(second.slices.iter().all(|s| s.gap.is_none()));

    // One that may read no other says that it stands still, and that it gets on again.
    named
        .wait_for("it says so", |h| {
            h.said.iter().any(|s| s.starts_with("stalled") && s.contains("no other member can be read"))
        })
        .await;
    hold(&set, 2, false).await;
    named.wait_for("it gets on", |h| h.said.iter().any(|s| s == "moving")).await;
    named.reached(top).await;
    named.stop().await.0.unwrap();
}

/// A set of a primary, a secondary and an arbiter, on which writes wait for a majority unless they say otherwise.
struct WithArbiter {
    set: ReplicaSet,
    _arbiter: sandbox::Server,
}

async fn with_arbiter() -> WithArbiter {
    let mongod = support::mongod().await;
    let options = ReplicaSetOptions {
        members: vec![Member::default(), Member { priority: 0.0, hidden: false }],
        ..Default::default()
    };
    let set = ReplicaSet::start(&mongod, options).await.unwrap();
    let admin = set.client().await.unwrap().database("admin");
    let concern = doc! {"setDefaultRWConcern": 1, "defaultWriteConcern": {"w": "majority"}};
    admin.run_command(concern).await.unwrap();
    let args = vec!["--replSet".to_owned(), set.name().to_owned()];
    let options = ServerOptions { name: "arbiter".into(), args, ..ServerOptions::default() };
    let arbiter = sandbox::Server::start(&mongod, set.scratch(), &options).await.unwrap();
    let mut config =
        admin.run_command(doc! {"replSetGetConfig": 1}).await.unwrap().get_document("config").unwrap().clone();
    config.insert("version", config.get_i32("version").unwrap() + 1);
    let member = doc! {"_id": 2, "host": arbiter.address().to_string(), "arbiterOnly": true};
    config.get_array_mut("members").unwrap().push(member.into());
    admin.run_command(doc! {"replSetReconfig": config}).await.unwrap();
    let began = Instant::now();
    loop {
        let status = admin.run_command(doc! {"replSetGetStatus": 1}).await.unwrap();
        let members = status.get_array("members").unwrap();
        if members.iter().any(|m| m.as_document().unwrap().get_i32("state").unwrap() == 7) {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(180), "the arbiter does not come up: {status}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    WithArbiter { set, _arbiter: arbiter }
}

/// A backup of a collection with an index.
async fn stored(dir: &std::path::Path) -> OpenBackup {
    let source = support::replica_set().await;
    let from = source.client().await.unwrap();
    insert(&from, "orders", 1).await;
    let index = mongodb::IndexModel::builder().keys(doc! {"a": 1}).build();
    from.database("shop").collection::<Document>("orders").create_index(index).await.unwrap();
    let mut recording = Recording::begin(&from).await;
    recording.read_database("shop").await;
    let storage = folder(dir).await;
    let manifest = recording.end(&storage, "b").await;
    OpenBackup::new(storage, manifest).unwrap()
}

fn patient_for(wait: Duration) -> (Context, Arc<Mutex<Vec<String>>>) {
    dumps::context(Limits { majority_wait: wait, ..Limits::default() })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_into_a_set_without_a_majority_ends_and_names_who_is_down() {
    let dir = tempfile::tempdir().unwrap();
    let (stored, mut target) = tokio::join!(stored(dir.path()), with_arbiter());
    let down = target.set.addresses().remove(1);
    target.set.kill_member(1).await.unwrap();
    let to = target.set.direct_client(0).await.unwrap();
    let server = Server::connect("target", &Secret::new(target.set.uri()), Duration::from_secs(20)).await.unwrap();
    // Until the primary knows that it is gone.
    let cancel = CancellationToken::new();
    let began = Instant::now();
    while topology::replica_set(&server, &cancel).await.unwrap().lacks_majority().is_none() {
        assert!(began.elapsed() < Duration::from_secs(180), "the primary does not know that a member is down");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let request = support::pair::request();
    let planned = plan(&cancel, &stored, &server, &request).await.unwrap();
    let (ctx, log) = patient_for(Duration::from_secs(3));
    let began = Instant::now();
    let error = restore(&ctx, &stored, &server, &request, &planned).await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(100), "{:?}", began.elapsed());
    for part in ["no majority", "3 s", &down] {
        assert!(error.full().contains(part), "{part}: {error}");
    }
    assert_eq!(error.hint_text(), Some("nothing was written to the target"));
    assert!(!to.list_database_names().await.unwrap().contains(&"shop".to_owned()), "{:?}", log.lock().unwrap());

    let items = check("target", &Secret::new(target.set.uri()), &cancel).await;
    let item = items.iter().find(|i| i.id == "replica_set").unwrap();
    assert!(item.state == CheckState::Fail && item.detail.contains(&down), "{item:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_build_does_not_wait_for_a_member_that_is_down() {
    let dir = tempfile::tempdir().unwrap();
    let mongod = support::mongod().await;
    let never = Member { priority: 0.0, hidden: false };
    let options = ReplicaSetOptions { members: vec![Member::default(), never.clone(), never], ..Default::default() };
    let (stored, set) = tokio::join!(stored(dir.path()), ReplicaSet::start(&mongod, options));
    let mut set = set.unwrap();
    set.kill_member(2).await.unwrap();
    let server = Server::connect("target", &Secret::new(set.uri()), Duration::from_secs(20)).await.unwrap();
    let request = support::pair::request();
    let planned = plan(&CancellationToken::new(), &stored, &server, &request).await.unwrap();
    let (ctx, log) = patient_for(Duration::from_secs(60));
    let restoring = restore(&ctx, &stored, &server, &request, &planned);
    let done = tokio::time::timeout(Duration::from_secs(120), restoring).await;
    done.expect("it waits for the member").unwrap_or_else(|e| panic!("{e:?}: {:?}", log.lock().unwrap()));
    let to = set.direct_client(0).await.unwrap();
    let indexes = to.database("shop").collection::<Document>("orders").list_index_names().await.unwrap();
    assert!(indexes.contains(&"a_1".to_owned()), "{indexes:?}");
}

/// A recording of which no majority confirms anything says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_recording_without_a_majority_says_so() {
    let never = Member { priority: 0.0, hidden: false };
    let options = ReplicaSetOptions { members: vec![Member::default(), never.clone(), never], ..Default::default() }
        .test_commands();
    let set = ReplicaSet::start(&support::mongod().await, options).await.unwrap();
    let uri = Secret::new(set.direct_uri(0));
    let primary = Server::connect("prod", &uri, Duration::from_secs(20)).await.unwrap();
    let client = set.direct_client(0).await.unwrap();
    insert(&client, "orders", 1).await;
    let store = Folder::new();
    let mut recorder = Recorder::begun(&primary, &store.storage, Options::default()).await;
    for i in [1, 2] {
        hold(&set, i, true).await;
    }
    jump(&client, BEHIND).await;
    let top = newest(&client).await;
    recorder.wait_for("it says so", |h| h.said.iter().any(|s| s.contains("no majority of the members confirms"))).await;
    assert!(recorder.heard.lock().unwrap().slices.iter().all(|s| s.last.ts < top));
    for i in [1, 2] {
        hold(&set, i, false).await;
    }
    recorder.wait_for("it gets on", |h| h.said.iter().any(|s| s == "moving")).await;
    recorder.reached(top).await;
    recorder.stop().await.0.unwrap();
}
