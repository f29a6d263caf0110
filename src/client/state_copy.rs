//! The store itself kept safe: a daemon copies what was decided, and a copy brings it back on a new machine.

use std::path::PathBuf;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::Client;
use crate::artifact::identity::IdentityFile;
use crate::config::{STATE_STORAGE, Settings};
use crate::control::state_copy::{Found, copies, open};
use crate::domain::state_copy::{Decisions, give_again};
use crate::domain::storage::StorageLocation;
use crate::domain::text::escape;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::{self, Storage};
use crate::store::BroughtBack;

/// What `storage sync --state` brought back, and what is left to do.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct StateReport {
    /// The installation whose store it was.
    pub home_id: String,
    pub host: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written_at: Option<DateTime<Utc>>,
    pub encrypted: bool,
    pub services: Vec<String>,
    pub storages: Vec<String>,
    pub schedules: Vec<String>,
    /// Their keys.
    pub settings: Vec<String>,
    /// There already, and left as it is: `storage a`.
    pub kept: Vec<String>,
    pub missing_secrets: Vec<MissingSecret>,
    /// Schedules that were on, and are off until the secrets are given.
    pub switched_off: Vec<String>,
    /// What could not be brought back, or was only half, as sentences.
    pub notes: Vec<String>,
    /// Commands for what is left to do.
    pub next: Vec<String>,
}

/// A secret that the copy did not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MissingSecret {
    /// `service`, `storage` or `setting`.
    pub kind: &'static str,
    pub name: String,
    /// What is missing, in words.
    pub what: String,
    /// The command that gives it.
    pub command: String,
}

impl Client {
    /// To be called after something was decided: starts the daemon that copies it, where a copy is wanted.
    pub(super) fn copy_soon(&self) -> Result<()> {
        // Settings that cannot be read are told of by whoever needs them.
        let Ok(settings) = Settings::load(&self.home) else { return Ok(()) };
        let Some(storage) = settings.state_storage() else { return Ok(()) };
        let done = self.ensure_daemon().map(drop);
        done.map_err(|e| {
            e.context(format!("it is done, but not copied to storage {} (state.backup_storage)", escape(&storage)))
        })
    }

    /// Errors: `Invalid` for a storage that is not there.
    pub(super) fn check_state_storage(&self, name: &str) -> Result<()> {
        if name.is_empty() {
            return Ok(());
        }
        let row = self.store.storage_row(name).map_err(|e| match e.kind() {
            ErrorKind::NotFound => Error::invalid(STATE_STORAGE, format!("there is no storage {}", escape(name))),
            _ => e,
        })?;
        row.config.encryption(name).map(drop)
    }

    /// Brings back what the copy in the storage `name` holds and is not here: services, storages, schedules, settings. What
    /// is here stays as it is.
    ///
    /// `identity_file` opens a copy that is encrypted. `home_id`: whose copy, where there are several; its first characters
    /// are enough.
    ///
    /// Errors: `NotFound` without a copy; `Conflict` where it is not clear which; `Unauthenticated`, naming whose identity is needed.
    pub async fn bring_back_state(
        &self,
        name: &str,
        identity_file: Option<&str>,
        home_id: Option<&str>,
    ) -> Result<StateReport> {
        self.must_write()?;
        let location = self.location(name).await?;
        let storage: Arc<dyn Storage> = storage::open(&location.config).await?;
        let found = chosen(copies(storage.as_ref()).await?, name, home_id)?;
        if found.object.storage != name {
            let was = escape(&found.object.storage);
            let what = format!("the copy calls this storage {was}, and schedules of it name it so");
            return Err(Error::new(ErrorKind::Conflict, what).hint(format!(
                "add it under that name: mongokeep storage add {was} ..., then mongokeep storage sync {was} --state"
            )));
        }
        let settings = self.call(|client| Settings::load(&client.home)).await?;
        let identity_file = match identity_file {
            Some(path) => Some(PathBuf::from(super::restores::identity_path(path)?)),
            None => settings.identity_file(),
        };
        let decisions = open(&found.object, &IdentityFile::at(identity_file)).await?;
        self.call(move |client| client.put_back(&location, found, &decisions)).await
    }

    fn put_back(&self, location: &StorageLocation, found: Found, decisions: &Decisions) -> Result<StateReport> {
        let object = &found.object;
        let mut notes: Vec<String> =
            found.damaged.iter().map(|why| format!("a newer copy cannot be read: {why}")).collect();
        let back = self.store.bring_back(decisions)?;
        self.keep_encryption(location, decisions, &mut notes)?;
        let (settings, missing_settings) = self.put_back_settings(decisions, &mut notes)?;
        let mut report = report(&back, decisions, location);
        report.missing_secrets.extend(missing_settings);
        notes.extend(back.refused.iter().map(|why| format!("not brought back: {why}")));
        if self.store.home_id()? != object.home_id && !back.schedules.is_empty() {
            notes.push(format!(
                "the schedules of {} must not run there any more; retention here leaves the backups alone that were made there",
                escape(&object.host)
            ));
        }
        let report = StateReport {
            home_id: object.home_id.clone(),
            host: object.host.clone(),
            written_at: Some(object.written_at),
            encrypted: object.sealed.is_some(),
            settings,
            notes,
            ..report
        };
        if self.store.schedules_enabled()? > 0 || Settings::load(&self.home)?.state_storage().is_some() {
            self.ensure_daemon().map_err(|e| e.context("everything is brought back, but"))?;
        }
        Ok(report)
    }

    /// A storage that was added anew goes on encrypting as it did: nothing is written in the clear that was encrypted before.
    fn keep_encryption(&self, present: &StorageLocation, decisions: &Decisions, notes: &mut Vec<String>) -> Result<()> {
        let Some(copied) = decisions.storages.iter().find(|storage| storage.name == present.name) else {
            return Ok(());
        };
        let encryption = &copied.config.encryption;
        if encryption.is_none() || !present.config.encryption.is_none() {
            return Ok(());
        }
        let mut config = present.config.clone();
        config.encryption = encryption.clone();
        self.store.edit_storage(&present.name, &config)?;
        let words = encryption.encryption().words();
        notes.push(format!("storage {} encrypts to {words}, as before", escape(&present.name)));
        Ok(())
    }

    /// The keys of the settings that came back, and those whose value the copy did not hold.
    fn put_back_settings(
        &self,
        decisions: &Decisions,
        notes: &mut Vec<String>,
    ) -> Result<(Vec<String>, Vec<MissingSecret>)> {
        let present = Settings::load(&self.home)?;
        let (mut back, mut missing) = (Vec::new(), Vec::new());
        for setting in &decisions.settings {
            let key = &setting.key;
            if present.chosen().any(|(chosen, _)| chosen == key.as_str()) {
                continue;
            }
            match &setting.value {
                None => missing.push(MissingSecret {
                    kind: "setting",
                    name: key.clone(),
                    what: "its value".into(),
                    command: format!("mongokeep settings set {key} VALUE"),
                }),
                Some(value) => match Settings::set(&self.home, key, value.expose()) {
                    Ok(()) => back.push(key.clone()),
                    // One that a newer version knows, or a file that is not on this machine.
                    Err(e) => notes.push(format!("setting {} was not brought back: {}", escape(key), e.full())),
                },
            }
        }
        Ok((back, missing))
    }
}

/// Which of the copies is meant.
fn chosen(copies: Vec<(String, Result<Found>)>, storage: &str, home_id: Option<&str>) -> Result<Found> {
    let meant = |home: &str| home_id.is_none_or(|wanted| home.starts_with(wanted));
    let mut meant: Vec<(String, Result<Found>)> = copies.into_iter().filter(|(home, _)| meant(home)).collect();
    if meant.len() > 1 {
        let each = meant.iter().map(|(home, found)| match found {
            Ok(Found { object, .. }) => {
                let at = object.written_at.format("%Y-%m-%d %H:%M:%S UTC");
                format!("{} of {}, written {at}", escape(home), escape(&object.host))
            }
            Err(_) => format!("{}, which cannot be read", escape(home)),
        });
        let what = format!(
            "storage {} holds copies of several stores: {}",
            escape(storage),
            each.collect::<Vec<_>>().join("; ")
        );
        return Err(Error::new(ErrorKind::Conflict, what)
            .hint(format!("say which: mongokeep storage sync {} --state --installation ID", escape(storage))));
    }
    match meant.pop() {
        Some((_, found)) => found,
        None => {
            let what = format!("storage {} holds no such copy of a store", escape(storage));
            Err(Error::new(ErrorKind::NotFound, what)
                .hint("a copy is written where the setting state.backup_storage says; backups are found without one: mongokeep storage sync NAME"))
        }
    }
}

fn report(back: &BroughtBack, decisions: &Decisions, location: &StorageLocation) -> StateReport {
    let mut missing = Vec::new();
    for service in decisions.services.iter().filter(|s| s.uri.is_none() && back.services.contains(&s.name)) {
        missing.push(MissingSecret {
            kind: "service",
            name: service.name.clone(),
            what: format!("the connection string with its password ({})", service.uri_shown),
            command: give_again("service", &service.name, &["uri".into()]),
        });
    }
    let mut next = Vec::new();
    for storage in decisions.storages.iter().filter(|s| back.storages.contains(&s.name)) {
        let fields: Vec<String> =
            storage.secret_fields.iter().filter(|key| !storage.secrets.contains_key(*key)).cloned().collect();
        if !fields.is_empty() {
            missing.push(MissingSecret {
                kind: "storage",
                name: storage.name.clone(),
                what: fields.join(", "),
                command: give_again("storage", &storage.name, &fields),
            });
        }
        if storage.name != location.name {
            next.push(format!("mongokeep storage sync {}", escape(&storage.name)));
        }
    }
    next.extend(back.switched_off.iter().map(|name| format!("mongokeep schedule enable {}", escape(name))));
    StateReport {
        services: back.services.clone(),
        storages: back.storages.clone(),
        schedules: back.schedules.clone(),
        kept: back.kept.clone(),
        switched_off: back.switched_off.clone(),
        missing_secrets: missing,
        next,
        ..StateReport::default()
    }
}
