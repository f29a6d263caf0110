//! A backup as the catalogue knows it, and the request to make one.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::encryption::Recipient;
use super::namespace::Selection;
use super::retry::RetryPolicy;
use super::service::EngineKind;
use super::text::{escape, utc};
use super::timestamp::Timestamp;
use super::words::words;
use crate::error::{Error, Result};

words! {
    /// What a backup is made of: documents, or a copy of the server's files.
    #[derive(Default)]
    pub enum Model {
        #[default]
        Logical => "logical",
        Physical => "physical",
    }
}

impl Model {
    /// Whether it is known how many documents a backup holds.
    pub fn counts_documents(self) -> bool {
        self == Self::Logical
    }

    /// Errors: `Invalid`, naming the field, for increments of documents.
    pub fn check_type(self, backup_type: BackupType) -> Result<()> {
        if backup_type.is_incremental() && self != Self::Physical {
            let why = format!("--type {} needs the physical model: only files have increments", backup_type.word());
            return Err(Error::invalid("model", why));
        }
        Ok(())
    }

    /// Errors: `Invalid`, naming the field, when a part of what cannot be divided was chosen.
    pub fn check_selection(self, selection: &Selection) -> Result<()> {
        for (field, patterns) in [("include", &selection.include), ("exclude", &selection.exclude)] {
            if self == Self::Physical && !patterns.is_empty() {
                return Err(Error::invalid(field, "needs the logical model: a physical backup holds all files"));
            }
        }
        Ok(())
    }
}

words! {
    /// A plain backup, the base of a point-in-time window, or a part of a chain of increments.
    #[derive(Default)]
    pub enum BackupType {
        #[default]
        Full => "full",
        Pitr => "pitr",
        // What changed since the one before; the first of all is a base.
        Incremental => "incremental",
        // Begins a new chain.
        IncrementalBase => "incremental-base",
    }
}

impl BackupType {
    /// What `backup create` can make: changes are recorded by schedules only.
    pub const ON_DEMAND: &'static [&'static str] = &["full", "incremental", "incremental-base"];

    /// Whether it is a part of a chain.
    pub fn is_incremental(self) -> bool {
        matches!(self, Self::Incremental | Self::IncrementalBase)
    }
}

/// The place of a backup in a chain of increments, by the names that the engine gave them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainLink {
    /// The first of the chain, which holds everything.
    pub base: String,
    /// What this one is based on; `None`: it is the base.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackupState {
    Running,
    Succeeded,
    Failed,
    /// Objects are in the storage without a manifest: the job is gone, or belongs to another home.
    Incomplete,
    Deleting,
}

/// How a part is compressed: `zstd[:LEVEL]`, `gzip[:LEVEL]` or `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    Zstd(i32),
    Gzip(u32),
    None,
    /// What another tool did. Nothing is written so here.
    Foreign(ForeignCompression),
}

words! {
    /// The words of Percona Backup for MongoDB, which does not write down the level.
    pub enum ForeignCompression {
        Gzip => "gzip",
        Pgzip => "pgzip",
        Snappy => "snappy",
        Lz4 => "lz4",
        S2 => "s2",
        Zstd => "zstd",
    }
}

impl ForeignCompression {
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Gzip | Self::Pgzip => ".gz",
            Self::Snappy => ".snappy",
            Self::Lz4 => ".lz4",
            Self::S2 => ".s2",
            Self::Zstd => ".zst",
        }
    }
}

impl Default for Compression {
    /// A low level of zstd: as small as gzip at its default level, several times faster.
    fn default() -> Self {
        Self::Zstd(2)
    }
}

impl Compression {
    /// What a part's name ends in, dot included (`.zst`), or nothing.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Zstd(_) => ".zst",
            Self::Gzip(_) => ".gz",
            Self::None => "",
            Self::Foreign(word) => word.suffix(),
        }
    }

    /// What a backup says of itself, which may be the word of another tool; a person may ask for less ([`FromStr`]).
    pub fn recorded(text: &str) -> std::result::Result<Self, String> {
        match text.parse() {
            Ok(word) => Ok(Self::Foreign(word)),
            Err(_) => text.parse(),
        }
    }
}

impl FromStr for Compression {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (name, level) = match text.split_once(':') {
            Some((name, level)) => {
                let level = level.parse::<i32>().map_err(|_| format!("{level:?} is not a compression level"))?;
                (name, Some(level))
            }
            None => (text, None),
        };
        match (name, level) {
            ("zstd", None) => Ok(Self::default()),
            ("zstd", Some(l @ 1..=19)) => Ok(Self::Zstd(l)),
            ("zstd", Some(_)) => Err("zstd has levels 1 to 19".into()),
            ("gzip", None) => Ok(Self::Gzip(6)),
            ("gzip", Some(l @ 1..=9)) => Ok(Self::Gzip(l as u32)),
            ("gzip", Some(_)) => Err("gzip has levels 1 to 9".into()),
            ("none", None) => Ok(Self::None),
            _ => Err("compression is zstd[:LEVEL], gzip[:LEVEL] or none".into()),
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zstd(level) => write!(f, "zstd:{level}"),
            Self::Gzip(level) => write!(f, "gzip:{level}"),
            Self::None => f.write_str("none"),
            Self::Foreign(word) => f.write_str(word.word()),
        }
    }
}

impl Serialize for Compression {
    fn serialize<S: serde::Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Compression {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        Self::recorded(&String::deserialize(d)?).map_err(serde::de::Error::custom)
    }
}

/// What a person asks for with `backup create`, before what was left out is filled in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BackupDraft {
    /// Empty: made of the service and the time.
    pub name: String,
    pub service: String,
    pub storage: String,
    /// Empty: the default folder of the service.
    pub folder: String,
    pub model: Model,
    pub backup_type: BackupType,
    pub selection: Selection,
    /// `None`: the setting `backup.compression`.
    pub compression: Option<Compression>,
    pub retry: RetryPolicy,
}

/// What `backup create` asks for, complete and checked. Kept with the job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupRequest {
    pub name: String,
    pub service: String,
    pub storage: String,
    pub folder: String,
    pub model: Model,
    #[serde(rename = "type")]
    pub backup_type: BackupType,
    #[serde(default)]
    pub selection: Selection,
    pub compression: Compression,
    pub retry: RetryPolicy,
    pub schedule: Option<String>,
}

/// A backup in the catalogue. Serialised, it is the `backup` object of the command-line contract.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Backup {
    pub name: String,
    pub service: String,
    pub cluster: Option<String>,
    pub storage: String,
    pub folder: String,
    pub engine: EngineKind,
    pub model: Model,
    #[serde(rename = "type")]
    pub backup_type: BackupType,
    pub schedule: Option<String>,
    pub state: BackupState,
    pub pinned: bool,
    pub consistent_at: Option<DateTime<Utc>>,
    pub consistent_at_ts: Option<Timestamp>,
    /// Bytes in the storage.
    pub size_bytes: Option<u64>,
    /// Bytes of BSON.
    pub uncompressed_bytes: Option<u64>,
    pub documents: Option<u64>,
    /// Of a physical backup: bytes that were sent for it, the rest having been there before.
    pub new_bytes: Option<u64>,
    /// Of a physical backup: how long the server was locked against writes for it.
    pub locked_millis: Option<u64>,
    /// The name that Percona Backup for MongoDB gave what it made for us.
    pub pbm_name: Option<String>,
    /// Of an increment, or the base of some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<ChainLink>,
    /// 1970 where nothing says it, which is written as null: see [`Backup::begun_at`].
    #[serde(with = "unless_unknown")]
    pub started_at: DateTime<Utc>,
    pub finished_at: Option<DateTime<Utc>>,
    pub server_version: Option<String>,
    pub fcv: Option<String>,
    pub compression: Compression,
    /// `None`: it is not encrypted.
    pub encryption: Option<BackupEncryption>,
    pub error: Option<String>,
    /// When `backup verify` last read it back, and what was wrong (`None`: nothing).
    pub verified_at: Option<DateTime<Utc>>,
    pub verify_error: Option<String>,
}

/// `<folder>/<name>`, not escaped. What is a folder or an object as a whole, as a dump of mongodump is, has its path for a
/// name.
pub fn place_of(folder: &str, name: &str) -> String {
    let is_path = name == folder || name.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
    if folder.is_empty() || is_path { name.to_owned() } else { format!("{folder}/{name}") }
}

/// Who can read a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupEncryption {
    /// The identity of one of them is enough.
    pub recipients: Vec<Recipient>,
}

/// Whose a backup is that a storage holds, as its manifest and its attempt say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    pub attempt_id: String,
    /// `None`: nothing there says which installation made it.
    pub home_id: Option<String>,
    pub host: Option<String>,
    pub service: String,
    /// The tool that made it, where that is not mongokeep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// `None`: nothing says it, as of a dump of mongodump without an oplog.
    pub started_at: Option<DateTime<Utc>>,
    /// It has a manifest. Without one somebody may still be writing it.
    pub complete: bool,
    /// As its manifest says.
    pub size_bytes: Option<u64>,
}

/// No backup takes longer: what was begun before and has no manifest is nobody's work any more.
const LONGEST_RUN: TimeDelta = TimeDelta::days(30);

impl Owner {
    /// Whether one of these attempts of this home made it.
    pub fn is_of(&self, home_id: &str, attempts: &[String]) -> bool {
        attempts.contains(&self.attempt_id) && self.home_id.as_deref().is_none_or(|of| of == home_id)
    }

    /// Whether somebody may be writing it. Nothing in a storage says so for sure, so only age speaks against it.
    pub fn may_be_running(&self, now: DateTime<Utc>) -> bool {
        !self.complete && self.started_at.is_some_and(|at| at + LONGEST_RUN > now)
    }

    /// Who made it, for a sentence that says "made by", safe to show.
    pub fn whose(&self) -> String {
        if self.tool.is_some() { self.words() } else { format!("another installation: {}", self.words()) }
    }

    /// Service, host, time and installation, or the other tool that made it: safe to show.
    pub fn words(&self) -> String {
        let begun = self.started_at.map(|at| format!("begun {}", utc(at)));
        if let Some(tool) = &self.tool {
            // mongodump names no service, and its own name stands there.
            let service = (self.service != *tool).then(|| format!("service {}", escape(&self.service)));
            return [Some(escape(tool)), service, begun].into_iter().flatten().collect::<Vec<_>>().join(", ");
        }
        let host = self.host.as_deref().filter(|host| !host.is_empty()).unwrap_or("an unknown host");
        let home = self.home_id.as_deref().map_or("unknown".into(), |id| escape(id.get(..8).unwrap_or(id)));
        let begun = begun.map_or_else(String::new, |begun| format!("{begun} "));
        format!("service {}, {begun}on {}, installation {home}", escape(&self.service), escape(host))
    }
}

impl Backup {
    /// It succeeded, and no verification found it damaged.
    pub fn is_good(&self) -> bool {
        self.state == BackupState::Succeeded && self.verify_error.is_none()
    }

    /// When it was begun; `None`: nothing says it, as of a dump of mongodump without an oplog.
    pub fn begun_at(&self) -> Option<DateTime<Utc>> {
        (self.started_at > DateTime::UNIX_EPOCH).then_some(self.started_at)
    }

    /// The name that its engine gave it, where that has names of its own.
    pub fn engine_name(&self) -> Option<&str> {
        match (self.engine, &self.pbm_name) {
            (EngineKind::Pbm, Some(name)) => Some(name),
            (EngineKind::Pbm, None) => Some(&self.name),
            (EngineKind::Native | EngineKind::Mongodump, _) => None,
        }
    }

    /// What made it, in words, where that is not this program.
    pub fn made_by(&self) -> Option<String> {
        match (self.engine, &self.pbm_name) {
            (EngineKind::Native, _) => None,
            (EngineKind::Pbm, Some(name)) => Some(format!("PBM, as {}", escape(name))),
            (EngineKind::Pbm, None) => Some("PBM, for somebody else".to_owned()),
            (EngineKind::Mongodump, _) => Some("mongodump".to_owned()),
        }
    }
}

/// A time that is 1970 where nothing says when it was.
mod unless_unknown {
    use chrono::{DateTime, Utc};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(at: &DateTime<Utc>, s: S) -> Result<S::Ok, S::Error> {
        (*at > DateTime::UNIX_EPOCH).then_some(at).serialize(s)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<DateTime<Utc>, D::Error> {
        Ok(Option::deserialize(d)?.unwrap_or(DateTime::UNIX_EPOCH))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_made_it_is_said_without_times_and_hosts_that_nobody_knows() {
        let dump = Owner {
            attempt_id: "mongodump-1".into(),
            home_id: None,
            host: None,
            service: "mongodump".into(),
            tool: Some("mongodump".into()),
            started_at: None,
            complete: true,
            size_bytes: Some(7),
        };
        assert_eq!(dump.whose(), "mongodump");
        assert!(serde_json::to_value(&dump).unwrap()["started_at"].is_null());
        let at = DateTime::from_timestamp(1_790_000_000, 0);
        let pbm = Owner { tool: Some("PBM".into()), service: "rs0".into(), started_at: at, ..dump.clone() };
        assert_eq!(pbm.whose(), "PBM, service rs0, begun 2026-09-21 14:13:20 UTC");
        let ours =
            Owner { tool: None, service: "prod".into(), home_id: Some("0123456789".into()), started_at: at, ..dump };
        let words = "another installation: service prod, begun 2026-09-21 14:13:20 UTC on an unknown host, installation 01234567";
        assert_eq!(ours.whose(), words);
    }

    #[test]
    fn a_name_that_is_a_path_stands_alone() {
        let places = [("", "a"), ("d", "a"), ("d", "d/a"), ("d/a", "d/a"), ("d", "da"), ("d/e", "d")];
        assert_eq!(places.map(|(folder, name)| place_of(folder, name)), ["a", "d/a", "d/a", "d/a", "d/da", "d/e/d"]);
    }

    #[test]
    fn compression_round_trips() {
        for text in ["zstd:1", "zstd:19", "gzip:6", "none"] {
            assert_eq!(text.parse::<Compression>().unwrap().to_string(), text);
        }
        assert_eq!("zstd".parse::<Compression>().unwrap(), Compression::default());
        for bad in ["zstd:0", "zstd:20", "gzip:0", "none:1", "lz4", "", "zstd:x"] {
            assert!(bad.parse::<Compression>().is_err(), "{bad}");
        }
    }
}
