//! What an S3 server, or the way to it, did wrong, in our own words.
//!
//! A person does something else about each kind, and the retry decorator repeats only some. Keys and signatures are
//! never shown: of an answer, only its code and message are used.

use std::error::Error as StdError;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::error::ErrorMetadata;
use chrono::{DateTime, Utc};

use crate::domain::text;
use crate::error::{Error, ErrorKind};
use crate::storage::line;

/// What to do about a server that refuses a checksum, or wants another.
const CHECKSUMS: &str = "it may refuse the checksums that are sent with each body, or want others: \
                         mongokeep storage test STORAGE finds which --checksums it takes";

/// The names a failure mentions.
#[derive(Debug, Clone)]
pub(super) struct Names {
    pub(super) bucket: String,
    /// Where requests go, for a person.
    pub(super) server: String,
    pub(super) region: String,
    /// Credentials come from the environment, not from the configuration.
    pub(super) ambient: bool,
    /// The profile of the configuration, whose credentials are used.
    pub(super) profile: Option<String>,
    /// A key of the customer goes with each request.
    pub(super) has_key: bool,
}

/// What an answer says: code, message and status.
pub(super) struct Answer<'a> {
    pub(super) code: &'a str,
    pub(super) message: &'a str,
    pub(super) status: u16,
}

impl Answer<'_> {
    /// The server says itself that there is no such object. Without its word a 404 may be that of something in between.
    pub(super) fn says_no_object(&self) -> bool {
        matches!(self.code, "NoSuchKey" | "NotFound" | "NoSuchVersion")
    }

    /// A state of the bucket or object that stays what it is.
    fn is_final_conflict(&self) -> bool {
        matches!(
            self.code,
            "BucketAlreadyExists"
                | "BucketAlreadyOwnedByYou"
                | "BucketNotEmpty"
                | "InvalidBucketState"
                | "InvalidObjectState"
        )
    }

    /// An object was written with a key of a customer, and read without, or the other way round.
    fn is_about_encryption(&self) -> bool {
        ["Server Side Encryption", "encryption parameters"].iter().any(|words| self.message.contains(words))
    }

    /// It is about the headers that a checksum travels in, or wants one.
    fn is_about_checksums(&self) -> bool {
        let message = self.message.to_ascii_lowercase();
        let by_code =
            matches!(self.code, "InvalidDigest" | "BadDigest" | "XAmzContentChecksumMismatch" | "InvalidPart");
        let asked = ["checksum", "content-md5", "a header you provided implies functionality"];
        by_code || asked.iter().any(|word| message.contains(word))
    }
}

/// The server's answer, when there was one.
pub(super) fn answer<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Option<Answer<'_>> {
    let SdkError::ServiceError(context) = error else { return None };
    let message = context.err().message().unwrap_or_default();
    // The SDK makes this one up for an answer of 404 that has no body.
    let code = context.err().code().filter(|code| *code != "NotFound" || !message.is_empty());
    Some(Answer { code: code.unwrap_or_default(), message, status: context.raw().status().as_u16() })
}

impl Names {
    /// Turns what happened while doing `what` into an error of ours.
    pub(super) fn failure<E>(&self, what: &str, error: SdkError<E, HttpResponse>) -> Error
    where
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        if let Some(answer) = answer(&error) {
            let header = |name| error.raw_response().and_then(|r| r.headers().get(name));
            let body = error.raw_response().and_then(|r| r.body().bytes()).unwrap_or_default();
            let region = region_of(header("x-amz-bucket-region"), body, answer.message);
            return self.refused(what, &answer, header("date"), region.as_deref());
        }
        let broke_off = line::causes(&error).any(|e| e.is::<std::io::Error>());
        match error {
            SdkError::ResponseError(context) if !broke_off => self.without_code(what, context.raw().status().as_u16()),
            SdkError::TimeoutError(_) => line::no_answer(&self.server, what),
            SdkError::DispatchFailure(failure) if failure.is_timeout() => line::no_answer(&self.server, what),
            error => self.broken(what, &error),
        }
    }

    /// A request or answer that broke off, or never began.
    pub(super) fn broken(&self, what: &str, error: &(dyn StdError + 'static)) -> Error {
        if let Some(credentials) = line::find::<CredentialsError>(error) {
            return no_credentials(what, credentials, self.profile.as_deref());
        }
        line::broken(&self.server, what, error)
    }

    /// Every S3 server gives a code with a refusal. An answer without one comes from something in between (a proxy, a load
    /// balancer, a web console), which knows only its status; most of these pass when the server is back.
    fn without_code(&self, what: &str, status: u16) -> Error {
        let server = &self.server;
        let error = |kind, why: &str, hint: &str| Error::new(kind, format!("{what}: {server} {why}")).hint(hint);
        let bare = format!("answered with status {status}, but not as an S3 server does");
        match status {
            401 | 407 => error(
                ErrorKind::Unauthenticated,
                &bare,
                "check the credentials of the storage; a proxy in between may want some of its own",
            ),
            405 | 501 => error(ErrorKind::Unsupported, &bare, "check the endpoint: it must be the S3 API"),
            411 | 413 | 414 | 431 => error(
                ErrorKind::Failed,
                &bare,
                "a proxy in between limits the size of requests (nginx: client_max_body_size); it must pass bodies of 5 MiB",
            ),
            507 => error(ErrorKind::StorageFull, &bare, "delete old backups, or give the bucket more room"),
            400..=499 | 500.. => error(
                ErrorKind::Transient,
                &bare,
                "a proxy in between may have answered for a server that is away, which passes; if it stays, check the \
                 endpoint: it must be the S3 API, not a web console or another site",
            ),
            _ => error(
                ErrorKind::Failed,
                &bare,
                "check the endpoint: it must be the S3 API, not a web console or a proxy",
            ),
        }
    }

    fn refused(&self, what: &str, answer: &Answer<'_>, date: Option<&str>, region: Option<&str>) -> Error {
        let said = said(answer);
        let error = |kind, hint: String| Error::new(kind, format!("{what}: {said}")).hint(hint);
        let bucket = &self.bucket;
        match (answer.code, answer.status) {
            // A condition that is not met is an answer of its own; the region, a redirect.
            ("", status) if !matches!(status, 301 | 307 | 412) => self.without_code(what, status),
            ("NoSuchBucket", _) => {
                Error::new(ErrorKind::NotFound, format!("{what}: there is no bucket {bucket} at {}", self.server))
                    .hint("create the bucket, or correct the bucket's name, the endpoint or the region")
            }
            ("NoSuchKey" | "NotFound" | "NoSuchVersion", _) => {
                Error::new(ErrorKind::NotFound, format!("{what}: there is no such object"))
                    .hint("it was deleted or never written; mongokeep storage sync STORAGE shows what is there")
            }
            ("NoSuchUpload", _) => error(
                ErrorKind::NotFound,
                "the upload was ended by somebody else, or by a rule of the bucket that ends unfinished uploads too soon"
                    .into(),
            ),
            ("KeyTooLongError", _) => {
                error(ErrorKind::Invalid, "give the storage a shorter prefix, or the backup a shorter folder".into())
            }
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
                match region {
                    Some(region) => {
                        let region = text::escape(region);
                        format!("the bucket {bucket} is in region {region}: give --region {region}, not {}", self.region)
                    }
                    None => format!("the bucket {bucket} is not in region {}; give --region the bucket's own", self.region),
                },
            ),
            ("PreconditionFailed", _) | (_, 412) => {
                Error::new(ErrorKind::Conflict, format!("{what}: it exists already"))
                    .hint("somebody else wrote it; mongokeep storage sync STORAGE shows what is there")
            }
            // Sent again, the same bytes are refused again.
            ("InvalidDigest" | "InvalidPart", _) => error(ErrorKind::Failed, CHECKSUMS.into()),
            ("NotImplemented" | "MethodNotAllowed", _) | (_, 501 | 405) if answer.is_about_checksums() => {
                error(ErrorKind::Unsupported, CHECKSUMS.into())
            }
            ("NotImplemented" | "MethodNotAllowed", _) | (_, 501 | 405) => {
                error(ErrorKind::Unsupported, format!("{} does not do this", self.server))
            }
            ("QuotaExceeded" | "XMinioStorageFull" | "XMinioAdminBucketQuotaExceeded" | "InsufficientCapacity", _)
            | (_, 507) => error(ErrorKind::StorageFull, "delete old backups, or give the bucket more room".into()),
            (
                // A body that arrived changed or cut off.
                "BadDigest" | "IncompleteBody" | "XAmzContentSHA256Mismatch" | "XAmzContentChecksumMismatch",
                _,
            ) => error(ErrorKind::Transient, format!("the body was changed on its way; this may pass. If not: {CHECKSUMS}")),
            (
                "SlowDown"
                | "SlowDownRead"
                | "SlowDownWrite"
                | "Busy"
                | "ServerBusy"
                | "Throttling"
                | "ThrottlingException"
                | "ThrottledException"
                | "RequestThrottled"
                | "RequestThrottledException"
                | "RequestLimitExceeded"
                | "BandwidthLimitExceeded"
                | "LimitExceededException"
                | "ProvisionedThroughputExceededException"
                | "PriorRequestNotComplete"
                | "TransactionInProgressException"
                | "TooManyRequests"
                | "TooManyRequestsException"
                | "RequestTimeout"
                | "RequestTimeoutException"
                | "ClientDisconnected"
                | "OperationAborted"
                | "ConditionalRequestConflict"
                | "InternalError"
                | "ServiceUnavailable"
                | "XMinioServerNotInitialized",
                _,
            )
            | (_, 408 | 425 | 429 | 499 | 500..) => {
                error(ErrorKind::Transient, "the server is overloaded or in trouble; this may pass".into())
            }
            // What is in the way now need not be there the next time.
            (_, 409) if !answer.is_final_conflict() => {
                error(ErrorKind::Transient, "another request to the same object is in the way; this may pass".into())
            }
            (_, 400) if answer.is_about_encryption() => error(
                ErrorKind::Failed,
                "give --sse-c-key-file the key that it was written with; without one it was written without".into(),
            ),
            ("AccessDenied" | "AllAccessDisabled" | "AccountProblem", _) | (_, 403) => error(
                ErrorKind::Denied,
                format!(
                    "the key needs s3:ListBucket and s3:ListBucketMultipartUploads on {bucket}, and s3:GetObject, \
                     s3:PutObject, s3:DeleteObject and s3:AbortMultipartUpload on its objects{}",
                    if self.has_key { "; or --sse-c-key-file is not the key that it was written with" } else { "" }
                ),
            ),
            (_, 404) => Error::new(ErrorKind::NotFound, format!("{what}: {said}"))
                .hint("check the bucket and the endpoint of the storage"),
            _ if answer.is_about_checksums() => error(ErrorKind::Failed, CHECKSUMS.into()),
            _ => error(
                ErrorKind::Failed,
                "this does not pass by waiting; mongokeep storage test STORAGE shows which step the server refuses".into(),
            ),
        }
    }
}

/// The region that an answer names as the bucket's own: in a header, in its body, or in its sentence.
fn region_of(header: Option<&str>, body: &[u8], message: &str) -> Option<String> {
    let between = |text: &str, before: &str, after: &str| {
        let (_, rest) = text.split_once(before)?;
        rest.split_once(after).map(|(region, _)| region.trim().to_owned())
    };
    let in_body = || between(&String::from_utf8_lossy(body), "<Region>", "</Region>");
    let in_words = || ["'", "\""].iter().find_map(|quote| between(message, &format!("expecting {quote}"), quote));
    let is_one = |region: &String| {
        (1..=64).contains(&region.len()) && region.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    header.map(str::to_owned).filter(is_one).or_else(|| in_body().filter(is_one)).or_else(|| in_words().filter(is_one))
}

/// The files that profiles are read from: the names that AWS gives them, unless the environment names others.
fn profile_files() -> [String; 2] {
    let home = std::env::var("HOME").unwrap_or_else(|_| "~".into());
    [("AWS_CONFIG_FILE", "config"), ("AWS_SHARED_CREDENTIALS_FILE", "credentials")]
        .map(|(variable, name)| std::env::var(variable).unwrap_or_else(|_| format!("{home}/.aws/{name}")))
}

/// Why a profile gives no credentials.
fn of_profile(what: &str, profile: &str, error: &CredentialsError) -> Error {
    let [config, credentials] = profile_files();
    let words = line::root_cause(error);
    let why = match error {
        CredentialsError::CredentialsNotLoaded(_) if words.contains("was not defined") => "is missing".to_owned(),
        CredentialsError::CredentialsNotLoaded(_) => "is missing, or holds no credentials".to_owned(),
        _ => format!("gives no credentials: {words}"),
    };
    let what = format!("{what}: the profile {} {why} (read: {config} and {credentials})", text::quoted(profile));
    Error::new(ErrorKind::Unauthenticated, text::escape(&what))
        .hint("correct --profile, or add the profile to one of these files on the host of the daemon")
}

fn no_credentials(what: &str, error: &CredentialsError, profile: Option<&str>) -> Error {
    let hint = "give the storage an access key id and a secret access key, or set AWS_ACCESS_KEY_ID and \
                AWS_SECRET_ACCESS_KEY (or a profile) where the daemon is started";
    let why = match error {
        // What STS said of a role.
        other if let Some(said) = line::find::<ErrorMetadata>(other).filter(|said| said.message().is_some()) => {
            let (code, message) = (said.code().unwrap_or("refused"), said.message().unwrap_or_default());
            let why = text::escape(&format!("the role could not be assumed: {code}: {message}"));
            return Error::new(ErrorKind::Unauthenticated, format!("{what}: {why}"))
                .hint("check --role-arn and --external-id, and that the role trusts whoever assumes it");
        }
        _ if let Some(profile) = profile => return of_profile(what, profile, error),
        CredentialsError::CredentialsNotLoaded(_) => "there are no credentials".to_owned(),
        other => format!("the credentials could not be loaded: {}", line::root_cause(other)),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_region_is_read_wherever_an_answer_names_it() {
        let aws = "The authorization header is malformed; the region 'us-east-1' is wrong; expecting 'eu-west-1'";
        let quoted = r#"incorrect region "eu-9", expecting "us-east-1""#;
        let body = b"<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-central-1</Region></Error>";
        for (header, body, message, wanted) in [
            (Some("eu-north-1"), &body[..], aws, Some("eu-north-1")),
            (None, &body[..], aws, Some("eu-central-1")),
            (None, b"", aws, Some("eu-west-1")),
            (None, b"", quoted, Some("us-east-1")),
            (None, b"<Region>a b</Region>", "it is wrong", None),
            (Some(""), b"<Region></Region>", "expecting 'x", None),
        ] {
            assert_eq!(region_of(header, body, message).as_deref(), wanted, "{message}");
        }
    }
}
