//! Following the oplog of one replica set, slice by slice, until told to stop.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::archive_index;
use super::build::Builder;
use super::event::{Event, emit};
use super::lease::{self, Lease};
use super::resume::{self, Start};
use super::slice_uploader::{Cut, Keeper, Origin};
use super::watch::watch;
use crate::artifact::slice;
use crate::artifact::write::DocumentBatch;
use crate::domain::encryption::Encryption;
use crate::domain::pitr::{Archive, Gap, OpTime, Slice};
use crate::domain::text::escape;
use crate::domain::timestamp::Timestamp;
use crate::engine::attempt::host_name;
use crate::error::{Error, ErrorKind, Result};
use crate::mongo::batches::{Budget, Reply};
use crate::mongo::oplog::entry::op_time;
use crate::mongo::reader::{self, Reader};
use crate::mongo::topology::{self, ReplicaSet};
use crate::mongo::{Server, namespaces, oplog_source};
use crate::storage::Storage;

/// Replies of the server that are in memory at once: one is being compressed while the next one comes.
const REPLY_MEMORY: usize = 32 << 20;
/// How long the server waits at the end of its oplog before it answers that there is nothing new.
const WAIT: Duration = Duration::from_secs(1);
/// A server answers as soon as there is anything: on a busy one that would be a question for each change. After a reply that
/// was small, it is given time for some more.
const GATHER: Duration = Duration::from_millis(100);
const SMALL: usize = 64 << 10;
/// How often a member that is behind what is stored is asked again, and how long at most.
const BEHIND: Duration = Duration::from_millis(500);
const BEHIND_LIMIT: Duration = Duration::from_secs(60);
/// What nobody has written to for so long is nobody's: another daemon may have lost its lease and not know it yet.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);
/// How long what is held may take to be stored when recording is told to stop.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// What to record, and where to.
#[derive(Debug, Clone)]
pub struct Following {
    pub service: String,
    pub home_id: String,
    /// Name of the storage, and the folder in it.
    pub storage: String,
    pub folder: String,
    /// The newest slice that is known of each archive.
    pub known: Vec<(Archive, Slice)>,
    /// The moment of the newest base of each replica set that the service was, by its id where that is known: recording
    /// begins there when nothing is stored yet. What the oplog no longer has of it is a gap.
    pub bases: Vec<(Option<String>, Timestamp)>,
    /// Whom slices are encrypted to.
    pub encryption: Option<Encryption>,
    /// A slice ends after so long at the latest. Read again for each.
    pub slice_length: watch::Receiver<Duration>,
    /// Whether each slice is read back before it counts as stored. Read again for each.
    pub read_back: watch::Receiver<bool>,
}

impl Following {
    fn known_of(&self, archive: &Archive) -> Option<&Slice> {
        self.known.iter().find(|(of, _)| of == archive).map(|(_, slice)| slice)
    }

    /// Positions of another replica set say nothing about this one.
    fn base_of(&self, archive: &Archive) -> Option<Timestamp> {
        let of_set = |id: &Option<String>| id.as_ref().is_none_or(|id| *id == archive.replica_set_id);
        self.bases.iter().filter(|(id, _)| of_set(id)).map(|(_, at)| *at).max()
    }
}

/// Records until `cancel`, and then stores what it holds.
///
/// Errors: `Conflict` when another daemon records into the same archive; `Denied` when the server does not tell which
/// replica set it is; what the server or (at the start) the storage reports. What was read is stored before it returns,
/// and may be followed again at once.
pub async fn follow(
    cancel: &CancellationToken,
    storage: Arc<dyn Storage>,
    server: &Server,
    request: &Following,
    events: mpsc::Sender<Event>,
) -> Result<()> {
    let set = topology::replica_set(server, cancel).await?;
    let archive = archive(&set, request)?;
    let position = request.known_of(&archive).map_or(Timestamp::MIN, |k| near(k.last.ts));
    let mut warnings = Vec::new();
    let reader = {
        let heard = std::sync::Mutex::new(&mut warnings);
        let warn = |text: String| heard.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(text);
        reader::reader_of(server, cancel, set, position, &warn).await?
    };
    for warning in warnings {
        emit(&events, Event::Warning(warning)).await?;
    }
    let folder = slice::folder(&archive)?;
    let host = host_name();
    let lease = tokio::select! {
        biased;
        () = cancel.cancelled() => return Err(Error::cancelled()),
        lease = Lease::take(&*storage, &folder, &request.home_id, &host, &request.service) => lease?,
    };
    let source = Source { service: server, reader };
    let outcome = record(cancel, &storage, source, &archive, request, &lease, &events).await;
    if !matches!(&outcome, Err(e) if e.kind() == ErrorKind::Conflict) {
        // One that cannot be given back ends by itself.
        let _ = tokio::time::timeout(STOP_LIMIT, lease.release(&*storage)).await;
    }
    outcome
}

/// How far a member must be that is waited for until it has `last`. Members tell each other every few seconds how far they
/// are: the best one must not be passed over because it was not heard of since the last slice.
fn near(last: Timestamp) -> Timestamp {
    Timestamp::new(last.t.saturating_sub(BEHIND_LIMIT.as_secs() as u32 / 2), 0)
}

fn archive(set: &ReplicaSet, request: &Following) -> Result<Archive> {
    if set.id.is_empty() {
        let service = escape(&request.service);
        return Err(Error::new(
            ErrorKind::Denied,
            format!("service {service}: the user may not read which replica set this is (replSetGetConfig)"),
        )
        .hint("grant it the role clusterMonitor on admin: recorded oplogs of two replica sets must never mix"));
    }
    Ok(Archive {
        storage: request.storage.clone(),
        folder: request.folder.clone(),
        replica_set: set.name.clone(),
        replica_set_id: set.id.clone(),
    })
}

/// A replica set, and the member of it that is read.
struct Source<'a> {
    service: &'a Server,
    reader: Reader,
}

async fn record(
    cancel: &CancellationToken,
    storage: &Arc<dyn Storage>,
    mut source: Source<'_>,
    archive: &Archive,
    request: &Following,
    lease: &Lease,
    events: &mpsc::Sender<Event>,
) -> Result<()> {
    let mut lost = pin!(async {
        tokio::select! {
            error = renew(lease, &**storage) => error,
            error = sweep(&**storage, archive, events) => error,
        }
    });
    let known = request.known_of(archive);
    let begin = async {
        let newest = archive_index::newest(&**storage, archive, known, archive_index::LISTING_LIMIT, events).await?;
        start(cancel, &mut source, archive, newest, known, request.base_of(archive)).await
    };
    // Slices that nobody knew may be many, and the lease ends meanwhile.
    let start = tokio::select! {
        biased;
        () = cancel.cancelled() => return Err(Error::cancelled()),
        error = &mut lost => return Err(error),
        start = begin => start?,
    };
    let service = source.service;
    let reader = source.reader;
    let version = topology::facts(&reader.server, cancel).await?.version;
    let (member, after, state) = (reader.member.host.clone(), start.after.ts, reader.in_words());
    emit(events, Event::Began { archive: archive.clone(), member, after, state }).await?;
    if let Err(e) = namespaces::databases(&reader.server, cancel).await
        && e.kind() == ErrorKind::Denied
    {
        // What is recorded is whole all the same, but no base can be made that it could follow.
        let why = format!("{e}: no base can be made for what is recorded");
        emit(events, Event::Warning(why)).await?;
    }
    let origin = Origin {
        archive: archive.clone(),
        service: request.service.clone(),
        member: reader.member.host.clone(),
        server_version: version,
        home_id: request.home_id.clone(),
        encryption: request.encryption.clone(),
    };
    let keeper =
        Keeper { storage: Arc::clone(storage), origin, events: events.clone(), read_back: request.read_back.clone() };
    // One slice is on its way to the storage, one waits, one grows.
    let (cuts, waiting) = mpsc::channel(1);
    let give_up = CancellationToken::new();
    let keeping = tokio::spawn(keeper.run(waiting, give_up.clone()));
    let mut recording = Recording {
        server: &reader.server,
        builder: Some(Builder::new(start.after, start.gap)?),
        expects: Some(start.after),
        due: None,
        cuts,
        slice_length: request.slice_length.clone(),
    };
    let must_end = async {
        tokio::select! {
            error = lost => error,
            error = watch(cancel, service, &reader, events) => error,
        }
    };
    let outcome = recording.run(cancel, must_end).await;
    // Why nothing can be stored any more says more than that it cannot.
    recording.end(cancel, keeping, give_up).await.and(outcome)
}

/// Removes what slices left that were not stored to their end, once a day. That it cannot be done is no reason to stop.
async fn sweep(storage: &dyn Storage, archive: &Archive, events: &mpsc::Sender<Event>) -> Error {
    loop {
        let swept = async { storage.sweep_older(&slice::folder(archive)?, ABANDONED).await };
        if let Err(e) = swept.await {
            let why = format!("what was not stored to its end is not removed: {e}");
            if let Err(e) = emit(events, Event::Warning(why)).await {
                return e;
            }
        }
        tokio::time::sleep(ABANDONED).await;
    }
}

/// Keeps the lease; returns when another daemon has it. A storage that does not answer is no reason to stop.
async fn renew(lease: &Lease, storage: &dyn Storage) -> Error {
    loop {
        tokio::time::sleep(lease::RENEW).await;
        match lease.renew(storage).await {
            Err(e) if e.kind() == ErrorKind::Conflict => return e,
            _ => {}
        }
    }
}

/// Where to go on: after `newest`, which the storage has. What it had, and has no longer, is told as a gap. Where the member
/// that is read lacks something, another one that has it is read in its place.
async fn start(
    cancel: &CancellationToken,
    source: &mut Source<'_>,
    archive: &Archive,
    newest: Option<OpTime>,
    known: Option<&Slice>,
    base: Option<Timestamp>,
) -> Result<Start> {
    let gone = known.map(|k| k.last).filter(|known| newest.is_none_or(|newest| newest < *known));
    let gone = gone.map(|last| {
        let (at, storage) = (last.ts.to_datetime().format("%Y-%m-%d %H:%M:%S UTC"), escape(&archive.storage));
        (last.ts, format!("slices that were recorded up to {at} are no longer in storage {storage}, or not whole"))
    });
    let Some(newest) = newest else {
        // From where they ended, if it can be: should they come back, then nothing is missing.
        let ended = gone.as_ref().map(|(last, _)| *last);
        let mut start = resume::begin(&source.reader.server, cancel, base, ended).await?;
        if start.lacks
            && let Some(base) = base
            && let Some(other) = resume::elsewhere(source.service, cancel, &source.reader, base, None).await
        {
            source.reader = other;
            start = resume::begin(&source.reader.server, cancel, Some(base), ended).await?;
        }
        let to_ts = start.after.ts;
        if let Some((last, reason)) = gone {
            let last = last.min(to_ts);
            start.gap = Some(match start.gap.take() {
                Some(gap) => Gap { from_ts: gap.from_ts.min(last), to_ts, reason: format!("{}; {reason}", gap.reason) },
                None => Gap { from_ts: last, to_ts, reason },
            });
        }
        return Ok(start);
    };
    let began = Instant::now();
    loop {
        if let Some(mut start) = resume::after(&source.reader.server, cancel, newest, base).await? {
            if start.lacks
                && let Some(other) =
                    resume::elsewhere(source.service, cancel, &source.reader, newest.ts, Some(newest.term)).await
            {
                source.reader = other;
                return Ok(Start { after: newest, gap: None, lacks: false });
            }
            // Without one, all that they held is recorded again.
            if let (Some(gap), Some((_, reason))) = (&mut start.gap, gone) {
                gap.reason = format!("{}; {reason}", gap.reason);
            }
            return Ok(start);
        }
        if began.elapsed() > BEHIND_LIMIT {
            let (host, ts) = (escape(&source.reader.member.host), newest.ts);
            return Err(Error::new(
                ErrorKind::Transient,
                format!("{host} is behind what is recorded already (oplog position {ts})"),
            )
            .hint("rs.status() on the server shows how far each member is"));
        }
        tokio::select! {
            () = cancel.cancelled() => return Err(Error::cancelled()),
            () = tokio::time::sleep(BEHIND) => {}
        }
    }
}

struct Recording<'a> {
    server: &'a Server,
    /// Away while a reply is taken in.
    builder: Option<Builder>,
    /// The entry the cursor must begin with, until it was seen.
    expects: Option<OpTime>,
    /// When the growing slice ends; `None` while it is empty.
    due: Option<Instant>,
    cuts: mpsc::Sender<Cut>,
    slice_length: watch::Receiver<Duration>,
}

impl Recording<'_> {
    /// Reads until `cancel`, or until something fails; `lost` returns when recording must end for another reason.
    async fn run(&mut self, cancel: &CancellationToken, lost: impl Future<Output = Error>) -> Result<()> {
        let after = self.expects.ok_or_else(no_builder)?;
        let mut lost = pin!(lost);
        let budget = Budget::new(REPLY_MEMORY);
        let mut entries = oplog_source::follow(self.server, &budget, after.ts, WAIT);
        let mut ask = Instant::now();
        loop {
            let full = self.builder.as_ref().ok_or_else(no_builder)?.is_full();
            let now = Instant::now();
            let due = full || self.due.is_some_and(|at| at <= now);
            let cuts = self.cuts.clone();
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Ok(()),
                error = &mut lost => return Err(error),
                // Why is known to the one that stored.
                () = self.cuts.closed() => return Err(Error::cancelled()),
                place = cuts.reserve(), if due => place.map_err(|_| Error::cancelled())?.send(self.cut()?),
                () = tokio::time::sleep_until(self.due.unwrap_or(now)), if self.due.is_some() && !due => {}
                () = tokio::time::sleep_until(ask), if now < ask => {}
                reply = entries.next(), if !full && now >= ask => match reply.map_err(|failed| failed.error)? {
                    Some(reply) => {
                        if reply.array()?.len() < SMALL {
                            ask = Instant::now() + GATHER;
                        }
                        self.take(reply).await?;
                    }
                    None => {
                        let service = escape(self.server.service());
                        let what = format!("service {service}: the server closed the cursor on its oplog");
                        return Err(Error::new(ErrorKind::Interrupted, what));
                    }
                },
            }
        }
    }

    /// Takes the entries of a reply in, on a thread that may block.
    async fn take(&mut self, reply: Reply) -> Result<()> {
        let Some(builder) = self.builder.take() else { return Err(no_builder()) };
        let expects = self.expects;
        let taken = tokio::task::spawn_blocking(move || {
            let mut builder = builder;
            let mut expects = expects;
            let outcome = reply.visit(&mut |entry| {
                let at = op_time(entry)
                    .ok_or_else(|| Error::new(ErrorKind::Failed, "an entry of the oplog has no position"))?;
                match expects.take() {
                    None => builder.push(at, entry),
                    Some(first) if first == at => Ok(()),
                    Some(first) => {
                        let what = format!("the oplog no longer holds {}; its next entry is {}", first.ts, at.ts);
                        Err(Error::new(ErrorKind::Interrupted, what))
                    }
                }
            });
            (builder, expects, outcome)
        });
        let (builder, expects, outcome) = taken
            .await
            .map_err(|e| Error::new(ErrorKind::Internal, "taking entries in stopped unexpectedly").source(e))?;
        if self.due.is_none() && !builder.is_empty() {
            self.due = Some(Instant::now() + *self.slice_length.borrow_and_update());
        }
        (self.builder, self.expects) = (Some(builder), expects);
        outcome
    }

    /// Ends the growing slice and begins the next one.
    fn cut(&mut self) -> Result<Cut> {
        let builder = self.builder.take().ok_or_else(no_builder)?;
        self.builder = Some(Builder::new(builder.last(), None)?);
        self.due = None;
        Ok(Cut(builder))
    }

    /// Stores what is held. On a cancel there is little time; otherwise as long as the storage takes, or until a cancel.
    async fn end(
        mut self,
        cancel: &CancellationToken,
        keeping: JoinHandle<Result<()>>,
        give_up: CancellationToken,
    ) -> Result<()> {
        let limit = async {
            cancel.cancelled().await;
            tokio::time::sleep(STOP_LIMIT).await;
        };
        let rest = async {
            // What was taken in is good whatever happened next.
            if self.builder.as_ref().is_some_and(|b| !b.is_empty()) {
                let cut = self.cut()?;
                let _ = self.cuts.send(cut).await;
            }
            drop(self.cuts);
            keeping
                .await
                .map_err(|e| Error::new(ErrorKind::Internal, "storing slices stopped unexpectedly").source(e))?
        };
        let ended = tokio::select! {
            ended = rest => ended,
            // It is read again from the oplog the next time.
            () = limit => Ok(()),
        };
        give_up.cancel();
        ended
    }
}

fn no_builder() -> Error {
    Error::new(ErrorKind::Internal, "a slice was lost while it grew")
}
