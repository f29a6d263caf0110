//! Updates as applications make them, in every form: each operator, alone and with others, on what is there and what is not.
//!
//! They fit the documents of the random workloads: a number `n`, a text `text`, lists `list` and `rows`, a document `deep`.
//! Some fail on some documents, as they would anywhere.

use mongodb::bson::{Document, Timestamp, doc};
use rand::Rng;
use rand::rngs::StdRng;

/// How many there are.
const OPERATORS: u32 = 36;

/// The fields of an update statement besides its `q`: `u`, and `arrayFilters` where there are some.
pub fn change(rng: &mut StdRng) -> Document {
    let n = rng.random_range(0..100);
    match rng.random_range(0..OPERATORS + 6) {
        0 => doc! {"u": {"$set": {"list.$[e]": n}}, "arrayFilters": [{"e": {"$lt": n % 7}}]},
        1 => doc! {"u": {"$inc": {"rows.$[r].k": 1}}, "arrayFilters": [{"r.k": {"$gt": n % 5}}]},
        2 => doc! {"u": {"$unset": {"rows.$[r].v": ""}}, "arrayFilters": [{"r.k": n % 5}]},
        3 => doc! {"u": [
            {"$set": {"n": {"$size": {"$ifNull": ["$list", []]}}, "deep": {"computed": n}}}, {"$unset": "text"},
        ]},
        4 => doc! {"u": [{"$set": {"list": {"$concatArrays": [{"$ifNull": ["$list", []]}, [n]]}, "deep.x": "$n"}}]},
        5 => doc! {"u": [{"$replaceWith": {"$mergeObjects": ["$$ROOT", {"list": [n], "rows": []}]}}]},
        which => doc! {"u": operators(which - 6, n)},
    }
}

fn operators(which: u32, n: i32) -> Document {
    match which {
        0 => doc! {"$inc": {"n": 1, "deep.a": -1}},
        1 => doc! {"$set": {"deep.b.c.2.d": n, "new.er": n}},
        2 => doc! {"$set": {"list.1": n, "list.7": "far"}},
        3 => doc! {"$set": {"numbers.10": n, "numbers.9": n, "rows.0.k": n % 5}},
        4 => doc! {"$set": {"rows": [{"k": n % 5, "v": [n]}, {"k": 1, "v": []}], "deep.b.c.0": {"d": n}}},
        // A top-level Timestamp(0, 0) is the current time in an insert; here it is itself.
        5 => doc! {"$set": {"zero": Timestamp { time: 0, increment: 0 }, "n": 5}},
        6 => doc! {"$set": {"text": "y".repeat(2_000), "list": []}},
        7 => doc! {"$set": {"text": "short", "list.$[]": n}},
        8 => doc! {"$unset": {"text": "", "deep.a": "", "list.0": ""}},
        9 => doc! {"$unset": {"deep.b.c.1": "", "list.2": "", "rows.0.k": ""}},
        10 => doc! {"$push": {"list": n}},
        11 => doc! {"$push": {"list": {"$each": [n, n + 1], "$slice": -8}}},
        12 => doc! {"$push": {"list": {"$each": [{"s": n}], "$position": 0, "$sort": -1}}},
        13 => doc! {"$push": {"list": {"$each": [n, 1], "$sort": 1, "$slice": 5}}},
        14 => doc! {"$push": {"deep.b.c": {"$each": [n], "$position": 1, "$slice": -4}}},
        15 => doc! {"$push": {"rows": {"$each": [{"k": n % 5, "v": [1]}], "$sort": {"k": 1}, "$slice": -5}}},
        16 => doc! {"$push": {"rows.0.v": n, "list": {"$each": [], "$slice": 2}}},
        17 => doc! {"$addToSet": {"list": n % 7}},
        18 => doc! {"$addToSet": {"list": {"$each": [n % 3, n % 5, "x"]}}},
        19 => doc! {"$pop": {"list": if n % 2 == 0 { 1 } else { -1 }}},
        20 => doc! {"$pop": {"deep.b.c": 1, "rows": -1}},
        21 => doc! {"$pull": {"list": {"$gt": 3}}},
        22 => doc! {"$pull": {"rows": {"k": {"$lt": n % 5}}, "list": n % 7}},
        23 => doc! {"$pullAll": {"list": [1, 2, n % 9]}},
        24 => doc! {"$rename": {"text": "deep.moved"}},
        25 => doc! {"$rename": {"deep.moved": "text", "deep.a": "a"}},
        26 => doc! {"$mul": {"n": 1.5}, "$min": {"u": 0_i64}},
        27 => doc! {"$mul": {"deep.a": 2, "none": 3}},
        28 => doc! {"$max": {"n": n, "deep.a": n}, "$setOnInsert": {"u": i64::from(n)}},
        29 => doc! {"$min": {"n": n}, "$setOnInsert": {"list": [1, 2, 3], "deep.b.c": [n]}},
        30 => doc! {"$bit": {"n": {"xor": 3}}},
        31 => doc! {"$bit": {"bits": {"or": n}, "deep.bits": {"and": 6}}},
        32 => doc! {"$currentDate": {"changed": true, "deep.t": {"$type": "timestamp"}}},
        33 => doc! {"$inc": {"list.1": 1, "deep.b.c.0": 1, "count": 1_i64}},
        34 => doc! {"$set": {"deep": {"a": n, "b": {"c": [1, 2, {"d": 3}]}}}, "$unset": {"new": "", "none": ""}},
        _ => doc! {"$set": {"made.0.x": n, "n": n, "list.3.y": [n]}},
    }
}
