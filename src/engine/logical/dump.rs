//! A logical backup, from the claim on its name to its manifest.
//!
//! All reads go to one member over direct connections: the position to begin at, the collections, the oplog, the
//! position to end at, the rollback id. Taking the beginning from one member and the data from another has been seen
//! to lose documents that a majority had acknowledged. Losing the member fails the attempt.
//!
//! Reading begins while the name is claimed, and what was read is stored while the rest is read: over a long line nothing
//! waits for an answer that it does not need. Nothing is stored before there is a claim.
//!
//! The manifest is written last. On any error, and on a cancel, everything this attempt wrote is removed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use futures_util::FutureExt;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::capture::{self, Captured, Course, Destination, Goal};
use super::manifest::{CollectionEntry, LogicalManifest};
use super::reinserted::Reinserted;
use super::verify;
use crate::artifact::codec::Codec;
use crate::artifact::layout::{BackupRoot, FORMAT_VERSION};
use crate::artifact::manifest::Envelope;
use crate::artifact::write::PartOptions;
use crate::domain::backup::{BackupType, Compression, Model};
use crate::domain::clock;
use crate::domain::encryption::Encryption;
use crate::domain::namespace::Selection;
use crate::domain::service::EngineKind;
use crate::domain::text::{self, duration, escape};
use crate::domain::timestamp::Timestamp;
use crate::engine::attempt::{Claim, Claiming, Identity};
use crate::engine::stored_check;
use crate::engine::{Context, Meter};
use crate::error::{Error, ErrorKind, Result};
use crate::mongo::batches::Budget;
use crate::mongo::reader::{self, Reader};
use crate::mongo::sharding::{self, ClusterPart};
use crate::mongo::topology::{self, MemberState};
use crate::mongo::{Server, oplog_source};
use crate::storage::Storage;

mod collections;
mod storing;

use collections::ReadCollections;
use storing::Storing;

/// What was asked no longer ago still holds.
const RECENT: Duration = Duration::from_secs(1);

/// Replies of the server that are in memory at once, over all cursors of a backup.
const REPLY_MEMORY: usize = 64 << 20;

/// The phase in which nothing more is read, and not all of it is stored yet.
const STORING: &str = "storing what was read";

/// What was running when an attempt ends badly gets this long to notice, before what it wrote is removed.
const STOP_LIMIT: Duration = Duration::from_millis(500);

/// What to back up, and under which name.
#[derive(Debug, Clone)]
pub struct DumpRequest {
    pub name: String,
    /// Names this attempt; the same in `attempt.json` and the manifest.
    pub attempt_id: String,
    pub home_id: String,
    pub service: String,
    pub cluster: Option<String>,
    pub folder: String,
    pub selection: Selection,
    pub compression: Compression,
    /// Whom its objects are encrypted to.
    pub encryption: Option<Encryption>,
    pub schedule: Option<String>,
    pub backup_type: BackupType,
}

/// Makes one backup of the replica set behind `server` and returns its manifest, which is then in the storage.
///
/// Errors: `Conflict` when the name is taken; `Interrupted` when the member changed under the backup (another attempt
/// may succeed); `Cancelled`; `StorageFull`; what the server or the storage reports. After any of them nothing of the
/// attempt is left in the storage, unless the storage itself no longer answers, which the log then says.
pub async fn dump(
    ctx: &Context,
    storage: Arc<dyn Storage>,
    server: &Server,
    request: &DumpRequest,
) -> Result<LogicalManifest> {
    let root = BackupRoot::new(&request.folder, &request.name)?;
    let identity = Identity {
        attempt_id: &request.attempt_id,
        name: &request.name,
        service: &request.service,
        home_id: &request.home_id,
        shares_blocks: false,
    };
    ctx.meter.set_phase("starting");
    if ctx.cancel.is_cancelled() {
        return Err(Error::cancelled());
    }
    // Whatever fails stops all the rest.
    let stop = ctx.cancel.child_token();
    let tasks = TaskTracker::new();
    let (taken, claiming) = Claiming::begin();
    let storing = Storing::new(&*storage, stop.clone(), tasks.clone());
    let run = Run {
        ctx,
        storage: Arc::clone(&storage),
        request,
        root: root.clone(),
        claiming,
        storing,
        stop: stop.clone(),
        tasks: tasks.clone(),
    };
    // Everything in it hears of the cancel by itself; a storage that does not answer must not delay it.
    let too_late = async {
        ctx.cancel.cancelled().await;
        tokio::time::sleep(STOP_LIMIT).await;
    };
    let running = async {
        tokio::select! {
            outcome = run.run(server) => outcome,
            () = too_late => Err(Error::cancelled()),
        }
    };
    // Neither storage nor server waits for the other. A name that is taken is said at once; what the server says comes when
    // there is a claim, which is then removed.
    let claim = stopping(stop.clone(), async {
        let claim = Arc::new(Claim::take(storage, root, &identity).await?);
        taken.send_replace(Some(Arc::clone(&claim)));
        drop(taken);
        Ok(claim)
    });
    let (claim, outcome) = tokio::join!(claim, running);
    let error = match (&claim, outcome) {
        (Ok(_), Ok(manifest)) => return Ok(manifest),
        (Ok(_), Err(e)) => e,
        (Err(_), _) => Error::cancelled(),
    };
    stop.cancel();
    tasks.close();
    let _ = tokio::time::timeout(STOP_LIMIT, tasks.wait()).await;
    // Without a claim nothing was stored.
    let claim = claim?;
    // A cancel makes many things fail; what counts is that a person asked for it.
    let error = if ctx.cancel.is_cancelled() { Error::cancelled() } else { error };
    ctx.meter.set_phase("removing what was written");
    if let Err(e) = claim.clean_up().await {
        ctx.meter.warn(format!("what this attempt wrote could not all be removed: {e}"));
    }
    Err(error)
}

struct Run<'a> {
    ctx: &'a Context,
    storage: Arc<dyn Storage>,
    request: &'a DumpRequest,
    root: BackupRoot,
    claiming: Claiming,
    storing: Storing,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// What is known of the set before anything of it is read.
struct Start {
    started_at: chrono::DateTime<Utc>,
    reader: Reader,
    facts: topology::Facts,
    fcv: String,
    continuity: topology::Continuity,
    /// Where in the oplog the capture begins.
    begin: Timestamp,
}

/// Chooses a member of the set behind `server`, and notes where it stands.
async fn start(ctx: &Context, server: &Server, stop: &CancellationToken) -> Result<Start> {
    let started_at = clock::now();
    let meter = &ctx.meter;
    meter.set_phase("choosing a member");
    let warn = |text: String| meter.warn(text);
    let reader = reader::reader(server, stop, &warn).await?;
    let member = &reader.server;
    let facts = topology::facts(member, stop).await?;
    let fcv = facts.fcv.clone().unwrap_or_else(|| {
        meter.warn("the feature compatibility version may not be read; the server's own version is taken for it");
        format!("{}.{}", facts.numbers[0], facts.numbers[1])
    });
    meter.info(format!("reading {}, MongoDB {}, FCV {fcv}", reader.in_words(), facts.version));
    match sharding::cluster_part(member, stop).await? {
        None => {}
        Some(part @ ClusterPart::Shard(_)) => meter.warn(format!(
            "service {} {}: the backup holds what this shard has, at a moment of its own, and cannot be restored into the \
             cluster; {}",
            server.service(),
            part.words(),
            sharding::USE_PBM
        )),
        Some(part @ ClusterPart::ConfigServers) => return Err(sharding::no_backup_of(server.service(), &part)),
    }
    let continuity = topology::continuity(member, stop).await?;
    let begin = oplog_source::begin(member, stop).await?;
    Ok(Start { started_at, reader, facts, fcv, continuity, begin })
}

impl Run<'_> {
    async fn run(&self, server: &Server) -> Result<LogicalManifest> {
        // Not all of it hears of the cancel by itself: a member that says nothing is waited for.
        let starting = self.stop.run_until_cancelled(start(self.ctx, server, &self.stop));
        let start = starting.await.unwrap_or_else(|| Err(Error::cancelled()))?;
        let Start { started_at, reader, facts, fcv, continuity, begin } = start;
        let (meter, stop, member) = (&self.ctx.meter, &self.stop, &reader.server);
        let host = escape(&reader.member.host);

        let budget = Budget::new(REPLY_MEMORY);
        let options = PartOptions {
            storage: Arc::clone(&self.storage),
            root: self.root.key().clone(),
            codec: Codec::new(self.request.compression).encrypted_to(self.request.encryption.as_ref()),
            part_bytes: self.ctx.limits.part_bytes,
            cancel: stop.clone(),
            tasks: self.tasks.clone(),
        };
        let (goal, goal_seen) = watch::channel(None);
        let (reached, mut is_reached) = watch::channel(Timestamp::MIN);
        let (ready, is_ready) = oneshot::channel();
        let reinserted = Arc::new(Reinserted::default());
        let course = Course { ready, goal: goal_seen, reached, reinserted: Arc::clone(&reinserted) };
        let mut capturing = JoinSet::new();
        let capture = capture::capture(
            member.clone(),
            budget.clone(),
            self.oplog_destination(&options),
            begin,
            course,
            stop.clone(),
        );
        // On a task of its own, so that its failure is seen at once and not when the last collection has been read.
        capturing.spawn(stopping(stop.clone(), capture));
        if is_ready.await.is_err() {
            return Err(outcome_of(capturing.join_next().await).err().unwrap_or_else(Error::cancelled));
        }
        meter.info(format!("capturing the oplog from {begin}"));

        let reads = async {
            let collections = self.read_collections(&reader, &budget, &options, &reinserted).await?;
            let at = self.applied(&reader).await?;
            meter.set_phase("waiting for a majority to confirm the last change");
            // What the set had when the backup began belongs to it. Of a member that is far behind that was said.
            let least = if reader.is_far_behind() { Timestamp::MIN } else { reader.newest };
            let at = at.max(least);
            goal.send_replace(Some(Goal { at, is_end: false }));
            tokio::select! {
                biased;
                () = stop.cancelled() => return Err(Error::cancelled()),
                // A capture that has ended says itself why.
                reached = is_reached.wait_for(|ts| *ts >= at) => drop(reached.map_err(|_| Error::cancelled())?),
            }
            let mut at = at;
            if collections.read_again(self, &reinserted.found()).await? {
                at = self.applied(&reader).await?.max(at);
                meter.set_phase("waiting for a majority to confirm the last change");
            }
            goal.send_replace(Some(Goal { at, is_end: true }));
            meter.set_phase(STORING);
            self.storing.all().await?;
            collections.described(self).await
        };
        // Whichever fails stops the other.
        let (captured, read) =
            tokio::join!(async { outcome_of(capturing.join_next().await) }, stopping(stop.clone(), reads));
        let (captured, read) = match (captured, read) {
            (Ok(captured), Ok(read)) => (captured, read),
            (captured, read) => {
                let failed = explaining(captured.map(|_| ()), read.map(|_| ()));
                let failed = explaining(failed, self.storing.outcome());
                return Err(failed.err().unwrap_or_else(Error::cancelled));
            }
        };
        let now = topology::continuity(member, stop).await?;
        if now != continuity {
            return Err(Error::new(
                ErrorKind::Interrupted,
                format!(
                    "service {}: {host} was restarted or rolled back changes during the backup",
                    self.request.service
                ),
            )
            .hint("another attempt reads a consistent state again"));
        }
        if captured.to < reader.newest {
            let (to, behind) = (captured.to, duration(u64::from(reader.newest.t.saturating_sub(captured.to.t))));
            meter.warn(format!(
                "the backup is consistent at {}, {behind} before the newest change that the set had when it began: {host} \
                 was behind, and what changed in between is not in it",
                to.in_words()
            ));
        }
        let manifest = self.manifest(started_at, &reader, &facts.version, fcv, captured, read);
        self.write_manifest(&manifest).await?;
        Ok(manifest)
    }

    /// A position at which everything that was read so far is in the oplog.
    async fn applied(&self, reader: &Reader) -> Result<Timestamp> {
        // On a primary a document may be seen a moment before the position that says so moves.
        if reader.member.state == MemberState::Primary {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(topology::op_times(&reader.server, &self.stop).await?.applied)
    }

    fn oplog_destination(&self, options: &PartOptions) -> Destination {
        let (root, codec) = (self.root.clone(), options.codec.clone());
        let claiming = self.claiming.clone();
        Destination {
            options: options.clone(),
            name: Arc::new(move |number| root.oplog_part(number, &codec)),
            on_object: Arc::new(move |key| {
                let claiming = claiming.clone();
                async move {
                    claiming.claim().await?.began(&key);
                    Ok(())
                }
                .boxed()
            }),
        }
    }

    #[allow(clippy::too_many_arguments, reason = "each is a part of the one value that is put together here")]
    fn manifest(
        &self,
        started_at: chrono::DateTime<Utc>,
        reader: &Reader,
        server_version: &str,
        fcv: String,
        captured: Captured,
        read: ReadCollections,
    ) -> LogicalManifest {
        let ReadCollections { entries: collections, left_out, not_in_json } = read;
        let request = self.request;
        let objects = || {
            let of_collection = |c: &CollectionEntry| c.parts.iter().chain([&c.metadata]).map(|o| o.size).sum::<u64>();
            collections.iter().map(of_collection).sum::<u64>()
        };
        let oplog_bytes: u64 = captured.parts.iter().map(|o| o.uncompressed).sum();
        let oplog_size: u64 = captured.parts.iter().map(|o| o.size).sum();
        let envelope = Envelope {
            format_version: FORMAT_VERSION,
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            name: request.name.clone(),
            attempt_id: request.attempt_id.clone(),
            service: request.service.clone(),
            cluster: request.cluster.clone(),
            folder: request.folder.clone(),
            schedule: request.schedule.clone(),
            engine: EngineKind::Native,
            model: Model::Logical,
            backup_type: request.backup_type,
            server_version: server_version.to_owned(),
            fcv,
            replica_set: reader.set.name.clone(),
            replica_set_id: reader.set.id.clone(),
            member: reader.member.host.clone(),
            started_at,
            finished_at: clock::now(),
            consistent_at_ts: captured.to,
            selection: request.selection.clone(),
            compression: request.compression,
            encryption: request.encryption.clone(),
            documents: collections.iter().map(|c| c.documents).sum(),
            uncompressed_bytes: collections.iter().map(|c| c.bytes).sum::<u64>() + oplog_bytes,
            size_bytes: objects() + oplog_size,
            new_bytes: None,
            locked_millis: None,
            pbm_name: None,
            chain: None,
            left_out,
            checksum: String::new(),
        };
        LogicalManifest {
            envelope,
            oplog_from_ts: captured.from,
            collections,
            oplog: captured.parts,
            oplog_entries: captured.entries,
            open_transactions: captured.open,
            not_in_json,
        }
    }

    async fn write_manifest(&self, manifest: &LogicalManifest) -> Result<()> {
        let meter = &self.ctx.meter;
        meter.set_phase("writing the manifest");
        for omitted in &manifest.left_out {
            meter.info(format!("left out: {} ({})", omitted.what, omitted.why));
        }
        for lacking in &manifest.not_in_json {
            meter.warn(format!("only mongokeep restores the {}: {}", lacking.what, lacking.why));
        }
        if !manifest.open_transactions.is_empty() {
            let open = manifest.open_transactions.len();
            meter.info(format!("{open} transactions were open at the end; a plain restore discards them"));
        }
        if self.ctx.cancel.is_cancelled() {
            return Err(Error::cancelled());
        }
        self.check_stored(manifest).await?;
        let key = self.root.manifest()?;
        self.claiming.claim().await?.began(&key);
        stored_check::put_checked(&self.storage, key, manifest.to_bytes()?.into()).await?;
        meter.info(format!(
            "consistent at {}: {}, {}, {} of BSON in {}",
            manifest.consistent_at_ts,
            text::counted(manifest.collections.len() as u64, "collection"),
            text::counted(manifest.documents, "document"),
            text::bytes(manifest.uncompressed_bytes),
            text::bytes(manifest.size_bytes),
        ));
        Ok(())
    }
}

/// What was stored is looked at before the manifest says that it is a backup.
impl Run<'_> {
    /// Errors: also those of [`Claim::must_hold`].
    async fn check_stored(&self, manifest: &LogicalManifest) -> Result<()> {
        self.ctx.meter.set_phase("comparing what was stored");
        let began = Instant::now();
        // At once: neither waits for the answer to the other.
        let sizes = stored_check::check_sizes(&*self.storage, &self.root, manifest.objects());
        let claim = self.claiming.claim().await?;
        tokio::try_join!(sizes, claim.must_hold())?;
        if self.ctx.limits.read_back {
            self.read_back(manifest).await?;
        }
        // In a longer time somebody may have taken the name, and removed what was looked at before.
        if began.elapsed() > RECENT {
            claim.must_hold().await?;
        }
        Ok(())
    }

    async fn read_back(&self, manifest: &LogicalManifest) -> Result<()> {
        let meter = &self.ctx.meter;
        meter.set_phase("reading everything back");
        if manifest.encryption.is_some() {
            // Whoever makes it cannot open it.
            let bytes = stored_check::check_bytes_of(&*self.storage, &self.root, manifest.objects()).await?;
            meter.info(format!("read back: {}, as they are stored", text::bytes(bytes)));
            return Ok(());
        }
        // With a meter of its own: what is read back is not what was backed up.
        let ctx = Context { meter: Arc::new(Meter::silent()), ..self.ctx.clone() };
        let (storage, root, manifest) = (Arc::clone(&self.storage), self.root.clone(), manifest.clone());
        // On a thread of its own: between two awaits it decompresses and looks at every document.
        let handle = tokio::runtime::Handle::current();
        let reading = move || handle.block_on(verify::read_back(&ctx, storage, &root, manifest));
        let report = tokio::task::spawn_blocking(reading).await;
        let report =
            report.map_err(|e| Error::new(ErrorKind::Internal, "reading back stopped unexpectedly").source(e))??;
        if !report.is_good() {
            return Err(stored_check::damaged(&self.storage.place(), &report.problems));
        }
        let (objects, bytes) = (text::count(report.objects), text::bytes(report.bytes));
        meter.info(format!("read back: {objects} objects, {bytes}"));
        Ok(())
    }
}

/// Of two outcomes the failure that explains: the first one makes the others end as cancelled.
fn explaining(one: Result<()>, other: Result<()>) -> Result<()> {
    match (one, other) {
        (Err(e), Err(other)) if e.kind() == ErrorKind::Cancelled => Err(other),
        (Ok(()), other) => other,
        (one, _) => one,
    }
}

/// Ends everything else when `work` fails.
async fn stopping<T>(stop: CancellationToken, work: impl Future<Output = Result<T>>) -> Result<T> {
    let outcome = work.await;
    if outcome.is_err() {
        stop.cancel();
    }
    outcome
}

fn outcome_of<T>(done: Option<std::result::Result<Result<T>, tokio::task::JoinError>>) -> Result<T> {
    match done {
        Some(Ok(outcome)) => outcome,
        Some(Err(e)) => Err(Error::new(ErrorKind::Internal, "a task of the backup stopped unexpectedly").source(e)),
        None => Err(Error::new(ErrorKind::Internal, "a task of the backup is missing")),
    }
}
