//! Schedules: backups that happen by themselves.

use chrono::{DateTime, Utc};

use super::{Client, Values, text};
use crate::artifact::layout::BackupRoot;
use crate::config::Settings;
use crate::domain::clock;
use crate::domain::fields::{self, SCHEDULE, SCHEDULE_DISABLED, SCHEDULE_FIELDS};
use crate::domain::job::Job;
use crate::domain::name;
use crate::domain::schedule::Schedule;
use crate::domain::timeline::Calendar;
use crate::domain::typed;
use crate::engine::contract::{Wanted, must_make};
use crate::engine::engine;
use crate::error::{Error, ErrorKind, Result};
use crate::store::ServiceRow;

impl Client {
    /// In the order of their names.
    pub fn schedules(&self) -> Result<Vec<Schedule>> {
        let enabled = self.backups_may_start();
        Ok(self.store.schedules()?.into_iter().map(|s| with_next(s, enabled)).collect())
    }

    pub fn schedule(&self, name: &str) -> Result<Schedule> {
        Ok(with_next(self.store.schedule(name)?, self.backups_may_start()))
    }

    /// Contacts neither server nor storage. Starts the daemon, unless `disabled` is `true`.
    ///
    /// Errors: `Conflict` for a taken name.
    pub fn add_schedule(&self, values: &Values) -> Result<Schedule> {
        self.must_write()?;
        fields::check(&[SCHEDULE_FIELDS, SCHEDULE_DISABLED], values, false)?;
        let enabled = text(values, "disabled") != Some("true");
        let schedule = self.composed(Schedule { enabled, ..Schedule::default() }, values)?;
        let taken = self.store.schedule(&schedule.name).is_ok();
        if taken || !schedule.enabled {
            // Nothing to start a daemon for; a taken name is refused here.
            self.store.add_schedule(&schedule)?;
        } else {
            self.with_daemon(|| self.store.add_schedule(&schedule), |s| format!("schedule {} is added", s.name))?;
        }
        self.copy_soon()?;
        self.schedule(&schedule.name)
    }

    /// Fields that are absent stay as they are; empty ones go back to their defaults.
    pub fn edit_schedule(&self, name: &str, values: &Values) -> Result<Schedule> {
        self.must_write()?;
        fields::check(&[SCHEDULE_FIELDS], values, true)?;
        if text(values, "name").is_some_and(|new| new != name) {
            return Err(Error::invalid("name", "cannot be changed: backups are filed under it")
                .hint(format!("mongokeep schedule copy {name} NEW makes one of another name")));
        }
        let before = self.store.schedule(name)?;
        let after = self.composed(before.clone(), values)?;
        self.store.edit_schedule(name, |present| {
            let same =
                Schedule { next_at: None, last: None, paused_by: None, enabled: before.enabled, ..present.clone() };
            if same != (Schedule { next_at: None, last: None, paused_by: None, ..before.clone() }) {
                return Err(Error::new(ErrorKind::Conflict, format!("schedule {name} was changed meanwhile"))
                    .hint(format!("look at it again: mongokeep schedule show {name}")));
            }
            *present = Schedule { enabled: present.enabled, ..after.clone() };
            Ok(())
        })?;
        self.copy_soon()?;
        self.schedule(name)
    }

    /// Its backups and jobs stay; a run that is queued or running goes on.
    pub fn remove_schedule(&self, name: &str) -> Result<()> {
        self.must_write()?;
        self.store.remove_schedule(name)?;
        self.copy_soon()
    }

    /// Switching on starts the daemon, and makes no run of the past.
    pub fn enable_schedule(&self, name: &str, on: bool) -> Result<Schedule> {
        self.must_write()?;
        self.store.schedule(name)?;
        let change = || self.store.enable_schedule(name, on);
        if on {
            self.with_daemon(change, |s| format!("schedule {} is on", s.name))?
        } else {
            change()?
        };
        self.copy_soon()?;
        self.schedule(name)
    }

    /// The copy is off. Without `new` it is called `NAME-copy`, `NAME-copy-2` and so on.
    pub fn copy_schedule(&self, name: &str, new: Option<&str>) -> Result<Schedule> {
        self.must_write()?;
        let original = self.store.schedule(name)?;
        let new = match new {
            Some(new) => {
                name::check("new", new)?;
                new.to_owned()
            }
            None => self.free_name(name)?,
        };
        self.store.add_schedule(&Schedule { name: new.clone(), enabled: false, ..original })?;
        self.copy_soon()?;
        self.schedule(&new)
    }

    /// Queues a run now, whether the schedule is on or off, and starts the daemon.
    ///
    /// Errors: `Conflict` while the previous run is not finished, and with backup management off.
    pub fn run_schedule(&self, name: &str) -> Result<Job> {
        self.must_write()?;
        self.store.schedule(name)?;
        self.must_be_enabled()?;
        self.store.must_have_ended(name)?;
        let compression = Settings::load(&self.home)?.compression();
        self.queue(|| self.store.run_schedule(name, compression))
    }

    /// Whether anything may start a backup. A settings file that cannot be read is told of elsewhere.
    pub(super) fn backups_may_start(&self) -> bool {
        Settings::load(&self.home).is_ok_and(|s| s.backup_enabled())
    }

    fn free_name(&self, name: &str) -> Result<String> {
        let taken = self.store.schedules()?;
        let base: String = name.chars().take(90).collect();
        (1..=taken.len() + 1)
            .map(|number| if number == 1 { format!("{base}-copy") } else { format!("{base}-copy-{number}") })
            .find(|new| taken.iter().all(|s| s.name != *new))
            .ok_or_else(|| Error::new(ErrorKind::Internal, "no free name"))
    }

    /// `schedule` with what `values` has, checked as a whole.
    pub(super) fn composed(&self, schedule: Schedule, values: &Values) -> Result<Schedule> {
        let mut s = schedule;
        let before = (s.service.clone(), s.folder.clone());
        typed::apply(SCHEDULE, &mut s, values)?;
        let service = self.store.service_row(&s.service)?;
        let storage = self.store.storage_row(&s.storage)?;
        // A folder that nobody chose follows the service.
        let followed = s.service != before.0
            && text(values, "folder").is_none()
            && self.store.service_row(&before.0).is_ok_and(|old| before.1 == default_folder(&old));
        if s.folder.is_empty() || followed {
            s.folder = default_folder(&service).to_owned();
        }
        crate::storage::backends::check_folder(&storage.config, &s.folder)?;
        let (selection, location) = (&s.selection, &self.judged(service.engine, storage.clone())?);
        let wanted = Wanted { backup_type: s.backup_type, selection, location, folder: &s.folder };
        storage.config.encryption(&storage.name)?;
        s.check()?;
        must_make(engine(service.engine, s.model)?, &wanted)?;
        self.settle_calendar(&mut s)?;
        // Refuses a path that the layout cannot hold before anything is queued.
        BackupRoot::new(&s.folder, &s.backup_name(clock::now()))?;
        Ok(s)
    }

    /// Fills in the zone of a schedule that names none, and looks whether its line ever fires.
    pub(super) fn settle_calendar(&self, s: &mut Schedule) -> Result<()> {
        s.timezone = match s.timezone.as_str() {
            "local" => crate::config::machine_zone(),
            "" => Settings::load(&self.home)?.zone(),
            name => name.parse().map_err(|_| Error::invalid("timezone", "is not a time zone"))?,
        }
        .name()
        .to_owned();
        if next(s, clock::now()).is_none() {
            return Err(Error::invalid("cron", format!("{:?} never fires", s.cron)));
        }
        Ok(())
    }
}

/// When the calendar of a schedule says it runs next after `after`, whether it is on or off.
fn next(schedule: &Schedule, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
    Calendar::of(schedule, None, None).ok()?.next_after(after)
}

fn with_next(mut schedule: Schedule, may_start: bool) -> Schedule {
    schedule.next_at = (schedule.enabled && may_start).then(|| next(&schedule, clock::now())).flatten();
    schedule
}

fn default_folder(service: &ServiceRow) -> &str {
    service.cluster.as_deref().unwrap_or(&service.name)
}
