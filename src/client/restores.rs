//! Restores: planned while a person watches, run by the daemon.

use std::path::Path;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{Client, ResolvedMoment, Values, text};
use crate::artifact::keys::Keys;
use crate::artifact::layout::BackupRoot;
use crate::config::Settings;
use crate::domain::backup::{Backup, BackupRequest, BackupType, Model};
use crate::domain::field::Field;
use crate::domain::fields::{
    self, DATA_FOLDER, DATA_FOLDER_FIELDS, FILES, FILES_FIELDS, IDENTITY, IDENTITY_FIELDS, MOMENT, MOMENT_FIELDS,
    RESTORE, RESTORE_FIELDS,
};
use crate::domain::job::Job;
use crate::domain::namespace::Selection;
use crate::domain::pitr::{PlannedReplay, PointInTime, Slice, expected_seconds};
use crate::domain::restore::{RestoreDraft, RestorePlan, RestoreRequest};
use crate::domain::retry::RetryPolicy;
use crate::domain::service::Service;
use crate::domain::typed;
use crate::engine::contract::{ExportReport, OplogTail, RestoreSource, RestoreTarget};
use crate::engine::{Context, Limits, Meter, engine};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::retry::Backoff;
use crate::storage::{self, Opener};

/// What the store says about a restore that is to be planned.
struct Known {
    moment: Option<ResolvedMoment>,
    backup: Backup,
    safety_backup: Option<BackupRequest>,
    /// `None`: it goes into a data folder.
    target: Option<Service>,
}

impl Client {
    /// Looks at backup and target and says what a restore would do; writes nothing.
    pub async fn plan_restore(&self, request: &RestoreRequest) -> Result<RestorePlan> {
        // Whoever no longer waits for the plan wants nothing read for it any more.
        let cancel = CancellationToken::new();
        let _ends = cancel.clone().drop_guard();
        let wanted = request.clone();
        let Known { moment, backup, safety_backup, target } = self.call(move |client| client.known_of(&wanted)).await?;
        if !request.replset_map.is_empty() && !target.as_ref().is_some_and(|target| target.engine.has_nodes()) {
            let why = "only PBM restores into replica sets of other names, and the target has another engine";
            return Err(Error::invalid("replset-map", why)
                .hint("leave it out: a native restore writes into the service, whatever its replica set is called"));
        }
        let (storage, manifest) = self.opened(&backup).await.map_err(|e| e.of_storage(&backup.storage))?;
        let location = self.location(&backup.storage).await?.config;
        let mut source = RestoreSource { storage, location, manifest, tail: None, keys: Keys::default() };
        let mut point_in_time = None;
        if let (Some(wanted), Some(moment)) = (&request.point_in_time, moment) {
            let service = if wanted.service.is_empty() { &backup.service } else { &wanted.service };
            point_in_time = Some(planned(service, &moment, &backup));
            let location = self.location(&moment.archive.storage).await?;
            let ResolvedMoment { archive, slices, until, .. } = moment;
            let storage = storage::open(&location.config).await?;
            source.tail = Some(OplogTail { storage, archive, slices, until, keys: Keys::default() });
        }
        let target = RestoreTarget::of(target.as_ref(), request)?;
        let ctx = Context {
            cancel,
            around: self.surroundings(request.identity_file.as_deref()).await?,
            ..Context::default()
        };
        let plan = engine(backup.engine, backup.model)?.plan_restore(&ctx, source, target, request).await?;
        let warnings = RestorePlan::damage(&backup).into_iter().chain(plan.warnings).collect();
        Ok(RestorePlan { safety_backup: safety_backup.map(Box::new), point_in_time, warnings, ..plan })
    }

    /// Whether the plan of `request` would be carried out if it were confirmed.
    ///
    /// Errors: `Conflict` when it would replace something from a backup that was found damaged; `Unsupported` when it is
    /// a person's to carry out.
    pub fn may_restore(&self, request: &RestoreRequest, plan: &RestorePlan) -> Result<()> {
        plan.must_be_ours()?;
        plan.check_source(&self.readable(request.backup_of(plan))?)
    }

    fn known_of(&self, request: &RestoreRequest) -> Result<Known> {
        let moment = request.point_in_time.as_ref().map(|moment| self.of_service(moment)).transpose()?;
        // Into a service documents are replayed after documents, into a folder after files.
        let model = if request.data_folder.is_some() { Model::Physical } else { Model::Logical };
        let moment = moment.map(|moment| self.resolve_moment(&moment, model)).transpose()?;
        let backup = self.readable(moment.as_ref().map_or(&request.backup, |m| &m.base.backup))?;
        let safety_backup = if request.safety_backup { Some(self.safety_backup(request, &backup)?) } else { None };
        let target = if request.data_folder.is_some() { None } else { Some(self.store.service(&request.to)?) };
        Ok(Known { moment, backup, safety_backup, target })
    }

    /// A moment whose base was named alone is one of the service that the base is of.
    fn of_service(&self, moment: &PointInTime) -> Result<PointInTime> {
        let mut moment = moment.clone();
        if moment.service.is_empty()
            && let Some(base) = &moment.base
        {
            moment.service = self.store.backup(base)?.service;
        }
        Ok(moment)
    }

    /// A whole backup of the target, beside the one that is restored.
    fn safety_backup(&self, request: &RestoreRequest, restored: &Backup) -> Result<BackupRequest> {
        self.must_be_enabled()?;
        let target = self.store.service_row(&request.to)?;
        self.store.storage_row(&restored.storage)?.config.encryption(&restored.storage)?;
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
        identity_file: Option<&str>,
        meter: Arc<Meter>,
        cancel: CancellationToken,
    ) -> Result<ExportReport> {
        let wanted = name.to_owned();
        let known = self.call(move |client| {
            let backup = client.readable(&wanted)?;
            let location = client.store.storage(&backup.storage)?;
            Ok((backup, location, Settings::load(&client.home)?))
        });
        let (backup, location, settings) = known.await?;
        let root = BackupRoot::of(&backup)?;
        let limits = Limits { parallel_collections: settings.parallel_collections(), ..Limits::default() };
        let _ends = cancel.clone().drop_guard();
        let identity_file = identity_file.map(identity_path).transpose()?;
        let around = self.surroundings(identity_file.as_deref()).await?;
        let ctx = Context { cancel: cancel.clone(), meter, limits, around, ..Context::default() };
        let named = backup.storage.clone();
        let (to, handle) = (to.to_owned(), tokio::runtime::Handle::current());
        // On a thread of its own, which outlives this future long enough to clean up.
        let work = tokio::task::spawn_blocking(move || {
            handle.block_on(async move {
                let opener = Opener::new(&location.config, Backoff::default(), cancel);
                let storage = opener.open(&ctx.cancel).await?;
                engine(backup.engine, backup.model)?.export(&ctx, storage, &root, &to).await
            })
        });
        let done = work
            .await
            .map_err(|e| Error::new(ErrorKind::Internal, "the export ended by a bug in mongokeep").source(e))?;
        done.map_err(|e| e.of_storage(&named))
    }
}

/// The request that flags or the rows of a form stand for. Asks nobody.
///
/// Errors: `Invalid`, naming the field.
pub fn restore_request(values: &Values) -> Result<RestoreRequest> {
    let given = |key: &str| values.contains_key(key);
    let to_a_moment = MOMENT_FIELDS.iter().any(|field| given(field.key));
    if let Some(folder) = DATA_FOLDER_FIELDS.iter().find(|field| given(field.key)) {
        if text(values, "to_data_dir").is_none() {
            return Err(Error::invalid(&folder.name(), "belongs to --to-data-dir, the folder to restore into"));
        }
        let of_service = |field: &&Field| field.key != "backup" && given(field.key);
        if let Some(stray) = RESTORE_FIELDS.iter().find(of_service) {
            let why = "belongs to a restore into a service; into a data folder everything is restored";
            return Err(Error::invalid(&stray.name(), why));
        }
        // The backup that is named says which service it is of.
        let of_backup = |field: &&Field| given("backup") && ["service", "base"].contains(&field.key);
        if let Some(stray) = MOMENT_FIELDS.iter().find(|field| of_backup(field) && given(field.key)) {
            return Err(Error::invalid(&stray.name(), "is given besides the backup, which says it"));
        }
        let source: Vec<Field> = if given("backup") || !to_a_moment {
            RESTORE_FIELDS.iter().filter(|field| field.key == "backup").copied().collect()
        } else {
            Vec::new()
        };
        let moment: Vec<Field> =
            MOMENT_FIELDS.iter().filter(|field| to_a_moment && !of_backup(field)).copied().collect();
        fields::check(&[&source, &moment, DATA_FOLDER_FIELDS, FILES_FIELDS, IDENTITY_FIELDS], values, false)?;
        return drafted(values);
    }
    if to_a_moment {
        if let Some(stray) = MOMENT_FIELDS.iter().find(|field| given(field.key) && text(values, "time").is_none()) {
            return Err(Error::invalid(stray.key, "belongs to --time, the moment to go back to"));
        }
        if given("backup") {
            let why = "is given besides --time; a restore is of a backup, or of a service to a moment (--service S --time WHEN)";
            return Err(
                Error::invalid("backup", why).hint("--base BACKUP names the backup that a moment is reached from")
            );
        }
        let target: Vec<Field> = RESTORE_FIELDS.iter().filter(|field| field.key != "backup").copied().collect();
        fields::check(&[&target, MOMENT_FIELDS, FILES_FIELDS, IDENTITY_FIELDS], values, false)?;
    } else {
        fields::check(&[RESTORE_FIELDS, FILES_FIELDS, IDENTITY_FIELDS], values, false)?;
    }
    drafted(values)
}

fn drafted(values: &Values) -> Result<RestoreRequest> {
    let mut draft = RestoreDraft::default();
    typed::apply(RESTORE, &mut draft, values)?;
    typed::apply(MOMENT, &mut draft, values)?;
    typed::apply(DATA_FOLDER, &mut draft, values)?;
    typed::apply(FILES, &mut draft, values)?;
    typed::apply(IDENTITY, &mut draft, values)?;
    draft.identity_file = draft.identity_file.as_deref().map(identity_path).transpose()?;
    if let Some(dir) = draft.to_data_dir.take() {
        // The daemon works in another folder: it means what it means where it was typed.
        let path = storage::local_path(&dir).map_err(|why| Error::invalid("to-data-dir", why))?;
        draft.to_data_dir = Some(path);
    }
    Ok(draft.request())
}

/// The path of an identity file, which means for the daemon what it means where it was typed.
///
/// Errors: `Invalid`, naming the field.
pub(super) fn identity_path(text: &str) -> Result<String> {
    storage::local_path(text).map_err(|why| Error::invalid("identity-file", why))
}

fn planned(service: &str, moment: &ResolvedMoment, base: &Backup) -> PlannedReplay {
    let sum = |of: fn(&Slice) -> u64| moment.slices.iter().map(of).fold(0, u64::saturating_add);
    let entries = sum(|s| s.entries);
    PlannedReplay {
        service: service.to_owned(),
        archive: moment.archive.clone(),
        until: moment.until,
        until_at: moment.until.to_datetime(),
        base: moment.base.clone(),
        slices: moment.slices.len() as u64,
        entries,
        bytes: sum(|s| s.size),
        expected_seconds: expected_seconds(base.uncompressed_bytes.unwrap_or(0), entries),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn of(pairs: &[(&str, &str)]) -> Result<RestoreRequest> {
        let mut values = Values::new();
        for (key, text) in pairs {
            values.entry((*key).into()).or_default().push((*text).into());
        }
        restore_request(&values)
    }

    fn moment(backup: Option<&str>, pairs: &[(&str, &str)]) -> Result<RestoreRequest> {
        let own = backup.map(|b| ("backup", b)).into_iter().chain([("to", "t")]);
        let all = own.chain(pairs.iter().copied());
        restore_request(&all.map(|(key, text)| (key.to_owned(), vec![text.to_owned()])).collect())
    }

    #[test]
    fn a_moment_stands_instead_of_a_backup() {
        let request = moment(None, &[("service", "s"), ("time", "7,2"), ("base", "")]).unwrap();
        assert_eq!(request.point_in_time.unwrap().base, None, "empty is not given");
        let request = moment(None, &[("service", "s"), ("time", "7,2"), ("base", "b")]).unwrap();
        assert_eq!(request.backup, "");
        let moment_of = request.point_in_time.unwrap();
        assert_eq!((moment_of.service.as_str(), moment_of.base.as_deref()), ("s", Some("b")));
        assert_eq!(moment_of.when.to_string(), "7,2");
        for (backup, pairs, field) in [
            (Some("b"), &[("service", "s"), ("time", "latest")][..], "backup: is given besides"),
            (None, &[("time", "latest")], "service: is needed"),
            (None, &[("service", "s")], "service: belongs to --time"),
            (Some("b"), &[("service", "s")], "service: belongs to --time"),
            (Some("b"), &[("base", "x")], "base: belongs to --time"),
            (None, &[("service", "s"), ("time", "yesterday")], "time: "),
            (None, &[("service", "s"), ("time", "2026-11-21T14:02:03.5Z")], "time: "),
            (None, &[("service", "s"), ("time", "latest"), ("base", "a/../b")], "base: "),
        ] {
            let error = moment(backup, pairs).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.full().starts_with(field), "{error}");
        }
    }

    #[test]
    fn a_request_is_checked_before_anything_is_asked() {
        let request =
            of(&[("backup", "b"), ("to", "s"), ("rename", "a=b"), ("include", "a"), ("exact", "true")]).unwrap();
        assert!(request.exact && !request.no_ttl && request.rename.len() == 1 && request.include.len() == 1);
        for (key, text) in [("rename", "a=b.c"), ("include", ".x"), ("to", "a/b"), ("exact", "maybe")] {
            let error = of(&[("backup", "b"), ("to", "s"), (key, text)]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.full().starts_with(key), "{error}");
        }
        assert!(of(&[("to", "s")]).unwrap_err().full().starts_with("backup: is needed"));
    }
}
