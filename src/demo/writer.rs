//! A small application that keeps writing while backups are made, and remembers what it wrote.
//!
//! With each change of `shop.carts` it keeps the position in the oplog that the server gave it, so that what the
//! collection held at any position can be told afterwards without asking a server. Money moves between
//! `shop.accounts` in transactions, each with an entry in `shop.transfers`: in a state that is consistent every
//! balance follows from the entries.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mongodb::bson::{Document, RawDocumentBuf, doc};
use mongodb::{Client, Database};
use tokio_util::sync::CancellationToken;

use super::driver_error::driver;
use super::sample::{ACCOUNTS, Random};
use crate::domain::timestamp::Timestamp;
use crate::error::{Error, ErrorKind, Result};

/// One change of a cart: the whole new document, or none when it was deleted.
struct Change {
    at: Timestamp,
    id: i64,
    document: Option<Vec<u8>>,
}

#[derive(Default)]
struct Record {
    changes: Mutex<Vec<Change>>,
    count: AtomicU64,
    paused: AtomicBool,
}

/// What the writer does when a change fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Errors {
    /// It ends: its record would no longer be complete.
    Fail,
    /// It waits a little and goes on.
    GoOn,
}

/// The writer at work.
pub struct Writer {
    record: Arc<Record>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<Result<()>>,
}

impl Writer {
    /// Starts it on the sample data behind `client`.
    pub fn start(client: &Client, errors: Errors) -> Self {
        let (record, stop): (Arc<Record>, _) = (Arc::default(), CancellationToken::new());
        let task = tokio::spawn(write(client.clone(), record.clone(), stop.clone(), errors));
        Self { record, stop, task }
    }

    /// How many changes were made so far.
    pub fn changes(&self) -> u64 {
        self.record.count.load(Ordering::Relaxed)
    }

    /// Has it wait after the change it is at, or go on.
    pub fn pause(&self) -> impl Fn(bool) + Send + 'static {
        let record = self.record.clone();
        move |on| record.paused.store(on, Ordering::Relaxed)
    }

    /// Waits until this many changes were made, or it ended with an error.
    pub async fn wait_for(&self, changes: u64) {
        while self.changes() < changes && !self.task.is_finished() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Ends it after the change it is at, and returns what it did.
    pub async fn stop(self) -> Result<Written> {
        self.stop.cancel();
        self.task.await.map_err(|e| Error::new(ErrorKind::Internal, "the writer of the demo").source(e))??;
        let mut changes = self
            .record
            .changes
            .lock()
            .map_err(|_| Error::new(ErrorKind::Internal, "the record of the demo's writer is lost"))?;
        Ok(Written { changes: std::mem::take(&mut *changes) })
    }
}

/// Everything a writer that fails on errors did to `shop.carts`.
pub struct Written {
    changes: Vec<Change>,
}

impl Written {
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// How many changes were made up to `at`.
    pub fn until(&self, at: Timestamp) -> usize {
        self.changes.iter().filter(|c| c.at <= at).count()
    }

    /// The documents of the collection after position `at`, by `_id`.
    pub fn state_at(&self, at: Timestamp) -> BTreeMap<i64, &[u8]> {
        let mut state = BTreeMap::new();
        for change in self.changes.iter().filter(|c| c.at <= at) {
            match &change.document {
                Some(document) => state.insert(change.id, document.as_slice()),
                None => state.remove(&change.id),
            };
        }
        state
    }
}

async fn write(client: Client, record: Arc<Record>, stop: CancellationToken, errors: Errors) -> Result<()> {
    let mut random = Random::new(42);
    let shop = client.database("shop");
    let mut transfer = 0;
    while !stop.is_cancelled() {
        if record.paused.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        }
        let done = if random.below(4) == 0 {
            transfer += 1;
            transfer_money(&client, &mut random, transfer).await
        } else {
            change_cart(&shop, &mut random).await.map(|change| {
                if let Ok(mut changes) = record.changes.lock()
                    && errors == Errors::Fail
                {
                    changes.push(change);
                }
            })
        };
        match done {
            Ok(()) => {
                record.count.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err(e) if errors == Errors::Fail => return Err(e),
            Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
        }
    }
    Ok(())
}

async fn change_cart(shop: &Database, random: &mut Random) -> Result<Change> {
    let id = random.below(500) as i64;
    let (command, document) = if random.below(5) == 0 {
        (doc! {"delete": "carts", "deletes": [{"q": {"_id": id}, "limit": 1}]}, None)
    } else {
        let document = doc! {
            "_id": id, "product": random.below(4_000) as i64, "count": random.below(9) as i64,
            "seen": (0..random.below(6)).map(|_| random.below(4_000) as i64).collect::<Vec<_>>(),
        };
        let raw = RawDocumentBuf::try_from(&document)
            .map_err(|e| Error::new(ErrorKind::Internal, "encoding a cart").source(e))?;
        let update = doc! {"update": "carts", "updates": [{"q": {"_id": id}, "u": document, "upsert": true}]};
        (update, Some(raw.into_bytes()))
    };
    let reply = shop.run_command(command).await.map_err(|e| driver("writing to shop.carts", e))?;
    if reply.contains_key("writeErrors") {
        return Err(Error::new(ErrorKind::Failed, format!("writing to shop.carts: {reply}")));
    }
    let at = reply
        .get_timestamp("operationTime")
        .map_err(|e| Error::new(ErrorKind::Unsupported, "the server does not say when it wrote").source(e))?;
    Ok(Change { at: Timestamp::new(at.time, at.increment), id, document })
}

async fn transfer_money(client: &Client, random: &mut Random, number: i64) -> Result<()> {
    let (from, to) = (random.below(ACCOUNTS as u64) as i32, random.below(ACCOUNTS as u64) as i32);
    let amount = 1 + random.below(50) as i64;
    let shop = client.database("shop");
    let accounts = shop.collection::<Document>("accounts");
    let transfers = shop.collection::<Document>("transfers");
    let work = async {
        let mut session = client.start_session().await?;
        session.start_transaction().await?;
        let entry = doc! {"_id": number, "from": from, "to": to, "amount": amount};
        transfers.insert_one(entry).session(&mut session).await?;
        for (id, amount) in [(from, -amount), (to, amount)] {
            accounts.update_one(doc! {"_id": id}, doc! {"$inc": {"balance": amount}}).session(&mut session).await?;
        }
        session.commit_transaction().await
    };
    work.await.map_err(|e: mongodb::error::Error| driver("moving money between shop.accounts", e))
}
