//! Which document an operation is about, as a number that is equal for ids the server holds equal.
//!
//! Operations on one document must stay in order, those on different documents need not. `1`, `1.0` and
//! `NumberLong(1)` are one `_id`, also within an embedded document; so are a string and a symbol of the same text.
//! Two ids may share a number by chance: that only costs speed.

use std::hash::{DefaultHasher, Hasher};

use crate::artifact::bson::{self, Element, tag};

use super::entry::Uuid;

/// The number of document `id` of a collection. Not for a collection with a collation, where different texts may be
/// the same `_id`: use [`collection_hash`] there.
pub fn document_hash(uuid: &Uuid, id: &Element<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(uuid);
    value(&mut hasher, id, 0);
    hasher.finish()
}

/// One number for all documents of a collection.
pub fn collection_hash(uuid: &Uuid) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(uuid);
    hasher.finish()
}

fn value(hasher: &mut DefaultHasher, e: &Element<'_>, depth: usize) {
    match e.tag {
        tag::DOUBLE | tag::INT32 | tag::INT64 | tag::DECIMAL => {
            // Correct rounding gives equal numbers of any type the same double.
            let number = number(e).unwrap_or(f64::NAN);
            let number = if number.is_nan() {
                f64::NAN
            } else if number == 0.0 {
                0.0
            } else {
                number
            };
            hasher.write_u8(tag::DOUBLE);
            hasher.write_u64(number.to_bits());
        }
        tag::STRING | tag::SYMBOL => {
            hasher.write_u8(tag::STRING);
            hasher.write(e.value);
        }
        tag::DOCUMENT | tag::ARRAY if depth < 200 => {
            hasher.write_u8(e.tag);
            for inner in bson::elements(e.value).into_iter().flatten().map_while(Result::ok) {
                hasher.write(inner.key);
                hasher.write_u8(0);
                value(hasher, &inner, depth + 1);
            }
            hasher.write_u8(0);
        }
        // Compared by content that may hold numbers again.
        tag::DOCUMENT | tag::ARRAY | tag::CODE_WITH_SCOPE => hasher.write_u8(e.tag),
        _ => {
            hasher.write_u8(e.tag);
            hasher.write(e.value);
        }
    }
}

fn number(e: &Element<'_>) -> Option<f64> {
    match e.tag {
        tag::DOUBLE => Some(f64::from_le_bytes(e.value.try_into().ok()?)),
        tag::INT32 => Some(f64::from(i32::from_le_bytes(e.value.try_into().ok()?))),
        tag::INT64 => Some(i64::from_le_bytes(e.value.try_into().ok()?) as f64),
        _ => {
            let decimal = mongodb::bson::Decimal128::from_bytes(e.value.try_into().ok()?);
            decimal.to_string().parse().ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mongodb::bson::{Bson, Document, doc};
    use proptest::prelude::*;

    fn hash(id: impl Into<Bson>) -> u64 {
        let bytes = doc! {"_id": id.into()}.to_vec().unwrap();
        document_hash(&[1; 16], &bson::get(&bytes, "_id").unwrap())
    }

    fn decimal(text: &str) -> Bson {
        Bson::Decimal128(text.parse().unwrap())
    }

    #[test]
    fn equal_ids_are_one_key() {
        let groups: [Vec<Bson>; 6] = [
            vec![1i32.into(), 1i64.into(), 1.0.into(), decimal("1"), decimal("1.00"), decimal("10E-1")],
            vec![0i32.into(), (-0.0).into(), decimal("-0")],
            vec![(1i64 << 60).into(), ((1u64 << 60) as f64).into(), decimal("1152921504606846976")],
            vec![0.5.into(), decimal("0.50")],
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
