//! The main job without a terminal: back up under writes, verify, restore beside the original, compare.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::compare::{self, Comparison};
use super::sample::DATABASES;
use super::stage::{SERVICE, STORAGE, Stage, say, values};
use super::writer::Errors;
use crate::domain::job::{Job, JobState};
use crate::domain::restore::RestoreRequest;
use crate::domain::text;
use crate::domain::timestamp::Timestamp;
use crate::error::{Error, ErrorKind, Result};

/// What was done, and whether all of it agreed.
#[derive(Debug, Serialize)]
pub struct Summary {
    pub server_version: String,
    pub backup: String,
    pub documents: u64,
    pub uncompressed_bytes: u64,
    pub size_bytes: u64,
    pub consistent_at_ts: Timestamp,
    pub backup_seconds: f64,
    pub verify_seconds: f64,
    pub restore_seconds: f64,
    /// Changes of the writer while the backup ran.
    pub changes_during_backup: u64,
    /// Its recorded changes, and how many of them belong into the backup.
    pub changes_recorded: u64,
    pub changes_in_backup: u64,
    pub collections_compared: u64,
    pub documents_compared: u64,
    pub indexes_compared: u64,
    pub differences: Vec<String>,
    pub agreed: bool,
}

/// Runs it on `stage`.
pub async fn prove(stage: &Stage) -> Result<Summary> {
    stage.start_daemon().await?;
    let writer = stage.start_writer(Errors::Fail);
    // Something must have been changed before, too.
    writer.wait_for(100).await;

    let start = Instant::now();
    let before = writer.changes();
    let job = stage.client.create_backup(&values([("service", SERVICE), ("storage", STORAGE)]))?;
    let job = finished(stage, job, "backup").await?;
    let backup_seconds = start.elapsed().as_secs_f64();
    let changes_during_backup = writer.changes() - before;
    // And after: a backup that holds the newest state instead of the state of its moment must be found out.
    writer.wait_for(writer.changes() + 100).await;
    let written = writer.stop().await?;
    let name = job.backup.clone().unwrap_or_default();
    let backup = stage.client.backup(&name)?;
    let at = backup
        .consistent_at_ts
        .ok_or_else(|| Error::new(ErrorKind::Internal, format!("backup {name} has no consistent position")))?;

    let start = Instant::now();
    finished(stage, stage.client.verify_backup(&name, None)?, "verify").await?;
    let verify_seconds = start.elapsed().as_secs_f64();

    let restored = |db: &str| format!("{db}_restored");
    let start = Instant::now();
    let rename = DATABASES
        .iter()
        .map(|db| format!("{db}={}", restored(db)).parse().map_err(|e| Error::invalid("rename", e)))
        .collect::<Result<Vec<_>>>()?;
    let request = RestoreRequest {
        data_folder: None,
        mongod: None,
        identity_file: None,
        no_check: false,
        backup: name.clone(),
        point_in_time: None,
        to: SERVICE.into(),
        include: Vec::new(),
        rename,
        exact: false,
        no_ttl: false,
        replset_map: Vec::new(),
        users_and_roles: false,
        safety_backup: false,
    };
    let plan = stage.client.plan_restore(&request).await?;
    if plan.overwrites() {
        return Err(Error::new(ErrorKind::Internal, "the restore beside the original would overwrite something"));
    }
    finished(stage, stage.client.restore(&request, &plan)?, "restore").await?;
    let restore_seconds = start.elapsed().as_secs_f64();

    let mut result = Comparison::default();
    for db in DATABASES {
        compare::databases(&stage.databases[0], db, &restored(db), &mut result).await?;
    }
    compare::written(&stage.databases[0], &restored("shop"), &written, at, &mut result).await?;
    Ok(Summary {
        server_version: backup.server_version.unwrap_or_default(),
        backup: name,
        documents: backup.documents.unwrap_or(0),
        uncompressed_bytes: backup.uncompressed_bytes.unwrap_or(0),
        size_bytes: backup.size_bytes.unwrap_or(0),
        consistent_at_ts: at,
        backup_seconds,
        verify_seconds,
        restore_seconds,
        changes_during_backup,
        changes_recorded: written.len() as u64,
        changes_in_backup: written.until(at) as u64,
        collections_compared: result.collections,
        documents_compared: result.documents,
        indexes_compared: result.indexes,
        agreed: result.differences.is_empty(),
        differences: result.differences,
    })
}

/// Waits for a job and fails when it did not succeed.
async fn finished(stage: &Stage, job: Job, what: &str) -> Result<Job> {
    let mut phase = String::new();
    loop {
        let job = stage.client.job(job.id)?;
        if job.phase != phase && !job.phase.is_empty() {
            phase.clone_from(&job.phase);
            say(&format!("{what}: {}", text::escape(&phase)));
        }
        if job.state == JobState::Succeeded {
            return Ok(job);
        }
        if job.state.is_finished() {
            let why = job.error.unwrap_or_else(|| job.state.word().to_owned());
            let error = Error::new(ErrorKind::Failed, format!("{what} of the demo: {why}"));
            return Err(match job.hint {
                Some(hint) => error.hint(hint),
                None => error,
            });
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

impl Summary {
    /// For people.
    pub fn to_text(&self) -> String {
        let mut out = format!(
            "\nMongoDB {}\n\
             backup    {} documents, {} stored as {}, in {:.1} s, while {} changes were made\n\
             verify    every object read back in {:.1} s\n\
             restore   beside the original in {:.1} s\n\
             compare   {} collections, {} documents, {} indexes; {} of {} recorded changes lie before the backup's \
             moment {}\n",
            self.server_version,
            text::count(self.documents),
            text::bytes(self.uncompressed_bytes),
            text::bytes(self.size_bytes),
            self.backup_seconds,
            text::count(self.changes_during_backup),
            self.verify_seconds,
            self.restore_seconds,
            self.collections_compared,
            text::count(self.documents_compared),
            self.indexes_compared,
            text::count(self.changes_in_backup),
            text::count(self.changes_recorded),
            self.consistent_at_ts,
        );
        for line in &self.differences {
            out.push_str(&format!("differs   {}\n", text::escape(line)));
        }
        out.push_str(if self.agreed { "all agreed\n" } else { "NOT all agreed\n" });
        out
    }
}
