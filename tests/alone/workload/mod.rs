//! A seeded workload in databases of its own that writes down what is true at positions of the oplog.
//!
//! One thread of one seed does one thing after another, so that between two of its operations nobody changes its
//! databases: what they hold then is the truth for every position from its last entry up to its next one, whatever others
//! write meanwhile. What each step does follows from the seed alone. Errors of single operations are expected (a name is
//! taken, a unique index refuses) and ignored; that something was really done is counted.

mod definitions;
mod documents;
mod transactions;
pub mod values;

use std::collections::BTreeMap;
use std::sync::Arc;

use mongodb::bson::{Document, Timestamp, doc};
use mongodb::error::Result;
use mongodb::{Client, Database};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::watch;

use crate::support::compare;

/// What a seed's databases hold.
#[derive(Default)]
pub struct Truth {
    pub state: compare::State,
    /// By namespace, in the order that was compared.
    pub documents: BTreeMap<String, Vec<Vec<u8>>>,
}

impl Truth {
    pub async fn read(client: &Client, databases: &[String]) -> Self {
        let mut truth = Self::default();
        for db in databases {
            let documents = &mut truth.documents;
            let mut keep = |name: &str, document: &[u8]| {
                // Of the large collection its hash has to do.
                if name == "large" {
                    return;
                }
                documents.entry(format!("{db}.{name}")).or_default().push(document.to_vec());
            };
            let found = compare::database_with(client, db, &mut keep).await;
            truth.state.extend(found.into_iter().map(|(name, c)| (format!("{db}.{name}"), c)));
        }
        truth
    }

    /// What `found` has otherwise, with documents that differ; empty when all is equal.
    pub fn differences(&self, found: &Self) -> Vec<String> {
        let mut lines = compare::differences(&self.state, &found.state);
        for (ns, e) in &self.state {
            let Some(f) = found.state.get(ns).filter(|f| f.hash != e.hash) else { continue };
            let none = Vec::new();
            let (a, b) = (self.documents.get(ns).unwrap_or(&none), found.documents.get(ns).unwrap_or(&none));
            let only = |of: &[Vec<u8>], other: &[Vec<u8>]| {
                let shown = of.iter().filter(|d| !other.contains(d)).take(3).map(|d| show(d)).collect::<Vec<_>>();
                if shown.is_empty() { "nothing".to_owned() } else { shown.join(", ") }
            };
            let order = if e.documents == f.documents { "; or the order" } else { "" };
            lines.push(format!("{ns}: expected only {}; found only {}{order}", only(a, b), only(b, a)));
        }
        lines
    }
}

fn show(document: &[u8]) -> String {
    Document::from_reader(document).map_or_else(|e| format!("{e}: {document:02x?}"), |d| d.to_string())
}

/// What is true from one position to another, both included.
#[derive(Clone)]
pub struct Moment {
    /// What was done last.
    pub what: &'static str,
    pub from: Timestamp,
    pub to: Timestamp,
    pub truth: Arc<Truth>,
}

impl Moment {
    pub fn holds(&self, at: Timestamp) -> bool {
        self.from <= at && at <= self.to
    }
}

/// How far the seeds of one wave are, and whether they may go on.
pub struct Course {
    /// Steps done by all of them.
    pub steps: watch::Sender<usize>,
    /// Becomes true when the base is taken.
    pub based: watch::Receiver<bool>,
}

/// What a seed did and saw.
pub struct Outcome {
    pub seed: u64,
    pub databases: Vec<String>,
    pub moments: Vec<Moment>,
    pub done: BTreeMap<&'static str, u64>,
}

pub struct Workload {
    client: Client,
    rng: StdRng,
    databases: [String; 2],
    moments: Vec<Moment>,
    /// The last moment goes on.
    open: bool,
    /// It has a collection that takes many batches to read.
    large: bool,
    done: BTreeMap<&'static str, u64>,
}

/// Names that all kinds of collections share, so that one follows another under the same name.
const NAMES: [&str; 7] = ["c0", "c1", "c2", "a b", "x.y%z", "é", "tmp.mine"];

/// What a workload does.
pub const KINDS: [&str; 40] = [
    "aborted prepared transaction",
    "aborted transaction",
    "capped insert",
    "capped update",
    "change in a large collection",
    "clustered change",
    "collMod",
    "collated change",
    "convert to capped",
    "create",
    "delete",
    "delete and insert again",
    "delete and insert another form",
    "drop",
    "drop and create",
    "drop and create capped",
    "drop and create time series",
    "drop database",
    "drop index",
    "failed unique index",
    "find and modify",
    "index",
    "index of the grammar",
    "insert",
    "insert then drop",
    "merge",
    "out",
    "prepared transaction",
    "rename",
    "rename over",
    "rename to another database",
    "time series delete",
    "time series insert",
    "transaction",
    "unique index",
    "update",
    "update many",
    "upsert",
    "view",
    "writes together",
];

/// Documents of the large collection, of 4 KB each.
const LARGE: i32 = 4_000;

/// Whether a seed has a large collection: few do, for what it takes to read it again and again.
pub fn has_large(seed: u64) -> bool {
    seed % 40 == 33
}

pub fn databases(seed: u64) -> [String; 2] {
    [format!("s{seed}_a"), format!("s{seed}_b")]
}

impl Workload {
    pub fn new(client: &Client, seed: u64) -> Self {
        Self {
            client: client.clone(),
            rng: StdRng::seed_from_u64(seed),
            databases: databases(seed),
            moments: Vec::new(),
            open: false,
            large: has_large(seed),
            done: BTreeMap::new(),
        }
    }

    /// Does `steps` things. The last quarter is done when there is a base.
    pub async fn run(mut self, seed: u64, steps: usize, course: Arc<Course>) -> Outcome {
        self.prepare().await;
        for step in 0..steps {
            if step == steps - steps / 4 {
                self.record("a pause").await;
                course.based.clone().wait_for(|based| *based).await.unwrap();
            }
            self.close().await;
            let (name, result) = self.step().await;
            if result.is_ok() {
                *self.done.entry(name).or_default() += 1;
            }
            if self.rng.random_bool(0.1) {
                self.record(name).await;
            }
            course.steps.send_modify(|n| *n += 1);
        }
        self.record("the end").await;
        self.close().await;
        Outcome { seed, databases: self.databases.to_vec(), moments: self.moments, done: self.done }
    }

    /// Reads the truth now, which is that of every position until the next step.
    async fn record(&mut self, what: &'static str) {
        let from = self.newest().await;
        self.record_from(what, from).await;
    }

    /// The same, from the entry of the last step on.
    async fn record_from(&mut self, what: &'static str, from: Timestamp) {
        let truth = Arc::new(Truth::read(&self.client, &self.databases).await);
        self.moments.push(Moment { what, from, to: from, truth });
        self.open = true;
    }

    /// The last truth holds up to here.
    async fn close(&mut self) {
        if std::mem::take(&mut self.open) {
            let newest = newest(&self.client).await;
            if let Some(last) = self.moments.last_mut() {
                last.to = newest;
            }
        }
    }

    async fn newest(&self) -> Timestamp {
        newest(&self.client).await
    }

    /// The first database more often.
    fn database(&mut self) -> Database {
        let i = usize::from(self.rng.random_bool(0.25));
        self.client.database(&self.databases[i])
    }

    fn name(&mut self) -> &'static str {
        NAMES[self.rng.random_range(0..NAMES.len())]
    }

    /// What every seed begins with.
    async fn prepare(&mut self) {
        for name in &self.databases {
            let db = self.client.database(name);
            for collection in ["c0", "c1", "a b"] {
                let n = self.rng.random_range(5..25);
                let documents = (0..n).map(|_| values::document(&mut self.rng)).collect::<Vec<_>>();
                // Some have one `_id`.
                let _ = db.run_command(doc! {"insert": collection, "documents": documents, "ordered": false}).await;
            }
        }
        if self.large {
            self.fill_large().await.unwrap();
        }
        let db = self.client.database(&self.databases[0]);
        let release = crate::support::release_of(&self.client).await;
        let always = (0, 0);
        for (since, command) in [
            (always, doc! {"create": "ring", "capped": true, "size": 8192, "max": 20}),
            (always, doc! {"create": "bytes", "capped": true, "size": 16_384}),
            ((5, 0), doc! {"create": "events", "timeseries": {"timeField": "at", "metaField": "sensor"}}),
            (always, doc! {"create": "sorted", "collation": {"locale": "fr", "strength": 1}}),
            ((5, 3), doc! {"create": "by id", "clusteredIndex": {"key": {"_id": 1}, "unique": true, "name": "by id"}}),
            (always, doc! {"create": "view", "viewOn": "c0", "pipeline": [{"$match": {"n": {"$lt": 20}}}]}),
            (always, doc! {"createIndexes": "c0", "indexes": [{"key": {"n": 1}, "name": "n"}]}),
        ] {
            if release >= since {
                db.run_command(command).await.unwrap();
            }
        }
    }

    async fn step(&mut self) -> (&'static str, Result<()>) {
        let db = self.database();
        if self.large && self.rng.random_bool(0.3) {
            return ("change in a large collection", self.in_large().await);
        }
        match self.rng.random_range(0..1000) {
            0..70 => ("insert", self.insert(&db).await),
            70..90 => ("writes together", self.together(&db).await),
            90..130 => ("delete and insert again", self.again(&db).await),
            130..290 => ("update", self.update(&db).await),
            290..340 => ("update many", self.update_many(&db).await),
            340..380 => ("upsert", self.upsert(&db).await),
            380..440 => ("delete", self.delete(&db).await),
            440..460 => ("find and modify", self.find_and_modify(&db).await),
            460..500 => ("delete and insert another form", self.other_form(&db).await),
            500..530 => ("capped insert", self.capped(&db).await),
            530..540 => ("capped update", self.capped_update(&db).await),
            540..570 => ("time series insert", self.time_series(&db).await),
            570..580 => ("time series delete", self.time_series_delete(&db).await),
            580..610 => ("collated change", self.collated(&db).await),
            610..630 => ("clustered change", self.clustered(&db).await),
            630..680 => ("transaction", self.transaction(&db, true).await),
            680..692 => ("aborted transaction", self.transaction(&db, false).await),
            692..710 => ("prepared transaction", self.prepared(&db, true).await),
            710..722 => ("aborted prepared transaction", self.prepared(&db, false).await),
            722..745 => ("rename", self.rename(&db, false).await),
            745..765 => ("rename over", self.rename(&db, true).await),
            765..772 => ("rename to another database", self.rename_across().await),
            772..795 => ("create", self.create(&db).await),
            795..820 => ("drop and create", self.drop_and_create(&db).await),
            820..835 => ("drop", self.drop(&db).await),
            835..848 => ("index", self.index(&db).await),
            848..865 => ("index of the grammar", self.index_of_grammar(&db).await),
            865..877 => ("unique index", self.unique_index(&db).await),
            877..885 => ("failed unique index", self.failing_unique_index(&db).await),
            885..900 => ("drop index", self.drop_index(&db).await),
            900..920 => ("collMod", self.coll_mod(&db).await),
            920..935 => ("view", self.view(&db).await),
            935..947 => ("convert to capped", self.convert(&db).await),
            947..962 => ("out", self.out(&db).await),
            962..975 => ("merge", self.merge(&db).await),
            975..985 => ("drop and create capped", self.renew_ring(&db).await),
            985..994 => ("drop and create time series", self.renew_events(&db).await),
            994..997 => ("drop database", db.drop().await),
            _ => ("insert then drop", self.insert_then_drop(&db).await),
        }
    }
}

/// The newest position of a server's oplog.
pub async fn newest(client: &Client) -> Timestamp {
    crate::oracle::top_of_oplog(client).await
}
