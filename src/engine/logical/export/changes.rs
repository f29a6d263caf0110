//! The stored oplog as `mongorestore --oplogReplay` takes it.
//!
//! `mongorestore` applies entry by entry, refuses some commands and loses indexes over a rename. Definitions are
//! resolved into the metadata, and only changes of documents are left: out of committed transactions, in the order
//! of their commits, under the name their collection has at the end. Positions never go back; the operations of one
//! transaction share that of its commit, so that `--oplogLimit` takes all of them or none.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::ControlFlow;

use crate::artifact::bson::{self, Element, Writer, tag};
use crate::artifact::read::ReadOptions;
use crate::domain::timestamp::Timestamp;
use crate::engine::Context;
use crate::engine::logical::open_backup::OpenBackup;
use crate::engine::logical::replay::Destinations;
use crate::error::{self, Error, ErrorKind, Result};
use crate::mongo::oplog::apply::{cannot_be_mended, mending, not_mended, objects, zero_timestamps};
use crate::mongo::oplog::entry::{Entry, Op, OpKind, Uuid};
use crate::mongo::oplog::key::{collection_hash, document_hash};
use crate::mongo::oplog::modifiers::{self, Form, UpdateForms};

/// Updates of capped collections that are remembered to see whether their document is still there.
const UPDATES: usize = 1_000_000;

/// Documents of capped collections by their hash.
pub(super) type Keys = BTreeMap<Uuid, HashSet<u64>>;

/// What was written.
#[derive(Debug, Default, Clone)]
pub(super) struct Written {
    pub entries: u64,
    pub bytes: u64,
    /// Some are updates of paths.
    pub by_path: bool,
    /// What no server that takes these entries can be told: one such document.
    pub not_mended: Option<String>,
}

/// Writes the changes up to `until` to `file`. Updates of the documents in `gone` are left out; whole documents of the
/// collections in `recast` come after a delete.
pub(super) async fn write(
    ctx: &Context,
    stored: &OpenBackup,
    destinations: Destinations,
    gone: Keys,
    recast: HashSet<Uuid>,
    until: Timestamp,
    file: File,
) -> Result<Written> {
    let out = BufWriter::with_capacity(1 << 20, file);
    let sink = Sink { out, destinations, gone, recast, takes: source_forms(stored), written: Written::default() };
    let meter = ctx.meter.clone();
    let (_, mut sink) = stored
        .for_each_entry(&ctx.cancel, (stored.transactions(), sink), move |(transactions, sink), document| {
            meter.add_bytes(document.len() as u64);
            let entry = Entry::parse(document)?;
            if entry.ts > until {
                return Ok(ControlFlow::Break(()));
            }
            let wall = bson::get(document, "wall");
            transactions.feed(&entry, &mut |ts, op| sink.take(&Stamp { ts, term: entry.term, wall }, op))?;
            Ok(ControlFlow::Continue(()))
        })
        .await?;
    tokio::task::spawn_blocking(move || {
        let ended = sink.out.flush().and_then(|()| sink.out.get_ref().sync_all());
        ended.map(|()| sink.written).map_err(failed)
    })
    .await
    .map_err(|e| Error::new(ErrorKind::Internal, "writing oplog.bson").source(e))?
}

/// The forms of updates in which the source wrote its oplog, as far as it decides which others it is understood with.
fn source_forms(stored: &OpenBackup) -> UpdateForms {
    let mut numbers = stored.manifest.server_version.split(['.', '-']).map(|n| n.parse::<u32>().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    match UpdateForms::taken_by([next(), next(), next()], Some(&stored.manifest.fcv)) {
        UpdateForms::Modifiers => UpdateForms::Modifiers,
        // Differences are taken by every server from 5.0 on; updates of paths, recorded before an upgrade, not by the latest.
        UpdateForms::Both | UpdateForms::Differences => UpdateForms::Both,
    }
}

fn failed(e: std::io::Error) -> Error {
    error::io("writing oplog.bson", e)
}

/// When an operation takes effect: taken from the entry that makes it do so.
struct Stamp<'a> {
    ts: Timestamp,
    term: Option<i64>,
    wall: Option<Element<'a>>,
}

struct Sink {
    out: BufWriter<File>,
    destinations: Destinations,
    gone: Keys,
    recast: HashSet<Uuid>,
    /// What the server that wrote the oplog takes, and those it is exported for first of all.
    takes: UpdateForms,
    written: Written,
}

impl Sink {
    fn take(&mut self, stamp: &Stamp<'_>, op: &Op<'_>) -> Result<()> {
        let word = match op.kind {
            OpKind::Insert => "i",
            OpKind::Update => "u",
            OpKind::Delete => "d",
            OpKind::Command | OpKind::Noop => return Ok(()),
        };
        let Some((uuid, destination)) = self.destinations.find(op) else { return Ok(()) };
        if self.destinations.leaves_out(destination, stamp.ts, op.kind, key(&uuid, op)) {
            return Ok(());
        }
        // `mongorestore` makes an update of a missing document insert it; what has rolled out must not come back.
        if op.kind == OpKind::Update
            && stamp.ts <= destination.inserted_until
            && self.gone.get(&uuid).is_some_and(|gone| gone.contains(&key(&uuid, op)))
        {
            return Ok(());
        }
        let ns = destination.ns.clone();
        let whole = op.kind == OpKind::Insert || is_whole(op);
        let mut word = word;
        // The document that was read may have the same `_id` in another form, which a whole document cannot replace.
        if let (true, true, Some(id)) = (whole, self.recast.contains(&uuid), op.id()) {
            let mut w = begin(stamp, "d", &ns, id.value.len());
            w.open(tag::DOCUMENT, "o").raw(id.tag, b"_id", id.value).close();
            self.put(w)?;
            word = "i";
        }
        for o in &objects(op, self.takes)?.objects {
            let mut w = begin(stamp, word, &ns, o.len() + op.o2.map_or(0, <[u8]>::len));
            w.document("o", o);
            if let ("u", Some(o2)) = (word, op.o2) {
                w.document("o2", o2);
            }
            self.put(w)?;
        }
        self.written.by_path |= op.kind == OpKind::Update && modifiers::form(op.o)? == Form::Modifiers;
        // A server that stores a whole document replaces these by the present time: they are set once more.
        if whole && let Some(field) = cannot_be_mended(&zero_timestamps(op.o), self.takes) {
            self.written.not_mended.get_or_insert_with(|| not_mended(&ns, field));
        }
        if let (Some(o), Some(id)) = (mending(op, self.takes)?, op.id()) {
            let mut w = begin(stamp, "u", &ns, o.len());
            w.document("o", &o).open(tag::DOCUMENT, "o2").raw(id.tag, b"_id", id.value).close();
            self.written.by_path |= self.takes == UpdateForms::Modifiers;
            self.put(w)?;
        }
        Ok(())
    }

    fn put(&mut self, w: Writer) -> Result<()> {
        let entry = w.finish();
        self.out.write_all(&entry).map_err(failed)?;
        self.written.entries += 1;
        self.written.bytes += entry.len() as u64;
        Ok(())
    }
}

fn begin(stamp: &Stamp<'_>, word: &str, ns: &str, size: usize) -> Writer {
    let mut w = Writer::with_capacity(size + 160);
    let mut ts = [0; 8];
    ts[..4].copy_from_slice(&stamp.ts.i.to_le_bytes());
    ts[4..].copy_from_slice(&stamp.ts.t.to_le_bytes());
    w.raw(tag::TIMESTAMP, b"ts", &ts);
    w.raw(tag::INT64, b"t", &stamp.term.unwrap_or(1).to_le_bytes());
    w.raw(tag::INT64, b"v", &2_i64.to_le_bytes());
    w.str("op", word).str("ns", ns);
    if let Some(wall) = &stamp.wall {
        w.element(wall);
    }
    w
}

/// Whether an update replaces the whole document.
fn is_whole(op: &Op<'_>) -> bool {
    op.kind == OpKind::Update && bson::get(op.o, "_id").is_some()
}

/// The collections in which an `_id` may come back in another form that the server holds equal: under a collation, or
/// as a number (or text) of another type.
pub(super) async fn recast(
    ctx: &Context,
    stored: &OpenBackup,
    destinations: &Destinations,
    until: Timestamp,
) -> Result<HashSet<Uuid>> {
    let (_, forms) = stored
        .for_each_entry(&ctx.cancel, (stored.transactions(), Forms::new()), move |(transactions, forms), document| {
            let entry = Entry::parse(document)?;
            if entry.ts > until {
                return Ok(ControlFlow::Break(()));
            }
            transactions.feed(&entry, &mut |_, op| {
                if let (true, Some(uuid), Some(id)) = (op.kind == OpKind::Insert || is_whole(op), op.ui, op.id()) {
                    *forms.entry(uuid).or_default() |= form(&id);
                }
                Ok(())
            })?;
            Ok(ControlFlow::Continue(()))
        })
        .await?;
    let several = forms.into_iter().filter(|(uuid, forms)| {
        // A capped collection is filled in order and never deleted from; an `_id` cannot come back in it.
        let Some(destination) = destinations.by_uuid.get(uuid).filter(|d| !d.capped) else { return false };
        let texts = destination.collated && forms & TEXT != 0;
        texts || (forms & NUMBERS).count_ones() > 1 || forms & OTHERS != 0
    });
    Ok(several.map(|(uuid, _)| uuid).collect())
}

/// By collection: the types of `_id` that are stored.
type Forms = BTreeMap<Uuid, u8>;

/// Types of numbers: two of them may be one `_id`.
const NUMBERS: u8 = 0b0000_1111;
/// Symbols are texts; documents may hold numbers.
const OTHERS: u8 = 0b0001_0000;
/// Several texts may be one under a collation.
const TEXT: u8 = 0b0010_0000;

fn form(id: &Element<'_>) -> u8 {
    match id.tag {
        tag::DOUBLE => 1,
        tag::INT32 => 2,
        tag::INT64 => 4,
        tag::DECIMAL => 8,
        tag::STRING => TEXT,
        tag::SYMBOL | tag::DOCUMENT | tag::ARRAY | tag::CODE_WITH_SCOPE => OTHERS,
        _ => 0,
    }
}

fn key(uuid: &Uuid, op: &Op<'_>) -> u64 {
    op.id().map_or_else(|| collection_hash(uuid), |id| document_hash(uuid, &id))
}

/// Documents of capped collections that are updated between the position their collection was read from and the last
/// insert that was read, and that were not read: they have rolled out.
pub(super) async fn rolled_out(
    ctx: &Context,
    stored: &OpenBackup,
    destinations: &Destinations,
    until: Timestamp,
) -> Result<Keys> {
    let windows: BTreeMap<Uuid, (Timestamp, Timestamp)> = destinations
        .by_uuid
        .iter()
        .filter(|(_, d)| d.capped && d.inserted_until > d.read_from)
        .map(|(uuid, d)| (*uuid, (d.read_from, d.inserted_until)))
        .collect();
    if windows.is_empty() {
        return Ok(Keys::new());
    }
    let (_, mut updated) = stored
        .for_each_entry(&ctx.cancel, (stored.transactions(), Keys::new()), move |(transactions, found), document| {
            let entry = Entry::parse(document)?;
            if entry.ts > until {
                return Ok(ControlFlow::Break(()));
            }
            transactions.feed(&entry, &mut |ts, op| {
                let Some(uuid) = op.ui.filter(|_| op.kind == OpKind::Update) else { return Ok(()) };
                if windows.get(&uuid).is_some_and(|(from, to)| ts > *from && ts <= *to) {
                    let keys = found.entry(uuid).or_default();
                    keys.insert(key(&uuid, op));
                    if keys.len() > UPDATES {
                        return Err(Error::new(ErrorKind::Unsupported, "a capped collection has too many updates"));
                    }
                }
                Ok(())
            })?;
            Ok(ControlFlow::Continue(()))
        })
        .await?;
    for (uuid, keys) in &mut updated {
        let name: String = uuid.iter().map(|b| format!("{b:02x}")).collect();
        let entry = stored.manifest.collections.iter().find(|c| c.uuid.as_deref() == Some(&name));
        for part in entry.iter().flat_map(|entry| &entry.parts) {
            let mut documents =
                stored.documents(part, ReadOptions { batch_bytes: 1 << 20, ..ReadOptions::default() })?;
            loop {
                let next = tokio::select! {
                    biased;
                    () = ctx.cancel.cancelled() => return Err(Error::cancelled()),
                    next = documents.next() => next,
                };
                let Some(batch) = next.transpose()? else { break };
                for document in batch.documents() {
                    if let Some(id) = bson::get(document, "_id") {
                        keys.remove(&document_hash(uuid, &id));
                    }
                }
            }
        }
    }
    Ok(updated)
}
