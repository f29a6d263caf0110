//! What is configured of an S3 storage.

use crate::domain::secret::Secret;
use crate::domain::words::words;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct S3Config {
    pub bucket: String,
    pub region: Option<String>,
    /// `https://host:port` of an S3-compatible server; none for AWS.
    pub endpoint: Option<String>,
    /// Key prefix below which everything is kept, without slashes at its ends.
    pub prefix: String,
    pub path_style: bool,
    /// None: the daemon's environment and the default AWS chain.
    pub access_key_id: Option<String>,
    pub secret_access_key: Option<Secret>,
    pub session_token: Option<Secret>,
    /// PEM file with the authority that signed the endpoint's certificate.
    pub ca_file: Option<String>,
    pub insecure_skip_tls_verify: bool,
    pub checksums: Checksums,
    /// A profile of the AWS configuration files, whose credentials and region are used. Not together with keys.
    pub profile: Option<String>,
    /// None: as the bucket says.
    pub storage_class: Option<String>,
    pub sse: ServerSide,
    /// Of the key of KMS; none: that of the account for S3.
    pub sse_kms_key_id: Option<String>,
    /// The key that the server encrypts with and does not keep (SSE-C): 32 bytes in base64.
    pub sse_c_key: Option<Secret>,
    /// The role that is assumed with the credentials.
    pub role_arn: Option<String>,
    /// The external id that the trust policy of the role asks for.
    pub external_id: Option<String>,
    /// None: `mongokeep`.
    pub role_session_name: Option<String>,
    /// Where roles are assumed; none: at AWS.
    pub sts_endpoint: Option<String>,
}

words! {
    /// How the server is asked to encrypt what it stores. It reads it for everybody who may read the bucket.
    #[derive(Default)]
    pub enum ServerSide {
        /// As the bucket says.
        #[default]
        Bucket => "bucket",
        /// With keys of S3 (SSE-S3).
        Aes256 => "AES256",
        /// With a key of KMS (SSE-KMS).
        Kms => "aws:kms",
    }
}

words! {
    /// What an S3 server is given with each body, so that it can tell whether the body arrived whole.
    #[derive(Default)]
    pub enum Checksums {
        /// CRC32, unless the environment says `AWS_REQUEST_CHECKSUM_CALCULATION=when_required`: then none.
        #[default]
        Auto => "auto",
        Crc32 => "crc32",
        /// The header Content-MD5, for servers that know no newer checksums and want one (older ones with Object Lock).
        Md5 => "md5",
        /// For servers that refuse the headers of checksums.
        None => "none",
    }
}
