//! A backup that PBM makes: asked for, followed to its end, and found in the storage before it counts as one.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::answers::{DescribedBackup, StartedBackup};
use super::chain;
use super::console::{Console, Recording};
use super::driven::{DrivenManifest, sets_of};
use super::program::{ASK_LIMIT, START_LIMIT};
use super::storage_section::{FOLDER, StorageSection};
use super::watch::OnMeter;
use crate::artifact::layout::BackupRoot;
use crate::artifact::manifest::Envelope;
use crate::domain::backup::{BackupType, ChainLink, Compression, Model};
use crate::domain::clock;
use crate::domain::namespace::{Pattern, Selection};
use crate::domain::service::EngineKind;
use crate::domain::storage::StorageConfig;
use crate::domain::text::{bytes, escape, quoted};
use crate::domain::timestamp::Timestamp;
use crate::engine::attempt::Claim;
use crate::engine::contract::{BackupOrder, Wanted};
use crate::engine::{Context, pbm_layout, stored_check};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::Storage;

/// Whether PBM can be told to make it.
///
/// Errors: `Unsupported`, naming what it cannot.
pub fn may_make(wanted: &Wanted<'_>) -> Result<()> {
    may_write(wanted.location, wanted.folder)?;
    selected(wanted.selection).map(drop)
}

/// Errors: `Unsupported` for a storage that PBM cannot be given, or that takes only what is encrypted.
pub fn may_write(location: &StorageConfig, folder: &str) -> Result<()> {
    if !location.encryption.is_none() {
        let what = "PBM writes nothing that age encrypts, and this storage takes only what is encrypted";
        return Err(Error::of_field(ErrorKind::Unsupported, "storage", what)
            .hint("choose a storage without --encrypt-to; a bucket can encrypt by itself what PBM writes"));
    }
    StorageSection::of(location, folder).map(drop)
}

/// Has PBM make one backup, and writes its manifest.
///
/// Errors: as [`crate::engine::contract::Engine::backup`].
pub async fn backup(
    ctx: &Context,
    storage: Arc<dyn Storage>,
    order: &BackupOrder,
    model: Model,
) -> Result<DrivenManifest> {
    let selected = selected(&order.selection)?;
    let root = BackupRoot::new(&order.folder, &order.name)?;
    ctx.meter.set_phase("starting");
    if ctx.cancel.is_cancelled() {
        return Err(Error::cancelled());
    }
    let claim = Claim::take(Arc::clone(&storage), root.clone(), &order.identity(false)).await?;
    let run = Run { ctx, storage, order, model, root, claim: &claim };
    run.or_clean_up(run.run(selected).await).await
}

/// Follows the backup that PBM makes, or has made meanwhile, for the attempt of `order`, whose process was killed. Only one
/// that the attempt itself noted is taken for its own; others that it may have begun are named.
///
/// Errors: as [`backup`].
pub async fn adopt(
    ctx: &Context,
    storage: Arc<dyn Storage>,
    order: &BackupOrder,
    model: Model,
) -> Result<Option<DrivenManifest>> {
    let root = BackupRoot::new(&order.folder, &order.name)?;
    let resumed = Claim::resume(Arc::clone(&storage), root.clone(), &order.attempt_id, &order.home_id).await?;
    let Some(claim) = resumed else { return Ok(None) };
    let run = Run { ctx, storage, order, model, root, claim: &claim };
    let began = claim.attempt().started_at;
    match claim.attempt().pbm_name.clone() {
        Some(name) => {
            ctx.meter.info(format!("PBM was at its backup {}: it is followed to its end", escape(&name)));
            run.or_clean_up(run.go_on(&name, began).await).await.map(Some)
        }
        None => {
            if let Err(e) = run.name_others(began).await {
                ctx.meter.warn(format!("whether PBM had begun could not be found out: {}", e.full()));
            }
            Ok(None)
        }
    }
}

struct Run<'a> {
    ctx: &'a Context,
    storage: Arc<dyn Storage>,
    order: &'a BackupOrder,
    model: Model,
    root: BackupRoot,
    claim: &'a Claim,
}

impl Run<'_> {
    async fn run(&self, selected: Vec<String>) -> Result<DrivenManifest> {
        let (ctx, order) = (self.ctx, self.order);
        let started_at = clock::now();
        ctx.meter.set_phase("asking PBM");
        let console = Console::open(ctx, &order.service).await?;
        // Without a configuration PBM does not even name its nodes.
        console.configure(&order.location, &order.folder, &Recording::Kept).await?;
        console.status(&["cluster"]).await.and_then(|status| console.must_have_agents(&status))?;
        console.wait_until_free().await?;
        let kind = self.kind(&console).await?;
        let started = self.start(&console, kind, &selected).await?;
        if let Err(e) = self.claim.note_pbm(&started.name).await {
            ctx.meter.warn(format!("it could not be noted which backup PBM makes: {e}"));
        }
        ctx.meter.info(format!("PBM calls it {}", escape(&started.name)));
        self.end_of(&console, &started.name, started_at).await
    }

    /// Goes on with the backup `name` of PBM.
    async fn go_on(&self, name: &str, started_at: DateTime<Utc>) -> Result<DrivenManifest> {
        let console = Console::open(self.ctx, &self.order.service).await?;
        self.end_of(&console, name, started_at).await
    }

    /// Waits for the end of the backup `name`, and makes a backup of mongokeep of it.
    async fn end_of(&self, console: &Console<'_>, name: &str, started_at: DateTime<Utc>) -> Result<DrivenManifest> {
        let ctx = self.ctx;
        let mut watcher = OnMeter::new(&ctx.meter);
        let mut follow = console.follow(&mut watcher);
        let described = follow.backup(name).await?;
        let made = self.finish(console, described, started_at).await;
        match made {
            // PBM is done with it, and the next daemon has more time to find it.
            Err(e) if ctx.leave.is_cancelled() => {
                let what = format!("PBM made its backup {}, and the next daemon goes on with it", escape(name));
                Err(Error::new(ErrorKind::LeftRunning, what).hint("mongokeep daemon run").source(e))
            }
            Err(e) => {
                // Nobody would know of it.
                self.delete(console, name).await;
                Err(e)
            }
            made => made,
        }
    }

    /// Says which backups PBM began since `began`: one of them may be that of the attempt, which nothing proves.
    async fn name_others(&self, began: DateTime<Utc>) -> Result<()> {
        let console = Console::open(self.ctx, &self.order.service).await?;
        let status = console.status(&["backups"]).await?;
        let snapshots = status.backups.map(|storage| storage.snapshot).unwrap_or_default();
        // PBM names them by their start, in seconds.
        let since = |name: &str| DateTime::parse_from_rfc3339(name).is_ok_and(|at| at.timestamp() >= began.timestamp());
        for snapshot in snapshots.iter().filter(|snapshot| since(&snapshot.name)) {
            let (name, status) = (escape(&snapshot.name), &snapshot.status);
            self.ctx.meter.warn(format!(
                "PBM's backup {name} ({status}) may have been begun by this attempt, which had not noted it: it is left alone; \
                 mongokeep storage sync lists it when it is done, pbm delete-backup {name} removes it"
            ));
        }
        Ok(())
    }

    /// Removes what the attempt wrote when nothing came of it.
    async fn or_clean_up(&self, made: Result<DrivenManifest>) -> Result<DrivenManifest> {
        if made.as_ref().is_err_and(|e| e.kind() != ErrorKind::LeftRunning) {
            self.ctx.meter.set_phase("removing what was written");
            if let Err(e) = self.claim.clean_up().await {
                self.ctx.meter.warn(format!("what this attempt wrote could not all be removed: {e}"));
            }
        }
        made
    }

    /// What is asked of PBM: its word for it, and whether it begins a chain.
    async fn kind(&self, console: &Console<'_>) -> Result<(&'static str, bool)> {
        Ok(match self.order.backup_type.is_incremental() {
            true => (pbm_layout::INCREMENTAL, chain::begins(self.ctx, console, self.order.backup_type).await?),
            false => (self.model.word(), false),
        })
    }

    async fn start(
        &self,
        console: &Console<'_>,
        (kind, begins_chain): (&str, bool),
        selected: &[String],
    ) -> Result<StartedBackup> {
        let mut arguments = vec!["backup".to_owned(), "--type".to_owned(), kind.to_owned()];
        arguments.extend(begins_chain.then(|| "--base".to_owned()));
        let (compression, level) = match self.order.compression {
            Compression::Zstd(level) => ("zstd", Some(level.to_string())),
            Compression::Gzip(level) => ("gzip", Some(level.to_string())),
            Compression::Foreign(word) => (word.word(), None),
            Compression::None => ("none", None),
        };
        arguments.extend(["--compression".to_owned(), compression.to_owned()]);
        if let Some(level) = level {
            arguments.extend(["--compression-level".to_owned(), level]);
        }
        if !selected.is_empty() {
            arguments.extend(["--ns".to_owned(), selected.join(",")]);
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        self.ctx.meter.set_phase("PBM begins");
        // Not cancelled half way: whether it began nobody would know.
        if self.ctx.cancel.is_cancelled() {
            return Err(Error::cancelled());
        }
        let never = tokio_util::sync::CancellationToken::new();
        console.program.call(&arguments, START_LIMIT, &never).await?.parse("backup")
    }

    async fn finish(
        &self,
        console: &Console<'_>,
        described: DescribedBackup,
        started_at: DateTime<Utc>,
    ) -> Result<DrivenManifest> {
        let (ctx, order) = (self.ctx, self.order);
        ctx.meter.set_phase("looking for it in the storage");
        let folder = pbm_folder(&order.folder);
        let (last_write, chain) = self.found(&folder, &described.name).await?;
        let never = tokio_util::sync::CancellationToken::new();
        let with = ["describe-backup", &described.name, "--with-collections"];
        let with_collections = match self.model {
            Model::Logical => console.program.call(&with, ASK_LIMIT, &never).await?.parse("backup")?,
            Model::Physical => described,
        };
        let manifest = self.manifest(console, with_collections, folder, (last_write, chain), started_at)?;
        if ctx.is_cancelled_by_person() {
            return Err(Error::cancelled());
        }
        ctx.meter.set_phase("writing the manifest");
        self.claim.must_hold().await?;
        let key = self.root.manifest()?;
        self.claim.began(&key);
        stored_check::put_checked(&self.storage, key, manifest.to_bytes()?.into()).await?;
        ctx.meter.info(format!(
            "consistent at {}: {} replica sets, {}",
            manifest.consistent_at_ts,
            manifest.replica_sets.len(),
            bytes(manifest.size_bytes)
        ));
        Ok(manifest)
    }

    /// The last position that the backup holds, and its place in a chain, from PBM's own description of it in the storage.
    ///
    /// Errors: `Corrupt` when it is not there: the nodes write somewhere else than this storage is.
    async fn found(&self, folder: &str, name: &str) -> Result<(Timestamp, Option<ChainLink>)> {
        let root = BackupRoot::pbm(folder, name)?;
        let description = pbm_layout::describe(&*self.storage, &root).await.map_err(|e| match e.kind() {
            ErrorKind::NotFound => {
                let place = format!("{}/{}", self.storage.place(), root.key());
                let what = format!("PBM made the backup {}, and {place} is not there", escape(name));
                Error::new(ErrorKind::Corrupt, what).hint(
                    "its agents write to another place than this storage is: a folder must be the same one on every host",
                )
            }
            _ => e,
        })?;
        let last_write = description.last_write().ok_or_else(|| {
            let what = format!("PBM does not say which moment its backup {} holds", escape(name));
            Error::new(ErrorKind::Corrupt, what).hint("use another backup")
        })?;
        Ok((last_write, pbm_layout::chain_link(&*self.storage, folder, &description).await?))
    }

    fn manifest(
        &self,
        console: &Console<'_>,
        described: DescribedBackup,
        pbm_folder: String,
        (last_write, chain): (Timestamp, Option<ChainLink>),
        started_at: DateTime<Utc>,
    ) -> Result<DrivenManifest> {
        let replica_sets = sets_of(&described);
        let names: Vec<&str> = replica_sets.iter().map(|set| set.name.as_str()).collect();
        let nodes: Vec<&str> = replica_sets.iter().map(|set| set.node.as_str()).collect();
        let size = |bytes: i64| u64::try_from(bytes).unwrap_or(0);
        let envelope = Envelope {
            server_version: described.mongodb_version.clone(),
            fcv: described.fcv.clone(),
            replica_set: names.join(","),
            // Its id PBM does not say.
            member: nodes.join(","),
            consistent_at_ts: last_write,
            uncompressed_bytes: size(described.size_uncompressed),
            size_bytes: size(described.size),
            pbm_name: Some(described.name.clone()),
            backup_type: match &chain {
                Some(link) if link.source.is_none() => BackupType::IncrementalBase,
                Some(_) => BackupType::Incremental,
                None => self.order.backup_type,
            },
            chain,
            ..self.order.envelope(EngineKind::Pbm, self.model, started_at)
        };
        let manifest = DrivenManifest {
            envelope,
            pbm_version: console.version.to_string(),
            pbm_type: described.kind,
            pbm_folder,
            replica_sets,
            users_and_roles: described.users_and_roles,
        };
        manifest.must_be_possible()?;
        Ok(manifest)
    }

    async fn delete(&self, console: &Console<'_>, name: &str) {
        let never = tokio_util::sync::CancellationToken::new();
        let deleted = console.program.call(&["delete-backup", name, "--yes"], START_LIMIT, &never).await;
        if let Err(e) = deleted {
            let name = escape(name);
            self.ctx.meter.warn(format!("PBM keeps a backup {name} that is no backup of mongokeep: {}", e.full()));
        }
    }
}

/// Where PBM writes to, as a folder of the storage.
pub fn pbm_folder(folder: &str) -> String {
    format!("{folder}/{FOLDER}")
}

/// What PBM is told of a selection: `db.collection` or `db.*`, each.
///
/// Errors: `Unsupported`, naming it, for what PBM cannot select.
pub fn selected(selection: &Selection) -> Result<Vec<String>> {
    if let Some(excluded) = selection.exclude.first() {
        let what = format!("PBM leaves nothing out: --exclude {} cannot be told to it", quoted(&excluded.to_string()));
        return Err(Error::new(ErrorKind::Unsupported, what).hint("choose what to include instead"));
    }
    selection.include.iter().map(namespaces).collect()
}

fn namespaces(pattern: &Pattern) -> Result<String> {
    let text = pattern.to_string();
    let (db, collection) = text.split_once('.').unwrap_or((&text, "*"));
    let is_plain = |name: &str| !name.contains(['*', '?', '\\', ',']);
    if is_plain(db) && (collection == "*" || is_plain(collection)) {
        return Ok(format!("{db}.{collection}"));
    }
    let what = format!("PBM selects whole databases and single collections, not {}", quoted(&text));
    Err(Error::new(ErrorKind::Unsupported, what).hint("--include DATABASE or DATABASE.COLLECTION, more than once"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(include: &[&str], exclude: &[&str]) -> Result<Vec<String>> {
        let patterns = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        selected(&Selection { include: patterns(include), exclude: patterns(exclude) })
    }

    #[test]
    fn what_pbm_can_select_is_told_in_its_words() {
        assert_eq!(of(&[], &[]).unwrap(), Vec::<String>::new());
        assert_eq!(of(&["shop", "a.b.c", "x.*"], &[]).unwrap(), ["shop.*", "a.b.c", "x.*"]);
        for (include, exclude) in [(&["sh*"][..], &[][..]), (&["a.b*"], &[]), (&["a"], &["a.b"])] {
            assert_eq!(of(include, exclude).unwrap_err().kind(), ErrorKind::Unsupported, "{include:?} {exclude:?}");
        }
    }
}
