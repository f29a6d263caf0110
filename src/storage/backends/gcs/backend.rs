//! Google Cloud Storage as a backend: its fields, and what they mean together.

use std::sync::Arc;

use async_trait::async_trait;

use super::config::GcsConfig;
use super::{Gcs, connect};
use crate::domain::field::{Field, FieldKind};

use crate::domain::storage::StorageConfig;
use crate::domain::typed::{Typed, first, plain_text, secret_text, switch};
use crate::error::Result;
use crate::storage::backend::shared::{BUCKET, CA_FILE, ENDPOINT, PREFIX, SKIP_TLS_VERIFY};
use crate::storage::backend::{Backend, Hold, kept, leaves_room};
use crate::storage::{Storage, local_path};

/// Google Cloud Storage.
pub struct GcsBackend;

#[async_trait]
impl Backend for GcsBackend {
    type Config = GcsConfig;

    const WORD: &'static str = "gcs";
    const FIELDS: &'static [Typed<GcsConfig>] = &[
        plain_text!(BUCKET, bucket),
        Typed::new(
            ENDPOINT,
            |gcs| gcs.endpoint.iter().cloned().collect(),
            |gcs, texts| {
                gcs.endpoint = first(texts).map(|endpoint| endpoint.trim_end_matches('/').to_owned());
                Ok(())
            },
        ),
        plain_text!(PREFIX, prefix),
        secret_text!(
            Field::new(
                "credentials",
                "Credentials",
                FieldKind::Secret,
                "JSON key of a service account; empty: the application default credentials of the daemon",
            ),
            credentials
        ),
        switch!(
            Field::new("anonymous", "Anonymous", FieldKind::Bool, "send no credentials; for emulators")
                .default("false")
                .advanced(),
            anonymous
        ),
        Typed::new(
            CA_FILE,
            |gcs| gcs.ca_file.iter().cloned().collect(),
            |gcs, texts| {
                gcs.ca_file = first(texts).map(local_path).transpose()?;
                Ok(())
            },
        ),
        switch!(SKIP_TLS_VERIFY, insecure_skip_tls_verify),
    ];

    fn check(gcs: &GcsConfig) -> Result<()> {
        connect::service(gcs)?;
        connect::check(gcs)
    }

    fn place(gcs: &GcsConfig) -> String {
        gcs.place()
    }

    fn check_folder(gcs: &GcsConfig, folder: &str) -> Result<()> {
        leaves_room("Google Cloud Storage", &gcs.prefix, folder)
    }

    fn address(gcs: &GcsConfig) -> Option<String> {
        connect::service(gcs).ok()
    }

    async fn open(gcs: &GcsConfig, _: Hold) -> Result<Arc<dyn Storage>> {
        Ok(Arc::new(Gcs::new(gcs).await?))
    }
}

impl From<&GcsConfig> for StorageConfig {
    fn from(gcs: &GcsConfig) -> Self {
        kept::<GcsBackend>(gcs)
    }
}
