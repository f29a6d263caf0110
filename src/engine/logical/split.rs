//! Cutting a large collection into ranges of `_id` that several cursors read at once.
//!
//! Plain `$gte` and `$lt` compare within one BSON type and would lose documents where `_id` has several; `min`/`max`
//! loses a MaxKey. `$expr` compares over all types, and uses the index. The bounds are only a matter of balance: any
//! bounds give every document exactly once, because the ranges follow one total order without gaps.

use std::time::Duration;

use mongodb::bson::{Document, doc};
use tokio_util::sync::CancellationToken;

use super::select::Source;
use crate::artifact::bson::{self, Writer, tag};
use crate::domain::restore::CollectionKind;
use crate::error::{ErrorKind, Result};
use crate::mongo::Server;

/// More ranges than this make the parts small without making anything faster.
const MAX_RANGES: u64 = 512;

/// How long the server may look for samples: random reads of a cold disk take long.
const SAMPLING_LIMIT: Duration = Duration::from_secs(60);

/// Samples for each bound: enough that ranges differ by tens of percent, not by factors.
const SAMPLES: u64 = 20;

/// The value of an `_id` as bytes: of any type, and not always valid in the eyes of a library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Id {
    tag: u8,
    value: Vec<u8>,
}

impl Id {
    /// The `_id` of a document, if it has one.
    pub fn of(document: &[u8]) -> Option<Self> {
        bson::get(document, "_id").map(|e| Self { tag: e.tag, value: e.value.to_vec() })
    }

    /// Whether it is that of `document`, byte for byte.
    pub fn is_of(&self, document: &[u8]) -> bool {
        bson::get(document, "_id").is_some_and(|e| e.tag == self.tag && e.value == self.value)
    }

    /// Writes it as field `key`.
    pub fn write<'w>(&self, into: &'w mut Writer, key: &str) -> &'w mut Writer {
        into.raw(self.tag, key.as_bytes(), &self.value)
    }
}

/// From `low` (inclusive; `None`: the smallest of all) to `high` (exclusive; `None`: the largest of all).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IdRange {
    pub low: Option<Id>,
    pub high: Option<Id>,
}

impl IdRange {
    pub fn is_whole(&self) -> bool {
        self.low.is_none() && self.high.is_none()
    }

    /// The filter of a `find`, as a document; `behind`: only what lies behind this `_id`, which was the last one read.
    /// `plain`: every `_id` has the type of the bounds, as in a time series' buckets; such a collection has no index
    /// on `_id` that `$expr` could use.
    pub fn filter(&self, behind: Option<&Id>, plain: bool) -> Vec<u8> {
        let low = match behind {
            Some(id) => Some(("$gt", id)),
            None => self.low.as_ref().map(|low| ("$gte", low)),
        };
        let bounds: Vec<_> = low.into_iter().chain(self.high.as_ref().map(|high| ("$lt", high))).collect();
        let mut filter = Writer::default();
        if bounds.is_empty() {
            return filter.finish();
        }
        if plain {
            filter.open(tag::DOCUMENT, "_id");
            for (operator, id) in bounds {
                filter.raw(id.tag, operator.as_bytes(), &id.value);
            }
            return filter.finish();
        }
        filter.open(tag::DOCUMENT, "$expr").open(tag::ARRAY, "$and");
        for (i, (operator, id)) in bounds.into_iter().enumerate() {
            filter.open(tag::DOCUMENT, &i.to_string()).open(tag::ARRAY, operator).str("0", "$_id");
            filter.open(tag::DOCUMENT, "1").raw(id.tag, b"$literal", &id.value).close();
            filter.close().close();
        }
        filter.finish()
    }
}

/// The ranges to read `source` in; one that covers everything when it is small, or cannot be split: a capped
/// collection must be read in natural order, and a clustered one has no index on `_id` for `$expr`.
pub async fn ranges(
    server: &Server,
    cancel: &CancellationToken,
    source: &Source,
    bytes: u64,
    split_bytes: u64,
) -> Result<Vec<IdRange>> {
    let wanted = bytes.div_ceil(split_bytes.max(1)).min(MAX_RANGES);
    let splits = !source.capped && (!source.clustered || source.kind == CollectionKind::Timeseries);
    if wanted < 2 || !splits {
        return Ok(vec![IdRange::default()]);
    }
    let stored = source.stored_in();
    // No collation is named: sorting and comparing both follow the collection's own, as does its index on `_id`.
    let pipeline: Vec<Document> = vec![
        doc! {"$sample": {"size": (wanted * SAMPLES) as i64}},
        doc! {"$project": {"_id": 1}},
        doc! {"$sort": {"_id": 1}},
    ];
    let limit = SAMPLING_LIMIT.as_millis() as i64;
    let ask = doc! {"aggregate": &stored.collection, "pipeline": pipeline, "cursor": {}, "maxTimeMS": limit};
    let sample = match server.collect(cancel, &stored.db, ask).await {
        Ok(sample) => sample,
        Err(e) if e.kind() == ErrorKind::Cancelled => return Err(e),
        // Renamed, dropped, refused, or on a disk too slow for it: reading it whole is always right, and says what else is
        // wrong.
        Err(_) => return Ok(vec![IdRange::default()]),
    };
    let ids = sample.iter().filter_map(|d| Id::of(d.as_bytes())).collect();
    Ok(cut(ids, wanted as usize))
}

/// At most `wanted` ranges whose bounds are quantiles of the sorted `ids`.
fn cut(ids: Vec<Id>, wanted: usize) -> Vec<IdRange> {
    let mut bounds: Vec<Id> = Vec::new();
    for i in 1..wanted {
        if let Some(id) = ids.get(i * ids.len() / wanted)
            && bounds.last() != Some(id)
        {
            bounds.push(id.clone());
        }
    }
    let mut ranges = Vec::with_capacity(bounds.len() + 1);
    let mut low = None;
    for bound in bounds {
        ranges.push(IdRange { low, high: Some(bound.clone()) });
        low = Some(bound);
    }
    ranges.push(IdRange { low, high: None });
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: i32) -> Id {
        Id::of(&doc! {"_id": n}.to_vec().unwrap()).unwrap()
    }

    #[test]
    fn ranges_join_without_gap_or_overlap() {
        let ranges = cut((0..100).map(id).collect(), 7);
        assert_eq!(ranges.len(), 7);
        assert!(ranges[0].low.is_none() && ranges[6].high.is_none());
        for pair in ranges.windows(2) {
            assert_eq!(pair[0].high, pair[1].low);
        }
    }

    #[test]
    fn few_samples_give_few_ranges() {
        assert_eq!(cut(vec![], 4), [IdRange::default()]);
        assert_eq!(cut(vec![id(1); 50], 4).len(), 2);
    }

    #[test]
    fn filters() {
        let read = |bytes: Vec<u8>| Document::from_reader(&mut &bytes[..]).unwrap();
        let range = IdRange { low: Some(id(1)), high: Some(id(9)) };
        let literal = |n: i32| doc! {"$literal": n};
        assert_eq!(
            read(range.filter(None, false)),
            doc! {"$expr": {"$and": [{"$gte": ["$_id", literal(1)]}, {"$lt": ["$_id", literal(9)]}]}}
        );
        assert_eq!(
            read(range.filter(Some(&id(5)), false)),
            doc! {"$expr": {"$and": [{"$gt": ["$_id", literal(5)]}, {"$lt": ["$_id", literal(9)]}]}}
        );
        assert_eq!(read(range.filter(None, true)), doc! {"_id": {"$gte": 1, "$lt": 9}});
        assert_eq!(read(IdRange::default().filter(None, false)), doc! {});
    }
}
