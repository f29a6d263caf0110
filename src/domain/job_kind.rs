//! The kinds of job: one entry each, with what it is asked to do, and every word and rule that differs between them.
//!
//! Screens, command line, notifications and the store ask here. What a kind does is in `daemon::jobs`.

use serde::{Deserialize, Serialize};

use super::backup::BackupRequest;
use super::event::Event;
use super::job::{Job, JobState};
use super::restore::{RestorePlan, RestoreRequest};
use super::storage_check::RepairPlan;
use super::text::escape;
use super::words::words;

words! {
    #[derive(Hash)]
    pub enum JobKind {
        Backup => "backup",
        Restore => "restore",
        Delete => "delete",
        Retention => "retention",
        Verify => "verify",
        Repair => "repair",
    }
}

/// What the daemon is to do; kept as JSON with the job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum JobRequest {
    Backup(BackupRequest),
    /// The plan that was confirmed: the restore refuses when the target no longer matches it.
    Restore {
        request: RestoreRequest,
        plan: Box<RestorePlan>,
    },
    /// Removes a backup's record and, unless `keep_files`, its objects.
    Delete {
        backup: String,
        keep_files: bool,
        /// The attempt of another installation that a person saw named in the plan, and let go all the same. `None`: only
        /// what this home made goes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        foreign: Option<String>,
        /// Of the base of a chain: the increments that go with it.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        increments: Vec<String>,
    },
    Verify {
        backup: String,
        /// Where the identity is that opens what is encrypted; `None`: where the settings say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        identity_file: Option<String>,
    },
    /// Deletes what the retention of a schedule no longer keeps, as it is when the job runs.
    Retention {
        schedule: String,
    },
    /// Removes from a storage what a check found and a person let go: what the plan names, and nothing else.
    Repair {
        storage: String,
        plan: Box<RepairPlan>,
    },
}

impl JobRequest {
    /// The file that a person named for it, with the identity that opens what is encrypted.
    pub fn identity_file(&self) -> Option<&str> {
        match self {
            Self::Restore { request, .. } => request.identity_file.as_deref(),
            Self::Verify { identity_file, .. } => identity_file.as_deref(),
            Self::Backup(_) | Self::Delete { .. } | Self::Retention { .. } | Self::Repair { .. } => None,
        }
    }

    pub fn kind(&self) -> JobKind {
        match self {
            Self::Backup(_) => JobKind::Backup,
            Self::Restore { .. } => JobKind::Restore,
            Self::Delete { .. } => JobKind::Delete,
            Self::Verify { .. } => JobKind::Verify,
            Self::Retention { .. } => JobKind::Retention,
            Self::Repair { .. } => JobKind::Repair,
        }
    }
}

/// What differs between the kinds.
pub struct KindEntry {
    /// The state of one that runs: `restoring`.
    pub doing: &'static str,
    /// What it is in a few words: `restore of nightly-1 into orders`.
    pub title: fn(&Job) -> String,
    /// What a notification calls it, and of what it is one: `the restore of`.
    pub noun: &'static str,
    pub of: Of,
    /// What is left behind when it is cancelled after it began; before that nothing is, unless it says so.
    pub left_behind: fn(&Job) -> String,
    pub repeat: Repeat,
    /// What becomes of the backup that it names.
    pub on_backup: OnBackup,
    /// Whether it is worth a notification that it succeeded.
    pub reports_success: bool,
    /// The event of its failure.
    pub failure: Event,
}

/// What a job is named after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    Backup,
    Schedule,
    Storage,
}

/// What repeating a job means that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// The same once more.
    AsItWas,
    /// A person confirms it anew, as things are now.
    AskAnew,
}

/// What a job does to the backup that it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnBackup {
    /// It comes to be by this job.
    Makes,
    /// It goes by this job.
    Removes,
    /// It stays as it is, and must be good.
    Reads,
    /// The job is about no single one.
    Nothing,
}

impl JobKind {
    pub fn entry(self) -> &'static KindEntry {
        match self {
            Self::Backup => &BACKUP,
            Self::Restore => &RESTORE,
            Self::Delete => &DELETE,
            Self::Retention => &RETENTION,
            Self::Verify => &VERIFY,
            Self::Repair => &REPAIR,
        }
    }
}

const BACKUP: KindEntry = KindEntry {
    doing: "running",
    // A run that was not made has no backup.
    title: |job| match &job.backup {
        Some(backup) => format!("backup {}", escape(backup)),
        None => format!("a run of {}", named(job.schedule.as_deref())),
    },
    noun: "backup",
    of: Of::Backup,
    left_behind: |_| "What it has written to the storage so far is removed.".into(),
    repeat: Repeat::AsItWas,
    on_backup: OnBackup::Makes,
    reports_success: true,
    failure: Event::Failure,
};

const RESTORE: KindEntry = KindEntry {
    doing: "restoring",
    title: |job| {
        let into = job.service.as_ref().map_or_else(String::new, |service| format!(" into {}", escape(service)));
        match job.point_in_time {
            Some(_) => format!("restore to a moment{into}"),
            None => format!("restore of {}{into}", named(job.backup.as_deref())),
        }
    },
    noun: "the restore of",
    of: Of::Backup,
    left_behind: |job| {
        let target = escape(job.service.as_deref().unwrap_or("the target"));
        begun(
            job,
            format!(
                "What it has written to {target} stays, and what it has replaced does not come back: what it was to \
                 restore there may be missing, partial or complete. Nothing is rolled back."
            ),
        )
    },
    repeat: Repeat::AskAnew,
    on_backup: OnBackup::Reads,
    reports_success: true,
    failure: Event::Failure,
};

const DELETE: KindEntry = KindEntry {
    doing: "deleting",
    title: |job| format!("delete {}", named(job.backup.as_deref())),
    noun: "the deletion of",
    of: Of::Backup,
    left_behind: |job| {
        let gone = "What it has deleted is gone. A backup of which something was deleted cannot be restored any more.";
        begun(job, gone.into())
    },
    repeat: Repeat::AskAnew,
    on_backup: OnBackup::Removes,
    reports_success: false,
    failure: Event::Failure,
};

const RETENTION: KindEntry = KindEntry {
    doing: "deleting",
    title: |job| format!("retention of {}", named(job.schedule.as_deref())),
    noun: "retention of schedule",
    of: Of::Schedule,
    left_behind: |job| begun(job, "The backups it has deleted are gone; the others stay.".into()),
    repeat: Repeat::AsItWas,
    on_backup: OnBackup::Nothing,
    reports_success: false,
    failure: Event::RetentionFailure,
};

const VERIFY: KindEntry = KindEntry {
    doing: "verifying",
    title: |job| format!("verify {}", named(job.backup.as_deref())),
    noun: "the verification of",
    of: Of::Backup,
    left_behind: |_| "It only reads: nothing changes.".into(),
    repeat: Repeat::AsItWas,
    on_backup: OnBackup::Reads,
    reports_success: true,
    failure: Event::Failure,
};

const REPAIR: KindEntry = KindEntry {
    doing: "removing",
    title: |job| format!("repair of storage {}", named(job.storage.as_deref())),
    noun: "the repair of storage",
    of: Of::Storage,
    left_behind: |job| begun(job, "What it has removed belonged to no backup, and is gone.".into()),
    repeat: Repeat::AsItWas,
    on_backup: OnBackup::Nothing,
    reports_success: false,
    failure: Event::Failure,
};

fn named(name: Option<&str>) -> String {
    escape(name.unwrap_or("-"))
}

/// `then`, or that nothing was begun.
fn begun(job: &Job, then: String) -> String {
    if job.started_at.is_some() || job.state == JobState::Running {
        then
    } else {
        "It has not begun: nothing changes.".into()
    }
}
