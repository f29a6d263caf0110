//! Changes that fill an oplog.

use mongodb::Client;
use mongodb::bson::{Document, doc};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

pub const DATABASE: &str = "changed";
const DOCUMENTS: i32 = 50_000;
/// Statements of one command, each an entry of its own.
const BATCH: u32 = 1_000;

/// What there is before.
pub async fn seed(client: &Client) {
    let db = client.database(DATABASE);
    let mut rng = StdRng::seed_from_u64(1);
    for begin in (0..DOCUMENTS).step_by(10_000) {
        let documents = (begin..begin + 10_000).map(|i| {
            doc! {"_id": i, "n": 0, "value": rng.random::<f64>(), "text": format!("document {i:08} {}", "x".repeat(120))}
        });
        db.collection::<Document>("documents").insert_many(documents).await.unwrap();
    }
    let index = doc! {"key": {"n": 1}, "name": "n"};
    db.run_command(doc! {"createIndexes": "documents", "indexes": [index]}).await.unwrap();
}

/// `count` updates of single documents.
pub async fn updates(client: &Client, count: u32) {
    let db = client.database(DATABASE);
    let mut rng = StdRng::seed_from_u64(2);
    for begin in (0..count).step_by(BATCH as usize) {
        let updates: Vec<Document> = (begin..count.min(begin + BATCH))
            .map(|n| doc! {"q": {"_id": rng.random_range(0..DOCUMENTS)}, "u": {"$set": {"n": n, "value": rng.random::<f64>()}}})
            .collect();
        let reply = db.run_command(doc! {"update": "documents", "updates": updates}).await.unwrap();
        assert!(!reply.contains_key("writeErrors"), "{reply}");
    }
}

/// `count` changes: inserts, updates and deletes, and one in twenty a definition or a transaction.
pub async fn mixed(client: &Client, count: u32) {
    let db = client.database(DATABASE);
    let mut rng = StdRng::seed_from_u64(3);
    let mut done = 0;
    while done < count {
        // Nineteen changes of single documents to one of the others.
        for _ in 0..19 {
            let id = rng.random_range(0..DOCUMENTS * 2);
            let command = match rng.random_range(0..10) {
                0..2 => doc! {"update": "documents", "updates": [
                    {"q": {"_id": id}, "u": {"$set": {"n": id, "text": "new"}}, "upsert": true},
                ]},
                2..3 => doc! {"delete": "documents", "deletes": [{"q": {"_id": id}, "limit": 1}]},
                _ => doc! {"update": "documents", "updates": [
                    {"q": {"_id": id % DOCUMENTS}, "u": {"$inc": {"n": 1}, "$set": {"value": id}}, "upsert": true},
                ]},
            };
            db.run_command(command).await.unwrap();
        }
        let name = format!("other {}", rng.random_range(0..8));
        match rng.random_range(0..10) {
            0 => drop(db.collection::<Document>(&name).drop().await),
            1 => drop(db.run_command(doc! {"create": &name}).await),
            2 => {
                let index = doc! {"key": {"n": 1}, "name": "n"};
                drop(db.run_command(doc! {"createIndexes": &name, "indexes": [index]}).await);
            }
            3 => drop(db.run_command(doc! {"dropIndexes": &name, "index": "n"}).await),
            4 => drop(db.run_command(doc! {"collMod": &name, "validationLevel": "moderate"}).await),
            _ => {
                let mut session = client.start_session().await.unwrap();
                session.start_transaction().await.unwrap();
                for n in 0..4 {
                    let id = rng.random_range(0..DOCUMENTS);
                    let collection = db.collection::<Document>(if n == 0 { &name } else { "documents" });
                    let change = doc! {"$set": {"n": n, "in": "a transaction"}};
                    let update = collection.update_one(doc! {"_id": id}, change).upsert(true);
                    update.session(&mut session).await.unwrap();
                }
                session.commit_transaction().await.unwrap();
            }
        }
        done += 20;
    }
}
