//! What another program has to know to reach the same container.

use super::AzureBackend;
use super::config::AzureConfig;
use super::connect::Access;
use crate::domain::secret::Secret;
use crate::domain::storage::StorageConfig;
use crate::error::Result;
use crate::storage::backend::parse;

/// Where the blob service of a storage is, and with which credentials it is asked.
#[derive(Debug, Clone)]
pub struct ExternalAccess {
    /// The address of the service, without a slash at its end; `None`: Azure's own for the account.
    pub service: Option<String>,
    pub credentials: ExternalCredentials,
}

/// The credentials of a storage, by their kind.
#[derive(Debug, Clone)]
pub enum ExternalCredentials {
    AccountKey(Secret),
    /// A token, with the flag that it was given by.
    SasToken(&'static str),
    /// Those of the daemon's environment, or the identity of its machine.
    OfDaemon,
}

impl ExternalAccess {
    /// That of a storage of type `azure`. Contacts nothing, and reads no file.
    ///
    /// Errors: `Invalid`, naming the field.
    pub fn of(storage: &StorageConfig) -> Result<Self> {
        let config: AzureConfig = parse::<AzureBackend>(storage)?;
        let access = Access::of(&config)?;
        let own = format!("https://{}.blob.core.windows.net", config.account);
        let credentials = match (access.key, access.sas) {
            (Some(key), _) => ExternalCredentials::AccountKey(key),
            (None, Some(_)) => ExternalCredentials::SasToken(access.given.unwrap_or("sas-token-file")),
            (None, None) => ExternalCredentials::OfDaemon,
        };
        Ok(Self { service: (access.service != own).then_some(access.service), credentials })
    }
}
