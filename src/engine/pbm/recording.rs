//! The recording of the oplog by PBM (its "PITR slicing"): switched on and off, and what of it can be trusted.
//!
//! PBM's own ranges leave a replica set out of which nothing is recorded, and so promise moments that cannot be restored. What
//! is read here is what each replica set has, and every replica set of the cluster counts.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::answers::{DeletePlan, ListAnswer, Moment, Snapshot, StatusAnswer};
use super::backup::may_write;
use super::cluster::{sorted, without_live_agent};
use super::configuration::PitrWishes;
use super::configured::RESYNC_WAIT;
use super::console::{Console, Recording};
use super::program::{ASK_LIMIT, START_LIMIT};
use super::redact::Redactor;
use crate::domain::pitr::{Coverage, EngineRecord, Piece};
use crate::domain::service::Service;
use crate::domain::text::escape;
use crate::domain::timestamp::Timestamp;
use crate::engine::Context;
use crate::engine::recording::{RecordingOrder, RecordingState};
use crate::error::{Error, ErrorKind, Result};

/// PBM says so where the last restore is younger than every backup, and where the oplog no longer reaches back to the last
/// chunk (`pbm/slicer/slicer.go`, `pbm/oplog/oplog.go` of 2.15.0): it goes on after a new backup.
const NEEDS_BASE: [&str; 2] = ["a new backup is required to resume pitr", "insufficient range"];
/// PBM says so before the first backup.
const NEEDS_FIRST: &str = "full backup is required to start pitr";

/// Sees to it that PBM records as ordered.
///
/// Errors: `Unsupported` for a storage that PBM cannot write to.
pub async fn switch_on(ctx: &Context, order: &RecordingOrder<'_>) -> Result<()> {
    may_write(order.location, order.folder)?;
    let console = Console::open(ctx, order.service).await?;
    let wishes = PitrWishes { enabled: true, span_minutes: Some(minutes(order.slice_length)), ..PitrWishes::default() };
    console.record(order.location, order.folder, wishes).await
}

/// Switches it off, if it is on.
pub async fn switch_off(ctx: &Context, service: &Service) -> Result<bool> {
    Console::open(ctx, service).await?.stop_recording().await
}

/// How it does, and what is recorded.
pub async fn look(ctx: &Context, service: &Service) -> Result<RecordingState> {
    let console = Console::open(ctx, service).await?;
    let status = console.status(&["cluster", "running", "pitr"]).await?;
    let list = list(&console).await?;
    let has_base = oldest_base(&list.snapshots).is_some();
    Ok(state_of(&service.name, &status, record_of(&status, &list)?, has_base, console.program.redactor()))
}

/// What PBM has of each replica set of `status`.
pub async fn recorded(console: &Console<'_>, status: &StatusAnswer) -> Result<EngineRecord> {
    record_of(status, &list(console).await?)
}

async fn list(console: &Console<'_>) -> Result<ListAnswer> {
    console.ask(&["list", "--full"], ASK_LIMIT).await?.parse("list")
}

/// `pitr.oplogSpanMin`: minutes, as PBM takes them, with four decimals.
pub fn minutes(length: Duration) -> f64 {
    (length.as_secs_f64() / 60.0 * 10_000.0).round() / 10_000.0
}

/// Errors: `Unsupported` for a range whose times are not understood.
fn record_of(status: &StatusAnswer, list: &ListAnswer) -> Result<EngineRecord> {
    let mut record = EngineRecord::default();
    for set in sorted(status) {
        let ranges = list.pitr.replica_sets.get(&set.name).into_iter().flatten();
        // A range with an error cannot be restored; one that begins with 0 stands for nothing at all.
        let sound = ranges.filter(|range| range.error.is_none() && range.range.end != Moment::Unix(0));
        let pieces = sound
            .map(|range| Ok(Piece { from: position(&range.range.start)?, to: position(&range.range.end)? }))
            .collect::<Result<_>>()?;
        record.replica_sets.insert(set.name, pieces);
    }
    Ok(record)
}

/// PBM tells whole seconds. A stretch ends within its last one, so that nothing of that second is counted on.
fn position(moment: &Moment) -> Result<Timestamp> {
    match moment {
        Moment::Unix(seconds) => u32::try_from(*seconds).ok().map(|t| Timestamp::new(t, 0)),
        Moment::Text(_) => None,
    }
    .ok_or_else(|| {
        let what = format!("pbm gave a range of the recorded oplog with the time {moment}, which is not understood");
        Error::new(ErrorKind::Unsupported, what)
    })
}

/// `has_base`: there is a backup that PBM can begin after. It looks for one every 15 seconds (`cmd/pbm-agent/pitr.go` of
/// 2.15.0), and until then goes on saying that there is none.
fn state_of(
    service: &str,
    status: &StatusAnswer,
    record: EngineRecord,
    has_base: bool,
    redactor: &Redactor,
) -> RecordingState {
    let is_on = status.pitr.as_ref().is_some_and(|pitr| pitr.conf);
    let runs = status.pitr.as_ref().is_some_and(|pitr| pitr.run);
    let all_it_says = status.pitr.as_ref().and_then(|pitr| pitr.error.as_deref()).unwrap_or_default();
    // One error of each replica set.
    let is_outdated = |part: &&str| has_base && part.to_lowercase().contains(NEEDS_FIRST);
    let says = all_it_says.split("; ").filter(|part| !part.is_empty() && !is_outdated(part));
    let says = Some(says.collect::<Vec<_>>().join("; ")).filter(|says| !says.is_empty());
    let lower = says.as_deref().map(str::to_lowercase).unwrap_or_default();
    let needs_base = is_on && NEEDS_BASE.iter().any(|words| lower.contains(words));
    // A backup brings its own oplog, which PBM copies when it goes on.
    let is_at_backup = status.running.as_ref().is_some_and(|running| running.kind == "backup");
    let dead = without_live_agent(status);
    let failed = |what: String| Error::new(ErrorKind::Failed, what);
    let mut begins = false;
    let error = if !is_on {
        Some(failed("PBM's recording of the oplog is switched off".to_owned()))
    } else if !dead.is_empty() {
        let dead = dead.iter().map(|set| escape(set)).collect::<Vec<_>>().join(", ");
        let what = format!("no pbm-agent is alive in the replica sets {dead}");
        let hint = format!("start pbm-agent at their nodes; mongokeep service check {service} names them");
        Some(Error::new(ErrorKind::Unreachable, what).hint(hint))
    } else if is_at_backup {
        None
    } else if lower.contains(NEEDS_FIRST) || (!has_base && !runs && says.is_none()) {
        Some(failed("PBM begins to record with the first base".to_owned()))
    } else if let Some(says) = says {
        let error = failed(format!("PBM says: {}", redactor.shown(&says)));
        Some(match needs_base {
            true => error.hint("a new base is needed: PBM goes on after it"),
            false => error.hint(format!("pbm logs -e pitr says more; mongokeep service check {service}")),
        })
    } else if !runs {
        begins = true;
        let error = failed("PBM's recording of the oplog is switched on, and has not begun".to_owned());
        Some(error.hint(format!("pbm logs -e pitr says more; mongokeep service check {service}")))
    } else {
        let without = record.without_any();
        let some = without.len() < record.replica_sets.len();
        (some && !without.is_empty()).then(|| {
            let names = without.iter().map(|name| escape(name)).collect::<Vec<_>>().join(", ");
            failed(format!("nothing is recorded yet of the replica sets {names}"))
        })
    };
    let running = is_on && dead.is_empty() && (is_at_backup || (runs && !lower.contains(NEEDS_FIRST) && !needs_base));
    RecordingState { running, begins, error, needs_base, record }
}

/// Whether the recorded oplog leads from the backup at `base` to `until`.
///
/// Errors: `NotFound`, with the window that PBM has.
pub fn must_reach(service: &str, record: &EngineRecord, base: Timestamp, until: Timestamp) -> Result<()> {
    let covered = record.covered();
    if covered.iter().any(|c: &Coverage| c.holds(base) && c.holds(until)) {
        return Ok(());
    }
    let shown = |ts: Timestamp| ts.to_datetime().to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    let windows: Vec<String> =
        covered.iter().map(|c| format!("{} to {}", shown(c.after.ts), shown(c.last.ts))).collect();
    let has = match windows.is_empty() {
        true => "nothing that every replica set has".to_owned(),
        false => windows.join(", "),
    };
    let what = format!(
        "the oplog that PBM recorded of {service} does not lead from the base at {} to {}: it has {has}",
        shown(base),
        until.in_words()
    );
    Err(Error::new(ErrorKind::NotFound, what)
        .hint(format!("mongokeep pitr status --service {service} shows all that can be restored")))
}

/// Has PBM delete the chunks that are older than its oldest base.
pub async fn delete_useless(ctx: &Context, order: &RecordingOrder<'_>) -> Result<()> {
    let console = Console::open(ctx, order.service).await?;
    if !console.plan(order.location, order.folder, &Recording::Kept).await?.is_there {
        // PBM deletes in the storage that it has now, whatever schedule asks.
        let what = format!("service {}: PBM is not configured for this storage and folder now", order.service.name);
        return Err(Error::new(ErrorKind::Conflict, what).hint(format!(
            "the recorded oplog there stays; mongokeep service configure {} --storage NAME shows the differences",
            order.service.name
        )));
    }
    let status = console.status(&["cluster"]).await?;
    let list = list(&console).await?;
    let Some(oldest_base) = oldest_base(&list.snapshots) else { return Ok(()) };
    let record = record_of(&status, &list)?;
    if record.oldest().is_none_or(|oldest| oldest >= oldest_base) {
        return Ok(());
    }
    console.wait_until_free().await?;
    let older_than = oldest_base.to_datetime().format("%Y-%m-%dT%H:%M:%S").to_string();
    let arguments = ["delete-pitr", "--older-than", &older_than];
    let answer = console.ask(&[&arguments[..], &["--dry-run"]].concat(), ASK_LIMIT).await?;
    let plan = DeletePlan::of(&answer);
    if plan.is_empty() {
        return Ok(());
    }
    if let Some(unread) = plan.unread.first() {
        let what = format!("PBM's plan of what it would delete is not understood: {}", escape(unread));
        return Err(Error::new(ErrorKind::Unsupported, what)
            .hint(format!("pbm delete-pitr --older-than {older_than} deletes what no base needs")));
    }
    if let Some(backup) = plan.backups.first() {
        let what = format!("PBM would delete the backup {} with its recorded oplog", escape(&backup.name));
        return Err(Error::new(ErrorKind::Conflict, what).hint("nothing was deleted"));
    }
    for chunks in &plan.chunks {
        let [set, start, end] = [&chunks.replica_set, &chunks.start, &chunks.end].map(|text| escape(text));
        ctx.meter.info(format!("PBM deletes the recorded oplog of {set} from {start} to {end}: no base needs it"));
    }
    ctx.meter.set_phase("PBM deletes recorded oplog");
    let mut arguments = arguments.to_vec();
    arguments.push("--yes");
    if console.program.offers("delete-pitr", "--wait-time", &ctx.cancel).await? {
        arguments.extend(["--wait", "--wait-time", RESYNC_WAIT]);
    }
    // What has begun is not cancelled half way: PBM goes on anyway.
    console.program.call(&arguments, START_LIMIT, &CancellationToken::new()).await?;
    console.wait_until_free().await
}

/// The moment of the oldest backup that replay can begin with, whoever had it made.
fn oldest_base(snapshots: &[Snapshot]) -> Option<Timestamp> {
    let is_base = |s: &&Snapshot| {
        s.status.is_good()
            && s.namespaces.is_empty()
            && s.kind != "external"
            && s.profile.as_deref().is_none_or(str::is_empty)
    };
    let moments = snapshots.iter().filter(is_base).filter_map(|s| position(s.restore_to.as_ref()?).ok());
    moments.min()
}

#[cfg(test)]
mod tests;
