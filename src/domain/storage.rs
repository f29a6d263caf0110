//! A storage location: where backups are kept.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::secret::Secret;
use crate::error::{Error, Result as OurResult};

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
    pub checksums: Checksums,
}

/// What an S3 server is given with each body, so that it can tell whether the body arrived whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Checksums {
    /// CRC32, unless the environment says `AWS_REQUEST_CHECKSUM_CALCULATION=when_required`: then none.
    #[default]
    Auto,
    Crc32,
    /// The header Content-MD5, for servers that know no newer checksums and want one (older ones with Object Lock).
    Md5,
    /// For servers that refuse the headers of checksums.
    None,
}

impl Checksums {
    /// The words of `--checksums`.
    pub const WORDS: &'static [&'static str] = &["auto", "crc32", "md5", "none"];

    pub fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Crc32 => "crc32",
            Self::Md5 => "md5",
            Self::None => "none",
        }
    }
}

impl FromStr for Checksums {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "auto" => Ok(Self::Auto),
            "crc32" => Ok(Self::Crc32),
            "md5" => Ok(Self::Md5),
            "none" => Ok(Self::None),
            _ => Err(format!("must be one of {}", Self::WORDS.join(", "))),
        }
    }
}

impl StorageConfig {
    /// The word of `--type`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Filesystem { .. } => "filesystem",
            Self::S3(_) => "s3",
        }
    }

    /// Errors: `Invalid` when objects of a backup in `folder` could have longer keys than the storage takes.
    pub fn check_folder(&self, folder: &str) -> OurResult<()> {
        match self {
            Self::Filesystem { .. } => Ok(()),
            Self::S3(s3) => {
                let most = S3_KEY_LIMIT - LONGEST_BELOW_FOLDER - 2;
                let long = s3.prefix.len() + folder.len();
                if long <= most {
                    return Ok(());
                }
                let why = format!("prefix and folder have {long} bytes, and S3 leaves them {most} of a key");
                Err(Error::invalid("folder", why).hint("choose a shorter folder, or a storage with a shorter prefix"))
            }
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

/// The longest prefix of an S3 storage, in bytes. S3 takes keys of 1,024 bytes; what lies below prefix and folder can need
/// [`LONGEST_BELOW_FOLDER`] of them.
pub const MAX_PREFIX: usize = 300;

/// The longest key an object of a backup can have below the folder of the backup, its first slash included:
/// `/backups/<100>/data/<189>/<238>/00000.bson.zst`. A database has up to 63 bytes, each of which may be escaped to three.
pub const LONGEST_BELOW_FOLDER: usize = 9 + 100 + 6 + 189 + 1 + 238 + 15;

/// The longest key that S3 takes, in bytes.
pub const S3_KEY_LIMIT: usize = 1024;

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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_and_folder_leave_room_for_the_longest_key() {
        let of = |prefix: usize| StorageConfig::S3(S3Config { prefix: "p".repeat(prefix), ..S3Config::default() });
        assert!(of(MAX_PREFIX).check_folder(&"f".repeat(164)).is_ok());
        let error = of(MAX_PREFIX).check_folder(&"f".repeat(165)).unwrap_err();
        assert!(error.full().starts_with("folder: "), "{error}");
        assert!(of(0).check_folder(&"f".repeat(400)).is_ok());
        assert!(StorageConfig::Filesystem { path: "/x".into() }.check_folder(&"f".repeat(400)).is_ok());
        assert_eq!(MAX_PREFIX + 1 + 164 + LONGEST_BELOW_FOLDER, S3_KEY_LIMIT - 1);
    }
}
