//! What is configured of a bucket of Google Cloud Storage.

use crate::domain::secret::Secret;
use crate::storage::http::Trust;

/// What is configured of a bucket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GcsConfig {
    pub bucket: String,
    /// Another address than Google's own.
    pub endpoint: Option<String>,
    /// What everything is kept below, without slashes at its ends.
    pub prefix: String,
    /// The JSON of a service account's key. None: the application default credentials.
    pub credentials: Option<Secret>,
    /// Requests carry no credentials, as emulators want it.
    pub anonymous: bool,
    /// PEM file with the authority that signed the endpoint's certificate.
    pub ca_file: Option<String>,
    pub insecure_skip_tls_verify: bool,
}

impl GcsConfig {
    pub(super) fn trust(&self) -> Trust<'_> {
        Trust { ca_file: self.ca_file.as_deref(), anybody: self.insecure_skip_tls_verify }
    }

    pub(super) fn place(&self) -> String {
        match self.prefix.as_str() {
            "" => format!("gs://{}", self.bucket),
            prefix => format!("gs://{}/{prefix}", self.bucket),
        }
    }
}
