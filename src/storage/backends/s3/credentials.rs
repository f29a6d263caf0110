//! Who asks: keys, a profile or the default chain of AWS, and a role that is assumed with one of them.
//!
//! Temporary credentials are fetched anew shortly before they expire, by the SDK, for as long as the storage is open.

use aws_config::SdkConfig;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::sts::AssumeRoleProvider;
use aws_sdk_s3::config::{BehaviorVersion, Builder, Credentials, Region, SharedCredentialsProvider};
use aws_smithy_runtime_api::client::http::SharedHttpClient;

use super::config::S3Config;
use super::connect::{self, DEFAULT_REGION, check_endpoint};
use crate::error::{Error, Result};

/// How a session of an assumed role is called in the logs of AWS, unless a person says otherwise.
const SESSION: &str = "mongokeep";

/// What is configured of the client by whoever has the credentials.
pub(super) struct Access {
    pub(super) builder: Builder,
    /// The credentials come from the environment, not from the configuration.
    pub(super) ambient: bool,
    /// What the environment or the profile of AWS says; `None`: nobody was asked.
    pub(super) loaded: Option<SdkConfig>,
}

/// Reads what the AWS chain reads (files, environment) when no keys are given. Contacts nothing: a role is assumed with the
/// first request.
pub(super) async fn access(config: &S3Config, region: Option<&str>, http: &SharedHttpClient) -> Result<Access> {
    let keys = match (&config.access_key_id, &config.secret_access_key) {
        (Some(id), Some(secret)) => {
            let token = config.session_token.as_ref().map(|t| t.expose().to_owned());
            Some(Credentials::new(id, secret.expose(), token, None, "storage"))
        }
        (None, None) => None,
        (Some(_), None) => return Err(Error::invalid("secret-access-key", "is needed with an access key id")),
        (None, Some(_)) => return Err(Error::invalid("access-key-id", "is needed with a secret access key")),
    };
    let ambient = keys.is_none();
    if let (Some(keys), None) = (&keys, &config.role_arn) {
        let builder = aws_sdk_s3::Config::builder().credentials_provider(keys.clone());
        return Ok(Access { builder, ambient, loaded: None });
    }
    let mut loader = aws_config::defaults(BehaviorVersion::latest());
    if let Some(keys) = keys {
        loader = loader.credentials_provider(keys);
    } else if let Some(profile) = &config.profile {
        // The default chain would look into the environment first.
        let of_profile = ProfileFileCredentialsProvider::builder().profile_name(profile).build();
        loader = loader.profile_name(profile).credentials_provider(of_profile);
    }
    // Otherwise it would ask the network of a cloud for a region.
    if let Some(region) = region {
        loader = loader.region(Region::new(region.to_owned()));
    }
    let loaded = loader.load().await;
    let mut builder = Builder::from(&loaded);
    if let Some(role) = &config.role_arn {
        builder = builder.credentials_provider(assumed(config, role, &loaded, http).await?);
    }
    // That of the profile or the environment is for the storage; one that is configured is set later.
    Ok(Access { builder, ambient, loaded: Some(loaded) })
}

/// The credentials of a role, assumed with those of `base`.
async fn assumed(
    config: &S3Config,
    role: &str,
    base: &SdkConfig,
    http: &SharedHttpClient,
) -> Result<SharedCredentialsProvider> {
    // What is trusted, or not looked at, is so for the storage's own server.
    let is_plain = config.ca_file.is_none() && !config.insecure_skip_tls_verify;
    let http = match is_plain || config.sts_endpoint.is_some() {
        true => http.clone(),
        false => connect::http_client(&S3Config::default()).await?,
    };
    let mut sts = base.clone().into_builder().http_client(http);
    if let Some(endpoint) = &config.sts_endpoint {
        sts = sts.endpoint_url(check_endpoint(endpoint)?);
    }
    if base.region().is_none() {
        sts = sts.region(Region::new(DEFAULT_REGION));
    }
    let session = config.role_session_name.as_deref().unwrap_or(SESSION);
    let mut provider = AssumeRoleProvider::builder(role).session_name(session).configure(&sts.build());
    if let Some(id) = &config.external_id {
        provider = provider.external_id(id);
    }
    Ok(SharedCredentialsProvider::new(provider.build().await))
}
