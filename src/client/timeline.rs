//! What the schedules will do: the coming runs, which of them meet, and where there is room.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::{Client, Values, text};
use crate::config::Settings;
use crate::domain::clock;
use crate::domain::fields::SCHEDULE;
use crate::domain::hours::WeeklyHours;
use crate::domain::schedule::Schedule;
use crate::domain::timeline::{self, Calendar, FreeSlot, NextRun, Timeline};
use crate::domain::typed;
use crate::error::{Error, Result};

/// The length of a run is expected from so many past ones.
const PAST: usize = 7;

impl Client {
    /// The next `count` runs of a schedule, also of one that is off, beside those that are on.
    pub fn schedule_next(&self, name: &str, count: usize) -> Result<Vec<NextRun>> {
        let target = self.store.schedule(name)?;
        let calendars = self.calendars(&target)?;
        Ok(timeline::next_runs(&calendars.target, &calendars.others, clock::now(), count))
    }

    /// The runs in `[from, until]` of the schedules that are on. `draft`, as it stands in a form, is counted among
    /// them, in the place of the schedule of its name.
    pub fn timeline(&self, from: DateTime<Utc>, until: DateTime<Utc>, draft: Option<&Values>) -> Result<Timeline> {
        let all = match draft {
            None => self.with_lengths(&self.on()?)?,
            Some(draft) => {
                let Calendars { target, mut others } = self.calendars(&self.drafted(draft)?)?;
                others.push(target);
                others
            }
        };
        Ok(timeline::timeline(&all, from, until))
    }

    /// The nearest time of day at which a draft meets no other run of its service and no production hours.
    pub fn nearest_free_slot(&self, draft: &Values) -> Result<Option<FreeSlot>> {
        let calendars = self.calendars(&self.drafted(draft)?)?;
        let from = clock::now().max(calendars.target.start);
        Ok(timeline::nearest_free_slot(&calendars.target, &calendars.others, from))
    }

    /// The schedules that are on.
    fn on(&self) -> Result<Vec<Schedule>> {
        let mut on = self.store.schedules()?;
        on.retain(|s| s.enabled);
        Ok(on)
    }

    /// A schedule made of what a form has so far: name, storage and folder may be missing.
    fn drafted(&self, draft: &Values) -> Result<Schedule> {
        let present = text(draft, "name").and_then(|name| self.store.schedule(name).ok());
        let mut schedule = present.unwrap_or_else(|| Schedule { name: "(new)".into(), ..Schedule::default() });
        // What is still missing, or half typed, is no matter of the calendar.
        let matters = |key: &str| ["name", "service", "cron", "timezone", "start"].contains(&key);
        let given = draft.iter().filter(|(key, texts)| matters(key) && !texts.concat().is_empty());
        let given: Values = given.map(|(key, texts)| (key.clone(), texts.clone())).collect();
        typed::apply(SCHEDULE, &mut schedule, &given)?;
        for (key, text) in [("service", &schedule.service), ("cron", &schedule.cron)] {
            if text.is_empty() {
                return Err(Error::invalid(key, "is needed"));
            }
        }
        self.settle_calendar(&mut schedule)?;
        Ok(schedule)
    }

    /// `target` and the other schedules that are on.
    fn calendars(&self, target: &Schedule) -> Result<Calendars> {
        let mut all = self.on()?;
        all.retain(|s| s.name != target.name);
        all.push(target.clone());
        let mut calendars = self.with_lengths(&all)?;
        let at = calendars.iter().position(|c| c.schedule == target.name);
        // A schedule whose line was written by a version that read more than this one does has no calendar.
        let at = at.ok_or_else(|| Error::invalid("cron", format!("{:?} cannot be read", target.cron)))?;
        let target = calendars.remove(at);
        Ok(Calendars { target, others: calendars })
    }

    fn with_lengths(&self, schedules: &[Schedule]) -> Result<Vec<Calendar>> {
        let (mut by_schedule, mut by_service) = (BTreeMap::<_, Vec<u64>>::new(), BTreeMap::<_, Vec<u64>>::new());
        for past in self.store.backup_lengths()? {
            if let Some(schedule) = past.schedule {
                by_schedule.entry((schedule, past.service.clone())).or_default().push(past.seconds);
            }
            by_service.entry(past.service).or_default().push(past.seconds);
        }
        let newest = |lengths: Option<&Vec<u64>>| {
            lengths.and_then(|all| timeline::expected_seconds(all.get(..PAST).unwrap_or(all)))
        };
        let settings = Settings::load(&self.home)?;
        let services: BTreeMap<_, _> =
            self.store.services()?.into_iter().map(|s| (s.name, s.production_hours)).collect();
        let calendar = |s: &Schedule| {
            let own = services.get(&s.service).cloned().flatten();
            let hours = own.or_else(|| settings.production_hours()).and_then(|text| WeeklyHours::parse(&text).ok());
            // A schedule that never ran is expected to take as long as the service's other backups.
            let seconds = newest(by_schedule.get(&(s.name.clone(), s.service.clone())))
                .or_else(|| newest(by_service.get(&s.service)));
            Calendar::of(s, seconds, hours).ok()
        };
        Ok(schedules.iter().filter_map(calendar).collect())
    }
}

struct Calendars {
    target: Calendar,
    others: Vec<Calendar>,
}
