//! A storage location: where backups are kept.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::de::{Deserializer, Error as _};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};

use super::encryption::{Encryption, StorageEncryption};
use super::secret::Secret;
use crate::error::Result as Checked;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageLocation {
    pub name: String,
    pub config: StorageConfig,
    pub created_at: DateTime<Utc>,
    /// When it was last tested, and how that ended (`None`: it passed).
    pub last_test: Option<(DateTime<Utc>, Option<String>)>,
}

/// How to reach a storage: the word of its backend, and the texts of the backend's fields by key. What they mean is the
/// backend's own business; here it matters only which of them are secret.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StorageConfig {
    /// The word of `--type`.
    pub kind: String,
    /// Fields without a text are absent.
    pub values: BTreeMap<String, String>,
    /// Kept encrypted, and shown to nobody.
    pub secrets: BTreeMap<String, Secret>,
    /// Whom objects are encrypted to, whatever the backend.
    pub encryption: StorageEncryption,
}

impl StorageConfig {
    /// One without secrets.
    pub fn of<const N: usize>(kind: &str, values: [(&str, &str); N]) -> Self {
        let values = values.into_iter().map(|(key, text)| (key.to_owned(), text.to_owned())).collect();
        Self { kind: kind.to_owned(), values, ..Self::default() }
    }

    pub fn text(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }

    /// What is written into the storage called `name` now is encrypted to.
    ///
    /// Errors: `Conflict` while nobody has shown that it can be opened again.
    pub fn encryption(&self, name: &str) -> Checked<Option<Encryption>> {
        self.encryption.must_be_proven(name)?;
        Ok((!self.encryption.is_none()).then(|| self.encryption.encryption()))
    }
}

/// As the store keeps it: one flat object, without the secrets. Switches are booleans in it, as they have been from the
/// first version on.
impl Serialize for StorageConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", &self.kind)?;
        if !self.encryption.is_none() {
            map.serialize_entry("encryption", &self.encryption)?;
        }
        for (key, text) in &self.values {
            match text.as_str() {
                "true" => map.serialize_entry(key, &true)?,
                "false" => map.serialize_entry(key, &false)?,
                text => map.serialize_entry(key, text)?,
            }
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for StorageConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut config = Self::default();
        for (key, value) in BTreeMap::<String, serde_json::Value>::deserialize(deserializer)? {
            if key == "encryption" {
                config.encryption = serde_json::from_value(value).map_err(D::Error::custom)?;
                continue;
            }
            let text = match value {
                serde_json::Value::String(text) => text,
                serde_json::Value::Bool(on) => on.to_string(),
                serde_json::Value::Null => continue,
                other => return Err(D::Error::custom(format!("{key} is {other}, which is no text"))),
            };
            if key == "type" {
                config.kind = text;
            } else if !text.is_empty() {
                config.values.insert(key, text);
            }
        }
        if config.kind.is_empty() { Err(D::Error::missing_field("type")) } else { Ok(config) }
    }
}

/// The longest prefix of a storage in a bucket, in bytes. S3 takes keys of 1,024 bytes; what lies below prefix and folder
/// can need [`LONGEST_BELOW_FOLDER`] of them.
pub const MAX_PREFIX: usize = 300;

/// The longest key an object of a backup can have below the folder of the backup, its first slash included:
/// `/backups/<100>/data/<189>/<238>/00000.bson.zst.age`. A database has up to 63 bytes, each of which may be escaped to three.
pub const LONGEST_BELOW_FOLDER: usize = 9 + 100 + 6 + 189 + 1 + 238 + 19;

/// One step of `storage test`: write, read, list, delete a probe object, and upload one in parts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TestStep {
    pub id: String,
    pub ok: bool,
    pub detail: String,
    /// Seconds.
    pub seconds: f64,
    /// A command that mends what failed, where one is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// What to do about what failed, which `detail` has at its end, in parentheses.
    #[serde(skip)]
    pub hint: Option<String>,
}

impl TestStep {
    /// What happened, without what to do about it.
    pub fn reason(&self) -> &str {
        let hint = self.hint.as_ref().map(|hint| format!(" ({hint})"));
        hint.and_then(|hint| self.detail.strip_suffix(&hint)).unwrap_or(&self.detail)
    }

    /// What to do about what failed, in words or as a command; `None`: nothing is known.
    pub fn what_to_do(&self) -> Option<&str> {
        self.remedy.as_deref().or(self.hint.as_deref()).filter(|_| !self.ok)
    }

    /// Which step failed and why; `None`: it is good.
    pub fn failure(&self) -> Option<String> {
        (!self.ok).then(|| format!("{}: {}", self.id, self.detail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_tells_its_reason_from_what_to_do() {
        let hint = Some("make it with mkdir /b".to_owned());
        let detail = "there is no folder /b (make it with mkdir /b)".to_owned();
        let failed = TestStep { id: "open".into(), ok: false, detail, seconds: 0.0, remedy: None, hint };
        assert_eq!(failed.reason(), "there is no folder /b");
        assert_eq!(failed.what_to_do(), Some("make it with mkdir /b"));
        assert!(failed.failure().unwrap().ends_with("(make it with mkdir /b)"));
        let mended = TestStep { remedy: Some("mongokeep storage edit s --checksums none".into()), ..failed.clone() };
        assert_eq!(mended.what_to_do(), mended.remedy.as_deref());
        let bare = TestStep { hint: None, detail: "no (really)".into(), ..failed.clone() };
        assert_eq!((bare.reason(), bare.what_to_do()), ("no (really)", None));
        assert_eq!(TestStep { ok: true, ..failed }.what_to_do(), None);
    }

    /// The text that the first version wrote for an S3 storage.
    #[test]
    fn what_earlier_versions_stored_is_read_and_written_as_it_was() {
        let old = r#"{"type":"s3","bucket":"b","region":null,"endpoint":"https://h:9","prefix":"","path_style":true,
            "access_key_id":"k","secret_access_key":null,"session_token":null,"ca_file":null,
            "insecure_skip_tls_verify":false,"checksums":"auto"}"#;
        let config: StorageConfig = serde_json::from_str(old).unwrap();
        let pairs = [
            ("access_key_id", "k"),
            ("bucket", "b"),
            ("checksums", "auto"),
            ("endpoint", "https://h:9"),
            ("insecure_skip_tls_verify", "false"),
            ("path_style", "true"),
        ];
        assert_eq!(config, StorageConfig::of("s3", pairs));
        let written = serde_json::to_value(&config).unwrap();
        assert_eq!((&written["path_style"], &written["type"]), (&true.into(), &"s3".into()));
        assert_eq!(serde_json::from_value::<StorageConfig>(written).unwrap(), config);
        for bad in [r#"{"bucket":"b"}"#, r#"{"type":"s3","bucket":5}"#] {
            assert!(serde_json::from_str::<StorageConfig>(bad).is_err(), "{bad}");
        }
    }
}
