//! Documents and `_id`s of every kind, few enough that operations meet the same ones again.

use mongodb::bson::oid::ObjectId;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, DateTime, Decimal128, Document, JavaScriptCodeWithScope, Regex, Timestamp, doc};
use rand::Rng;
use rand::rngs::StdRng;

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
    };
    match rng.random_range(0..12) {
        0 => drop(document.insert("place", doc! {"type": "Point", "coordinates": [rng.random_range(-90..90), 5.5]})),
        1 => drop(document.insert("at", DateTime::from_millis(4_000_000_000_000 + rng.random_range(0..1000)))),
        2 => drop(document.insert("any", vec![id(rng), id(rng), Bson::Undefined])),
        3 => {
            drop(document.insert("like", Regex { pattern: "^a".try_into().unwrap(), options: "i".try_into().unwrap() }))
        }
        4 => drop(document.insert("", doc! {"$odd": 1, "a.b": 2, "": Bson::MinKey})),
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

/// An update that the server may store as a difference, a pipeline's result, or the whole document.
pub fn change(rng: &mut StdRng) -> Change {
    let n = rng.random_range(0..100);
    let operators = match rng.random_range(0..16) {
        0 => doc! {"$inc": {"n": 1, "deep.a": -1}},
        1 => doc! {"$set": {"deep.b.c.2.d": n, "new.er": n}},
        2 => doc! {"$push": {"list": {"$each": [n, n + 1], "$slice": -8}}},
        3 => doc! {"$addToSet": {"list": n % 7}},
        4 => doc! {"$pop": {"list": if n % 2 == 0 { 1 } else { -1 }}},
        5 => doc! {"$pull": {"list": {"$gt": 3}}},
        6 => doc! {"$set": {"list.1": n, "list.7": "far"}},
        7 => doc! {"$unset": {"text": "", "deep.a": "", "list.0": ""}},
        8 => doc! {"$rename": {"text": "deep.moved"}},
        9 => doc! {"$mul": {"n": 1.5}, "$min": {"u": 0_i64}},
        // A top-level Timestamp(0, 0) is the current time in an insert; here it is itself.
        10 => doc! {"$set": {"zero": Timestamp { time: 0, increment: 0 }, "n": 5}},
        11 => doc! {"$bit": {"n": {"xor": 3}}},
        12 => doc! {"$set": {"text": "y".repeat(2_000), "list": []}},
        13 => doc! {"$push": {"list": {"$each": [{"s": n}], "$position": 0, "$sort": -1}}},
        14 => {
            return Change::Pipeline(vec![
                doc! {"$set": {"n": {"$size": {"$ifNull": ["$list", []]}}, "deep": {"computed": n}}},
                doc! {"$unset": "text"},
            ]);
        }
        _ => return Change::Whole(body(rng)),
    };
    Change::Operators(operators)
}

pub enum Change {
    Operators(Document),
    Pipeline(Vec<Document>),
    Whole(Document),
}

impl Change {
    /// The `u` of an update statement.
    pub fn bson(self) -> Bson {
        match self {
            Self::Operators(document) | Self::Whole(document) => Bson::Document(document),
            Self::Pipeline(stages) => Bson::Array(stages.into_iter().map(Bson::Document).collect()),
        }
    }

    /// Whether it may change many documents.
    pub fn many(&self) -> bool {
        !matches!(self, Self::Whole(_))
    }
}
