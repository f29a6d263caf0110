//! Indexes, built when every document is in place: first those that only order, last those that let documents expire.

use futures_util::{FutureExt, StreamExt, stream};
use mongodb::bson::doc;

use super::load::connections;
use super::plan::{Item, What};
use super::write::Writes;
use crate::artifact::bson::{self, Writer, tag};
use crate::artifact::raw::Raw;
use crate::domain::text::escape;
use crate::engine::Context;
use crate::error::{ErrorKind, Result};
use crate::mongo::oplog::catalogue::is_ttl;
use crate::mongo::{majority, namespaces};

/// Builds the indexes of all collections that no document expires by, several collections at once.
pub(super) async fn build(ctx: &Context, writes: &Writes, items: &[Item]) -> Result<()> {
    for item in items {
        if let What::Collection { collection, .. } = &item.what
            && collection.timeseries
        {
            drop_unasked(ctx, writes, item, &collection.indexes).await?;
        }
    }
    each(ctx, writes, items, |spec| !is_ttl(spec)).await
}

/// Servers since 6.3 give a new time series an index on its fields. One that the backup lacks goes: the backup may have one
/// on the same fields under another name, which the server would not make beside it (code 85).
async fn drop_unasked(ctx: &Context, writes: &Writes, item: &Item, wanted: &[Raw]) -> Result<()> {
    let (db, name) = (item.to.db.as_str(), item.to.collection.as_str());
    let found = namespaces::indexes(&writes.server, &ctx.cancel, db, name.into()).await?.unwrap_or_default();
    for spec in found {
        let Some(index) = bson::get(&spec, "name").and_then(|e| e.str()) else { continue };
        if wanted.iter().any(|w| w.get_str("name") == Some(index)) {
            continue;
        }
        let doing = format!("dropping index {index} of {}, which the backup lacks", item.to);
        match writes.command(db, &doing, doc! {"dropIndexes": name, "index": index}).await {
            Ok(_) => ctx
                .meter
                .info(format!("index {index} of {}, which the server made and the backup lacks, is dropped", item.to)),
            // The role `restore` does not allow it; without an index of the same fields it does not matter.
            Err(e) if e.kind() == ErrorKind::Denied => {
                ctx.meter.warn(format!("index {index} of {} is one that the backup lacks; {e}", item.to));
            }
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Builds the others, and sets the expiry of whole collections. From then on the target deletes what is too old.
pub(super) async fn build_ttl(ctx: &Context, writes: &Writes, items: &[Item]) -> Result<()> {
    each(ctx, writes, items, is_ttl).await?;
    for item in items {
        let What::Collection { collection, .. } = &item.what else { continue };
        if let Some(seconds) = collection.options.value("expireAfterSeconds") {
            let command = doc! {"collMod": item.to.collection.as_str(), "expireAfterSeconds": seconds};
            writes.command(&item.to.db, &format!("setting the expiry of {}", item.to), command).await?;
        }
    }
    Ok(())
}

async fn each(ctx: &Context, writes: &Writes, items: &[Item], wanted: fn(&Raw) -> bool) -> Result<()> {
    let mut tasks = Vec::new();
    for item in items {
        let What::Collection { collection, .. } = &item.what else { continue };
        let wanted = collection.indexes.iter().filter(|i| wanted(i));
        let specs: Vec<Raw> = wanted.map(|i| as_built(i, &collection.options)).collect();
        if !specs.is_empty() {
            tasks.push(create(ctx, writes, item, specs).boxed());
        }
    }
    let mut running = stream::iter(tasks).buffer_unordered(connections(ctx));
    while let Some(done) = running.next().await {
        done?;
    }
    Ok(())
}

async fn create(ctx: &Context, writes: &Writes, item: &Item, specs: Vec<Raw>) -> Result<()> {
    ctx.meter.set_phase(format!("build indexes of {}", item.to));
    // One command scans the collection once for all of them.
    let mut command = Writer::default();
    command.str("createIndexes", &item.to.collection).open(tag::ARRAY, "indexes");
    for (n, spec) in specs.iter().enumerate() {
        command.document(&n.to_string(), spec.as_bytes());
    }
    command.close().open(tag::DOCUMENT, "writeConcern").i32("w", 1).close();
    // By itself the server waits for every member that votes, also for one that is down: for ever. The end of a restore
    // needs a majority anyway.
    if writes.server.hello().set_name.is_some() {
        command.str("commitQuorum", "majority");
    }
    let doing = format!("building the indexes of {}", escape(&item.to.to_string()));
    let say = |text: String| ctx.meter.warn(text);
    let building = writes.raw(&item.to.db, &doing, command.finish());
    majority::watched(&writes.server, &writes.cancel, ctx.limits.majority_wait, &doing, &say, building).await?;
    Ok(())
}

/// A specification as `createIndexes` takes it. An index without a collation would inherit that of its collection.
fn as_built(spec: &Raw, options: &Raw) -> Raw {
    let mut spec = spec.clone();
    spec.remove("ns");
    // One of version 1 has none, and inherits none.
    let old = spec.get("v").and_then(|e| e.number()).is_some_and(|v| v < 2.0);
    if options.contains_key("collation") && !spec.contains_key("collation") && !old {
        spec.insert("collation", doc! {"locale": "simple"});
    }
    spec
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_does_not_inherit_a_collation() {
        let plain = Raw::from(doc! {"v": 2, "key": {"a": 1}, "name": "a_1", "hidden": true, "ns": "x.y"});
        let collated = Raw::from(doc! {"collation": {"locale": "de"}});
        let built = as_built(&plain, &collated);
        assert_eq!(
            built,
            doc! {"v": 2, "key": {"a": 1}, "name": "a_1", "hidden": true, "collation": {"locale": "simple"}}
        );
        assert!(!as_built(&plain, &Raw::default()).contains_key("collation"));
        let old = Raw::from(doc! {"v": 1, "key": {"a": 1}, "name": "a_1"});
        assert_eq!(as_built(&old, &collated), old);
        let own = Raw::from(doc! {"v": 2, "key": {"a": 1}, "name": "a_1", "collation": {"locale": "fr"}});
        assert_eq!(as_built(&own, &collated), own);
    }
}
