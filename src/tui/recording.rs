//! How well the changes of a service are recorded: one answer for the order of the strip, its signs, and the words of
//! lists and pages.

use super::model::Model;
use crate::domain::pitr::Status;

/// From this lag on it is not "now" any more ...
const BEHIND: u64 = 600;
/// ... where slices are so long that this lag is usual, from so much above their length on: a slice is late then.
const LATE: u64 = 300;

/// What is wrong with a recording, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// A schedule wants the oplog recorded, and nothing records it.
    Stopped,
    /// Nothing can be restored, and no base that would change that has been made.
    NoBase,
    /// What is stored ends too long ago.
    Behind,
}

/// What somebody has to look at, as of now: time alone makes a recording late.
pub fn trouble(model: &Model, status: &Status) -> Option<Trouble> {
    if status.schedules.is_empty() {
        // Nobody wants it recorded.
        None
    } else if status.is_stopped() || status.error.is_some() || model.lost_service(&status.service).is_some() {
        // One that has an error or no server tries again, and records nothing meanwhile.
        Some(Trouble::Stopped)
    } else if status.ranges.is_empty() {
        status.waiting_base.is_none().then_some(Trouble::NoBase)
    } else {
        lag(model, status).is_some_and(|s| s >= behind(model)).then_some(Trouble::Behind)
    }
}

/// From how many seconds of lag on a service is behind.
pub fn behind(model: &Model) -> u64 {
    let slice = model.setting("pitr.slice_seconds").parse().unwrap_or(0_u64);
    BEHIND.max(slice.saturating_add(LATE))
}

/// Seconds since the newest change that is stored, as of now.
pub fn lag(model: &Model, status: &Status) -> Option<u64> {
    let since = (model.now - model.data.read_at).num_seconds().max(0) as u64;
    status.lag_seconds.map(|lag| lag.saturating_add(since))
}
