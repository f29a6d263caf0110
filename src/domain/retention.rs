//! How many backups of a schedule are kept.

use serde::{Deserialize, Serialize};

/// Which backups of one schedule stay. A backup stays when any of the rules keeps it; without any rule all stay.
/// JSON: `{"count": 7, "keep_daily": 0, "keep_weekly": 0, "keep_monthly": 0, "keep_yearly": 0, "keep_within": 0}`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Retention {
    /// The newest so many; 0: this rule keeps nothing by itself, and everything when no other rule is given.
    pub count: u32,
    /// The last one of each of the newest so many days (weeks, months, years) that have one, in the zone of the
    /// schedule.
    pub keep_daily: u32,
    pub keep_weekly: u32,
    pub keep_monthly: u32,
    pub keep_yearly: u32,
    /// All that are younger than so many seconds; 0: no such rule.
    pub keep_within: u64,
}

impl Retention {
    /// Nothing is ever deleted.
    pub fn keeps_all(&self) -> bool {
        *self == Self::default()
    }
}
