//! A physical backup, from the claim on its name to its manifest.
//!
//! Files that a server writes are copied while it is locked against writes, and as little as possible then: before, what is
//! there is read without a lock, twice; under the lock only what has changed since is read again, or every file is cloned
//! where the file system can. The copy alone would lose writes that were acknowledged: whoever restores it recovers it first
//! (see [`super::recover`]), up to the position that is noted here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mongodb::bson::doc;
use tokio_util::sync::CancellationToken;

use super::clone;
use super::copy::{CopiedFile, Copier};
use super::data_folder::{self, FoundFile, Listing};
use super::index_builds;
use super::local_member::{self, LocalMember};
use super::manifest::{CopyMethod, PhysicalManifest};
use super::server_lock::{Keeper, Locked, Pulse};
use crate::artifact::codec::Codec;
use crate::artifact::layout::{BackupRoot, BlocksRoot};
use crate::domain::clock;
use crate::domain::pitr::OpTime;
use crate::domain::text::{self, escape};
use crate::domain::timestamp::Timestamp;
use crate::engine::attempt::{Claim, RENEW_INTERVAL};
use crate::engine::blocking::blocking;
use crate::engine::blocks::naming::Naming;
use crate::engine::blocks::sender::{Sender, Sent};
use crate::engine::blocks::{self, collector, left};
use crate::engine::contract::BackupOrder;
use crate::engine::{CONNECT_LIMIT, Context};
use crate::error::{Error, ErrorKind, Result};
use crate::mongo::sharding::{self, USE_PBM};
use crate::mongo::topology::{self, MemberState};
use crate::mongo::{Server, majority, oplog_source};
use crate::storage::Storage;

/// After this much was read again, another look without a lock saves more time than it takes.
const WORTH_ANOTHER_PASS: u64 = 256 << 20;
const PASSES: usize = 4;
/// How often the server is locked for a moment at which no index is being built.
const LOCK_TRIES: usize = 30;
/// One part in so many of a backup: if more was sent in vain, it is removed at once.
const WORTH_COLLECTING: u64 = 10;
/// What was running when an attempt ends badly gets this long to notice, before what it wrote is removed.
const STOP_LIMIT: Duration = Duration::from_millis(500);
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Makes one backup of the member on this host and returns its manifest, which is then in the storage.
///
/// Errors: as [`crate::engine::contract::Engine::backup`].
pub async fn backup(ctx: &Context, storage: Arc<dyn Storage>, order: &BackupOrder) -> Result<PhysicalManifest> {
    let root = BackupRoot::new(&order.folder, &order.name)?;
    ctx.meter.set_phase("starting");
    if ctx.cancel.is_cancelled() {
        return Err(Error::cancelled());
    }
    let claim = Arc::new(Claim::take(Arc::clone(&storage), root.clone(), &order.identity(true)).await?);
    let stop = ctx.cancel.child_token();
    let blocks = BlocksRoot::new(&order.folder)?;
    let run =
        Run { ctx, storage: Arc::clone(&storage), order, root, blocks, claim: Arc::clone(&claim), stop: stop.clone() };
    let renewing = async {
        loop {
            tokio::time::sleep(RENEW_INTERVAL).await;
            // A storage that does not answer now may do so the next time; who lost the name has lost it.
            match claim.renew().await {
                Err(e) if e.kind() == ErrorKind::Conflict => return e,
                _ => {}
            }
        }
    };
    let too_late = async {
        ctx.cancel.cancelled().await;
        tokio::time::sleep(STOP_LIMIT).await;
    };
    let outcome = tokio::select! {
        outcome = run.run() => outcome,
        error = renewing => Err(error),
        () = too_late => Err(Error::cancelled()),
    };
    let error = match outcome {
        Ok(manifest) => return Ok(manifest),
        Err(e) => e,
    };
    stop.cancel();
    let error = if ctx.cancel.is_cancelled() { Error::cancelled() } else { error };
    ctx.meter.set_phase("removing what was written");
    if let Err(e) = run.clean_up(&error).await {
        ctx.meter.warn(format!("what this attempt wrote could not all be removed: {e}"));
    }
    Err(error)
}

pub(super) struct Run<'a> {
    pub(super) ctx: &'a Context,
    pub(super) storage: Arc<dyn Storage>,
    pub(super) order: &'a BackupOrder,
    pub(super) root: BackupRoot,
    pub(super) blocks: BlocksRoot,
    pub(super) claim: Arc<Claim>,
    pub(super) stop: CancellationToken,
}

/// A copy as it was read, and the moment it holds.
pub(super) struct Copied {
    pub(super) method: CopyMethod,
    pub(super) folders: BTreeMap<String, u32>,
    pub(super) files: Vec<CopiedFile>,
    /// The newest entry of its oplog.
    pub(super) top: OpTime,
    pub(super) locked: Option<Duration>,
    pub(super) sent: Sent,
}

impl Run<'_> {
    async fn run(&self) -> Result<PhysicalManifest> {
        let started_at = clock::now();
        let (meter, stop, service) = (&self.ctx.meter, &self.stop, &self.order.service);
        let said = |text: String| meter.warn(text);
        collector::wait_until_free(&*self.storage, &self.blocks, &self.order.home_id, stop, &said).await?;
        meter.set_phase(format!("connecting to {}", service.name));
        let connecting = Server::connect(&service.name, &service.uri, CONNECT_LIMIT);
        let server = stop.run_until_cancelled(connecting).await.unwrap_or_else(|| Err(Error::cancelled()))?;
        meter.set_phase("looking for a member on this host");
        let local = local_member::find(service, &server, stop, &said).await?;
        let member = &local.reader.server;
        if let Some(part) = sharding::cluster_part(member, stop).await? {
            let what = format!("service {} {}", service.name, part.words());
            return Err(Error::new(ErrorKind::Unsupported, what).hint(USE_PBM));
        }
        let facts = topology::facts(member, stop).await?;
        let fcv = facts.fcv.clone().ok_or_else(|| {
            let what = format!("service {}: the feature compatibility version may not be read", service.name);
            Error::new(ErrorKind::Denied, what).hint("the role clusterMonitor gives the right")
        })?;
        let config = member.command(stop, "admin", doc! {"replSetGetConfig": 1}).await?;
        let config = config.get_document("config").cloned().unwrap_or_default();
        meter.info(format!(
            "copying {} of {}, MongoDB {}, FCV {fcv}: {} files, {}",
            escape(&local.folder.to_string_lossy()),
            local.reader.in_words(),
            facts.version,
            text::count(local.listing.files.len() as u64),
            text::bytes(local.listing.bytes())
        ));
        if !local.listing.foreign.is_empty() {
            let names = local.listing.foreign.iter().map(|name| escape(name)).collect::<Vec<_>>().join(", ");
            meter.info(format!("left out, because it is no data of the server: {names}"));
        }
        if local.options.encrypted {
            meter.warn(
                "the server encrypts its files: whoever restores them needs its key, which is not in this backup",
            );
        }
        let continuity = topology::continuity(member, stop).await?;
        meter.set_phase("looking at the blocks that are there");
        let known = blocks::list(&*self.storage, &self.blocks).await?;
        let naming = Naming::of(self.order.encryption.as_ref(), &self.ctx.around.notes.key().await?);
        let sender = Arc::new(Sender::new(
            Arc::clone(&self.storage),
            self.blocks.clone(),
            Codec::new(self.order.compression).encrypted_to(self.order.encryption.as_ref()),
            naming,
            known,
            stop.clone(),
        ));
        let copied = self.copy_files(&local, facts.numbers, &sender).await?;
        if topology::continuity(member, stop).await? != continuity {
            return Err(changed(service, &local, "was restarted or rolled back changes during the backup"));
        }
        self.wait_for_majority(member, copied.top.ts).await?;
        if topology::continuity(member, stop).await? != continuity {
            return Err(changed(service, &local, "rolled back changes that the backup holds"));
        }
        let server_version = facts.version;
        let sent = copied.sent;
        let manifest = self.manifest(started_at, &local, server_version, fcv, &config, copied, &sender, naming)?;
        self.write_manifest(&manifest).await?;
        // What was sent before the lock, and changed by then, nobody needs. A little of it waits for the next deletion.
        let unneeded = sent.bytes.saturating_sub(manifest.new_bytes.unwrap_or(0));
        if unneeded > manifest.size_bytes / WORTH_COLLECTING
            && let Err(e) = left::note_left(&*self.storage, &self.blocks).await
        {
            meter.warn(format!("{} that nobody needs stay until a backup is deleted: {e}", text::bytes(unneeded)));
        }
        Ok(manifest)
    }

    /// Reads everything: from a backup cursor where the server has one, else the last of it under the lock.
    async fn copy_files(&self, local: &LocalMember, numbers: [u32; 3], sender: &Arc<Sender>) -> Result<Copied> {
        let meter = &self.ctx.meter;
        super::lock_keeper::must_be_free(&local.reader.server, &self.stop).await?;
        let pulse = Pulse::default();
        let copier = Copier {
            sender: Arc::clone(sender),
            meter: Arc::clone(meter),
            pulse: pulse.clone(),
            stop: self.stop.clone(),
            threads: self.ctx.limits.parallel_collections.clamp(1, 16),
        };
        if let Some((cursor, top)) = self.open_cursor(&local.reader.server, numbers).await? {
            return self.copy_cursor(local, &copier, cursor, top).await.map_err(|e| self.cause(e, sender));
        }
        let (at, listing, attempt) = (local.folder.clone(), local.listing.clone(), self.order.attempt_id.clone());
        let clones = blocking("reading a data folder", move || Ok(clone::prepare(&at, &listing, &attempt))).await?;
        if local.reader.member.state == MemberState::Primary {
            meter.warn(format!(
                "{} is the primary: while it is locked writes wait and transactions fail at once (code 24)",
                escape(&local.reader.member.host)
            ));
        }
        let copied = match clones {
            Some(clones) => self.copy_clones(local, numbers, pulse, &copier, clones).await,
            None => self.copy_changes(local, numbers, pulse, &copier).await,
        };
        copied.map_err(|e| self.cause(e, sender))
    }

    /// What could not be stored ends everything else as cancelled.
    fn cause(&self, error: Error, sender: &Sender) -> Error {
        match error.kind() == ErrorKind::Cancelled && !self.ctx.cancel.is_cancelled() {
            true => sender.failure(),
            false => error,
        }
    }

    /// Locks the server at a moment at which its copy can be recovered.
    async fn lock(&self, local: &LocalMember, numbers: [u32; 3], pulse: &Pulse) -> Result<Locked> {
        let member = &local.reader.server;
        for _ in 0..LOCK_TRIES {
            index_builds::wait_for_moment(member, numbers, &self.stop).await?;
            // Connected and logged in before, so that locking needs nothing but one command.
            let keeper = Keeper::start(&self.order.service, &local.reader.member.host).await?;
            let locked = keeper.lock(member.clone(), pulse.clone()).await?;
            if index_builds::allow_a_copy(member, numbers, None, &self.stop).await? {
                return Ok(locked);
            }
            locked.unlock().await?;
        }
        Err(index_builds::one_after_another(member))
    }

    /// The lock lasts as long as cloning; the clones are read afterwards.
    async fn copy_clones(
        &self,
        local: &LocalMember,
        numbers: [u32; 3],
        pulse: Pulse,
        copier: &Copier,
        clones: clone::CloneFolder,
    ) -> Result<Copied> {
        self.ctx.meter.info("the file system clones files: the server is locked only while that lasts");
        let locked = self.lock(local, numbers, &pulse).await?;
        let cloning = async {
            let top = self.top(&local.reader.server).await?;
            let from = local.folder.clone();
            let cloned = blocking("reading a data folder", move || {
                let listing = data_folder::list(&from)?;
                let at = clone::clone_all(&from, &listing, &clones)?;
                Ok((listing, at, clones))
            });
            let cloned = cloned.await?;
            self.must_be_top(&local.reader.server, top).await?;
            Ok((top, cloned))
        };
        let (held, (top, (listing, at, clones))) = self.under_lock(locked, cloning).await?;
        self.ctx.meter.set_phase("copying clones of the files");
        let files = copier.copy(&at, listing.files).await?;
        drop(clones);
        self.whole(CopyMethod::LockedClone, listing.folders, files, top, Some(held), copier).await
    }

    /// What is there is read first; under the lock what has changed since.
    async fn copy_changes(
        &self,
        local: &LocalMember,
        numbers: [u32; 3],
        pulse: Pulse,
        copier: &Copier,
    ) -> Result<Copied> {
        let meter = &self.ctx.meter;
        meter.set_phase("copying files");
        let mut copied = copier.copy(&local.folder, local.listing.files.clone()).await?;
        for pass in 1..PASSES {
            // What the server still holds in memory goes to its files now, and not while it is locked.
            local.reader.server.command(&self.stop, "admin", doc! {"fsync": 1}).await?;
            meter.set_phase("copying what changed meanwhile");
            let listing = self.list(&local.folder).await?;
            let (kept, changed) = divide(listing, copied);
            let again: u64 = changed.iter().map(|file| file.size).sum();
            copied = kept;
            copied.extend(copier.copy(&local.folder, changed).await?);
            if pass > 1 || again < WORTH_ANOTHER_PASS {
                break;
            }
        }
        meter.set_phase("locking the server");
        copier.sender.may_run_ahead();
        let locked = self.lock(local, numbers, &pulse).await?;
        let reading = async {
            let top = self.top(&local.reader.server).await?;
            let listing = self.list(&local.folder).await?;
            let folders = listing.folders.clone();
            let (mut files, changed) = divide(listing, copied);
            let read = copier.copy(&local.folder, changed).await?;
            if let Some(torn) = read.iter().find(|file| file.torn) {
                return Err(changed_file(&self.order.service.name, &torn.found.path));
            }
            files.extend(read);
            self.must_be_top(&local.reader.server, top).await?;
            Ok((top, folders, files))
        };
        let (held, (top, folders, files)) = self.under_lock(locked, reading).await?;
        self.whole(CopyMethod::LockedRead, folders, files, top, Some(held), copier).await
    }

    /// Runs `work` and lets the server go, whatever came of it; says for how long it was locked.
    async fn under_lock<T>(&self, locked: Locked, work: impl Future<Output = Result<T>>) -> Result<(Duration, T)> {
        let lost = locked.lost.clone();
        let counting = async {
            loop {
                let seconds = locked.elapsed().as_secs();
                self.ctx.meter.set_phase(format!("locked for {seconds} s"));
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        let outcome = tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(Error::cancelled()),
            () = lost.cancelled() => Err(Error::cancelled()),
            outcome = work => outcome,
            () = counting => Err(Error::cancelled()),
        };
        let unlocked = locked.unlock().await;
        match (outcome, unlocked) {
            (Ok(done), Ok(held)) => {
                self.ctx.meter.info(format!(
                    "the server was locked for {}",
                    text::moments(u64::try_from(held.as_millis()).unwrap_or(u64::MAX))
                ));
                Ok((held, done))
            }
            // Why the lock ended explains more than what failed because of it.
            (_, Err(e)) => Err(e),
            (Err(e), Ok(_)) => Err(e),
        }
    }

    /// Waits for what is still on its way to the storage.
    pub(super) async fn whole(
        &self,
        method: CopyMethod,
        folders: BTreeMap<String, u32>,
        files: Vec<CopiedFile>,
        top: OpTime,
        locked: Option<Duration>,
        copier: &Copier,
    ) -> Result<Copied> {
        self.ctx.meter.set_phase("sending the last blocks");
        let sent = copier.sender.finish().await?;
        if let Some(torn) = files.iter().find(|file| file.torn) {
            return Err(changed_file(&self.order.service.name, &torn.found.path));
        }
        Ok(Copied { method, folders, files, top, locked, sent })
    }

    async fn list(&self, folder: &Path) -> Result<Listing> {
        let folder: PathBuf = folder.to_owned();
        blocking("reading a data folder", move || data_folder::list(&folder)).await
    }

    pub(super) async fn top(&self, member: &Server) -> Result<OpTime> {
        oplog_source::newest(member, &self.stop).await?.filter(|newest| newest.term >= 0).ok_or_else(|| {
            let what = format!("service {}: its oplog has no entry that can be read", self.order.service.name);
            Error::new(ErrorKind::Failed, what)
        })
    }

    /// Errors: `Interrupted` when something was written while nothing should have been.
    async fn must_be_top(&self, member: &Server, top: OpTime) -> Result<()> {
        if self.top(member).await? == top {
            return Ok(());
        }
        let what = format!("service {}: the server wrote although it was locked", self.order.service.name);
        Err(Error::new(ErrorKind::Interrupted, what)
            .hint("did somebody unlock it (db.fsyncUnlock())? Another attempt copies it again"))
    }

    /// Until no rollback can undo what was copied.
    async fn wait_for_majority(&self, member: &Server, ts: Timestamp) -> Result<()> {
        self.ctx.meter.set_phase("waiting for a majority to confirm the last change");
        let waiting = async {
            while topology::op_times(member, &self.stop).await?.majority < ts {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
            Ok(())
        };
        let limit = self.ctx.limits.majority_wait;
        let say = |text: String| self.ctx.meter.warn(text);
        let watched = majority::watched(member, &self.stop, limit, "the backup", &say, waiting);
        self.stop.run_until_cancelled(watched).await.unwrap_or_else(|| Err(Error::cancelled()))
    }

    /// After a failure that may pass the blocks stay for the next attempt; otherwise they go if nobody needs them.
    async fn clean_up(&self, error: &Error) -> Result<()> {
        self.claim.clean_up().await?;
        if error.is_retryable() {
            return left::note_left(&*self.storage, &self.blocks).await;
        }
        // The job is over for whoever asked: what is removed here must not be stopped by the same request.
        let ctx = Context { cancel: CancellationToken::new(), ..self.ctx.clone() };
        let collecting = collector::collect(&ctx, &*self.storage, &self.blocks, &self.order.home_id);
        match tokio::time::timeout(crate::engine::attempt::CLEAN_UP_LIMIT, collecting).await {
            Ok(collected) => {
                if let Some(words) = collected?.in_words() {
                    self.ctx.meter.info(words);
                }
                Ok(())
            }
            Err(_) => Err(Error::new(ErrorKind::Transient, format!("{} is slow", self.storage.place()))),
        }
    }
}

/// Those of `copied` that are as they were, and those of `listing` to read again.
fn divide(listing: Listing, copied: Vec<CopiedFile>) -> (Vec<CopiedFile>, Vec<FoundFile>) {
    let mut known: BTreeMap<String, CopiedFile> =
        copied.into_iter().map(|file| (file.found.path.clone(), file)).collect();
    let (mut kept, mut changed) = (Vec::new(), Vec::new());
    for now in listing.files {
        match known.remove(&now.path) {
            Some(file) if !file.torn && now.is_unchanged(&file.found, file.read_at) => {
                kept.push(CopiedFile { found: now, ..file });
            }
            _ => changed.push(now),
        }
    }
    (kept, changed)
}

fn changed(service: &crate::domain::service::Service, local: &LocalMember, what: &str) -> Error {
    let what = format!("service {}: {} {what}", service.name, escape(&local.reader.member.host));
    Error::new(ErrorKind::Interrupted, what).hint("another attempt copies a consistent state again")
}

fn changed_file(service: &str, path: &str) -> Error {
    let what = format!("service {service}: file {} changed while the server was locked", escape(path));
    Error::new(ErrorKind::Interrupted, what).hint("another attempt copies a consistent state again")
}
