//! Where the service is, and with which credentials it is asked.

use std::sync::Arc;

use object_store::RetryConfig;
use object_store::gcp::{GcpCredentialProvider, GoogleCloudStorageBuilder};

use super::config::GcsConfig;
use crate::domain::text;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::http::{self, Http};
use crate::storage::line;

const SERVICE: &str = "https://storage.googleapis.com";
pub(super) const FIELD: &str = "credentials-file";

/// The types of the files that GOOGLE_APPLICATION_CREDENTIALS may name.
const FOUND_IN_THE_ENVIRONMENT: [&str; 2] = ["service_account", "authorized_user"];
const SUPPORTED: &str = "supported are the key of a service account (service_account) in --credentials-file, that or what gcloud \
                         leaves (authorized_user) in the file that GOOGLE_APPLICATION_CREDENTIALS names where the daemon is \
                         started, and the account of a machine in Google's cloud";

/// The type of the file that GOOGLE_APPLICATION_CREDENTIALS names, quoted, where that is none that can be used.
fn unsupported_type() -> Option<String> {
    let path = std::env::var_os("GOOGLE_APPLICATION_CREDENTIALS")?;
    let parsed: serde_json::Value = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    let kind = parsed["type"].as_str()?;
    (!FOUND_IN_THE_ENVIRONMENT.contains(&kind)).then(|| text::quoted(kind))
}

/// The address of the service, without a slash at its end.
pub(super) fn service(config: &GcsConfig) -> Result<String> {
    config.endpoint.as_deref().map_or_else(|| Ok(SERVICE.to_owned()), http::endpoint)
}

/// Whether the field holds what can be used. Errors: `Invalid`, which shows nothing of it.
pub(super) fn check(config: &GcsConfig) -> Result<()> {
    let Some(credentials) = &config.credentials else { return Ok(()) };
    if config.anonymous {
        return Err(Error::invalid("anonymous", format!("is given besides --{FIELD}")));
    }
    let parsed: Option<serde_json::Value> = serde_json::from_str(credentials.expose()).ok();
    let Some(parsed) = parsed else { return Err(Error::invalid(FIELD, "holds no JSON")) };
    match parsed["type"].as_str() {
        Some("service_account") => Ok(()),
        Some(kind) if !FOUND_IN_THE_ENVIRONMENT.contains(&kind) => {
            let what = format!("holds credentials of type {}, which are not supported", text::quoted(kind));
            Err(Error::invalid(FIELD, what).hint(SUPPORTED))
        }
        _ => Err(Error::invalid(FIELD, "is not the key of a service account")
            .hint("credentials of another type are read from the file that GOOGLE_APPLICATION_CREDENTIALS names where the daemon is started")),
    }
}

/// Contacts nothing. Errors: `Invalid` for a key that is none; what the environment names and cannot be read.
pub(super) fn credentials(config: &GcsConfig, http: &Http) -> Result<Option<GcpCredentialProvider>> {
    check(config)?;
    if config.anonymous {
        return Ok(None);
    }
    let retry = RetryConfig { max_retries: 0, ..RetryConfig::default() };
    let builder = match &config.credentials {
        Some(credentials) => GoogleCloudStorageBuilder::new().with_service_account_key(credentials.expose()),
        None => {
            let mut builder = GoogleCloudStorageBuilder::new();
            if let Ok(path) = std::env::var("GOOGLE_APPLICATION_CREDENTIALS") {
                builder = builder.with_application_credentials(path);
            }
            builder
        }
    };
    let built =
        builder.with_bucket_name(&config.bucket).with_retry(retry).with_http_connector(http.connector()).build();
    match built {
        Ok(store) => Ok(Some(Arc::clone(store.credentials()))),
        Err(_)
            if config.credentials.is_none()
                && let Some(kind) = unsupported_type() =>
        {
            let why =
                format!("GOOGLE_APPLICATION_CREDENTIALS names credentials of type {kind}, which are not supported");
            Err(Error::new(ErrorKind::Unauthenticated, why).hint(SUPPORTED))
        }
        Err(e) if config.credentials.is_none() => {
            let why = format!("the credentials in the environment cannot be used: {}", line::root_cause(&e));
            Err(Error::new(ErrorKind::Unauthenticated, why)
                .hint("correct GOOGLE_APPLICATION_CREDENTIALS where the daemon is started, or give the storage --credentials-file"))
        }
        // What is wrong with it is not told: it could show the secret.
        Err(_) => Err(Error::invalid(FIELD, "holds a key that cannot be read")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::secret::Secret;

    #[test]
    fn what_is_no_key_is_named_and_not_shown() {
        for (text, why) in [
            ("hunter2", "holds no JSON"),
            (r#"{"type":"authorized_user","refresh_token":"hunter2"}"#, "is not the key of a service account"),
            (
                r#"{"type":"external_account","audience":"hunter2"}"#,
                "of type \"external_account\", which are not supported",
            ),
            ("[\"hunter2\"]", "is not the key of a service account"),
        ] {
            let config = GcsConfig { credentials: Some(Secret::new(text)), ..GcsConfig::default() };
            let error = check(&config).unwrap_err();
            assert_eq!(error.field(), Some("credentials_file"));
            assert!(error.full().contains(why) && !error.full().contains("hunter2"), "{error}");
        }
        let both = GcsConfig { credentials: Some(Secret::new("{}")), anonymous: true, ..GcsConfig::default() };
        assert_eq!(check(&both).unwrap_err().field(), Some("anonymous"));
    }
}
