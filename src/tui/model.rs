//! Everything the screen shows, and nothing else: no handles, no clients, no clocks of its own.

use std::collections::{BTreeMap, HashMap, VecDeque};

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use super::form::Draft;
use super::heard::Reach;
use super::keymap::Keymap;
pub use super::layer::{Button, Confirm, Layer, Palette, Report, Review, Target, Then, Typed};
use super::list::List;
pub use super::messages::{About, Level, Message, SHOWN_SECONDS};
use super::msg::{Effect, Problem, Snapshot};
pub use super::screens::{Screen, Sort, SortKey, Tab};
use super::search::Search;
use super::theme::{Theme, Themes};
use super::timeline::TimelinePane;
use crate::client::Contents;
use crate::client::{DaemonStatus, DeliveryResult, SyncReport};
use crate::domain::backup::{Backup, Model as BackupModel};
use crate::domain::cluster::Cluster;
use crate::domain::job::{Job, JobKind, LogLine};
use crate::domain::namespace::NamespaceSize;
use crate::domain::pitr::Status;
use crate::domain::retention::RetentionPlan;
use crate::domain::schedule::Schedule;
use crate::domain::service::{CheckReport, ServiceInfo};
use crate::domain::storage::TestStep;
use crate::domain::storage_check::StorageReport;

/// The setting that names the theme.
pub const THEME: &str = "ui.theme";

/// How many lines of a job's log are kept for the screen.
pub const LOG_LINES: usize = 2_000;

/// Something that is asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Load<T> {
    Waiting,
    Ready(T),
    Failed(Problem),
}

/// How the screen is drawn, decided once at the start.
#[derive(Debug, Clone, Copy, Default)]
pub struct Look {
    pub ascii: bool,
    pub no_color: bool,
    pub no_motion: bool,
    pub no_braille: bool,
    pub read_only: bool,
}

/// The state of a storage test.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TestRun {
    pub steps: Vec<TestStep>,
    /// None while it runs.
    pub result: Option<Result<(), Problem>>,
}

impl TestRun {
    /// Whether it has ended, and every step was good.
    pub fn passed(&self) -> bool {
        self.result == Some(Ok(())) && self.steps.iter().all(|step| step.ok)
    }
}

/// What a sync found, and whether it changes the catalogue.
#[derive(Debug, Clone, PartialEq)]
pub struct Synced {
    pub report: SyncReport,
    pub changes: bool,
}

/// The repair of a storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repair {
    pub job: i64,
    /// It has ended, and the storage was checked anew since.
    pub is_checked: bool,
}

pub struct Model {
    pub size: (u16, u16),
    pub now: DateTime<Utc>,
    pub look: Look,
    /// A theme given on the command line wins over the setting.
    pub forced_theme: Option<String>,
    pub theme: Theme,
    pub themes: Themes,
    pub keymap: Keymap,
    pub zone: Tz,
    /// The zone of this machine.
    pub local_zone: Tz,
    /// `settings_path` and the like, for the About page.
    pub about: Vec<(String, String)>,
    /// What to try, until Esc takes it away.
    pub tip: Option<String>,
    /// The folder that `--home` gave, which the commands on the screen carry.
    pub home: Option<String>,

    pub data: Snapshot,
    /// A snapshot has arrived.
    pub loaded: bool,
    pub lost: Option<Problem>,
    pub daemon: Option<DaemonStatus>,
    pub daemon_problem: Option<Problem>,
    /// Unfinished jobs by the backup they make or touch.
    pub active: HashMap<String, usize>,
    /// Unfinished backup jobs whose backup is not in the catalogue yet.
    pub pending: Vec<usize>,
    /// When each schedule runs, in words.
    pub when: Vec<String>,
    /// The meaning of every crontab line that was seen.
    pub(super) words: HashMap<String, String>,
    pub strip: Vec<super::service_strip::StripRow>,

    pub screen: Screen,
    /// The open tab of each screen.
    pub tabs: [Tab; 4],
    lists: Vec<List>,
    /// Keys go into the filter of the list.
    pub filtering: bool,
    pub sort: Sort,
    pub layers: Vec<Layer>,
    /// What was asked for by the last key, if its answer opens a box. A key or click that comes before the answer was
    /// meant for what is on the screen now, and would reach the box.
    pub(super) asking: Option<Effect>,
    /// How many times something was submitted.
    tickets: u64,
    /// The row that was clicked last, and when: a second click soon after opens it.
    pub(super) clicked: Option<(Tab, usize, DateTime<Utc>)>,

    pub messages: VecDeque<Message>,
    pub frame: usize,

    pub manifests: BTreeMap<String, Load<Contents>>,
    /// By service and the model of the backup that is to be made.
    pub checks: BTreeMap<(String, BackupModel), Load<CheckReport>>,
    pub infos: BTreeMap<String, Load<ServiceInfo>>,
    /// The nodes of services whose engine has some to show, as they were seen last.
    pub clusters: BTreeMap<String, Load<Cluster>>,
    /// What the servers of services hold, as far as it was asked for.
    pub namespaces: BTreeMap<String, Load<Vec<NamespaceSize>>>,
    pub(super) reach: BTreeMap<String, Reach>,
    pub(super) editions: BTreeMap<String, u64>,
    /// Which remedy of the check that is open is selected.
    pub remedy: usize,
    pub tests: BTreeMap<String, TestRun>,
    pub syncs: BTreeMap<String, Load<Synced>>,
    pub storage_checks: BTreeMap<String, Load<StorageReport>>,
    /// The last repair of each storage that was begun from the page of its check.
    pub repairs: BTreeMap<String, Repair>,
    /// How the last test of a channel went, by its word.
    pub told: BTreeMap<&'static str, Load<DeliveryResult>>,
    /// What retention would do, by schedule.
    pub retention: BTreeMap<String, Load<RetentionPlan>>,
    pub timeline: TimelinePane,
    pub free_space: BTreeMap<String, Option<u64>>,
    pub logs: HashMap<i64, VecDeque<LogLine>>,
    /// Bytes a second of the jobs that run, the newest last.
    pub rates: HashMap<i64, VecDeque<u64>>,
    /// What is looked for in the page that is open.
    pub search: Search,
    /// The page that is open stays at its end, where the log grows.
    pub follows: bool,
    /// Which logs and manifests came last.
    pub(super) log_order: VecDeque<i64>,
    pub(super) manifest_order: VecDeque<String>,

    /// Something changed that the next frame shows.
    pub dirty: bool,
    pub quitting: bool,
}

impl Model {
    /// What is known of the prerequisites of backups of this model.
    pub fn check(&self, service: &str, model: BackupModel) -> Option<&Load<CheckReport>> {
        self.checks.get(&(service.to_owned(), model))
    }

    pub fn new(look: Look, forced_theme: Option<String>, size: (u16, u16), now: DateTime<Utc>, local_zone: Tz) -> Self {
        let mut model = Self {
            size,
            now,
            look,
            forced_theme,
            theme: Theme::default(),
            themes: Themes::with(&[]).0,
            keymap: Keymap::builtin(),
            zone: local_zone,
            local_zone,
            about: Vec::new(),
            tip: None,
            home: None,
            data: Snapshot::default(),
            loaded: false,
            lost: None,
            daemon: None,
            daemon_problem: None,
            active: HashMap::new(),
            pending: Vec::new(),
            when: Vec::new(),
            words: HashMap::new(),
            strip: Vec::new(),
            screen: Screen::Backups,
            tabs: Screen::ALL.map(|s| Tab::of(s)[0]),
            lists: Tab::ALL.iter().map(|_| List::default()).collect(),
            filtering: false,
            sort: Sort { key: SortKey::Age, reversed: false },
            layers: Vec::new(),
            asking: None,
            tickets: 0,
            clicked: None,
            messages: VecDeque::new(),
            frame: 0,
            manifests: BTreeMap::new(),
            checks: BTreeMap::new(),
            infos: BTreeMap::new(),
            clusters: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            reach: BTreeMap::new(),
            editions: BTreeMap::new(),
            remedy: 0,
            tests: BTreeMap::new(),
            syncs: BTreeMap::new(),
            storage_checks: BTreeMap::new(),
            repairs: BTreeMap::new(),
            told: BTreeMap::new(),
            retention: BTreeMap::new(),
            timeline: TimelinePane::default(),
            free_space: BTreeMap::new(),
            logs: HashMap::new(),
            rates: HashMap::new(),
            search: Search::default(),
            follows: false,
            log_order: VecDeque::new(),
            manifest_order: VecDeque::new(),
            dirty: true,
            quitting: false,
        };
        model.choose_theme();
        model.refresh_rows();
        model
    }

    /// The value of a dotted key; empty before the first snapshot.
    pub fn setting(&self, key: &str) -> &str {
        self.data.settings.iter().find(|(k, _)| k == key).map_or("", |(_, v)| v.as_str())
    }

    /// `text` with its commands as they are typed for this home.
    pub fn commands(&self, text: &str) -> String {
        crate::domain::command_line::in_home(text, self.home.as_deref())
    }

    /// `text` safe to show, with its commands as they are typed for this home: whatever says what went wrong or what to do may
    /// name one.
    pub fn say(&self, text: &str) -> String {
        crate::domain::text::escape(&self.commands(text))
    }

    /// False only when a person turned it off.
    pub fn backups_enabled(&self) -> bool {
        self.setting("backup.enabled") != "false"
    }

    pub fn motion(&self) -> bool {
        !self.look.no_motion && self.setting("ui.motion") != "false"
    }

    pub fn mouse(&self) -> bool {
        self.setting("ui.mouse") == "true"
    }

    pub fn tab(&self) -> Tab {
        self.tabs[self.screen as usize]
    }

    pub fn list(&self, tab: Tab) -> &List {
        &self.lists[tab as usize]
    }

    pub fn list_mut(&mut self, tab: Tab) -> &mut List {
        &mut self.lists[tab as usize]
    }

    /// The row of `All backups` at position `at`: a backup, or a job that will make one.
    pub fn backup_row(&self, at: u32) -> Option<BackupRow<'_>> {
        let at = at as usize;
        match at.checked_sub(self.data.backups.len()) {
            None => self.data.backups.get(at).map(|backup| {
                BackupRow::Backup(backup, self.active.get(&backup.name).and_then(|i| self.data.jobs.get(*i)))
            }),
            Some(rest) => self.pending.get(rest).and_then(|i| self.data.jobs.get(*i)).map(BackupRow::Pending),
        }
    }

    /// What the row at a position of a tab's data is called.
    pub fn row_key(&self, tab: Tab, at: u32) -> String {
        let i = at as usize;
        let key = match tab {
            Tab::Backups => self.backup_row(at).map(|row| match row {
                BackupRow::Backup(backup, _) => backup.name.clone(),
                BackupRow::Pending(job) => job.backup.clone().unwrap_or_default(),
            }),
            Tab::Restores | Tab::Jobs => self.data.jobs.get(i).map(|j| j.id.to_string()),
            Tab::Storages => self.data.storages.get(i).map(|s| s.name.clone()),
            Tab::Services => self.data.services.get(i).map(|s| s.name.clone()),
            Tab::Schedules => self.data.schedules.get(i).map(|s| s.name.clone()),
            Tab::General | Tab::Notifications | Tab::Appearance => self.data.settings.get(i).map(|(k, _)| k.clone()),
            Tab::Keys => super::action::Action::ALL.get(i).map(|a| a.name().to_owned()),
            Tab::About => None,
        };
        key.unwrap_or_default()
    }

    /// Selects a row of the open list.
    pub fn select(&mut self, to: usize) {
        let tab = self.tab();
        let list = self.list(tab);
        let to = to.min(list.rows.len().saturating_sub(1));
        let key = list.rows.get(to).map(|at| self.row_key(tab, *at));
        let list = self.list_mut(tab);
        list.selected = to;
        list.key = key;
    }

    /// What the keys of backups and jobs act on: the page that is open, else the selected row.
    pub fn target(&self) -> Option<Target> {
        if let Some(Layer::Details { target, .. }) = self.layers.iter().rev().find(|l| l.is_page()) {
            return Some(target.clone());
        }
        let tab = self.tab();
        let at = self.list(tab).current()?;
        match tab {
            Tab::Backups => match self.backup_row(at)? {
                BackupRow::Backup(backup, _) => Some(Target::Backup(backup.name.clone())),
                BackupRow::Pending(job) => Some(Target::Job(job.id)),
            },
            Tab::Restores | Tab::Jobs => self.data.jobs.get(at as usize).map(|j| Target::Job(j.id)),
            Tab::Storages => self.data.storages.get(at as usize).map(|s| Target::Storage(s.name.clone())),
            Tab::Services => self.data.services.get(at as usize).map(|s| Target::Service(s.name.clone())),
            Tab::Schedules => self.data.schedules.get(at as usize).map(|s| Target::Schedule(s.name.clone())),
            _ => None,
        }
    }

    pub fn backup(&self, name: &str) -> Option<&Backup> {
        self.data.backups.iter().find(|b| b.name == name)
    }

    pub fn schedule(&self, name: &str) -> Option<&Schedule> {
        self.data.schedules.iter().find(|s| s.name == name)
    }

    /// What can be restored to any moment of a service; `None`: nothing keeps its changes.
    pub fn pitr(&self, service: &str) -> Option<&Status> {
        self.data.pitr.iter().find(|s| s.service == service)
    }

    /// The service that the row or page is about, or belongs to.
    pub fn service_of(&self, target: &Target) -> Option<String> {
        let name = match target {
            Target::Service(name) => Some(name.clone()),
            Target::Backup(name) => self.backup(name).map(|b| b.service.clone()),
            Target::Job(id) => self.job(*id).and_then(|j| j.service.clone()),
            Target::Schedule(name) => self.schedule(name).map(|s| s.service.clone()),
            Target::Storage(_) => None,
        };
        name.filter(|name| self.data.services.iter().any(|s| s.name == *name))
    }

    pub fn job(&self, id: i64) -> Option<&Job> {
        self.data.jobs.iter().find(|j| j.id == id)
    }

    /// The job that a page or row is about: its own, the unfinished one of a backup, or the last that touched it.
    pub fn job_of(&self, target: &Target) -> Option<&Job> {
        match target {
            Target::Job(id) => self.job(*id),
            Target::Backup(name) => match self.active.get(name) {
                Some(i) => self.data.jobs.get(*i),
                None => self
                    .data
                    .jobs
                    .iter()
                    .find(|j| j.kind == JobKind::Backup && j.backup.as_deref() == Some(name.as_str())),
            },
            Target::Schedule(name) => {
                self.schedule(name).and_then(|s| s.last.as_ref()).and_then(|last| self.job(last.job))
            }
            Target::Storage(_) | Target::Service(_) => None,
        }
    }

    /// The job whose log is on the screen.
    pub fn watched_job(&self) -> Option<i64> {
        let target = self.target()?;
        self.job_of(&target).map(|j| j.id)
    }

    /// The service whose page is on the screen, if its engine has nodes to show.
    pub fn watched_cluster(&self) -> Option<&str> {
        match self.layers.iter().rev().find(|l| l.is_page())? {
            Layer::Details { target: Target::Service(name), .. } => {
                let service = self.data.services.iter().find(|s| s.name == *name)?;
                service.engine.has_nodes().then_some(service.name.as_str())
            }
            _ => None,
        }
    }

    /// Whether something is being done on the nodes that are on the screen.
    pub fn cluster_works(&self) -> bool {
        let cluster = self.watched_cluster().and_then(|name| self.clusters.get(name));
        matches!(cluster, Some(Load::Ready(cluster)) if cluster.is_working())
    }

    pub fn running_jobs(&self) -> impl Iterator<Item = &Job> {
        use crate::domain::job::JobState;
        self.unfinished().filter(|j| j.state == JobState::Running)
    }

    /// Jobs that the daemon has to do something about.
    pub fn unfinished(&self) -> impl Iterator<Item = &Job> {
        self.data.jobs.iter().filter(|j| !j.state.is_finished())
    }

    /// Whether a form or another box is open, maybe below a page.
    pub fn has_box(&self) -> bool {
        self.layers.iter().any(|l| !l.is_page())
    }

    /// The number of the next submission.
    pub(super) fn next_ticket(&mut self) -> u64 {
        self.tickets += 1;
        self.tickets
    }

    /// Whether nothing was pressed since `effect` was asked for, so that its answer may open a box.
    pub(super) fn still_asks(&mut self, effect: &Effect) -> bool {
        self.asking.take_if(|asked| asked == effect).is_some()
    }

    /// Whether something on the screen moves by itself.
    pub fn is_animated(&self) -> bool {
        // A daemon that does not answer moves nothing on, whatever was going on; the agents of a cluster go on.
        let job_moves = self.running_jobs().next().is_some() || self.is_waiting();
        self.motion() && ((job_moves && self.daemon_silence().is_none()) || self.cluster_works())
    }

    /// For how many seconds the daemon, which runs, has given no sign of life, when that is too long.
    pub fn daemon_silence(&self) -> Option<u64> {
        let since = self.daemon.as_ref().filter(|d| d.running)?.silent_since?;
        Some((self.now - since).num_seconds().max(0) as u64)
    }

    /// Whether a job counts down to its next attempt, or a silence is counted: then each second is another picture.
    pub fn counts_down(&self) -> bool {
        use crate::domain::job::JobState;
        if self.daemon_silence().is_some() {
            return true;
        }
        self.unfinished()
            .any(|j| j.state == JobState::WaitingRetry && j.next_attempt_at.is_some_and(|at| at > self.now))
    }

    fn is_waiting(&self) -> bool {
        self.layers.iter().any(|layer| match layer {
            Layer::Form(form) => {
                let reads = |draft: &Draft| draft.holds == Some(Load::Waiting);
                form.submitting
                    || form.trial.as_ref().is_some_and(|t| t.outcome == Load::Waiting)
                    || form.draft.as_ref().is_some_and(reads)
            }
            Layer::Picker(_) => {
                let waits = |load: &Load<Vec<NamespaceSize>>| *load == Load::Waiting;
                self.namespaces.values().any(waits) || self.manifests.values().any(|m| *m == Load::Waiting)
            }
            Layer::Review(review) => review.submitting,
            Layer::Report { report: Report::Check(name), .. } => {
                matches!(self.check(name, BackupModel::default()), Some(Load::Waiting))
            }
            Layer::Report { report: Report::Notification(channel), .. } => {
                matches!(self.told.get(channel.word()), Some(Load::Waiting))
            }
            Layer::Report { report: Report::Sync { storage, .. }, .. } => {
                matches!(self.syncs.get(storage), Some(Load::Waiting))
            }
            Layer::Report { report: Report::Storage(name), .. } => {
                let repairs = self.repairs.get(name).is_some_and(|repair| !repair.is_checked);
                repairs || matches!(self.storage_checks.get(name), Some(Load::Waiting))
            }
            Layer::Report { report: Report::Test(name), .. } => {
                self.tests.get(name).is_some_and(|t| t.result.is_none())
            }
            Layer::Details { target: Target::Service(name), .. } => {
                matches!(self.clusters.get(name), Some(Load::Waiting))
            }
            _ => false,
        })
    }
}

/// A row of `All backups`.
#[derive(Debug, Clone, Copy)]
pub enum BackupRow<'a> {
    /// With the unfinished job that works on it.
    Backup(&'a Backup, Option<&'a Job>),
    /// A backup job that has not begun, or has not reached the catalogue.
    Pending(&'a Job),
}
