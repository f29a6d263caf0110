//! What every collection is called, and what its options and indexes are, after an oplog range.
//!
//! `applyOps` rejects index builds, aborts a server for some creates and loses indexes over a rename, so that no
//! definition is ever replayed. Instead this follows them: it starts from what a backup recorded and applies every
//! definition change to that, by UUID. A restore then creates each surviving collection once, as it is at the end.
//!
//! The range begins before the definitions were recorded, so that some of its changes are in them already. Every rule
//! here therefore sets a state instead of changing one (the last writer of a name, an option, an index wins), which
//! gives the same end whether a change had been seen or not.

use std::collections::{BTreeMap, BTreeSet};

use super::diff;
use super::entry::{Op, OpKind, Uuid, is_bookkeeping, is_ignored_command, unknown};
use super::modifiers;
use crate::artifact::bson::tag;
use crate::artifact::raw::Raw;
use crate::domain::namespace::Namespace;
use crate::domain::text::escape;
use crate::domain::timestamp::Timestamp;
use crate::error::{Error, ErrorKind, Result};

mod bounds;
mod collmod;
mod index;
#[cfg(test)]
mod tests;
mod timeseries;

pub use bounds::{Bounds, Resize};
pub use index::{as_built, create_indexes, is_ttl};
pub use timeseries::{BUCKETS_PREFIX, MIXED};

/// A collection or time series that is alive.
#[derive(Debug, Clone, PartialEq)]
pub struct Collection {
    /// For a time series the name people use, not that of its buckets.
    pub namespace: Namespace,
    pub timeseries: bool,
    /// As the `create` command takes them.
    pub options: Raw,
    /// All but the one on `_id` that every collection has; of a time series, in terms of its fields.
    pub indexes: Vec<Raw>,
    /// Of a capped collection: what it could hold when it was recorded or created, and every change of that since.
    pub bounds: Bounds,
    pub resized: Vec<Resize>,
    /// Of a capped collection: the first insert into it that the oplog has.
    pub first_insert: Option<Timestamp>,
    /// Which of the backup's collections it is; `None`: created within the range, so that the oplog holds it whole.
    pub source: Option<usize>,
}

impl Collection {
    /// As it was recorded or created.
    pub fn new(
        namespace: Namespace,
        timeseries: bool,
        options: impl Into<Raw>,
        indexes: Vec<Raw>,
        source: Option<usize>,
    ) -> Self {
        let options = options.into();
        let bounds = Bounds::of(&options);
        Self { namespace, timeseries, options, indexes, bounds, resized: Vec::new(), first_insert: None, source }
    }

    /// Whether documents roll out of it, in the order in which they came. Out of a clustered one none do, whatever bounds a
    /// `convertToCapped` gave it (tried on 6.0.5).
    pub fn is_capped(&self) -> bool {
        self.options.get_bool("capped").unwrap_or(false) && !self.options.contains_key("clusteredIndex")
    }

    /// The options that `create` takes, and the bounds that only `convertToCapped` can give afterwards: no `create` takes a
    /// size for a clustered collection (code 6049200).
    pub fn for_create(&self) -> (Raw, Option<Bounds>) {
        let (mut options, bounds) = (self.options.clone(), Bounds::of(&self.options));
        if !options.contains_key("clusteredIndex") || bounds.size.is_none() {
            return (options, None);
        }
        for key in ["capped", "size", "max"] {
            options.remove(key);
        }
        (options, Some(bounds))
    }

    /// What it could hold after position `ts`.
    pub fn bounds_at(&self, ts: Timestamp) -> Bounds {
        self.resized.iter().filter(|r| r.ts <= ts).fold(self.bounds.clone(), Bounds::after)
    }

    /// Bounds that push out nothing that it held at any position up to `ts`.
    pub fn widest_bounds(&self, ts: Timestamp) -> Bounds {
        let each = self.resized.iter().map(|r| r.ts).filter(|t| *t <= ts);
        each.fold(self.bounds.clone(), |widest, t| widest.widest(&self.bounds_at(t)))
    }

    /// Bounds to load `documents` of `bytes` with, read of a capped collection before `ts`.
    ///
    /// Bounds that are made narrower push nothing out before the next insert, so that there may be more than they hold: such
    /// a collection needs wider ones. Where something was inserted, more was read than it ever held at once, for it rolled
    /// over meanwhile; then its own bounds push out what they did there.
    pub fn bounds_to_load(&self, documents: u64, bytes: u64, ts: Timestamp) -> Bounds {
        let widest = self.widest_bounds(ts);
        let stood_still = self.first_insert.is_none_or(|first| first > ts);
        if stood_still || !self.resized.is_empty() { widest.keeping(documents, bytes) } else { widest }
    }

    /// Where its documents really are.
    pub fn storage_namespace(&self) -> Namespace {
        if self.timeseries {
            Namespace::new(&self.namespace.db, format!("{BUCKETS_PREFIX}{}", self.namespace.collection))
        } else {
            self.namespace.clone()
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// `viewOn`, `pipeline` and perhaps `collation`.
    pub options: Raw,
    pub source: Option<usize>,
}

#[derive(Debug, Clone, PartialEq)]
enum State {
    Alive(Box<Collection>),
    Dropped,
    /// Its name is not UTF-8, so that no backup holds it and nothing can be restored under it. What is known of it is kept:
    /// it may get another name.
    Unnamed {
        name: Vec<u8>,
        collection: Option<Box<Collection>>,
    },
    /// Not recorded by the backup and not created in the range: excluded from the backup, or dropped later on.
    Unknown {
        last_name: Namespace,
        first_ts: Timestamp,
    },
}

/// See the module's documentation.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    by_uuid: BTreeMap<Uuid, State>,
    views: BTreeMap<Namespace, View>,
    unnamed_views: BTreeSet<Vec<u8>>,
}

/// A collection whose documents the range changes, but which nobody recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stranger {
    pub uuid: Uuid,
    pub last_name: Namespace,
    pub first_ts: Timestamp,
}

impl Catalogue {
    /// A collection as the backup recorded it. `namespace`, `options` and `indexes` of a time series are those of the
    /// time series itself; `uuid` is that of its buckets.
    pub fn add_collection(&mut self, uuid: Uuid, collection: Collection) {
        let indexes = collection.indexes.into_iter().filter(|i| !index::is_implied(i)).collect();
        let mut options = collection.options;
        normalise_options(&mut options);
        self.by_uuid.insert(uuid, State::Alive(Box::new(Collection { indexes, options, ..collection })));
    }

    pub fn add_view(&mut self, namespace: Namespace, options: impl Into<Raw>, source: Option<usize>) {
        self.views.insert(namespace, View { options: options.into(), source });
    }

    /// Follows one operation that takes effect at `ts`. Document changes only tell that a collection exists.
    ///
    /// Errors: `Unsupported` for a command nobody knows, `Corrupt` for one that makes no sense.
    pub fn apply(&mut self, ts: Timestamp, op: &Op<'_>) -> Result<()> {
        let at = |e: Error| e.context(format!("oplog position {ts}"));
        match op.kind {
            OpKind::Noop => Ok(()),
            OpKind::Insert | OpKind::Update | OpKind::Delete => {
                let odd = op.odd_target();
                let ns = odd.as_deref().map(like).or_else(|| op.namespace()).ok_or_else(|| nonsense(op)).map_err(at)?;
                if is_bookkeeping(&ns) {
                    return Ok(());
                }
                if op.kind == OpKind::Update {
                    modifiers::check(op.o).map_err(at)?;
                }
                if ns.collection == "system.views" && odd.is_none() {
                    return self.view_change(op).map_err(at);
                }
                let uuid = op.ui.ok_or_else(|| nonsense(op)).map_err(at)?;
                match odd {
                    Some(name) => self.know_unnamed(uuid, name),
                    None => self.know(ts, uuid, &ns),
                }
                if op.kind == OpKind::Insert
                    && let Some(collection) = self.alive(&uuid)
                    && collection.first_insert.is_none()
                    && collection.is_capped()
                {
                    collection.first_insert = Some(ts);
                }
                Ok(())
            }
            OpKind::Command => self.command(ts, op).map_err(at),
        }
    }

    /// The collection with this UUID, when it is alive.
    pub fn collection(&self, uuid: &Uuid) -> Option<&Collection> {
        match self.by_uuid.get(uuid) {
            Some(State::Alive(collection)) => Some(collection),
            _ => None,
        }
    }

    /// All collections that are alive, by UUID.
    pub fn collections(&self) -> impl Iterator<Item = (&Uuid, &Collection)> {
        self.by_uuid.iter().filter_map(|(uuid, state)| match state {
            State::Alive(collection) => Some((uuid, collection.as_ref())),
            _ => None,
        })
    }

    pub fn views(&self) -> &BTreeMap<Namespace, View> {
        &self.views
    }

    /// Collections that were not recorded and are not dropped by the end of the range.
    pub fn strangers(&self) -> impl Iterator<Item = Stranger> + '_ {
        self.by_uuid.iter().filter_map(|(uuid, state)| match state {
            State::Unknown { last_name, first_ts } => {
                Some(Stranger { uuid: *uuid, last_name: last_name.clone(), first_ts: *first_ts })
            }
            _ => None,
        })
    }

    /// The names, as bytes, of what has one at the end that is not UTF-8, or was made under one that was not kept.
    pub fn unnamed(&self) -> impl Iterator<Item = &[u8]> {
        let collections = self.by_uuid.values().filter_map(|state| match state {
            State::Unnamed { name, .. } => Some(name.as_slice()),
            _ => None,
        });
        collections.chain(self.unnamed_views.iter().map(Vec::as_slice))
    }

    /// Two things of one name cannot both be right.
    ///
    /// Errors: `Corrupt`, naming the namespace.
    pub fn check_names(&self) -> Result<()> {
        let mut names: Vec<&Namespace> =
            self.collections().map(|(_, c)| &c.namespace).chain(self.views.keys()).collect();
        names.sort();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            None => Ok(()),
            Some(pair) => Err(Error::new(
                ErrorKind::Corrupt,
                format!("after the stored oplog two things are called {}", escape(&pair[0].to_string())),
            )),
        }
    }

    fn know(&mut self, ts: Timestamp, uuid: Uuid, ns: &Namespace) {
        let state = self.by_uuid.entry(uuid).or_insert_with(|| State::Unknown { last_name: ns.clone(), first_ts: ts });
        if let State::Unknown { last_name, .. } = state
            && last_name != ns
        {
            *last_name = ns.clone();
        }
    }

    /// A change under a name that is not UTF-8. Of a collection that was recorded, it had that name before.
    fn know_unnamed(&mut self, uuid: Uuid, name: Vec<u8>) {
        match self.by_uuid.get(&uuid) {
            None | Some(State::Unknown { .. }) => self.lose_name(uuid, name),
            Some(State::Alive(_) | State::Dropped | State::Unnamed { .. }) => {}
        }
    }

    /// From here on it is called `name`, which is not UTF-8, or which a backup that did not hold it cannot give it.
    fn lose_name(&mut self, uuid: Uuid, name: Vec<u8>) {
        let collection = match self.by_uuid.remove(&uuid) {
            Some(State::Alive(collection)) => Some(collection),
            Some(State::Unnamed { collection, .. }) => collection,
            None | Some(State::Dropped | State::Unknown { .. }) => None,
        };
        self.by_uuid.insert(uuid, State::Unnamed { name, collection });
    }

    fn alive(&mut self, uuid: &Uuid) -> Option<&mut Collection> {
        match self.by_uuid.get_mut(uuid) {
            Some(State::Alive(collection)) => Some(collection),
            Some(State::Unnamed { collection, .. }) => collection.as_deref_mut(),
            _ => None,
        }
    }

    fn command(&mut self, ts: Timestamp, op: &Op<'_>) -> Result<()> {
        let (name, _) = op.command().ok_or_else(|| nonsense(op))?;
        if matches!(name, "startIndexBuild" | "abortIndexBuild") {
            return self.unbuilt(op);
        }
        if is_ignored_command(name) {
            return Ok(());
        }
        // Dropped collections have entries of their own; this one only closes them.
        if name == "dropDatabase" {
            return Ok(());
        }
        if !KNOWN_COMMANDS.contains(&name) {
            return Err(unknown(&format!("{} command", escape(name))));
        }
        let target = match name {
            "renameCollection" => op.command().and_then(|(_, e)| Namespace::parse(e.str()?)),
            _ => op.command_target(),
        };
        let odd = op.odd_target();
        let target = odd.as_deref().map(like).or(target).ok_or_else(|| nonsense(op))?;
        if is_bookkeeping(&target) {
            return Ok(());
        }
        if target.collection == "system.views" {
            if name == "drop" {
                self.views.retain(|ns, _| ns.db != target.db);
            }
            return Ok(());
        }
        let uuid = op.ui.ok_or_else(|| nonsense(op))?;
        let o = decode(op.o)?;
        match name {
            "create" => {
                self.create(uuid, target, o, odd);
                return Ok(());
            }
            "drop" => {
                self.by_uuid.insert(uuid, State::Dropped);
                return Ok(());
            }
            "renameCollection" => {
                if let Some(name) = odd {
                    self.know_unnamed(uuid, name);
                }
                return self.rename(ts, uuid, &o);
            }
            _ => match odd {
                Some(name) => self.know_unnamed(uuid, name),
                None => self.know(ts, uuid, &target),
            },
        }
        let Some(collection) = self.alive(&uuid) else { return Ok(()) };
        match name {
            "collMod" => {
                if let Some(to) = Bounds::of_collmod(&o).filter(|_| collection.is_capped()) {
                    collection.resized.push(Resize { ts, to });
                }
                collmod::apply(collection, &o)?;
                let beside = op.o2.map(decode).transpose()?;
                collmod::apply_beside(collection, beside.as_ref())
            }
            "createIndexes" => {
                let mut spec = o;
                spec.remove("createIndexes");
                index::set(collection, spec)
            }
            "commitIndexBuild" => {
                let specs = o.get("indexes").and_then(|e| e.array()).ok_or_else(|| nonsense(op))?;
                for spec in decode(specs)?.iter() {
                    index::set(collection, decode(spec.document().ok_or_else(|| nonsense(op))?)?)?;
                }
                Ok(())
            }
            _ => index::remove(collection, &o),
        }
    }

    /// Indexes that are not there: their build begins, or was given up. A tool that lists them all the same (PBM does) took
    /// one for done that was not; only `commitIndexBuild` makes it one.
    fn unbuilt(&mut self, op: &Op<'_>) -> Result<()> {
        let o = decode(op.o)?;
        let (Some(uuid), Some(specs)) = (op.ui, o.get("indexes").and_then(|e| e.array())) else { return Ok(()) };
        let specs = decode(specs)?;
        let Some(collection) = self.alive(&uuid) else { return Ok(()) };
        for spec in specs.iter().filter_map(|spec| spec.document()) {
            let name = decode(spec)?.get_text("name").map(<[u8]>::to_vec);
            collection.indexes.retain(|i| name.is_none() || i.get_text("name") != name.as_deref());
        }
        Ok(())
    }

    fn create(&mut self, uuid: Uuid, target: Namespace, mut options: Raw, odd: Option<Vec<u8>>) {
        // Recorded after its creation: what was recorded is at least as new.
        if matches!(self.by_uuid.get(&uuid), Some(State::Alive(_) | State::Unnamed { collection: Some(_), .. })) {
            return;
        }
        options.remove("create");
        options.remove("idIndex");
        let (namespace, timeseries) = match target.collection.strip_prefix(BUCKETS_PREFIX) {
            Some(name) if options.contains_key("timeseries") => {
                timeseries::from_bucket_options(&mut options);
                (Namespace::new(&target.db, name), true)
            }
            _ => (target.clone(), false),
        };
        normalise_options(&mut options);
        let created = Collection::new(namespace, timeseries, options, Vec::new(), None);
        self.by_uuid.insert(uuid, State::Alive(Box::new(created)));
        if let Some(name) = odd {
            self.lose_name(uuid, name);
        }
    }

    fn rename(&mut self, ts: Timestamp, uuid: Uuid, o: &Raw) -> Result<()> {
        let wrong = || Error::new(ErrorKind::Corrupt, "a rename without a valid target");
        let bytes = o.get_text("to").ok_or_else(wrong)?;
        match o.get("dropTarget") {
            None => {}
            Some(e) if e.tag == tag::BOOLEAN && !e.truthy() => {}
            Some(e) if e.tag == tag::BINARY => {
                self.by_uuid.insert(e.uuid().ok_or_else(wrong)?, State::Dropped);
            }
            // Servers before 4.2 did not say which collection was dropped.
            Some(_) => return Err(unknown("old form of a rename over another collection")),
        }
        let Ok(to) = std::str::from_utf8(bytes) else {
            self.lose_name(uuid, bytes.to_vec());
            return Ok(());
        };
        let to = Namespace::parse(to).ok_or_else(wrong)?;
        match self.by_uuid.remove(&uuid) {
            Some(State::Alive(mut collection) | State::Unnamed { collection: Some(mut collection), .. }) => {
                let name = match to.collection.strip_prefix(BUCKETS_PREFIX) {
                    Some(name) if collection.timeseries => Namespace::new(&to.db, name),
                    _ => to,
                };
                collection.namespace = name;
                self.by_uuid.insert(uuid, State::Alive(collection));
            }
            // No backup holds it: it had no name that one could have.
            Some(State::Unnamed { collection: None, .. }) => self.lose_name(uuid, bytes.to_vec()),
            other => {
                if let Some(other) = other {
                    self.by_uuid.insert(uuid, other);
                }
                self.know(ts, uuid, &to);
            }
        }
        Ok(())
    }

    /// Views are documents of `<db>.system.views`.
    fn view_change(&mut self, op: &Op<'_>) -> Result<()> {
        let bytes = op.id().and_then(|e| e.text()).ok_or_else(|| nonsense(op))?;
        let Ok(id) = std::str::from_utf8(bytes) else {
            match op.kind {
                OpKind::Delete => self.unnamed_views.remove(bytes),
                _ => self.unnamed_views.insert(bytes.to_vec()),
            };
            return Ok(());
        };
        let id = Namespace::parse(id).ok_or_else(|| nonsense(op))?;
        match op.kind {
            OpKind::Delete => {
                self.views.remove(&id);
            }
            OpKind::Insert => self.set_view(id, decode(op.o)?),
            _ => {
                let change = decode(op.o)?;
                let new = if change.contains_key("$v") {
                    let mut old = match self.views.get(&id) {
                        Some(view) => view.options.clone(),
                        // Of a time series, or dropped later on.
                        None => return Ok(()),
                    };
                    diff::apply_raw(&mut old, &change)?;
                    old
                } else {
                    change
                };
                self.set_view(id, new);
            }
        }
        Ok(())
    }

    fn set_view(&mut self, id: Namespace, mut options: Raw) {
        // The view over the buckets is part of a time series.
        if options.get_str("viewOn").is_some_and(|on| on.starts_with(BUCKETS_PREFIX)) {
            return;
        }
        options.remove("_id");
        let source = self.views.get(&id).and_then(|v| v.source);
        self.views.insert(id, View { options, source });
    }
}

const KNOWN_COMMANDS: [&str; 10] = [
    "create",
    "drop",
    "renameCollection",
    "collMod",
    "createIndexes",
    "commitIndexBuild",
    "dropIndexes",
    "deleteIndexes",
    "dropIndex",
    "deleteIndex",
];

/// A name that is not UTF-8, with replacement characters: good for looking at its beginning.
pub fn like(name: &[u8]) -> Namespace {
    let text = String::from_utf8_lossy(name);
    let (db, collection) = text.split_once('.').unwrap_or((&text, ""));
    Namespace::new(db, collection)
}

fn decode(bytes: &[u8]) -> Result<Raw> {
    Raw::from_bytes(bytes.to_vec())
        .map_err(|e| Error::new(ErrorKind::Corrupt, "a definition in the oplog cannot be read").source(e))
}

fn nonsense(op: &Op<'_>) -> Error {
    let name = op.command().map(|(name, _)| name).unwrap_or("document change");
    Error::new(ErrorKind::Corrupt, format!("the {} on {} makes no sense", escape(name), escape(op.ns)))
}

/// Options that say where or how a server keeps a collection, not what the collection is.
fn normalise_options(options: &mut Raw) {
    for key in ["temp", "uuid", "autoIndexId", "flags", "recordIdsReplicated"] {
        options.remove(key);
    }
    if options.get_document("changeStreamPreAndPostImages").is_some_and(|d| !d.get_bool("enabled").unwrap_or(false)) {
        options.remove("changeStreamPreAndPostImages");
    }
    if options.get_bool("recordPreImages") == Some(false) {
        options.remove("recordPreImages");
    }
    if options.get_document("validator").is_some_and(|v| v.is_empty()) {
        options.remove("validator");
    }
}
