//! The configuration of PBM that a service needs, and how it differs from the one that is there.
//!
//! Secrets stand apart from the rest, which shows `***` in their place, as PBM does. So nothing here can print one, and what
//! was read back, where `***` means that a secret is set, is never taken for a value.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use zeroize::Zeroize;

use super::setting_paths::{Path, dotted, flattened, remove, set, value_at};
use super::storage_section::{HIDDEN, StorageSection};
use crate::domain::backup::Compression;
use crate::domain::secret::Secret;
use crate::domain::storage::StorageConfig;
use crate::error::{Error, ErrorKind, Result};

/// What a service says about its PBM. `None` leaves a setting to whoever made it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wishes {
    pub pitr: PitrWishes,
    pub backup: BackupWishes,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct PitrWishes {
    pub enabled: bool,
    /// Minutes that a chunk of the oplog spans.
    pub span_minutes: Option<f64>,
    /// `None`: that of backups, if one is given.
    pub compression: Option<Compression>,
    /// By `host:port`. PBM counts every node that is not named as 1 once there is one.
    pub priority: Option<BTreeMap<String, f64>>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct BackupWishes {
    pub compression: Option<Compression>,
    /// Seconds that PBM waits until every replica set has begun.
    pub starting_timeout: Option<u32>,
    pub parallel_collections: Option<u32>,
    pub priority: Option<BTreeMap<String, f64>>,
}

/// A configuration of PBM.
#[derive(Debug, Clone)]
pub struct Configuration {
    /// With [`HIDDEN`] in the place of secrets.
    shown: Map<String, Value>,
    secrets: BTreeMap<Path, Secret>,
    /// Paths that are decided by us, set or not.
    owned: Vec<Path>,
    defaults: BTreeMap<Path, String>,
    /// Ours, and never given back: what PBM has there is not known.
    unread: Vec<Path>,
    notes: Vec<String>,
}

/// A setting that is another one than ours. `None`: it is not set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// `storage.s3.bucket`, `backup.priority["h:27017"]`.
    pub key: String,
    pub ours: Option<String>,
    pub theirs: Option<String>,
}

impl Configuration {
    /// For backups in `folder` of `storage`.
    ///
    /// Errors: `Unsupported` for what PBM cannot be told about, `Invalid` for a value that it does not take.
    pub fn new(storage: &StorageConfig, folder: &str, wishes: &Wishes) -> Result<Self> {
        let section = StorageSection::of(storage, folder)?;
        let of_section = |path: &[String]| -> Path {
            let before = ["storage", section.kind].map(str::to_owned);
            before.into_iter().chain(path.iter().cloned()).collect()
        };
        let split = |dotted: &str| of_section(&dotted.split('.').map(str::to_owned).collect::<Vec<_>>());
        let mut new = Self {
            shown: Map::new(),
            secrets: section.secrets.iter().map(|(path, secret)| (of_section(path), secret.clone())).collect(),
            owned: section.owned.iter().map(|key| split(key)).collect(),
            defaults: section.defaults.iter().map(|(key, value)| (split(key), (*value).to_owned())).collect(),
            unread: section.unread.iter().map(|key| split(key)).collect(),
            notes: section.notes.clone(),
        };
        let storage = json!({"type": section.kind, section.kind: section.settings});
        new.shown.insert("storage".into(), storage);
        new.owned.push(vec!["storage".into(), "type".into()]);
        new.wish(&["pitr", "enabled"], Some(wishes.pitr.enabled.into()));
        new.wish(&["pitr", "oplogSpanMin"], wishes.pitr.span_minutes.map(positive("pitr.oplogSpanMin")).transpose()?);
        // PBM itself takes that of backups, and shows it as if it were set.
        new.wish_compression("pitr", wishes.pitr.compression.or(wishes.backup.compression));
        new.wish(&["pitr", "priority"], wishes.pitr.priority.as_ref().map(priorities).transpose()?);
        let backup = &wishes.backup;
        new.wish_compression("backup", backup.compression);
        new.wish(&["backup", "timeouts", "startingStatus"], backup.starting_timeout.map(Value::from));
        new.wish(&["backup", "numParallelCollections"], backup.parallel_collections.map(Value::from));
        new.wish(&["backup", "priority"], backup.priority.as_ref().map(priorities).transpose()?);
        Ok(new)
    }

    fn wish(&mut self, path: &[&str], value: Option<Value>) {
        let Some(value) = value else { return };
        let path: Path = path.iter().map(|key| (*key).to_owned()).collect();
        set(&mut self.shown, &path, value);
        self.owned.push(path);
    }

    fn wish_compression(&mut self, section: &str, compression: Option<Compression>) {
        let (word, level) = match compression {
            None => return,
            Some(Compression::Zstd(level)) => ("zstd", Some(Value::from(level))),
            Some(Compression::Gzip(level)) => ("gzip", Some(Value::from(level))),
            Some(Compression::Foreign(word)) => (word.word(), None),
            Some(Compression::None) => ("none", None),
        };
        self.wish(&[section, "compression"], Some(word.into()));
        self.wish(&[section, "compressionLevel"], level);
        if compression == Some(Compression::None) {
            // A level that somebody set for another compression goes with it.
            self.owned.push(vec![section.to_owned(), "compressionLevel".to_owned()]);
        }
    }

    /// As JSON, secrets as `***`.
    pub fn shown(&self) -> &Map<String, Value> {
        &self.shown
    }

    /// What people must see to, because PBM cannot be told.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    pub(super) fn secrets(&self) -> impl Iterator<Item = &Secret> {
        self.secrets.values()
    }

    /// The whole as JSON, which is YAML too, with its secrets.
    ///
    /// Errors: `Internal`.
    pub(super) fn exposed(&self) -> Result<Secret> {
        let mut whole = self.shown.clone();
        for (path, secret) in &self.secrets {
            set(&mut whole, path, secret.expose().into());
        }
        let text = serde_json::to_string(&whole);
        for path in self.secrets.keys() {
            if let Some(Value::String(mut secret)) = remove(&mut whole, path) {
                secret.zeroize();
            }
        }
        let text = text.map_err(|e| Error::new(ErrorKind::Internal, "writing a configuration of PBM").source(e))?;
        Ok(Secret::new(text))
    }

    /// Tells two configurations of ours apart, a changed secret included; what is recorded of the oplog does not count. `key` is a secret of this home, so that nobody who
    /// reads the fingerprint can try secrets against it. It says nothing about the configuration that PBM has: compare that
    /// with [`Configuration::differences`].
    pub fn fingerprint(&self, key: &[u8; 32]) -> String {
        let mut hasher = blake3::Hasher::new_keyed(key);
        let secrets = self.secrets.iter().map(|(path, secret)| (path.clone(), ("secret", secret.clone())));
        let mut leaves: BTreeMap<Path, (&str, Secret)> = secrets.collect();
        // Whether the oplog is recorded changes often, and what PBM says of it is no secret: differences show it.
        for (path, value) in flattened(&self.shown).filter(|(path, _)| path.first().is_none_or(|first| first != "pitr"))
        {
            leaves.entry(path).or_insert_with(|| ("value", Secret::new(value.to_string())));
        }
        for (path, (what, value)) in &leaves {
            // Lengths between them, so that no two configurations run together to the same bytes.
            for part in path.iter().map(String::as_str).chain([*what, value.expose()]) {
                hasher.update(&(part.len() as u64).to_le_bytes());
                hasher.update(part.as_bytes());
            }
            hasher.update(&u64::MAX.to_le_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }

    /// What in the configuration that PBM has (`pbm config -o json`) is another one than ours. A secret counts as set or not
    /// set; its value is not known. What PBM never gives back is no difference. Settings that are not ours are none either, see
    /// [`Configuration::kept`].
    pub fn differences(&self, read_back: &Value) -> Vec<Difference> {
        let ours: BTreeMap<Path, Value> = flattened(&self.shown).collect();
        let theirs: BTreeMap<Path, Value> = read_back.as_object().map(flattened).into_iter().flatten().collect();
        let is_readable = |path: &&Path| !self.unread.iter().any(|unread| path.starts_with(unread));
        let ours_of = |path: &&Path| self.is_ours(path) && is_readable(path);
        let mut paths: Vec<&Path> = ours.keys().chain(theirs.keys()).filter(ours_of).collect();
        paths.sort();
        paths.dedup();
        let said =
            |value: Option<&Value>| value.map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        let mut out = Vec::new();
        for path in paths {
            let (our, their) = (said(ours.get(path)), said(theirs.get(path)));
            let filled = |text: &Option<String>| text.clone().or_else(|| self.defaults.get(path).cloned());
            let is_nothing = |text: &Option<String>| text.as_deref().is_none_or(|t| ["", "false", "0"].contains(&t));
            let (a, b) = (filled(&our), filled(&their));
            let same_number = match (ours.get(path).and_then(Value::as_f64), theirs.get(path).and_then(Value::as_f64)) {
                (Some(a), Some(b)) => a == b,
                _ => false,
            };
            if a == b || same_number || (is_nothing(&a) && is_nothing(&b)) {
                continue;
            }
            out.push(Difference { key: dotted(path), ours: our, theirs: their });
        }
        out
    }

    /// Settings that somebody else made, PBM's own defaults included, and that are kept: their keys and values, secrets as
    /// `***`.
    pub fn kept(&self, read_back: &Value) -> Vec<(String, String)> {
        let theirs = read_back.as_object().map(flattened).into_iter().flatten();
        let foreign = theirs.filter(|(path, _)| !self.is_ours(path));
        foreign
            .map(|(path, value)| (dotted(&path), value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
            .collect()
    }

    /// Ours in the place of what is ours, and what somebody else set: PBM replaces its whole configuration by the one that is
    /// written.
    ///
    /// Errors: `Conflict`, naming it, for a secret of somebody else, which PBM does not give back and so would be lost.
    pub fn merged(&self, read_back: &Value) -> Result<Self> {
        let mut merged = self.clone();
        let theirs = read_back.as_object().map(flattened).into_iter().flatten();
        for (path, value) in theirs.filter(|(path, _)| !self.is_ours(path)) {
            if value == HIDDEN {
                let what = format!("{} is a secret that somebody else set, and writing would lose it", dotted(&path));
                let hint =
                    "PBM does not give it back: remove it from the configuration of PBM, or choose another storage";
                return Err(Error::new(ErrorKind::Conflict, what).hint(hint));
            }
            if value_at(&merged.shown, &path).is_none() {
                set(&mut merged.shown, &path, value);
            }
        }
        Ok(merged)
    }

    /// Whether we decide about `path`: what is listed, what lies below it, and the sections of other types of storage.
    fn is_ours(&self, path: &[String]) -> bool {
        let kind = value_at(&self.shown, &["storage".to_owned(), "type".to_owned()]).and_then(Value::as_str);
        let of_another_type =
            path.len() >= 2 && path[0] == "storage" && path[1] != "type" && Some(path[1].as_str()) != kind;
        of_another_type || self.owned.iter().any(|owned| path.starts_with(owned))
    }
}

fn positive(key: &'static str) -> impl Fn(f64) -> Result<Value> {
    move |number| match number.is_finite() && number > 0.0 {
        true => Ok(json!(number)),
        false => Err(Error::invalid(key, "must be greater than 0")),
    }
}

fn priorities(priority: &BTreeMap<String, f64>) -> Result<Value> {
    let entries = priority.iter().map(|(node, value)| Ok((node.clone(), positive("priority")(*value)?)));
    Ok(Value::Object(entries.collect::<Result<_>>()?))
}

#[cfg(test)]
mod tests;
