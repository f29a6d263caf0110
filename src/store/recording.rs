//! What follows from a slice that was just recorded: somebody hears of a gap, and a base is needed after it.
//!
//! The need outlives the process that saw it. A base that was being made at that moment, or that fails, does not meet it,
//! so it is asked for again, ever more rarely, until there is one.

use chrono::{DateTime, TimeDelta, Utc};
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::{Store, millis, outbox, schedules, slices, time};
use crate::domain::backup::{Compression, Model};
use crate::domain::job::Job;
use crate::domain::notification::Event;
use crate::domain::pitr::{Archive, Base, MarkKind, Slice};
use crate::domain::timestamp::Timestamp;
use crate::error::Result;

/// After a base that was asked for and did not come about: doubled each time.
const FIRST_PAUSE: TimeDelta = TimeDelta::minutes(5);
const LONGEST_PAUSE: TimeDelta = TimeDelta::hours(6);

/// What became of the base that a service needs.
#[derive(Debug, Clone, PartialEq)]
pub enum NeededBase {
    /// None is needed, or none any more.
    Met,
    /// One is being made, or the last one failed not long ago, or no schedule is on that could make it.
    Waits,
    Queued(Box<Job>),
}

impl Store {
    /// Notes a slice that this home has stored; and with it, when it is new, that what follows a gap or a restore needs a
    /// base, and that somebody is to be told of the gap. Returns whether it was new.
    pub fn slice_recorded(&self, service: &str, archive: &Archive, slice: &Slice) -> Result<bool> {
        self.write(|t| {
            if slices::add(t, service, archive, std::slice::from_ref(slice))? == 0 {
                return Ok(false);
            }
            if let Some(gap) = &slice.gap {
                lost(t, service, gap.from_ts, gap.to_ts, &gap.reason)?;
            }
            if let Some(mark) = slice.marks.iter().rev().find(|m| m.kind == MarkKind::RestoreEnded) {
                need(t, service, mark.ts)?;
            }
            Ok(true)
        })
    }

    /// Notes that a service which was another replica set before needs a base after `after`. Returns whether it is so, and
    /// there is none.
    pub fn other_set(&self, service: &str, replica_set_id: &str, after: Timestamp) -> Result<bool> {
        let sql =
            "SELECT EXISTS (SELECT 1 FROM backups WHERE service = ?1 AND state = 'succeeded' AND replica_set_id != ?2)
                 OR EXISTS (SELECT 1 FROM archives WHERE service = ?1 AND replica_set_id != ?2)";
        let is_other = |c: &Connection| -> Result<bool> {
            let others: bool = c.query_row(sql, [service, replica_set_id], |r| r.get(0))?;
            let bases = slices::bases(c, service, Some(replica_set_id), slices::Damaged::No)?;
            Ok(others && !bases.iter().any(|base| base.model == Model::Logical))
        };
        // Mostly it is the same as ever, which is no reason to write.
        if !self.read(is_other)? {
            return Ok(false);
        }
        self.write(|t| {
            // Positions of the other set are no measure for this one.
            t.execute(
                "INSERT INTO bases_needed (service, after_t, after_i) VALUES (?1, ?2, ?3)
                 ON CONFLICT (service) DO UPDATE SET after_t = ?2, after_i = ?3",
                params![service, after.t, after.i],
            )?;
            Ok(true)
        })
    }

    /// The position after which the recording of a service needs a base.
    pub fn base_needed(&self, service: &str) -> Result<Option<Timestamp>> {
        self.read(|c| Ok(needed(c, service)?.map(|n| n.after)))
    }

    /// Whether the base that a service needs was made meanwhile; queues none.
    pub fn needed_base_made(&self, service: &str, replica_set_id: &str) -> Result<NeededBase> {
        self.write(|t| {
            let Some(needed) = needed(t, service)? else { return Ok(NeededBase::Met) };
            Ok(if is_met(t, service, replica_set_id, &needed)? { NeededBase::Met } else { NeededBase::Waits })
        })
    }

    /// Queues the base that a service needs, if it does: a run, now, of one of its point-in-time schedules that are on.
    /// Nothing is queued while a run of one is not finished, nor soon after one that failed. `compression` is for a
    /// schedule that names none.
    pub fn queue_needed_base(
        &self,
        service: &str,
        replica_set_id: &str,
        compression: Compression,
        now: DateTime<Utc>,
    ) -> Result<NeededBase> {
        self.write(|t| {
            let Some(needed) = needed(t, service)? else { return Ok(NeededBase::Met) };
            if is_met(t, service, replica_set_id, &needed)? {
                return Ok(NeededBase::Met);
            }
            let Some(schedule) = schedule_without_run(t, service)? else { return Ok(NeededBase::Waits) };
            if needed.asked_at.max(last_end(t, service, &needed)?).is_some_and(|last| !is_due(last, needed.tries, now))
            {
                return Ok(NeededBase::Waits);
            }
            let schedule = schedules::get(t, &schedule)?;
            let job = schedules::queue(t, &schedule, now, compression)?;
            t.execute("UPDATE jobs SET asked_for = 1 WHERE id = ?1", [job.id])?;
            t.execute(
                "UPDATE bases_needed SET tries = tries + 1, asked_at = ?2 WHERE service = ?1",
                params![service, millis(now)],
            )?;
            Ok(NeededBase::Queued(Box::new(job)))
        })
    }
}

/// Whether there is a base that meets a need; then it is none any more, and somebody hears of it.
fn is_met(t: &Transaction<'_>, service: &str, replica_set_id: &str, needed: &Needed) -> Result<bool> {
    let bases = slices::bases(t, service, Some(replica_set_id), slices::Damaged::No)?;
    // One of documents: files lead to later moments in a folder alone.
    let serves = |b: &&Base| b.model == Model::Logical && b.consistent_at_ts >= needed.after;
    let Some(base) = bases.iter().find(serves) else { return Ok(false) };
    t.execute("DELETE FROM bases_needed WHERE service = ?1", [service])?;
    let at = base.consistent_at_ts.to_datetime().format("%Y-%m-%d %H:%M:%S UTC");
    let text = format!("{service}: base {} was made after the gap, moments from {at} on can be restored", base.backup);
    outbox::end(t, Event::PitrGap, service, Some(&text))?;
    Ok(true)
}

/// A clock that was set back holds nobody up for longer than the pause itself.
fn is_due(last: DateTime<Utc>, tries: u32, now: DateTime<Utc>) -> bool {
    let pause = tries.checked_sub(1).map_or(TimeDelta::zero(), |n| {
        FIRST_PAUSE.checked_mul(1 << n.min(10)).map_or(LONGEST_PAUSE, |pause| pause.min(LONGEST_PAUSE))
    });
    last + pause <= now || now + pause < last
}

struct Needed {
    after: Timestamp,
    tries: u32,
    asked_at: Option<DateTime<Utc>>,
}

fn needed(c: &Connection, service: &str) -> Result<Option<Needed>> {
    let mut statement =
        c.prepare_cached("SELECT after_t, after_i, tries, asked_at FROM bases_needed WHERE service = ?1")?;
    let needed = statement.query_row([service], |r| {
        Ok(Needed {
            after: Timestamp::new(r.get(0)?, r.get(1)?),
            tries: r.get(2)?,
            asked_at: r.get::<_, Option<i64>>(3)?.map(time),
        })
    });
    Ok(needed.optional()?)
}

/// Moments from `from` to `to` are lost: somebody is told, and what follows needs a base.
pub fn lost(t: &Transaction<'_>, service: &str, from: Timestamp, to: Timestamp, reason: &str) -> Result<()> {
    need(t, service, to)?;
    let form = "%Y-%m-%d %H:%M:%S UTC";
    let (begin, end) = (from.to_datetime().format(form), to.to_datetime().format(form));
    let text = if from == to {
        // No change is missing, but what led up to it.
        format!("{service}: moments before {end} may be lost: {reason}")
    } else {
        format!("{service}: no moment from {begin} to {end} can be restored: {reason}")
    };
    outbox::begin(t, Event::PitrGap, service, &text)
}

/// A later need takes the place of an earlier one; it is asked for no sooner, so that gap after gap is no base after base.
pub fn need(t: &Transaction<'_>, service: &str, after: Timestamp) -> Result<()> {
    t.execute(
        "INSERT INTO bases_needed (service, after_t, after_i) VALUES (?1, ?2, ?3)
         ON CONFLICT (service) DO UPDATE SET after_t = ?2, after_i = ?3 WHERE (after_t, after_i) < (?2, ?3)",
        params![service, after.t, after.i],
    )?;
    Ok(())
}

/// When the last run that was asked for ended: a base that takes hours and then fails is not made again at once.
fn last_end(c: &Connection, service: &str, needed: &Needed) -> Result<Option<DateTime<Utc>>> {
    let Some(asked_at) = needed.asked_at else { return Ok(None) };
    let mut statement = c.prepare_cached(
        "SELECT max(j.finished_at) FROM jobs j JOIN schedules s ON s.name = j.schedule
         WHERE s.service = ?1 AND s.type = 'pitr' AND j.kind = 'backup' AND j.created_at >= ?2",
    )?;
    Ok(statement.query_row(params![service, millis(asked_at)], |r| r.get::<_, Option<i64>>(0))?.map(time))
}

/// A point-in-time schedule of the service that is on, unless a run of one is not finished.
fn schedule_without_run(c: &Connection, service: &str) -> Result<Option<String>> {
    let unfinished: bool = c.query_row(
        "SELECT EXISTS (SELECT 1 FROM jobs j JOIN schedules s ON s.name = j.schedule
             WHERE s.service = ?1 AND s.type = 'pitr' AND j.kind = 'backup'
                 AND j.state IN ('queued', 'running', 'waiting_retry'))",
        [service],
        |r| r.get(0),
    )?;
    if unfinished {
        return Ok(None);
    }
    let sql = "SELECT min(name) FROM schedules WHERE service = ?1 AND type = 'pitr' AND enabled";
    Ok(c.query_row(sql, [service], |r| r.get(0))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_asked_for_ever_more_rarely() {
        let now = Utc::now();
        let waits = |tries, minutes| !is_due(now - TimeDelta::minutes(minutes), tries, now);
        assert!(!waits(0, 0), "the first at once");
        assert!(waits(1, 4) && !waits(1, 5));
        assert!(waits(2, 9) && !waits(2, 10));
        assert!(waits(3, 19) && !waits(3, 20));
        for many in [8, 30, u32::MAX] {
            assert!(waits(many, 359) && !waits(many, 360), "{many}");
        }
        assert!(waits(1, -4), "a clock that was set back a little");
        assert!(!waits(1, -600), "and one that was wrong");
    }
}
