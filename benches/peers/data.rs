//! The data set: small orders, long texts, tiny events, chunks of random bytes; 844 MB in 2,460,800 documents, with
//! five secondary indexes. The same bytes on every run.

use mongodb::Client;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, DateTime, Document, RawArrayBuf, RawDocumentBuf, doc, rawdoc};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

pub const DATABASE: &str = "bench";
const START: i64 = 1_780_000_000_000;
const SYLLABLES: [&str; 32] = [
    "ka", "lo", "mi", "ter", "van", "sol", "eri", "nu", "po", "gra", "hen", "is", "tra", "qua", "ble", "fo", "du",
    "rin", "sta", "wel", "y", "cor", "az", "im", "pre", "dis", "con", "ing", "ment", "able", "ous", "est",
];

type Make = fn(&mut StdRng, i64) -> RawDocumentBuf;

/// Fills `bench` and returns documents and bytes of BSON.
pub async fn seed(client: &Client, scale: f64) -> (u64, u64) {
    let parts: [(&str, f64, Make); 4] = [
        ("orders", 800_000.0, order),
        ("texts", 60_000.0, text),
        ("events", 1_600_000.0, event),
        ("chunks", 800.0, chunk),
    ];
    let tasks =
        parts.map(|(name, count, make)| tokio::spawn(fill(client.clone(), name, (count * scale).ceil() as i64, make)));
    let (mut documents, mut bytes) = (0, 0);
    for task in tasks {
        let (d, b) = task.await.unwrap();
        documents += d;
        bytes += b;
    }
    let indexes = [
        ("orders", doc! {"key": {"customer": 1}, "name": "customer"}),
        ("orders", doc! {"key": {"at": -1, "state": 1}, "name": "at_state"}),
        ("texts", doc! {"key": {"title": 1}, "name": "title"}),
        ("events", doc! {"key": {"sensor": 1, "at": 1}, "name": "sensor_at"}),
        ("chunks", doc! {"key": {"file": 1, "n": 1}, "name": "file_n", "unique": true}),
    ];
    for (name, index) in indexes {
        let command = doc! {"createIndexes": name, "indexes": [index]};
        client.database(DATABASE).run_command(command).await.unwrap();
    }
    (documents, bytes)
}

async fn fill(client: Client, name: &'static str, count: i64, make: Make) -> (u64, u64) {
    let mut rng = StdRng::seed_from_u64(name.bytes().map(u64::from).sum());
    let db = client.database(DATABASE);
    let (mut total, mut batch, mut size) = (0, RawArrayBuf::new(), 0);
    for i in 0..count {
        let document = make(&mut rng, i);
        size += document.as_bytes().len();
        total += document.as_bytes().len() as u64;
        batch.push(document);
        // A server takes at most 100,000 documents at once.
        if size > 8 << 20 || (i + 1) % 50_000 == 0 || i + 1 == count {
            let command = rawdoc! {"insert": name, "documents": std::mem::take(&mut batch), "ordered": false};
            let reply = db.run_raw_command(command).await.unwrap();
            assert!(!reply.contains_key("writeErrors"), "{reply}");
            size = 0;
        }
    }
    (count as u64, total)
}

fn words(rng: &mut StdRng, bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 8);
    while text.len() < bytes {
        for _ in 0..rng.random_range(1..4) {
            text.push_str(SYLLABLES[rng.random_range(0..SYLLABLES.len())]);
        }
        text.push(' ');
    }
    text
}

fn order(rng: &mut StdRng, i: i64) -> RawDocumentBuf {
    let length = rng.random_range(40..120);
    rawdoc! {
        "_id": i, "customer": rng.random_range(0..100_000), "at": DateTime::from_millis(START + i * 1_000),
        "state": if rng.random_bool(0.1) { "new" } else { "sent" },
        "items": [
            { "sku": format!("P-{:06}", rng.random_range(0..50_000)), "count": rng.random_range(1..9), "price": rng.random::<f64>() },
            { "sku": format!("P-{:06}", rng.random_range(0..50_000)), "count": rng.random_range(1..9), "price": rng.random::<f64>() },
        ],
        "address": words(rng, 30), "note": words(rng, length), "total": rng.random::<f64>() * 1e4,
    }
}

fn text(rng: &mut StdRng, i: i64) -> RawDocumentBuf {
    let length = rng.random_range(2_600..6_200);
    rawdoc! { "_id": format!("text-{i:08}"), "title": words(rng, 40), "text": words(rng, length), "read": rng.random::<i32>() }
}

fn event(rng: &mut StdRng, i: i64) -> RawDocumentBuf {
    rawdoc! {
        "_id": i, "at": DateTime::from_millis(START + i * 10), "sensor": rng.random_range(0..1_000),
        "value": rng.random::<f64>(), "ok": rng.random_bool(0.99),
    }
}

fn chunk(rng: &mut StdRng, i: i64) -> RawDocumentBuf {
    let mut bytes = vec![0; 255 * 1024];
    rng.fill(bytes.as_mut_slice());
    rawdoc! { "_id": i, "file": i / 100, "n": i % 100, "data": Binary { subtype: BinarySubtype::Generic, bytes } }
}

/// The server's own hash of each collection of a database, with its indexes' names.
pub async fn hashes(client: &Client, database: &str) -> Vec<String> {
    let db = client.database(database);
    let reply: Document = db.run_command(doc! {"dbHash": 1}).await.unwrap();
    let mut hashes = Vec::new();
    for (name, hash) in reply.get_document("collections").unwrap() {
        let mut indexes = db.collection::<Document>(name).list_index_names().await.unwrap();
        indexes.sort();
        hashes.push(format!("{name} {hash} {indexes:?}"));
    }
    hashes
}
