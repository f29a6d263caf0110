//! A schedule to begin with.

use chrono::Utc;
use mongokeep::domain::backup::{BackupType, Model};
use mongokeep::domain::namespace::Selection;
use mongokeep::domain::retention::Retention;
use mongokeep::domain::retry::RetryPolicy;
use mongokeep::domain::schedule::Schedule;

/// A full logical backup of everything, at two o'clock every day, into folder `prod` of storage `t`; nothing is deleted.
pub fn daily(name: &str, service: &str) -> Schedule {
    Schedule {
        name: name.into(),
        service: service.into(),
        storage: "t".into(),
        folder: "prod".into(),
        backup_type: BackupType::Full,
        model: Model::Logical,
        selection: Selection::default(),
        compression: None,
        cron: "0 2 * * *".into(),
        timezone: "UTC".into(),
        start: Utc::now(),
        retention: Retention::default(),
        retry: RetryPolicy::default(),
        enabled: true,
        created_at: Utc::now(),
        next_at: None,
        last: None,
        paused_by: None,
    }
}
