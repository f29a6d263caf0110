//! What is configured of a container of Azure Blob Storage.

use crate::domain::secret::Secret;
use crate::storage::http::Trust;

/// What is configured of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AzureConfig {
    pub account: String,
    pub container: String,
    /// The address of the blob service, with the account in its path where it is not in the host; none for Azure's own.
    pub endpoint: Option<String>,
    /// What everything is kept below, without slashes at its ends.
    pub prefix: String,
    /// At most one of these three. None: the daemon's environment, then the managed identity of the machine.
    pub account_key: Option<Secret>,
    pub sas_token: Option<Secret>,
    pub connection_string: Option<Secret>,
    /// PEM file with the authority that signed the endpoint's certificate.
    pub ca_file: Option<String>,
    pub insecure_skip_tls_verify: bool,
}

impl AzureConfig {
    pub(super) fn trust(&self) -> Trust<'_> {
        Trust { ca_file: self.ca_file.as_deref(), anybody: self.insecure_skip_tls_verify }
    }

    pub(super) fn place(&self) -> String {
        match self.prefix.as_str() {
            "" => format!("azure://{}/{}", self.account, self.container),
            prefix => format!("azure://{}/{}/{prefix}", self.account, self.container),
        }
    }
}
