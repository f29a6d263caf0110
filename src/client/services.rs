//! Services: what is backed up.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Client, ServiceView, Values, text};
use crate::config::Settings;
use crate::domain::backup::{BackupType, Model};
use crate::domain::cluster::Cluster;
use crate::domain::fields::{self, SERVICE, SERVICE_FIELDS};
use crate::domain::namespace::Selection;
use crate::domain::schedule::Schedule;
use crate::domain::service::{
    CheckItem, CheckReport, CheckState, ConfigurationPlan, EngineKind, Service, ServiceInfo, ServiceSpec,
};
use crate::domain::storage::StorageConfig;
use crate::domain::text::moments;
use crate::domain::typed;
use crate::engine::contract::{Engine, Wanted, must_make};
use crate::engine::{Context, engine};
use crate::error::{Error, Result};
use crate::mongo::connect::{CHECK_TIMEOUT, Server, check_uri};
use crate::mongo::topology;
use crate::mongo::watch::{self, Heard, Watch};
use crate::storage;
use crate::store::{ServiceRow, StorageRow};

/// How long the whole of a check may take for one storage. One that does not answer says so within ten seconds; this is for
/// a slow line, over which the probe of an object in parts needs its time.
const STORAGE_LIMIT: Duration = Duration::from_secs(75);

impl Client {
    pub fn services(&self) -> Result<Vec<ServiceView>> {
        Ok(self.store.services()?.into_iter().map(view).collect())
    }

    pub fn service(&self, name: &str) -> Result<ServiceView> {
        Ok(view(self.store.service_row(name)?))
    }

    /// Checks the syntax and contacts nothing.
    pub fn add_service(&self, values: &Values) -> Result<ServiceView> {
        self.must_write()?;
        let spec = new_spec(values)?;
        self.store.add_service(&spec)?;
        self.copy_soon()?;
        self.service(&spec.name)
    }

    /// Fields that are absent stay as they are; an empty cluster label is removed, and empty production
    /// hours are those of the setting.
    pub fn edit_service(&self, name: &str, values: &Values) -> Result<ServiceView> {
        self.must_write()?;
        fields::check(&[SERVICE_FIELDS], values, true)?;
        if text(values, "name").is_some_and(|new| new != name) {
            return Err(Error::invalid("name", "cannot be changed: backups are filed under it"));
        }
        let before = self.store.service_row(name)?;
        // The store is busy while it changes a service.
        let mut schedules: Vec<(Schedule, StorageConfig)> = Vec::new();
        // Only another engine judges them anew.
        let other = text(values, "engine").and_then(|word| word.parse().ok()).filter(|kind| *kind != before.engine);
        if let Some(other) = other {
            for schedule in self.store.schedules()?.into_iter().filter(|schedule| schedule.service == name) {
                let row = self.store.storage_row(&schedule.storage)?;
                schedules.push((schedule, self.judged(other, row)?));
            }
        }
        // The stored connection string is not read: a new one needs no old one, which is how a lost key is got over.
        self.store.edit_service(name, |spec| {
            typed::apply(SERVICE, spec, values)?;
            if spec.engine != before.engine {
                for (schedule, location) in &schedules {
                    must_be_made(spec.engine, schedule, location)?;
                }
            }
            spec.uri.as_ref().map_or(Ok(()), |uri| check_uri(name, uri))
        })?;
        self.copy_soon()?;
        self.service(name)
    }

    /// Its backups stay. `Conflict` while a job or schedule uses it.
    pub fn remove_service(&self, name: &str) -> Result<()> {
        self.must_write()?;
        self.store.remove_service(name)?;
        self.copy_soon()
    }

    /// Looks at the server of a service that is still being described, and runs the prerequisites of logical backups: nothing
    /// is stored. 10 s at most for each connection. `edited`: the service that it would change, which stands for what was not
    /// typed again.
    pub async fn try_service(&self, edited: Option<&str>, values: &Values) -> Result<(ServiceInfo, Vec<CheckItem>)> {
        let spec = match edited {
            Some(name) => self.changed_spec(name, values).await?,
            None => new_spec(values)?,
        };
        let uri = spec.uri.ok_or_else(|| Error::invalid("uri", "is needed"))?;
        let server = Server::connect(&spec.name, &uri, CHECK_TIMEOUT).await?;
        let info = topology::info(&server, &CancellationToken::new()).await?;
        let service = Service {
            name: spec.name,
            uri,
            cluster: spec.cluster,
            engine: spec.engine,
            created_at: crate::domain::clock::now(),
            data_dir: spec.data_dir,
            stop_command: spec.stop_command,
            start_command: spec.start_command,
        };
        let context = Context { around: self.surroundings(None).await?, ..Context::default() };
        let items = engine(service.engine, Model::Logical)?.check(&context, &service).await;
        Ok((info, items))
    }

    /// What a service would be after an edit. The stored connection string is read only where no other was typed.
    async fn changed_spec(&self, name: &str, values: &Values) -> Result<ServiceSpec> {
        fields::check(&[SERVICE_FIELDS], values, true)?;
        let wanted = name.to_owned();
        let mut spec = self.call(move |client| client.store.service_row(&wanted)).await?.spec();
        typed::apply(SERVICE, &mut spec, values)?;
        if spec.uri.is_none() {
            let wanted = name.to_owned();
            spec.uri = Some(self.call(move |client| client.store.service(&wanted)).await?.uri);
        }
        spec.uri.as_ref().map_or(Ok(()), |uri| check_uri(name, uri))?;
        Ok(spec)
    }

    /// Runs the prerequisites of backups of this model; 10 s at most for each connection.
    pub async fn check_service(&self, name: &str, model: Model) -> Result<CheckReport> {
        let wanted = name.to_owned();
        let known = self.call(move |client| Ok((client.store.service(&wanted)?, Settings::load(&client.home)?)));
        let (service, settings) = known.await?;
        let mut items = vec![management(&settings)];
        let engine = engine(service.engine, model)?;
        let around = self.surroundings(None).await?;
        items.extend(engine.check(&Context { around, ..Context::default() }, &service).await);
        // Where it stands in the list is part of how the screen reads: the label after the replica set.
        let at = items.iter().position(|i| i.id == "replica_set").map_or(items.len(), |i| i + 1);
        items.insert(at, label(name, service.cluster.as_deref()));
        // How long writes wait is known from the last time.
        if let Some(item) = items.iter_mut().find(|item| item.id == "locking") {
            let wanted = name.to_owned();
            let backups = self.call(move |client| client.store.backups()).await?;
            let last = backups.iter().find_map(|backup| backup.locked_millis.filter(|_| backup.service == wanted));
            item.detail.push_str(&last.map_or("; the lock time is not known yet".to_owned(), |millis| {
                format!("; the lock took {} the last time", moments(millis))
            }));
        }
        let (storage, storages, unfit) =
            self.check_storages(service.engine, &|row| may_write(engine, &service, row)).await?;
        items.push(storage);
        let ok = items.iter().all(|i| i.state != CheckState::Fail);
        Ok(CheckReport { service: name.to_owned(), ok, items, storages, unfit })
    }

    /// What giving a service its engine's configuration, for backups in `folder` of `storage`, would change. `folder`:
    /// `None` for that of the service.
    pub async fn plan_configuration(
        &self,
        name: &str,
        storage: &str,
        folder: Option<&str>,
    ) -> Result<ConfigurationPlan> {
        let (ctx, service, location, folder) = self.to_configure(name, storage, folder).await?;
        engine(service.engine, Model::Logical)?.plan_configuration(&ctx, &service, &location, &folder).await
    }

    /// Gives it, whoever configured it before.
    pub async fn configure_service(&self, name: &str, storage: &str, folder: Option<&str>) -> Result<()> {
        self.must_write()?;
        let (ctx, service, location, folder) = self.to_configure(name, storage, folder).await?;
        engine(service.engine, Model::Logical)?.configure(&ctx, &service, &location, &folder).await
    }

    async fn to_configure(
        &self,
        name: &str,
        storage: &str,
        folder: Option<&str>,
    ) -> Result<(Context, Service, StorageConfig, String)> {
        let wanted = name.to_owned();
        let service = self.call(move |client| client.store.service(&wanted)).await?;
        let location = self.location(storage).await?.config;
        let folder = folder.unwrap_or(service.default_folder()).to_owned();
        storage::backends::check_folder(&location, &folder)?;
        may_be_made(engine(service.engine, Model::Logical)?, &location, &folder)?;
        let ctx = Context { around: self.surroundings(None).await?, ..Context::default() };
        Ok((ctx, service, location, folder))
    }

    /// What the server is; 10 s at most.
    pub async fn service_info(&self, name: &str) -> Result<ServiceInfo> {
        let wanted = name.to_owned();
        let service = self.call(move |client| client.store.service(&wanted)).await?;
        let server = Server::connect(name, &service.uri, CHECK_TIMEOUT).await?;
        topology::info(&server, &CancellationToken::new()).await
    }

    /// The nodes of a service as its engine sees them; `None`: it has an engine that works on the server alone.
    pub async fn service_cluster(&self, name: &str) -> Result<Option<Cluster>> {
        let wanted = name.to_owned();
        let service = self.call(move |client| client.store.service(&wanted)).await?;
        let ctx = Context { around: self.surroundings(None).await?, ..Context::default() };
        engine(service.engine, Model::Logical)?.cluster(&ctx, &service).await
    }

    /// Says in `heard` whether the service can be reached, as it changes, until what is returned is dropped.
    pub async fn watch_service(&self, name: &str, heard: tokio::sync::watch::Sender<Heard>) -> Result<Watch> {
        let wanted = name.to_owned();
        let service = self.call(move |client| client.store.service(&wanted)).await?;
        watch::watch_service(name, &service.uri, heard).await
    }

    /// One storage that can be written is enough; with several, the others are named. One that the engine of the service can
    /// never write to is no failure of the storage.
    async fn check_storages(&self, engine: EngineKind, may_write: MayWrite<'_>) -> Result<StorageChecks> {
        let rows = self.call(move |client| {
            let mut rows = client.store.storages()?;
            for row in &mut rows {
                // Where its secrets cannot be read, the look at the storage says so.
                if let Ok(config) = client.judged(engine, row.clone()) {
                    row.config = config;
                }
            }
            Ok(rows)
        });
        let rows = rows.await?;
        if rows.is_empty() {
            let none = item(
                "storage",
                "A storage to write to",
                CheckState::Fail,
                "there is none yet",
                "mongokeep storage add local --type filesystem --path /var/backups/mongokeep",
            );
            return Ok((none, BTreeMap::new(), BTreeMap::new()));
        }
        let (mut good, mut bad, mut unfit) = (Vec::new(), Vec::new(), Vec::new());
        let mut each = BTreeMap::new();
        let mut remedies: BTreeMap<String, String> = BTreeMap::new();
        let mut rows = rows;
        rows.retain(|row| {
            let Err(e) = may_write(row) else { return true };
            let text = e.full();
            let why = text.strip_prefix("storage: ").unwrap_or(&text);
            unfit.push(format!("not {}: {why}", row.name));
            remedies.insert(row.name.clone(), e.hint_text().unwrap_or_default().to_owned());
            each.insert(row.name.clone(), Some(why.to_owned()));
            false
        });
        let looks = rows.iter().map(|row| tokio::time::timeout(STORAGE_LIMIT, self.writable(&row.name)));
        for (row, outcome) in rows.iter().zip(futures_util::future::join_all(looks).await) {
            let why = match outcome {
                Ok(Ok(())) => None,
                Ok(Err(why)) => Some(why),
                Err(_) => Some(format!("no answer after {} s", STORAGE_LIMIT.as_secs())),
            };
            match &why {
                None => good.push(row.name.clone()),
                Some(why) => bad.push(format!("{}: {why}", row.name)),
            }
            each.insert(row.name.clone(), why);
        }
        let state = match (good.is_empty(), bad.is_empty()) {
            (true, _) => CheckState::Fail,
            (false, false) => CheckState::Warn,
            (false, true) => CheckState::Pass,
        };
        let mut detail = Vec::new();
        if !good.is_empty() {
            detail.push(format!("writable: {}", good.join(", ")));
        }
        detail.extend(bad.iter().cloned());
        detail.extend(unfit);
        let first = bad.first().and_then(|b| b.split_once(':')).map_or("", |(name, _)| name);
        let unproven = rows.iter().find(|row| row.name == first).and_then(|row| row.config.encryption(first).err());
        let remedy = match unproven {
            Some(_) => format!("mongokeep storage edit {first} --identity-file FILE"),
            None if first.is_empty() && good.is_empty() => remedies.values().next().cloned().unwrap_or_default(),
            None if first.is_empty() => String::new(),
            None => format!("mongokeep storage test {first}"),
        };
        Ok((item("storage", "A storage to write to", state, &detail.join("; "), &remedy), each, remedies))
    }

    async fn writable(&self, name: &str) -> std::result::Result<(), String> {
        let location = self.location(name).await.map_err(|e| e.full())?;
        location.config.encryption(name).map_err(|e| e.full())?;
        self.prepare_folder(&location).await.map_err(|e| e.full())?;
        let storage = storage::open(&location.config).await.map_err(|e| e.full())?;
        let steps = storage::test(storage.as_ref(), &|_| {}).await;
        match steps.iter().find(|s| !s.ok) {
            Some(step) => Err(format!("{} failed: {}", step.id, step.detail)),
            None => Ok(()),
        }
    }
}

/// Checks the syntax of what describes a new service.
pub(super) fn new_spec(values: &Values) -> Result<ServiceSpec> {
    fields::check(&[SERVICE_FIELDS], values, false)?;
    let mut spec = ServiceSpec::default();
    typed::apply(SERVICE, &mut spec, values)?;
    let uri = spec.uri.as_ref().ok_or_else(|| Error::invalid("uri", "is needed"))?;
    check_uri(&spec.name, uri)?;
    Ok(spec)
}

/// The item of the check about all storages; why each of them cannot be written, if so; and what to do about those that never can.
type StorageChecks = (CheckItem, BTreeMap<String, Option<String>>, BTreeMap<String, String>);

/// Says why an engine can never write to a storage.
type MayWrite<'a> = &'a (dyn Fn(&StorageRow) -> Result<()> + Sync);

fn may_write(engine: &dyn Engine, service: &Service, row: &StorageRow) -> Result<()> {
    may_be_made(engine, &row.config, service.default_folder())
}

/// Errors: why the engine can never make a backup of everything in `folder` of `location`.
fn may_be_made(engine: &dyn Engine, location: &StorageConfig, folder: &str) -> Result<()> {
    let selection = Selection::default();
    must_make(engine, &Wanted { backup_type: BackupType::Full, selection: &selection, location, folder })
}

/// Errors: why the engine cannot make what `schedule` asks for.
pub(super) fn must_be_made(kind: EngineKind, schedule: &Schedule, location: &StorageConfig) -> Result<()> {
    let Schedule { backup_type, selection, folder, .. } = schedule;
    let wanted = Wanted { backup_type: *backup_type, selection, location, folder };
    let may = engine(kind, schedule.model).and_then(|engine| must_make(engine, &wanted));
    may.map_err(|e| e.context(format!("schedule {}", schedule.name)))
}

fn management(settings: &Settings) -> CheckItem {
    let title = "Backup management";
    if settings.backup_enabled() {
        return item("backup_management", title, CheckState::Pass, "on", "");
    }
    let remedy = "mongokeep settings set backup.enabled true";
    item("backup_management", title, CheckState::Fail, "off: nothing starts a backup", remedy)
}

fn label(service: &str, cluster: Option<&str>) -> CheckItem {
    let title = "Cluster label";
    match cluster {
        Some(cluster) => item("cluster_label", title, CheckState::Pass, cluster, ""),
        None => item(
            "cluster_label",
            title,
            // Nothing is wrong with that, so there is nothing to do about it.
            CheckState::Pass,
            &format!("none; backups go to the folder {service}"),
            "",
        ),
    }
}

fn item(id: &str, title: &str, state: CheckState, detail: &str, remedy: &str) -> CheckItem {
    CheckItem { id: id.into(), title: title.into(), state, detail: detail.into(), remedy: remedy.into() }
}

fn view(row: ServiceRow) -> ServiceView {
    ServiceView {
        fields: typed::texts(SERVICE, &row.spec()),
        name: row.name,
        uri: row.uri_shown,
        cluster: row.cluster,
        engine: row.engine,
        created_at: row.created_at,
        last_good_backup_at: row.last_good_backup_at,
        backups: row.backups,
        production_hours: row.production_hours,
    }
}
