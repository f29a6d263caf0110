//! Transactions, with the truth just before, at, and just after what ends them.

use mongodb::bson::{Bson, Document, Timestamp, doc};
use mongodb::error::Result;
use mongodb::{ClientSession, Database};
use rand::Rng;

use super::{Workload, values};

impl Workload {
    pub(super) async fn transaction(&mut self, db: &Database, commit: bool) -> Result<()> {
        self.record("before a transaction").await;
        let mut session = self.client.start_session().await?;
        session.start_transaction().await?;
        let worked = self.work(&mut session, db).await;
        match worked {
            Ok(()) if commit => {
                let committed = session.commit_transaction().await;
                self.ended("a commit", &session).await;
                committed
            }
            Ok(()) => session.abort_transaction().await,
            Err(e) => {
                let _ = session.abort_transaction().await;
                Err(e)
            }
        }
    }

    pub(super) async fn prepared(&mut self, db: &Database, commit: bool) -> Result<()> {
        self.record("before a prepared transaction").await;
        let mut session = self.client.start_session().await?;
        session.start_transaction().await?;
        if let Err(e) = self.work(&mut session, db).await {
            let _ = session.abort_transaction().await;
            return Err(e);
        }
        let admin = self.client.database("admin");
        let majority = doc! {"w": "majority"};
        let prepare = doc! {"prepareTransaction": 1, "writeConcern": &majority};
        let reply = admin.run_command(prepare).session(&mut session).await?;
        // Entries of others between the two: slices and bases end there.
        for n in 0..self.rng.random_range(0..4) {
            admin.run_command(doc! {"appendOplogNote": 1, "data": {"n": n}}).await?;
        }
        let end = if commit {
            let at: Bson = reply.get("prepareTimestamp").cloned().unwrap_or(Bson::Null);
            doc! {"commitTransaction": 1, "commitTimestamp": at, "writeConcern": &majority}
        } else {
            doc! {"abortTransaction": 1, "writeConcern": &majority}
        };
        admin.run_command(end).session(&mut session).await?;
        self.ended(if commit { "a prepared commit" } else { "a prepared abort" }, &session).await;
        Ok(())
    }

    /// Some operations in a transaction; the server spreads larger ones over several entries.
    async fn work(&mut self, session: &mut ClientSession, db: &Database) -> Result<()> {
        let other = self.client.database(&self.databases[1]);
        for n in 0..self.rng.random_range(1..9) {
            let db = if n % 3 == 2 { &other } else { db };
            let collection = db.collection::<Document>(self.name());
            // A duplicate would end the transaction.
            let id = values::id(&mut self.rng);
            match self.rng.random_range(0..4) {
                0 => {
                    collection.delete_one(doc! {"_id": id}).session(&mut *session).await?;
                }
                1 => {
                    let change = doc! {"$set": {"n": n, "in.transaction": true}};
                    let update = collection.update_one(doc! {"_id": id}, change).upsert(true);
                    drop(update.session(&mut *session).await?);
                }
                2 => {
                    let change = doc! {"$inc": {"n": 3}, "$push": {"list": n}};
                    drop(collection.update_many(doc! {"n": {"$lt": 5}}, change).session(&mut *session).await?);
                }
                _ => {
                    let mut document = doc! {"_id": format!("t{}", self.rng.random::<u32>())};
                    document.extend(values::body(&mut self.rng));
                    drop(collection.insert_one(document).session(&mut *session).await?);
                }
            }
        }
        Ok(())
    }

    /// The truth before holds up to the entry that ended the transaction, and another from there on.
    async fn ended(&mut self, what: &'static str, session: &ClientSession) {
        let Some(before) = self.moments.last() else { return };
        let oplog = self.client.database("local").collection::<Document>("oplog.rs");
        let id = session.id().get("id").cloned();
        let filter = doc! {"ts": {"$gte": before.from}, "lsid.id": id};
        let entry = oplog.find_one(filter).sort(doc! {"$natural": -1}).await.unwrap();
        // One that changed nothing left none.
        let Some(entry) = entry else { return };
        let at = entry.get_timestamp("ts").unwrap();
        if let Some(before) = self.moments.last_mut() {
            before.to = Timestamp { time: at.time, increment: at.increment - 1 };
        }
        self.record_from(what, at).await;
    }
}
