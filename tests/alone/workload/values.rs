//! Documents and `_id`s of every kind, few enough that operations meet the same ones again.

use mongodb::bson::oid::ObjectId;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, DateTime, Decimal128, Document, JavaScriptCodeWithScope, Regex, Timestamp, doc};
use rand::Rng;
use rand::rngs::StdRng;

use crate::support::changes;

/// An `_id` that other operations use too: every type, and numbers that are one key in several forms.
pub fn id(rng: &mut StdRng) -> Bson {
    if rng.random_bool(0.4) {
        return Bson::Int32(rng.random_range(0..24));
    }
    let binary = |subtype, bytes: &[u8]| Bson::Binary(Binary { subtype, bytes: bytes.to_vec() });
    match rng.random_range(0..44) {
        0 => Bson::MinKey,
        1 => Bson::MaxKey,
        2 => Bson::Null,
        3 => Bson::Boolean(false),
        4 => Bson::Boolean(true),
        5 => Bson::Double(-0.0),
        6 => Bson::Double(0.0),
        7 => Bson::Int64(0),
        8 => decimal("-0"),
        9 => Bson::Int32(1),
        10 => Bson::Int64(1),
        11 => Bson::Double(1.0),
        12 => decimal("1"),
        13 => decimal("1.0"),
        14 => decimal("1.00"),
        15 => Bson::Double(f64::NAN),
        16 => decimal("NaN"),
        17 => Bson::Double(f64::INFINITY),
        18 => decimal("-Infinity"),
        19 => Bson::Int64(1 << 53),
        20 => Bson::Double((1_i64 << 53) as f64),
        21 => Bson::Int64((1 << 53) + 1),
        22 => Bson::Int64(i64::MAX),
        23 => Bson::Double(0.1),
        24 => decimal("0.1"),
        25 => Bson::String(String::new()),
        26 => Bson::String("a".into()),
        27 => Bson::String("A".into()),
        28 => Bson::String("été".into()),
        29 => Bson::String("nul \0 inside".into()),
        30 => Bson::Symbol("a".into()),
        31 => binary(BinarySubtype::Generic, &[]),
        32 => binary(BinarySubtype::Generic, &[1, 2]),
        33 => binary(BinarySubtype::Uuid, &[7; 16]),
        34 => binary(BinarySubtype::UserDefined(0x80), &[1, 2]),
        35 => Bson::ObjectId(ObjectId::from_bytes([3; 12])),
        36 => Bson::DateTime(DateTime::from_millis(-1)),
        37 => Bson::Timestamp(Timestamp { time: 5, increment: 6 }),
        38 => Bson::JavaScriptCode("1".into()),
        39 => Bson::Document(doc! {}),
        40 => Bson::Document(doc! {"a": 1, "b": [1, {"c": 2.0}]}),
        41 => Bson::Document(doc! {"a": 1.0, "b": [1_i64, {"c": 2}]}),
        42 => Bson::Document(doc! {"b": 1, "a": 1}),
        _ => Bson::JavaScriptCodeWithScope(JavaScriptCodeWithScope { code: "x".into(), scope: doc! {"y": 1} }),
    }
}

pub fn decimal(text: &str) -> Bson {
    Bson::Decimal128(text.parse::<Decimal128>().unwrap())
}

/// An `_id` of a collection whose collation knows neither case nor accents.
pub fn collated_id(rng: &mut StdRng) -> Bson {
    match rng.random_range(0..8) {
        0 => "été".into(),
        1 => "ETE".into(),
        2 => "Noël".into(),
        3 => "noel".into(),
        4 => "a".into(),
        5 => Bson::Document(doc! {"deep": "É"}),
        6 => Bson::Document(doc! {"deep": "e"}),
        _ => id(rng),
    }
}

/// A document without its `_id`.
pub fn body(rng: &mut StdRng) -> Document {
    let mut document = doc! {
        "n": rng.random_range(0..40),
        "u": rng.random::<i64>(),
        "text": word(rng),
        "list": (0..rng.random_range(0..6)).map(Bson::Int32).collect::<Vec<_>>(),
        "deep": {"a": rng.random_range(0..9), "b": {"c": [1, 2, {"d": 3}]}},
        "rows": (0..rng.random_range(0..3)).map(|k| Bson::Document(doc! {"k": k, "v": [k]})).collect::<Vec<_>>(),
    };
    match rng.random_range(0..13) {
        0 => drop(document.insert("place", doc! {"type": "Point", "coordinates": [rng.random_range(-90..90), 5.5]})),
        1 => drop(document.insert("at", DateTime::from_millis(4_000_000_000_000 + rng.random_range(0..1000)))),
        2 => drop(document.insert("any", vec![id(rng), id(rng), Bson::Undefined])),
        3 => {
            drop(document.insert("like", Regex { pattern: "^a".try_into().unwrap(), options: "i".try_into().unwrap() }))
        }
        4 => drop(document.insert("", doc! {"$odd": 1, "a.b": 2, "": Bson::MinKey})),
        6 => drop(document.insert("flat", vec![rng.random_range(-90..90), 5])),
        5 => drop(document.insert("long", "x".repeat(rng.random_range(0..3_000)))),
        _ => {}
    }
    document
}

pub fn document(rng: &mut StdRng) -> Document {
    let mut document = doc! {"_id": id(rng)};
    document.extend(body(rng));
    document
}

pub fn word(rng: &mut StdRng) -> String {
    ["one", "two", "zwei", "Œuvre", "x y", "été", "ETE", ""][rng.random_range(0..8)].to_owned()
}

/// An update that the server may store as a difference, as modifiers, or as the whole document: the fields of a statement
/// besides its `q`.
pub fn change(rng: &mut StdRng) -> Document {
    if rng.random_bool(0.08) {
        doc! {"u": body(rng)}
    } else {
        changes::change(rng)
    }
}
