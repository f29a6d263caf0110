//! S3 as a backend: its fields, and what they mean together.

use std::sync::Arc;

use async_trait::async_trait;

use super::config::{Checksums, S3Config, ServerSide};
use super::{S3, customer_key};
use crate::domain::field::{Field, FieldKind};
use crate::domain::fields::rules::{endpoint_rule, plain_rule};
use crate::domain::storage::StorageConfig;
use crate::domain::typed::{Typed, first, optional_text, plain_text, secret_text, switch, word};
use crate::error::{Error, Result};
use crate::storage::backend::shared::{BUCKET, CA_FILE, ENDPOINT, PREFIX, SKIP_TLS_VERIFY};
use crate::storage::backend::{Backend, Hold, kept, leaves_room};
use crate::storage::{Storage, local_path};

/// Amazon S3, and every server that speaks its protocol.
pub struct S3Backend;

const FIELDS: &[Typed<S3Config>] = &[
    plain_text!(
        BUCKET,
        bucket
    ),
    optional_text!(
        Field::new("region", "Region", FieldKind::Text, "for example eu-west-1; us-east-1 when empty").check(plain_rule),
        region
    ),
    Typed::new(
        ENDPOINT,
        |s3| s3.endpoint.iter().cloned().collect(),
        |s3, texts| {
            s3.endpoint = first(texts).map(|endpoint| endpoint.trim_end_matches('/').to_owned());
            Ok(())
        },
    ),
    plain_text!(
        PREFIX,
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
        CA_FILE,
        |s3| s3.ca_file.iter().cloned().collect(),
        |s3, texts| {
            s3.ca_file = first(texts).map(local_path).transpose()?;
            Ok(())
        },
    ),
    switch!(
        SKIP_TLS_VERIFY,
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
    optional_text!(
        Field::new(
            "profile",
            "Profile",
            FieldKind::Text,
            "of the AWS configuration files of the user that the daemon runs as; instead of an access key",
        )
        .advanced()
        .check(plain_rule),
        profile
    ),
    optional_text!(
        Field::new("storage_class", "Storage class", FieldKind::Text, "for example STANDARD_IA; empty: STANDARD")
            .advanced()
            .check(storage_class_rule),
        storage_class
    ),
    word!(
        Field::new(
            "sse",
            "Encryption at rest",
            FieldKind::Choice(ServerSide::WORDS),
            "by the server (SSE-S3, SSE-KMS); bucket: as the bucket says",
        )
        .default("bucket")
        .advanced(),
        sse
    ),
    optional_text!(
        Field::new("sse_kms_key_id", "KMS key", FieldKind::Text, "id or ARN, with --sse aws:kms; empty: the account's")
            .advanced()
            .check(plain_rule),
        sse_kms_key_id
    ),
    secret_text!(
        Field::new(
            "sse_c_key",
            "Key of the customer",
            FieldKind::Secret,
            "SSE-C: 32 bytes in base64; the server keeps no copy, and a lost one loses the backups",
        )
        .advanced()
        .check(plain_rule),
        sse_c_key
    ),
    optional_text!(
        Field::new("role_arn", "Role", FieldKind::Text, "arn:aws:iam::...:role/..., assumed with the credentials above")
            .advanced()
            .check(role_rule),
        role_arn
    ),
    optional_text!(
        Field::new("external_id", "External id", FieldKind::Text, "the external id that the trust policy of the role asks for")
            .advanced()
            .check(plain_rule),
        external_id
    ),
    optional_text!(
        Field::new("role_session_name", "Session name", FieldKind::Text, "in the logs of AWS; empty: mongokeep")
            .advanced()
            .check(session_rule),
        role_session_name
    ),
    optional_text!(
        Field::new("sts_endpoint", "STS endpoint", FieldKind::Text, "where the role is assumed; empty: AWS")
            .advanced()
            .check(endpoint_rule),
        sts_endpoint
    ),
];

fn role_rule(text: &str) -> std::result::Result<(), String> {
    let is_role = text.starts_with("arn:") && text.contains(":role/") && !text.contains(char::is_whitespace);
    if is_role { Ok(()) } else { Err("is no role, such as arn:aws:iam::123456789012:role/backups".into()) }
}

/// STS's own rule.
fn session_rule(text: &str) -> std::result::Result<(), String> {
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c));
    if plain && (2..=64).contains(&text.len()) {
        return Ok(());
    }
    Err("has 2 to 64 letters, digits and characters of _+=,.@-".into())
}

/// A class that the server knows is one word. One whose objects must be thawed first is no place for a backup: nothing of
/// it could be verified, restored or found.
fn storage_class_rule(text: &str) -> std::result::Result<(), String> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_') {
        return Err("is not a storage class, such as STANDARD_IA".into());
    }
    if ["GLACIER", "DEEP_ARCHIVE"].contains(&text) {
        return Err(format!(
            "cannot be {text}: objects of that class cannot be read before they are thawed; GLACIER_IR can"
        ));
    }
    Ok(())
}

/// Whether others on the way can read what is sent there.
fn is_open(endpoint: &str) -> bool {
    let Some(rest) = endpoint.strip_prefix("http://") else { return false };
    !["127.0.0.1", "localhost", "[::1]"].iter().any(|own| rest.starts_with(own))
}

#[async_trait]
impl Backend for S3Backend {
    type Config = S3Config;

    const WORD: &'static str = "s3";
    const FIELDS: &'static [Typed<S3Config>] = FIELDS;

    fn check(s3: &S3Config) -> Result<()> {
        if s3.profile.is_some() && s3.access_key_id.is_some() {
            return Err(Error::invalid("profile", "is given besides --access-key-id; one of them is enough"));
        }
        if s3.sse_kms_key_id.is_some() && s3.sse != ServerSide::Kms {
            return Err(Error::invalid("sse-kms-key-id", "is only for --sse aws:kms"));
        }
        if s3.sse_c_key.is_some() {
            customer_key::CustomerKey::of(s3.sse_c_key.as_ref())?;
            if s3.sse != ServerSide::Bucket {
                return Err(Error::invalid("sse", "is given besides --sse-c-key-file; one of them is enough"));
            }
            if s3.endpoint.as_deref().is_some_and(is_open) {
                return Err(Error::invalid(
                    "sse-c-key-file",
                    "would be sent in the clear: the endpoint is not https://",
                ));
            }
        }
        if s3.role_arn.is_none() {
            let of_role = [
                ("external-id", s3.external_id.is_some()),
                ("role-session-name", s3.role_session_name.is_some()),
                ("sts-endpoint", s3.sts_endpoint.is_some()),
            ];
            if let Some((field, _)) = of_role.iter().find(|(_, is_given)| *is_given) {
                return Err(Error::invalid(field, "belongs to --role-arn"));
            }
        }
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
        leaves_room("S3", &s3.prefix, folder)
    }

    fn address(s3: &S3Config) -> Option<String> {
        // The SDK knows more places in which a region, or another endpoint, is said: then it alone knows where it goes.
        let region = s3.region.as_deref().filter(|_| std::env::var_os("AWS_ENDPOINT_URL").is_none());
        s3.endpoint.clone().or_else(|| region.map(|region| format!("https://s3.{region}.amazonaws.com")))
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
    use crate::domain::storage::{LONGEST_BELOW_FOLDER, MAX_PREFIX};
    use crate::storage::backend::KEY_LIMIT;

    #[test]
    fn storage_classes_that_cannot_be_read_are_refused() {
        for good in ["STANDARD_IA", "GLACIER_IR", "ONEZONE_IA"] {
            assert_eq!(storage_class_rule(good), Ok(()));
        }
        for bad in ["GLACIER", "DEEP_ARCHIVE", "standard ia", ""] {
            assert!(storage_class_rule(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_belongs_together_is_given_together() {
        let field = |s3: S3Config| S3Backend::check(&s3).unwrap_err().field().unwrap().to_owned();
        let profile = Some("backups".to_owned());
        let s3 = S3Config { profile: profile.clone(), access_key_id: Some("k".into()), ..S3Config::default() };
        assert_eq!(field(s3), "profile");
        let s3 = S3Config { sse_kms_key_id: Some("k".into()), ..S3Config::default() };
        assert_eq!(field(s3), "sse_kms_key_id");
        for s3 in [
            S3Config { external_id: Some("x".into()), ..S3Config::default() },
            S3Config { sts_endpoint: Some("https://sts".into()), ..S3Config::default() },
        ] {
            assert!(["external_id", "sts_endpoint"].contains(&field(s3).as_str()));
        }
        let sse_c_key = Some(crate::domain::secret::Secret::new("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="));
        let s3 = S3Config { sse_c_key: sse_c_key.clone(), sse: ServerSide::Kms, ..S3Config::default() };
        assert_eq!(field(s3), "sse");
        let at = |endpoint: &str| {
            let endpoint = Some(endpoint.to_owned());
            S3Config { sse_c_key: sse_c_key.clone(), endpoint, ..S3Config::default() }
        };
        assert_eq!(field(at("http://storage.example.com")), "sse_c_key_file");
        for good in ["https://storage.example.com", "http://127.0.0.1:9000"] {
            assert!(S3Backend::check(&at(good)).is_ok(), "{good}");
        }
        let s3 = S3Config { profile, sse: ServerSide::Kms, sse_kms_key_id: Some("k".into()), ..S3Config::default() };
        assert!(S3Backend::check(&s3).is_ok());
    }

    #[test]
    fn roles_and_sessions_are_what_aws_takes() {
        assert_eq!(role_rule("arn:aws:iam::123456789012:role/path/backups"), Ok(()));
        assert_eq!(session_rule("nightly@db-1"), Ok(()));
        for bad in ["backups", "arn:aws:iam::123456789012:user/x", "arn:aws:iam::1:role/a b"] {
            assert!(role_rule(bad).is_err(), "{bad}");
        }
        for bad in ["a", "a b", &"x".repeat(65)] {
            assert!(session_rule(bad).is_err(), "{bad}");
        }
    }

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
