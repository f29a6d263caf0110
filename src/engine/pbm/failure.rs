//! What `pbm` means when it refuses: from its words to a reason, and from the reason to an error with what to do now.
//!
//! `pbm` has one exit code for every failure, so that its words are all there is. They were recorded from version 2.15.0; a
//! text that is not known is an error of no particular reason.

use crate::error::{Error, ErrorKind};

/// What to do when there is nothing that an increment could be based on.
pub const NEW_CHAIN: &str = "begin a new chain of increments: --type incremental-base";

/// Why `pbm` refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// PBM has no configuration.
    Unconfigured,
    /// The connection string leads to a mongos.
    Mongos,
    NoUri,
    Unreachable,
    Unauthenticated,
    Denied,
    /// Another operation holds the lock.
    OtherOperation,
    /// Nothing is called so; right after the start of an operation, not yet.
    Unknown,
    /// Files of the backup are missing: so are those of one that was cancelled.
    MissingFiles,
    /// A replica set has no agent that runs.
    NoAgent,
    /// An agent did not take part in time.
    NoResponse,
    /// The operation gave no sign of life.
    Stuck,
    /// PBM keeps what was to be deleted.
    Kept,
    /// There is no backup that an increment could be based on.
    NoChain,
    StorageFull,
    Storage,
    /// A value or file that PBM does not take.
    Invalid,
    /// A command or flag that this version of PBM does not have.
    NotOffered,
    /// PBM went on without us: its wait ended before the operation did.
    StillRunning,
    Other,
}

/// Words of PBM, in lower case, and what they mean: the first that is found counts.
const WORDS: &[(&str, Reason)] = &[
    ("mongos connection is not supported", Reason::Mongos),
    ("no mongodb connection uri supplied", Reason::NoUri),
    ("error parsing uri", Reason::Invalid),
    ("parse mongo-uri", Reason::Invalid),
    ("another operation in progress", Reason::OtherOperation),
    ("authentication failed", Reason::Unauthenticated),
    ("unable to authenticate", Reason::Unauthenticated),
    ("requires authentication", Reason::Unauthenticated),
    ("auth error", Reason::Unauthenticated),
    ("not authorized", Reason::Denied),
    ("(unauthorized)", Reason::Denied),
    ("no space left on device", Reason::StorageFull),
    ("quota exceeded", Reason::StorageFull),
    // Before what a server selection says, because a backup may fail in many places.
    ("no available agent", Reason::NoAgent),
    ("reached converge timeout", Reason::NoResponse),
    ("couldn't get response from all shards", Reason::NoResponse),
    ("backup stuck at", Reason::Stuck),
    ("restore stuck at", Reason::Stuck),
    ("no config set", Reason::Unconfigured),
    ("missed config", Reason::Unconfigured),
    ("config is not set", Reason::Unconfigured),
    ("get config: get: mongo: no documents in result", Reason::Unconfigured),
    ("get epoch: query: mongo: no documents in result", Reason::Unconfigured),
    ("get: mongo: no documents in result", Reason::Unconfigured),
    ("missed file", Reason::MissingFiles),
    ("backup cannot be deleted", Reason::Kept),
    ("cannot delete", Reason::Kept),
    ("removing a single incremental backup is not allowed", Reason::Kept),
    ("source backup is stored on a different storage", Reason::NoChain),
    ("can't find incremental backup history", Reason::NoChain),
    ("define source backup", Reason::NoChain),
    ("get backup meta: not found", Reason::Unknown),
    ("get backup info: not found", Reason::Unknown),
    ("get restore meta: not found", Reason::Unknown),
    ("get restore info: not found", Reason::Unknown),
    ("no base snapshot found", Reason::Unknown),
    ("is not found", Reason::Unknown),
    ("' not found", Reason::Unknown),
    ("unknown flag", Reason::NotOffered),
    ("unknown shorthand flag", Reason::NotOffered),
    ("unknown command", Reason::NotOffered),
    ("unknown storage type", Reason::NotOffered),
    ("unable to get new config", Reason::Invalid),
    ("invalid config key", Reason::Invalid),
    ("must be one of", Reason::Invalid),
    ("invalid format", Reason::Invalid),
    ("parse --ns option", Reason::Invalid),
    ("specify a backup name", Reason::Invalid),
    ("operation is in progress. check pbm status", Reason::StillRunning),
    ("get storage:", Reason::Storage),
    ("storage check failed", Reason::Storage),
    ("server selection error", Reason::Unreachable),
    ("connect to mongodb", Reason::Unreachable),
    ("connection refused", Reason::Unreachable),
    ("no such host", Reason::Unreachable),
    ("i/o timeout", Reason::Unreachable),
];

impl Reason {
    /// The meaning of a text of PBM.
    pub fn of(text: &str) -> Self {
        let text = text.to_lowercase();
        WORDS.iter().find(|(words, _)| text.contains(words)).map_or(Self::Other, |(_, reason)| *reason)
    }

    pub fn kind(self) -> ErrorKind {
        match self {
            Self::Unconfigured | Self::Unknown => ErrorKind::NotFound,
            Self::Mongos | Self::NoUri | Self::Invalid => ErrorKind::Invalid,
            Self::Unreachable | Self::NoAgent => ErrorKind::Unreachable,
            Self::Unauthenticated => ErrorKind::Unauthenticated,
            Self::Denied => ErrorKind::Denied,
            Self::OtherOperation | Self::Kept | Self::NoChain => ErrorKind::Conflict,
            Self::MissingFiles => ErrorKind::Corrupt,
            Self::NoResponse | Self::StillRunning => ErrorKind::Transient,
            Self::Stuck => ErrorKind::Interrupted,
            Self::StorageFull => ErrorKind::StorageFull,
            Self::NotOffered => ErrorKind::Unsupported,
            Self::Storage | Self::Other => ErrorKind::Failed,
        }
    }

    fn hint(self, service: &str) -> Option<String> {
        let check = format!("mongokeep service check {service}");
        Some(match self {
            Self::Mongos => {
                "PBM needs the connection string of the config servers' replica set, not of a mongos; change it with \
                 mongokeep service edit"
                    .to_owned()
            }
            Self::Unconfigured => "the first backup of this service writes the configuration of PBM".to_owned(),
            Self::Unauthenticated => "check the user name and password in the service's connection string".to_owned(),
            Self::Denied => {
                "the user of PBM needs the roles readWrite on admin, backup, restore, clusterMonitor and one with \
                 anyAction on anyResource"
                    .to_owned()
            }
            Self::OtherOperation => format!("wait until it is over; {check} shows what runs"),
            Self::NoAgent => format!("start pbm-agent on the nodes that {check} names"),
            Self::NoResponse | Self::Stuck => format!("{check} shows which agents work; pbm-agent's own log says why"),
            Self::Storage => {
                "every node with an agent must reach the storage, and a folder must be at the same path on all of them"
                    .to_owned()
            }
            Self::NoChain => NEW_CHAIN.to_owned(),
            Self::NotOffered => "a newer version of PBM may".to_owned(),
            _ => return None,
        })
    }
}

/// A refusal, its text already fit to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub reason: Reason,
    pub text: String,
}

impl Refusal {
    /// `shown`: what PBM said, without secrets.
    pub fn of(shown: &str) -> Self {
        // Warnings about a version that PBM does not know come before what is wrong.
        let text = shown.rsplit_once("Error: ").map_or(shown, |(before, text)| {
            if before.is_empty() || before.contains("WARNING: ") { text } else { shown }
        });
        let text = text.to_owned();
        Self { reason: Reason::of(&text), text }
    }

    /// The error of a call of `pbm COMMAND` for `service`.
    pub fn error(&self, service: &str, command: &str) -> Error {
        let text = if self.text.is_empty() { "it failed and does not say why" } else { &self.text };
        let what = format!("pbm {command} of service {service}: {text}");
        let error = Error::new(self.reason.kind(), what);
        let error = if self.reason == Reason::Mongos { error.about_field("uri") } else { error };
        match self.reason.hint(service) {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::pbm::tests::{fixture, refusal};

    /// Every text that was recorded, so that none of them gets another meaning unseen.
    #[test]
    fn what_was_recorded_is_understood() {
        let of = |name: &str| match name {
            "agentdead-backup" | "noshard-backup" => Reason::NoResponse,
            "agentdead-backup-2min" | "noconf-noagent-backup" => Reason::NoAgent,
            "backup-type-bad" | "cleanup-no-arg" | "config-file-missing" | "config-file-notyaml" => Reason::Invalid,
            "config-file-unknownkey" | "config-key-unknown" | "config-set-unknown" => Reason::Invalid,
            "restore-no-name" | "restore-ns-admin" | "restore-time-bad" | "status-section-wrong" => Reason::Invalid,
            "backup-while-restoring" | "backup-while-running" | "config-file-while-running" => Reason::OtherOperation,
            "delete-running" | "restore-while-restoring" => Reason::OtherOperation,
            "bad-command" | "bad-flag" | "version-format-json" | "config-file-badtype" => Reason::NotOffered,
            "badpath-backup" | "badpath-backup-wait" | "physical" | "s3-backup" => Reason::Stuck,
            "badpath-describe" | "badpath-status" | "badpath-status-after" => Reason::Storage,
            "cancel-describe" | "cancel-describe-later" | "cancel-describe-later-text" => Reason::MissingFiles,
            "delete-dry" | "delete-last-base" | "delete-no-yes" => Reason::Kept,
            "cancel-describe-after-resync" | "delete-backup-again" | "delete-unknown" => Reason::Unknown,
            "describe-backup-noname" | "describe-backup-unknown" | "describe-failed-after-resync" => Reason::Unknown,
            "describe-restore-unknown" | "noconf-noagent-describe-backup" => Reason::Unknown,
            "noconf-noagent-describe-restore" | "profile-show-unknown" | "restore-unknown" => Reason::Unknown,
            "restore-ask-describe-at-once" | "restore-ask-status-at-once" | "restore-time-outside" => Reason::Unknown,
            "no-uri" => Reason::NoUri,
            "noshard-status" | "noshard-status-later" => Reason::Unreachable,
            // One that leads to a shard finds no configuration there.
            "via-shard-status" => Reason::Unconfigured,
            name if name.starts_with("noconf-") => Reason::Unconfigured,
            "restore-no-yes-pipe" => Reason::Other,
            other => panic!("{other} is new"),
        };
        let all: Vec<serde_json::Value> = serde_json::from_str(&fixture("refusals")).unwrap();
        assert!(all.len() > 60);
        for one in all {
            let (name, said) = (one["name"].as_str().unwrap(), one["stderr"].as_str().unwrap());
            assert_eq!(Refusal::of(said).reason, of(name), "{name}: {said}");
        }
    }

    #[test]
    fn what_a_server_says_of_users_is_told_apart() {
        let denied = "get config: (Unauthorized) not authorized on admin to execute command { find: \"pbmConfig\" }";
        assert_eq!(Reason::of(denied), Reason::Denied);
        let wrong = "connect to mongodb: create mongo connection: ping: connection() error occurred during connection \
                     handshake: auth error: sasl conversation error: unable to authenticate using mechanism \
                     \"SCRAM-SHA-256\": (AuthenticationFailed) Authentication failed.";
        assert_eq!(Reason::of(wrong), Reason::Unauthenticated);
        assert_eq!(Reason::of("(Unauthorized) Command find requires authentication"), Reason::Unauthenticated);
        let uri = "connect to mongodb: create mongo connection: invalid connection string option: error parsing uri: x";
        assert_eq!(Reason::of(uri), Reason::Invalid);
    }

    #[test]
    fn an_error_says_what_to_do() {
        let error = Refusal::of(&refusal("backup-while-running")).error("prod", "backup");
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(
            error.full().starts_with("pbm backup of service prod: another operation in progress, Snapshot backup/")
        );
        assert!(error.hint_text().unwrap().contains("mongokeep service check prod"));
        let error = Refusal::of("mongos connection is not supported").error("prod", "status");
        assert_eq!((error.kind(), error.field()), (ErrorKind::Invalid, Some("uri")));
        assert!(error.hint_text().unwrap().contains("config servers"));
        assert!(Refusal::of("").error("prod", "status").full().ends_with("does not say why"));
    }
}
