//! Storage locations: where backups are kept.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Client, StorageView, Values, flag, text};
use crate::daemon::folder;
use crate::domain::fields::{self, STORAGE_FIELDS, storage_fields};
use crate::domain::secret::Secret;
use crate::domain::storage::{Checksums, S3Config, StorageConfig, StorageLocation, TestStep};
use crate::domain::text::{escape, quoted};
use crate::error::{Error, ErrorKind, Result, io};
use crate::storage;
use crate::store::StorageRow;

/// How long a disk may take to say whether a folder is there.
const FOLDER_LIMIT: Duration = Duration::from_secs(5);

impl Client {
    pub fn storages(&self) -> Result<Vec<StorageView>> {
        Ok(self.store.storages()?.into_iter().map(view).collect())
    }

    pub fn storage(&self, name: &str) -> Result<StorageView> {
        Ok(view(self.store.storage_row(name)?))
    }

    /// Checks the syntax and contacts nothing.
    pub fn add_storage(&self, values: &Values) -> Result<StorageView> {
        self.must_write()?;
        let mut values = values.clone();
        let default = STORAGE_FIELDS.iter().find(|f| f.key == "type").map_or("", |f| f.default);
        values.entry("type".to_owned()).or_insert_with(|| vec![default.to_owned()]);
        let values = &values;
        let kind = text(values, "type").ok_or_else(|| Error::invalid("type", "is needed"))?;
        fields::check(&[STORAGE_FIELDS, storage_fields(kind)], values, false)?;
        let name = text(values, "name").ok_or_else(|| Error::invalid("name", "is needed"))?;
        let empty = match kind {
            "filesystem" => StorageConfig::Filesystem { path: String::new() },
            "s3" => StorageConfig::S3(S3Config::default()),
            other => return Err(Error::invalid("type", format!("{} is not known", quoted(other)))),
        };
        self.store.add_storage(name, &changed(empty, values)?)?;
        self.storage(name)
    }

    /// Fields that are absent stay as they are; an empty one is removed.
    pub fn edit_storage(&self, name: &str, values: &Values) -> Result<StorageView> {
        self.must_write()?;
        let row = self.store.storage_row(name)?;
        let kind = row.config.kind();
        fields::check(&[STORAGE_FIELDS, storage_fields(kind)], values, true)?;
        if text(values, "type").is_some_and(|new| new != kind) {
            return Err(Error::invalid("type", "cannot be changed; add another storage"));
        }
        if text(values, "name").is_some_and(|new| new != name) {
            return Err(Error::invalid("name", "cannot be changed: backups are filed under it"));
        }
        // Secrets that are entered again need no old ones, which is how a lost key is got over.
        let replaced = row.has_secrets && values.contains_key("secret_access_key");
        let present = if replaced { row.config } else { self.store.storage(name)?.config };
        self.store.edit_storage(name, &changed(present, values)?)?;
        self.storage(name)
    }

    /// `Conflict` while in use, saying by what. Removes nothing from the storage itself.
    pub fn remove_storage(&self, name: &str) -> Result<()> {
        self.must_write()?;
        self.store.remove_storage(name)
    }

    /// Writes, reads, lists and deletes a probe; `on_step` is called as each step ends.
    pub async fn test_storage(&self, name: &str, on_step: &(dyn Fn(&TestStep) + Send + Sync)) -> Result<Vec<TestStep>> {
        let location = self.location(name).await?;
        let opened = async {
            self.prepare_folder(&location).await?;
            storage::open(&location.config).await
        };
        let steps = match opened.await {
            Ok(storage) => {
                let (mut steps, failed) = storage::test_and_judge(storage.as_ref(), on_step).await;
                if let Some(step) = other_checksums(&location, &steps, failed).await {
                    on_step(&step);
                    steps.push(step);
                }
                steps
            }
            // What cannot even be opened has failed the test, and is told as that.
            Err(e) => {
                let detail = e.hint_text().map_or_else(|| e.full(), |hint| format!("{} ({hint})", e.full()));
                let step = TestStep { id: "open".into(), ok: false, detail, seconds: 0.0, remedy: None };
                on_step(&step);
                vec![step]
            }
        };
        if !self.is_read_only() {
            let failed: Vec<_> = steps.iter().filter(|s| !s.ok).map(|s| format!("{}: {}", s.id, s.detail)).collect();
            let failed = Some(failed.join("; ")).filter(|f| !f.is_empty());
            self.beside(move |client| client.store.storage_tested(&location.name, failed.as_deref())).await?;
        }
        Ok(steps)
    }

    pub(super) async fn location(&self, name: &str) -> Result<StorageLocation> {
        let name = name.to_owned();
        self.beside(move |client| client.store.storage(&name)).await
    }

    /// Makes the folder of a storage that was never used, where this client may.
    pub(super) async fn prepare_folder(&self, location: &StorageLocation) -> Result<()> {
        if self.is_read_only() {
            return Ok(());
        }
        let wanted = location.clone();
        let prepared = self.beside(move |client| folder::prepare(&client.store, &wanted));
        tokio::time::timeout(FOLDER_LIMIT, prepared).await.unwrap_or_else(|_| {
            let seconds = FOLDER_LIMIT.as_secs();
            let what = format!("the folder of storage {} did not answer within {seconds} s", escape(&location.name));
            Err(Error::new(ErrorKind::Unreachable, what).hint("see whether its disk is mounted and its server runs"))
        })
    }

    /// Free bytes where the storage can tell; for the form.
    pub async fn storage_free_space(&self, name: &str) -> Result<Option<u64>> {
        let location = self.location(name).await?;
        storage::open(&location.config).await?.free_space().await
    }
}

/// Where a server refused what was written or read, finds out whether it takes it with other checksums, and proposes those.
/// `None` where that cannot be what is wrong, or no other choice works either.
async fn other_checksums(
    location: &StorageLocation,
    steps: &[TestStep],
    failed: Option<ErrorKind>,
) -> Option<TestStep> {
    let StorageConfig::S3(config) = &location.config else { return None };
    let last = steps.last().filter(|step| ["write", "read", "parts"].contains(&step.id.as_str()))?;
    let elsewhere = [ErrorKind::Unreachable, ErrorKind::Unauthenticated, ErrorKind::NotFound, ErrorKind::StorageFull];
    if last.ok || failed.is_none_or(|kind| elsewhere.contains(&kind)) {
        return None;
    }
    let began = std::time::Instant::now();
    for checksums in [Checksums::Md5, Checksums::None, Checksums::Crc32] {
        if checksums == config.checksums {
            continue;
        }
        let other = StorageConfig::S3(S3Config { checksums, ..config.clone() });
        let Ok(storage) = storage::open(&other).await else { continue };
        if storage::probe::takes_both(storage.as_ref()).await.is_ok() {
            let (word, name) = (checksums.word(), &location.name);
            let remedy = format!("mongokeep storage edit {name} --checksums {word}");
            return Some(TestStep {
                id: "checksums".into(),
                ok: false,
                detail: format!(
                    "the server takes objects with checksums {word}, and not with {}: {remedy}",
                    config.checksums.word()
                ),
                seconds: began.elapsed().as_secs_f64(),
                remedy: Some(remedy),
            });
        }
    }
    None
}

/// `config` with the fields that `values` has.
fn changed(mut config: StorageConfig, values: &Values) -> Result<StorageConfig> {
    let given = |key: &str| values.contains_key(key);
    let owned = |key: &str| text(values, key).map(str::to_owned);
    match &mut config {
        StorageConfig::Filesystem { path } => {
            if given("path") {
                *path = absolute("path", text(values, "path").unwrap_or_default())?;
            }
            if path.is_empty() {
                return Err(Error::invalid("path", "is needed"));
            }
        }
        StorageConfig::S3(s3) => {
            if given("bucket") {
                s3.bucket = owned("bucket").unwrap_or_default();
            }
            if given("region") {
                s3.region = owned("region");
            }
            if given("endpoint") {
                s3.endpoint = owned("endpoint").map(|e| e.trim_end_matches('/').to_owned());
            }
            if given("prefix") {
                s3.prefix = owned("prefix").unwrap_or_default();
            }
            if given("path_style") {
                s3.path_style = flag(values, "path_style");
            }
            if given("access_key_id") {
                s3.access_key_id = owned("access_key_id");
            }
            if given("secret_access_key") {
                s3.secret_access_key = text(values, "secret_access_key").map(Secret::new);
            }
            if given("session_token") {
                s3.session_token = text(values, "session_token").map(Secret::new);
            }
            if given("ca_file") {
                s3.ca_file = text(values, "ca_file").map(|path| absolute("ca-file", path)).transpose()?;
            }
            if given("insecure_skip_tls_verify") {
                s3.insecure_skip_tls_verify = flag(values, "insecure_skip_tls_verify");
            }
            if given("checksums") {
                s3.checksums = match text(values, "checksums") {
                    Some(word) => word.parse().map_err(|why: String| Error::invalid("checksums", why))?,
                    None => Checksums::default(),
                };
            }
            if s3.bucket.is_empty() {
                return Err(Error::invalid("bucket", "is needed"));
            }
            match (&s3.access_key_id, &s3.secret_access_key) {
                (Some(_), None) => {
                    return Err(Error::invalid("secret-access-key-file", "is needed with --access-key-id"));
                }
                (None, Some(_)) => {
                    return Err(Error::invalid("access-key-id", "is needed with --secret-access-key-file"));
                }
                _ => {}
            }
        }
    }
    Ok(config)
}

/// The daemon works in another folder, so a path means what it means where it was typed. `~/` is the user's own folder.
fn absolute(field: &str, path: &str) -> Result<String> {
    if path.is_empty() {
        return Err(Error::invalid(field, "is needed"));
    }
    let expanded = match path.strip_prefix("~/") {
        Some(rest) => directories::BaseDirs::new().map_or_else(|| PathBuf::from(path), |d| d.home_dir().join(rest)),
        None => PathBuf::from(path),
    };
    let absolute = std::path::absolute(&expanded).map_err(|e| io(format!("{field} {path}"), e))?;
    if absolute.components().any(|part| part == std::path::Component::ParentDir) {
        return Err(Error::invalid(field, "cannot contain .."));
    }
    match absolute.to_str() {
        Some(text) if absolute != Path::new("/") => Ok(text.to_owned()),
        Some(_) => Err(Error::invalid(field, "cannot be the root of the machine")),
        None => Err(Error::invalid(field, "is not UTF-8")),
    }
}

fn view(row: StorageRow) -> StorageView {
    let mut config: BTreeMap<String, String> = BTreeMap::new();
    if let Ok(serde_json::Value::Object(map)) = serde_json::to_value(&row.config) {
        for (key, value) in map {
            match value {
                serde_json::Value::String(text) if !text.is_empty() && key != "type" => config.insert(key, text),
                serde_json::Value::Bool(on) => config.insert(key, on.to_string()),
                _ => None,
            };
        }
    }
    StorageView {
        name: row.name,
        kind: row.config.kind().to_owned(),
        place: row.config.place(),
        config,
        backups: row.backups,
        bytes: row.bytes,
        schedules: row.schedules,
        last_test_at: row.tested_at,
        last_test_error: row.test_error,
    }
}
