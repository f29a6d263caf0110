//! A container of Azure Blob Storage. PBM knows one kind of credentials for it: the key of the account.

use serde_json::json;

use super::{StorageSection, below, object};
use crate::domain::storage::StorageConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::azure::{ExternalAccess, ExternalCredentials};

const OWNED: &[&str] = &["account", "container", "endpointUrl", "prefix", "credentials.key"];

/// Errors: `Unsupported`, naming them, for credentials that are no key of the account.
pub(super) fn section(storage: &StorageConfig, folder: &str) -> Result<StorageSection> {
    let needed = |key: &str| storage.text(key).ok_or_else(|| Error::invalid(key, "is needed"));
    let settings = json!({
        "account": needed("account")?,
        "container": needed("container")?,
        "prefix": below(storage.text("prefix").unwrap_or_default(), folder),
    });
    let access = ExternalAccess::of(storage)?;
    let key = match access.credentials {
        ExternalCredentials::AccountKey(key) => key,
        ExternalCredentials::SasToken("sas-token-file") => return Err(no_key("the SAS token of --sas-token-file")),
        ExternalCredentials::SasToken(flag) => return Err(no_key(&format!("the SharedAccessSignature of --{flag}"))),
        ExternalCredentials::OfDaemon => {
            return Err(no_key("the daemon's environment or a managed identity, as without --account-key-file"));
        }
    };
    let mut section =
        StorageSection { kind: "azure", settings: object(settings), owned: OWNED, ..StorageSection::default() };
    if let Some(service) = access.service {
        section.settings.insert("endpointUrl".into(), service.into());
    }
    section.secret(&["credentials", "key"], Some(key));
    section.note_certificates(storage);
    Ok(section)
}

fn no_key(what: &str) -> Error {
    let what = format!("PBM reaches Azure with the key of the account only, not with {what}");
    Error::new(ErrorKind::Unsupported, what)
        .hint("choose or add a storage with --account-key-file, or a connection string with AccountKey")
}

#[cfg(test)]
mod tests {
    use super::super::HIDDEN;
    use super::*;
    use crate::domain::secret::Secret;

    fn storage(secret: Option<(&str, &str)>) -> StorageConfig {
        let mut storage = StorageConfig::of("azure", [("account", "acme"), ("container", "c-1"), ("prefix", "p")]);
        storage.secrets = secret.map(|(key, text)| (key.to_owned(), Secret::new(text))).into_iter().collect();
        storage
    }

    #[test]
    fn a_container_is_told_with_the_key_of_its_account() {
        let of = section(&storage(Some(("account_key", "aHVudGVyMg=="))), "prod").unwrap();
        let settings = json!({
            "account": "acme", "container": "c-1", "prefix": "p/prod/pbm", "credentials": {"key": HIDDEN},
        });
        assert_eq!(serde_json::Value::from(of.settings.clone()), settings);
        assert_eq!(of.secrets.values().next().unwrap().expose(), "aHVudGVyMg==");
        assert!(!format!("{of:?}").contains("aHVudGVyMg=="));

        let mut emulator = storage(Some(("account_key", "aHVudGVyMg==")));
        emulator.values.insert("endpoint".into(), "http://127.0.0.1:10000/acme".into());
        emulator.values.insert("insecure_skip_tls_verify".into(), "true".into());
        let of = section(&emulator, "prod").unwrap();
        assert_eq!(of.settings["endpointUrl"], "http://127.0.0.1:10000/acme");
        assert!(of.notes.iter().any(|note| note.contains("every node must trust")), "{:?}", of.notes);

        // What a connection string says besides.
        let line = "DefaultEndpointsProtocol=https;AccountName=acme;AccountKey=aHVudGVyMg==;EndpointSuffix=core.chinacloudapi.cn";
        let of = section(&storage(Some(("connection_string", line))), "prod").unwrap();
        assert_eq!(of.settings["endpointUrl"], "https://acme.blob.core.chinacloudapi.cn");
        assert_eq!(of.secrets.values().next().unwrap().expose(), "aHVudGVyMg==");
    }

    #[test]
    fn other_credentials_are_refused_by_name() {
        for (secret, named) in [
            (Some(("sas_token", "sv=1&sig=hunter2")), "--sas-token-file"),
            (Some(("connection_string", "SharedAccessSignature=sv=1&sig=hunter2")), "--connection-string-file"),
            (None, "managed identity"),
        ] {
            let error = section(&storage(secret), "prod").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            assert!(error.full().contains(named) && !error.full().contains("hunter2"), "{error}");
        }
    }
}
