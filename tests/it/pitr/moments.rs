//! Restoring to a moment, where it is hard: what began before the base and ended after it, what was renamed, dropped
//! and made again, and the positions just before, at and after a commit.

use std::collections::BTreeMap;

use mongodb::bson::{Bson, Document, doc};
use mongodb::{Client, ClientSession, Database, IndexModel};
use mongokeep::domain::pitr::Archive;
use mongokeep::domain::restore::RestoreRequest;
use mongokeep::domain::timestamp::Timestamp;
use mongokeep::engine::Limits;
use mongokeep::engine::logical::LogicalManifest;

use crate::support::compare::{self, State};
use crate::support::dumps::{self, Folder};
use crate::support::hooked::{Gate, hooked};
use crate::support::pair::{Pair, request};
use crate::support::recording::newest;
use crate::support::slicing::{self, Options, Recorder};

/// What a database was after a position.
struct Moment {
    what: &'static str,
    db: &'static str,
    at: Timestamp,
    expected: State,
}

struct Moments {
    client: Client,
    found: Vec<Moment>,
    /// What databases were before their transactions.
    untouched: BTreeMap<&'static str, State>,
}

impl Moments {
    /// Writes down what `db` is now.
    async fn note(&mut self, db: &'static str, what: &'static str) -> Timestamp {
        let at = newest(&self.client).await;
        let expected = compare::database(&self.client, db).await;
        self.add(what, db, at, expected);
        at
    }

    fn add(&mut self, what: &'static str, db: &'static str, at: Timestamp, expected: State) {
        self.found.push(Moment { what, db, at, expected });
    }

    /// What is noted for `at` is true of `other` as well.
    fn same_at(&mut self, what: &'static str, other: Timestamp) {
        let last = self.found.last().unwrap();
        self.add(what, last.db, other, last.expected.clone());
    }
}

fn before(ts: Timestamp) -> Timestamp {
    if ts.i > 1 { Timestamp::new(ts.t, ts.i - 1) } else { Timestamp::new(ts.t - 1, u32::MAX) }
}

async fn insert(db: &Database, collection: &str, ids: impl IntoIterator<Item = i32>) {
    db.collection::<Document>(collection).insert_many(ids.into_iter().map(|n| doc! {"_id": n})).await.unwrap();
}

async fn rename(client: &Client, from: &str, to: &str, over: bool) {
    let command = doc! {"renameCollection": from, "to": to, "dropTarget": over};
    client.database("admin").run_command(command).await.unwrap();
}

/// A transaction on two collections of `db`, so large that it is several entries when `large`.
async fn begin(client: &Client, db: &Database, large: bool) -> ClientSession {
    let mut session = client.start_session().await.unwrap();
    session.start_transaction().await.unwrap();
    db.collection::<Document>("a").insert_one(doc! {"_id": "in"}).session(&mut session).await.unwrap();
    let change = doc! {"$inc": {"n": 1}};
    db.collection::<Document>("b").update_one(doc! {"_id": 1}, change).session(&mut session).await.unwrap();
    if large {
        let pad = "x".repeat(3 << 20);
        for n in 0..7 {
            let big = doc! {"_id": format!("big{n}"), "pad": &pad};
            db.collection::<Document>("a").insert_one(big).session(&mut session).await.unwrap();
        }
    }
    session
}

async fn prepare(client: &Client, session: &mut ClientSession) -> Bson {
    let command = doc! {"prepareTransaction": 1, "writeConcern": {"w": "majority"}};
    let reply = client.database("admin").run_command(command).session(session).await.unwrap();
    reply.get("prepareTimestamp").unwrap().clone()
}

async fn commit_prepared(client: &Client, session: &mut ClientSession, at: Bson) {
    let command = doc! {"commitTransaction": 1, "commitTimestamp": at, "writeConcern": {"w": "majority"}};
    client.database("admin").run_command(command).session(session).await.unwrap();
}

async fn abort_prepared(client: &Client, session: &mut ClientSession) {
    let command = doc! {"abortTransaction": 1, "writeConcern": {"w": "majority"}};
    client.database("admin").run_command(command).session(session).await.unwrap();
}

/// Transactions that are prepared and not ended yet.
struct Open {
    sessions: Vec<(&'static str, ClientSession, Bson)>,
}

/// Prepared before the base is begun, and ended after it or while it is read.
const EARLY: [&str; 4] = ["early", "early_aborted", "across", "across_aborted"];
/// Prepared while the base is read, and ended after it.
const LATE: [&str; 2] = ["late", "late_aborted"];

impl Open {
    async fn prepare(&mut self, client: &Client, names: &[&'static str]) {
        for name in names {
            let mut session = begin(client, &client.database(name), name.starts_with("early")).await;
            let at = prepare(client, &mut session).await;
            self.sessions.push((*name, session, at));
        }
    }

    /// Those whose names begin so.
    fn take(&mut self, prefix: &str) -> Self {
        let sessions = self.sessions.extract_if(.., |(name, ..)| name.starts_with(prefix)).collect();
        Self { sessions }
    }

    async fn end(self, client: &Client) {
        for (name, mut session, at) in self.sessions {
            match name.ends_with("aborted") {
                true => abort_prepared(client, &mut session).await,
                false => commit_prepared(client, &mut session, at).await,
            }
        }
    }
}

/// Takes a base; transactions are open before it, begin and end while it is read, and are open after it.
async fn base(pair: &Pair, folder: &Folder, moments: &mut Moments) -> (LogicalManifest, Open) {
    let client = pair.from.clone();
    let mut untouched = State::new();
    for name in EARLY.iter().chain(&LATE) {
        let db = client.database(name);
        insert(&db, "a", [1]).await;
        insert(&db, "b", [1]).await;
        // The same for all.
        untouched = compare::database(&client, name).await;
    }
    insert(&client.database("held"), "held", [1]).await;
    let mut open = Open { sessions: Vec::new() };
    open.prepare(&client, &EARLY).await;

    let (gated, gate) = hooked(&folder.storage, Gate::new(&["/held/"]));
    let running = dumps::start(&pair.source.uri(), gated, dumps::request("base"), Limits::default()).await;
    gate.all_held().await;
    open.take("across").end(&client).await;
    open.prepare(&client, &LATE).await;
    gate.open();
    let (manifest, log) = running.done().await;
    let manifest = manifest.unwrap_or_else(|e| panic!("{e:?} {log:#?}"));
    dumps::verify_ok(folder, &manifest).await;
    assert_eq!(manifest.open_transactions.len(), 4);

    for (name, ..) in &open.sessions {
        moments.untouched.insert(name, untouched.clone());
        moments.add("the moment of the base", name, manifest.consistent_at_ts, untouched.clone());
    }
    moments.add("aborted during the base", "across_aborted", manifest.consistent_at_ts, untouched.clone());
    let committed = compare::database(&client, "across").await;
    assert_ne!(committed, untouched);
    moments.add("committed during the base", "across", manifest.consistent_at_ts, committed);
    (manifest, open)
}

/// Commits or aborts, with the moments just before, at and after.
async fn end_transactions(client: &Client, open: Open, moments: &mut Moments) {
    for (name, session, at) in open.sessions {
        Open { sessions: vec![(name, session, at)] }.end(client).await;
        let untouched = moments.untouched[name].clone();
        if name.ends_with("aborted") {
            moments.note(name, "aborted after the base").await;
            assert_eq!(moments.found.last().unwrap().expected, untouched);
            continue;
        }
        let after = moments.note(name, "committed after the base").await;
        let commit = commit_of(client, after).await;
        moments.same_at("at the commit itself", commit);
        moments.add("just before the commit", name, before(commit), untouched);
    }
}

/// Where the newest `commitTransaction` at or before `ts` is.
async fn commit_of(client: &Client, ts: Timestamp) -> Timestamp {
    let oplog = client.database("local").collection::<Document>("oplog.rs");
    let up_to = mongodb::bson::Timestamp { time: ts.t, increment: ts.i };
    let filter = doc! {"ts": {"$lte": up_to}, "o.commitTransaction": 1};
    let entry = oplog.find_one(filter).sort(doc! {"$natural": -1}).await.unwrap().unwrap();
    let at = entry.get_timestamp("ts").unwrap();
    Timestamp::new(at.time, at.increment)
}

/// A transaction of several entries, begun and committed after the base.
async fn large_transaction(client: &Client, moments: &mut Moments) {
    let db = client.database("large");
    insert(&db, "a", [1]).await;
    insert(&db, "b", [1]).await;
    moments.note("large", "before a transaction over 16 MiB").await;
    let mut session = begin(client, &db, true).await;
    session.commit_transaction().await.unwrap();
    let commit = moments.note("large", "after a transaction over 16 MiB").await;
    let previous = moments.found[moments.found.len() - 2].expected.clone();
    moments.add("just before its last entry", "large", before(commit), previous);
}

async fn definitions(client: &Client, moments: &mut Moments) {
    let db = client.database("names");
    insert(&db, "indexed", 0..20).await;
    insert(&db, "target", 100..120).await;
    let index = IndexModel::builder().keys(doc! {"x": 1}).build();
    db.collection::<Document>("indexed").create_index(index).await.unwrap();
    moments.note("names", "an index").await;
    rename(client, "names.indexed", "names.elsewhere", false).await;
    insert(&db, "elsewhere", [50]).await;
    moments.note("names", "renamed after an index").await;
    rename(client, "names.elsewhere", "names.target", true).await;
    insert(&db, "target", [51]).await;
    moments.note("names", "renamed over a target").await;
    insert(&db, "short", 0..5).await;
    moments.note("names", "inserted").await;
    db.collection::<Document>("short").drop().await.unwrap();
    moments.note("names", "inserted, then dropped").await;
    db.run_command(doc! {"create": "short", "capped": true, "size": 4096}).await.unwrap();
    insert(&db, "short", (0..9).rev()).await;
    moments.note("names", "made again with other options").await;
    db.run_command(doc! {"collMod": "target", "index": {"keyPattern": {"x": 1}, "hidden": true}}).await.unwrap();
    moments.note("names", "an index hidden").await;
    db.run_command(doc! {"convertToCapped": "target", "size": 100_000}).await.unwrap();
    insert(&db, "target", [52]).await;
    moments.note("names", "converted to a capped collection").await;
}

async fn time_series(client: &Client, moments: &mut Moments) {
    let db = client.database("series");
    for (granularity, what) in [("minutes", "a time series"), ("hours", "dropped and made again")] {
        let create = doc! {
            "create": "events", "timeseries": {"timeField": "at", "metaField": "m", "granularity": granularity},
        };
        db.run_command(create).await.unwrap();
        let at = |n: i64| mongodb::bson::DateTime::from_millis(1_790_000_000_000 + n * 1000);
        let events = (0..50).map(|n| doc! {"at": at(n), "m": n % 3, "v": n});
        db.collection::<Document>("events").insert_many(events).await.unwrap();
        moments.note("series", what).await;
        db.collection::<Document>("events").delete_many(doc! {"m": 1}).await.unwrap();
        moments.note("series", "a sensor deleted").await;
        db.collection::<Document>("events").drop().await.unwrap();
        moments.note("series", "dropped").await;
    }
}

async fn equal_ids(client: &Client, moments: &mut Moments) {
    let db = client.database("ids");
    db.run_command(doc! {"create": "collated", "collation": {"locale": "en", "strength": 1}}).await.unwrap();
    let (plain, collated) = (db.collection::<Document>("plain"), db.collection::<Document>("collated"));
    plain.insert_one(doc! {"_id": 1, "as": "int"}).await.unwrap();
    moments.note("ids", "an id").await;
    plain.delete_one(doc! {"_id": 1}).await.unwrap();
    moments.note("ids", "deleted").await;
    plain.insert_one(doc! {"_id": 1i64, "as": "long"}).await.unwrap();
    moments.note("ids", "the same id of another type").await;
    for (id, n) in [("Resume", 1), ("RESUME", 2), ("résumé", 3)] {
        collated.insert_one(doc! {"_id": id, "n": n}).await.unwrap();
        moments.note("ids", "another form of an id").await;
        collated.delete_one(doc! {"_id": "resume"}).await.unwrap();
    }
    collated.insert_one(doc! {"_id": "resume", "n": 4}).await.unwrap();
    plain.replace_one(doc! {"_id": 1.0}, doc! {"again": true}).await.unwrap();
    moments.note("ids", "equal ids").await;
}

fn only(db: &str) -> RestoreRequest {
    RestoreRequest { include: vec![db.parse().unwrap()], ..request() }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_moment_comes_back_as_it_was() {
    let pair = Pair::start().await;
    let client = pair.from.clone();
    let folder = Folder::new();
    let mut recorder = Recorder::begun(&dumps::server(&pair.source).await, &folder.storage, Options::default()).await;
    let mut moments = Moments { client: client.clone(), found: Vec::new(), untouched: BTreeMap::new() };
    let (manifest, open) = base(&pair, &folder, &mut moments).await;
    equal_ids(&client, &mut moments).await;
    end_transactions(&client, open, &mut moments).await;
    large_transaction(&client, &mut moments).await;
    definitions(&client, &mut moments).await;
    time_series(&client, &mut moments).await;
    recorder.reached(newest(&client).await).await;
    let (outcome, heard) = recorder.stop().await;
    outcome.unwrap();
    assert!(heard.slices.len() > 2, "{} slices", heard.slices.len());

    let archive: Archive = heard.archive.unwrap();
    let target = pair.server().await.unwrap();
    let mut wrong = Vec::new();
    for moment in &moments.found {
        pair.to.database(moment.db).drop().await.unwrap();
        let stored = slicing::at(&folder.storage, &manifest, &archive, &heard.slices, moment.at).unwrap();
        match slicing::restore(&stored, &target, &only(moment.db)).await {
            Ok(_) => {
                let found = compare::database(&pair.to, moment.db).await;
                let differences = compare::differences(&moment.expected, &found);
                wrong.extend(differences.iter().map(|d| format!("{} ({}): {d}", moment.what, moment.at)));
            }
            // There was nothing of it at that moment.
            Err(_) if moment.expected.is_empty() => {}
            Err(e) => wrong.push(format!("{} ({}): {e:?}", moment.what, moment.at)),
        }
        assert!(compare::database(&pair.to, moment.db).await.keys().all(|name| !name.starts_with("tmp")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
