//! Changes of documents.

use mongodb::Database;
use mongodb::bson::{Bson, DateTime, Document, doc};
use mongodb::error::{Error, Result};
use rand::Rng;
use rand::rngs::StdRng;

use super::{LARGE, Workload, values};
use crate::support::changes;

/// A command whose write errors are errors, when it did nothing else.
async fn write(db: &Database, command: Document) -> Result<()> {
    let reply = db.run_command(command).await?;
    match reply.get_array("writeErrors") {
        Ok(errors) if reply.get_i32("n").unwrap_or(0) == 0 => Err(Error::custom(format!("{errors:?}"))),
        _ => Ok(()),
    }
}

fn large(rng: &mut StdRng, id: i32) -> Document {
    let mut document = doc! {"_id": id, "filling": "x".repeat(4_000)};
    document.extend(values::body(rng));
    document
}

impl Workload {
    pub(super) async fn insert(&mut self, db: &Database) -> Result<()> {
        let documents: Vec<Document> =
            (0..self.rng.random_range(1..5)).map(|_| values::document(&mut self.rng)).collect();
        write(db, doc! {"insert": self.name(), "documents": documents, "ordered": false}).await
    }

    pub(super) async fn update(&mut self, db: &Database) -> Result<()> {
        let q = if self.rng.random_bool(0.5) {
            doc! {"_id": values::id(&mut self.rng)}
        } else {
            doc! {"n": {"$lt": self.rng.random_range(0..40)}}
        };
        let mut update = doc! {"q": q};
        update.extend(values::change(&mut self.rng));
        write(db, doc! {"update": self.name(), "updates": [update]}).await
    }

    pub(super) async fn update_many(&mut self, db: &Database) -> Result<()> {
        let change = values::change(&mut self.rng);
        let many = !is_whole(&change);
        let mut update = doc! {"q": {"n": {"$lt": 20}}, "multi": many};
        update.extend(change);
        write(db, doc! {"update": self.name(), "updates": [update]}).await
    }

    pub(super) async fn upsert(&mut self, db: &Database) -> Result<()> {
        let mut update = doc! {"q": {"_id": values::id(&mut self.rng)}, "upsert": true};
        update.extend(values::change(&mut self.rng));
        write(db, doc! {"update": self.name(), "updates": [update]}).await
    }

    /// Several connections at once change one document in every way, delete it and insert it again.
    pub(super) async fn together(&mut self, db: &Database) -> Result<()> {
        let (name, id) = (self.name(), values::id(&mut self.rng));
        let commands: Vec<Document> = (0..6)
            .map(|n| match n {
                0 => doc! {"delete": name, "deletes": [{"q": {"_id": &id}, "limit": 1}]},
                1 => {
                    let mut document = doc! {"_id": &id};
                    document.extend(values::body(&mut self.rng));
                    doc! {"insert": name, "documents": [document]}
                }
                _ => {
                    let mut update = doc! {"q": {"_id": &id}, "upsert": self.rng.random_bool(0.3)};
                    update.extend(values::change(&mut self.rng));
                    doc! {"update": name, "updates": [update]}
                }
            })
            .collect();
        let results = futures_util::future::join_all(commands.into_iter().map(|command| write(db, command))).await;
        results.into_iter().filter(std::result::Result::is_err).nth(4).unwrap_or(Ok(()))
    }

    /// The same `_id`, to the byte, in another place of the collection.
    pub(super) async fn again(&mut self, db: &Database) -> Result<()> {
        let (name, document) = (self.name(), values::document(&mut self.rng));
        let id = document.get("_id").cloned();
        db.run_command(doc! {"delete": name, "deletes": [{"q": {"_id": id}, "limit": 1}]}).await?;
        write(db, doc! {"insert": name, "documents": [document]}).await
    }

    /// In the large collection: documents go and come again behind and before whoever reads it, or change.
    pub(super) async fn in_large(&mut self) -> Result<()> {
        let db = self.client.database(&self.databases[0]);
        let ids: Vec<i32> = (0..10).map(|_| self.rng.random_range(0..LARGE)).collect();
        let of = |id: &i32| doc! {"q": {"_id": *id}, "limit": 1};
        match self.rng.random_range(0..4) {
            0 => {
                let updates: Vec<Document> = ids
                    .iter()
                    .map(|id| {
                        let mut update = doc! {"q": {"_id": *id}};
                        update.extend(changes::change(&mut self.rng));
                        update
                    })
                    .collect();
                write(&db, doc! {"update": "large", "updates": updates, "ordered": false}).await
            }
            _ => {
                let deletes: Vec<Document> = ids.iter().map(of).collect();
                write(&db, doc! {"delete": "large", "deletes": deletes}).await?;
                let documents: Vec<Document> = ids.iter().map(|id| large(&mut self.rng, *id)).collect();
                write(&db, doc! {"insert": "large", "documents": documents, "ordered": false}).await
            }
        }
    }

    /// More than the reply to one cursor holds, several times.
    pub(super) async fn fill_large(&mut self) -> Result<()> {
        let db = self.client.database(&self.databases[0]);
        for ids in (0..LARGE).collect::<Vec<_>>().chunks(1000) {
            let documents: Vec<Document> = ids.iter().map(|id| large(&mut self.rng, *id)).collect();
            write(&db, doc! {"insert": "large", "documents": documents}).await?;
        }
        Ok(())
    }

    pub(super) async fn delete(&mut self, db: &Database) -> Result<()> {
        let delete = if self.rng.random_bool(0.2) {
            doc! {"q": {"n": self.rng.random_range(0..40)}, "limit": 0}
        } else {
            doc! {"q": {"_id": values::id(&mut self.rng)}, "limit": 1}
        };
        write(db, doc! {"delete": self.name(), "deletes": [delete]}).await
    }

    /// By the driver's helpers, which number their writes so that they can be retried.
    pub(super) async fn find_and_modify(&mut self, db: &Database) -> Result<()> {
        let collection = db.collection::<Document>(self.name());
        let filter = doc! {"n": {"$gte": self.rng.random_range(0..40)}};
        match self.rng.random_range(0..3) {
            0 => collection.find_one_and_update(filter, doc! {"$inc": {"n": 1}}).await.map(drop),
            1 => collection.find_one_and_replace(filter, values::body(&mut self.rng)).await.map(drop),
            _ => collection.find_one_and_delete(filter).await.map(drop),
        }
    }

    /// One key, several forms: what replaces a document has another `_id` to the byte.
    pub(super) async fn other_form(&mut self, db: &Database) -> Result<()> {
        let forms = doc! {"1": 1, "2": 1_i64, "3": 1.0, "4": values::decimal("1.00"), "5": values::decimal("1")};
        let form = |n: i32| forms.get(n.to_string()).cloned();
        let (from, to) = (form(self.rng.random_range(1..6)), form(self.rng.random_range(1..6)));
        let name = self.name();
        db.run_command(doc! {"delete": name, "deletes": [{"q": {"_id": from}, "limit": 1}]}).await?;
        write(db, doc! {"insert": name, "documents": [{"_id": to, "n": self.rng.random_range(0..40)}]}).await
    }

    pub(super) async fn capped(&mut self, db: &Database) -> Result<()> {
        // The one has room for few documents, the other for few bytes.
        let (name, longest) = if self.rng.random_bool(0.5) { ("ring", 50) } else { ("bytes", 4_000) };
        let documents: Vec<Document> = (0..self.rng.random_range(1..8))
            .map(|_| {
                let mut document = values::document(&mut self.rng);
                document.insert("filling", "x".repeat(self.rng.random_range(0..longest)));
                document
            })
            .collect();
        write(db, doc! {"insert": name, "documents": documents, "ordered": false}).await
    }

    /// Which leaves it as large as it was, or smaller, as old versions want it.
    pub(super) async fn capped_update(&mut self, db: &Database) -> Result<()> {
        let n = self.rng.random_range(0..40);
        let change = [
            doc! {"$set": {"n": n}},
            doc! {"$inc": {"deep.a": 1}},
            doc! {"$set": {"deep.b.c.0": n}},
            doc! {"$unset": {"text": ""}},
        ];
        let change = change[self.rng.random_range(0..change.len())].clone();
        let name = if self.rng.random_bool(0.5) { "ring" } else { "bytes" };
        let many = self.rng.random_bool(0.3);
        let update = doc! {"q": {"n": {"$lt": self.rng.random_range(0..40)}}, "u": change, "multi": many};
        write(db, doc! {"update": name, "updates": [update]}).await
    }

    pub(super) async fn time_series(&mut self, db: &Database) -> Result<()> {
        let begin = 1_790_000_000_000 + self.rng.random_range(0..20) * 3_600_000;
        let documents: Vec<Document> = (0..self.rng.random_range(1..6))
            .map(|i| {
                let at = DateTime::from_millis(begin + i * 700);
                // Of one sensor at one time, of several types: they share a bucket where the server lets them.
                let value = match self.rng.random_range(0..6) {
                    0 => Bson::String("none".into()),
                    1 => Bson::Document(doc! {"low": 1, "high": 2.5}),
                    2 => Bson::Null,
                    _ => Bson::Double(self.rng.random()),
                };
                let mut document = doc! {"at": at, "sensor": self.rng.random_range(0..3), "value": value};
                if self.rng.random_bool(0.2) {
                    document.insert("extra", Bson::Array(vec![1.into(), "two".into()]));
                }
                document
            })
            .collect();
        write(db, doc! {"insert": "events", "documents": documents}).await
    }

    pub(super) async fn time_series_delete(&mut self, db: &Database) -> Result<()> {
        let sensor = self.rng.random_range(0..3);
        write(db, doc! {"delete": "events", "deletes": [{"q": {"sensor": sensor}, "limit": 0}]}).await
    }

    pub(super) async fn collated(&mut self, db: &Database) -> Result<()> {
        let id = values::collated_id(&mut self.rng);
        let n = self.rng.random_range(0..40);
        match self.rng.random_range(0..4) {
            0 => write(db, doc! {"delete": "sorted", "deletes": [{"q": {"_id": id}, "limit": 1}]}).await,
            1 => write(db, doc! {"update": "sorted", "updates": [{"q": {"_id": id}, "u": {"$set": {"n": n}}}]}).await,
            _ => write(db, doc! {"insert": "sorted", "documents": [{"_id": id, "n": n}]}).await,
        }
    }

    pub(super) async fn clustered(&mut self, db: &Database) -> Result<()> {
        let id = values::id(&mut self.rng);
        let n = self.rng.random_range(0..40);
        match self.rng.random_range(0..4) {
            0 => write(db, doc! {"delete": "by id", "deletes": [{"q": {"_id": id}, "limit": 1}]}).await,
            1 => write(db, doc! {"update": "by id", "updates": [{"q": {"_id": id}, "u": {"$set": {"n": n}}}]}).await,
            _ => write(db, doc! {"insert": "by id", "documents": [{"_id": id, "n": n}]}).await,
        }
    }
}

/// Whether a statement changes a whole document, which can be done to one document at a time only.
fn is_whole(statement: &Document) -> bool {
    match statement.get("u") {
        Some(Bson::Document(u)) => u.keys().all(|key| !key.starts_with('$')),
        _ => false,
    }
}
