//! Writers that do to a replica set what applications, and their administrators, do: all at once and in any order.
//!
//! What each does follows from its seed. Errors of single operations are expected (a collection is gone, a unique
//! index refuses) and ignored; that something was really done is counted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, Document, doc};
use mongodb::error::Result;
use mongodb::options::{Acknowledgment, WriteConcern};
use mongodb::{Client, Database};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{changes, indexes};

/// A capped collection in each database, which has room for so many bytes.
pub const FULL_OF_BYTES: &str = "bytes";
pub const BYTES: usize = 65_536;

/// Databases the writers use; each writer prefers one, and all touch the first.
pub const DATABASES: [&str; 4] = ["shop", "sales", "app-logs", "geo-é"];
const COLLECTIONS: [&str; 8] = ["orders", "items", "users", "a b", "nested.name", "x%y", "résumé", "spare"];
/// Documents of the stock, of 4 KB each.
const STOCK: i32 = 4_000;
/// One with large documents, and names that are free at first: where renames and `$out` go, and collections are created.
const OTHERS: [&str; 5] = ["large", "moved", "copy.of", "new one", "_under"];

/// Fills the databases with what a dump must find at its start, as far as this version knows it.
pub async fn seed(client: &Client, seed: u64) {
    let release = super::release_of(client).await;
    let mut rng = StdRng::seed_from_u64(seed);
    stock(&mut rng, client).await;
    for name in DATABASES {
        let db = client.database(name);
        for collection in COLLECTIONS {
            let documents: Vec<Document> = (0..rng.random_range(200..600)).map(|i| document(&mut rng, i)).collect();
            db.collection::<Document>(collection).insert_many(documents).await.unwrap();
        }
        // Larger than one batch of a cursor, so that renames and drops meet cursors in the middle.
        for i in 0..40 {
            let mut bytes = vec![0; 240_000];
            rng.fill(bytes.as_mut_slice());
            let data = Binary { subtype: BinarySubtype::Generic, bytes };
            db.collection::<Document>("large").insert_one(doc! {"_id": i, "data": data}).await.unwrap();
        }
        if release >= (5, 0) {
            let events = doc! {"create": "events", "timeseries": {"timeField": "at", "metaField": "sensor"}};
            db.run_command(events).await.unwrap();
        }
        db.run_command(doc! {"create": "ring", "capped": true, "size": 200_000, "max": 500}).await.unwrap();
        db.run_command(doc! {"create": FULL_OF_BYTES, "capped": true, "size": BYTES as i64}).await.unwrap();
        let collation = doc! {"locale": "fr", "strength": 1};
        db.run_command(doc! {"create": "collated", "collation": collation}).await.unwrap();
        if release >= (5, 3) {
            let key = doc! {"key": {"_id": 1}, "unique": true, "name": "by id"};
            db.run_command(doc! {"create": "clustered", "clusteredIndex": key}).await.unwrap();
        }
        db.run_command(doc! {"create": "cheap", "viewOn": "orders", "pipeline": [{"$match": {"n": {"$lt": 50}}}]})
            .await
            .unwrap();
        db.run_command(doc! {
            "createIndexes": "orders",
            "indexes": [{"key": {"n": 1}, "name": "n"}, {"key": {"text": 1, "n": -1}, "name": "both", "sparse": true}],
        })
        .await
        .unwrap();
    }
}

/// Fills a collection whose reading takes many replies, so that much happens to it meanwhile.
async fn stock(rng: &mut StdRng, client: &Client) {
    let collection = client.database(DATABASES[0]).collection::<Document>("stock");
    for ids in (0..STOCK).collect::<Vec<_>>().chunks(1000) {
        let documents: Vec<Document> = ids.iter().map(|id| item(rng, *id)).collect();
        collection.insert_many(documents).await.unwrap();
    }
}

/// Drops what `seed` and the writers made.
pub async fn clear(client: &Client) {
    for name in client.list_database_names().await.unwrap() {
        if !["admin", "config", "local"].contains(&name.as_str()) {
            client.database(&name).drop().await.unwrap();
        }
    }
}

fn document(rng: &mut StdRng, id: i32) -> Document {
    let text: String = (0..rng.random_range(10..400)).map(|_| char::from(rng.random_range(b'a'..=b'z'))).collect();
    doc! {
        "_id": id, "n": rng.random_range(0..1000), "u": rng.random::<i64>(), "text": text, "tags": ["a", "b"],
        "list": [1, 2, 3], "rows": [{"k": 1, "v": [1]}, {"k": 3}], "deep": {"a": 1, "b": {"c": [1, 2, {"d": 3}]}},
    }
}

/// A document of the stock.
fn item(rng: &mut StdRng, id: i32) -> Document {
    let mut document = document(rng, id);
    document.insert("filling", "x".repeat(3_500));
    document
}

/// A command whose write errors are errors, when it did nothing else.
async fn write(db: &Database, command: Document) -> Result<()> {
    let reply = db.run_command(command).await?;
    match reply.get_array("writeErrors") {
        Ok(errors) if reply.get_i32("n").unwrap_or(0) == 0 => Err(mongodb::error::Error::custom(format!("{errors:?}"))),
        _ => Ok(()),
    }
}

/// Writers at work.
pub struct Writers {
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    done: Arc<Mutex<BTreeMap<&'static str, u64>>>,
}

impl Writers {
    pub fn start(client: &Client, seed: u64, count: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let done: Arc<Mutex<BTreeMap<&'static str, u64>>> = Arc::default();
        let tasks = (0..count)
            .map(|i| {
                let writer = Writer {
                    client: client.clone(),
                    rng: StdRng::seed_from_u64(seed.wrapping_mul(1000) + i as u64),
                    home: DATABASES[i % DATABASES.len()],
                    next: 1_000_000 * (i as i32 + 1),
                };
                tokio::spawn(writer.run(stop.clone(), done.clone()))
            })
            .collect();
        Self { stop, tasks, done }
    }

    /// Lets each writer end what it does (transactions too), and returns what succeeded how often.
    pub async fn stop(self) -> BTreeMap<&'static str, u64> {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            ended(task).await;
        }
        self.done.lock().unwrap().clone()
    }
}

/// What a task that writes returns, which must end: a server that has stopped for good would hold the test up for ever.
pub async fn ended<T>(task: tokio::task::JoinHandle<T>) -> T {
    let ended = tokio::time::timeout(Duration::from_secs(180), task).await;
    ended.expect("a writer is told to end and does not: its server has stopped answering").unwrap()
}

struct Writer {
    client: Client,
    rng: StdRng,
    home: &'static str,
    next: i32,
}

impl Writer {
    async fn run(mut self, stop: Arc<AtomicBool>, done: Arc<Mutex<BTreeMap<&'static str, u64>>>) {
        while !stop.load(Ordering::Relaxed) {
            let (name, result) = self.step().await;
            if result.is_ok() {
                *done.lock().unwrap().entry(name).or_default() += 1;
            }
            // The servers of the whole test share a small machine.
            tokio::time::sleep(Duration::from_millis(self.rng.random_range(1..8))).await;
        }
    }

    async fn step(&mut self) -> (&'static str, Result<()>) {
        let db = self.database();
        match self.rng.random_range(0..1000) {
            0..160 => ("insert", self.insert(&db).await),
            160..230 => ("delete and insert again", self.again(&db).await),
            230..290 => ("stock goes and comes again", self.restock().await),
            290..350 => ("all write one document", self.hot().await),
            350..520 => ("update", self.update(&db).await),
            520..600 => ("delete", self.delete(&db).await),
            600..680 => ("capped insert", self.capped(&db).await),
            680..750 => ("time series insert", self.time_series(&db).await),
            750..790 => ("transaction", self.transaction(&db, true).await),
            790..810 => ("aborted transaction", self.transaction(&db, false).await),
            810..818 => ("prepared transaction", self.prepared(&db, true).await),
            818..822 => ("aborted prepared transaction", self.prepared(&db, false).await),
            822..842 => ("rename", self.rename(&db, false).await),
            842..852 => ("rename over", self.rename(&db, true).await),
            852..867 => ("out", self.out(&db).await),
            867..875 => ("merge", self.merge(&db).await),
            875..888 => ("drop", self.collection(&db).drop().await),
            888..905 => ("create", self.create(&db).await),
            905..925 => ("index", self.index(&db).await),
            925..940 => ("unique index", self.unique_index(&db).await),
            940..955 => ("failed unique index", self.failing_unique_index(&db).await),
            955..965 => ("drop index", self.drop_index(&db).await),
            965..975 => ("collMod", self.coll_mod(&db).await),
            975..982 => ("view", self.view(&db).await),
            982..986 => ("convert to capped", self.convert(&db).await),
            986..988 => ("drop database", self.client.database("spare-db").drop().await),
            988..992 => ("clustered insert", self.clustered(&db).await),
            992..996 => ("collated insert", self.collated(&db).await),
            _ => ("large transaction", self.large_transaction(&db).await),
        }
    }

    fn database(&mut self) -> Database {
        let name = match self.rng.random_range(0..20) {
            0..13 => self.home,
            13..19 => DATABASES[0],
            _ => "spare-db",
        };
        self.client.database(name)
    }

    fn name(&mut self) -> &'static str {
        let i = self.rng.random_range(0..COLLECTIONS.len() + OTHERS.len());
        COLLECTIONS.iter().chain(&OTHERS).nth(i).copied().unwrap_or("orders")
    }

    fn collection(&mut self, db: &Database) -> mongodb::Collection<Document> {
        let name = self.name();
        db.collection(name)
    }

    fn document(&mut self) -> Document {
        self.next += 1;
        document(&mut self.rng, self.next)
    }

    /// An `_id` that may exist.
    fn id(&mut self) -> i32 {
        match self.rng.random_range(0..3) {
            0 => self.next - self.rng.random_range(0..100),
            _ => self.rng.random_range(0..600),
        }
    }

    async fn insert(&mut self, db: &Database) -> Result<()> {
        let documents: Vec<Document> = (0..self.rng.random_range(1..20)).map(|_| self.document()).collect();
        self.collection(db).insert_many(documents).await.map(drop)
    }

    async fn update(&mut self, db: &Database) -> Result<()> {
        let (id, many, collection) = (self.id(), self.rng.random_bool(0.1), self.name());
        let mut update = match many {
            true => doc! {"q": {"n": {"$lt": 20}}, "multi": true},
            false => doc! {"q": {"_id": id}, "upsert": self.rng.random_bool(0.2)},
        };
        update.extend(changes::change(&mut self.rng));
        let command = doc! {"update": collection, "updates": [update], "writeConcern": {"w": "majority"}};
        write(db, command).await
    }

    /// The same `_id` in another place of its collection.
    async fn again(&mut self, db: &Database) -> Result<()> {
        let (id, collection) = (self.id(), self.collection(db));
        let document = document(&mut self.rng, id);
        if collection.delete_one(doc! {"_id": id}).await?.deleted_count == 0 {
            return Err(mongodb::error::Error::custom("nothing was there"));
        }
        collection.insert_one(document).await.map(drop)
    }

    /// Some of the stock go and come again, behind and before whoever reads it.
    async fn restock(&mut self) -> Result<()> {
        let collection = self.client.database(DATABASES[0]).collection::<Document>("stock");
        let ids: Vec<i32> = (0..10).map(|_| self.rng.random_range(0..STOCK)).collect();
        collection.delete_many(doc! {"_id": {"$in": &ids}}).await?;
        let documents: Vec<Document> = ids.iter().map(|id| item(&mut self.rng, *id)).collect();
        collection.insert_many(documents).ordered(false).await.map(drop)
    }

    /// One document of the stock, which all writers change, delete and insert.
    async fn hot(&mut self) -> Result<()> {
        let db = self.client.database(DATABASES[0]);
        let id = self.rng.random_range(0..3) * (STOCK / 2 - 1);
        match self.rng.random_range(0..8) {
            0 => write(&db, doc! {"delete": "stock", "deletes": [{"q": {"_id": id}, "limit": 1}]}).await,
            1 | 2 => write(&db, doc! {"insert": "stock", "documents": [item(&mut self.rng, id)]}).await,
            _ => {
                let mut update = doc! {"q": {"_id": id}, "upsert": self.rng.random_bool(0.2)};
                update.extend(changes::change(&mut self.rng));
                write(&db, doc! {"update": "stock", "updates": [update]}).await
            }
        }
    }

    async fn delete(&mut self, db: &Database) -> Result<()> {
        let id = self.id();
        let collection = self.collection(db);
        if self.rng.random_bool(0.05) {
            collection.delete_many(doc! {"n": {"$lt": 30}}).await.map(drop)
        } else {
            collection.delete_one(doc! {"_id": id}).await.map(drop)
        }
    }

    /// The one has room for few documents, the other for few bytes.
    async fn capped(&mut self, db: &Database) -> Result<()> {
        if self.rng.random_bool(0.2) {
            let n = self.rng.random_range(0..1000);
            let update = doc! {"q": {"n": {"$lt": n}}, "u": {"$set": {"n": n, "deep.b.c.0": 7, "list.1": 8}}};
            return write(db, doc! {"update": "ring", "updates": [update]}).await;
        }
        let documents: Vec<Document> = (0..self.rng.random_range(1..10)).map(|_| self.document()).collect();
        if self.rng.random_bool(0.5) {
            return db.collection::<Document>("ring").insert_many(documents).await.map(drop);
        }
        let filled = documents.into_iter().map(|mut document| {
            document.insert("filling", "x".repeat(self.rng.random_range(0..20_000)));
            document
        });
        let filled: Vec<Document> = filled.collect();
        db.collection::<Document>(FULL_OF_BYTES).insert_many(filled).await.map(drop)
    }

    async fn time_series(&mut self, db: &Database) -> Result<()> {
        let at = 1_790_000_000_000 + i64::from(self.next) * 1000 % 10_000_000_000;
        let documents: Vec<Document> = (0..self.rng.random_range(1..10))
            .map(|i| {
                let at = mongodb::bson::DateTime::from_millis(at + i * 500);
                // Of several types, which share a bucket where the server lets them.
                let value = match self.rng.random_range(0..8) {
                    0 => Bson::String("none".into()),
                    1 => Bson::Document(doc! {"low": 1, "high": 2.5}),
                    _ => Bson::Double(self.rng.random()),
                };
                doc! {"at": at, "sensor": self.rng.random_range(0..5), "value": value}
            })
            .collect();
        db.collection::<Document>("events").insert_many(documents).await.map(drop)
    }

    async fn transaction(&mut self, db: &Database, commit: bool) -> Result<()> {
        let mut session = self.client.start_session().await?;
        session.start_transaction().await?;
        let (one, two, other) = (self.collection(db), self.collection(db), self.collection(db));
        let (a, b, id) = (self.document(), self.document(), self.id());
        let work = async {
            one.insert_one(a).session(&mut session).await?;
            two.insert_one(b).session(&mut session).await?;
            other.update_one(doc! {"_id": id}, doc! {"$inc": {"n": 7}}).session(&mut session).await
        };
        let worked = work.await;
        // Left open for a while, so that dumps begin and end in the middle of some.
        tokio::time::sleep(Duration::from_millis(self.rng.random_range(0..300))).await;
        match worked {
            Ok(_) if commit => session.commit_transaction().await,
            Ok(_) => session.abort_transaction().await,
            Err(e) => {
                let _ = session.abort_transaction().await;
                Err(e)
            }
        }
    }

    /// More than 16 MB in one transaction, so that it takes several entries of the oplog.
    async fn large_transaction(&mut self, db: &Database) -> Result<()> {
        let mut session = self.client.start_session().await?;
        session.start_transaction().await?;
        let collection = db.collection::<Document>("spare");
        for _ in 0..18 {
            self.next += 1;
            let large = doc! {"_id": self.next, "text": "x".repeat(1_000_000)};
            if let Err(e) = collection.insert_one(large).session(&mut session).await {
                let _ = session.abort_transaction().await;
                return Err(e);
            }
        }
        session.commit_transaction().await?;
        let last = self.next;
        collection.delete_many(doc! {"_id": {"$gt": last - 18, "$lt": last - 1}}).await.map(drop)
    }

    async fn prepared(&mut self, db: &Database, commit: bool) -> Result<()> {
        let mut session = self.client.start_session().await?;
        session.start_transaction().await?;
        let (one, two) = (self.collection(db), self.collection(db));
        let (a, id) = (self.document(), self.id());
        one.insert_one(a).session(&mut session).await?;
        two.update_one(doc! {"_id": id}, doc! {"$inc": {"n": 13}}).session(&mut session).await?;
        let admin = self.client.database("admin");
        let majority = doc! {"w": "majority"};
        let prepare = doc! {"prepareTransaction": 1, "writeConcern": &majority};
        let reply = admin.run_command(prepare).session(&mut session).await?;
        tokio::time::sleep(Duration::from_millis(self.rng.random_range(0..2_000))).await;
        let end = if commit {
            let at: Bson = reply.get("prepareTimestamp").cloned().unwrap_or(Bson::Null);
            doc! {"commitTransaction": 1, "commitTimestamp": at, "writeConcern": &majority}
        } else {
            doc! {"abortTransaction": 1, "writeConcern": &majority}
        };
        admin.run_command(end).session(&mut session).await.map(drop)
    }

    async fn rename(&mut self, db: &Database, over: bool) -> Result<()> {
        let (from, to) = (self.name(), self.name());
        let name = db.name();
        let command = doc! {
            "renameCollection": format!("{name}.{from}"), "to": format!("{name}.{to}"), "dropTarget": over,
        };
        self.client.database("admin").run_command(command).await.map(drop)
    }

    async fn out(&mut self, db: &Database) -> Result<()> {
        let to = self.name();
        let limit = self.rng.random_range(1..200);
        let pipeline = [doc! {"$match": {"n": {"$gt": limit}}}, doc! {"$limit": limit}, doc! {"$out": to}];
        self.collection(db).aggregate(pipeline).await.map(drop)
    }

    async fn merge(&mut self, db: &Database) -> Result<()> {
        let to = self.name();
        let pipeline = [doc! {"$match": {"n": {"$lt": 100}}}, doc! {"$merge": {"into": to}}];
        self.collection(db).aggregate(pipeline).await.map(drop)
    }

    async fn create(&mut self, db: &Database) -> Result<()> {
        let name = self.name();
        let command = match self.rng.random_range(0..4) {
            0 => doc! {"create": name},
            1 => doc! {"create": name, "collation": {"locale": "de"}},
            2 => doc! {"create": name, "validator": {"n": {"$gte": 0}}, "validationAction": "warn"},
            _ => doc! {"create": name, "capped": true, "size": 500_000},
        };
        db.run_command(command).await.map(drop)
    }

    async fn index(&mut self, db: &Database) -> Result<()> {
        let name = self.name();
        let spec = match self.rng.random_range(0..8) {
            0 => doc! {"key": {"n": 1}, "name": "n"},
            1 => doc! {"key": {"text": "text"}, "name": "words"},
            2 => doc! {"key": {"_id": "hashed"}, "name": "hashed id"},
            3 => doc! {"key": {"n": 1, "u": 1}, "name": "part", "partialFilterExpression": {"n": {"$gt": 5}}},
            4 => doc! {"key": {"tags": 1}, "name": "tags", "hidden": true},
            _ => {
                let mut spec = indexes::specification(&mut self.rng);
                // The truth comes from the server's own recovery, which forgets that an index has no collation where its
                // collection has one.
                if spec.get_document("collation").is_ok_and(|c| c.get_str("locale").is_ok_and(|l| l == "simple")) {
                    spec.remove("collation");
                }
                spec
            }
        };
        db.run_command(doc! {"createIndexes": name, "indexes": [spec]}).await.map(drop)
    }

    /// `u` is random, so that nearly no document stands in its way.
    async fn unique_index(&mut self, db: &Database) -> Result<()> {
        let name = self.name();
        let spec = doc! {
            "key": {"u": 1}, "name": "unique u", "unique": true, "partialFilterExpression": {"u": {"$exists": true}},
        };
        db.run_command(doc! {"createIndexes": name, "indexes": [spec]}).await.map(drop)
    }

    /// `n` repeats, so that the build is begun, fails, and is aborted: success here is that the server refused.
    async fn failing_unique_index(&mut self, db: &Database) -> Result<()> {
        let name = self.name();
        let spec = doc! {"key": {"n": 1}, "name": "unique n", "unique": true};
        let result = db.run_command(doc! {"createIndexes": name, "indexes": [spec]}).await;
        match result {
            Err(e) if matches!(*e.kind, mongodb::error::ErrorKind::Command(ref c) if c.code == 11000) => Ok(()),
            Err(e) => Err(e),
            // A collection so small that `n` does not repeat.
            Ok(_) => db.run_command(doc! {"dropIndexes": name, "index": "unique n"}).await.map(drop),
        }
    }

    async fn drop_index(&mut self, db: &Database) -> Result<()> {
        let name = self.name();
        let names = ["n", "both", "words", "unique u", "*"];
        let made = indexes::name(&mut self.rng);
        let index = names.get(self.rng.random_range(0..8)).copied().unwrap_or(&made);
        db.run_command(doc! {"dropIndexes": name, "index": index}).await.map(drop)
    }

    async fn coll_mod(&mut self, db: &Database) -> Result<()> {
        let name = self.name();
        let command = match self.rng.random_range(0..3) {
            0 => doc! {"collMod": name, "validator": {"n": {"$lt": 1_000_000}}, "validationLevel": "moderate"},
            1 => doc! {"collMod": name, "index": {"name": "n", "hidden": self.rng.random_bool(0.5)}},
            _ => doc! {"collMod": name, "changeStreamPreAndPostImages": {"enabled": self.rng.random_bool(0.5)}},
        };
        db.run_command(command).await.map(drop)
    }

    async fn view(&mut self, db: &Database) -> Result<()> {
        let on = self.name();
        match self.rng.random_range(0..3) {
            0 => db.collection::<Document>("second view").drop().await,
            1 => db
                .run_command(doc! {"collMod": "cheap", "viewOn": on, "pipeline": [{"$match": {"n": self.next}}]})
                .await
                .map(drop),
            _ => db
                .run_command(doc! {"create": "second view", "viewOn": on, "pipeline": [{"$project": {"n": 1}}]})
                .await
                .map(drop),
        }
    }

    async fn convert(&mut self, db: &Database) -> Result<()> {
        let name = self.name();
        db.run_command(doc! {"convertToCapped": name, "size": 1_000_000}).await.map(drop)
    }

    async fn clustered(&mut self, db: &Database) -> Result<()> {
        let document = self.document();
        db.collection::<Document>("clustered").insert_one(document).await.map(drop)
    }

    async fn collated(&mut self, db: &Database) -> Result<()> {
        // Some differ in case or accents only: one `_id` under this collation.
        let id = ["été", "ETE", "Noël", "noel", "a", "A"][self.rng.random_range(0..6)];
        let n = self.next;
        let majority = WriteConcern::builder().w(Acknowledgment::Majority).build();
        let collection = db.collection::<Document>("collated");
        match self.rng.random_range(0..3) {
            0 => collection.delete_one(doc! {"_id": id}).write_concern(majority).await.map(drop),
            1 => collection.update_one(doc! {"_id": id}, doc! {"$set": {"n": n}}).await.map(drop),
            _ => collection.insert_one(doc! {"_id": id, "n": n}).await.map(drop),
        }
    }
}
