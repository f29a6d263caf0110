//! What comes into `update`, and what it asks for.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use crossterm::event::{KeyEvent, MouseEvent};

use crate::client::Contents;
use crate::client::{
    DaemonStatus, DeletePlan, DeliveryResult, Holdings, ServiceView, StorageView, SyncPlan, SyncReport, Values,
};
use crate::domain::backup::{Backup, Model as BackupModel};
use crate::domain::cluster::Cluster;
use crate::domain::job::{Job, JobRequest, LogLine};
use crate::domain::namespace::NamespaceSize;
use crate::domain::notification::Channel;
use crate::domain::pitr::Status;
use crate::domain::restore::{RestorePlan, RestoreRequest};
use crate::domain::retention::RetentionPlan;
use crate::domain::schedule::Schedule;
use crate::domain::service::{CheckItem, CheckReport, EngineProposal, ServiceInfo};
use crate::domain::storage::TestStep;
use crate::domain::storage_check::{RepairPlan, StorageReport};
use crate::domain::timeline::{FreeSlot, Timeline};
use crate::domain::warning::Warning;
use crate::error::{Error, ErrorKind};

/// An error as the screen keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub kind: ErrorKind,
    /// The key of the field whose value is wrong; the message begins with it.
    pub field: Option<String>,
    pub message: String,
    pub hint: Option<String>,
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self {
            kind: error.kind(),
            field: error.field().map(str::to_owned),
            message: error.full(),
            hint: error.hint_text().map(crate::domain::text::escape),
        }
    }
}

/// One look at the store.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    pub services: Vec<ServiceView>,
    pub storages: Vec<StorageView>,
    pub schedules: Vec<Schedule>,
    /// What can be restored to any moment, of the services that have such a thing.
    pub pitr: Vec<Status>,
    /// What a person should look at, the most urgent first.
    pub warnings: Vec<Warning>,
    pub backups: Arc<Vec<Backup>>,
    pub jobs: Arc<Vec<Job>>,
    /// Dotted key and value.
    pub settings: Vec<(String, String)>,
    /// Why the settings file cannot be read; then the settings are those of before.
    pub settings_problem: Option<Problem>,
    pub read_at: DateTime<Utc>,
}

/// Everything that can happen.
#[derive(Debug)]
pub enum Msg {
    Key(KeyEvent),
    /// A key that came faster than a person types: part of a paste that is not marked as one, or sent by a program.
    Rushed(KeyEvent),
    Paste(String),
    Mouse(MouseEvent),
    Resize(u16, u16),
    /// The time now: spinners turn, messages go, the clock moves.
    Clock(DateTime<Utc>),
    Snapshot(Box<Snapshot>),
    /// The store could not be read.
    StoreLost(Problem),
    Daemon(DaemonStatus),
    /// Whether a service can be reached, heard by a watch of this edition of it.
    Heard {
        service: String,
        edition: u64,
        heard: Result<(), Problem>,
    },
    /// The daemon does not start, or cannot be asked.
    DaemonLost(Problem),
    /// More lines of a job's log.
    Log {
        job: i64,
        lines: Vec<LogLine>,
    },
    /// A step of a running storage test.
    TestStep {
        storage: String,
        step: TestStep,
    },
    /// The screen was handed to the shell and came back.
    Resumed,
    Reply(Box<Reply>),
}

/// Under which name the steps of the test of a form arrive: no storage can be called so.
pub fn draft_name(ticket: u64) -> String {
    format!("/draft/{ticket}")
}

/// How an [`Effect`] ended.
#[derive(Debug)]
pub enum Reply {
    ServiceSaved(Result<ServiceView, Problem>),
    /// It was not added: another engine fits it better.
    EngineProposed(Box<EngineProposal>),
    ServiceRemoved {
        name: String,
        result: Result<(), Problem>,
    },
    ServiceChecked {
        name: String,
        model: BackupModel,
        result: Result<CheckReport, Problem>,
    },
    ServiceInfo {
        name: String,
        result: Result<ServiceInfo, Problem>,
    },
    /// `None`: its engine works on the server alone.
    ClusterSeen {
        name: String,
        result: Result<Option<Box<Cluster>>, Problem>,
    },
    NamespacesListed {
        service: String,
        result: Result<Vec<NamespaceSize>, Problem>,
    },
    ServiceTried(Result<(ServiceInfo, Vec<CheckItem>), Problem>),
    StorageSaved(Result<StorageView, Problem>),
    StorageRemoved {
        name: String,
        result: Result<(), Problem>,
    },
    StorageTested {
        name: String,
        result: Result<Vec<TestStep>, Problem>,
    },
    /// What a sync would change, for the page that asked under this number.
    SyncPlanned {
        ticket: u64,
        name: String,
        result: Result<Box<SyncPlan>, Problem>,
    },
    StorageSynced {
        name: String,
        result: Result<SyncReport, Problem>,
    },
    StorageChecked {
        name: String,
        result: Result<StorageReport, Problem>,
    },
    /// The removal of what a check found was queued.
    RepairQueued {
        storage: String,
        result: Result<Job, Problem>,
    },
    /// What the location of a form holds that was tested under this number.
    HoldingsRead {
        ticket: u64,
        result: Result<Holdings, Problem>,
    },
    FreeSpace {
        name: String,
        result: Result<Option<u64>, Problem>,
    },
    NameSuggested {
        service: String,
        result: Result<String, Problem>,
    },
    /// A job was queued from a form or key; `what` names it in the message.
    Queued {
        what: String,
        result: Result<Job, Problem>,
    },
    Manifest {
        backup: String,
        result: Result<Box<Contents>, Problem>,
    },
    DeletePlanned {
        backup: String,
        result: Result<Box<(DeletePlan, DeletePlan)>, Problem>,
    },
    RestorePlanned {
        request: Box<RestoreRequest>,
        result: Result<Box<RestorePlan>, Problem>,
    },
    /// Operations in so many equal parts of the seconds from `from` to `to`.
    Operations {
        service: String,
        from: u32,
        to: u32,
        buckets: usize,
        result: Result<Vec<u64>, Problem>,
    },
    Pinned {
        backup: String,
        result: Result<bool, Problem>,
    },
    /// A schedule was added, or edited under its old name.
    ScheduleSaved {
        edited: bool,
        result: Result<Box<Schedule>, Problem>,
    },
    ScheduleSwitched {
        name: String,
        result: Result<Box<Schedule>, Problem>,
    },
    ScheduleCopied {
        name: String,
        result: Result<Box<Schedule>, Problem>,
    },
    ScheduleRemoved {
        name: String,
        result: Result<(), Problem>,
    },
    RetentionPlanned {
        schedule: String,
        result: Result<Box<RetentionPlan>, Problem>,
    },
    /// The coming runs, for the pane of the screen.
    Timeline(Result<Box<Timeline>, Problem>),
    /// Where a schedule would meet nothing.
    FreeSlot {
        schedule: String,
        slot: Option<FreeSlot>,
    },
    /// The coming runs with the schedule of a form, as it was with these values.
    Previewed {
        values: Values,
        result: Result<Box<Timeline>, Problem>,
        free: Option<FreeSlot>,
    },
    /// What is wrong by now: time alone makes a service stale.
    Warnings(Result<Vec<Warning>, Problem>),
    NotificationTested {
        channel: Channel,
        result: Result<DeliveryResult, Problem>,
    },
    /// What a job that is to be repeated was queued to do.
    JobRequested {
        id: i64,
        result: Result<Box<JobRequest>, Problem>,
    },
    JobCancelled {
        id: i64,
        result: Result<(), Problem>,
    },
    SettingSaved {
        key: String,
        result: Result<(), Problem>,
    },
    Copied {
        text: String,
        result: Result<(), String>,
    },
    /// The answer to a question about a service as it was at this edition.
    OfService {
        service: String,
        edition: u64,
        reply: Box<Reply>,
    },
    /// The answer to what was submitted under this number.
    Submitted {
        ticket: u64,
        reply: Box<Reply>,
    },
}

/// What `update` wants done; the driver does it and answers with a [`Reply`].
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    Quit,
    Suspend,
    /// Send every cell again.
    Redraw,
    Copy(String),
    EnsureDaemon,
    /// Adds it, unless its server says that another engine fits it better.
    AddService(Values),
    AddServiceAnyway(Values),
    EditService(String, Values),
    RemoveService(String),
    CheckService(String, BackupModel),
    ServiceInfo(String),
    /// Asks the engine of a service for the nodes.
    Cluster(String),
    /// Asks the server of a service for its collections.
    Namespaces(String),
    /// Tries a service that is still in its form.
    /// `edited`: the service that it would change, of which the rest is taken.
    TryService {
        edited: Option<String>,
        values: Values,
    },
    AddStorage(Values),
    EditStorage(String, Values),
    RemoveStorage(String),
    TestStorage(String),
    /// Tries what was typed into a form; `edited` is the storage that it would change. See [`draft_name`].
    TestDraft {
        ticket: u64,
        edited: Option<String>,
        values: Values,
    },
    /// Notes for a storage that was just saved the test that its form has passed.
    KeepTest {
        name: String,
        steps: Vec<TestStep>,
    },
    /// Finds what a sync of a storage would change in the catalogue, for the page of this number.
    PlanSync {
        ticket: u64,
        storage: String,
    },
    /// Changes it, once a person has seen it.
    CarryOutSync(String, Box<SyncPlan>),
    CheckStorage(String),
    /// Removes what the plan of a check names, once a person has seen it.
    RepairStorage(String, Box<RepairPlan>),
    /// Reads what the location of a form holds, which has passed its test under this number.
    ReadHoldings {
        ticket: u64,
        edited: Option<String>,
        values: Values,
    },
    FreeSpace(String),
    SuggestName(String),
    CreateBackup(Values),
    /// With the file of its identity, where that was asked for.
    Verify(String, Option<String>),
    Manifest(String),
    Pin(String, bool),
    PlanDelete(String),
    Delete {
        backup: String,
        keep_files: bool,
        /// The attempt of another installation whose name was typed.
        foreign: Option<String>,
        /// Those that the plan says go with it.
        increments: Vec<String>,
    },
    /// Counts operations, for the timeline of a restore.
    Operations {
        service: String,
        from: u32,
        to: u32,
        buckets: usize,
    },
    PlanRestore(Box<RestoreRequest>),
    Restore(Box<RestoreRequest>, Box<RestorePlan>),
    AddSchedule(Values),
    EditSchedule(String, Values),
    SwitchSchedule(String, bool),
    RunSchedule(String),
    CopySchedule(String),
    RemoveSchedule(String),
    PlanRetention(String),
    Timeline {
        from: DateTime<Utc>,
        until: DateTime<Utc>,
    },
    /// The nearest free time of a schedule.
    FreeSlot(String),
    /// What the coming runs would be with the schedule of a form.
    Preview {
        from: DateTime<Utc>,
        until: DateTime<Utc>,
        values: Values,
    },
    Warnings,
    TestNotification(Channel),
    CancelJob(i64),
    RetryJob(i64),
    /// Asks what a job was queued to do: to repeat it is asked for, or planned and confirmed, anew.
    JobRequest(i64),
    SetSetting(String, String),
    /// What a form or a plan was submitted for; only the one that waits under this number takes the answer.
    Submitted {
        ticket: u64,
        effect: Box<Effect>,
    },
}
