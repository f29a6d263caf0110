//! The storage of a service as PBM is told about it: one entry of a table for each type of storage.
//!
//! PBM's files go to a folder of their own below ours (`<prefix>/<folder>/pbm`), so that the two layouts never mix.

mod azure;
mod gcs;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::setting_paths::set;
use crate::domain::secret::Secret;
use crate::domain::storage::StorageConfig;
use crate::domain::text::quoted;
use crate::error::{Error, ErrorKind, Result};

/// The folder of PBM in a folder of ours.
pub const FOLDER: &str = "pbm";
/// What stands for a secret, as PBM shows it itself.
pub const HIDDEN: &str = "***";

/// The section `storage` of PBM.
#[derive(Debug, Clone, Default)]
pub struct StorageSection {
    /// PBM's word for the type; the section of its settings is called so, too.
    pub kind: &'static str,
    /// Its settings, secrets as [`HIDDEN`].
    pub settings: Map<String, Value>,
    /// The secrets, by their path in the settings.
    pub secrets: BTreeMap<Vec<String>, Secret>,
    /// Every path that is decided here, whether it is set or not. What else stands there is somebody else's.
    pub owned: &'static [&'static str],
    /// What PBM takes when a setting is absent.
    pub defaults: &'static [(&'static str, &'static str)],
    /// Of what is decided here, what PBM does not give back, not even as [`HIDDEN`]: whether it is set nobody can read.
    pub unread: &'static [&'static str],
    /// What people must see to, because PBM cannot be told.
    pub notes: Vec<String>,
}

type Build = fn(&StorageConfig, &str) -> Result<StorageSection>;

/// Each type of storage that PBM has too.
const TYPES: &[(&str, Build)] =
    &[("filesystem", filesystem), ("s3", s3), ("azure", azure::section), ("gcs", gcs::section)];

impl StorageSection {
    /// For backups in `folder` of a storage.
    ///
    /// Errors: `Unsupported`, naming it, for a type or a setting that PBM cannot be told about.
    pub fn of(storage: &StorageConfig, folder: &str) -> Result<Self> {
        let found = TYPES.iter().find(|(kind, _)| *kind == storage.kind);
        let Some((_, build)) = found else {
            let what = format!("a storage of type {} cannot be used with PBM in this version", quoted(&storage.kind));
            return Err(Error::new(ErrorKind::Unsupported, what).hint("choose a storage of another type"));
        };
        build(storage, folder)
    }

    fn secret(&mut self, path: &[&str], secret: Option<Secret>) {
        let Some(secret) = secret else { return };
        let path: Vec<String> = path.iter().map(|key| (*key).to_owned()).collect();
        set(&mut self.settings, &path, Value::from(HIDDEN));
        self.secrets.insert(path, secret);
    }

    fn note_ca_file(&mut self, storage: &StorageConfig) {
        if storage.text("ca_file").is_some() {
            let note =
                "PBM takes no CA file: every node must trust the authority that signed the storage's certificate";
            self.notes.push(note.to_owned());
        }
    }

    /// For a client of PBM that checks every certificate.
    fn note_certificates(&mut self, storage: &StorageConfig) {
        self.note_ca_file(storage);
        if storage.text("insecure_skip_tls_verify") == Some("true") {
            let note = "PBM checks the storage's certificate, which --insecure-skip-tls-verify does not: every node must trust \
                        who signed it";
            self.notes.push(note.to_owned());
        }
    }
}

/// The folder of PBM, as a prefix below that of the storage.
fn below(prefix: &str, folder: &str) -> String {
    let parts = [prefix, folder, FOLDER].into_iter().map(|part| part.trim_matches('/'));
    parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
}

fn filesystem(storage: &StorageConfig, folder: &str) -> Result<StorageSection> {
    let path = storage.text("path").ok_or_else(|| Error::invalid("path", "is needed"))?;
    let path = format!("{}/{}", path.trim_end_matches('/'), below("", folder));
    let note =
        "every node must see the folder of the storage at the same path, and its pbm-agent must be able to write there";
    Ok(StorageSection {
        kind: "filesystem",
        settings: object(json!({"path": path})),
        owned: &["path"],
        notes: vec![note.to_owned()],
        ..StorageSection::default()
    })
}

const S3_OWNED: &[&str] = &[
    "region",
    "endpointUrl",
    "forcePathStyle",
    "bucket",
    "prefix",
    "credentials.access-key-id",
    "credentials.secret-access-key",
    "credentials.session-token",
    "insecureSkipTLSVerify",
];
const S3_DEFAULTS: &[(&str, &str)] = &[("region", "us-east-1"), ("forcePathStyle", "true")];
const MINIO_OWNED: &[&str] = &[
    "region",
    "endpoint",
    "secure",
    "forcePathStyle",
    "bucket",
    "prefix",
    "credentials.access-key-id",
    "credentials.secret-access-key",
    "credentials.session-token",
    "insecureSkipTLSVerify",
];

/// PBM has two ways to a bucket. Its `s3` sends checksums that some servers refuse; a storage that was set to leave them out
/// is reached by its `minio`, which has no other meaning than another client.
fn s3(storage: &StorageConfig, folder: &str) -> Result<StorageSection> {
    let bucket = storage.text("bucket").ok_or_else(|| Error::invalid("bucket", "is needed"))?;
    let is_on = |key: &str| storage.text(key) == Some("true");
    // It would store its backups otherwise than a person has asked for.
    for key in ["storage_class", "sse", "sse_kms_key_id"] {
        if storage.text(key).is_some_and(|text| text != "bucket") {
            let flag = key.replace('_', "-");
            let what = format!("a storage with --{flag} cannot be used with PBM in this version");
            return Err(Error::new(ErrorKind::Unsupported, what).hint("let the bucket decide that by its own settings"));
        }
    }
    let settings = json!({
        "bucket": bucket,
        "prefix": below(storage.text("prefix").unwrap_or_default(), folder),
        "forcePathStyle": is_on("path_style"),
        "insecureSkipTLSVerify": is_on("insecure_skip_tls_verify"),
    });
    let mut section = StorageSection { settings: object(settings), ..StorageSection::default() };
    if let Some(region) = storage.text("region") {
        section.settings.insert("region".into(), region.into());
    }
    let without_checksums = matches!(storage.text("checksums"), Some("md5" | "none"));
    match storage.text("endpoint") {
        Some(endpoint) if without_checksums => {
            let (host, secure) = host_of(endpoint)?;
            section.kind = "minio";
            section.owned = MINIO_OWNED;
            section.settings.insert("endpoint".into(), host.into());
            section.settings.insert("secure".into(), secure.into());
        }
        endpoint => {
            section.kind = "s3";
            section.owned = S3_OWNED;
            section.defaults = S3_DEFAULTS;
            if let Some(endpoint) = endpoint {
                section.settings.insert("endpointUrl".into(), endpoint.into());
            }
        }
    }
    match storage.text("access_key_id") {
        Some(id) => {
            section.secret(&["credentials", "access-key-id"], Some(Secret::new(id)));
            let secret = |key: &str| storage.secrets.get(key).cloned();
            section.secret(&["credentials", "secret-access-key"], secret("secret_access_key"));
            section.secret(&["credentials", "session-token"], secret("session_token"));
        }
        None => {
            section.notes.push("the storage has no keys: each pbm-agent needs its own, from its environment".into())
        }
    }
    section.note_ca_file(storage);
    Ok(section)
}

/// `https://host:port` as host and port, and whether it is TLS.
fn host_of(endpoint: &str) -> Result<(&str, bool)> {
    let (host, secure) = match endpoint.split_once("://") {
        Some(("https", host)) => (host, true),
        Some(("http", host)) => (host, false),
        _ => return Err(Error::invalid("endpoint", "is not an http:// or https:// address")),
    };
    if host.contains('/') {
        let why = "PBM takes no path in the address of a server that refuses checksums";
        return Err(Error::of_field(ErrorKind::Unsupported, "endpoint", why));
    }
    Ok((host, secure))
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::backends;

    /// A type that is built must be decided about here.
    #[test]
    fn each_type_of_storage_has_its_entry_or_is_refused_by_name() {
        let missing: Vec<&str> =
            backends::types().filter(|kind| !TYPES.iter().any(|(known, _)| known == kind)).collect();
        assert_eq!(missing, [""; 0]);
        let error = StorageSection::of(&StorageConfig::of("tape", []), "prod").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.full().contains("\"tape\""), "{error}");
    }

    #[test]
    fn the_folder_of_pbm_is_below_ours() {
        let folder = StorageSection::of(&StorageConfig::of("filesystem", [("path", "/srv/backup/")]), "prod").unwrap();
        assert_eq!(Value::from(folder.settings), json!({"path": "/srv/backup/prod/pbm"}));
        let bucket = StorageSection::of(&StorageConfig::of("s3", [("bucket", "b")]), "prod").unwrap();
        assert_eq!(bucket.settings["prefix"], "prod/pbm");
        assert!(bucket.kind == "s3" && bucket.notes.len() == 1, "its own keys");
    }

    #[test]
    fn keys_of_a_bucket_stand_apart() {
        let given = [
            ("bucket", "b"),
            ("prefix", "p"),
            ("endpoint", "http://127.0.0.1:9000"),
            ("access_key_id", "key"),
            ("ca_file", "/etc/ca.pem"),
            ("path_style", "true"),
        ];
        let mut storage = StorageConfig::of("s3", given);
        storage.secrets.insert("secret_access_key".into(), Secret::new("hunter2"));
        let section = StorageSection::of(&storage, "prod").unwrap();
        assert_eq!(section.settings["prefix"], "p/prod/pbm");
        assert_eq!(section.settings["credentials"], json!({"access-key-id": HIDDEN, "secret-access-key": HIDDEN}));
        assert_eq!(section.secrets.len(), 2);
        assert!(!format!("{section:?}").contains("hunter2"));
        assert!(section.notes.iter().any(|note| note.contains("CA file")));
        storage.values.insert("checksums".into(), "none".into());
        let section = StorageSection::of(&storage, "prod").unwrap();
        assert_eq!((section.kind, &section.settings["endpoint"]), ("minio", &json!("127.0.0.1:9000")));
        assert_eq!(section.settings["secure"], false);
    }
}
