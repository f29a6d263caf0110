//! What time it is, for everything that writes a time down or compares one with the present.
//!
//! The present of a process can be set: the demo makes the days before it started this way, and a picture shows the
//! screen at the time for which it was made. Nothing else may, and no setting does. What a server or a cloud says about
//! its own time is compared with the clock of the machine, never with this one.

use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, TimeDelta, Utc};

/// Milliseconds that the present of this process is behind the clock of the machine.
static BEHIND: AtomicI64 = AtomicI64::new(0);
/// Milliseconds since 1970 at which the present stands still; [`NOT_FIXED`] while it goes on.
static FIXED: AtomicI64 = AtomicI64::new(NOT_FIXED);
const NOT_FIXED: i64 = i64::MIN;

/// The present of this process.
pub fn now() -> DateTime<Utc> {
    let fixed = FIXED.load(Ordering::Relaxed);
    match DateTime::from_timestamp_millis(fixed).filter(|_| fixed != NOT_FIXED) {
        Some(fixed) => fixed,
        None => Utc::now() - TimeDelta::milliseconds(BEHIND.load(Ordering::Relaxed)),
    }
}

/// Has this process live so much in the past; it goes on from there. Zero: in the present of the machine.
pub fn set_behind(by: TimeDelta) {
    BEHIND.store(by.num_milliseconds(), Ordering::Relaxed);
}

/// Stops the clock of this process at `at`.
pub fn fix(at: DateTime<Utc>) {
    FIXED.store(at.timestamp_millis(), Ordering::Relaxed);
}
