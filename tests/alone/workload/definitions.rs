//! Changes of what there is: collections, indexes, options, views.

use mongodb::Database;
use mongodb::bson::{Document, doc};
use mongodb::error::{Error, ErrorKind, Result};
use rand::Rng;

use super::{Workload, values};
use crate::support::indexes;

const TEN_YEARS: i64 = 315_360_000;

async fn run(db: &Database, command: Document) -> Result<()> {
    db.run_command(command).await.map(drop)
}

impl Workload {
    pub(super) async fn rename(&mut self, db: &Database, over: bool) -> Result<()> {
        let (from, to) = (self.name(), self.name());
        self.rename_to(&format!("{}.{from}", db.name()), &format!("{}.{to}", db.name()), over).await
    }

    /// Which the server does by copying.
    pub(super) async fn rename_across(&mut self) -> Result<()> {
        let (from, to) = (self.name(), self.name());
        let ([a, b], over) = (self.databases.clone(), self.rng.random_bool(0.5));
        self.rename_to(&format!("{a}.{from}"), &format!("{b}.{to}"), over).await
    }

    async fn rename_to(&self, from: &str, to: &str, over: bool) -> Result<()> {
        run(&self.client.database("admin"), doc! {"renameCollection": from, "to": to, "dropTarget": over}).await
    }

    fn creation(&mut self, name: &str) -> Document {
        match self.rng.random_range(0..8) {
            0 => doc! {"create": name},
            1 => doc! {"create": name, "collation": {"locale": "de", "strength": 2}},
            2 => doc! {"create": name, "validator": {"n": {"$gte": 0}}, "validationAction": "warn"},
            3 => {
                doc! {"create": name, "validator": {"$jsonSchema": {"required": ["n"]}}, "validationLevel": "moderate"}
            }
            4 => doc! {"create": name, "capped": true, "size": 16_384, "max": 30},
            5 => doc! {"create": name, "clusteredIndex": {"key": {"_id": 1}, "unique": true}},
            6 => doc! {"create": name, "changeStreamPreAndPostImages": {"enabled": true}},
            _ => doc! {"create": name, "storageEngine": {"wiredTiger": {"configString": "block_compressor=zlib"}}},
        }
    }

    pub(super) async fn create(&mut self, db: &Database) -> Result<()> {
        let name = self.name();
        let command = self.creation(name);
        run(db, command).await
    }

    /// Under the same name, with other options, and with documents at once.
    pub(super) async fn drop_and_create(&mut self, db: &Database) -> Result<()> {
        let name = self.name();
        run(db, doc! {"drop": name}).await?;
        let command = self.creation(name);
        run(db, command).await?;
        let documents: Vec<Document> = (0..4).map(|_| values::document(&mut self.rng)).collect();
        run(db, doc! {"insert": name, "documents": documents, "ordered": false}).await
    }

    pub(super) async fn drop(&mut self, db: &Database) -> Result<()> {
        run(db, doc! {"drop": self.name()}).await
    }

    pub(super) async fn insert_then_drop(&mut self, db: &Database) -> Result<()> {
        run(db, doc! {"insert": "short lived", "documents": [values::document(&mut self.rng)]}).await?;
        run(db, doc! {"createIndexes": "short lived", "indexes": [{"key": {"n": 1}, "name": "n"}]}).await?;
        run(db, doc! {"drop": "short lived"}).await
    }

    pub(super) async fn renew_ring(&mut self, db: &Database) -> Result<()> {
        let _ = run(db, doc! {"drop": "ring"}).await;
        let max = self.rng.random_range(1..30);
        run(db, doc! {"create": "ring", "capped": true, "size": 8192, "max": max}).await?;
        let _ = run(db, doc! {"drop": "bytes"}).await;
        run(db, doc! {"create": "bytes", "capped": true, "size": 4096 * self.rng.random_range(1..5)}).await
    }

    pub(super) async fn renew_events(&mut self, db: &Database) -> Result<()> {
        let _ = run(db, doc! {"drop": "events"}).await;
        let series = match self.rng.random_range(0..3) {
            0 => doc! {"timeField": "at"},
            1 => doc! {"timeField": "at", "metaField": "sensor", "granularity": "minutes"},
            _ => doc! {"timeField": "at", "metaField": "sensor"},
        };
        run(db, doc! {"create": "events", "timeseries": series, "expireAfterSeconds": TEN_YEARS}).await
    }

    pub(super) async fn index(&mut self, db: &Database) -> Result<()> {
        let name = self.name();
        let spec = match self.rng.random_range(0..14) {
            0 => doc! {"key": {"n": 1}, "name": "n"},
            1 => doc! {"key": {"text": "text"}, "name": "words", "default_language": "german"},
            2 => doc! {"key": {"_id": "hashed"}, "name": "hashed id"},
            3 => doc! {"key": {"n": 1, "u": -1}, "name": "part", "partialFilterExpression": {"n": {"$gt": 5}}},
            4 => doc! {"key": {"list": 1}, "name": "list", "hidden": true},
            5 => doc! {"key": {"at": 1}, "name": "expires", "expireAfterSeconds": TEN_YEARS},
            6 => doc! {"key": {"text": 1}, "name": "swedish", "collation": {"locale": "sv", "caseLevel": true}},
            7 => doc! {"key": {"place": "2dsphere"}, "name": "place"},
            8 => doc! {"key": {"$**": 1}, "name": "all", "wildcardProjection": {"deep": 1}},
            9 => doc! {"key": {"deep.b.c.d": 1, "n": 1}, "name": "deep", "sparse": true},
            10 => doc! {"key": {"text": 1}, "name": "simple n", "collation": {"locale": "simple"}},
            11 => {
                return run(
                    db,
                    doc! {"createIndexes": "events", "indexes": [
                        {"key": {"sensor": 1, "at": -1}, "name": "sensor"},
                    ]},
                )
                .await;
            }
            12 => return run(db, doc! {"createIndexes": "ring", "indexes": [{"key": {"u": 1}, "name": "u"}]}).await,
            _ => {
                return run(
                    db,
                    doc! {"createIndexes": name, "indexes": [
                        {"key": {"n": 1}, "name": "n"}, {"key": {"u": 1, "text": -1}, "name": "two"},
                    ]},
                )
                .await;
            }
        };
        run(db, doc! {"createIndexes": name, "indexes": [spec]}).await
    }

    /// One or two of every kind, with any options.
    pub(super) async fn index_of_grammar(&mut self, db: &Database) -> Result<()> {
        let name = match self.rng.random_range(0..10) {
            0 => "sorted",
            1 => "ring",
            2 => "by id",
            _ => self.name(),
        };
        let specs: Vec<Document> =
            (0..self.rng.random_range(1..3)).map(|_| indexes::specification(&mut self.rng)).collect();
        run(db, doc! {"createIndexes": name, "indexes": specs}).await
    }

    /// `u` is random, so that no document stands in its way.
    pub(super) async fn unique_index(&mut self, db: &Database) -> Result<()> {
        let partial = doc! {"u": {"$type": "long"}};
        let mut spec = doc! {"key": {"u": 1}, "name": "unique u", "unique": true};
        match self.rng.random_range(0..3) {
            0 => drop(spec.insert("partialFilterExpression", partial)),
            1 => drop(spec.insert("sparse", true)),
            _ => {}
        }
        run(db, doc! {"createIndexes": self.name(), "indexes": [spec]}).await
    }

    /// Success here is that the server refused.
    pub(super) async fn failing_unique_index(&mut self, db: &Database) -> Result<()> {
        let name = self.name();
        let spec = doc! {"key": {"n": 1}, "name": "unique n", "unique": true};
        match run(db, doc! {"createIndexes": name, "indexes": [spec]}).await {
            Err(e) if matches!(*e.kind, ErrorKind::Command(ref c) if c.code == 11000) => Ok(()),
            Err(e) => Err(e),
            Ok(()) => run(db, doc! {"dropIndexes": name, "index": "unique n"}).await,
        }
    }

    pub(super) async fn drop_index(&mut self, db: &Database) -> Result<()> {
        let names = ["n", "words", "unique u", "list", "two", "*"];
        let made = indexes::name(&mut self.rng);
        let index = names.get(self.rng.random_range(0..12)).copied().unwrap_or(&made);
        run(db, doc! {"dropIndexes": self.name(), "index": index}).await
    }

    pub(super) async fn coll_mod(&mut self, db: &Database) -> Result<()> {
        let name = self.name();
        let hidden = self.rng.random_bool(0.5);
        let command = match self.rng.random_range(0..9) {
            0 => doc! {"collMod": name, "validator": {"n": {"$lt": 1_000_000}}, "validationLevel": "moderate"},
            1 if hidden => {
                let index = doc! {"name": indexes::name(&mut self.rng), "hidden": self.rng.random_bool(0.5)};
                doc! {"collMod": name, "index": index}
            }
            1 => doc! {"collMod": name, "index": {"name": "n", "hidden": true}},
            2 => doc! {"collMod": name, "changeStreamPreAndPostImages": {"enabled": hidden}},
            3 => doc! {"collMod": name, "index": {"keyPattern": {"at": 1}, "expireAfterSeconds": TEN_YEARS + 60}},
            4 => doc! {"collMod": name, "validator": {}, "validationAction": "error"},
            5 => doc! {"collMod": "events", "expireAfterSeconds": TEN_YEARS * 2},
            6 => doc! {"collMod": "events", "timeseries": {"granularity": "hours"}},
            7 => doc! {"collMod": "ring", "cappedMax": self.rng.random_range(2..15)},
            // An index that becomes unique without being built again.
            _ => {
                run(db, doc! {"createIndexes": name, "indexes": [{"key": {"u": 1}, "name": "later"}]}).await?;
                run(db, doc! {"collMod": name, "index": {"name": "later", "prepareUnique": true}}).await?;
                doc! {"collMod": name, "index": {"name": "later", "unique": true}}
            }
        };
        run(db, command).await
    }

    pub(super) async fn view(&mut self, db: &Database) -> Result<()> {
        let (on, n) = (self.name(), self.rng.random_range(0..40));
        let command = match self.rng.random_range(0..4) {
            0 => doc! {"drop": "view"},
            1 => doc! {"collMod": "view", "viewOn": on, "pipeline": [{"$match": {"n": n}}]},
            2 => doc! {"create": "view", "viewOn": on, "pipeline": [{"$project": {"n": 1}}]},
            _ => doc! {
                "create": "other view", "viewOn": "view", "pipeline": [], "collation": {"locale": "fr"},
            },
        };
        run(db, command).await
    }

    pub(super) async fn convert(&mut self, db: &Database) -> Result<()> {
        run(db, doc! {"convertToCapped": self.name(), "size": 32_768}).await
    }

    pub(super) async fn out(&mut self, db: &Database) -> Result<()> {
        let (from, to) = (self.name(), self.name());
        let pipeline = [doc! {"$match": {"n": {"$gt": 3}}}, doc! {"$out": to}];
        db.collection::<Document>(from).aggregate(pipeline).await.map(drop)
    }

    pub(super) async fn merge(&mut self, db: &Database) -> Result<()> {
        let (from, to) = (self.name(), self.name());
        if from == to {
            return Err(Error::custom("nothing to merge"));
        }
        let pipeline = [doc! {"$match": {"n": {"$lt": 30}}}, doc! {"$merge": {"into": to}}];
        db.collection::<Document>(from).aggregate(pipeline).await.map(drop)
    }
}
