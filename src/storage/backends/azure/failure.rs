//! What Azure, or the way to it, did wrong, in our own words.

use serde::Deserialize;

use crate::domain::text;
use crate::error::{Error, ErrorKind};
use crate::storage::http;

/// The names a failure mentions.
#[derive(Debug, Clone)]
pub(super) struct Names {
    pub(super) account: String,
    pub(super) container: String,
    /// Where requests go, for a person.
    pub(super) server: String,
    /// Which credentials are used: the name of their flag; none when they come from the environment.
    pub(super) given: Option<&'static str>,
}

/// What the server said instead of doing it.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: u16,
    /// Empty for an answer of something that is not Azure.
    pub(super) code: String,
    message: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Said {
    code: String,
    message: String,
    authentication_error_detail: String,
}

impl Refusal {
    pub(super) fn new(status: u16, code: Option<String>, body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(body);
        let said: Said = quick_xml::de::from_str(text.trim_start_matches('\u{feff}')).unwrap_or_default();
        // What follows is the id and time of the request.
        let message = said.message.lines().next().unwrap_or_default().trim().to_owned();
        let message = match said.authentication_error_detail.trim() {
            "" => message,
            // A signature that does not fit is told with the text that was signed; no use for a person, and long.
            detail => detail.split(". Server used").next().unwrap_or(detail).to_owned(),
        };
        Self { status, code: code.unwrap_or(said.code), message: message.chars().take(300).collect() }
    }

    /// The service says itself that there is no such blob.
    pub(super) fn says_no_blob(&self) -> bool {
        self.status == 404 && self.code == "BlobNotFound"
    }

    fn said(&self) -> String {
        let said = match (self.code.as_str(), self.message.as_str()) {
            (code, "") => code.to_owned(),
            (code, message) => format!("{code}: {message}"),
        };
        text::escape(&said)
    }
}

impl Names {
    /// Turns what the server refused while doing `what` into an error of ours.
    pub(super) fn refused(&self, what: &str, refusal: &Refusal) -> Error {
        let said = refusal.said();
        let error = |kind, hint: String| Error::new(kind, format!("{what}: {said}")).hint(hint);
        let (account, container) = (&self.account, &self.container);
        match (refusal.code.as_str(), refusal.status) {
            ("ContainerNotFound" | "ContainerDisabled", _) => Error::new(
                ErrorKind::NotFound,
                format!("{what}: there is no container {container} at {}", self.server),
            )
            .hint("create the container, or correct the name of the container, the account or the endpoint"),
            // Of the account, or of anything else that is no blob: a manifest may well be there.
            ("ResourceNotFound", _) => Error::new(
                ErrorKind::NotFound,
                format!("{what}: there is no account {account} with a container {container} at {}", self.server),
            )
            .hint("correct the name of the account, the container or the endpoint"),
            ("BlobNotFound", _) => {
                Error::new(ErrorKind::NotFound, format!("{what}: there is no such object"))
                    .hint("it was deleted or never written; mongokeep storage sync STORAGE shows what is there")
            }
            ("BlobAlreadyExists" | "ConditionNotMet", _) => {
                Error::new(ErrorKind::Conflict, format!("{what}: it exists already"))
                    .hint("somebody else wrote it; mongokeep storage sync STORAGE shows what is there")
            }
            (
                "AuthenticationFailed"
                | "InvalidAuthenticationInfo"
                | "NoAuthenticationInformation"
                | "KeyBasedAuthenticationNotPermitted"
                | "InvalidSasToken",
                _,
            )
            | (_, 401) => error(ErrorKind::Unauthenticated, self.check_credentials()),
            // Azurite's word for a signature that has expired.
            ("AuthorizationFailure", _) if refusal.message.starts_with("Server failed to authenticate") => {
                error(ErrorKind::Unauthenticated, self.check_credentials())
            }
            (
                "AuthorizationFailure"
                | "AuthorizationPermissionMismatch"
                | "AuthorizationProtocolMismatch"
                | "AuthorizationResourceTypeMismatch"
                | "AuthorizationServiceMismatch"
                | "AuthorizationSourceIPMismatch"
                | "InsufficientAccountPermissions"
                | "UnauthorizedBlobOverwrite"
                | "AccountIsDisabled",
                _,
            ) => error(
                ErrorKind::Denied,
                format!(
                    "it needs the role Storage Blob Data Contributor on the container {container}, or a SAS token for read, \
                     add, create, write, delete and list (racwdl); a firewall of the account {account} may refuse it, too"
                ),
            ),
            ("BlobImmutableDueToPolicy" | "BlobImmutableDueToLegalHold" | "ContainerImmutableDueToPolicy", _) => error(
                ErrorKind::Denied,
                format!("an immutability policy of {container} keeps it; it can be deleted when that has ended"),
            ),
            ("LeaseIdMissing" | "LeaseAlreadyPresent", _) => error(
                ErrorKind::Failed,
                "somebody holds a lease on it; break the lease, and see who takes leases there".into(),
            ),
            ("InvalidBlockList" | "InvalidBlobOrBlock" | "InvalidBlockId", _) => error(
                ErrorKind::Failed,
                "somebody else wrote to the same object, or ended its upload; nothing of it is visible".into(),
            ),
            ("InvalidResourceName" | "InvalidUri" | "OutOfRangeInput", _) => error(
                ErrorKind::Invalid,
                "correct the name of the container, or give the storage a shorter prefix, or the backup a shorter folder"
                    .into(),
            ),
            ("AccountRequiresHttps", _) => error(ErrorKind::Invalid, "write the endpoint with https://".into()),
            ("Md5Mismatch", _) => {
                error(ErrorKind::Transient, "the body was changed on its way; this may pass".into())
            }
            ("", status) => http::without_code(&self.server, what, status),
            (_, 408 | 425 | 429 | 499 | 500..) if refusal.code != "NotImplemented" => {
                error(ErrorKind::Transient, "the server is overloaded or in trouble; this may pass".into())
            }
            // A container that is being deleted or moved, an operation that is under way.
            (_, 409) => error(ErrorKind::Transient, "something else is under way there; this may pass".into()),
            (_, 403) => error(ErrorKind::Denied, self.check_credentials()),
            (_, 405 | 501) => error(ErrorKind::Unsupported, format!("{} does not do this", self.server)),
            _ => error(
                ErrorKind::Failed,
                "this does not pass by waiting; mongokeep storage test STORAGE shows which step the server refuses".into(),
            ),
        }
    }

    fn check_credentials(&self) -> String {
        match self.given {
            Some(flag) => format!(
                "check --{flag} of the storage: it must be of the account {}, not expired, and the clock of this machine right",
                self.account
            ),
            None => {
                "check the credentials that are found in the environment (AZURE_...) or the managed identity".into()
            }
        }
    }
}

pub(super) fn no_credentials(what: &str, error: &object_store::Error) -> Error {
    let hint = "give the storage an account key, a SAS token or a connection string, or set AZURE_CLIENT_ID, \
                AZURE_TENANT_ID and AZURE_CLIENT_SECRET (or a managed identity) where the daemon is started";
    http::no_credentials(what, error, hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_is_read_without_what_it_adds() {
        let body = "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>AuthenticationFailed</Code><Message>Server failed \
                    to authenticate.\nRequestId:1\nTime:2</Message><AuthenticationErrorDetail>The MAC signature found is not the \
                    same as any computed signature. Server used following string to sign: 'GET'.</AuthenticationErrorDetail></Error>";
        let refusal = Refusal::new(403, None, body.as_bytes());
        assert_eq!(
            refusal.said(),
            "AuthenticationFailed: The MAC signature found is not the same as any computed signature"
        );
        assert_eq!(Refusal::new(404, Some("BlobNotFound".into()), b"").said(), "BlobNotFound");
        assert!(Refusal::new(404, None, b"<html>").code.is_empty());
    }
}
