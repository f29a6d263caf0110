//! Indexes, built when every document is in place: first those that only order, last those that let documents expire.

use futures_util::{FutureExt, StreamExt, stream};
use mongodb::bson::doc;

use super::load::connections;
use super::plan::{Item, What};
use super::write::Writes;
use crate::artifact::bson::{self, tag};
use crate::artifact::raw::Raw;
use crate::domain::text::escape;
use crate::engine::Context;
use crate::error::{ErrorKind, Result};
use crate::mongo::oplog::catalogue::{as_built, create_indexes, is_ttl};
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
    let mut command = create_indexes(&item.to.collection, &specs);
    command.open(tag::DOCUMENT, "writeConcern").i32("w", 1).close();
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
