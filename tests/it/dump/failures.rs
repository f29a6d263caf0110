//! Backups that fail or are cancelled: each says why, and none leaves anything behind.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mongodb::bson::{Document, doc};
use mongokeep::artifact::layout::BackupRoot;
use mongokeep::domain::key::Key;
use mongokeep::domain::secret::Secret;
use mongokeep::engine::Limits;
use mongokeep::engine::attempt::discard;
use mongokeep::engine::logical::dump;
use mongokeep::error::ErrorKind;
use mongokeep::mongo::topology;
use mongokeep::sandbox::{Member, ReplicaSet, ReplicaSetOptions};
use mongokeep::storage::PutMode;
use tokio_util::sync::CancellationToken;

use crate::support;
use crate::support::dumps::{Folder, context, dump_ok, fill, request, server, start, verify_ok};
use crate::support::hooked::{Gate, Liar, Lie, NoSweep, hooked};
use crate::support::stopwatch::at_once;

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_stops_within_two_seconds_and_leaves_nothing() {
    let set = support::replica_set().await;
    let client = set.client().await.unwrap();
    fill(&client, "shop", "first", 10).await;
    fill(&client, "shop", "second", 24).await;
    for held in ["/second/", "oplog/", "/first.metadata", "manifest.json"] {
        let folder = Folder::new();
        let (gated, gate) = hooked(&folder.storage, Gate::new(&[held]));
        let limits = Limits { part_bytes: 1 << 20, ..Limits::default() };
        let running = start(&set.uri(), gated, request("cancel"), limits).await;
        gate.all_held().await;
        let began = Instant::now();
        running.ctx.cancel.cancel();
        let (outcome, log) = running.done().await;
        let took = began.elapsed();
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Cancelled, "{held}");
        assert!(took < at_once(), "{held}: {took:?}");
        // A file that was just being made when the cancel came goes as soon as its system call is done.
        while !folder.files().is_empty() && began.elapsed() < at_once() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(folder.files(), Vec::<String>::new(), "{held}: {log:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_is_removed_without_the_right_to_look_for_uploads() {
    let set = support::replica_set().await;
    fill(&set.client().await.unwrap(), "shop", "orders", 2).await;
    let folder = Folder::new();
    let (gated, gate) = hooked(&folder.storage, Gate::new(&["manifest.json"]));
    let (refusing, _) = hooked(&gated, NoSweep);
    let running = start(&set.uri(), refusing, request("denied"), Limits::default()).await;
    gate.all_held().await;
    running.ctx.cancel.cancel();
    let (outcome, log) = running.done().await;
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(folder.files(), Vec::<String>::new(), "{log:#?}");
}

/// Gateways, and full disks behind them, have been seen to say "stored" and to keep something else. The folder is a storage
/// like any other here.
#[tokio::test(flavor = "multi_thread")]
async fn a_storage_that_keeps_something_else_fails_the_backup() {
    let set = support::replica_set().await;
    let client = set.client().await.unwrap();
    fill(&client, "shop", "orders", 2).await;
    client.database("shop").collection("small").insert_one(doc! {"_id": 1}).await.unwrap();
    let small = "/small/00000.bson";
    let cases = [
        (small, Lie::Nothing, false, "is not there"),
        (small, Lie::Less, false, "bytes"),
        ("oplog/", Lie::Less, false, "bytes"),
        ("small.metadata.json", Lie::Nothing, false, "is not there"),
        ("manifest.json", Lie::Nothing, false, "is not there"),
        ("manifest.json", Lie::Less, false, "bytes"),
        ("manifest.json", Lie::Other, false, "other bytes"),
        // As many bytes of something else are seen only by reading them.
        (small, Lie::Other, true, "/small/00000.bson"),
        ("/orders/00000.bson", Lie::Other, true, "/orders/00000.bson"),
        ("small.metadata.json", Lie::Other, true, "small.metadata.json"),
        ("oplog/", Lie::Other, true, "oplog/"),
    ];
    for (about, lie, read_back, says) in cases {
        let folder = Folder::new();
        let (lying, liar) = hooked(&folder.storage, Liar::new(about, lie, 1));
        let limits = Limits { read_back, ..Limits::default() };
        let (outcome, log) = start(&set.uri(), lying, request("lied"), limits).await.done().await;
        assert!(liar.is_done(), "{about} {lie:?}: nothing of that name is written");
        let error = outcome.expect_err(&format!("{about} {lie:?}: {log:#?}"));
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{about} {lie:?}: {error:?}");
        assert!(error.full().contains(says), "{about} {lie:?}: {error}");
        assert!(error.full().contains(folder.dir.path().to_str().unwrap()), "{about} {lie:?}: {error}");
        assert!(error.hint_text().is_some_and(|h| h.contains("storage test")), "{error:?}");
        assert_eq!(folder.files(), Vec::<String>::new(), "{about} {lie:?}: {log:#?}");
    }
    let folder = Folder::new();
    let limits = Limits { read_back: true, ..Limits::default() };
    let (outcome, log) = start(&set.uri(), Arc::clone(&folder.storage), request("honest"), limits).await.done().await;
    verify_ok(&folder, &outcome.unwrap()).await;
    assert!(log.iter().any(|line| line.starts_with("read back: ")), "{log:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_name_is_refused_and_what_has_it_stays() {
    let set = support::replica_set().await;
    set.client().await.unwrap().database("a").collection("b").insert_one(doc! {"_id": 1}).await.unwrap();
    let folder = Folder::new();
    let manifest = dump_ok(&set, &folder, &request("taken"), Limits::default()).await;
    let before = folder.files();
    let (ctx, _) = context(Limits::default());
    let storage = || Arc::clone(&folder.storage);
    let error = dump(&ctx, storage(), &server(&set).await, &request("taken")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(folder.files(), before);
    verify_ok(&folder, &manifest).await;

    // A complete backup is never discarded as an attempt, not even its own.
    let root = BackupRoot::new("prod", "taken").unwrap();
    let error = discard(&*folder.storage, &root, "attempt-taken", "home").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(folder.files(), before);

    // Without its manifest it is what an interrupted attempt leaves: the name stays taken until it is discarded.
    folder.storage.delete(&root.manifest().unwrap()).await.unwrap();
    let error = dump(&ctx, storage(), &server(&set).await, &request("taken")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    for (attempt, home) in [("attempt-taken", "another home"), ("another attempt", "home")] {
        let error = discard(&*folder.storage, &root, attempt, home).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
    }
    let foreign = Key::new("prod/backups/taken/notes.txt").unwrap();
    folder.storage.put(&foreign, "mine".into(), PutMode::CreateNew).await.unwrap();
    discard(&*folder.storage, &root, "attempt-taken", "home").await.unwrap();
    assert_eq!(folder.files(), ["prod/backups/taken/notes.txt"]);
    assert_eq!(discard(&*folder.storage, &root, "attempt-taken", "home").await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn losing_the_member_fails_the_attempt() {
    let options = ReplicaSetOptions {
        members: vec![Member::default(), Member { priority: 0.0, hidden: true }],
        ..ReplicaSetOptions::default()
    };
    let mut set = ReplicaSet::start(&support::mongod().await, options).await.unwrap();
    fill(&set.client().await.unwrap(), "shop", "orders", 24).await;
    let folder = Folder::new();
    let (gated, gate) = hooked(&folder.storage, Gate::new(&["/orders/"]));
    let running = start(&set.uri(), gated, request("lost"), Limits::default()).await;
    gate.all_held().await;
    set.kill_member(1).await.unwrap();
    gate.open();
    let (outcome, log) = running.done().await;
    let error = outcome.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    assert!(error.full().contains("prod"), "{error}");
    assert_eq!(folder.files(), Vec::<String>::new(), "{log:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_of_the_member_fails_the_attempt() {
    let options = ReplicaSetOptions::default().members(3).test_commands();
    let set = ReplicaSet::start(&support::mongod().await, options).await.unwrap();
    let client = set.client().await.unwrap();
    fill(&client, "shop", "orders", 24).await;
    let old = set.primary().await.unwrap();
    let others: Vec<usize> = (0..3).filter(|i| *i != old).collect();
    let folder = Folder::new();
    let (gated, gate) = hooked(&folder.storage, Gate::new(&["/orders/"]));
    let uri = set.direct_uri(old);
    let member = mongokeep::mongo::Server::connect("prod", &Secret::new(&*uri), Duration::from_secs(20)).await.unwrap();
    let cancel = CancellationToken::new();
    let before = topology::continuity(&member, &cancel).await.unwrap();
    let running = start(&uri, gated, request("rollback"), Limits::default()).await;
    gate.all_held().await;
    // What the old primary writes now reaches nobody, and another is elected without it.
    let producer = |mode: &str| doc! {"configureFailPoint": "stopReplProducer", "mode": mode};
    for i in &others {
        set.direct_client(*i).await.unwrap().database("admin").run_command(producer("alwaysOn")).await.unwrap();
    }
    let direct = set.direct_client(old).await.unwrap();
    let write = doc! {"insert": "lost", "documents": [{"_id": 1}], "writeConcern": {"w": 1}};
    direct.database("shop").run_command(write).await.unwrap();
    let began = Instant::now();
    let mut candidates = others.iter().cycle();
    let mut new = others[0];
    loop {
        let candidate = set.direct_client(new).await.unwrap().database("admin");
        // Refused while the last election is too near, and for ever where the other was told to stop a write later.
        let stands = candidate.run_command(doc! {"replSetStepUp": 1}).await.is_ok();
        let _ = candidate.run_command(doc! {"replSetAbortPrimaryCatchUp": 1}).await;
        if candidate.run_command(doc! {"hello": 1}).await.unwrap().get_bool("isWritablePrimary").unwrap() {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(180), "nobody else was elected");
        tokio::time::sleep(Duration::from_millis(100)).await;
        if !stands {
            new = *candidates.next().unwrap();
        }
    }
    for i in &others {
        set.direct_client(*i).await.unwrap().database("admin").run_command(producer("off")).await.unwrap();
    }
    let began = Instant::now();
    while topology::continuity(&member, &cancel).await.is_ok_and(|now| now == before) {
        assert!(began.elapsed() < Duration::from_secs(180), "nothing was rolled back");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    gate.open();
    let (outcome, log) = running.done().await;
    let error = outcome.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    assert_eq!(folder.files(), Vec::<String>::new(), "{log:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oplog_that_no_longer_reaches_back_is_a_gap_and_said() {
    let set = support::replica_set().await;
    let client = set.client().await.unwrap();
    client.database("a").collection("b").insert_one(doc! {"_id": 1}).await.unwrap();
    // As if a transaction had been open since long before the oldest entry.
    let old = mongodb::bson::Timestamp { time: 1000, increment: 1 };
    let open = doc! {
        "_id": {"id": mongodb::bson::Uuid::from_bytes([5; 16]), "uid": mongodb::bson::Binary { subtype: mongodb::bson::spec::BinarySubtype::Generic, bytes: vec![0; 32] }},
        "txnNum": 1_i64, "state": "prepared", "startOpTime": {"ts": old, "t": 1_i64},
        "lastWriteOpTime": {"ts": old, "t": 1_i64}, "lastWriteDate": mongodb::bson::DateTime::now(),
    };
    let insert = doc! {"insert": "transactions", "documents": [open], "$db": "config"};
    without_session(&set.addresses()[0], &insert).await;
    let folder = Folder::new();
    let (ctx, _) = context(Limits::default());
    let storage = Arc::clone(&folder.storage);
    let error = dump(&ctx, storage, &server(&set).await, &request("gap")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted, "{error:?}");
    assert!(error.full().contains("no longer holds 1000,1"), "{error}");
    assert_eq!(folder.files(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_majority_that_does_not_confirm_is_waited_for() {
    let options = ReplicaSetOptions::default().members(3);
    let mut set = ReplicaSet::start(&support::mongod().await, options).await.unwrap();
    let client = set.client().await.unwrap();
    client.database("a").collection("b").insert_one(doc! {"_id": 1}).await.unwrap();
    stay_primary(&client).await;
    let primary = set.primary().await.unwrap();
    let others: Vec<usize> = (0..3).filter(|i| *i != primary).collect();
    let folder = Folder::new();
    let (gated, gate) = hooked(&folder.storage, Gate::new(&["/b/"]));
    let uri = set.direct_uri(primary);
    let running = start(&uri, gated, request("majority"), Limits::default()).await;
    gate.all_held().await;
    // One secondary is gone, and the other confirms nothing: what is written now is on one member only.
    set.kill_member(others[0]).await.unwrap();
    let stalled = set.server(others[1]).unwrap().pid().unwrap();
    signal(stalled, "STOP");
    let direct = set.direct_client(primary).await.unwrap();
    let write = doc! {"insert": "b", "documents": [{"_id": 2}], "writeConcern": {"w": 1}};
    direct.database("a").run_command(write).await.unwrap();
    gate.open();
    let phase = "waiting for a majority to confirm the last change";
    let began = Instant::now();
    while running.ctx.meter.phase() != phase {
        assert!(began.elapsed() < Duration::from_secs(120) && !running.task.is_finished());
        tokio::task::yield_now().await;
    }
    assert!(!running.task.is_finished(), "it did not wait");
    signal(stalled, "CONT");
    let (manifest, log) = running.done().await;
    let manifest = manifest.unwrap_or_else(|e| panic!("{e:?} {log:#?}"));
    let entries = support::dumps::documents(&folder, &manifest, &manifest.oplog).await;
    let inserted = entries
        .iter()
        .filter_map(|e| Document::from_reader(&mut &e[..]).ok())
        .any(|e| e.get_document("o").is_ok_and(|o| o.get_i32("_id").is_ok_and(|id| id == 2)));
    assert!(inserted, "the change that was read is not in the oplog");
}

/// The primary will hear of no majority, and must stay one for as long as a test takes.
async fn stay_primary(client: &mongodb::Client) {
    let admin = client.database("admin");
    let mut config =
        admin.run_command(doc! {"replSetGetConfig": 1}).await.unwrap().get_document("config").unwrap().clone();
    let version = config.get_i32("version").unwrap();
    config.insert("version", version + 1);
    config.get_document_mut("settings").unwrap().insert("electionTimeoutMillis", 300_000);
    admin.run_command(doc! {"replSetReconfig": config}).await.unwrap();
}

/// A connection to a member that says nothing is waited for; a cancel is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_does_not_wait_for_a_member_that_says_nothing() {
    let options = ReplicaSetOptions::default().members(3);
    let set = ReplicaSet::start(&support::mongod().await, options).await.unwrap();
    let client = set.client().await.unwrap();
    client.database("a").collection("b").insert_one(doc! {"_id": 1}).await.unwrap();
    stay_primary(&client).await;
    let primary = set.primary().await.unwrap();
    let folder = Folder::new();
    let silent: Vec<u32> = (0..3).filter(|i| *i != primary).map(|i| set.server(i).unwrap().pid().unwrap()).collect();
    silent.iter().for_each(|pid| signal(*pid, "STOP"));
    let running = start(&set.uri(), Arc::clone(&folder.storage), request("silent"), Limits::default()).await;
    let began = Instant::now();
    while folder.files().is_empty() {
        assert!(began.elapsed() < Duration::from_secs(60) && !running.task.is_finished());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let began = Instant::now();
    running.ctx.cancel.cancel();
    let (outcome, log) = running.done().await;
    silent.iter().for_each(|pid| signal(*pid, "CONT"));
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Cancelled);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}: {log:#?}", began.elapsed());
    assert_eq!(folder.files(), Vec::<String>::new(), "{log:#?}");
}

fn signal(pid: u32, name: &str) {
    assert!(
        std::process::Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap().success()
    );
}

/// Sends a command as no driver does: outside any session, which the server asks for of writes to its own tables.
async fn without_session(address: &str, command: &Document) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let body = command.to_vec().unwrap();
    let mut message = Vec::new();
    // Length, request id, response to, OP_MSG; flags; one body section.
    for word in [16 + 4 + 1 + body.len() as i32, 1, 0, 2013, 0] {
        message.extend_from_slice(&word.to_le_bytes());
    }
    message.push(0);
    message.extend_from_slice(&body);
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(&message).await.unwrap();
    let mut head = [0_u8; 21];
    stream.read_exact(&mut head).await.unwrap();
    let length = i32::from_le_bytes(head[..4].try_into().unwrap()) as usize;
    let mut reply = vec![0; length - head.len()];
    stream.read_exact(&mut reply).await.unwrap();
    let reply = Document::from_reader(&mut &reply[..]).unwrap();
    assert_eq!(reply.get_i32("n").unwrap(), 1, "{reply}");
}
