//! Whether a copy that was recovered is whole: its server reads all of it, documents and indexes.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use futures_util::{StreamExt, TryStreamExt, stream};
use mongodb::bson::{Bson, Document, doc};

use crate::domain::text::{count, counted, escape};
use crate::engine::Context;
use crate::engine::progress::took_words;
use crate::error::{Error, ErrorKind, Result};
use crate::mongo::Server;
use crate::mongo::topology::number;

/// A collection to look at.
struct Found {
    db: String,
    name: String,
    /// Of its files.
    bytes: u64,
}

/// Has the server validate every collection, and logs how many there are. All of it counts as `work` bytes.
///
/// Errors: `Corrupt` naming a collection that is not valid; what the server says; `Cancelled`.
pub async fn every_collection(ctx: &Context, server: &Server, work: u64) -> Result<()> {
    let mut all = list(ctx, server).await?;
    // The largest first: it must not be what everything else waits for in the end.
    all.sort_by_key(|found| std::cmp::Reverse(found.bytes));
    let (number, shares) = (all.len() as u64, shares(&all, work));
    let done = AtomicU64::new(0);
    // Each is read by one thread of the server, which is all that runs here.
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let at_once = threads.max(ctx.limits.parallel_collections).clamp(1, 16);
    let looking = all.into_iter().zip(shares).map(|(found, share)| one(ctx, server, found, share, &done));
    let looking = stream::iter(looking).buffer_unordered(at_once).try_collect::<()>();
    let words = || format!("validating collections, {} of {} done", count(done.load(Relaxed)), count(number));
    let (looked, took) = ctx.meter.watched(words, looking).await;
    looked?;
    ctx.meter.info(format!("validated {} in {}: all are valid", counted(number, "collection"), took_words(took)));
    Ok(())
}

/// What each of `all` counts of `work`, according to its size. The sum is `work`, if there is anything.
fn shares(all: &[Found], work: u64) -> Vec<u64> {
    let sum = all.iter().map(|found| found.bytes.max(1) as f64).sum::<f64>();
    let last = all.len().saturating_sub(1);
    let mut until = 0.0;
    let ends = all.iter().enumerate().map(|(at, found)| {
        until += found.bytes.max(1) as f64;
        if at == last { work } else { ((work as f64 * (until / sum)) as u64).min(work) }
    });
    let ends: Vec<u64> = ends.collect();
    let begins = std::iter::once(0).chain(ends.iter().copied());
    ends.iter().zip(begins).map(|(end, begin)| end - begin).collect()
}

async fn list(ctx: &Context, server: &Server) -> Result<Vec<Found>> {
    let cancel = &ctx.cancel;
    let listed = server.command(cancel, "admin", doc! {"listDatabases": 1, "nameOnly": true}).await?;
    let databases = listed.get_array("databases").map(Vec::as_slice).unwrap_or_default();
    let mut all = Vec::new();
    for db in databases.iter().filter_map(|db| db.as_document()?.get_str("name").ok()) {
        let ask = doc! {"listCollections": 1, "nameOnly": true, "filter": {"type": "collection"}};
        for listed in server.collect(cancel, db, ask).await? {
            let Ok(name) = listed.get_str("name") else { continue };
            let stats = server.command(cancel, db, doc! {"collStats": name}).await?;
            let bytes_of = |key: &str| stats.get(key).and_then(number).unwrap_or(0.0).max(0.0) as u64;
            let bytes = bytes_of("storageSize").saturating_add(bytes_of("totalIndexSize"));
            all.push(Found { db: db.to_owned(), name: name.to_owned(), bytes });
        }
    }
    Ok(all)
}

/// Validates one, and counts it.
async fn one(ctx: &Context, server: &Server, found: Found, share: u64, done: &AtomicU64) -> Result<()> {
    let shown = escape(&format!("{}.{}", found.db, found.name));
    let (database, name) = (server.client().database(&found.db), found.name.clone());
    let asked = async move { database.run_command(doc! {"validate": name}).await };
    // Without a limit: it reads all of the collection.
    let reply = server.call(&ctx.cancel, None, &format!("validating {shown}"), asked).await?;
    if reply.get_bool("valid").unwrap_or(false) || only_breaks_rules(&reply) {
        done.fetch_add(1, Relaxed);
        ctx.meter.add_bytes(share);
        return Ok(());
    }
    let errors = reply.get_array("errors").map(|e| Bson::Array(e.clone()).to_string()).unwrap_or_default();
    let errors: String = errors.chars().take(500).collect();
    let what = format!("the recovered collection {shown} is not valid: {}", escape(&errors));
    Err(Error::new(ErrorKind::Corrupt, what).hint("use another backup; --no-check restores this one as it is"))
}

/// Whether nothing is wrong with a collection but documents that its validator would not let in today. From 6.0 on that is
/// an error of `validate`, too, known by its log id; it is what the collection was like.
fn only_breaks_rules(reply: &Document) -> bool {
    const LOG_ID: &str = "5363500";
    let errors = reply.get_array("errors").map(Vec::as_slice).unwrap_or_default();
    !errors.is_empty() && errors.iter().all(|error| error.as_str().is_some_and(|text| text.contains(LOG_ID)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_that_breaks_a_rule_is_no_damage() {
        let rule =
            "Detected one or more documents not compliant with the collection's schema. Check logs for log id 5363500.";
        assert!(only_breaks_rules(&doc! {"valid": false, "errors": [rule]}));
        assert!(!only_breaks_rules(&doc! {"valid": false, "errors": [rule, "index a is inconsistent"]}));
        assert!(!only_breaks_rules(&doc! {"valid": false, "errors": []}) && !only_breaks_rules(&doc! {"valid": false}));
    }

    #[test]
    fn the_work_is_shared_without_rest() {
        let of = |sizes: &[u64], work| {
            let all = sizes.iter().map(|bytes| Found { db: "a".into(), name: "b".into(), bytes: *bytes });
            shares(&all.collect::<Vec<_>>(), work)
        };
        assert_eq!(of(&[30, 10], 4), [3, 1]);
        assert_eq!(of(&[0, 0, 0], 10).iter().sum::<u64>(), 10);
        assert_eq!(of(&[u64::MAX, u64::MAX, 7], u64::MAX).iter().sum::<u64>(), u64::MAX);
        assert!(of(&[], 10).is_empty());
    }
}
