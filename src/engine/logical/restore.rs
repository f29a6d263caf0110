//! Restoring: load, replay, index, in the order that cannot fail for reasons of order.
//!
//! Nothing is written before backup and target were looked at again and found as they were confirmed. From the first
//! write on, every way out says what state the target is in.

use std::collections::BTreeMap;

use mongodb::bson::{Bson, doc};

use super::confirmed::check_confirmed;
use super::doubles::Doubles;
use super::indexes;
use super::load::{Filling, load, rebound};
use super::open_backup::OpenBackup;
use super::plan::{Draft, Item, What, draft};
use super::replay::{CappedRules, Destination, Destinations, Loaded, inserted_until, replay};
use super::restore_state::{Replayed, RestoreState, Stage};
use super::users::Users;
use super::write::Writes;
use crate::domain::namespace::Namespace;
use crate::domain::pitr::MarkKind;
use crate::domain::restore::{PlannedAction, RestorePlan, RestoreRequest};
use crate::domain::text::count;
use crate::domain::timestamp::Timestamp;
use crate::engine::Context;
use crate::engine::contract::RestoreReport;
use crate::error::{Error, ErrorKind, Result};
use crate::mongo::oplog::catalogue::is_ttl;
use crate::mongo::oplog::entry::Uuid;
use crate::mongo::oplog::note;
use crate::mongo::{Server, majority};

/// Carries out `confirmed`: the plan that was shown for the same backup, target and request.
///
/// Errors: `Conflict` when more would be replaced than was confirmed (nothing is written then); anything later says in
/// its hint, and in the log, what state the target is in.
pub async fn restore(
    ctx: &Context,
    stored: &OpenBackup,
    target: &Server,
    request: &RestoreRequest,
    confirmed: &RestorePlan,
) -> Result<RestoreReport> {
    let until = stored.until();
    if confirmed.consistent_at_ts != until.if_known() {
        return Err(Error::new(ErrorKind::Conflict, "the plan was made for another moment")
            .hint("nothing was written; make the plan again"));
    }
    ctx.meter.set_phase("compare backup and target");
    let draft = draft(&ctx.cancel, stored, target, request).await?;
    check_confirmed(confirmed, &draft.plan).map_err(|e| {
        e.hint(format!("nothing was written; look at the new plan and confirm it: {}", request.command(confirmed)))
    })?;
    for warning in &draft.plan.warnings {
        ctx.meter.warn(warning.clone());
    }
    let standing = RestoreState::new(draft.items.iter().map(|i| i.to.clone()));
    let writes = Writes { server: target.clone(), cancel: ctx.cancel.clone(), takes: draft.takes };
    let done = execute(ctx, stored, &writes, request, draft, &standing).await;
    done.map_err(|e| {
        for line in standing.lines() {
            ctx.meter.warn(line);
        }
        standing.describe(e)
    })
}

async fn execute(
    ctx: &Context,
    stored: &OpenBackup,
    writes: &Writes,
    request: &RestoreRequest,
    draft: Draft,
    standing: &RestoreState,
) -> Result<RestoreReport> {
    let until = stored.until();
    let Draft { plan, survey, mut items, takes: _ } = draft;
    if request.no_ttl {
        items.iter_mut().for_each(without_ttl);
    }
    for open in &survey.open {
        let state = if open.prepared { "prepared" } else { "open" };
        ctx.meter.info(format!(
            "a transaction that began at oplog position {} was {state} at {}: its changes are left out",
            open.first_ts,
            until.in_words()
        ));
    }
    let replaced: BTreeMap<&Namespace, bool> =
        plan.namespaces.iter().map(|n| (&n.to, n.action == PlannedAction::Replace)).collect();
    let replaces = |item: &Item| replaced.get(&item.to).copied().unwrap_or(false);
    let (views, collections): (Vec<&Item>, Vec<&Item>) = items.iter().partition(|i| matches!(i.what, What::View(_)));
    let rules = CappedRules::of(&plan.target_version)?;
    let destinations = Destinations { capped: rules, ..destinations(stored, &collections) };
    let doubles = Doubles::find(ctx, stored, &destinations).await?;
    let fillings: Vec<Filling<'_>> =
        collections.iter().map(|item| Filling::new(item, replaces(item), stored, &doubles, rules)).collect();
    totals(ctx, stored, &fillings, items.len());

    let users = match plan.users_and_roles {
        true => Some(Users::read(ctx, stored, until).await?),
        false => None,
    };
    let what = match until == stored.manifest.consistent_at_ts {
        true => stored.manifest.name.clone(),
        false => format!("{} to {}", stored.manifest.name, until.in_words()),
    };
    ctx.meter.set_phase("mark the beginning in the oplog, wait for a majority of the members");
    mark(ctx, writes, MarkKind::RestoreBegan, &what).await?;
    let last = load(ctx, stored, writes, &fillings, standing).await?;
    let last = last_inserted(&collections, &last);
    let destinations = inserted_until(ctx, stored, destinations, last).await?;
    for filling in &fillings {
        rebound(writes, stored, filling).await?;
    }
    let operations = replay(ctx, stored, writes, destinations, standing).await?;
    standing.set_replayed(Replayed::All(until));
    // A plan counts entries, which is what is known beforehand.
    let done = count(operations);
    ctx.meter.info(format!(
        "replayed {done} operations of the oplog (an entry may hold several), up to {}",
        until.in_words()
    ));

    indexes::build(ctx, writes, &items).await?;
    // The server takes no view whose collation is not that of the views it is on, or that are on it: those that go must
    // be gone before others come.
    for ns in &plan.dropped {
        writes.drop(ns).await?;
        ctx.meter.info(format!("dropped {ns}, which the backup lacks"));
    }
    for view in &views {
        standing.set(&view.to, Stage::Partial);
        if replaces(view) {
            writes.drop(&view.to).await?;
        }
    }
    for view in &views {
        create_view(writes, view, replaces(view)).await?;
    }
    indexes::build_ttl(ctx, writes, &items).await?;
    for item in &items {
        standing.set(&item.to, Stage::Complete);
        ctx.meter.object_done();
    }
    ctx.meter.set_phase("wait for a majority of the members");
    mark(ctx, writes, MarkKind::RestoreEnded, &what).await?;
    // Last: the merge may end this very session.
    if let Some(users) = users {
        users.merge(ctx, writes, &plan.users_of, request.exact).await?;
    }
    Ok(RestoreReport {
        namespaces: items.len() as u64,
        documents: ctx.meter.snapshot().documents_done,
        operations,
        left_out: plan.left_out,
    })
}

fn without_ttl(item: &mut Item) {
    if let What::Collection { collection, .. } = &mut item.what {
        collection.indexes.retain(|i| !is_ttl(i));
        collection.options.remove("expireAfterSeconds");
    }
}

fn totals(ctx: &Context, stored: &OpenBackup, fillings: &[Filling<'_>], objects: usize) {
    let parts = || fillings.iter().flat_map(|f| &f.parts);
    let bytes = parts().map(|p| p.uncompressed).sum::<u64>() + stored.oplog_bytes();
    ctx.meter.set_totals(bytes, objects as u64, parts().map(|p| p.documents).sum());
}

fn destinations(stored: &OpenBackup, collections: &[&Item]) -> Destinations {
    let mut found = Destinations::default();
    for item in collections {
        let What::Collection { uuid, collection } = &item.what else { continue };
        let entry = collection.source.and_then(|n| stored.manifest.collections.get(n));
        let read_from = entry.map_or(Timestamp::MIN, |e| e.read_from_ts);
        let destination = Destination {
            capped: collection.is_capped(),
            resized: !collection.resized.is_empty(),
            collated: collection.options.contains_key("collation"),
            ..Destination::new(&item.storage_namespace(), read_from)
        };
        found.by_uuid.insert(*uuid, destination);
    }
    found
}

/// The last document loaded into each capped collection.
fn last_inserted(collections: &[&Item], last: &[(Namespace, Vec<u8>)]) -> BTreeMap<Uuid, Loaded> {
    last.iter()
        .filter_map(|(ns, document)| {
            let item = collections.iter().find(|i| i.to == *ns)?;
            let What::Collection { uuid, .. } = &item.what else { return None };
            Some((*uuid, Loaded::new(uuid, document.clone())?))
        })
        .collect()
}

async fn create_view(writes: &Writes, item: &Item, replaces: bool) -> Result<()> {
    let What::View(view) = &item.what else { return Ok(()) };
    let mut options = view.options.clone();
    if !options.contains_key("pipeline") {
        options.insert("pipeline", Bson::Array(Vec::new()));
    }
    writes.create(&item.to, &options, replaces).await
}

/// Notes in the target's oplog that a restore begins or has ended, for whoever records that oplog, and waits until a
/// majority of the members has everything up to there: before that, a rollback could undo a restore that was reported
/// as done.
async fn mark(ctx: &Context, writes: &Writes, kind: MarkKind, what: &str) -> Result<()> {
    if writes.server.hello().set_name.is_none() {
        return Ok(());
    }
    let limit = ctx.limits.majority_wait;
    let note = doc! {
        "appendOplogNote": 1,
        "data": note::of(kind, what),
        "writeConcern": {"w": "majority", "wtimeout": limit.as_millis() as i64},
    };
    let (server, cancel) = (&writes.server, &writes.cancel);
    let doing = "noting the restore in the oplog";
    let say = |text: String| ctx.meter.warn(text);
    let reply = majority::watched(server, cancel, limit, doing, &say, writes.note(note)).await?;
    match majority::not_confirmed(&reply) {
        None => Ok(()),
        Some(why) => {
            let missing = majority::missing(server, cancel).await;
            Err(majority::no_majority(server, doing, limit, missing.or(Some(why))))
        }
    }
}
