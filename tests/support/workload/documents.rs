//! Changes of documents.

use mongodb::Database;
use mongodb::bson::{DateTime, Document, doc};
use mongodb::error::{Error, Result};
use rand::Rng;

use super::{Workload, values};

/// A command whose write errors are errors, when it did nothing else.
async fn write(db: &Database, command: Document) -> Result<()> {
    let reply = db.run_command(command).await?;
    match reply.get_array("writeErrors") {
        Ok(errors) if reply.get_i32("n").unwrap_or(0) == 0 => Err(Error::custom(format!("{errors:?}"))),
        _ => Ok(()),
    }
}

impl Workload {
    pub(super) async fn insert(&mut self, db: &Database) -> Result<()> {
        let documents: Vec<Document> =
            (0..self.rng.random_range(1..5)).map(|_| values::document(&mut self.rng)).collect();
        write(db, doc! {"insert": self.name(), "documents": documents, "ordered": false}).await
    }

    pub(super) async fn update(&mut self, db: &Database) -> Result<()> {
        let (id, change) = (values::id(&mut self.rng), values::change(&mut self.rng));
        // An array filter chooses elements; the oplog says which they were.
        let update = if self.rng.random_bool(0.1) {
            doc! {"q": {"n": {"$gt": 3}}, "u": {"$set": {"list.$[e]": 9}}, "arrayFilters": [{"e": {"$lt": 3}}]}
        } else if self.rng.random_bool(0.5) {
            doc! {"q": {"_id": id}, "u": change.bson()}
        } else {
            doc! {"q": {"n": {"$lt": self.rng.random_range(0..40)}}, "u": change.bson()}
        };
        write(db, doc! {"update": self.name(), "updates": [update]}).await
    }

    pub(super) async fn update_many(&mut self, db: &Database) -> Result<()> {
        let change = values::change(&mut self.rng);
        let many = change.many();
        let update = doc! {"q": {"n": {"$lt": 20}}, "u": change.bson(), "multi": many};
        write(db, doc! {"update": self.name(), "updates": [update]}).await
    }

    pub(super) async fn upsert(&mut self, db: &Database) -> Result<()> {
        let change = values::change(&mut self.rng);
        let update = doc! {"q": {"_id": values::id(&mut self.rng)}, "u": change.bson(), "upsert": true};
        write(db, doc! {"update": self.name(), "updates": [update]}).await
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
        let documents: Vec<Document> =
            (0..self.rng.random_range(1..8)).map(|_| values::document(&mut self.rng)).collect();
        write(db, doc! {"insert": "ring", "documents": documents, "ordered": false}).await
    }

    pub(super) async fn time_series(&mut self, db: &Database) -> Result<()> {
        let begin = 1_790_000_000_000 + self.rng.random_range(0..20) * 3_600_000;
        let documents: Vec<Document> = (0..self.rng.random_range(1..6))
            .map(|i| {
                let at = DateTime::from_millis(begin + i * 700);
                doc! {"at": at, "sensor": self.rng.random_range(0..3), "value": self.rng.random::<f64>()}
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
