//! Indexes that were made in the time that is replayed, for servers that end by an invariant when they meet the making of
//! one in their own recovery (before 6.0, see [`super::index_builds`]).
//!
//! Such entries are replaced by ones that do nothing, and are noted here. When everything is replayed, the indexes that are
//! missing are built: those that the noted entries made, and none dropped, of the collections that are there.
//!
//! Builds that were under way in the copy are taken out and made anew, too. A member that resumes one may never become
//! primary: it waits for a vote that only a primary takes (4.4.2 under constant builds, seen several times). And the server
//! cannot be told that such a build was given up later.

use std::collections::BTreeMap;

use mongodb::bson::{RawBsonRef, RawDocument, RawDocumentBuf, cstr, doc, rawdoc};
use tokio_util::sync::CancellationToken;

use super::index_builds::COMMANDS;
use crate::artifact::bson::{Writer, tag};
use crate::artifact::raw::Raw;
use crate::domain::namespace::Namespace;
use crate::domain::text::{escape, quoted};
use crate::domain::timestamp::Timestamp;
use crate::engine::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::mongo::Server;
use crate::mongo::namespaces;
use crate::mongo::oplog::catalogue::{BUCKETS_PREFIX, Catalogue, Collection, as_built, create_indexes};
use crate::mongo::oplog::entry::{Entry, Op, OpKind, Uuid};

/// Entries that only change indexes which are there: the server replays them, and they count for those it does not have.
const CHANGES: [&str; 5] = ["dropIndexes", "deleteIndexes", "dropIndex", "deleteIndex", "collMod"];

/// What was noted of the entries so far.
#[derive(Default)]
pub struct RecordedIndexes {
    /// For each collection, in the order of the oplog: the operations.
    noted: BTreeMap<Uuid, Vec<(Timestamp, Vec<u8>)>>,
}

fn nonsense(what: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("a recorded entry {what}"))
}

impl RecordedIndexes {
    /// What is put into the oplog for `entry`.
    ///
    /// Errors: `Corrupt` and `Unsupported` for an entry that cannot be understood.
    pub fn take(&mut self, entry: RawDocumentBuf) -> Result<RawDocumentBuf> {
        let bytes = entry.as_bytes().to_vec();
        let parsed = Entry::parse(&bytes)?;
        if parsed.op.kind != OpKind::Command {
            return Ok(entry);
        }
        match parsed.op.command().map(|(name, _)| name).unwrap_or_default() {
            name if COMMANDS.contains(&name) => {
                self.note(parsed.ts, &parsed.op, &bytes);
                nothing_instead_of(&entry)
            }
            name if CHANGES.contains(&name) => {
                self.note(parsed.ts, &parsed.op, &bytes);
                Ok(entry)
            }
            "drop" => {
                parsed.op.ui.map(|uuid| self.noted.remove(&uuid));
                Ok(entry)
            }
            "applyOps" => self.of_transaction(parsed.ts, &parsed.op, entry),
            _ => Ok(entry),
        }
    }

    fn note(&mut self, ts: Timestamp, op: &Op<'_>, bytes: &[u8]) {
        if let Some(uuid) = op.ui {
            self.noted.entry(uuid).or_default().push((ts, bytes.to_vec()));
        }
    }

    /// A transaction may make collections and, while they are empty, their indexes.
    fn of_transaction(&mut self, ts: Timestamp, op: &Op<'_>, entry: RawDocumentBuf) -> Result<RawDocumentBuf> {
        let mut kept = Writer::default();
        kept.open(tag::ARRAY, "applyOps");
        let (mut n, mut all) = (0_usize, true);
        for nested in op.nested()? {
            let nested = nested?;
            let parsed = Op::parse(nested)?;
            let makes_index =
                parsed.kind == OpKind::Command && parsed.command().is_some_and(|(name, _)| COMMANDS.contains(&name));
            if makes_index {
                self.note(ts, &parsed, nested);
                all = false;
                continue;
            }
            kept.document(&n.to_string(), nested);
            n += 1;
        }
        if all {
            return Ok(entry);
        }
        kept.close();
        let kept = kept.finish();
        let mut new = RawDocumentBuf::new();
        for element in entry.iter() {
            let (name, value) = element.map_err(|e| nonsense("is not BSON").source(e))?;
            match value {
                RawBsonRef::Document(o) if name == "o" => {
                    let mut changed = RawDocumentBuf::new();
                    let list =
                        RawDocumentBuf::from_bytes(kept.clone()).map_err(|e| nonsense("is not BSON").source(e))?;
                    for element in list.iter().chain(o.iter()) {
                        let (name, value) = element.map_err(|e| nonsense("is not BSON").source(e))?;
                        if changed.get(name).ok().flatten().is_none() {
                            changed.append(name, value);
                        }
                    }
                    new.append(name, changed);
                }
                value => new.append(name, value),
            }
        }
        Ok(new)
    }

    /// Builds what is missing on `server`, a standalone which has replayed everything, and what it had not finished. Returns
    /// how many indexes that were.
    ///
    /// Errors: what the server says, but of an index that it had not finished: its build may have had to fail.
    pub async fn build(&self, ctx: &Context, server: &Server) -> Result<u64> {
        let listed = namespaces::list(server, &ctx.cancel).await?;
        let mut built = 0;
        for entry in listed.entries {
            let Some(uuid) = entry.uuid else { continue };
            let unfinished = take_unfinished(server, &ctx.cancel, &entry.ns).await?;
            let noted = self.noted.get(&uuid).map(Vec::as_slice).unwrap_or_default();
            if noted.is_empty() && unfinished.is_empty() {
                continue;
            }
            let options =
                Raw::from_bytes(entry.options).map_err(|e| nonsense("has options that are not BSON").source(e))?;
            let (namespace, timeseries) = match entry.ns.collection.strip_prefix(BUCKETS_PREFIX) {
                Some(name) => (Namespace::new(&entry.ns.db, name), true),
                None => (entry.ns.clone(), false),
            };
            let names: Vec<String> =
                unfinished.iter().filter_map(|spec| spec.get_str("name").map(str::to_owned)).collect();
            let mut catalogue = Catalogue::default();
            catalogue.add_collection(uuid, Collection::new(namespace, timeseries, options, unfinished, Some(0)));
            for (ts, bytes) in noted {
                // An entry, or an operation of a transaction: both say what they do in the same fields.
                catalogue.apply(*ts, &Op::parse(bytes)?)?;
            }
            let Some(collection) = catalogue.collection(&uuid) else { continue };
            built += missing(ctx, server, collection, &names).await?;
        }
        Ok(built)
    }
}

/// Drops the indexes that the server had begun to build and does not go on with, because it is a standalone. Returns their
/// specifications.
async fn take_unfinished(server: &Server, cancel: &CancellationToken, ns: &Namespace) -> Result<Vec<Raw>> {
    let mut taken = Vec::new();
    for spec in namespaces::unfinished_indexes(server, cancel, ns).await? {
        let spec = Raw::from_bytes(spec).map_err(|e| nonsense("has an index that is not BSON").source(e))?;
        let name = spec.get_str("name").unwrap_or_default().to_owned();
        let drop = doc! {"dropIndexes": &ns.collection, "index": name};
        server.command(cancel, &ns.db, drop).await?;
        taken.push(spec);
    }
    Ok(taken)
}

/// Builds those of its indexes that are not there. Of the `doubtful` ones nobody knows whether they can be built.
async fn missing(ctx: &Context, server: &Server, collection: &Collection, doubtful: &[String]) -> Result<u64> {
    let (db, name) = (collection.namespace.db.as_str(), collection.namespace.collection.as_str());
    let there = server.collect(&ctx.cancel, db, doc! {"listIndexes": name}).await?;
    let is_there = |wanted: &str| there.iter().any(|spec| spec.get_str("name").is_ok_and(|name| name == wanted));
    let missing = collection.indexes.iter().filter(|spec| spec.get_str("name").is_none_or(|name| !is_there(name)));
    let (unsure, sure): (Vec<&Raw>, Vec<&Raw>) = missing
        .partition(|spec| spec.get_str("name").is_some_and(|name| doubtful.iter().any(|doubtful| doubtful == name)));
    let mut built = 0;
    if !sure.is_empty() {
        build_these(ctx, server, collection, &sure).await?;
        built += sure.len() as u64;
    }
    for spec in unsure {
        let Err(e) = build_these(ctx, server, collection, &[spec]).await else {
            built += 1;
            continue;
        };
        if matches!(e.kind(), ErrorKind::Cancelled | ErrorKind::Unreachable) {
            return Err(e);
        }
        let index = spec.get_str("name").unwrap_or_default();
        ctx.meter.warn(format!("index {} was being built and is left out: {e}", quoted(index)));
    }
    Ok(built)
}

async fn build_these(ctx: &Context, server: &Server, collection: &Collection, specs: &[&Raw]) -> Result<()> {
    let (db, name) = (collection.namespace.db.as_str(), collection.namespace.collection.as_str());
    ctx.meter.set_phase(format!("building indexes of {}", escape(&collection.namespace.to_string())));
    let specs: Vec<Raw> = specs.iter().map(|spec| as_built(spec, &collection.options)).collect();
    let command = RawDocumentBuf::from_bytes(create_indexes(name, &specs).finish())
        .map_err(|e| nonsense("is not BSON").source(e))?;
    let database = server.client().database(db);
    let doing = format!("building indexes of {}", quoted(&collection.namespace.to_string()));
    server.call(&ctx.cancel, None, &doing, async move { database.run_raw_command(command).await }).await?;
    Ok(())
}

/// An entry that does nothing, at the same position.
fn nothing_instead_of(entry: &RawDocument) -> Result<RawDocumentBuf> {
    let mut nothing = RawDocumentBuf::new();
    for element in entry.iter() {
        let (name, value) = element.map_err(|e| nonsense("is not BSON").source(e))?;
        if ["ts", "t", "v", "wall"].contains(&name.as_str()) {
            nothing.append(name, value);
        }
    }
    nothing.append(cstr!("op"), "n");
    nothing.append(cstr!("ns"), "");
    nothing.append(cstr!("o"), rawdoc! {"msg": "the making of an index, which mongokeep did by itself"});
    Ok(nothing)
}

#[cfg(test)]
mod tests {
    use mongodb::bson::{Binary, Bson, Timestamp as BsonTimestamp, spec::BinarySubtype};

    use super::*;

    fn entry(o: mongodb::bson::Document, more: mongodb::bson::Document) -> RawDocumentBuf {
        let ui = Bson::Binary(Binary { subtype: BinarySubtype::Uuid, bytes: vec![1; 16] });
        let mut whole = doc! {
            "ts": BsonTimestamp { time: 7, increment: 1 }, "t": 1_i64, "v": 2_i64, "op": "c", "ns": "a.$cmd", "ui": ui, "o": o,
        };
        whole.extend(more);
        RawDocumentBuf::try_from(&whole).unwrap()
    }

    #[test]
    fn the_making_of_an_index_is_noted_and_nothing_else_is_changed() {
        let mut indexes = RecordedIndexes::default();
        let made = entry(doc! {"createIndexes": "x", "v": 2, "key": {"a": 1}, "name": "a_1"}, doc! {});
        let instead = indexes.take(made).unwrap();
        assert_eq!((instead.get_str("op").unwrap(), instead.get_timestamp("ts").unwrap().time), ("n", 7));
        let dropped = entry(doc! {"dropIndexes": "x", "index": "b_1"}, doc! {});
        assert_eq!(indexes.take(dropped.clone()).unwrap(), dropped);
        assert_eq!(indexes.noted[&[1; 16]].len(), 2);
        let gone = entry(doc! {"drop": "x"}, doc! {});
        indexes.take(gone).unwrap();
        assert!(indexes.noted.is_empty());
    }

    #[test]
    fn a_transaction_keeps_all_but_the_making_of_an_index() {
        let mut indexes = RecordedIndexes::default();
        let ui = Bson::Binary(Binary { subtype: BinarySubtype::Uuid, bytes: vec![2; 16] });
        let create = doc! {"op": "c", "ns": "a.$cmd", "ui": ui.clone(), "o": {"create": "y"}};
        let index = doc! {"op": "c", "ns": "a.$cmd", "ui": ui.clone(), "o": {"createIndexes": "y", "v": 2, "key": {"b": 1}, "name": "b_1"}};
        let insert = doc! {"op": "i", "ns": "a.y", "ui": ui, "o": {"_id": 1}};
        let more = doc! {"lsid": {"id": 1}, "txnNumber": 3_i64};
        let list = vec![create.clone(), index, insert.clone()];
        let taken = indexes.take(entry(doc! {"applyOps": list, "prepare": false}, more.clone())).unwrap();
        let kept = entry(doc! {"applyOps": [create, insert], "prepare": false}, more);
        assert_eq!(taken, kept);
        assert_eq!(indexes.noted[&[2; 16]].len(), 1);
    }
}
