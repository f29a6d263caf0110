//! Which document an operation is about, as a number that is equal for ids the server holds equal.
//!
//! Operations on one document must stay in order, those on different documents need not. `1`, `1.0` and
//! `NumberLong(1)` are one `_id`, also within an embedded document; so are a string and a symbol of the same text.

use std::hash::{DefaultHasher, Hasher};

use crate::artifact::bson::{self, Element, tag};

use super::entry::Uuid;

/// The number of document `id` of a collection. Two ids may share one by chance. Not for a collection with a collation,
/// where different texts may be the same `_id`: use [`collection_hash`] there.
pub fn document_hash(uuid: &Uuid, id: &Element<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(uuid);
    hasher.write(&canonical(id));
    hasher.finish()
}

/// The same in so many bits that no two ids share one.
pub fn document_key(id: &Element<'_>) -> u128 {
    let hash = blake3::hash(&canonical(id));
    hash.as_bytes().first_chunk().map_or(0, |bytes| u128::from_le_bytes(*bytes))
}

/// One number for all documents of a collection.
pub fn collection_hash(uuid: &Uuid) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(uuid);
    hasher.finish()
}

/// Bytes that are the same for equal ids, and for no others.
fn canonical(id: &Element<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    value(&mut out, id, 0);
    out
}

/// Deeper than any server lets a document be.
const MAX_DEPTH: usize = 220;

fn value(out: &mut Vec<u8>, e: &Element<'_>, depth: usize) {
    match e.tag {
        tag::DOUBLE | tag::INT32 | tag::INT64 | tag::DECIMAL => {
            out.push(tag::DOUBLE);
            number(e).write(out);
        }
        tag::STRING | tag::SYMBOL => {
            out.push(tag::STRING);
            out.extend_from_slice(e.value);
        }
        tag::DOCUMENT | tag::ARRAY if depth < MAX_DEPTH => {
            out.push(e.tag);
            for inner in bson::elements(e.value).into_iter().flatten().map_while(Result::ok) {
                // What the elements of an array are called does not count.
                if e.tag == tag::DOCUMENT {
                    out.extend_from_slice(inner.key);
                    out.push(0);
                }
                value(out, &inner, depth + 1);
            }
            out.push(0);
        }
        tag::CODE_WITH_SCOPE if depth < MAX_DEPTH => {
            out.push(e.tag);
            let code = e.value.get(4..8).and_then(|b| b.first_chunk()).map(|b| i32::from_le_bytes(*b));
            let scope = code.and_then(|n| usize::try_from(n).ok()).and_then(|n| n.checked_add(8));
            match scope.and_then(|at| e.value.split_at_checked(at)) {
                Some((code, scope)) => {
                    out.extend_from_slice(code.get(4..).unwrap_or_default());
                    value(out, &Element { tag: tag::DOCUMENT, key: b"", value: scope }, depth + 1);
                }
                None => out.extend_from_slice(e.value),
            }
        }
        _ => {
            out.push(e.tag);
            out.extend_from_slice(e.value);
        }
    }
}

/// The value of a number of any type.
enum Number {
    NotOne,
    Infinite {
        negative: bool,
    },
    /// `whole` has neither 2 nor 5 as a factor, or is zero: no value has two forms.
    Finite {
        negative: bool,
        whole: u128,
        twos: i32,
        fives: i32,
    },
}

impl Number {
    /// `whole` by powers of two and five.
    fn finite(negative: bool, mut whole: u128, mut twos: i32, mut fives: i32) -> Self {
        if whole == 0 {
            return Self::Finite { negative: false, whole: 0, twos: 0, fives: 0 };
        }
        twos += whole.trailing_zeros().cast_signed();
        whole >>= whole.trailing_zeros();
        while whole.is_multiple_of(5) {
            whole /= 5;
            fives += 1;
        }
        Self::Finite { negative, whole, twos, fives }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match *self {
            Self::NotOne => out.push(0),
            Self::Infinite { negative } => out.push(1 + u8::from(negative)),
            Self::Finite { negative, whole, twos, fives } => {
                out.push(3 + u8::from(negative));
                out.extend_from_slice(&whole.to_le_bytes());
                out.extend_from_slice(&twos.to_le_bytes());
                out.extend_from_slice(&fives.to_le_bytes());
            }
        }
    }
}

fn number(e: &Element<'_>) -> Number {
    let whole = |n: i64| Number::finite(n < 0, n.unsigned_abs().into(), 0, 0);
    match (e.tag, e.value.first_chunk::<4>(), e.value.first_chunk::<8>(), e.value.first_chunk::<16>()) {
        (tag::INT32, Some(bytes), _, _) => whole(i32::from_le_bytes(*bytes).into()),
        (tag::INT64, _, Some(bytes), _) => whole(i64::from_le_bytes(*bytes)),
        (tag::DOUBLE, _, Some(bytes), _) => double(f64::from_le_bytes(*bytes)),
        (tag::DECIMAL, _, _, Some(bytes)) => decimal(u128::from_le_bytes(*bytes)),
        _ => Number::NotOne,
    }
}

fn double(number: f64) -> Number {
    let negative = number.is_sign_negative();
    if number.is_nan() {
        return Number::NotOne;
    }
    if number.is_infinite() {
        return Number::Infinite { negative };
    }
    let bits = number.to_bits();
    let (exponent, fraction) = ((bits >> 52 & 0x7ff) as i32, u128::from(bits & ((1 << 52) - 1)));
    if exponent == 0 {
        Number::finite(negative, fraction, -1074, 0)
    } else {
        Number::finite(negative, fraction | 1 << 52, exponent - 1075, 0)
    }
}

/// IEEE 754-2008 in its binary integer form.
fn decimal(bits: u128) -> Number {
    const LARGEST: u128 = 10_u128.pow(34) - 1;
    let negative = bits >> 127 == 1;
    let combination = bits >> 122 & 0x1f;
    match combination {
        0x1f => return Number::NotOne,
        0x1e => return Number::Infinite { negative },
        _ => {}
    }
    // The form for larger digits than fit would be: such a number is a zero.
    if combination >> 3 == 3 {
        return Number::finite(false, 0, 0, 0);
    }
    let exponent = (bits >> 113 & 0x3fff) as i32 - 6176;
    let digits = bits & ((1 << 113) - 1);
    Number::finite(negative, if digits > LARGEST { 0 } else { digits }, exponent, exponent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mongodb::bson::{Bson, Document, doc};
    use proptest::prelude::*;

    fn hash(id: impl Into<Bson>) -> (u64, u128) {
        let bytes = doc! {"_id": id.into()}.to_vec().unwrap();
        let id = bson::get(&bytes, "_id").unwrap();
        (document_hash(&[1; 16], &id), document_key(&id))
    }

    fn decimal(text: &str) -> Bson {
        Bson::Decimal128(text.parse().unwrap())
    }

    #[test]
    fn equal_ids_are_one_key() {
        let scope = |n: Bson| mongodb::bson::JavaScriptCodeWithScope { code: "f()".into(), scope: doc! {"n": n} };
        let groups: [Vec<Bson>; 17] = [
            vec![1i32.into(), 1i64.into(), 1.0.into(), decimal("1"), decimal("1.00"), decimal("10E-1")],
            vec![0i32.into(), (-0.0).into(), decimal("-0")],
            vec![(1i64 << 60).into(), ((1u64 << 60) as f64).into(), decimal("1152921504606846976")],
            vec![0.5.into(), decimal("0.50")],
            // Neighbours of a number that a double cannot hold, and of a decimal that no double is.
            vec![((1i64 << 60) + 1).into(), decimal("1152921504606846977")],
            vec![((1i64 << 60) + 2).into()],
            vec![0.1.into()],
            vec![decimal("0.1"), decimal("1E-1")],
            vec![f64::NAN.into(), (-f64::NAN).into(), decimal("NaN")],
            vec![f64::INFINITY.into(), decimal("Infinity")],
            vec![f64::NEG_INFINITY.into(), decimal("-Infinity")],
            vec![(-7i32).into(), (-7.0).into(), decimal("-7.0")],
            vec![5e-324.into()],
            vec![Bson::JavaScriptCodeWithScope(scope(1.into())), Bson::JavaScriptCodeWithScope(scope(1.0.into()))],
            vec![Bson::JavaScriptCodeWithScope(scope(2.into()))],
            vec![Bson::String("x".into()), Bson::Symbol("x".into())],
            vec![
                doc! {"a": 1, "b": [2.0, {"c": 3i64}]}.into(),
                doc! {"a": 1.0, "b": [2i64, {"c": decimal("3")}]}.into(),
            ],
        ];
        let mut seen = std::collections::BTreeSet::new();
        for group in groups {
            let first = hash(group[0].clone());
            for id in &group {
                assert_eq!(hash(id.clone()), first, "{id}");
            }
            assert!(seen.insert(first));
        }
        assert_ne!(hash(doc! {"a": 1, "b": 2}), hash(doc! {"b": 2, "a": 1}));
    }

    proptest! {
        #[test]
        fn whole_numbers_of_any_type_are_one_key(n: i64) {
            prop_assert_eq!(hash(n), hash(decimal(&n.to_string())));
            prop_assert_eq!(hash(n as f64), hash(decimal(&format!("{}", n as f64 as i128))));
            prop_assert_eq!(hash(n) == hash(n as f64), n as f64 as i128 == i128::from(n));
            if let Ok(small) = i32::try_from(n) {
                prop_assert_eq!(hash(n), hash(small));
            }
        }
    }

    #[test]
    fn the_collection_is_part_of_the_key() {
        let bytes = Document::from_iter([("_id".to_owned(), Bson::Int32(1))]).to_vec().unwrap();
        let id = bson::get(&bytes, "_id").unwrap();
        assert_ne!(document_hash(&[1; 16], &id), document_hash(&[2; 16], &id));
    }
}
