//! How much a capped collection may hold, and how that changed.
//!
//! Unlike any other option this one decides which documents there are: what an insert pushes out depends on the bounds
//! at that moment. A restore therefore sets them again in their order.

use mongodb::bson::Bson;

use crate::artifact::raw::Raw;
use crate::domain::timestamp::Timestamp;
use crate::mongo::topology::number;

/// `size` (bytes) and `max` (documents) of a capped collection; without a `max` only the size counts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Bounds {
    pub size: Option<Bson>,
    pub max: Option<Bson>,
}

/// A `collMod` of the bounds.
#[derive(Debug, Clone, PartialEq)]
pub struct Resize {
    pub ts: Timestamp,
    /// What it sets; the other stays.
    pub to: Bounds,
}

impl Bounds {
    pub fn of(options: &Raw) -> Self {
        Self { size: options.value("size"), max: options.value("max") }
    }

    /// What a `collMod` sets, if it is about bounds.
    pub fn of_collmod(o: &Raw) -> Option<Self> {
        let to = Self { size: o.value("cappedSize"), max: o.value("cappedMax") };
        (to != Self::default()).then_some(to)
    }

    /// After `resize`.
    #[must_use]
    pub fn after(self, resize: &Resize) -> Self {
        Self { size: resize.to.size.clone().or(self.size), max: resize.to.max.clone().or(self.max) }
    }

    /// Bounds that push nothing out that either of the two would keep.
    #[must_use]
    pub fn widest(self, other: &Self) -> Self {
        let value = |b: &Bson| number(b).unwrap_or(0.0);
        let larger = |a: Option<Bson>, b: &Option<Bson>| match (a, b) {
            (Some(a), Some(b)) => Some(if value(b) > value(&a) { b.clone() } else { a }),
            (a, b) => a.or_else(|| b.clone()),
        };
        // No number of documents, or none above zero, is no bound at all.
        let unbounded = |max: &Option<Bson>| max.as_ref().is_none_or(|m| value(m) <= 0.0);
        let max = if unbounded(&self.max) || unbounded(&other.max) { None } else { larger(self.max, &other.max) };
        Self { size: larger(self.size, &other.size), max }
    }

    /// These, or wider ones that hold so much.
    #[must_use]
    pub fn keeping(self, documents: u64, bytes: u64) -> Self {
        let value = |b: &Bson| number(b).unwrap_or(0.0);
        let max = self.max.filter(|max| value(max) <= 0.0 || value(max) >= documents as f64);
        let size = self.size.map(|size| {
            if value(&size) >= bytes as f64 { size } else { Bson::Int64(i64::try_from(bytes).unwrap_or(i64::MAX)) }
        });
        Self { size, max }
    }

    /// Puts them into the options of `create`.
    pub fn set(&self, options: &mut Raw) {
        for (key, value) in [("size", &self.size), ("max", &self.max)] {
            match value {
                Some(value) => options.insert(key, value.clone()),
                None => options.remove(key),
            };
        }
    }

    /// The fields of a `collMod` that sets those that are given.
    pub fn collmod(&self) -> mongodb::bson::Document {
        let given = [("cappedSize", &self.size), ("cappedMax", &self.max)];
        given.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value.clone()?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mongodb::bson::doc;

    fn bounds(size: i64, max: Option<i64>) -> Bounds {
        Bounds { size: Some(size.into()), max: max.map(Bson::Int64) }
    }

    #[test]
    fn the_widest_keeps_what_either_keeps() {
        assert_eq!(bounds(10, Some(3)).widest(&bounds(20, Some(2))), bounds(20, Some(3)));
        assert_eq!(bounds(10, Some(3)).widest(&bounds(5, None)), bounds(10, None));
        assert_eq!(bounds(10, Some(0)).widest(&bounds(5, Some(7))), bounds(10, None));
        let resize = Resize { ts: Timestamp::MIN, to: Bounds { size: None, max: Some(Bson::Int64(9)) } };
        assert_eq!(bounds(10, Some(3)).after(&resize), bounds(10, Some(9)));
        assert_eq!(bounds(10, None).collmod(), doc! {"cappedSize": 10i64});
        assert_eq!(Bounds::of_collmod(&doc! {"collMod": "c", "index": {}}.into()), None);
    }

    #[test]
    fn what_is_there_may_be_more_than_the_bounds() {
        for (within, documents) in [(bounds(10, Some(3)), 3), (bounds(10, None), 9), (bounds(10, Some(0)), 9)] {
            assert_eq!(within.clone().keeping(documents, 10), within);
        }
        assert_eq!(bounds(10, Some(3)).keeping(4, 10), bounds(10, None));
        assert_eq!(bounds(10, Some(3)).keeping(3, 11), bounds(11, Some(3)));
    }
}
