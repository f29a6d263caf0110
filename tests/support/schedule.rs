//! A schedule to begin with.

use mongokeep::domain::schedule::Schedule;

/// A full logical backup of everything, at two o'clock every day, into folder `prod` of storage `t`; nothing is deleted.
pub fn daily(name: &str, service: &str) -> Schedule {
    Schedule {
        name: name.into(),
        service: service.into(),
        storage: "t".into(),
        folder: "prod".into(),
        cron: "0 2 * * *".into(),
        timezone: "UTC".into(),
        ..Schedule::default()
    }
}
