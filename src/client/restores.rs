//! Restores: planned while a person watches, run by the daemon.

use std::path::Path;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{Client, ResolvedMoment};
use crate::artifact::layout::BackupRoot;
use crate::config::Settings;
use crate::domain::backup::{Backup, BackupRequest, BackupType, Model};
use crate::domain::job::Job;
use crate::domain::namespace::Selection;
use crate::domain::pitr::{PlannedReplay, expected_seconds};
use crate::domain::restore::{RestorePlan, RestoreRequest};
use crate::domain::retry::RetryPolicy;
use crate::engine::logical::{ExportReport, Later, Stored};
use crate::engine::{Context, Limits, Meter, logical};
use crate::error::{Error, ErrorKind, Result};
use crate::mongo::Server;
use crate::mongo::connect::CHECK_TIMEOUT;
use crate::storage;
use crate::storage::retry::{Backoff, Retrying};

impl Client {
    /// Looks at backup and target and says what a restore would do; writes nothing.
    pub async fn plan_restore(&self, request: &RestoreRequest) -> Result<RestorePlan> {
        let moment = request.point_in_time.as_ref().map(|moment| self.resolve_moment(moment)).transpose()?;
        let backup = self.readable(moment.as_ref().map_or(&request.backup, |m| &m.base.backup))?;
        let safety_backup =
            if request.safety_backup { Some(Box::new(self.safety_backup(request, &backup)?)) } else { None };
        let target = self.store.service(&request.to)?;
        let (storage, manifest) = self.opened(&backup).await?;
        let server = Server::connect(&request.to, &target.uri, CHECK_TIMEOUT).await?;
        let mut stored = Stored::new(storage, manifest)?;
        let mut point_in_time = None;
        if let (Some(wanted), Some(moment)) = (&request.point_in_time, moment) {
            point_in_time = Some(planned(&wanted.service, &moment, &backup));
            let location = self.store.storage(&moment.archive.storage)?;
            let ResolvedMoment { archive, slices, until, .. } = moment;
            let storage = storage::open(&location.config).await?;
            stored = stored.followed_by(Later { storage, archive, slices, until })?;
        }
        let plan = logical::plan(&CancellationToken::new(), &stored, &server, request).await?;
        let warnings = RestorePlan::damage(&backup).into_iter().chain(plan.warnings).collect();
        Ok(RestorePlan { safety_backup, point_in_time, warnings, ..plan })
    }

    /// Whether the plan of `request` would be carried out if it were confirmed.
    ///
    /// Errors: `Conflict` when it would replace something from a backup that was found damaged.
    pub fn may_restore(&self, request: &RestoreRequest, plan: &RestorePlan) -> Result<()> {
        plan.check_source(&self.readable(request.backup_of(plan))?)
    }

    /// A whole backup of the target, beside the one that is restored.
    fn safety_backup(&self, request: &RestoreRequest, restored: &Backup) -> Result<BackupRequest> {
        self.must_be_enabled()?;
        let target = self.store.service_row(&request.to)?;
        Ok(BackupRequest {
            name: self.free_backup_name(&request.to, "before-restore-")?,
            folder: target.cluster.unwrap_or_else(|| target.name.clone()),
            service: target.name,
            storage: restored.storage.clone(),
            model: Model::Logical,
            backup_type: BackupType::Full,
            selection: Selection::default(),
            compression: Settings::load(&self.home)?.compression(),
            retry: RetryPolicy::default(),
            schedule: None,
        })
    }

    /// Queues the restore of a plan that was shown and confirmed, and starts the daemon.
    pub fn restore(&self, request: &RestoreRequest, plan: &RestorePlan) -> Result<Job> {
        self.must_write()?;
        if plan.safety_backup.is_some() {
            self.must_be_enabled()?;
        }
        self.may_restore(request, plan)?;
        self.queue(|| self.store.enqueue_restore(request, plan))
    }

    /// Writes the stock layout of `mongodump` below `to`, which must be empty or absent. When `cancel` is called, or
    /// this is dropped, what was written is removed; only whoever waits for the end knows that it was.
    pub async fn export_backup(
        &self,
        name: &str,
        to: &Path,
        meter: Arc<Meter>,
        cancel: CancellationToken,
    ) -> Result<ExportReport> {
        let backup = self.readable(name)?;
        let location = self.store.storage(&backup.storage)?;
        let root = BackupRoot::new(&backup.folder, &backup.name)?;
        let settings = Settings::load(&self.home)?;
        let limits = Limits { parallel_collections: settings.parallel_collections(), ..Limits::default() };
        let _ends = cancel.clone().drop_guard();
        let ctx = Context { cancel: cancel.clone(), meter, limits };
        let (to, handle) = (to.to_owned(), tokio::runtime::Handle::current());
        // On a thread of its own, which outlives this future long enough to clean up.
        let work = tokio::task::spawn_blocking(move || {
            handle.block_on(async move {
                let storage = storage::open(&location.config).await?;
                // A folder that is not there is told at once, to a person who waits.
                storage.free_space().await?;
                let storage = Arc::new(Retrying::new(storage, Backoff::default(), cancel));
                logical::export(&ctx, storage, &root, &to).await
            })
        });
        work.await.map_err(|e| Error::new(ErrorKind::Internal, "the export ended by a bug in mongokeep").source(e))?
    }
}

fn planned(service: &str, moment: &ResolvedMoment, base: &Backup) -> PlannedReplay {
    let entries = moment.slices.iter().map(|s| s.entries).sum();
    PlannedReplay {
        service: service.to_owned(),
        archive: moment.archive.clone(),
        until: moment.until,
        until_at: moment.until.to_datetime(),
        base: moment.base.clone(),
        slices: moment.slices.len() as u64,
        entries,
        bytes: moment.slices.iter().map(|s| s.size).sum(),
        expected_seconds: expected_seconds(base.uncompressed_bytes.unwrap_or(0), entries),
    }
}
