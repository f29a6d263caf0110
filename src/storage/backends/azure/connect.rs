//! Where the blob service of an account is, and with which credentials it is asked.

use object_store::RetryConfig;
use object_store::azure::{
    AzureAccessKey, AzureConfigKey, AzureCredential, AzureCredentialProvider, MicrosoftAzureBuilder, split_sas,
};
use object_store::client::StaticCredentialProvider;

use super::config::AzureConfig;
use crate::domain::secret::Secret;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::http::{self, Http};
use crate::storage::line;

/// What fields and connection string say together.
pub(super) struct Access {
    /// The address of the blob service, without a slash at its end.
    pub(super) service: String,
    pub(super) key: Option<Secret>,
    pub(super) sas: Option<Secret>,
    /// The flag that the credentials were given with; none: the environment has them.
    pub(super) given: Option<&'static str>,
}

impl Access {
    /// Errors: `Invalid`, naming the field.
    pub(super) fn of(config: &AzureConfig) -> Result<Self> {
        let given = [
            ("account-key-file", config.account_key.is_some()),
            ("sas-token-file", config.sas_token.is_some()),
            ("connection-string-file", config.connection_string.is_some()),
        ];
        let mut given = given.into_iter().filter(|(_, is_given)| *is_given).map(|(flag, _)| flag);
        let (first, second) = (given.next(), given.next());
        if let (Some(first), Some(second)) = (first, second) {
            return Err(Error::invalid(second, format!("is given besides --{first}; one of them is enough")));
        }
        let mut access = Self {
            service: format!("https://{}.blob.core.windows.net", config.account),
            key: config.account_key.clone(),
            sas: config.sas_token.clone(),
            given: first,
        };
        if let Some(text) = &config.connection_string {
            access.take(text.expose(), &config.account)?;
        }
        if let Some(endpoint) = &config.endpoint {
            access.service = http::endpoint(endpoint)?;
        }
        Ok(access)
    }

    /// Reads `Name=value;...` as the portal shows it.
    fn take(&mut self, text: &str, account: &str) -> Result<()> {
        let field = "connection-string-file";
        let (mut protocol, mut suffix) = ("https", "core.windows.net");
        let mut service = None;
        for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            let Some((name, value)) = part.split_once('=') else {
                return Err(Error::invalid(field, "holds something that is not NAME=VALUE"));
            };
            match name.to_ascii_lowercase().as_str() {
                "accountname" if value != account => {
                    return Err(Error::invalid(field, format!("is of another account than {account}")));
                }
                "accountkey" => self.key = Some(Secret::new(value)),
                "sharedaccesssignature" => self.sas = Some(Secret::new(value)),
                "defaultendpointsprotocol" => protocol = value,
                "endpointsuffix" => suffix = value,
                "blobendpoint" => {
                    service =
                        Some(http::endpoint(value).map_err(|_| Error::invalid(field, "BlobEndpoint is no address"))?)
                }
                "usedevelopmentstorage" => {
                    return Err(Error::invalid(field, "UseDevelopmentStorage names no account; write it out"));
                }
                // The account, and the addresses of its other services.
                _ => {}
            }
        }
        if self.key.is_none() && self.sas.is_none() {
            return Err(Error::invalid(field, "holds neither AccountKey nor SharedAccessSignature"));
        }
        self.service = match service {
            Some(service) => service,
            None => http::endpoint(&format!("{protocol}://{account}.blob.{suffix}"))
                .map_err(|_| Error::invalid(field, "names no address"))?,
        };
        Ok(())
    }

    /// Contacts nothing. Errors: `Invalid` for a key or token that is none; what the environment names and is not there.
    pub(super) fn credentials(&self, config: &AzureConfig, http: &Http) -> Result<AzureCredentialProvider> {
        let fixed =
            |credential| -> AzureCredentialProvider { std::sync::Arc::new(StaticCredentialProvider::new(credential)) };
        // What is wrong with it is not told: it could show the secret.
        let field = self.given.unwrap_or("account-key-file");
        if let Some(key) = &self.key {
            let key = AzureAccessKey::try_new(key.expose());
            let key = key.map_err(|_| Error::invalid(field, "holds no account key, which is base64"))?;
            return Ok(fixed(AzureCredential::AccessKey(key)));
        }
        if let Some(sas) = &self.sas {
            let pairs = split_sas(sas.expose()).ok().filter(|pairs| pairs.iter().any(|(name, _)| name == "sig"));
            let pairs = pairs.ok_or_else(|| Error::invalid(field, "holds no SAS token, which has sv=...&sig=..."))?;
            return Ok(fixed(AzureCredential::SASToken(pairs)));
        }
        let retry = RetryConfig { max_retries: 0, ..RetryConfig::default() };
        let mut builder = MicrosoftAzureBuilder::new();
        for (name, value) in std::env::vars() {
            // What is no credential is said by the fields of the storage.
            if let Some(key) = name.starts_with("AZURE_").then(|| credential_key(&name)).flatten() {
                builder = builder.with_config(key, value);
            }
        }
        if let Ok(endpoint) = std::env::var("IDENTITY_ENDPOINT") {
            builder = builder.with_msi_endpoint(endpoint);
        }
        let store = builder
            .with_account(&config.account)
            .with_container_name(&config.container)
            .with_retry(retry)
            .with_http_connector(http.connector())
            .build()
            .map_err(|e| {
                let why = format!("the credentials in the environment cannot be used: {}", line::root_cause(&e));
                Error::new(ErrorKind::Unauthenticated, why)
                    .hint("correct the variables AZURE_... where the daemon is started, or give the storage a key")
            })?;
        Ok(std::sync::Arc::clone(store.credentials()))
    }
}

/// What a variable of the environment says about credentials, if it is about them.
fn credential_key(name: &str) -> Option<AzureConfigKey> {
    let key: AzureConfigKey = name.to_ascii_lowercase().parse().ok()?;
    let is_credential = matches!(
        key,
        AzureConfigKey::AccessKey
            | AzureConfigKey::SasKey
            | AzureConfigKey::Token
            | AzureConfigKey::ClientId
            | AzureConfigKey::ClientSecret
            | AzureConfigKey::AuthorityId
            | AzureConfigKey::AuthorityHost
            | AzureConfigKey::MsiEndpoint
            | AzureConfigKey::ObjectId
            | AzureConfigKey::MsiResourceId
            | AzureConfigKey::FederatedTokenFile
            | AzureConfigKey::UseAzureCli
    );
    is_credential.then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(connection_string: &str) -> AzureConfig {
        AzureConfig {
            account: "acme".into(),
            container: "backups".into(),
            connection_string: Some(Secret::new(connection_string)),
            ..AzureConfig::default()
        }
    }

    #[test]
    fn a_connection_string_says_where_and_with_what() {
        let access = Access::of(&config("DefaultEndpointsProtocol=https;AccountName=acme;AccountKey=aHVudGVyMg==;EndpointSuffix=core.chinacloudapi.cn")).unwrap();
        assert_eq!(access.service, "https://acme.blob.core.chinacloudapi.cn");
        assert_eq!(access.key.unwrap().expose(), "aHVudGVyMg==");
        let access = Access::of(&config("BlobEndpoint=http://h:1/acme/;SharedAccessSignature=sv=2&sig=x%2Fy")).unwrap();
        assert_eq!((access.service.as_str(), access.sas.unwrap().expose()), ("http://h:1/acme", "sv=2&sig=x%2Fy"));
        let named =
            AzureConfig { endpoint: Some("https://private.example:9/".into()), ..config("AccountKey=aHVudGVyMg==") };
        assert_eq!(Access::of(&named).unwrap().service, "https://private.example:9");
    }

    #[test]
    fn what_cannot_be_meant_is_named_and_not_shown() {
        for bad in [
            "AccountName=other;AccountKey=hunter2",
            "hunter2",
            "AccountName=acme",
            "UseDevelopmentStorage=true",
            "BlobEndpoint=hunter2;AccountKey=a",
        ] {
            let error = Access::of(&config(bad)).err().unwrap();
            assert_eq!(error.field(), Some("connection_string_file"), "{error}");
            assert!(!error.full().contains("hunter2"), "{error}");
        }
        let two = AzureConfig { sas_token: Some(Secret::new("hunter2")), ..config("AccountKey=aHVudGVyMg==") };
        let error = Access::of(&two).err().unwrap();
        assert!(error.full().contains("--sas-token-file"), "{error}");
    }
}
