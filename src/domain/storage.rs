//! A storage location: where backups are kept.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::secret::Secret;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageLocation {
    pub name: String,
    pub config: StorageConfig,
    pub created_at: DateTime<Utc>,
    /// When it was last tested, and how that ended (`None`: it passed).
    pub last_test: Option<(DateTime<Utc>, Option<String>)>,
}

/// How to reach a storage. Serialised whole, secrets included, it is only ever stored encrypted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum StorageConfig {
    Filesystem { path: String },
    S3(S3Config),
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct S3Config {
    pub bucket: String,
    pub region: Option<String>,
    /// `https://host:port` of an S3-compatible server; none for AWS.
    pub endpoint: Option<String>,
    /// Key prefix below which everything is kept, without slashes at its ends.
    pub prefix: String,
    pub path_style: bool,
    /// None: the daemon's environment and the default AWS chain.
    pub access_key_id: Option<String>,
    pub secret_access_key: Option<Secret>,
    pub session_token: Option<Secret>,
    /// PEM file with the authority that signed the endpoint's certificate.
    pub ca_file: Option<String>,
    pub insecure_skip_tls_verify: bool,
}

impl StorageConfig {
    /// The word of `--type`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Filesystem { .. } => "filesystem",
            Self::S3(_) => "s3",
        }
    }

    /// Where it is, without secrets: a path, or `s3://bucket/prefix`.
    pub fn place(&self) -> String {
        match self {
            Self::Filesystem { path } => path.clone(),
            Self::S3(s3) if s3.prefix.is_empty() => format!("s3://{}", s3.bucket),
            Self::S3(s3) => format!("s3://{}/{}", s3.bucket, s3.prefix),
        }
    }
}

/// One step of `storage test`: write, read, list, delete a probe object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TestStep {
    pub id: String,
    pub ok: bool,
    pub detail: String,
    /// Seconds.
    pub seconds: f64,
}
