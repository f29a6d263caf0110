//! Sample data: a small shop, its articles, measurements and files, with every kind of collection a backup must keep.
//!
//! About 75 MB. The same on every run: the numbers come from a generator with a fixed seed.

use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, DateTime, Document, doc};
use mongodb::{Client, Database};

use super::driver_error::driver;
use crate::error::Result;

/// The databases that [`fill`] makes.
pub const DATABASES: [&str; 4] = ["shop", "press", "metrics", "files"];
/// Accounts between which money moves, all with [`BALANCE`] at first.
pub const ACCOUNTS: i32 = 100;
pub const BALANCE: i64 = 1_000;

const START: i64 = 1_780_000_000_000;
const WORDS: [&str; 24] = [
    "été", "harbour", "lantern", "paper", "river", "glass", "winter", "market", "copper", "garden", "letter", "stone",
    "orchard", "signal", "velvet", "bridge", "candle", "meadow", "anchor", "thread", "Straße", "naïve", "東京", "salt",
];

/// xorshift64*: varied enough for sample data, and the same everywhere.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// 0 to `end` - 1.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    fn small(&mut self, end: u64) -> i32 {
        i32::try_from(self.below(end)).unwrap_or(i32::MAX)
    }

    fn of<const N: usize>(&mut self, words: [&'static str; N]) -> &'static str {
        words[self.below(N as u64) as usize]
    }

    fn word(&mut self) -> &'static str {
        self.of(WORDS)
    }

    fn words(&mut self, count: u64) -> String {
        let words: Vec<&str> = (0..count).map(|_| self.word()).collect();
        words.join(" ")
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).take(count).collect()
    }
}

/// Creates and fills all [`DATABASES`]; two at once. `version` is the server's, such as `6.0.5`: before 5.0 there are no
/// time series, and the measurements go into an ordinary collection.
pub async fn fill(client: &Client, version: &str) -> Result<()> {
    let [shop, press, metrics, files] = DATABASES.map(|name| client.database(name));
    tokio::try_join!(fill_shop(&shop, 1), async {
        fill_press(&press).await?;
        fill_metrics(&metrics, has_time_series(version), 1).await?;
        fill_files(&files).await
    })?;
    Ok(())
}

/// One of the databases, and how much of it: as much as is read within a moment.
#[derive(Debug, Clone, Copy)]
pub enum Part {
    Shop,
    Metrics,
    Files,
}

/// Creates and fills a part alone.
pub async fn fill_part(client: &Client, version: &str, part: Part) -> Result<()> {
    match part {
        Part::Shop => fill_shop(&client.database("shop"), 16).await,
        Part::Metrics => fill_metrics(&client.database("metrics"), has_time_series(version), 8).await,
        Part::Files => fill_files(&client.database("files")).await,
    }
}

/// Before 5.0 there are none.
fn has_time_series(version: &str) -> bool {
    version.split('.').next().and_then(|major| major.parse().ok()).is_none_or(|major: u32| major >= 5)
}

/// `share`: all of it, or so many times less.
async fn fill_shop(db: &Database, share: i64) -> Result<()> {
    command(
        db,
        doc! {
            "create": "products",
            "validator": {"$jsonSchema": {"required": ["sku", "price"], "properties": {"price": {"minimum": 0}}}},
        },
    )
    .await?;
    insert(db, "products", 4_000, |r, i| {
        doc! {"_id": i, "sku": format!("P-{i:05}"), "name": r.words(3), "price": r.small(50_000), "tags": [r.word(), r.word()]}
    })
    .await?;
    indexes(db, "products", vec![doc! {"key": {"sku": 1}, "name": "sku", "unique": true}]).await?;
    insert(db, "customers", 20_000 / share, |r, i| {
        doc! {
            "_id": i, "name": r.words(2), "mail": format!("customer{i}@example.com"),
            "address": {"street": r.words(2), "number": r.small(200), "place": [r.small(180) - 90, r.small(360) - 180]},
            "since": DateTime::from_millis(START - r.below(100_000_000_000) as i64),
        }
    })
    .await?;
    indexes(
        db,
        "customers",
        vec![
            doc! {"key": {"mail": 1}, "name": "mail", "unique": true, "collation": {"locale": "en", "strength": 2}},
            doc! {"key": {"address.place": "2d"}, "name": "place"},
        ],
    )
    .await?;
    insert(db, "orders", 80_000 / share, |r, i| {
        let items: Vec<Document> = (0..1 + r.below(4))
            .map(|_| doc! {"product": r.small(4_000), "count": 1 + r.small(5), "price": r.small(50_000)})
            .collect();
        doc! {
            "_id": i, "customer": r.small(20_000), "at": DateTime::from_millis(START + i * 60_000),
            "state": r.of(["new", "paid", "sent", "returned"]), "items": items, "note": r.words(8),
        }
    })
    .await?;
    indexes(
        db,
        "orders",
        vec![
            doc! {"key": {"customer": 1, "at": -1}, "name": "customer_at"},
            doc! {"key": {"state": 1}, "name": "open", "partialFilterExpression": {"state": "new"}},
            doc! {"key": {"items.product": 1}, "name": "product", "hidden": true},
        ],
    )
    .await?;
    command(db, doc! {"create": "open_orders", "viewOn": "orders", "pipeline": [{"$match": {"state": "new"}}]}).await?;
    command(db, doc! {"create": "carts"}).await?;
    command(db, doc! {"create": "transfers"}).await?;
    insert(db, "accounts", i64::from(ACCOUNTS), |_, i| doc! {"_id": i as i32, "balance": BALANCE}).await
}

async fn fill_press(db: &Database) -> Result<()> {
    command(db, doc! {"create": "articles", "collation": {"locale": "fr", "strength": 2}}).await?;
    insert(db, "articles", 4_000, |r, i| {
        let length = 300 + r.below(600);
        doc! {"_id": format!("article {i}"), "title": r.words(5), "text": r.words(length), "read": r.small(100_000)}
    })
    .await?;
    let words = doc! {"key": {"text": "text"}, "name": "words", "collation": {"locale": "simple"}};
    indexes(db, "articles", vec![words, doc! {"key": {"title": 1}, "name": "title"}]).await
}

async fn fill_metrics(db: &Database, has_time_series: bool, share: i64) -> Result<()> {
    let mut readings = doc! {"create": "readings"};
    if has_time_series {
        readings.insert("timeseries", doc! {"timeField": "at", "metaField": "sensor", "granularity": "seconds"});
    }
    command(db, readings).await?;
    insert(db, "readings", 40_000 / share, |r, i| {
        doc! {
            "at": DateTime::from_millis(START + i * 1_000), "sensor": {"site": r.small(4), "number": r.small(10)},
            "celsius": r.below(4_000) as f64 / 100.0,
        }
    })
    .await?;
    command(db, doc! {"create": "log", "capped": true, "size": 4_000_000}).await?;
    insert(db, "log", 20_000 / share, |r, i| doc! {"_id": i, "level": r.of(["info", "warn"]), "line": r.words(12)})
        .await?;
    command(db, doc! {"create": "sessions"}).await?;
    insert(db, "sessions", 2_000, |r, i| {
        doc! {"_id": i, "token": r.words(2), "until": DateTime::from_millis(4_000_000_000_000)}
    })
    .await?;
    indexes(db, "sessions", vec![doc! {"key": {"until": 1}, "name": "until", "expireAfterSeconds": 0}]).await
}

async fn fill_files(db: &Database) -> Result<()> {
    insert(db, "chunks", 80, |r, i| {
        let data = Binary { subtype: BinarySubtype::Generic, bytes: r.bytes(255 * 1024) };
        doc! {"_id": i, "file": i / 8, "n": i % 8, "data": data}
    })
    .await?;
    indexes(db, "chunks", vec![doc! {"key": {"file": 1, "n": 1}, "name": "file_n", "unique": true}]).await
}

async fn insert(db: &Database, name: &str, count: i64, make: impl Fn(&mut Random, i64) -> Document) -> Result<()> {
    let mut random = Random::new(name.bytes().fold(7, |h, b| h * 31 + u64::from(b)));
    let collection = db.collection::<Document>(name);
    let mut next = 0;
    while next < count {
        let end = count.min(next + if name == "chunks" { 20 } else { 2_000 });
        let batch: Vec<Document> = (next..end).map(|i| make(&mut random, i)).collect();
        collection.insert_many(batch).await.map_err(|e| driver("inserting sample data", e))?;
        next = end;
    }
    Ok(())
}

async fn indexes(db: &Database, name: &str, indexes: Vec<Document>) -> Result<()> {
    command(db, doc! {"createIndexes": name, "indexes": indexes}).await
}

async fn command(db: &Database, command: Document) -> Result<()> {
    db.run_command(command).await.map(drop).map_err(|e| driver("creating sample data", e))
}
