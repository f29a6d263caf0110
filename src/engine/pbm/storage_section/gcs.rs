//! A bucket of Google Cloud Storage. PBM takes the parts of a service account's key, or leaves it to each agent's workload
//! identity; it gives neither of them back.

use serde_json::json;

use super::{StorageSection, below, object};
use crate::domain::storage::StorageConfig;
use crate::domain::text::{escape, quoted};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::gcs::ServiceAccount;

const OWNED: &[&str] = &["bucket", "prefix", "credentials"];
const UNREAD: &[&str] = &["credentials"];
/// Where PBM's client asks, whatever it is told.
const SERVICE: &str = "https://storage.googleapis.com";

/// Errors: `Unsupported`, naming it, for requests without credentials and a key of another cloud.
pub(super) fn section(storage: &StorageConfig, folder: &str) -> Result<StorageSection> {
    let bucket = storage.text("bucket").ok_or_else(|| Error::invalid("bucket", "is needed"))?;
    let unsupported = |what: String| Error::new(ErrorKind::Unsupported, what);
    if storage.text("anonymous") == Some("true") {
        return Err(unsupported("PBM asks Google with credentials only, and this storage is --anonymous".to_owned())
            .hint("choose or add a storage with --credentials-file"));
    }
    let settings = json!({
        "bucket": bucket,
        "prefix": below(storage.text("prefix").unwrap_or_default(), folder),
    });
    let mut section = StorageSection {
        kind: "gcs",
        settings: object(settings),
        owned: OWNED,
        unread: UNREAD,
        ..StorageSection::default()
    };
    match storage.secrets.get("credentials") {
        Some(json) => {
            let account = ServiceAccount::of_key(json)?;
            if let Some(universe) = account.universe {
                let universe = quoted(&universe);
                return Err(unsupported(format!(
                    "PBM knows Google's own cloud only, and the key is one of {universe}"
                ))
                .hint("choose another storage"));
            }
            section.secret(&["credentials", "clientEmail"], Some(account.client_email));
            section.secret(&["credentials", "privateKey"], Some(account.private_key));
        }
        None => {
            section.settings.insert("credentials".into(), json!({"workloadIdentity": true}));
            let note = "the storage has no key: each pbm-agent needs a workload identity of its own; PBM takes no other \
                        application default credentials";
            section.notes.push(note.to_owned());
        }
    }
    if let Some(endpoint) = storage.text("endpoint").filter(|endpoint| endpoint.trim_end_matches('/') != SERVICE) {
        let note = format!(
            "PBM takes no endpoint for Google: its agents ask storage.googleapis.com, unless STORAGE_EMULATOR_HOST where they \
             are started leads them to {}",
            escape(endpoint)
        );
        section.notes.push(note);
    }
    section.note_certificates(storage);
    Ok(section)
}

#[cfg(test)]
mod tests {
    use super::super::HIDDEN;
    use super::*;
    use crate::domain::secret::Secret;

    const KEY: &str = r#"{"type":"service_account","client_email":"a@b.example","private_key":"hunter2\nhunter3"}"#;

    fn storage(key: Option<&str>) -> StorageConfig {
        let mut storage = StorageConfig::of("gcs", [("bucket", "b"), ("prefix", "p")]);
        storage.secrets = key.map(|key| ("credentials".to_owned(), Secret::new(key))).into_iter().collect();
        storage
    }

    #[test]
    fn a_bucket_is_told_with_the_parts_of_the_key() {
        let of = section(&storage(Some(KEY)), "prod").unwrap();
        let credentials = json!({"clientEmail": HIDDEN, "privateKey": HIDDEN});
        let settings = json!({"bucket": "b", "prefix": "p/prod/pbm", "credentials": credentials});
        assert_eq!(serde_json::Value::from(of.settings.clone()), settings);
        let told: Vec<&str> = of.secrets.values().map(Secret::expose).collect();
        assert_eq!(told, ["a@b.example", "hunter2\nhunter3"]);
        assert!(of.notes.is_empty() && !format!("{of:?}").contains("hunter"), "{of:?}");
    }

    #[test]
    fn what_pbm_cannot_be_told_is_noted_or_refused_by_name() {
        let of = section(&storage(None), "prod").unwrap();
        assert_eq!(of.settings["credentials"], json!({"workloadIdentity": true}));
        assert!(of.notes[0].contains("workload identity"), "{:?}", of.notes);
        let mut other = storage(Some(KEY));
        other.values.insert("endpoint".into(), "https://private.example".into());
        let of = section(&other, "prod").unwrap();
        assert!(of.notes[0].contains("https://private.example"), "{:?}", of.notes);
        other.values.insert("endpoint".into(), SERVICE.into());
        assert_eq!(section(&other, "prod").unwrap().notes, [""; 0]);

        let mut anonymous = storage(None);
        anonymous.values.insert("anonymous".into(), "true".into());
        let elsewhere = KEY.replace("\"type\"", r#""universe_domain":"cloud.example","type""#);
        for (storage, named) in [(anonymous, "--anonymous"), (storage(Some(&elsewhere)), "\"cloud.example\"")] {
            let error = section(&storage, "prod").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            assert!(error.full().contains(named) && !error.full().contains("hunter"), "{error}");
        }
    }
}
