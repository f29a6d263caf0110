//! `config.toml`: what a person chose, over the defaults of [`SETTING_FIELDS`].
//!
//! The file belongs to the person: comments and order survive a change made by a command. A value of the wrong form is
//! an error that names file, line and key, never a silent default; a key nobody knows is a warning, because it may
//! belong to a newer version.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml_edit::{DocumentMut, Item, Table, Value};

use super::Home;
use crate::domain::backup::Compression;
use crate::domain::bandwidth::BandwidthLimit;
use crate::domain::command_line;
use crate::domain::field::{Field, FieldKind};
use crate::domain::fields::SETTING_FIELDS;
use crate::domain::notification::{Event, parse_events};
use crate::domain::retry::parse_duration;
use crate::domain::text::escape;
use crate::domain::warning::{StaleAfter, parse_stale_services};
use crate::error::{Error, ErrorKind, Result, own_io};

/// The settings as they are in the file, checked.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    values: Vec<(&'static str, String)>,
    /// Keys in the file that this version does not know, as sentences.
    pub warnings: Vec<String>,
}

/// Who is told what.
#[derive(Debug, Clone, Default)]
pub struct Notify {
    /// The program and its arguments; empty: none.
    pub command: Vec<String>,
    pub webhook_url: Option<String>,
    pub webhook_secret_file: Option<PathBuf>,
    pub on: BTreeSet<Event>,
    pub stale_after: StaleAfter,
    /// 0: never.
    pub storage_full_percent: u64,
    /// How long recording an oplog may stand still, or be behind besides the length of a slice. `None`: for ever.
    pub pitr_after: Option<Duration>,
}

impl Settings {
    /// Reads and checks the file; without one, everything has its default.
    ///
    /// Errors: `Invalid` with file, line and key.
    pub fn load(home: &Home) -> Result<Self> {
        let path = home.settings_file();
        match fs::read_to_string(&path) {
            Ok(text) => Self::parse(&path, &text),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(own_io(format!("reading {}", path.display()), e)),
        }
    }

    /// Checks the text of a settings file; `path` names it in errors.
    pub fn parse(path: &Path, text: &str) -> Result<Self> {
        let document = toml_edit::Document::parse(text).map_err(|e| {
            let line = e.span().map_or(1, |span| line_of(text, span.start));
            Error::new(
                ErrorKind::Invalid,
                format!("{}:{line}: not TOML: {}", path.display(), escape(e.message().trim())),
            )
        })?;
        let mut settings = Self::default();
        let place = |item: &Item| {
            let line = item.span().map_or(1, |span| line_of(text, span.start));
            format!("{}:{line}", path.display())
        };
        settings.read_table("", document.as_table(), &place)?;
        Ok(settings)
    }

    fn read_table(&mut self, prefix: &str, table: &Table, place: &dyn Fn(&Item) -> String) -> Result<()> {
        for (name, item) in table.iter() {
            let key = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") };
            if let Some(field) = field(&key) {
                let text = text_of(field, item)
                    .map_err(|why| Error::new(ErrorKind::Invalid, format!("{}: {key}: {why}", place(item))))?;
                self.values.push((field.key, text));
            } else if let Some(table) = item.as_table() {
                self.read_table(&key, table, place)?;
            } else if let Some(inline) = item.as_inline_table() {
                self.read_table(&key, &inline.clone().into_table(), place)?;
            } else {
                self.warnings.push(format!("{}: unknown setting {}", place(item), escape(&key)));
            }
        }
        Ok(())
    }

    /// The text of a setting, or its default.
    ///
    /// Errors: `NotFound` for a key that does not exist.
    pub fn get(&self, key: &str) -> Result<String> {
        let field = known(key)?;
        Ok(self.text(field.key))
    }

    /// All settings with their present values, in the order of the documentation.
    pub fn all(&self) -> Vec<(String, String)> {
        SETTING_FIELDS.iter().map(|f| (f.key.to_owned(), self.text(f.key))).collect()
    }

    /// Those that stand in the file, in the order of the documentation.
    pub fn chosen(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let of_file = |field: &&Field| self.values.iter().find(|(key, _)| *key == field.key);
        SETTING_FIELDS.iter().filter_map(move |field| of_file(&field).map(|(key, text)| (*key, text.as_str())))
    }

    fn text(&self, key: &str) -> String {
        let chosen = self.values.iter().find(|(k, _)| *k == key).map(|(_, text)| text.clone());
        chosen.unwrap_or_else(|| field(key).map_or_else(String::new, |f| f.default.to_owned()))
    }

    fn number(&self, key: &str) -> u64 {
        // Checked when it was read; the defaults are checked by a test.
        self.text(key).parse().unwrap_or_default()
    }

    /// Whether anything may start a backup.
    pub fn backup_enabled(&self) -> bool {
        self.text("backup.enabled") == "true"
    }

    pub fn compression(&self) -> Compression {
        self.text("backup.compression").parse().unwrap_or_default()
    }

    pub fn parallel_collections(&self) -> usize {
        self.number("backup.parallel_collections") as usize
    }

    /// How long a job tries again to reach a storage that is away.
    pub fn storage_wait(&self) -> Duration {
        // Checked when it was read.
        parse_duration(&self.text("backup.storage_wait")).unwrap_or_default()
    }

    /// Parts of one job that are on their way to a remote storage, or from it, at once, at most.
    pub fn parallel_parts(&self) -> usize {
        self.number("backup.parallel_parts") as usize
    }

    /// How many bytes per second may be stored, by the hours of [`Settings::zone`].
    pub fn bandwidth_limit(&self) -> BandwidthLimit {
        // Checked when it was read; the default is checked by a test.
        BandwidthLimit::parse(&self.text("backup.bandwidth_limit"), self.zone())
            .unwrap_or_else(|_| BandwidthLimit::none())
    }

    /// Whether all that was stored is read back before it counts.
    pub fn read_back(&self) -> bool {
        self.text("backup.read_back") == "true"
    }

    pub fn split_bytes(&self) -> u64 {
        self.number("backup.split_bytes")
    }

    pub fn concurrency(&self) -> usize {
        self.number("jobs.concurrency") as usize
    }

    /// The zone in which times are shown and typed, unless another one is given.
    pub fn zone(&self) -> chrono_tz::Tz {
        // `local` is no name of a zone.
        self.text("ui.timezone").parse().unwrap_or_else(|_| super::machine_zone())
    }

    /// How long a slice of the oplog is at most.
    pub fn slice_length(&self) -> Duration {
        Duration::from_secs(self.number("pitr.slice_seconds"))
    }

    /// `HH:MM-HH:MM`, for services without their own.
    pub fn production_hours(&self) -> Option<String> {
        Some(self.text("production_hours")).filter(|hours| !hours.is_empty())
    }

    /// What opens encrypted backups, where nothing else is named.
    pub fn identity_file(&self) -> Option<PathBuf> {
        Some(self.text(IDENTITY_FILE)).filter(|text| !text.is_empty()).map(PathBuf::from)
    }

    /// The storage that keeps a copy of what a person decided.
    pub fn state_storage(&self) -> Option<String> {
        Some(self.text(STATE_STORAGE)).filter(|name| !name.is_empty())
    }

    /// The program `pbm`, if not the one on the search path.
    pub fn pbm(&self) -> Option<PathBuf> {
        Some(self.text("pbm.path")).filter(|text| !text.is_empty()).map(PathBuf::from)
    }

    /// Where metrics go, if not to their usual place.
    pub fn metrics_file(&self) -> Option<PathBuf> {
        Some(self.text("metrics.file")).filter(|text| !text.is_empty()).map(PathBuf::from)
    }

    pub fn notify(&self) -> Notify {
        let some = |key: &str| Some(self.text(key)).filter(|text| !text.is_empty());
        // All of them were checked when they were read.
        Notify {
            command: some("notify.command").and_then(|text| command_line::words(&text).ok()).unwrap_or_default(),
            webhook_url: some("notify.webhook_url"),
            webhook_secret_file: some("notify.webhook_secret_file").map(PathBuf::from),
            on: parse_events(&self.text("notify.on")).unwrap_or_default(),
            stale_after: StaleAfter {
                hours: self.number("notify.stale_hours"),
                of_service: parse_stale_services(&self.text("notify.stale_services")).unwrap_or_default(),
            },
            storage_full_percent: self.number("notify.storage_full_percent"),
            pitr_after: Some(Duration::from_secs(self.number("notify.pitr_seconds"))).filter(|d| !d.is_zero()),
        }
    }

    /// Changes one setting in the file, keeping comments and order. The file is replaced as a whole or not at all.
    ///
    /// Errors: `NotFound` for an unknown key, `Invalid` for a value that cannot be.
    pub fn set(home: &Home, key: &str, value: &str) -> Result<()> {
        let field = known(key)?;
        field.validate(value).map_err(|why| Error::invalid(key, why))?;
        if key == IDENTITY_FILE && !value.is_empty() && !fs::metadata(value).is_ok_and(|file| file.is_file()) {
            return Err(Error::invalid(key, format!("{} is no file that is there", escape(value))));
        }
        home.create()?;
        // Two commands at once must not lose each other's change. The lock ends with the handle.
        let folder = fs::File::open(&home.config).map_err(|e| own_io(home.config.display(), e))?;
        folder.lock().map_err(|e| own_io(format!("locking {}", home.config.display()), e))?;
        let path = target(&home.settings_file());
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(own_io(format!("reading {}", path.display()), e)),
        };
        let mut document: DocumentMut = text.parse().map_err(|e: toml_edit::TomlError| {
            Error::new(ErrorKind::Invalid, format!("{}: not TOML: {}", path.display(), escape(e.message().trim())))
                .hint("mend the file by hand first")
        })?;
        put(document.as_table_mut(), key, value_of(field, value))
            .map_err(|why| Error::new(ErrorKind::Invalid, format!("{}: {key}: {why}", path.display())))?;
        write_whole(&path, document.to_string().as_bytes())
    }
}

/// Where the copy of the store goes.
pub const STATE_STORAGE: &str = "state.backup_storage";

/// Where an identity is; it must be there when it is set, because it is missed only when a backup is needed.
const IDENTITY_FILE: &str = "encryption.identity_file";

fn field(key: &str) -> Option<&'static Field> {
    SETTING_FIELDS.iter().find(|f| f.key == key)
}

fn known(key: &str) -> Result<&'static Field> {
    field(key).ok_or_else(|| Error::not_found("setting", escape(key)).hint("mongokeep settings get lists all of them"))
}

fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes()[..at.min(text.len())].iter().filter(|b| **b == b'\n').count() + 1
}

fn text_of(field: &Field, item: &Item) -> std::result::Result<String, String> {
    let text = match (field.kind, item) {
        (FieldKind::Bool, item) => item.as_bool().ok_or("must be true or false, without quotes")?.to_string(),
        (FieldKind::Integer(..), item) => {
            item.as_integer().ok_or("must be a whole number, without quotes")?.to_string()
        }
        (FieldKind::NumberOrText, item) => match (item.as_integer(), item.as_str()) {
            (Some(number), _) => number.to_string(),
            (None, Some(text)) => text.to_owned(),
            (None, None) => return Err("must be a whole number, or a text in quotes".into()),
        },
        (_, item) => item.as_str().ok_or("must be a text in quotes")?.to_owned(),
    };
    field.validate(&text)?;
    Ok(text)
}

fn value_of(field: &Field, text: &str) -> Value {
    match field.kind {
        FieldKind::Bool => Value::from(text == "true"),
        // Checked to be in range, which ends at i64::MAX.
        FieldKind::Integer(..) => Value::from(text.parse::<i64>().unwrap_or_default()),
        FieldKind::NumberOrText => text.parse::<i64>().map_or_else(|_| Value::from(text), Value::from),
        _ => Value::from(text),
    }
}

/// Puts `value` at the dotted `key`, keeping the comments around a value that is replaced.
fn put(table: &mut Table, key: &str, mut value: Value) -> std::result::Result<(), String> {
    // A key that somebody wrote in quotes as a whole (`"backup.enabled" = true`) is another key; it stays and warns.
    let Some((head, rest)) = key.split_once('.') else {
        if let Some(old) = table.get(key).and_then(Item::as_value) {
            *value.decor_mut() = old.decor().clone();
        }
        // The key's own decor (the comment above) stays when the value alone is replaced.
        if let Some(item) = table.get_mut(key) {
            *item = Item::Value(value);
        } else {
            table.insert(key, Item::Value(value));
        }
        return Ok(());
    };
    let item = table.entry(head).or_insert_with(|| Item::Table(Table::new()));
    if let Some(inline) = item.as_inline_table().cloned() {
        *item = Item::Table(inline.into_table());
    }
    let inner = item.as_table_mut().ok_or_else(|| format!("{head} is a value there, not a table"))?;
    put(inner, rest, value)
}

/// Where a link points to, so that a file kept elsewhere (dotfiles) is changed and not replaced by a copy.
fn target(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = path.with_extension(format!("toml.{}", std::process::id()));
    let write = || -> std::io::Result<()> {
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    write().map_err(|e| {
        let _ = fs::remove_file(&temporary);
        own_io(format!("writing {}", path.display()), e)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Settings> {
        Settings::parse(Path::new("config.toml"), text)
    }

    #[test]
    fn a_wrong_value_names_file_line_and_key() {
        let cases = [
            ("[jobs]\n\nconcurrency = 0\n", "config.toml:3: jobs.concurrency"),
            ("backup.enabled = \"yes\"", "config.toml:1: backup.enabled"),
            ("[backup]\ncompression = 'lz4'", "config.toml:2: backup.compression"),
            ("a = \n[", "config.toml:1: not TOML"),
            ("ui = { theme = 3 }", "config.toml:1: ui.theme"),
        ];
        for (text, place) in cases {
            let error = parse(text).unwrap_err();
            assert!(error.full().starts_with(place), "{error}");
            assert_eq!(error.kind(), ErrorKind::Invalid);
        }
    }

    #[test]
    fn unknown_keys_warn_and_the_rest_has_its_default() {
        let settings = parse("[backup]\nenabled = false\ncolour = 1\n[new]\nx = 1\n").unwrap();
        assert!(!settings.backup_enabled());
        assert_eq!(settings.concurrency(), 2);
        assert_eq!(settings.bandwidth_limit().now(), None);
        assert_eq!((settings.storage_wait(), settings.parallel_parts()), (Duration::from_secs(300), 16));
        assert_eq!(
            settings.warnings,
            ["config.toml:3: unknown setting backup.colour", "config.toml:5: unknown setting new.x"]
        );
        assert_eq!(settings.get("backup.bogus").unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(settings.get("notify.bogus").unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn a_change_keeps_comments_and_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::below(&dir.path().join("home"));
        home.create().unwrap();
        let real = dir.path().join("dotfiles.toml");
        fs::write(&real, "# mine\n[backup]\n# why\nenabled = true # yes\nother = 1\n").unwrap();
        std::os::unix::fs::symlink(&real, home.settings_file()).unwrap();
        Settings::set(&home, "backup.enabled", "false").unwrap();
        Settings::set(&home, "jobs.concurrency", "7").unwrap();
        Settings::set(&home, "production_hours", "08:00-18:00").unwrap();
        let text = fs::read_to_string(&real).unwrap();
        for kept in ["# mine", "# why", "enabled = false # yes", "other = 1", "concurrency = 7"] {
            assert!(text.contains(kept), "{kept}: {text}");
        }
        let settings = Settings::load(&home).unwrap();
        assert_eq!(settings.concurrency(), 7);
        assert_eq!(settings.get("production_hours").unwrap(), "08:00-18:00");
        assert!(fs::symlink_metadata(home.settings_file()).unwrap().is_symlink());
        assert_eq!(Settings::set(&home, "jobs.concurrency", "0").unwrap_err().kind(), ErrorKind::Invalid);
        assert_eq!(Settings::set(&home, "jobs.x", "0").unwrap_err().kind(), ErrorKind::NotFound);
    }
}
