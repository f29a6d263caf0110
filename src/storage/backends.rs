//! The list of storage backends, and what is asked of them by the word of their type.
//!
//! A backend is one file below, and its lines here: that of its module, that in `BACKENDS` and its word in `TYPES`. A word
//! that no backend has is an error, never another backend.

pub mod azure;
pub mod filesystem;
pub mod gcs;
pub mod s3;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use super::Storage;
use super::backend::{Backend, Hold, kept, parse};
use crate::domain::field::{Field, FieldKind};
use crate::domain::fields::{self, rules};
use crate::domain::storage::StorageConfig;
use crate::domain::text::quoted;
use crate::domain::typed::{self, Values};
use crate::error::{self, Error, Result};
use filesystem::mark::Mark;
use filesystem::read_mark;

/// Every backend there is: one line for each.
static BACKENDS: &[&dyn AnyBackend] =
    &[&filesystem::FilesystemBackend, &s3::S3Backend, &azure::AzureBackend, &gcs::GcsBackend];

/// The words of the list above, in its order. A test holds the two together.
const TYPES: &[&str] = &["filesystem", "s3", "azure", "gcs"];

/// Name and type of a storage location; the rest depends on the type, see [`fields_of`].
pub const STORAGE_FIELDS: &[Field] = &[
    Field::new("name", "Name", FieldKind::Text, "how this location is called here").required().check(rules::name_rule),
    Field::new("type", "Type", FieldKind::Choice(TYPES), "what kind of storage it is").required().default("filesystem"),
];

/// A [`Backend`] without its type, as the list holds it.
#[async_trait]
trait AnyBackend: Send + Sync {
    fn word(&self) -> &'static str;
    fn fields(&self) -> Vec<Field>;
    fn changed(&self, config: &StorageConfig, values: &Values) -> Result<StorageConfig>;
    fn place(&self, config: &StorageConfig) -> Result<String>;
    fn check_folder(&self, config: &StorageConfig, folder: &str) -> Result<()>;
    fn local_folder(&self, config: &StorageConfig) -> Result<Option<PathBuf>>;
    fn address(&self, config: &StorageConfig) -> Result<Option<String>>;
    async fn open(&self, config: &StorageConfig, hold: Hold) -> Result<Arc<dyn Storage>>;
    fn alternatives(&self, config: &StorageConfig) -> Result<Option<(&'static str, &'static [&'static str])>>;
}

#[async_trait]
impl<B: Backend> AnyBackend for B {
    fn word(&self) -> &'static str {
        B::WORD
    }

    fn fields(&self) -> Vec<Field> {
        B::FIELDS.iter().map(|typed| typed.field).collect()
    }

    fn changed(&self, config: &StorageConfig, values: &Values) -> Result<StorageConfig> {
        let mut present = parse::<B>(config)?;
        typed::apply(B::FIELDS, &mut present, values)?;
        B::check(&present)?;
        Ok(kept::<B>(&present))
    }

    fn place(&self, config: &StorageConfig) -> Result<String> {
        Ok(B::place(&parse::<B>(config)?))
    }

    fn check_folder(&self, config: &StorageConfig, folder: &str) -> Result<()> {
        B::check_folder(&parse::<B>(config)?, folder)
    }

    fn local_folder(&self, config: &StorageConfig) -> Result<Option<PathBuf>> {
        Ok(B::local_folder(&parse::<B>(config)?))
    }

    fn address(&self, config: &StorageConfig) -> Result<Option<String>> {
        Ok(B::address(&parse::<B>(config)?))
    }

    async fn open(&self, config: &StorageConfig, hold: Hold) -> Result<Arc<dyn Storage>> {
        B::open(&parse::<B>(config)?, hold).await
    }

    fn alternatives(&self, config: &StorageConfig) -> Result<Option<(&'static str, &'static [&'static str])>> {
        Ok(B::alternatives(&parse::<B>(config)?))
    }
}

fn backend(kind: &str) -> Result<&'static dyn AnyBackend> {
    let known = BACKENDS.iter().find(|backend| backend.word() == kind);
    known.copied().ok_or_else(|| Error::invalid("type", format!("{} is not known", quoted(kind))))
}

/// The fields that a storage of type `kind` has besides [`STORAGE_FIELDS`]; none for one that is not known.
pub fn fields_of(kind: &str) -> Vec<Field> {
    backend(kind).map(|backend| backend.fields()).unwrap_or_default()
}

/// The words of the types.
pub fn types() -> impl Iterator<Item = &'static str> {
    BACKENDS.iter().map(|backend| backend.word())
}

/// The configuration of a new storage of type `kind`. Contacts nothing.
///
/// Errors: `Invalid`, naming the field.
pub fn new_config(kind: &str, values: &Values) -> Result<StorageConfig> {
    fields::check(&[STORAGE_FIELDS, &fields_of(kind)], values, false)?;
    backend(kind)?.changed(&StorageConfig { kind: kind.to_owned(), ..StorageConfig::default() }, values)
}

/// `config` with the fields that `values` has; those that are empty are removed. Contacts nothing.
///
/// Errors: as [`new_config`].
pub fn changed_config(config: &StorageConfig, values: &Values) -> Result<StorageConfig> {
    let backend = backend(&config.kind)?;
    fields::check(&[STORAGE_FIELDS, &backend.fields()], values, true)?;
    let changed = backend.changed(config, values)?;
    Ok(StorageConfig { encryption: config.encryption.clone(), ..changed })
}

/// Where a storage is, without secrets. One that cannot be read shows its type.
pub fn place(config: &StorageConfig) -> String {
    backend(&config.kind).and_then(|backend| backend.place(config)).unwrap_or_else(|_| format!("{}://", config.kind))
}

/// Errors: `Invalid` when objects of a backup in `folder` could have longer keys than the storage takes.
pub fn check_folder(config: &StorageConfig, folder: &str) -> Result<()> {
    backend(&config.kind)?.check_folder(config, folder)
}

/// The folder of this machine that the storage is, if it is one.
pub fn local_folder(config: &StorageConfig) -> Result<Option<PathBuf>> {
    backend(&config.kind)?.local_folder(config)
}

/// What the folder that the storage is says of itself; `None`: the storage is no folder, or the folder is not there.
///
/// Errors: what the disk says.
pub fn mark(config: &StorageConfig) -> Result<Option<Mark>> {
    let Some(path) = local_folder(config)? else { return Ok(None) };
    match read_mark(&path) {
        Ok(mark) => Ok(Some(mark)),
        // Whoever opens it says so.
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(error::io(format!("opening the storage folder {}", path.display()), e)),
    }
}

/// The URL of the server that the storage is reached at, where that is known.
pub fn address(config: &StorageConfig) -> Result<Option<String>> {
    backend(&config.kind)?.address(config)
}

/// Configurations that differ from `config` in one field, with one of which a server may take what it refused: the key of
/// the field, its present word, and each other word with its configuration.
pub fn alternatives(config: &StorageConfig) -> Result<Vec<Alternative>> {
    let backend = backend(&config.kind)?;
    let Some((key, words)) = backend.alternatives(config)? else { return Ok(Vec::new()) };
    let present = config.text(key).unwrap_or_default().to_owned();
    let others = words.iter().filter(|word| **word != present).map(|word| {
        let config = backend.changed(config, &Values::from([(key.to_owned(), vec![(*word).to_owned()])]))?;
        Ok(Alternative { key, present: present.clone(), word, config })
    });
    others.collect()
}

/// See [`alternatives`].
pub struct Alternative {
    pub key: &'static str,
    pub present: String,
    pub word: &'static str,
    pub config: StorageConfig,
}

pub(super) async fn open(config: &StorageConfig, hold: Hold) -> Result<Arc<dyn Storage>> {
    backend(&config.kind)?.open(config, hold).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn values(pairs: &[(&str, &str)]) -> Values {
        pairs.iter().map(|(key, text)| ((*key).to_owned(), vec![(*text).to_owned()])).collect()
    }

    #[test]
    fn the_types_are_those_that_are_listed() {
        let listed: Vec<&str> = types().collect();
        assert_eq!(listed, TYPES);
        for kind in types() {
            let fields = fields_of(kind);
            assert!(fields.iter().all(|f| !["name", "type"].contains(&f.key)), "{kind}");
            for (n, field) in fields.iter().enumerate() {
                assert!(fields[..n].iter().all(|other| other.key != field.key), "{kind}: {}", field.key);
                if !field.default.is_empty() {
                    assert_eq!(field.validate(field.default), Ok(()), "{kind}: {}", field.key);
                }
            }
        }
    }

    #[test]
    fn an_unknown_type_is_named_and_never_another_one() {
        let unknown = StorageConfig::of("tape", []);
        for result in [check_folder(&unknown, "a"), changed_config(&unknown, &Values::new()).map(drop)] {
            assert_eq!(result.unwrap_err().full(), "type: \"tape\" is not known");
        }
        assert_eq!(place(&unknown), "tape://");
    }

    /// One of several ways to say who asks, and never two of them.
    #[test]
    fn a_cloud_is_given_one_kind_of_credentials() {
        let azure = [("name", "a"), ("account", "acme"), ("container", "c-1"), ("sas_token", "sv=1&sig=hunter2")];
        let config = new_config("azure", &values(&azure)).unwrap();
        assert_eq!((config.secrets.len(), place(&config)), (1, "azure://acme/c-1".to_owned()));
        let error = changed_config(&config, &values(&[("account_key", "aHVudGVyMg==")])).unwrap_err();
        assert_eq!(error.field(), Some("sas_token_file"), "{error}");
        let changed = changed_config(&config, &values(&[("account_key", "aHVudGVyMg=="), ("sas_token", "")])).unwrap();
        assert!(changed.secrets.keys().eq(["account_key"]) && !format!("{changed:?}").contains("hunter2"));
        let gcs = values(&[("name", "a"), ("bucket", "b-1"), ("prefix", "p"), ("credentials", "{\"type\":\"x\"}")]);
        assert_eq!(new_config("gcs", &gcs).unwrap_err().field(), Some("credentials_file"));
        for (kind, key, text) in
            [("azure", "container", "Upper"), ("azure", "account", "a-b"), ("gcs", "bucket", "a/b")]
        {
            let others = if kind == "azure" { &azure[..3] } else { &[("name", "a")] };
            let mut given = values(others);
            given.insert(key.into(), vec![text.into()]);
            assert_eq!(new_config(kind, &given).unwrap_err().field(), Some(key));
        }
    }

    #[test]
    fn an_edit_keeps_what_is_absent_and_removes_what_is_empty() {
        let given = [("name", "a"), ("bucket", "bucket"), ("prefix", "p"), ("access_key_id", "k")];
        let mut given = values(&given);
        given.insert("secret_access_key".into(), vec!["hunter2".into()]);
        let config = new_config("s3", &given).unwrap();
        assert_eq!(config.secrets["secret_access_key"].expose(), "hunter2");
        assert!(!format!("{config:?}").contains("hunter2"));
        assert_eq!(place(&config), "s3://bucket/p");
        let edited = changed_config(&config, &values(&[("prefix", ""), ("region", "eu-west-1")])).unwrap();
        assert_eq!((edited.text("prefix"), edited.text("region")), (None, Some("eu-west-1")));
        assert_eq!(edited.secrets, config.secrets);
        for (key, field) in [("bucket", "bucket"), ("access_key_id", "access_key_id")] {
            let error = changed_config(&config, &values(&[(key, "")])).unwrap_err();
            assert_eq!((error.kind(), error.field()), (ErrorKind::Invalid, Some(field)));
        }
    }
}
