//! What a storage backend is: its word, its fields, what they mean together, and how it is opened.
//!
//! The list of them is in [`super::backends`].

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use super::Storage;
use crate::domain::field::FieldKind;
use crate::domain::secret::Secret;
use crate::domain::storage::{LONGEST_BELOW_FOLDER, StorageConfig};
use crate::domain::typed::Typed;
use crate::error::{Error, Result};

/// A kind of storage with a configuration of its own type.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    type Config: Default + Send + Sync + 'static;

    /// The word of `--type`.
    const WORD: &'static str;
    /// Which of them are secret is said by their kind. Their defaults are those of `Config`.
    const FIELDS: &'static [Typed<Self::Config>];

    /// What the fields must be together. Errors: `Invalid`, naming the field.
    fn check(_: &Self::Config) -> Result<()> {
        Ok(())
    }

    /// Where it is, without secrets: a path, or `s3://bucket/prefix`.
    fn place(config: &Self::Config) -> String;

    /// Errors: `Invalid` when objects of a backup in `folder` could have longer keys than the storage takes.
    fn check_folder(_: &Self::Config, _folder: &str) -> Result<()> {
        Ok(())
    }

    /// The folder of this machine that it is, if it is one.
    fn local_folder(_: &Self::Config) -> Option<PathBuf> {
        None
    }

    /// The URL of the server that it is reached at; `None`: it is on this machine, or only its library knows.
    fn address(_: &Self::Config) -> Option<String> {
        None
    }

    /// Opens it. Contacts nothing: what cannot be reached fails at the first call. With [`Hold::Nothing`] nothing is kept
    /// open between two calls, where that can be chosen.
    async fn open(config: &Self::Config, hold: Hold) -> Result<Arc<dyn Storage>>;

    /// The key of a field, and other words for it, with one of which a server may take what it refused.
    fn alternatives(_: &Self::Config) -> Option<(&'static str, &'static [&'static str])> {
        None
    }
}

/// Fields that several backends have: one flag of the command line each, and one text.
pub(super) mod shared {
    use crate::domain::field::{Field, FieldKind};
    use crate::domain::fields::rules::{bucket_rule, endpoint_rule, path_rule, prefix_rule};

    pub(in crate::storage) const BUCKET: Field =
        Field::new("bucket", "Bucket", FieldKind::Text, "an existing bucket").required().check(bucket_rule);
    pub(in crate::storage) const ENDPOINT: Field = Field::new(
        "endpoint",
        "Endpoint",
        FieldKind::Text,
        "https://host:port of a compatible service; empty: AWS, Azure or Google",
    )
    .check(endpoint_rule);
    pub(in crate::storage) const PREFIX: Field = Field::new(
        "prefix",
        "Prefix",
        FieldKind::Text,
        "everything is kept below this part of the bucket or container",
    )
    .check(prefix_rule);
    pub(in crate::storage) const CA_FILE: Field = Field::new(
        "ca_file",
        "CA file",
        FieldKind::Path,
        "PEM file of the authority that signed the endpoint's certificate",
    )
    .advanced()
    .check(path_rule);
    pub(in crate::storage) const SKIP_TLS_VERIFY: Field = Field::new(
        "insecure_skip_tls_verify",
        "Skip TLS verification",
        FieldKind::Bool,
        "accept any certificate: anybody in between can read and change the backups",
    )
    .default("false")
    .advanced();
}

/// The longest key that object stores take, in bytes (S3, Google) or characters (Azure).
pub(super) const KEY_LIMIT: usize = 1024;

/// Errors: `Invalid` when prefix and folder leave too little of a key of `whose` for the objects of a backup.
pub(super) fn leaves_room(whose: &str, prefix: &str, folder: &str) -> Result<()> {
    let most = KEY_LIMIT - LONGEST_BELOW_FOLDER - 2;
    let long = prefix.len() + folder.len();
    if long <= most {
        return Ok(());
    }
    let why = format!("prefix and folder have {long} bytes, and {whose} leaves them {most} of a key");
    Err(Error::invalid("folder", why).hint("choose a shorter folder, or a storage with a shorter prefix"))
}

/// What may be kept open between calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    Open,
    /// For what goes on for ever: a disk may be unmounted, and each call goes to what is there then.
    Nothing,
}

/// Errors: `Invalid` for a text that its field does not take; of an earlier version, or of a store that was edited.
pub(super) fn parse<B: Backend>(config: &StorageConfig) -> Result<B::Config> {
    let mut parsed = B::Config::default();
    for Typed { field, set, .. } in B::FIELDS {
        let public = config.text(field.key);
        let text = public.or_else(|| config.secrets.get(field.key).map(Secret::expose));
        if let Some(text) = text {
            set(&mut parsed, &[text.to_owned()]).map_err(|why| Error::invalid(&field.name(), why))?;
        }
    }
    Ok(parsed)
}

/// A configuration as it is kept, with the secret fields apart.
pub fn kept<B: Backend>(config: &B::Config) -> StorageConfig {
    let mut kept = StorageConfig { kind: B::WORD.to_owned(), ..StorageConfig::default() };
    for Typed { field, get, .. } in B::FIELDS {
        let Some(text) = get(config).into_iter().next() else { continue };
        match field.kind {
            FieldKind::Secret => drop(kept.secrets.insert(field.key.to_owned(), Secret::new(text))),
            _ => drop(kept.values.insert(field.key.to_owned(), text)),
        }
    }
    kept
}
