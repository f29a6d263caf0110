//! Azure as a backend: its fields, and what they mean together.

use std::sync::Arc;

use async_trait::async_trait;

use super::Azure;
use super::config::AzureConfig;
use super::connect::Access;
use crate::domain::field::{Field, FieldKind};
use crate::domain::fields::rules::plain_rule;
use crate::domain::storage::StorageConfig;
use crate::domain::typed::{Typed, first, plain_text, secret_text, switch};
use crate::error::Result;
use crate::storage::backend::shared::{CA_FILE, ENDPOINT, PREFIX, SKIP_TLS_VERIFY};
use crate::storage::backend::{Backend, Hold, kept, leaves_room};
use crate::storage::{Storage, local_path};

/// Azure Blob Storage.
pub struct AzureBackend;

/// Azure's own rule: 3 to 24 lower-case letters and digits. Emulators are given other names.
fn account_rule(text: &str) -> std::result::Result<(), String> {
    let plain = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if plain && (3..=24).contains(&text.len()) {
        return Ok(());
    }
    Err("is not the name of a storage account: 3 to 24 lower-case letters and digits".into())
}

/// Azure's own rule: 3 to 63 lower-case letters, digits and single dashes; `$root` and the like are no place for backups.
fn container_rule(text: &str) -> std::result::Result<(), String> {
    let plain = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if plain && (3..=63).contains(&text.len()) && !text.contains("--") && !text.starts_with('-') && !text.ends_with('-')
    {
        return Ok(());
    }
    Err("is not the name of a container: 3 to 63 lower-case letters, digits and single dashes".into())
}

#[async_trait]
impl Backend for AzureBackend {
    type Config = AzureConfig;

    const WORD: &'static str = "azure";
    const FIELDS: &'static [Typed<AzureConfig>] = &[
        plain_text!(
            Field::new("account", "Account", FieldKind::Text, "the name of the storage account")
                .required()
                .check(account_rule),
            account
        ),
        plain_text!(
            Field::new("container", "Container", FieldKind::Text, "an existing container")
                .required()
                .check(container_rule),
            container
        ),
        Typed::new(
            ENDPOINT,
            |azure| azure.endpoint.iter().cloned().collect(),
            |azure, texts| {
                azure.endpoint = first(texts).map(|endpoint| endpoint.trim_end_matches('/').to_owned());
                Ok(())
            },
        ),
        plain_text!(PREFIX, prefix),
        secret_text!(
            Field::new(
                "account_key",
                "Account key",
                FieldKind::Secret,
                "none of the three: the daemon's environment, then the managed identity",
            )
            .check(plain_rule),
            account_key
        ),
        secret_text!(
            Field::new("sas_token", "SAS token", FieldKind::Secret, "instead of a key: sv=...&sig=...")
                .check(plain_rule),
            sas_token
        ),
        secret_text!(
            Field::new(
                "connection_string",
                "Connection string",
                FieldKind::Secret,
                "instead of a key: AccountName=...;AccountKey=...",
            )
            .check(plain_rule),
            connection_string
        ),
        Typed::new(
            CA_FILE,
            |azure| azure.ca_file.iter().cloned().collect(),
            |azure, texts| {
                azure.ca_file = first(texts).map(local_path).transpose()?;
                Ok(())
            },
        ),
        switch!(SKIP_TLS_VERIFY, insecure_skip_tls_verify),
    ];

    fn check(azure: &AzureConfig) -> Result<()> {
        Access::of(azure).map(drop)
    }

    fn place(azure: &AzureConfig) -> String {
        azure.place()
    }

    fn check_folder(azure: &AzureConfig, folder: &str) -> Result<()> {
        leaves_room("Azure", &azure.prefix, folder)
    }

    fn address(azure: &AzureConfig) -> Option<String> {
        Access::of(azure).ok().map(|access| access.service)
    }

    async fn open(azure: &AzureConfig, _: Hold) -> Result<Arc<dyn Storage>> {
        Ok(Arc::new(Azure::new(azure).await?))
    }
}

impl From<&AzureConfig> for StorageConfig {
    fn from(azure: &AzureConfig) -> Self {
        kept::<AzureBackend>(azure)
    }
}
