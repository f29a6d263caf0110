//! The copy of the store that a storage keeps: what a person decided, and nothing that follows from it.
//!
//! Backups and the recorded oplog are not part of it: they are found in the storages themselves. Jobs and their logs are
//! history, and are lost with the store.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::encryption::Encryption;
use super::schedule::Schedule;
use super::secret::Secret;
use super::service::EngineKind;
use super::storage::StorageConfig;

/// The format that this version writes. Readers refuse a newer one and ignore fields that they do not know.
pub const FORMAT_VERSION: u32 = 1;

/// An object of a storage that holds a copy. Everything but the decisions themselves can be read without a key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StateObject {
    pub format_version: u32,
    pub tool_version: String,
    pub written_at: DateTime<Utc>,
    /// The installation whose store it is a copy of.
    pub home_id: String,
    pub host: String,
    /// What this storage is called there.
    pub storage: String,
    pub services: usize,
    pub storages: usize,
    pub schedules: usize,
    pub settings: usize,
    /// Whom `sealed` is encrypted to; `None`: `decisions` stand in the clear, without secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Encryption>,
    /// The [`Decisions`] with their secrets, as JSON: an armored file of age.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decisions: Option<Decisions>,
}

/// What a person decided.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Decisions {
    pub services: Vec<CopiedService>,
    pub storages: Vec<CopiedStorage>,
    /// Without what follows from the calendar and the jobs.
    pub schedules: Vec<Schedule>,
    /// Those that are in the settings file, in the order of the documentation.
    pub settings: Vec<CopiedSetting>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CopiedService {
    pub name: String,
    /// `None`: it holds secrets, and the copy holds none.
    pub uri: Option<Secret>,
    /// Without its secrets.
    pub uri_shown: String,
    pub cluster: Option<String>,
    pub engine: EngineKind,
    pub created_at: DateTime<Utc>,
    pub production_hours: Option<String>,
    pub data_dir: Option<String>,
    pub stop_command: Option<String>,
    pub start_command: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CopiedStorage {
    pub name: String,
    pub config: StorageConfig,
    /// By the key of their field; empty in a copy without secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, Secret>,
    /// The keys of the fields that have a secret, whether it is here or not.
    pub secret_fields: Vec<String>,
    pub created_at: DateTime<Utc>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CopiedSetting {
    pub key: String,
    /// `None`: a part of it is a secret, and the copy holds none.
    pub value: Option<Secret>,
}

impl Decisions {
    /// The same without secrets: what cannot be told apart from one goes with it.
    #[must_use]
    pub fn without_secrets(mut self) -> Self {
        for service in &mut self.services {
            service.uri = service.uri.take().filter(|uri| uri.expose() == service.uri_shown);
        }
        self.storages.iter_mut().for_each(|storage| storage.secrets.clear());
        self
    }
}

/// The command that gives the secrets of these fields of a service or storage.
pub fn give_again(what: &str, name: &str, fields: &[String]) -> String {
    let flags: String = fields.iter().map(|key| format!(" --{}-file F", key.replace('_', "-"))).collect();
    format!("mongokeep {what} edit {}{flags}", super::text::escape(name))
}

/// What is noted of the last copy, and of the last one that could not be written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyNote {
    /// Where the copy is that was written last; empty: none was.
    #[serde(default)]
    pub storage: String,
    /// Of what was copied.
    #[serde(default)]
    pub digest: String,
    #[serde(default)]
    pub written_at: Option<DateTime<Utc>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_without_secrets_has_none() {
        let service = |name: &str, uri: &str| CopiedService {
            name: name.into(),
            uri: Some(Secret::new(uri)),
            uri_shown: super::super::secret::redact_uri(uri),
            cluster: None,
            engine: EngineKind::Native,
            created_at: Utc::now(),
            production_hours: None,
            data_dir: None,
            stop_command: None,
            start_command: None,
        };
        let mut config = StorageConfig::of("s3", [("bucket", "b"), ("access_key_id", "k")]);
        let secret = || Secret::new("hunter2");
        config.secrets.insert("secret_access_key".into(), secret());
        let decisions = Decisions {
            services: vec![service("open", "mongodb://h/"), service("shut", "mongodb://u:hunter2@h/")],
            storages: vec![CopiedStorage {
                name: "s".into(),
                config,
                secrets: BTreeMap::from([("secret_access_key".into(), secret())]),
                secret_fields: vec!["secret_access_key".into()],
                created_at: Utc::now(),
            }],
            ..Decisions::default()
        };
        assert!(serde_json::to_string(&decisions).unwrap().contains("hunter2"));
        let copy = decisions.without_secrets();
        let text = serde_json::to_string(&copy).unwrap();
        assert!(!text.contains("hunter2"), "{text}");
        assert_eq!(copy.services[0].uri.as_ref().unwrap().expose(), "mongodb://h/");
        assert_eq!(copy.services[1].uri, None);
        assert_eq!(copy.storages[0].secret_fields, ["secret_access_key"]);
    }
}
