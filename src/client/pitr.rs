//! What can be recovered of a service, and how a moment is reached. Asks the store only.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use chrono::{DateTime, SecondsFormat, Utc};

use super::Client;
use crate::control::lock;
use crate::domain::backup::{Backup, BackupState, BackupType, Model};
use crate::domain::clock;
use crate::domain::pitr::{
    self, Archive, Base, Coverage, Gap, Outside, PointInTime, Range, RecoverableRange, ShownGap, Slice, SlicerState,
    Status, When,
};
use crate::domain::schedule::Schedule;
use crate::domain::text::escape;
use crate::domain::timestamp::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::store::RecoverySource;

/// How a moment is reached.
#[derive(Debug, Clone, PartialEq)]
pub struct ResolvedMoment {
    pub archive: Archive,
    pub base: Base,
    /// Every change up to and including this position.
    pub until: Timestamp,
    /// In the order in which they are read, without their counts.
    pub slices: Vec<Slice>,
}

impl Client {
    /// What can be recovered of each service whose oplog is recorded or was, by name; or of one service, whatever is known
    /// of it.
    ///
    /// Errors: `NotFound` for a service that is not there and of which nothing is recorded.
    pub fn pitr_status(&self, service: Option<&str>) -> Result<Vec<Status>> {
        let schedules: Vec<Schedule> =
            self.schedules()?.into_iter().filter(|s| s.enabled && s.backup_type == BackupType::Pitr).collect();
        let with_slices = self.store.services_with_slices()?;
        let names: BTreeSet<String> = match service {
            Some(name) => {
                if !with_slices.iter().any(|s| s == name) {
                    self.store.service_row(name)?;
                }
                BTreeSet::from([name.to_owned()])
            }
            None => with_slices.into_iter().chain(schedules.iter().map(|s| s.service.clone())).collect(),
        };
        let running = lock::holder(&self.home)?.is_some();
        let may_start = self.backups_may_start();
        let mut out = Vec::new();
        for name in names {
            let of_service: Vec<&Schedule> = schedules.iter().filter(|s| s.service == name).collect();
            out.push(self.status_of_service(name, &of_service, running, may_start)?);
        }
        Ok(out)
    }

    fn status_of_service(
        &self,
        service: String,
        schedules: &[&Schedule],
        daemon: bool,
        may_start: bool,
    ) -> Result<Status> {
        let lines = self.store.recovery_sources(&service)?;
        let state = self.store.slicer_state(&service)?;
        let now = clock::now();
        let mut ranges: Vec<RecoverableRange> =
            lines.iter().flat_map(|l| pitr::recoverable(&l.row.covered, &l.bases)).collect();
        ranges.sort_by_key(|r| (r.from_ts, r.to_ts));
        let mut gaps: Vec<Gap> = lines.iter().flat_map(RecoverySource::gaps).collect();
        gaps.sort_by_key(|g| (g.from_ts, g.to_ts));
        let mut bases: Vec<Base> = lines.iter().flat_map(|l| l.bases.iter().cloned()).collect();
        bases.sort_by(|a, b| (a.consistent_at_ts, &a.backup).cmp(&(b.consistent_at_ts, &b.backup)));
        bases.dedup();
        let mut marks: Vec<_> = lines.iter().flat_map(|l| l.row.marks.iter().cloned()).collect();
        marks.sort_by_key(|m| m.ts);
        marks.dedup();
        let here = |l: &&RecoverySource| {
            schedules.iter().any(|s| s.storage == l.row.archive.storage && s.folder == l.row.archive.folder)
        };
        let newest = lines.iter().filter_map(RecoverySource::newest).max();
        let recorded = lines.iter().find(here);
        let by_engine = recorded.is_some_and(|line| line.row.archive.is_by_engine());
        let (error, hint) = trouble(schedules, state.as_ref(), daemon, may_start, by_engine);
        let waiting_base = match recorded {
            Some(line) => line.waiting.clone(),
            // Nothing is stored yet: recording begins at this one, if the oplog still reaches back so far.
            None if lines.is_empty() && !schedules.is_empty() => {
                self.store.bases(&service, None)?.into_iter().rfind(|b| b.model == Model::Logical)
            }
            None => None,
        };
        let none_now = !recorded.is_some_and(RecoverySource::has_base_now);
        let hint = hint.or_else(|| no_base(schedules, waiting_base.as_ref(), none_now, !gaps.is_empty()));
        Ok(Status {
            ranges,
            gaps: gaps.iter().map(ShownGap::from).collect(),
            lag_seconds: newest.map(|ts| pitr::lag_seconds(ts, now)),
            running: daemon && state.as_ref().is_some_and(|s| s.running),
            beginning: error.is_none() && !schedules.is_empty() && state.is_some_and(|s| s.is_beginning(now)),
            error,
            hint,
            schedules: schedules.iter().map(|s| s.name.clone()).collect(),
            archive: lines.iter().find(here).or(lines.first()).map(|l| l.row.archive.clone()),
            bases,
            waiting_base,
            marks,
            slices: lines.iter().map(|l| l.row.slices).sum(),
            size_bytes: lines.iter().map(|l| l.row.size_bytes).fold(0, u64::saturating_add),
            service,
        })
    }

    /// How many operations were recorded in each of `buckets` equal parts of the seconds from `from` up to `to`,
    /// exclusive.
    pub fn pitr_operations(&self, service: &str, from: u32, to: u32, buckets: usize) -> Result<Vec<u64>> {
        let mut most = vec![0; buckets];
        for archive in self.store.archives(service)? {
            let of_archive = self.store.operations(service, &archive, from, to, buckets)?;
            // Two places may hold the same oplog.
            for (most, count) in most.iter_mut().zip(of_archive) {
                *most = count.max(*most);
            }
        }
        Ok(most)
    }

    /// The base and the slices that lead to a moment. Unless a base is named, it is one of `model`.
    ///
    /// Errors: `NotFound` when it cannot be reached, naming the nearest moments that can; `Invalid` for a base that is
    /// none.
    pub fn resolve_moment(&self, moment: &PointInTime, model: Model) -> Result<ResolvedMoment> {
        let service = &moment.service;
        let mut lines = self.store.recovery_sources(service)?;
        if lines.is_empty() {
            self.store.service_row(service)?;
            let state = self.store.slicer_state(service)?;
            let schedules = self.schedules()?;
            let recording = schedules.iter().find(|s| s.service == *service && s.backup_type == BackupType::Pitr);
            return Err(nothing_recorded(service, recording, state.as_ref()));
        }
        if let Some(base) = &moment.base {
            self.must_be_base(service, base)?;
        }
        let wanted = |b: &Base| moment.base.as_ref().map_or(b.model == model, |name| b.backup == *name);
        lines.iter_mut().for_each(|line| line.bases.retain(wanted));
        let mut found: Vec<(Timestamp, &RecoverySource)> =
            lines.iter().filter_map(|l| Some((pitr::resolve(moment.when, &l.ranges()).ok()?, l))).collect();
        // Of several places the one that reaches farthest: that is what "latest" means, and for any other moment the
        // positions are the same.
        found.sort_by_key(|(until, line)| Reverse((*until, line.row.covered.last().map(|c| c.last))));
        let Some((until, line)) = found.into_iter().next() else { return Err(out_of_reach(moment, &lines)) };
        let reaches = |b: &&Base| {
            let whole_way = |c: &Coverage| c.holds(b.consistent_at_ts) && c.holds(until);
            b.consistent_at_ts <= until && line.row.covered.iter().any(whole_way)
        };
        let base = line.bases.iter().rev().find(reaches).ok_or_else(|| out_of_reach(moment, &lines))?.clone();
        let archive = line.row.archive.clone();
        if archive.is_by_engine() {
            // It has no slices: the engine looks by itself what leads there.
            return Ok(ResolvedMoment { archive, base, until, slices: Vec::new() });
        }
        let slices = self.store.slices(service, &archive, base.consistent_at_ts, until)?;
        let slices = match pitr::path(&slices, base.consistent_at_ts, until) {
            Ok(path) => path.into_iter().cloned().collect(),
            Err(_) => return Err(out_of_reach(moment, &lines)),
        };
        Ok(ResolvedMoment { archive, base, until, slices })
    }

    /// Which moments can no longer be restored when a base is gone, as sentences.
    pub(super) fn lost_with(&self, backup: &Backup) -> Result<Vec<String>> {
        if backup.state != BackupState::Succeeded {
            return Ok(Vec::new());
        }
        let lines = self.store.recovery_sources(&backup.service)?;
        let lost = lines.iter().flat_map(|l| pitr::lost(&l.row.covered, &l.bases, &backup.name));
        let sentence = |r: Range| {
            let (from, to) = (shown(r.from_ts.to_datetime()), shown(r.to_ts.to_datetime()));
            format!("moments of {} from {from} to {to} can no longer be restored", backup.service)
        };
        Ok(lost.map(sentence).collect())
    }

    /// Errors: why the backup is no base of the service.
    fn must_be_base(&self, service: &str, name: &str) -> Result<()> {
        let backup = self.readable(name)?;
        if backup.service != service {
            let of = escape(&backup.service);
            return Err(Error::invalid("base", format!("backup {name} is one of service {of}, not of {service}")));
        }
        if backup.verify_error.is_some() {
            return Err(Error::invalid("base", format!("backup {name} was found damaged when it was verified"))
                .hint("leave --base out: the newest sound backup before the moment is taken"));
        }
        if !self.store.bases(service, None)?.iter().any(|b| b.backup == name) {
            let why = format!("backup {name} does not hold everything, so changes after it cannot be replayed");
            return Err(Error::invalid("base", why)
                .hint("leave --base out: the newest whole backup before the moment is taken"));
        }
        Ok(())
    }
}

/// Why nothing is recorded now although it should be, and what to do.
fn trouble(
    schedules: &[&Schedule],
    state: Option<&SlicerState>,
    daemon: bool,
    may_start: bool,
    by_engine: bool,
) -> (Option<String>, Option<String>) {
    if schedules.is_empty() {
        return (None, None);
    }
    let said = |error: &str, hint: &str| (Some(error.to_owned()), Some(hint.to_owned()));
    if !may_start {
        return said("backup management is off (backup.enabled = false)", "mongokeep settings set backup.enabled true");
    }
    if !daemon {
        let what = match by_engine {
            true => "no daemon runs, so nobody sees to it that the engine records, or knows how it does",
            false => "no daemon runs, so nothing is recorded",
        };
        return said(what, "mongokeep daemon run, or any command that starts it");
    }
    state.map_or((None, None), |s| (s.error.clone(), s.hint.clone()))
}

/// What is to be waited for, or done, while what is recorded now has no base that it follows.
fn no_base(schedules: &[&Schedule], waiting: Option<&Base>, none_now: bool, gap: bool) -> Option<String> {
    let first = schedules.first().filter(|_| none_now)?;
    if let Some(base) = waiting {
        let at = shown(base.consistent_at_ts.to_datetime());
        return Some(format!("base {} of {at}: the changes after it are not stored yet", base.backup));
    }
    if gap {
        return Some(format!(
            "no base since the gap yet: one is asked for by itself; mongokeep schedule run {} takes one now",
            first.name
        ));
    }
    let due = first.next_at.map_or_else(String::new, |at| format!("the next is due {}; ", shown(at)));
    Some(format!("no base yet: {due}mongokeep schedule run {} takes one now", first.name))
}

fn shown(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// `schedule`: the one that is to record the oplog, if there is one.
fn nothing_recorded(service: &str, schedule: Option<&Schedule>, state: Option<&SlicerState>) -> Error {
    let of = escape(service);
    let Some(schedule) = schedule else {
        let what = format!("nothing of the oplog of {of} is recorded, so only its backups can be restored");
        return Error::new(ErrorKind::NotFound, what).hint(format!(
            "mongokeep schedule add NAME --service {of} --storage STORAGE --type pitr --cron '0 2 * * *' begins to record it"
        ));
    };
    let name = &schedule.name;
    let what = format!("nothing of the oplog of {of} is recorded yet, which schedule {name} is to do");
    if !schedule.enabled {
        let what = format!("{what}: it is off");
        return Error::new(ErrorKind::NotFound, what)
            .hint(format!("mongokeep schedule enable {name} begins to record it"));
    }
    let status = format!("mongokeep pitr status --service {of} says what it waits for");
    match state.and_then(|s| Some((s.error.as_deref()?, s.hint.clone()))) {
        Some((error, hint)) => Error::new(ErrorKind::NotFound, format!("{what}: {error}")).hint(hint.unwrap_or(status)),
        None => Error::new(ErrorKind::NotFound, what).hint(status),
    }
}

/// A moment that cannot be restored: why, and which ones can.
fn out_of_reach(moment: &PointInTime, lines: &[RecoverySource]) -> Error {
    let service = escape(&moment.service);
    let ranges: Vec<Range> = lines.iter().flat_map(RecoverySource::ranges).collect();
    if ranges.is_empty() {
        let (what, hint) = match &moment.base {
            Some(base) => (
                format!(
                    "nothing can be restored from base {base}: its moment is not within what is recorded of {service}"
                ),
                format!("mongokeep pitr status --service {service} names the bases"),
            ),
            None => (
                format!("changes of {service} are recorded, but there is no base yet that they could follow"),
                format!("mongokeep pitr status --service {service} says when one is made"),
            ),
        };
        return Error::new(ErrorKind::NotFound, what).hint(hint);
    }
    let outside = pitr::resolve(moment.when, &ranges).err().unwrap_or(Outside { before: None, after: None });
    let at = |ts: Timestamp, second: u32| format!("{} (position {ts})", shown(Timestamp::new(second, 0).to_datetime()));
    let mut near = Vec::new();
    if let Some(ts) = outside.before {
        near.push(format!("the last moment before it is {}", at(ts, ts.t.saturating_sub(1))));
    }
    if let Some(ts) = outside.after {
        near.push(format!("the first after it is {}", at(ts, ts.t)));
    }
    let gaps: Vec<Gap> = lines.iter().flat_map(RecoverySource::gaps).collect();
    let wanted = match moment.when {
        When::Second(t) => Timestamp::new(t, u32::MAX),
        When::Position(ts) => ts,
        When::Latest => Timestamp::MAX,
    };
    let why = match gaps.iter().find(|g| g.from_ts < wanted && wanted < g.to_ts) {
        Some(gap) => format!(": the oplog is missing from {} to {} ({})", gap.from_ts, gap.to_ts, gap.reason),
        None if outside.after.is_none() => ": nothing so late is recorded completely yet".to_owned(),
        None if outside.before.is_none() => ": no base is so old".to_owned(),
        None => String::new(),
    };
    let base = moment.base.as_ref().map_or_else(String::new, |base| format!(" from base {base}"));
    let what = format!("{service} cannot be restored to {}{base}{why}", moment.when);
    Error::new(ErrorKind::NotFound, format!("{what}; {}", near.join(", ")))
        .hint(format!("mongokeep pitr status --service {service} shows all that can be restored"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::namespace::Selection;
    use crate::domain::retention::Retention;
    use crate::domain::retry::RetryPolicy;

    #[test]
    fn what_is_missing_for_the_present_is_said() {
        let at = DateTime::from_timestamp(1_790_000_000, 0).unwrap();
        let schedule = Schedule {
            name: "line".into(),
            service: "a".into(),
            storage: "t".into(),
            folder: "a".into(),
            backup_type: BackupType::Pitr,
            model: Model::Logical,
            selection: Selection::default(),
            compression: None,
            cron: "@daily".into(),
            timezone: "UTC".into(),
            start: at,
            retention: Retention::default(),
            retry: RetryPolicy::default(),
            enabled: true,
            created_at: at,
            next_at: Some(at),
            last: None,
            paused_by: None,
        };
        let why = |schedule: Option<&Schedule>, error: Option<&str>| {
            let error = error.map(str::to_owned);
            let state = SlicerState { running: true, stored: None, error, hint: None, held: false, at };
            let e = nothing_recorded("a", schedule, Some(&state));
            (e.full(), e.hint_text().unwrap_or_default().to_owned())
        };
        assert!(why(None, None).1.contains("schedule add"));
        let (text, hint) = why(Some(&schedule), Some("h:1 stands still"));
        assert!(text.contains("schedule line") && text.contains("h:1 stands still"), "{text}");
        assert!(hint.contains("pitr status") && !hint.contains("schedule add"), "{hint}");
        assert!(why(Some(&Schedule { enabled: false, ..schedule.clone() }), None).1.contains("schedule enable line"));
        let base =
            Base { backup: "b".into(), consistent_at_ts: Timestamp::new(1_790_000_000, 5), model: Model::Logical };
        let said = |waiting, none, gap| no_base(&[&schedule], waiting, none, gap).unwrap_or_default();
        assert_eq!(said(Some(&base), false, false), "", "older ones serve");
        let waits = "base b of 2026-09-21T14:13:20Z: the changes after it are not stored yet";
        assert_eq!(said(Some(&base), true, false), waits);
        assert_eq!(said(Some(&base), true, true), waits);
        assert!(said(None, true, true).starts_with("no base since the gap yet"));
        assert!(said(None, true, false).starts_with("no base yet: the next is due 2026-09-21T14:13:20Z"));
        assert_eq!(no_base(&[], None, true, false), None, "nobody waits for one");
    }
}
