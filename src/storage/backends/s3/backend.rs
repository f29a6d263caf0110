//! S3 as a backend: its fields, and what they mean together.

use std::sync::Arc;

use async_trait::async_trait;

use super::S3;
use super::config::{Checksums, S3Config};
use crate::domain::field::{Field, FieldKind};
use crate::domain::fields::rules::{bucket_rule, endpoint_rule, path_rule, plain_rule, prefix_rule};
use crate::domain::storage::{LONGEST_BELOW_FOLDER, StorageConfig};
use crate::domain::typed::{Typed, first, optional_text, plain_text, secret_text, switch, word};
use crate::error::{Error, Result};
use crate::storage::backend::{Backend, Hold, kept};
use crate::storage::{Storage, local_path};

/// Amazon S3, and every server that speaks its protocol.
pub struct S3Backend;

/// The longest key that S3 takes, in bytes.
const KEY_LIMIT: usize = 1024;

const FIELDS: &[Typed<S3Config>] = &[
    plain_text!(
        Field::new("bucket", "Bucket", FieldKind::Text, "an existing bucket").required().check(bucket_rule),
        bucket
    ),
    optional_text!(
        Field::new("region", "Region", FieldKind::Text, "for example eu-west-1; us-east-1 when empty").check(plain_rule),
        region
    ),
    Typed::new(
        Field::new("endpoint", "Endpoint", FieldKind::Text, "https://host:port of an S3-compatible server; empty for AWS")
            .check(endpoint_rule),
        |s3| s3.endpoint.iter().cloned().collect(),
        |s3, texts| {
            s3.endpoint = first(texts).map(|endpoint| endpoint.trim_end_matches('/').to_owned());
            Ok(())
        },
    ),
    plain_text!(
        Field::new("prefix", "Prefix", FieldKind::Text, "everything is kept below this part of the bucket")
            .check(prefix_rule),
        prefix
    ),
    switch!(
        Field::new("path_style", "Path style", FieldKind::Bool, "the bucket in the path instead of the host name")
            .default("false"),
        path_style
    ),
    optional_text!(
        Field::new(
            "access_key_id",
            "Access key",
            FieldKind::Text,
            "empty: the daemon's environment, then the default AWS chain",
        )
        .check(plain_rule),
        access_key_id
    ),
    secret_text!(
        Field::new("secret_access_key", "Secret key", FieldKind::Secret, "belongs to the access key").check(plain_rule),
        secret_access_key
    ),
    secret_text!(
        Field::new("session_token", "Session token", FieldKind::Secret, "of temporary credentials")
            .advanced()
            .check(plain_rule),
        session_token
    ),
    Typed::new(
        Field::new(
            "ca_file",
            "CA file",
            FieldKind::Path,
            "PEM file of the authority that signed the endpoint's certificate",
        )
        .advanced()
        .check(path_rule),
        |s3| s3.ca_file.iter().cloned().collect(),
        |s3, texts| {
            s3.ca_file = first(texts).map(local_path).transpose()?;
            Ok(())
        },
    ),
    switch!(
        Field::new(
            "insecure_skip_tls_verify",
            "Skip TLS verification",
            FieldKind::Bool,
            "accept any certificate: anybody in between can read and change the backups",
        )
        .default("false")
        .advanced(),
        insecure_skip_tls_verify
    ),
    word!(
        Field::new(
            "checksums",
            "Checksums",
            FieldKind::Choice(Checksums::WORDS),
            "sent with each body; md5 or none for servers that refuse crc32; auto: crc32, or as the AWS environment says",
        )
        .default("auto")
        .advanced(),
        checksums
    ),
];

#[async_trait]
impl Backend for S3Backend {
    type Config = S3Config;

    const WORD: &'static str = "s3";
    const FIELDS: &'static [Typed<S3Config>] = FIELDS;

    fn check(s3: &S3Config) -> Result<()> {
        match (&s3.access_key_id, &s3.secret_access_key) {
            (Some(_), None) => Err(Error::invalid("secret-access-key-file", "is needed with --access-key-id")),
            (None, Some(_)) => Err(Error::invalid("access-key-id", "is needed with --secret-access-key-file")),
            _ => Ok(()),
        }
    }

    fn place(s3: &S3Config) -> String {
        match s3.prefix.as_str() {
            "" => format!("s3://{}", s3.bucket),
            prefix => format!("s3://{}/{prefix}", s3.bucket),
        }
    }

    fn check_folder(s3: &S3Config, folder: &str) -> Result<()> {
        let most = KEY_LIMIT - LONGEST_BELOW_FOLDER - 2;
        let long = s3.prefix.len() + folder.len();
        if long <= most {
            return Ok(());
        }
        let why = format!("prefix and folder have {long} bytes, and S3 leaves them {most} of a key");
        Err(Error::invalid("folder", why).hint("choose a shorter folder, or a storage with a shorter prefix"))
    }

    async fn open(s3: &S3Config, _: Hold) -> Result<Arc<dyn Storage>> {
        Ok(Arc::new(S3::new(s3).await?))
    }

    fn alternatives(_: &S3Config) -> Option<(&'static str, &'static [&'static str])> {
        Some(("checksums", &["md5", "none", "crc32"]))
    }
}

impl From<&S3Config> for StorageConfig {
    fn from(s3: &S3Config) -> Self {
        kept::<S3Backend>(s3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::storage::MAX_PREFIX;

    #[test]
    fn prefix_and_folder_leave_room_for_the_longest_key() {
        let check = |prefix: usize, folder: usize| {
            let s3 = S3Config { prefix: "p".repeat(prefix), ..S3Config::default() };
            S3Backend::check_folder(&s3, &"f".repeat(folder))
        };
        assert!(check(MAX_PREFIX, 160).is_ok());
        let error = check(MAX_PREFIX, 161).unwrap_err();
        assert!(error.full().starts_with("folder: "), "{error}");
        assert!(check(0, 400).is_ok());
        assert_eq!(MAX_PREFIX + 1 + 160 + LONGEST_BELOW_FOLDER, KEY_LIMIT - 1);
    }
}
