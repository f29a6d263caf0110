//! Which rows the lists show, and in which order. Runs when data, filter or order change, never while drawing.

use std::cmp::Ordering;

use unicode_width::UnicodeWidthStr;

use super::action::Action;
use super::model::{BackupRow, Model, SortKey, Tab};
use crate::domain::backup::BackupState;
use crate::domain::cron::Cron;
use crate::domain::fields::SETTING_FIELDS;
use crate::domain::job::{Job, JobKind};
use crate::domain::schedule::Schedule;

/// Keys of the settings that have a tab of their own begin so.
const NOTIFY: &str = "notify.";

/// Columns that a name takes; names are ASCII but for those that came from elsewhere.
fn columns_of(name: &str) -> u16 {
    let columns = if name.is_ascii() { name.len() } else { name.width() };
    columns.try_into().unwrap_or(u16::MAX)
}

impl Model {
    /// Makes the rows of all lists anew from data, filters and order.
    pub fn refresh_rows(&mut self) {
        self.active.clear();
        let mut pending = Vec::new();
        for (i, job) in self.data.jobs.iter().enumerate().filter(|(_, j)| !j.state.is_finished()) {
            if let Some(backup) = &job.backup {
                // Jobs come newest first; the one that runs is worth more than one that waits.
                self.active.insert(backup.clone(), i);
            }
            if job.kind == JobKind::Backup {
                pending.push(i);
            }
        }
        if !pending.is_empty() {
            let known: std::collections::HashSet<&str> = self.data.backups.iter().map(|b| b.name.as_str()).collect();
            pending.retain(|i| self.data.jobs[*i].backup.as_deref().is_none_or(|name| !known.contains(name)));
        }
        self.pending = pending;
        self.strip = super::service_strip::rows(self);
        let schedules = std::mem::take(&mut self.data.schedules);
        self.when = schedules.iter().map(|s| self.when_words(s)).collect();
        self.data.schedules = schedules;
        for tab in Tab::ALL {
            self.refresh_tab(tab);
        }
    }

    /// `every day at 02:00`, with the zone when it is not the one of the screen.
    fn when_words(&mut self, schedule: &Schedule) -> String {
        // Reading a line costs more than all else here, and this runs several times a second while a job runs.
        let words = self.words.entry(schedule.cron.clone()).or_insert_with_key(|line| {
            // One that cannot be read any more is shown as it is.
            Cron::parse(line).map_or_else(|_| line.clone(), |cron| cron.words())
        });
        if schedule.timezone == self.zone.name() { words.clone() } else { format!("{words}, {}", schedule.timezone) }
    }

    /// Makes the rows of one list anew.
    pub fn refresh_tab(&mut self, tab: Tab) {
        let mut all = self.all_rows(tab);
        let total = all.len();
        let filter = &self.list(tab).filter;
        if !filter.is_empty() {
            all.retain(|at| self.matches(tab, *at));
        }
        self.order(tab, &mut all);
        // Finding the selected row by name looks at the names once; that is cheaper than keeping an index.
        let key = self.list(tab).key.clone();
        let old = self.list(tab).selected;
        let same = all.get(old).is_some_and(|at| key.as_deref() == Some(&self.row_key(tab, *at)));
        let selected = match key {
            _ if same => old,
            Some(key) => all
                .iter()
                .position(|at| self.row_is(tab, *at, &key))
                .unwrap_or_else(|| old.min(all.len().saturating_sub(1))),
            None => 0,
        };
        // A list nobody has moved in stays at its top, where the newest is.
        let selected = if old == 0 && self.list(tab).offset == 0 && !self.list(tab).moved { 0 } else { selected };
        let key = all.get(selected).map(|at| self.row_key(tab, *at));
        let longest = all.iter().map(|at| self.name_columns(tab, *at)).max().unwrap_or(0);
        let list = self.list_mut(tab);
        (list.rows, list.total, list.selected, list.key, list.longest) = (all, total, selected, key, longest);
    }

    /// Columns of what stands in the column of names of a row.
    fn name_columns(&self, tab: Tab, at: u32) -> u16 {
        let i = at as usize;
        let (mark, name) = match tab {
            Tab::Backups => match self.backup_row(at) {
                // A mark stands in front of what is pinned.
                Some(BackupRow::Backup(backup, _)) => (if backup.pinned { 2 } else { 0 }, Some(&backup.name)),
                Some(BackupRow::Pending(job)) => (0, job.backup.as_ref()),
                None => (0, None),
            },
            Tab::Restores | Tab::Jobs => {
                (0, self.data.jobs.get(i).and_then(|job| job.backup.as_ref().or(job.schedule.as_ref())))
            }
            Tab::Storages => (0, self.data.storages.get(i).map(|s| &s.name)),
            Tab::Services => (0, self.data.services.get(i).map(|s| &s.name)),
            Tab::Schedules => (0, self.data.schedules.get(i).map(|s| &s.name)),
            Tab::General | Tab::Notifications | Tab::Appearance | Tab::Keys | Tab::About => (0, None),
        };
        mark + name.map_or(0, |name| columns_of(name))
    }

    fn row_is(&self, tab: Tab, at: u32, key: &str) -> bool {
        match (tab, self.data.backups.get(at as usize)) {
            (Tab::Backups, Some(backup)) => backup.name == key,
            _ => self.row_key(tab, at) == key,
        }
    }

    fn all_rows(&self, tab: Tab) -> Vec<u32> {
        let jobs = |keep: fn(&Job) -> bool| {
            self.data.jobs.iter().enumerate().filter(|(_, j)| keep(j)).map(|(i, _)| i as u32).collect()
        };
        let settings = |keep: fn(&str) -> bool| {
            self.data.settings.iter().enumerate().filter(|(_, (k, _))| keep(k)).map(|(i, _)| i as u32).collect()
        };
        match tab {
            Tab::Backups => (0..(self.data.backups.len() + self.pending.len()) as u32).collect(),
            Tab::Restores => jobs(|j| j.kind == JobKind::Restore),
            Tab::Jobs => jobs(|_| true),
            Tab::Storages => (0..self.data.storages.len() as u32).collect(),
            Tab::Services => (0..self.data.services.len() as u32).collect(),
            Tab::Schedules => (0..self.data.schedules.len() as u32).collect(),
            Tab::General => settings(|k| !k.starts_with("ui.") && !k.starts_with(NOTIFY)),
            Tab::Notifications => settings(|k| k.starts_with(NOTIFY)),
            Tab::Appearance => settings(|k| k.starts_with("ui.")),
            Tab::Keys => (0..Action::ALL.len() as u32).collect(),
            Tab::About => Vec::new(),
        }
    }

    fn matches(&self, tab: Tab, at: u32) -> bool {
        let filter = &self.list(tab).filter;
        let i = at as usize;
        let job = |job: &Job| {
            let id = job.id.to_string();
            let texts = [&job.backup, &job.service, &job.storage].map(|t| t.as_deref().unwrap_or_default());
            filter.lets_through(texts.into_iter().chain([job.state.word(), job.kind.word(), id.as_str()]))
        };
        match tab {
            Tab::Backups => match self.backup_row(at) {
                Some(BackupRow::Backup(b, running)) => {
                    let state = running.map_or(backup_word(b.state, b), |j| j.state.word());
                    filter.lets_through([b.name.as_str(), b.service.as_str(), b.storage.as_str(), state])
                }
                Some(BackupRow::Pending(j)) => job(j),
                None => false,
            },
            Tab::Restores | Tab::Jobs => self.data.jobs.get(i).is_some_and(job),
            Tab::Storages => self
                .data
                .storages
                .get(i)
                .is_some_and(|s| filter.lets_through([s.name.as_str(), s.kind.as_str(), s.place.as_str()])),
            Tab::Services => self.data.services.get(i).is_some_and(|s| {
                filter.lets_through([s.name.as_str(), s.uri.as_str(), s.cluster.as_deref().unwrap_or_default()])
            }),
            Tab::Schedules => self.data.schedules.get(i).is_some_and(|s| {
                let switch = if s.enabled { "on" } else { "off" };
                let last = s.last.as_ref().map_or("", |l| l.state.word());
                let when = self.when.get(i).map_or("", String::as_str);
                filter.lets_through([&s.name, &s.service, &s.storage, when, switch, last])
            }),
            Tab::General | Tab::Notifications | Tab::Appearance => self.data.settings.get(i).is_some_and(|(k, v)| {
                let label = SETTING_FIELDS.iter().find(|f| f.key == k).map_or("", |f| f.label);
                filter.lets_through([label, k.as_str(), v.as_str()])
            }),
            Tab::Keys => Action::ALL
                .get(i)
                .is_some_and(|a| filter.lets_through([a.title(), a.name(), a.group().title(), &self.keymap.all(*a)])),
            Tab::About => false,
        }
    }

    fn order(&self, tab: Tab, rows: &mut [u32]) {
        let sort = self.sort;
        match tab {
            Tab::Backups => {
                let pending = self.data.backups.len() as u32;
                // What is about to start stands on top of any order: it is what a person just asked for.
                rows.sort_by(|a, b| match (*a >= pending, *b >= pending) {
                    (true, false) => Ordering::Less,
                    (false, true) => Ordering::Greater,
                    (true, true) => a.cmp(b),
                    (false, false) => {
                        let (x, y) = (&self.data.backups[*a as usize], &self.data.backups[*b as usize]);
                        let order = match sort.key {
                            SortKey::Age => y.started_at.cmp(&x.started_at),
                            SortKey::Name => x.name.cmp(&y.name),
                            SortKey::Service => x.service.cmp(&y.service),
                            SortKey::State => backup_word(x.state, x).cmp(backup_word(y.state, y)),
                            SortKey::Size => y.size_bytes.cmp(&x.size_bytes),
                        };
                        let order = if sort.reversed { order.reverse() } else { order };
                        order.then_with(|| y.started_at.cmp(&x.started_at)).then_with(|| x.name.cmp(&y.name))
                    }
                });
            }
            Tab::Restores | Tab::Jobs => rows.sort_by(|a, b| {
                let (x, y) = (&self.data.jobs[*a as usize], &self.data.jobs[*b as usize]);
                let order = match sort.key {
                    SortKey::Age => y.id.cmp(&x.id),
                    SortKey::Name => x.backup.cmp(&y.backup),
                    SortKey::Service => x.service.cmp(&y.service),
                    SortKey::State => x.state.word().cmp(y.state.word()),
                    SortKey::Size => y.progress.bytes_done.cmp(&x.progress.bytes_done),
                };
                let order = if sort.reversed { order.reverse() } else { order };
                order.then_with(|| y.id.cmp(&x.id))
            }),
            _ => {}
        }
    }
}

/// The word for a backup's state.
pub fn backup_word(state: BackupState, backup: &crate::domain::backup::Backup) -> &'static str {
    match state {
        BackupState::Running => "running",
        BackupState::Succeeded if backup.verify_error.is_some() => "damaged",
        BackupState::Succeeded if backup.verified_at.is_some() => "verified",
        BackupState::Succeeded => "done",
        BackupState::Failed => "failed",
        BackupState::Incomplete => "incomplete",
        BackupState::Deleting => "deleting",
    }
}
