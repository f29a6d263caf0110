//! The key of a service account, for programs that take its parts.

use serde::Deserialize;

use super::connect::FIELD;
use crate::domain::secret::Secret;
use crate::error::{Error, Result};

/// Google's own cloud, as keys name it.
const OWN_UNIVERSE: &str = "googleapis.com";

/// Who asks, of the JSON that Google hands out.
#[derive(Debug, Clone)]
pub struct ServiceAccount {
    pub client_email: Secret,
    /// PEM.
    pub private_key: Secret,
    /// The domain of another cloud than Google's own.
    pub universe: Option<String>,
}

#[derive(Deserialize)]
struct Parts {
    #[serde(default)]
    client_email: String,
    #[serde(default)]
    private_key: String,
    #[serde(default)]
    universe_domain: Option<String>,
}

impl ServiceAccount {
    /// Reads the field `credentials` of a storage of type `gcs`.
    ///
    /// Errors: `Invalid`, which shows nothing of it.
    pub fn of_key(json: &Secret) -> Result<Self> {
        // What is wrong with it is not told: it could show the secret.
        let parts: Parts = serde_json::from_str(json.expose()).map_err(|_| Error::invalid(FIELD, "holds no JSON"))?;
        let account = Self {
            client_email: Secret::new(parts.client_email),
            private_key: Secret::new(parts.private_key),
            universe: parts.universe_domain.filter(|domain| domain != OWN_UNIVERSE),
        };
        if account.client_email.expose().is_empty() || account.private_key.expose().is_empty() {
            return Err(Error::invalid(
                FIELD,
                "holds no key of a service account: client_email or private_key is missing",
            ));
        }
        Ok(account)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_key_are_read_and_what_is_none_is_not_shown() {
        let of = |json: &str| ServiceAccount::of_key(&Secret::new(json));
        let json = r#"{"client_email":"a@b","private_key":"-----BEGIN\nhunter2","universe_domain":"googleapis.com"}"#;
        let account = of(json).unwrap();
        assert_eq!((account.client_email.expose(), account.private_key.expose()), ("a@b", "-----BEGIN\nhunter2"));
        assert!(account.universe.is_none() && !format!("{account:?}").contains("hunter2"));
        let other = of(&json.replace("googleapis.com", "cloud.example")).unwrap();
        assert_eq!(other.universe.as_deref(), Some("cloud.example"));
        for bad in [r#"{"private_key":"hunter2"}"#, r#"{"client_email":"a@b"}"#, "hunter2"] {
            let error = of(bad).unwrap_err();
            assert!(error.field() == Some("credentials_file") && !error.full().contains("hunter2"), "{error}");
        }
    }
}
