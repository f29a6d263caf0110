//! `<name>.pbm.json`: what PBM says of one of its backups, and whether documents can be restored from it here.

use serde::Deserialize;

use crate::artifact::codec::Encoded;
use crate::artifact::layout::BackupRoot;
use crate::domain::backup::ForeignCompression;
use crate::domain::text::escape;
use crate::domain::timestamp::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::{self, Storage};

/// The first release whose layout is read: one object for each collection, and their metadata beside them.
const FIRST_MAJOR: u32 = 2;

/// Fields that nobody here needs are ignored: every release adds some.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Description {
    pub name: String,
    #[serde(default)]
    pub opid: String,
    /// `logical`, `physical`, `incremental`, `external`.
    #[serde(default, rename = "type")]
    pub kind: String,
    /// The backup that it is an increment of.
    #[serde(default)]
    src_backup: Option<String>,
    /// The namespaces of a selective backup.
    #[serde(default)]
    nss: Option<Vec<String>>,
    #[serde(default)]
    replsets: Option<Vec<ReplicaSet>>,
    #[serde(default)]
    pub compression: String,
    #[serde(default)]
    pub mongodb_version: String,
    #[serde(default)]
    pub fcv: String,
    #[serde(default)]
    pub pbm_version: String,
    /// Seconds since 1970.
    #[serde(default)]
    pub start_ts: i64,
    #[serde(default)]
    last_write_ts: Option<Position>,
    /// Bytes as stored, and before they were compressed.
    #[serde(default)]
    pub size: i64,
    #[serde(default)]
    pub size_uncompressed: i64,
    #[serde(default)]
    pub last_transition_ts: i64,
    #[serde(default)]
    pub status: String,
    #[serde(default)]
    pub error: Option<String>,
}

/// What one replica set put into a backup.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct ReplicaSet {
    pub name: String,
    /// `<backup>/<set>/metadata.json`, from the root of PBM's storage.
    #[serde(default, rename = "backup_name")]
    pub dump_name: String,
    /// A folder of chunks; before 2.4 one object.
    #[serde(default)]
    pub oplog_name: String,
    #[serde(default)]
    pub node: String,
    #[serde(default)]
    iscs: Option<bool>,
    /// Bytes as stored.
    #[serde(default)]
    pub size: i64,
    first_write_ts: Position,
    last_write_ts: Position,
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
struct Position {
    #[serde(rename = "T")]
    t: u32,
    #[serde(rename = "I")]
    i: u32,
}

impl ReplicaSet {
    pub fn is_config_server(&self) -> bool {
        self.iscs == Some(true)
    }

    /// From where its oplog is stored: no later than the first document was read.
    pub fn first_write(&self) -> Timestamp {
        Timestamp::new(self.first_write_ts.t, self.first_write_ts.i)
    }

    /// Up to where: the moment of the backup.
    pub fn last_write(&self) -> Timestamp {
        Timestamp::new(self.last_write_ts.t, self.last_write_ts.i)
    }
}

impl Description {
    /// `place` names it in errors; `name` is what its file is called.
    ///
    /// Errors: `Corrupt` when it is none, or is of another backup.
    pub fn parse(place: &str, name: &str, bytes: &[u8]) -> Result<Self> {
        let corrupt = |why: String| {
            Error::new(ErrorKind::Corrupt, format!("{} is no description of a PBM backup: {why}", escape(place)))
        };
        let found: Self = serde_json::from_slice(bytes).map_err(|e| corrupt(escape(&e.to_string())))?;
        if found.name != name {
            return Err(corrupt(format!("it is that of {}", escape(&found.name))));
        }
        Ok(found)
    }

    /// The moment of the backup, of all its replica sets; `None` for one that is not done.
    pub fn last_write(&self) -> Option<Timestamp> {
        self.last_write_ts.map(|position| Timestamp::new(position.t, position.i))
    }

    /// The backup that it is an increment of.
    pub fn source(&self) -> Option<&str> {
        self.src_backup.as_deref().filter(|name| !name.is_empty())
    }

    /// The namespaces of a selective backup; empty for one of everything.
    pub fn namespaces(&self) -> &[String] {
        let all = |nss: &[String]| nss.iter().all(|ns| ns.is_empty() || ns == "*.*");
        self.nss.as_deref().filter(|nss| !all(nss)).unwrap_or_default()
    }

    /// The one replica set whose documents it holds, when that is something that can be restored from it here.
    ///
    /// Errors: `Unsupported`, saying why not and what to do.
    pub fn restorable(&self) -> Result<&ReplicaSet> {
        let name = escape(&self.name);
        let refused = |why: String, hint: &str| {
            Err(Error::new(ErrorKind::Unsupported, format!("the PBM backup {name} {why}")).hint(hint))
        };
        const WITH_PBM: &str = "restore it with pbm restore, into the cluster that PBM manages";
        let version = escape(&self.pbm_version);
        match self.pbm_version.trim_start_matches('v').split('.').next().and_then(|major| major.parse::<u32>().ok()) {
            Some(major) if major >= FIRST_MAJOR => {}
            Some(_) => {
                let why = format!("was made by PBM {version}, whose layout is older than that of 2.0");
                return refused(why, "restore it with a PBM of that version, and make a new backup");
            }
            None => return refused("does not say which version of PBM made it".into(), WITH_PBM),
        }
        if self.status != "done" {
            let error = self.error.as_deref().map_or_else(String::new, |e| format!(" ({})", escape(e)));
            let status = escape(&self.status);
            return refused(format!("is not complete: its status is {status}{error}"), "choose one that is done");
        }
        if self.kind != "logical" {
            let kind = escape(&self.kind);
            return refused(format!("is of type {kind}: only logical ones hold documents"), WITH_PBM);
        }
        if self.encoded().is_none() {
            let compression = escape(&self.compression);
            return refused(format!("is compressed with {compression}, which this version does not know"), WITH_PBM);
        }
        let sets = self.sets();
        let [set] = sets else {
            let why = match sets.len() {
                0 => "names no replica set".to_owned(),
                n => format!("is of a sharded cluster ({n} replica sets)"),
            };
            return refused(why, WITH_PBM);
        };
        if set.is_config_server() {
            return refused("is of the config servers of a sharded cluster".into(), WITH_PBM);
        }
        if !set.dump_name.ends_with("/metadata.json") {
            return refused("has another layout than that of PBM 2.0".into(), WITH_PBM);
        }
        if set.first_write() > set.last_write() || set.first_write().t <= 1 {
            return refused("does not say which part of the oplog it holds".into(), WITH_PBM);
        }
        Ok(set)
    }

    pub fn sets(&self) -> &[ReplicaSet] {
        self.replsets.as_deref().unwrap_or_default()
    }

    /// Whether PBM restores it, although nobody else may be able to.
    pub fn is_whole(&self) -> bool {
        let major = self.pbm_version.trim_start_matches('v').split('.').next().and_then(|major| major.parse().ok());
        major.is_some_and(|major: u32| major >= FIRST_MAJOR)
            && self.status == "done"
            && ["logical", "physical", super::INCREMENTAL].contains(&self.kind.as_str())
            && self.compression_word().is_some()
            && self.last_write().is_some()
            && !self.sets().is_empty()
    }

    /// How its objects are compressed; `None`: in a way that is not known here.
    pub fn encoded(&self) -> Option<Encoded> {
        Some(self.compression_word()?.map_or(Encoded::Plain, Encoded::from))
    }

    /// What PBM calls the compression; `Some(None)` for none at all.
    #[allow(clippy::option_option)]
    pub fn compression_word(&self) -> Option<Option<ForeignCompression>> {
        match self.compression.as_str() {
            "none" | "" => Some(None),
            word => word.parse().ok().map(Some),
        }
    }
}

/// What PBM says of one backup of a large cluster is smaller than this.
const DESCRIPTION_LIMIT: usize = 64 << 20;

/// What PBM says of the backup at `root`.
///
/// Errors: `NotFound` when there is none; `Corrupt`; what the storage reports.
pub async fn describe(storage: &dyn Storage, root: &BackupRoot) -> Result<Description> {
    let key = root.manifest()?;
    let bytes = storage::read_all(storage, &key, DESCRIPTION_LIMIT).await?;
    Description::parse(&format!("{}/{key}", storage.place()), root.key().file_name(), &bytes)
}

/// What the names of compressed objects end in.
pub fn suffix(encoded: Encoded) -> &'static str {
    match encoded {
        Encoded::Plain => "",
        Encoded::Zstd => ".zst",
        Encoded::Gzip => ".gz",
        Encoded::Lz4 => ".lz4",
        Encoded::Snappy => ".snappy",
        Encoded::S2 => ".s2",
    }
}

/// The other way round: `None` for an ending that PBM does not use.
pub fn encoded_by(ending: &str) -> Option<Encoded> {
    let all = [Encoded::Plain, Encoded::Zstd, Encoded::Gzip, Encoded::Lz4, Encoded::Snappy, Encoded::S2];
    all.into_iter().find(|encoded| suffix(*encoded) == ending)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn described() -> Value {
        json!({
            "type": "logical", "opid": "6b0c", "name": "2026-11-29T21:05:15Z", "compression": "s2", "status": "done",
            "replsets": [{
                "name": "rs0", "backup_name": "2026-11-29T21:05:15Z/rs0/metadata.json",
                "oplog_name": "2026-11-29T21:05:15Z/rs0/oplog", "node": "h:1", "status": "done",
                "first_write_ts": {"T": 100, "I": 4}, "last_write_ts": {"T": 110, "I": 1}
            }],
            "mongodb_version": "6.0.5", "fcv": "6.0", "pbm_version": "2.15.0", "start_ts": 99,
            "last_transition_ts": 120, "from a later version": {"x": [1]}
        })
    }

    fn with(changes: Value) -> Description {
        let mut value = described();
        for (key, changed) in changes.as_object().unwrap() {
            value[key] = changed.clone();
        }
        Description::parse("x", value["name"].as_str().unwrap(), value.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn a_logical_backup_of_one_replica_set_is_taken() {
        for compression in ["none", "gzip", "pgzip", "snappy", "lz4", "s2", "zstd"] {
            assert!(with(json!({"compression": compression})).restorable().is_ok(), "{compression}");
        }
        let found = with(json!({"nss": ["shop.*"], "pbm_version": "v2.0.1"}));
        assert_eq!(found.restorable().unwrap().last_write(), Timestamp::new(110, 1));
        assert_eq!(found.namespaces(), ["shop.*"]);
        for everything in [json!(null), json!([]), json!([""]), json!(["*.*"])] {
            assert!(with(json!({"nss": everything})).namespaces().is_empty());
        }
    }

    #[test]
    fn anything_else_is_refused_with_its_reason() {
        let set = described()["replsets"][0].clone();
        let config = {
            let mut set = set.clone();
            set["iscs"] = json!(true);
            set
        };
        let old = {
            let mut set = set.clone();
            set["backup_name"] = json!("2021-01-01T00:00:00Z_rs0.dump.s2");
            set
        };
        for (changes, why) in [
            (json!({"pbm_version": "1.8.1"}), "PBM 1.8.1, whose layout is older than that of 2.0"),
            (json!({"pbm_version": ""}), "does not say which version"),
            (json!({"status": "error", "error": "lost\u{1b}[0m"}), "status is error (lost\\u{1b}[0m)"),
            (json!({"status": "running"}), "status is running"),
            (json!({"type": "physical"}), "of type physical"),
            (json!({"type": "incremental"}), "of type incremental"),
            (json!({"type": "external"}), "of type external"),
            (json!({"compression": "brotli"}), "compressed with brotli"),
            (json!({"replsets": [set, set]}), "sharded cluster (2 replica sets)"),
            (json!({"replsets": null}), "names no replica set"),
            (json!({"replsets": [config]}), "config servers"),
            (json!({"replsets": [old]}), "another layout"),
        ] {
            let found = with(changes);
            let by_pbm =
                ["of type physical", "of type incremental", "sharded cluster", "config servers", "another layout"];
            // Those of the description lack the moment of the whole.
            let whole = Description { last_write_ts: Some(Position { t: 110, i: 1 }), ..found.clone() };
            assert_eq!(whole.is_whole(), by_pbm.iter().any(|by_pbm| why.contains(by_pbm)), "{why}");
            assert!(!found.is_whole(), "{why}");
            let error = found.restorable().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.full().contains(why), "{error}, not: {why}");
            assert!(error.hint_text().is_some());
        }
        for bytes in [&b"{"[..], b"[]", b"{}", b"{\"name\": \"other\"}"] {
            assert_eq!(Description::parse("x", "n", bytes).unwrap_err().kind(), ErrorKind::Corrupt);
        }
    }
}
