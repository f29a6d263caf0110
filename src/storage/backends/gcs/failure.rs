//! What Google Cloud Storage, or the way to it, did wrong, in our own words.

use serde::Deserialize;

use crate::domain::text;
use crate::error::{Error, ErrorKind};
use crate::storage::http;

/// The names a failure mentions.
#[derive(Debug, Clone)]
pub(super) struct Names {
    pub(super) bucket: String,
    /// Where requests go, for a person.
    pub(super) server: String,
    /// Credentials are those of the storage, and not found in the environment.
    pub(super) given: bool,
}

/// What the server said instead of doing it.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: u16,
    /// A word such as `notFound`; empty where the answer has none.
    reason: String,
    message: String,
    /// It was said as the service says it, and not by something in between.
    is_own: bool,
}

#[derive(Deserialize)]
struct Answer {
    error: Said,
}

#[derive(Deserialize)]
struct Said {
    #[serde(default)]
    message: String,
    #[serde(default)]
    errors: Vec<One>,
}

#[derive(Deserialize)]
struct One {
    #[serde(default)]
    reason: String,
}

impl Refusal {
    pub(super) fn new(status: u16, body: &[u8]) -> Self {
        if let Ok(Answer { error }) = serde_json::from_slice::<Answer>(body) {
            let reason = error.errors.into_iter().next().map(|one| one.reason).unwrap_or_default();
            let message = error.message.chars().take(300).collect();
            return Self { status, reason, message, is_own: true };
        }
        // What is asked for as it is stored is refused in plain text: a sentence, and no page.
        let text = String::from_utf8_lossy(body);
        let line = text.trim();
        let is_own = !line.is_empty() && line.len() < 300 && !line.contains(['<', '\n']);
        Self { status, reason: String::new(), message: if is_own { line.to_owned() } else { String::new() }, is_own }
    }

    /// The service says that something is not there: the object, or its bucket.
    pub(super) fn is_missing(&self) -> bool {
        self.status == 404 && self.is_own && !self.names_the_bucket()
    }

    pub(super) fn names_the_object(&self) -> bool {
        self.message.starts_with("No such object")
    }

    fn names_the_bucket(&self) -> bool {
        self.message.contains("bucket does not exist")
    }

    fn said(&self) -> String {
        text::escape(&match (self.reason.as_str(), self.message.as_str()) {
            ("", "") => format!("the server answered with status {}", self.status),
            ("", message) => message.to_owned(),
            (reason, message) => format!("{reason}: {message}"),
        })
    }
}

impl Names {
    /// Turns what the server refused while doing `what` into an error of ours.
    pub(super) fn refused(&self, what: &str, refusal: &Refusal) -> Error {
        let said = refusal.said();
        let error = |kind, hint: String| Error::new(kind, format!("{what}: {said}")).hint(hint);
        let bucket = &self.bucket;
        if !refusal.is_own {
            return http::without_code(&self.server, what, refusal.status);
        }
        match (refusal.reason.as_str(), refusal.status) {
            (_, 401) => error(ErrorKind::Unauthenticated, self.check_credentials().into()),
            ("quotaExceeded", _) | (_, 507) => {
                error(ErrorKind::StorageFull, "delete old backups, or have the quota raised".into())
            }
            ("rateLimitExceeded" | "userRateLimitExceeded" | "backendError" | "internalError", _)
            | (_, 408 | 425 | 429 | 499 | 500 | 502..) => self.passing(what, refusal),
            ("retentionPolicyNotMet" | "objectUnderActiveHold", _) => error(
                ErrorKind::Denied,
                format!("a retention policy or hold of {bucket} keeps it; it can be deleted when that has ended"),
            ),
            (_, 403) => error(
                ErrorKind::Denied,
                format!(
                    "it needs the role Storage Object User (roles/storage.objectUser) on the bucket {bucket}; {}",
                    self.check_credentials()
                ),
            ),
            (_, 412) => Error::new(ErrorKind::Conflict, format!("{what}: it exists already"))
                .hint("somebody else wrote it; mongokeep storage sync STORAGE shows what is there"),
            // Only of the bucket: an object that is missing is told apart before.
            (_, 404) => {
                Error::new(ErrorKind::NotFound, format!("{what}: there is no bucket {bucket} at {}", self.server))
                    .hint("create the bucket, or correct its name or the endpoint")
            }
            (_, 410) => error(
                ErrorKind::NotFound,
                "the upload was ended by somebody else, or is older than a week; nothing of it is visible".into(),
            ),
            (_, 400) if refusal.message.to_ascii_lowercase().contains("crc32c") => {
                error(ErrorKind::Transient, "the body was changed on its way; this may pass".into())
            }
            (_, 409) => error(ErrorKind::Transient, "something else is under way there; this may pass".into()),
            (_, 405 | 501) => error(ErrorKind::Unsupported, format!("{} does not do this", self.server)),
            _ => error(
                ErrorKind::Failed,
                "this does not pass by waiting; mongokeep storage test STORAGE shows which step the server refuses"
                    .into(),
            ),
        }
    }

    /// What may be otherwise the next time.
    pub(super) fn passing(&self, what: &str, refusal: &Refusal) -> Error {
        Error::new(ErrorKind::Transient, format!("{what}: {}", refusal.said()))
            .hint("the server is overloaded or in trouble; this may pass")
    }

    fn check_credentials(&self) -> &'static str {
        if self.given {
            "check --credentials-file of the storage: its key may be deleted or its account disabled, and the clock of this \
             machine must be right"
        } else {
            "check the credentials that are found in the environment (GOOGLE_APPLICATION_CREDENTIALS, gcloud, the machine)"
        }
    }
}

pub(super) fn no_credentials(what: &str, error: &object_store::Error) -> Error {
    let hint = "give the storage --credentials-file with the key of a service account, or set \
                GOOGLE_APPLICATION_CREDENTIALS where the daemon is started; --anonymous is for emulators";
    http::no_credentials(what, error, hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_apart() {
        let of = |status, body: &str| Refusal::new(status, body.as_bytes());
        let object =
            of(404, r#"{"error":{"code":404,"message":"No such object: b/k","errors":[{"reason":"notFound"}]}}"#);
        assert!(object.is_missing() && object.names_the_object());
        let bucket = of(404, r#"{"error":{"code":404,"message":"The specified bucket does not exist."}}"#);
        assert!(!bucket.is_missing());
        let either = of(404, r#"{"error":{"code":404,"message":"Not Found"}}"#);
        assert!(either.is_missing() && !either.names_the_object());
        assert!(of(404, "No such object: b/k").is_missing());
        assert!(!of(404, "<html>nginx</html>").is_missing() && !of(404, "").is_missing());
    }
}
