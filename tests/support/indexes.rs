//! Definitions of indexes from a grammar: every kind, every option, in every form an application may write it.
//!
//! Many make no sense together or here, and a server refuses them: success is that the server takes one.

use mongodb::bson::{Bson, Document, doc};
use rand::Rng;
use rand::rngs::StdRng;

/// A time in which nothing expires.
pub const TEN_YEARS: i32 = 315_360_000;

const FIELDS: [&str; 9] = ["n", "u", "text", "list", "deep.a", "deep.b.c.d", "rows.k", "at", "any"];

/// One of few names, so that others of it are there already.
pub fn name(rng: &mut StdRng) -> String {
    format!("made {}", rng.random_range(0..6))
}

/// A specification for `createIndexes`.
pub fn specification(rng: &mut StdRng) -> Document {
    let mut spec = doc! {"key": key(rng), "name": name(rng)};
    let key = spec.get_document("key").unwrap().clone();
    let is = |kind: &str| key.values().any(|v| v.as_str() == Some(kind));
    if is("text") {
        text(rng, &mut spec);
    }
    if is("2dsphere") && rng.random_bool(0.5) {
        spec.insert("2dsphereIndexVersion", rng.random_range(2..4));
    }
    if is("2d") && rng.random_bool(0.5) {
        spec.extend(doc! {"bits": rng.random_range(4..30), "min": -200.5, "max": 200});
    }
    if key.contains_key("$**") && rng.random_bool(0.5) {
        let projections = [doc! {"deep": 1, "n": 1}, doc! {"deep.a": 0, "any": false}, doc! {"deep": 1, "_id": 1}];
        spec.insert("wildcardProjection", one(rng, &projections));
    }
    if rng.random_bool(0.15) {
        spec.insert("unique", true);
    }
    if rng.random_bool(0.15) {
        let truths = [Bson::Boolean(true), Bson::Boolean(false), Bson::Int32(1), Bson::Double(1.0)];
        spec.insert("sparse", one(rng, &truths));
    }
    if rng.random_bool(0.2) {
        spec.insert("partialFilterExpression", filter(rng));
    }
    if rng.random_bool(0.12) {
        let seconds =
            [Bson::Int32(TEN_YEARS), Bson::Int64(i64::from(TEN_YEARS)), Bson::Double(f64::from(TEN_YEARS) + 0.5)];
        spec.insert("expireAfterSeconds", one(rng, &seconds));
    }
    if rng.random_bool(0.15) {
        spec.insert("hidden", rng.random_bool(0.8));
    }
    if rng.random_bool(0.25) {
        let collation = collation(rng);
        if collation.get_str("locale").is_ok_and(|locale| locale == "simple") {
            // See the users of this name: the server forgets something of such an index.
            spec.insert("name", format!("simple {}", rng.random_range(0..3)));
        }
        spec.insert("collation", collation);
    }
    if rng.random_bool(0.1) {
        spec.insert("storageEngine", doc! {"wiredTiger": {"configString": "prefix_compression=false"}});
    }
    if rng.random_bool(0.1) {
        spec.insert("background", rng.random_bool(0.7));
    }
    if rng.random_bool(0.3) {
        let versions = [Bson::Int32(2), Bson::Double(2.0), Bson::Int64(2), Bson::Int32(1)];
        spec.insert("v", one(rng, &versions));
    }
    spec
}

fn one<T: Clone>(rng: &mut StdRng, of: &[T]) -> T {
    of[rng.random_range(0..of.len())].clone()
}

fn key(rng: &mut StdRng) -> Document {
    match rng.random_range(0..12) {
        0 => doc! {"text": "text"},
        1 => doc! {"n": 1, "text": "text", "deep.moved": "text"},
        2 => doc! {"$**": "text"},
        3 => doc! {"place": "2dsphere"},
        4 => doc! {"n": -1, "place": "2dsphere"},
        5 => doc! {"flat": "2d", "n": 1},
        6 => doc! {"$**": 1},
        7 => doc! {"deep.$**": 1},
        8 => doc! {one(rng, &FIELDS): "hashed"},
        9 => doc! {"n": 1, "u": "hashed", "deep.a": -1},
        _ => {
            let mut key = Document::new();
            for _ in 0..rng.random_range(1..4) {
                let directions = [
                    Bson::Int32(1),
                    Bson::Int32(-1),
                    Bson::Double(1.0),
                    Bson::Double(-1.0),
                    Bson::Int64(1),
                    Bson::Double(0.5),
                    Bson::Int32(7),
                ];
                key.insert(one(rng, &FIELDS), one(rng, &directions));
            }
            key
        }
    }
}

fn text(rng: &mut StdRng, spec: &mut Document) {
    if rng.random_bool(0.5) {
        spec.insert("weights", doc! {"text": rng.random_range(1..20)});
    }
    if rng.random_bool(0.4) {
        spec.insert("default_language", one(rng, &["none", "german", "english"]));
    }
    if rng.random_bool(0.3) {
        spec.insert("language_override", "tongue");
    }
    if rng.random_bool(0.3) {
        spec.insert("textIndexVersion", rng.random_range(2..4));
    }
}

fn filter(rng: &mut StdRng) -> Document {
    let filters = [
        doc! {"n": {"$gt": 5}},
        doc! {"u": {"$exists": true}},
        doc! {"u": {"$type": "long"}, "n": {"$lte": 30.5}},
        doc! {"$and": [{"n": {"$gte": 1}}, {"text": "one"}]},
        doc! {"deep": {"$eq": {"a": 1}}},
        doc! {"n": {"$in": [1, 2_i64, 3.0]}},
        doc! {"$or": [{"n": 1}, {"text": {"$gt": ""}}]},
        doc! {},
    ];
    one(rng, &filters)
}

fn collation(rng: &mut StdRng) -> Document {
    if rng.random_bool(0.2) {
        return doc! {"locale": "simple"};
    }
    let mut collation = doc! {"locale": one(rng, &["fr", "de", "sv", "en_US", "es@collation=traditional"])};
    if rng.random_bool(0.5) {
        collation.insert("strength", rng.random_range(1..6));
    }
    let options = [
        doc! {"caseLevel": true},
        doc! {"caseFirst": "upper"},
        doc! {"numericOrdering": true},
        doc! {"alternate": "shifted", "maxVariable": "space"},
        doc! {"backwards": true},
        doc! {"normalization": true},
    ];
    if rng.random_bool(0.5) {
        collation.extend(one(rng, &options));
    }
    collation
}
