//! A schedule: a backup that happens by itself.

use chrono::{DateTime, Timelike, Utc};
use serde::{Deserialize, Serialize};

use super::backup::{BackupType, Compression, Model};
use super::job::JobState;
use super::namespace::Selection;
use super::retention::Retention;
use super::retry::RetryPolicy;
use crate::domain::clock;
use crate::error::{Error, Result};

/// Serialised, it is the `schedule` object of the command-line contract.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    pub name: String,
    pub service: String,
    pub storage: String,
    pub folder: String,
    #[serde(rename = "type")]
    pub backup_type: BackupType,
    pub model: Model,
    #[serde(default)]
    pub selection: Selection,
    /// `None`: the setting `backup.compression` at the time of each run.
    pub compression: Option<Compression>,
    /// The crontab line as it was typed.
    pub cron: String,
    /// An IANA name; the line is read in this zone.
    pub timezone: String,
    /// Nothing runs before.
    pub start: DateTime<Utc>,
    pub retention: Retention,
    pub retry: RetryPolicy,
    pub enabled: bool,
    pub created_at: DateTime<Utc>,
    /// When it runs next; `None` while it is off.
    pub next_at: Option<DateTime<Utc>>,
    /// The newest run that was made, skipped or missed.
    pub last: Option<LastRun>,
    /// The restore into its service that it waits for.
    pub paused_by: Option<i64>,
}

/// One run of a schedule, as its job tells it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LastRun {
    /// When it was due.
    pub at: DateTime<Utc>,
    pub job: i64,
    pub state: JobState,
    pub backup: Option<String>,
    pub finished_at: Option<DateTime<Utc>>,
    pub error: Option<String>,
}

/// One in which everything that has a default has it, that is on and begins now; the rest is empty.
impl Default for Schedule {
    fn default() -> Self {
        Self {
            name: String::new(),
            service: String::new(),
            storage: String::new(),
            folder: String::new(),
            backup_type: BackupType::default(),
            model: Model::default(),
            selection: Selection::default(),
            compression: None,
            cron: String::new(),
            timezone: String::new(),
            start: clock::now(),
            retention: Retention::default(),
            retry: RetryPolicy::default(),
            enabled: true,
            created_at: clock::now(),
            next_at: None,
            last: None,
            paused_by: None,
        }
    }
}

impl Schedule {
    /// What the fields must be together. Changes of everything are recorded, and only a backup of everything can be
    /// followed by them; physical backups hold everything.
    ///
    /// Errors: `Invalid`, naming the field.
    pub fn check(&self) -> Result<()> {
        self.model.check_type(self.backup_type)?;
        if self.backup_type != BackupType::Pitr {
            return self.model.check_selection(&self.selection);
        }
        let refused = |field: &str, why: &str| Err(Error::invalid(field, format!("--type pitr {why}")));
        if self.model != Model::Logical {
            return refused("model", "needs the logical model");
        }
        for (field, patterns) in [("include", &self.selection.include), ("exclude", &self.selection.exclude)] {
            if !patterns.is_empty() {
                return refused(field, "needs backups of everything; a restore can still select namespaces");
            }
        }
        Ok(())
    }

    /// What the run that was due at `due_at` is called, unless that name is taken: `NAME-20261121-0200`, in the zone
    /// of the schedule.
    pub fn backup_name(&self, due_at: DateTime<Utc>) -> String {
        let zone: chrono_tz::Tz = self.timezone.parse().unwrap_or(chrono_tz::Tz::UTC);
        let at = due_at.with_timezone(&zone);
        let form = if at.second() == 0 { "%Y%m%d-%H%M" } else { "%Y%m%d-%H%M%S" };
        // Room for the time and a number within the 100 characters of a name.
        let name: String = self.name.chars().take(75).collect();
        format!("{name}-{}", at.format(form))
    }
}
