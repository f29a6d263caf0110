//! Updates in every form that a server writes into its oplog: paths before 5.0, differences since, whole documents on all.

use std::collections::BTreeSet;

use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{
    Binary, Bson, Decimal128, Document, JavaScriptCodeWithScope, RawDocumentBuf, Timestamp, doc, oid::ObjectId,
};
use mongodb::{Client, Database};
use mongokeep::domain::restore::RestoreRequest;
use mongokeep::engine::logical::LogicalManifest;
use mongokeep::engine::logical::{self, OpenBackup};

use super::ground::{Ground, Stand};
use crate::support::recording::{Recording, folder};
use crate::support::{compare, dumps, pair};

/// Read before the updates, in the middle of them, never; one of each other kind.
const COLLECTIONS: [&str; 5] = ["early", "late", "born later", "sorted", "ring"];

const ZERO: Timestamp = Timestamp { time: 0, increment: 0 };

/// What is restored is the same to the byte, in the middle of the updates and at their end.
pub async fn of_every_form(ground: Ground) {
    let Ground { source, target } = ground;
    let db = source.client.database("forms");
    db.run_command(doc! {"create": "sorted", "collation": {"locale": "fr", "strength": 1}}).await.unwrap();
    db.run_command(doc! {"create": "ring", "capped": true, "size": 1 << 20}).await.unwrap();
    for name in COLLECTIONS.into_iter().filter(|name| *name != "born later") {
        insert(&db, name).await;
    }
    user(&source.client).await;
    let mut done = BTreeSet::new();
    let (mut half, mut whole) = (Recording::begin(&source.client).await, Recording::begin(&source.client).await);
    for recording in [&mut half, &mut whole] {
        for (db, name) in [("forms", "early"), ("forms", "sorted"), ("forms", "ring"), ("admin", "system.users")] {
            recording.read(db, name).await;
        }
    }
    insert(&db, "born later").await;
    for name in COLLECTIONS {
        update(&db, name, 0, &mut done).await;
    }
    for recording in [&mut half, &mut whole] {
        recording.read("forms", "late").await;
    }
    in_a_transaction(&source.client).await;
    for name in ["early", "late", "born later"] {
        again(&db, name).await;
        update(&db, name, 7, &mut done).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let storage = folder(dir.path()).await;
    let (first, then) = (compare::database(&source.client, "forms").await, half.end(&storage, "half").await);
    change_user(&source.client).await;
    for name in COLLECTIONS {
        update(&db, name, 3, &mut done).await;
    }
    let (second, last) = (compare::database(&source.client, "forms").await, whole.end(&storage, "whole").await);
    assert_eq!(done.len(), changes().len(), "some changes succeeded nowhere, only {done:?}");
    for (manifest, expected) in [(then, first), (last, second)] {
        restore(&target, dir.path(), &manifest).await;
        let found = compare::database(&target.client, "forms").await;
        let lines = compare::differences(&expected, &found);
        let documents = differing(&source.client, &target.client).await;
        assert!(lines.is_empty(), "{}: {}\n{}", manifest.name, lines.join("\n"), documents.join("\n"));
    }
    let (expected, found) = (users(&source.client).await, users(&target.client).await);
    assert_eq!(expected, found);
    assert_eq!(expected.len(), 1);
}

/// Every operator, on what is there and on what is not.
fn changes() -> Vec<Document> {
    let operators = [
        doc! {"$set": {"x.y.z": 1}},
        doc! {"$set": {"x.y.w": {"v": [1]}, "x.q": 2}},
        doc! {"$set": {"new": 1, "another": 2, "n": 8}},
        doc! {"$set": {"list.0": 9}},
        doc! {"$set": {"list.6": 9}},
        doc! {"$set": {"list.8.x.0": 9}},
        doc! {"$set": {"made.0.x": 9}},
        doc! {"$set": {"numbers.10": 1, "numbers.9": 2, "numbers.0": 3}},
        doc! {"$set": {"0.0.1.0": 5}},
        doc! {"$set": {"0.0.0.1": 5, "0.1": 6}},
        doc! {"$set": {"deep.b.c.2.d": 4, "deep.b.e": 5}},
        doc! {"$set": {"rows.0.v.1": 7, "rows.1.w": 8}},
        doc! {"$set": {"zero": ZERO, "deep.zero": ZERO}},
        doc! {"$set": {"link": {"$ref": "c", "$id": 1}}},
        doc! {"$set": {"link.$id": 2}},
        doc! {"$set": {"text": "y".repeat(3_000)}},
        doc! {"$set": {"text": "short"}},
        doc! {"$unset": {"list.1": "", "list.40": "", "nothing.there": ""}},
        doc! {"$unset": {"rows.0.k": "", "deep.a": "", "0.0.0.0": ""}},
        doc! {"$unset": {"text": "", "new": ""}, "$set": {"came": 1, "deep.came": 2}},
        doc! {"$inc": {"n": 1, "deep.n": 2, "list.2": 3}},
        doc! {"$mul": {"n": 2, "none": 3}},
        doc! {"$min": {"n": -4}, "$max": {"m": 4}},
        doc! {"$bit": {"bits": {"xor": 5}, "deep.bits": {"or": 6}}},
        doc! {"$rename": {"came": "deep.moved", "deep.n": "counted"}},
        doc! {"$currentDate": {"d": true, "deep.t": {"$type": "timestamp"}}},
        doc! {"$push": {"list": 4}},
        doc! {"$push": {"list": {"$each": [7, 8], "$position": 1}}},
        doc! {"$push": {"list": {"$each": [2, 1], "$slice": -6}}},
        doc! {"$push": {"sorted": {"$each": [{"s": 2}, {"s": 1}], "$sort": {"s": 1}, "$slice": 3}}},
        doc! {"$push": {"fresh.list": {"$each": [1, 2]}}},
        doc! {"$push": {"rows.0.v": 5}},
        doc! {"$addToSet": {"list": 77, "tags": {"$each": ["a", "b", "a"]}}},
        doc! {"$pop": {"list": -1}},
        doc! {"$pop": {"tags": 1}},
        doc! {"$pull": {"list": {"$gte": 7}}},
        doc! {"$pullAll": {"list": [1, 2]}},
        doc! {"$set": {"list.$[]": 3}},
        doc! {"$set": {"rows.$[].all": 1}},
        doc! {"$set": {"list": []}},
        doc! {"$set": {"list": [1, 2, 3], "deep.list": [[1], [2]]}},
        doc! {"$set": {"deep.list.1.0": 9, "deep.list.0.2": 8}},
        // Ends last whatever the order of the others was.
        doc! {"$inc": {"rounds": 1}},
    ];
    let mut changes: Vec<Document> = operators.into_iter().map(|u| doc! {"u": u}).collect();
    changes.extend([
        doc! {"u": {"$set": {"list.$[e]": 9}}, "arrayFilters": [{"e": {"$lt": 3}}]},
        doc! {"u": {"$inc": {"rows.$[r].k": 1}}, "arrayFilters": [{"r.k": 2}]},
        doc! {"u": [{"$set": {"computed": {"$add": ["$rounds", 1]}, "deep.computed": "$n"}}, {"$unset": "m"}]},
        doc! {"u": [{"$replaceWith": {"$mergeObjects": ["$$ROOT", {"whole": 1, "list": [5, 6]}]}}]},
    ]);
    changes
}

/// What is there at first.
fn body() -> Document {
    doc! {
        "n": 5, "text": "a", "bits": 1, "rounds": 0, "list": [1, 2, 3], "deep": {"a": 1, "b": {"c": [1, 2, {"d": 3}]}},
        "rows": [{"k": 1, "v": [1, 2]}, {"k": 2}], "0": {"0": [[1], {"0": 1}]}, "numbers": {}, "m": 1,
        // Room for what makes a document grow where it may not.
        "": {"": 1}, "zero too": ZERO,
    }
}

fn ids() -> Vec<Bson> {
    vec![
        1.into(),
        2.5.into(),
        "été".into(),
        Bson::ObjectId(ObjectId::from_bytes([3; 12])),
        Bson::Null,
        Bson::Decimal128("NaN".parse::<Decimal128>().unwrap()),
        Bson::Binary(Binary { subtype: BinarySubtype::Uuid, bytes: vec![7; 16] }),
        Bson::Document(doc! {"a": 1, "b": [1, {"c": 2.0}]}),
        Bson::JavaScriptCodeWithScope(JavaScriptCodeWithScope { code: "x".into(), scope: doc! {"y": 1} }),
        Bson::MinKey,
    ]
}

async fn insert(db: &Database, name: &str) {
    let documents: Vec<Document> = ids()
        .into_iter()
        .map(|id| {
            let mut document = doc! {"_id": id};
            document.extend(body());
            document
        })
        .collect();
    let reply = db.run_command(doc! {"insert": name, "documents": documents}).await.unwrap();
    assert!(!reply.contains_key("writeErrors"), "{reply}");
}

/// Changes every document in every way, each beginning with another. Remembers in `done` what succeeded.
async fn update(db: &Database, name: &str, shift: usize, done: &mut BTreeSet<usize>) {
    for (n, id) in ids().into_iter().enumerate() {
        let mut order: Vec<usize> = (0..changes().len()).collect();
        order.rotate_left((n * 11 + shift) % changes().len());
        let updates: Vec<Document> = order
            .iter()
            .map(|change| {
                let mut update = doc! {"q": {"_id": &id}};
                update.extend(changes()[*change].clone());
                update
            })
            .collect();
        // One after another, whether the one before failed or not: what is no array is not pushed to.
        let reply = db.run_command(doc! {"update": name, "updates": updates, "ordered": false}).await.unwrap();
        let failed: Vec<usize> = reply
            .get_array("writeErrors")
            .map(|list| list.iter().map(|e| e.as_document().unwrap().get_i32("index").unwrap() as usize).collect())
            .unwrap_or_default();
        done.extend(order.iter().enumerate().filter(|(n, _)| !failed.contains(n)).map(|(_, change)| *change));
        let _ = db.run_command(doc! {"update": name, "updates": [{"q": {"_id": &id, "n": 8}, "u": body()}]}).await;
    }
}

/// Some go, some come again, some are replaced, and some come by an update.
async fn again(db: &Database, name: &str) {
    let collection = db.collection::<Document>(name);
    let ids = ids();
    collection.delete_one(doc! {"_id": &ids[0]}).await.unwrap();
    let change = doc! {"$set": {"list.0": 1, "a.b": 2}, "$setOnInsert": {"list": [1]}};
    assert!(collection.update_one(doc! {"_id": &ids[0]}, change).upsert(true).await.is_err(), "a conflict");
    let change = doc! {"$set": {"a.b.0": 2}, "$push": {"list": 1}};
    collection.update_one(doc! {"_id": &ids[0]}, change).upsert(true).await.unwrap();
    collection.delete_one(doc! {"_id": &ids[1]}).await.unwrap();
    // The same `_id` in another form.
    let mut document = doc! {"_id": Bson::Decimal128("2.50".parse::<Decimal128>().unwrap())};
    document.extend(body());
    collection.insert_one(document).await.unwrap();
    collection.replace_one(doc! {"_id": &ids[2]}, body()).await.unwrap();
}

/// Updates within one entry of the oplog.
async fn in_a_transaction(client: &Client) {
    let mut session = client.start_session().await.unwrap();
    session.start_transaction().await.unwrap();
    let collection = client.database("forms").collection::<Document>("early");
    for id in ids() {
        for change in [doc! {"$set": {"by.a.0": 1, "list.1": 2}}, doc! {"$unset": {"by.a.0": ""}, "$inc": {"by.n": 1}}]
        {
            collection.update_one(doc! {"_id": &id}, change).session(&mut session).await.unwrap();
        }
    }
    session.commit_transaction().await.unwrap();
}

async fn user(client: &Client) {
    let db = client.database("forms");
    let _ = db.run_command(doc! {"dropAllUsersFromDatabase": 1}).await;
    let data = doc! {"desk": {"floor": 1, "seats": [1, 2]}};
    let create = doc! {"createUser": "keeper", "pwd": "secret", "roles": ["read"], "customData": data};
    db.run_command(create).await.unwrap();
}

async fn change_user(client: &Client) {
    let db = client.database("forms");
    // Which takes away the credentials of the other mechanism, by a path on 4.4.
    let only = doc! {"updateUser": "keeper", "mechanisms": ["SCRAM-SHA-256"], "roles": ["readWrite"]};
    db.run_command(only).await.unwrap();
    let change = doc! {"$set": {"customData.desk.floor": 2, "customData.desk.seats.1": 3, "customData.new.field": 1}};
    let users = client.database("admin").collection::<Document>("system.users");
    users.update_one(doc! {"_id": "forms.keeper"}, change).await.unwrap();
}

async fn users(client: &Client) -> Vec<Document> {
    let users = client.database("admin").collection::<Document>("system.users");
    users.find_one(doc! {"_id": "forms.keeper"}).await.unwrap().into_iter().collect()
}

async fn restore(target: &Stand, dir: &std::path::Path, manifest: &LogicalManifest) {
    let request = RestoreRequest { exact: true, users_and_roles: true, ..pair::request() };
    let (server, ctx) = (dumps::server(&target.set).await, pair::context());
    let stored = OpenBackup::new(folder(dir).await, manifest.clone()).unwrap();
    let plan = logical::plan(&ctx.cancel, &stored, &server, &request).await.unwrap();
    let restored = logical::restore(&ctx, &stored, &server, &request, &plan).await;
    restored.unwrap_or_else(|e| panic!("{}: {}", manifest.name, e.full()));
}

/// Documents that the two hold differently: a help for whoever reads a failure.
async fn differing(one: &Client, other: &Client) -> Vec<String> {
    let mut lines = Vec::new();
    for name in COLLECTIONS {
        for id in ids() {
            let read = async |client: &Client| {
                let collection = client.database("forms").collection::<RawDocumentBuf>(name);
                collection.find_one(doc! {"_id": &id}).await.unwrap()
            };
            let (a, b) = (read(one).await, read(other).await);
            if a.as_ref().map(|d| d.as_bytes()) != b.as_ref().map(|d| d.as_bytes()) {
                lines.push(format!("{name} {id}: {a:?}\n  became {b:?}"));
            }
        }
    }
    lines
}
