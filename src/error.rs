//! One error type for the whole program.
//!
//! An error says what failed, on which service, storage or object, and what the reader can do now (the hint).
//! Its [`ErrorKind`] decides the exit code and whether waiting can help; both are decided here and nowhere else.
//! An error never holds a secret: a connection string enters a message only through
//! [`crate::domain::secret::redact_uri`].

use std::fmt;

/// What sort of failure this is, as far as callers act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// A value that can never be accepted; the message names the field.
    Invalid,
    /// The thing named does not exist.
    NotFound,
    /// Name taken, in use, another operation running, not confirmed, backup management off.
    Conflict,
    /// The database, storage or daemon did not answer.
    Unreachable,
    /// It answered, and refused who we are (wrong password, wrong keys).
    Unauthenticated,
    /// It knows who we are, and refused what we asked for.
    Denied,
    /// A disk, quota or bucket is full.
    StorageFull,
    /// Something stored is not what was written: checksum, size, frame, BSON, missing object.
    Corrupt,
    /// A format, server version or schema this version cannot handle.
    Unsupported,
    /// The member that was read changed under the backup (rollback, election, roll-over of the oplog).
    Interrupted,
    /// A person asked to stop.
    Cancelled,
    /// The daemon ends, and what others do for the job goes on: the next daemon follows it.
    LeftRunning,
    /// The server, storage or operating system reported a failure of another sort, which may pass.
    Transient,
    /// The server, storage or operating system reported a failure of another sort, which will not pass by waiting.
    Failed,
    /// A bug in this program.
    Internal,
}

impl ErrorKind {
    /// The exit code of the command-line contract.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Invalid | Self::Unsupported => 2,
            Self::NotFound => 3,
            Self::Conflict => 4,
            Self::Unreachable => 5,
            Self::Cancelled => 130,
            _ => 1,
        }
    }

    /// Whether the same call may succeed later without anybody changing anything.
    /// The one place that decides what the automatic retry of a job, and of a storage call, repeats.
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::Unreachable | Self::Interrupted | Self::Transient | Self::StorageFull)
    }

    /// The word for logs and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Unreachable => "unreachable",
            Self::Unauthenticated => "unauthenticated",
            Self::Denied => "denied",
            Self::StorageFull => "storage_full",
            Self::Corrupt => "corrupt",
            Self::Unsupported => "unsupported",
            Self::Interrupted => "interrupted",
            Self::Cancelled => "cancelled",
            Self::LeftRunning => "left_running",
            Self::Transient => "transient",
            Self::Failed => "failed",
            Self::Internal => "internal",
        }
    }
}

/// The error of every fallible function of this crate.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    /// The field whose value is wrong, as a key in snake_case.
    field: Option<String>,
    message: String,
    hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind` whose `message` says what failed and on what.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, field: None, message: message.into(), hint: None, source: None }))
    }

    /// A value that can never be accepted; `field` is the flag or key a person typed.
    pub fn invalid(field: &str, why: impl fmt::Display) -> Self {
        Self::of_field(ErrorKind::Invalid, field, why)
    }

    /// The same with another kind. `field` may be written as a flag or as a key; it stands in front of the message, and
    /// [`Error::field`] returns its key.
    pub fn of_field(kind: ErrorKind, field: &str, why: impl fmt::Display) -> Self {
        let mut error = Self::new(kind, format!("{field}: {why}"));
        error.0.field = Some(field.replace('-', "_")).filter(|key| !key.is_empty());
        error
    }

    /// Nothing of this `what` (service, storage, backup, ...) is called `name`.
    pub fn not_found(what: &str, name: impl fmt::Display) -> Self {
        Self::new(ErrorKind::NotFound, format!("there is no {what} {name}"))
    }

    /// Notes which field of a form it is about, without a change of the message.
    #[must_use]
    pub fn about_field(mut self, key: &str) -> Self {
        self.0.field = Some(key.to_owned());
        self
    }

    /// A person asked to stop.
    pub fn cancelled() -> Self {
        Self::new(ErrorKind::Cancelled, "cancelled")
    }

    /// Adds what the reader can do now.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Says which storage its hint is about: the hint of a storage that does not know its own name has `STORAGE` there.
    #[must_use]
    pub fn of_storage(mut self, name: &str) -> Self {
        if let Some(hint) = &mut self.0.hint {
            *hint = storage_named(hint, name);
        }
        self
    }

    /// Puts what was being done in front of the message: `context: message`.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.0.message = format!("{context}: {}", self.0.message);
        self
    }

    /// Keeps the error that caused this one; its text is part of [`Error::full`].
    #[must_use]
    pub fn source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The key of the field whose value is wrong, if it is known. A secret's flag ends in `_file`.
    pub fn field(&self) -> Option<&str> {
        self.0.field.as_deref()
    }

    /// What can be done now, if anything is known.
    pub fn hint_text(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// See [`ErrorKind::is_retryable`].
    pub fn is_retryable(&self) -> bool {
        self.0.kind.is_retryable()
    }

    /// Message and causes in one line, control characters escaped: for a job's `error`, a log, a message.
    pub fn full(&self) -> String {
        let mut text = self.0.message.clone();
        let mut cause: Option<&(dyn std::error::Error + 'static)> =
            self.0.source.as_deref().map(|s| s as &(dyn std::error::Error + 'static));
        while let Some(error) = cause {
            let part = error.to_string();
            // Wrappers often repeat their cause; saying it twice helps nobody.
            if !text.contains(&part) {
                text.push_str(": ");
                text.push_str(&part);
            }
            cause = error.source();
        }
        crate::domain::text::escape(&text)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.full())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.kind.word(), self.full())?;
        if let Some(hint) = self.hint_text() {
            write!(f, " ({hint})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// Turns an I/O error into ours, naming what was touched. A full disk, a missing file and refused access keep their kind.
pub fn io(what: impl fmt::Display, error: std::io::Error) -> Error {
    use std::io::ErrorKind as Io;
    let kind = match error.kind() {
        Io::StorageFull | Io::QuotaExceeded => ErrorKind::StorageFull,
        Io::NotFound => ErrorKind::NotFound,
        Io::PermissionDenied | Io::ReadOnlyFilesystem => ErrorKind::Denied,
        Io::AlreadyExists => ErrorKind::Conflict,
        Io::TimedOut | Io::Interrupted | Io::ResourceBusy => ErrorKind::Transient,
        // A network file system, or the program behind one, is gone.
        Io::NotConnected
        | Io::StaleNetworkFileHandle
        | Io::HostUnreachable
        | Io::NetworkUnreachable
        | Io::NetworkDown
        | Io::ConnectionAborted => ErrorKind::Unreachable,
        _ => ErrorKind::Failed,
    };
    Error::new(kind, what.to_string()).source(error)
}

/// The same where the path is not what a person asked for by name (a folder of the home, of a storage): that something
/// above it is missing is a failure, not a wrong name.
pub fn own_io(what: impl fmt::Display, error: std::io::Error) -> Error {
    let missing = error.kind() == std::io::ErrorKind::NotFound;
    let mut error = io(what, error);
    if missing {
        error.0.kind = ErrorKind::Failed;
    }
    error
}

/// `text` with the name of a storage in the place that stands for it.
pub fn storage_named(text: &str, name: &str) -> String {
    text.replace(" STORAGE", &format!(" {}", shell_words::quote(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_file_system_whose_server_is_gone_is_unreachable() {
        for errno in [rustix::io::Errno::NOTCONN, rustix::io::Errno::STALE, rustix::io::Errno::HOSTUNREACH] {
            assert_eq!(io("reading", errno.into()).kind(), ErrorKind::Unreachable, "{errno:?}");
        }
    }

    /// Each kind by name, so that a new one cannot be forgotten: whether waiting may help is decided once.
    #[test]
    fn what_waiting_can_mend_is_tried_again() {
        use ErrorKind::*;
        let decided = |kind: ErrorKind| match kind {
            // The server is back, the network is mended, the election is over, somebody made room.
            Unreachable | Interrupted | Transient | StorageFull => true,
            // A wrong password, no such bucket, missing rights: they need a person.
            Unauthenticated | Denied | NotFound => false,
            // A value, a state or a stored object that stays what it is.
            Invalid | Conflict | Corrupt | Unsupported | Failed => false,
            // A person asked for it, others go on with it, or a bug that would do the same again.
            Cancelled | LeftRunning | Internal => false,
        };
        let all = [
            Invalid,
            NotFound,
            Conflict,
            Unreachable,
            Unauthenticated,
            Denied,
            StorageFull,
            Corrupt,
            Unsupported,
            Interrupted,
            Cancelled,
            LeftRunning,
            Transient,
            Failed,
            Internal,
        ];
        for (i, kind) in all.into_iter().enumerate() {
            assert_eq!(kind.is_retryable(), decided(kind), "{kind:?}");
            assert!(!all[..i].contains(&kind), "{kind:?} is there twice");
            assert_eq!(Error::new(kind, "x").context("y").is_retryable(), kind.is_retryable());
        }
    }
}
