//! What a backup holds, read back: definitions, the oplog, and the catalogue at a position.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use futures_util::{FutureExt, StreamExt, stream};
use tokio_util::sync::CancellationToken;

use super::foreign::Foreign;
use super::manifest::{CollectionEntry, LogicalManifest};
use super::metadata::Definition;
use super::read_by_name::NamesRead;
use super::staging::is_staging;
use super::user_collections;
use super::validate::validate;
use crate::artifact::keys::Keys;
use crate::artifact::layout::BackupRoot;
use crate::artifact::manifest::ObjectEntry;
use crate::artifact::read::{Documents, ReadOptions, read_small};
use crate::domain::backup::Model;
use crate::domain::key::Key;
use crate::domain::namespace::Namespace;
use crate::domain::restore::CollectionKind;
use crate::domain::service::EngineKind;
use crate::domain::text::escape;
use crate::domain::timestamp::Timestamp;
use crate::engine::backup_reader::read_manifest;
use crate::engine::contract::OplogTail;
use crate::engine::pitr::read_header;
use crate::error::{Error, ErrorKind, Result};
use crate::mongo::oplog::catalogue::{Catalogue, Collection};
use crate::mongo::oplog::entry::{Entry, OpKind, Uuid};
use crate::mongo::oplog::transactions::{Open, Transactions};
use crate::storage::Storage;

/// Definitions that are read at once: over a long line each waits for its answer, and a backup has one for each collection.
const DEFINITIONS_AT_ONCE: usize = 16;

/// A backup in a storage: where its objects are, and what its manifest says. Cheap to clone.
#[derive(Clone)]
pub struct OpenBackup {
    pub storage: Arc<dyn Storage>,
    pub root: BackupRoot,
    pub manifest: Arc<LogicalManifest>,
    /// What opens its objects. None for one that is not encrypted.
    pub(super) keys: Keys,
    pub(super) later: Option<Arc<OplogTail>>,
    /// Another tool made it.
    pub(super) foreign: Option<Arc<Foreign>>,
}

impl OpenBackup {
    /// The backup that `manifest` describes, in `storage`.
    pub fn new(storage: Arc<dyn Storage>, manifest: LogicalManifest) -> Result<Self> {
        let root = BackupRoot::new(&manifest.folder, &manifest.name)?;
        Ok(Self::below(storage, root, manifest))
    }

    /// The same where the manifest was found, whatever it says of its own place.
    pub(super) fn below(storage: Arc<dyn Storage>, root: BackupRoot, manifest: LogicalManifest) -> Self {
        Self { storage, root, manifest: Arc::new(manifest), keys: Keys::default(), later: None, foreign: None }
    }

    /// A backup of another tool, as `manifest` and `foreign` present it.
    pub fn of_other_tool(
        storage: Arc<dyn Storage>,
        root: BackupRoot,
        manifest: LogicalManifest,
        foreign: Foreign,
    ) -> Self {
        Self { foreign: Some(Arc::new(foreign)), ..Self::below(storage, root, manifest) }
    }

    /// With what opens its objects.
    #[must_use]
    pub fn with_keys(self, keys: Keys) -> Self {
        Self { keys, ..self }
    }

    /// With the UUIDs that its manifest does not have, in hex.
    #[must_use]
    pub fn with_uuids(mut self, uuids: &BTreeMap<Namespace, String>) -> Self {
        for entry in &mut Arc::make_mut(&mut self.manifest).collections {
            if let (None, Some(uuid)) = (&entry.uuid, uuids.get(&entry.namespace)) {
                entry.uuid = Some(uuid.clone());
            }
        }
        self
    }

    /// Whether it is one that is read here, whoever made it.
    pub(super) fn is_logical(&self) -> bool {
        self.manifest.model == Model::Logical && (self.manifest.engine == EngineKind::Native || self.foreign.is_some())
    }

    /// Reads the manifest below `root`.
    ///
    /// Errors: those of [`read_manifest`].
    pub async fn open(storage: Arc<dyn Storage>, root: &BackupRoot) -> Result<Self> {
        let manifest = read_manifest(storage.as_ref(), root).await?;
        Ok(Self::below(storage, root.clone(), manifest.body()?))
    }

    /// Errors: `Corrupt` when the manifest contradicts itself, so that nothing is left out or read twice for it.
    pub(super) fn check_manifest(&self) -> Result<()> {
        // Whoever presented it has looked.
        if self.foreign.is_some() {
            return Ok(());
        }
        let Some(what) = validate(&self.manifest, &self.root).into_iter().next() else { return Ok(()) };
        Err(Error::new(ErrorKind::Corrupt, format!("the manifest of {} contradicts itself: {what}", self.root.key()))
            .hint("use another backup; `backup verify` lists all that is wrong"))
    }

    /// With the slices that lead to a later moment.
    ///
    /// Errors: `Invalid` when that moment is before the backup's own, `Conflict` for slices of another replica set.
    pub fn followed_by(self, later: OplogTail) -> Result<Self> {
        if later.archive.replica_set_id != self.manifest.replica_set_id {
            let (name, set) = (escape(&self.manifest.name), escape(&later.archive.replica_set));
            return Err(Error::new(
                ErrorKind::Conflict,
                format!("backup {name} is of another replica set than the recorded oplog of {set}"),
            )
            .hint("choose a backup of the same replica set with --base"));
        }
        if later.until < self.manifest.consistent_at_ts {
            let (name, until) = (escape(&self.manifest.name), later.until);
            return Err(Error::invalid("time", format!("{until} is before the moment of backup {name}")));
        }
        Ok(Self { later: Some(Arc::new(later)), ..self })
    }

    /// The position that is restored: every change up to and including it.
    pub fn until(&self) -> Timestamp {
        self.later.as_ref().map_or(self.manifest.consistent_at_ts, |later| later.until)
    }

    /// The version of the server on which the last slice was recorded; `None` without slices. What is wrong with a slice
    /// is said where it is read.
    pub(super) async fn recorded_on(&self, cancel: &CancellationToken) -> Result<Option<String>> {
        let Some((later, last)) = self.later.as_ref().and_then(|later| Some((later, later.slices.last()?))) else {
            return Ok(None);
        };
        // PBM writes it down for no chunk.
        if later.archive.is_foreign() {
            return Ok(None);
        }
        let key = Key::new(&*last.key)?;
        let header = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(Error::cancelled()),
            header = read_header(later.storage.as_ref(), &key, last.size) => header,
        };
        match header {
            Ok((header, _)) => Ok(Some(header.server_version)),
            Err(e) if matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// To put the transactions of the stored oplog together.
    pub fn transactions(&self) -> Transactions {
        let read = self.manifest.collections.iter().map(|c| c.read_from_ts).filter(|ts| *ts > Timestamp::MIN).min();
        Transactions::default().settled_before(read.unwrap_or(self.manifest.consistent_at_ts))
    }

    /// The documents of one object.
    pub fn documents(&self, object: &ObjectEntry, options: ReadOptions) -> Result<Documents> {
        let key = self.root.key().join(&object.path)?;
        match &self.foreign {
            None => Ok(Documents::open(self.storage.clone(), key, object, &self.keys, options)),
            Some(foreign) => {
                let object = foreign.objects.get(&object.path).ok_or_else(|| not_presented(&object.path))?;
                Ok(Documents::open_foreign(self.storage.clone(), key, object, options))
            }
        }
    }

    /// Options and indexes of a collection, as they were recorded.
    pub async fn definition(&self, entry: &CollectionEntry) -> Result<Definition> {
        if let Some(foreign) = &self.foreign {
            let found = foreign.definitions.get(&entry.namespace).cloned();
            return found.ok_or_else(|| not_presented(&entry.namespace.to_string()));
        }
        let key = self.root.key().join(&entry.metadata.path)?;
        let bytes = read_small(self.storage.as_ref(), &key, &entry.metadata, &self.keys).await?;
        Definition::parse(&bytes)
            .map_err(|why| Error::new(ErrorKind::Corrupt, format!("{key} cannot be understood: {why}")))
    }

    /// What every collection is after position `until`.
    ///
    /// Errors: `Unsupported` when the oplog holds what cannot be replayed, `Corrupt`.
    pub async fn survey(&self, cancel: &CancellationToken, until: Timestamp) -> Result<Survey> {
        let mut catalogue = Catalogue::default();
        let collections = &self.manifest.collections;
        // By number, and boxed: otherwise the compiler does not see that the whole may go to another thread.
        let read = |n: usize| self.definition(&collections[n]).boxed();
        let mut definitions = stream::iter(0..collections.len()).map(read).buffered(DEFINITIONS_AT_ONCE);
        for (n, entry) in collections.iter().enumerate() {
            let definition = tokio::select! {
                biased;
                () = cancel.cancelled() => return Err(Error::cancelled()),
                definition = definitions.next() => definition,
            };
            if let Some(definition) = definition {
                add(&mut catalogue, n, entry, definition?)?;
            }
        }
        drop(definitions);
        let names = self.names_read();
        let own = self.manifest.consistent_at_ts;
        let state = (catalogue, self.transactions(), false, BTreeSet::new(), names);
        let (catalogue, transactions, users_changed, changed, names) = self
            .for_each_entry(cancel, state, move |state, document| {
                let (catalogue, transactions, users_changed, changed, names) = state;
                let entry = Entry::parse(document)?;
                if entry.ts > until {
                    return Ok(ControlFlow::Break(()));
                }
                transactions.feed(&entry, &mut |ts, op| {
                    *users_changed |= user_collections::are_followed(op);
                    if matches!(op.kind, OpKind::Update | OpKind::Delete) {
                        changed.extend(op.ui);
                    }
                    if ts <= own {
                        names.follow(ts, op);
                    }
                    catalogue.apply(ts, op)
                })?;
                Ok(ControlFlow::Continue(()))
            })
            .await?;
        catalogue.check_names()?;
        self.check_strangers(&catalogue)?;
        Ok(Survey { catalogue, open: transactions.open(), users_changed, changed, renamed: names.doubtful() })
    }

    /// What another tool read by its name. A backup of ours is read by UUID.
    fn names_read(&self) -> NamesRead {
        let entries = self.manifest.collections.iter().filter(|_| self.foreign.is_some());
        NamesRead::new(entries.filter_map(|e| {
            let uuid = parse_uuid(e.uuid.as_deref()?)?;
            Some((uuid, e.namespace.to_string(), e.bytes == 0))
        }))
    }

    /// A collection that was selected, has changes and is not in the backup: the backup is not what it claims to be.
    fn check_strangers(&self, catalogue: &Catalogue) -> Result<()> {
        let selection = &self.manifest.selection;
        // No backup holds what belongs to the server itself, or to Percona Backup for MongoDB beside it.
        let held = |ns: &Namespace| selection.selects(ns) && is_restorable(ns);
        match catalogue.strangers().find(|s| held(&s.last_name)) {
            None => Ok(()),
            Some(stranger) => Err(Error::new(
                ErrorKind::Corrupt,
                format!(
                    "the backup holds changes of {} (from oplog position {}), but not the collection itself",
                    escape(&stranger.last_name.to_string()),
                    stranger.first_ts
                ),
            )
            .hint("use another backup")),
        }
    }
}

/// The result of reading a stored oplog for its definitions.
#[derive(Debug)]
pub struct Survey {
    pub catalogue: Catalogue,
    /// Transactions open at the end: they are discarded.
    pub open: Vec<Open>,
    /// Users or roles came, changed or went.
    pub users_changed: bool,
    /// Collections of which documents changed or went, besides new ones that came.
    pub changed: BTreeSet<Uuid>,
    /// Collections of another tool's backup that may lack documents, with the position at which they lost their name.
    pub renamed: Vec<(String, Timestamp)>,
}

pub(super) fn not_presented(what: &str) -> Error {
    Error::new(ErrorKind::Internal, format!("nothing says how {} is read", escape(what)))
}

fn add(catalogue: &mut Catalogue, source: usize, entry: &CollectionEntry, definition: Definition) -> Result<()> {
    if entry.kind == CollectionKind::View {
        catalogue.add_view(entry.namespace.clone(), definition.options, Some(source));
        return Ok(());
    }
    let uuid = entry.uuid.as_deref().and_then(parse_uuid).ok_or_else(|| {
        let ns = escape(&entry.namespace.to_string());
        Error::new(ErrorKind::Corrupt, format!("the manifest lacks the UUID of {ns}"))
    })?;
    let timeseries = entry.kind == CollectionKind::Timeseries;
    let Definition { options, indexes } = definition;
    catalogue
        .add_collection(uuid, Collection::new(entry.namespace.clone(), timeseries, options, indexes, Some(source)));
    Ok(())
}

/// 32 hex digits.
pub fn parse_uuid(text: &str) -> Option<Uuid> {
    let mut uuid = [0; 16];
    if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    for (n, byte) in uuid.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * n..2 * n + 2)?, 16).ok()?;
    }
    Some(uuid)
}

/// Where the server itself keeps things that no backup restores as collections.
pub fn is_restorable(ns: &Namespace) -> bool {
    match ns.db.as_str() {
        "config" | "local" => false,
        // The feature compatibility version and the keys of a cluster are the target's own; users and roles are merged.
        "admin" => !ns.collection.starts_with("system.") && !ns.collection.starts_with("pbm") && !is_staging(ns),
        _ => ns.collection != "system.profile",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids() {
        let uuid = parse_uuid("00112233445566778899aabbccddeeff").unwrap();
        assert_eq!((uuid[0], uuid[1], uuid[15]), (0, 0x11, 0xff));
        assert!(parse_uuid("0011").is_none() && parse_uuid(&"é".repeat(16)).is_none());
        assert!(parse_uuid("+0112233445566778899aabbccddeeff").is_none());
    }
}
