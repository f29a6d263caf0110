//! What an S3 server, or the way to it, did wrong, in our own words.
//!
//! A person does something else about each kind, and the retry decorator repeats only some. Keys and signatures are
//! never shown: of an answer, only its code and message are used.

use std::error::Error as StdError;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use chrono::{DateTime, Utc};

use crate::domain::text;
use crate::error::{Error, ErrorKind};

/// The names a failure mentions.
#[derive(Debug, Clone)]
pub(super) struct Names {
    pub(super) bucket: String,
    /// Where requests go, for a person.
    pub(super) server: String,
    pub(super) region: String,
    /// Credentials come from the environment, not from the configuration.
    pub(super) ambient: bool,
}

/// What an answer says: code, message and status.
pub(super) struct Answer<'a> {
    pub(super) code: &'a str,
    pub(super) message: &'a str,
    pub(super) status: u16,
}

/// The server's answer, when there was one.
pub(super) fn answer<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Option<Answer<'_>> {
    let SdkError::ServiceError(context) = error else { return None };
    Some(Answer {
        code: context.err().code().unwrap_or_default(),
        message: context.err().message().unwrap_or_default(),
        status: context.raw().status().as_u16(),
    })
}

impl Names {
    /// Turns what happened while doing `what` into an error of ours.
    pub(super) fn failure<E>(&self, what: &str, error: SdkError<E, HttpResponse>) -> Error
    where
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        if let Some(answer) = answer(&error) {
            let date = error.raw_response().and_then(|r| r.headers().get("date"));
            return self.refused(what, &answer, date);
        }
        match error {
            SdkError::ResponseError(context) => self.not_s3(what, context.raw().status().as_u16()),
            SdkError::TimeoutError(_) => self.no_answer(what),
            SdkError::DispatchFailure(failure) if failure.is_timeout() => self.no_answer(what),
            error => self.broken(what, &error),
        }
    }

    /// A request or answer that broke off, or never began.
    pub(super) fn broken(&self, what: &str, error: &(dyn StdError + 'static)) -> Error {
        if let Some(tls) = find::<rustls::Error>(error) {
            return self.tls(what, tls);
        }
        if let Some(credentials) = find::<CredentialsError>(error) {
            return no_credentials(what, credentials);
        }
        let why = root_cause(error);
        Error::new(ErrorKind::Unreachable, format!("{what}: cannot reach {}: {why}", self.server))
            .hint("check the endpoint, and the network between here and it")
    }

    fn not_s3(&self, what: &str, status: u16) -> Error {
        let kind = if status >= 500 { ErrorKind::Transient } else { ErrorKind::Failed };
        let why = format!("{what}: {} answered with status {status}, but not as an S3 server does", self.server);
        Error::new(kind, why).hint("check the endpoint: it must be the S3 API, not a web console or a proxy")
    }

    fn no_answer(&self, what: &str) -> Error {
        Error::new(ErrorKind::Unreachable, format!("{what}: {} did not answer in time", self.server))
            .hint("check the endpoint, and the network between here and it")
    }

    fn tls(&self, what: &str, error: &rustls::Error) -> Error {
        let (why, hint) = match error {
            rustls::Error::InvalidCertificate(_) => (
                "its certificate is not trusted",
                "give --ca-file the PEM file of the authority that signed it; --insecure-skip-tls-verify is for trials only",
            ),
            rustls::Error::InvalidMessage(_) => {
                ("it does not speak TLS", "an endpoint without TLS begins with http://, not https://")
            }
            _ => ("TLS failed", "check the endpoint's certificate and TLS versions; see also --ca-file"),
        };
        Error::new(ErrorKind::Failed, format!("{what}: {}: {why}: {error}", self.server)).hint(hint)
    }

    fn refused(&self, what: &str, answer: &Answer<'_>, date: Option<&str>) -> Error {
        let said = said(answer);
        let error = |kind, hint: String| Error::new(kind, format!("{what}: {said}")).hint(hint);
        let bucket = &self.bucket;
        match (answer.code, answer.status) {
            ("", 200..=299) => self.not_s3(what, answer.status),
            ("NoSuchBucket", _) => {
                Error::new(ErrorKind::NotFound, format!("{what}: there is no bucket {bucket} at {}", self.server))
                    .hint("create the bucket, or correct the bucket's name, the endpoint or the region")
            }
            ("NoSuchKey" | "NotFound", _) => {
                Error::new(ErrorKind::NotFound, format!("{what}: there is no such object"))
            }
            ("NoSuchUpload", _) => error(ErrorKind::NotFound, "the upload was ended by somebody else".into()),
            ("InvalidBucketName", _) => error(ErrorKind::Invalid, "correct the bucket's name".into()),
            ("ExpiredToken" | "TokenRefreshRequired", _) => {
                error(ErrorKind::Unauthenticated, "the session token has expired; get a new one".into())
            }
            (
                "InvalidAccessKeyId"
                | "SignatureDoesNotMatch"
                | "NotSignedUp"
                | "InvalidToken"
                | "InvalidClientTokenId"
                | "UnrecognizedClientException"
                | "AuthFailure"
                | "InvalidSecurity"
                | "Unauthorized",
                _,
            )
            | (_, 401) => {
                let whose = if self.ambient { "found in the environment" } else { "of the storage" };
                error(ErrorKind::Unauthenticated, format!("check the access key id and the secret access key {whose}"))
            }
            ("RequestTimeTooSkewed" | "RequestExpired", _) => {
                let by = date.and_then(clock_difference).unwrap_or_else(|| "more than the server allows".into());
                Error::new(
                    ErrorKind::Failed,
                    format!("{what}: the clock of this machine and that of {} differ by {by}", self.server),
                )
                .hint("set the clock of this machine right (timedatectl set-ntp true), or the server's")
            }
            (
                "PermanentRedirect"
                | "TemporaryRedirect"
                | "AuthorizationHeaderMalformed"
                | "InvalidRegion"
                | "IllegalLocationConstraintException",
                _,
            )
            | (_, 301 | 307) => error(
                ErrorKind::Invalid,
                format!("the bucket {bucket} is not in region {}; give --region the bucket's own", self.region),
            ),
            ("PreconditionFailed", _) | (_, 412) => {
                Error::new(ErrorKind::Conflict, format!("{what}: it exists already"))
            }
            ("NotImplemented" | "MethodNotAllowed", _) | (_, 501 | 405) => {
                error(ErrorKind::Unsupported, format!("{} does not do this", self.server))
            }
            ("QuotaExceeded" | "XMinioStorageFull" | "XMinioAdminBucketQuotaExceeded" | "InsufficientCapacity", _)
            | (_, 507) => error(ErrorKind::StorageFull, "delete old backups, or give the bucket more room".into()),
            (
                "SlowDown"
                | "Throttling"
                | "ThrottlingException"
                | "TooManyRequests"
                | "RequestTimeout"
                | "OperationAborted"
                | "ConditionalRequestConflict"
                | "BadDigest"
                | "IncompleteBody"
                | "XAmzContentSHA256Mismatch"
                | "XAmzContentChecksumMismatch"
                | "InternalError"
                | "ServiceUnavailable",
                _,
            )
            | (_, 408 | 429 | 500..) => {
                error(ErrorKind::Transient, "the server is overloaded or in trouble; this may pass".into())
            }
            ("AccessDenied" | "AllAccessDisabled" | "AccountProblem", _) | (_, 403) => error(
                ErrorKind::Denied,
                format!(
                    "the key needs s3:ListBucket and s3:ListBucketMultipartUploads on {bucket}, and s3:GetObject, \
                     s3:PutObject, s3:DeleteObject and s3:AbortMultipartUpload on its objects"
                ),
            ),
            (_, 404) => Error::new(ErrorKind::NotFound, format!("{what}: there is no such object or bucket")),
            _ => Error::new(ErrorKind::Failed, format!("{what}: {said}")),
        }
    }
}

fn no_credentials(what: &str, error: &CredentialsError) -> Error {
    let hint = "give the storage an access key id and a secret access key, or set AWS_ACCESS_KEY_ID and \
                AWS_SECRET_ACCESS_KEY (or a profile) where the daemon is started";
    let why = match error {
        CredentialsError::CredentialsNotLoaded(_) => "there are no credentials".to_owned(),
        other => format!("the credentials could not be loaded: {}", root_cause(other)),
    };
    Error::new(ErrorKind::Unauthenticated, format!("{what}: {why}")).hint(hint)
}

fn said(answer: &Answer<'_>) -> String {
    // Some servers send a page of text.
    let message: String = answer.message.chars().take(300).collect();
    text::escape(&match (answer.code, message.as_str()) {
        ("", "") => format!("the server answered with status {}", answer.status),
        (code, "") => code.to_owned(),
        ("", message) => message.to_owned(),
        (code, message) => format!("{code}: {message}"),
    })
}

fn clock_difference(date: &str) -> Option<String> {
    let server = DateTime::parse_from_rfc2822(date).ok()?;
    let seconds = server.signed_duration_since(Utc::now()).num_seconds();
    // Under a minute the date header itself is not what was wrong.
    (seconds.abs() >= 60).then(|| text::duration(seconds.unsigned_abs()))
}

/// Walks causes; an I/O error hides its payload from `source`.
fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&e| match e.downcast_ref::<std::io::Error>() {
        Some(io) => io.get_ref().map(|inner| inner as &(dyn StdError + 'static)),
        None => e.source(),
    })
}

fn find<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    causes(error).find_map(|e| e.downcast_ref::<E>())
}

/// The last cause says it best: `Connection refused`, `failed to lookup address`.
fn root_cause(error: &(dyn StdError + 'static)) -> String {
    causes(error).last().map(|e| text::escape(&e.to_string())).unwrap_or_default()
}
