//! Which actions work here and now, and why one does not. Keys, the line of keys and the palette all ask here.

use super::action::{Action, Group};
use super::model::{Layer, Load, Model, Report, Tab, Target};
use crate::domain::backup::{BackupState, Model as BackupModel};
use crate::domain::job::JobState;
use crate::domain::notification::Channel;
use crate::domain::schedule::Schedule;
use crate::domain::storage_check::StorageReport;
use crate::domain::text::{count, counted, escape};

/// Why nothing starts a backup, and what turns it on.
const MANAGEMENT_OFF: &str = "backup management is off: mongokeep settings set backup.enabled true";

impl Model {
    /// The groups of keys that are active, the nearest first.
    pub fn groups(&self) -> Vec<Group> {
        self.groups_of(self.layers.iter().rev().find(|l| l.is_page()))
    }

    fn groups_of(&self, page: Option<&Layer>) -> Vec<Group> {
        let own = match page {
            Some(Layer::Details { target: Target::Backup(_) | Target::Job(_), .. }) => Some(Group::Backups),
            Some(Layer::Details { target: Target::Storage(_), .. }) => Some(Group::Storage),
            Some(Layer::Details { target: Target::Service(_), .. }) => Some(Group::Services),
            Some(Layer::Details { target: Target::Schedule(_), .. }) => Some(Group::Schedules),
            Some(Layer::Report { .. }) => Some(Group::Report),
            Some(_) => None,
            None => match self.tab() {
                Tab::Backups | Tab::Restores | Tab::Jobs => Some(Group::Backups),
                Tab::Storages => Some(Group::Storage),
                Tab::Services => Some(Group::Services),
                Tab::Schedules => Some(Group::Schedules),
                Tab::General | Tab::Notifications | Tab::Appearance => Some(Group::Settings),
                Tab::Keys | Tab::About => None,
            },
        };
        let searching = matches!(page, Some(Layer::Details { .. })) && !self.search.is_empty();
        let own = searching.then_some(Group::Log).into_iter().chain(own);
        let notifications = page.is_none() && self.tab() == Tab::Notifications;
        let own = notifications.then_some(Group::Notifications).into_iter().chain(own);
        own.chain([Group::List, Group::Global]).collect()
    }

    /// The groups that are active below help and messages.
    pub fn groups_below(&self) -> Vec<Group> {
        let page = self.layers.iter().rev().find(|l| matches!(l, Layer::Details { .. } | Layer::Report { .. }));
        let timeline = self.layers.iter().any(|l| matches!(l, Layer::Form(f) if f.moment.is_some()));
        timeline.then_some(Group::Moment).into_iter().chain(self.groups_of(page)).collect()
    }

    /// Actions that this session never offers: changes with `--read-only`, creating with backup management off.
    pub fn is_hidden(&self, action: Action) -> bool {
        (self.look.read_only && action.changes()) || (action == Action::CreateBackup && !self.backups_enabled())
    }

    /// Why `action` does nothing now; `None`: it works.
    pub fn why_not(&self, action: Action) -> Option<String> {
        if self.look.read_only && action.changes() {
            return Some("this session is read-only".into());
        }
        if self.lost.is_some() && action.changes() {
            return Some("the store cannot be read".into());
        }
        match action {
            Action::CreateBackup if !self.backups_enabled() => Some(MANAGEMENT_OFF.into()),
            Action::CreateBackup if self.data.services.is_empty() => Some("add a service first (4, then n)".into()),
            Action::CreateBackup if self.data.storages.is_empty() => Some("add a storage first (3, then n)".into()),
            Action::Restore | Action::Verify => self.why_not_readable(action),
            Action::FollowLog => {
                let page = matches!(self.layers.last(), Some(Layer::Details { .. }));
                (!page || self.watched_job().is_none()).then(|| "a page with a log follows it: Enter opens one".into())
            }
            Action::CopyName if self.selected_remedy().is_some() => None,
            Action::DeleteBackup | Action::Pin | Action::CopyName => self.why_not_backup(action),
            Action::CancelJob => match self.target_job().map(|j| (j.state.is_finished(), j.cancel_requested)) {
                Some((false, false)) => None,
                Some((false, true)) => Some("it is being cancelled already".into()),
                _ => Some("nothing runs here".into()),
            },
            Action::RetryJob | Action::RetryRun => match self.target_job().map(|j| j.state) {
                Some(JobState::Failed | JobState::Cancelled | JobState::WaitingRetry) => None,
                _ => Some("only a job that failed, was cancelled or waits can be retried".into()),
            },
            Action::RemoveStorage => match self.target() {
                Some(Target::Storage(name)) => self.users_of_storage(&name),
                _ => Some("no storage is selected".into()),
            },
            Action::RemoveService => match self.target() {
                Some(Target::Service(name)) => self.users_of_service(&name),
                _ => Some("no service is selected".into()),
            },
            Action::EditStorage
            | Action::TestStorage
            | Action::SyncStorage
            | Action::CheckStorage
            | Action::CopyStorage => {
                (!matches!(self.target(), Some(Target::Storage(_)))).then(|| "no storage is selected".into())
            }
            Action::RestoreService => self.why_no_moment(),
            Action::TakeBase => match self.target() {
                Some(Target::Service(name)) => self.may_run_base(&name).err(),
                _ => Some("no service is selected".into()),
            },
            Action::EditService | Action::CheckService | Action::CopyService => {
                (!matches!(self.target(), Some(Target::Service(_)))).then(|| "no service is selected".into())
            }
            Action::CreateSchedule if self.data.services.is_empty() => Some("add a service first (4, then n)".into()),
            Action::CreateSchedule if self.data.storages.is_empty() => Some("add a storage first (3, then n)".into()),
            Action::EditSchedule
            | Action::SwitchSchedule
            | Action::CopySchedule
            | Action::RemoveSchedule
            | Action::CopyScheduleName => self.target_schedule().is_none().then(|| "no schedule is selected".into()),
            Action::RunSchedule => match self.target_schedule() {
                None => Some("no schedule is selected".into()),
                Some(schedule) => self.why_not_run(schedule),
            },
            Action::Timeline | Action::TimelineSpan if !self.layers.is_empty() => Some("close this page first".into()),
            Action::Timeline | Action::TimelineSpan if self.data.schedules.is_empty() => {
                Some("there is no schedule yet".into())
            }
            Action::OpenService => {
                let target = self.target();
                match target.as_ref().map(|t| (self.service_of(t), t)) {
                    Some((Some(_), Target::Service(_))) if !self.layers.is_empty() => Some("it is open".into()),
                    Some((Some(_), _)) => None,
                    _ => Some("no service belongs to this".into()),
                }
            }
            Action::EditSetting => self.list(self.tab()).current().is_none().then(|| "no setting is selected".into()),
            Action::TestNotification => {
                let why = "no notification channel configured: set notify.command or notify.webhook_url";
                self.channel().is_none().then(|| why.into())
            }
            Action::RepairStorage => super::update::why_no_repair(self),
            Action::CopyRemedy => self.selected_remedy().is_none().then(|| "there is nothing to remedy".into()),
            Action::Filter | Action::InvertFilter if self.layers.is_empty() && self.list(self.tab()).total == 0 => {
                Some("there is no list here".into())
            }
            Action::Sort | Action::ReverseSort
                if !matches!(self.tab(), Tab::Backups | Tab::Restores | Tab::Jobs)
                    || self.list(self.tab()).total == 0
                    || !self.layers.is_empty() =>
            {
                Some("this list has one order".into())
            }
            Action::Open
                if self.layers.is_empty()
                    && self.list(self.tab()).current().is_none()
                    && self.next_step().is_none() =>
            {
                Some("no row is selected".into())
            }
            _ => None,
        }
    }

    fn why_not_backup(&self, action: Action) -> Option<String> {
        let Some(Target::Backup(name)) = self.target() else {
            return Some("no backup is selected".into());
        };
        let Some(backup) = self.backup(&name) else { return Some(format!("{name} is gone")) };
        if action == Action::Pin && !backup.pinned {
            let incomplete = matches!(backup.state, BackupState::Failed | BackupState::Incomplete);
            return incomplete.then(|| "it is not complete, so there is nothing to keep".into());
        }
        if action != Action::DeleteBackup {
            return None;
        }
        if self.active.contains_key(&name) {
            return Some("a job works on it; cancel that first".into());
        }
        backup.pinned.then(|| "it is pinned; unpin it first (p)".into())
    }

    fn why_not_readable(&self, action: Action) -> Option<String> {
        let Some(Target::Backup(name)) = self.target() else {
            return Some("no backup is selected".into());
        };
        let Some(backup) = self.backup(&name) else { return Some(format!("{name} is gone")) };
        if backup.state != BackupState::Succeeded {
            return Some("only a complete backup can be read back".into());
        }
        if action == Action::Restore && self.data.services.is_empty() {
            return Some("add a service to restore into first (4, then n)".into());
        }
        None
    }

    fn why_not_run(&self, schedule: &Schedule) -> Option<String> {
        if !self.backups_enabled() {
            return Some(MANAGEMENT_OFF.into());
        }
        let last = schedule.last.as_ref().filter(|last| !last.state.is_finished())?;
        Some(format!("its previous run, job {}, is not finished", last.job))
    }

    /// The schedule whose run is a base of the point-in-time recovery of a service.
    pub fn base_schedule(&self, service: &str) -> Option<&str> {
        self.pitr(service)?.schedules.first().map(String::as_str)
    }

    /// Whether a base of a service can be taken now; else why not.
    pub fn may_run_base(&self, service: &str) -> Result<(), String> {
        let why = match self.base_schedule(service).map(|name| (name, self.schedule(name))) {
            _ if self.look.read_only => Some("this session is read-only".into()),
            None => Some(format!("no point-in-time schedule of {service} is on (2, then n, makes one)")),
            Some((name, None)) => Some(format!("the schedule {name} is gone")),
            Some((_, Some(schedule))) => self.why_not_run(schedule),
        };
        why.map_or(Ok(()), Err)
    }

    fn why_no_moment(&self) -> Option<String> {
        let Some(Target::Service(name)) = self.target() else { return Some("no service is selected".into()) };
        let make = "a schedule of the type point in time keeps each change (2, then n)";
        self.pitr(&name).is_none().then(|| format!("nothing keeps the changes of {name}: {make}"))
    }

    /// On an empty list of backups or schedules: what leads to the first one.
    pub fn next_step(&self) -> Option<Action> {
        let tab = self.tab();
        let last = match tab {
            Tab::Backups if self.backups_enabled() => Action::CreateBackup,
            Tab::Schedules => Action::CreateSchedule,
            _ => return None,
        };
        if self.list(tab).total > 0 || !self.loaded || self.look.read_only {
            None
        } else if self.data.services.is_empty() {
            Some(Action::AddService)
        } else if self.data.storages.is_empty() {
            Some(Action::AddStorage)
        } else {
            Some(last)
        }
    }

    /// The schedule that the keys of schedules act on.
    pub fn target_schedule(&self) -> Option<&Schedule> {
        match self.target()? {
            Target::Schedule(name) => self.schedule(&name),
            _ => None,
        }
    }

    /// The channel that a test tries: that of the selected setting, else the one that is set up.
    pub fn channel(&self) -> Option<Channel> {
        let is_set = |channel: &Channel| match channel {
            Channel::Command => !self.setting("notify.command").is_empty(),
            Channel::Webhook => !self.setting("notify.webhook_url").is_empty(),
        };
        let at = self.list(Tab::Notifications).current();
        let key = at.and_then(|at| self.data.settings.get(at as usize)).map_or("", |(key, _)| key.as_str());
        let selected = match key {
            "notify.command" => Some(Channel::Command),
            key if key.starts_with("notify.webhook") => Some(Channel::Webhook),
            _ => None,
        };
        selected.filter(is_set).or_else(|| [Channel::Command, Channel::Webhook].into_iter().find(is_set))
    }

    /// The job that cancel and retry act on.
    pub fn target_job(&self) -> Option<&crate::domain::job::Job> {
        self.job_of(&self.target()?)
    }

    /// The remedies of the check of a service or storage that is open, in the order of its lines.
    pub fn remedies(&self) -> Vec<&str> {
        match self.layers.last() {
            Some(Layer::Report { report: Report::Check(name), .. }) => match self.check(name, BackupModel::default()) {
                Some(Load::Ready(report)) => {
                    report.by_urgency().into_iter().map(|i| i.remedy.as_str()).filter(|r| !r.is_empty()).collect()
                }
                Some(Load::Waiting | Load::Failed(_)) | None => Vec::new(),
            },
            Some(Layer::Report { report: Report::Storage(_), .. }) => {
                self.checked_storage().map(remedies_of).unwrap_or_default()
            }
            _ => Vec::new(),
        }
    }

    /// What the check of a storage found whose page is open.
    pub fn checked_storage(&self) -> Option<&StorageReport> {
        let Layer::Report { report: Report::Storage(name), .. } = self.layers.last()? else { return None };
        match self.storage_checks.get(name)? {
            Load::Ready(report) => Some(report),
            Load::Waiting | Load::Failed(_) => None,
        }
    }

    /// What is to be done about what the open page could not find out.
    fn hint_of_failure(&self) -> Option<String> {
        fn hint<T>(load: Option<&Load<T>>) -> Option<String> {
            match load? {
                Load::Failed(problem) => problem.hint.clone(),
                Load::Ready(_) | Load::Waiting => None,
            }
        }
        let Layer::Report { report, .. } = self.layers.last()? else { return None };
        match report {
            Report::Check(name) => hint(self.check(name, BackupModel::default())),
            Report::Storage(name) => hint(self.storage_checks.get(name)),
            Report::Sync { storage, .. } => hint(self.syncs.get(storage)),
            Report::Notification(channel) => hint(self.told.get(channel.word())),
            Report::Test(_) => None,
        }
    }

    /// What the page that is open says to do: the selected remedy of a check, the remedy of a test that failed, the hint of a
    /// job or of a service. With its commands as they are typed for this home.
    pub fn selected_remedy(&self) -> Option<String> {
        let hint = match self.layers.last()? {
            Layer::Report { report: Report::Test(name), .. } => {
                let run = self.tests.get(name)?;
                let failed = run.steps.iter().filter(|step| !step.ok);
                // The last one may have found out what would help.
                let of_step = failed.rev().find_map(|step| step.what_to_do()).map(str::to_owned);
                let of_test = || match &run.result {
                    Some(Err(problem)) => problem.hint.clone(),
                    Some(Ok(())) | None => None,
                };
                of_step.or_else(of_test)
            }
            Layer::Report { .. } => {
                let selected = self.remedies().get(self.remedy).map(|remedy| (*remedy).to_owned());
                selected.or_else(|| self.hint_of_failure())
            }
            Layer::Details { target: target @ (Target::Backup(_) | Target::Job(_) | Target::Schedule(_)), .. } => {
                self.job_of(target).filter(|job| job.error.is_some()).and_then(|job| job.hint.clone())
            }
            Layer::Details { target: Target::Service(name), .. } => {
                let info = match self.infos.get(name) {
                    Some(Load::Failed(problem)) => problem.hint.clone(),
                    Some(Load::Ready(_) | Load::Waiting) | None => None,
                };
                let recording = || self.pitr(name).filter(|s| s.error.is_some()).and_then(|s| s.hint.clone());
                info.or_else(recording)
            }
            _ => None,
        };
        hint.map(|hint| self.commands(&hint))
    }

    /// What a storage is used by, in words: it cannot be removed meanwhile.
    fn users_of_storage(&self, name: &str) -> Option<String> {
        let schedules = self.data.schedules.iter().filter(|s| s.storage == name).map(|s| s.name.as_str());
        let jobs = self.unfinished().filter(|j| j.storage.as_deref() == Some(name)).map(|j| j.id);
        let here = self.data.backups.iter().filter(|b| b.storage == name);
        let failed = here.filter(|b| matches!(b.state, BackupState::Failed | BackupState::Incomplete)).count();
        let backups = self.data.storages.iter().find(|s| s.name == name).map_or(0, |s| s.backups);
        used_by(schedules.collect(), jobs.collect(), backups, failed as u64)
    }

    fn users_of_service(&self, name: &str) -> Option<String> {
        let schedules = self.data.schedules.iter().filter(|s| s.service == name).map(|s| s.name.as_str());
        let jobs = self.unfinished().filter(|j| j.service.as_deref() == Some(name)).map(|j| j.id);
        used_by(schedules.collect(), jobs.collect(), 0, 0)
    }
}

/// Findings of one kind that are shown; the command line has them all.
pub const FINDINGS_SHOWN: usize = 50;

/// In the order of their lines.
fn remedies_of(report: &StorageReport) -> Vec<&str> {
    report.groups().flat_map(|group| group.with_remedies(FINDINGS_SHOWN)).filter_map(|(_, remedy)| remedy).collect()
}

/// `in use by the schedules a, b, job 41, 12 backups`.
fn used_by(schedules: Vec<&str>, jobs: Vec<i64>, backups: u64, failed: u64) -> Option<String> {
    /// So many are named.
    const NAMED: usize = 3;
    let list = |one: &str, many: &str, names: Vec<String>| match names.as_slice() {
        [] => None,
        [name] => Some(format!("{one} {name}")),
        names => {
            let more = names.len().saturating_sub(NAMED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            Some(format!("{many} {}{more}", names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ")))
        }
    };
    let parts: Vec<String> = [
        list("the schedule", "the schedules", schedules.into_iter().map(escape).collect()),
        list("job", "the jobs", jobs.iter().map(ToString::to_string).collect()),
        match backups {
            0 => None,
            1 => Some("1 backup".to_owned()),
            n => Some(counted(n, "backup")),
        },
        match failed {
            0 => None,
            1 => Some("the record of 1 failed backup".to_owned()),
            n => Some(format!("the records of {} failed backups", count(n))),
        },
    ]
    .into_iter()
    .flatten()
    .collect();
    (!parts.is_empty()).then(|| format!("in use by {}", parts.join(", ")))
}
