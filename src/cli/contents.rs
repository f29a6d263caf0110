//! What a backup holds: its selection, its collections, and what is not in it.
//!
//! The catalogue does not know; the manifest in the storage does. A storage that is away takes only this part of what is
//! shown with it.

use std::time::Duration;

use serde::Serialize;

use super::context::Context;
use super::table::{Column, Table};
use crate::client::{Client, Contents, HeldFiles, HeldNamespace};
use crate::domain::backup::{Backup, BackupState};
use crate::domain::chain;
use crate::domain::encryption::Recipient;
use crate::domain::namespace::Selection;
use crate::domain::restore::{CollectionKind, LeftOut};
use crate::domain::text::{bytes, count, escape, moments};
use crate::error::Result;

/// How long a storage may take to say what a backup holds; the rest of what is shown does not depend on it.
const LIMIT: Duration = Duration::from_secs(30);

/// A backup as it is listed.
#[derive(Serialize)]
pub struct Listed<'a> {
    #[serde(flatten)]
    pub backup: &'a Backup,
    /// Nothing was left out by choice; `None`: not known.
    pub whole: Option<bool>,
    /// Of a chain of increments: all of it, the base first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub chain_backups: Vec<String>,
    /// The same, in words.
    #[serde(skip)]
    pub chain_words: Option<String>,
    /// The recipient that the passphrase of the storage opens.
    #[serde(skip)]
    pub of_passphrase: Option<Recipient>,
}

impl<'a> Listed<'a> {
    fn of(backup: &'a Backup, whole: Option<bool>, all: &[Backup]) -> Self {
        let chain_backups = chain::chain(all, backup).into_iter().map(|other| other.name.clone()).collect();
        Self { backup, whole, chain_backups, chain_words: chain::words(all, backup), of_passphrase: None }
    }

    pub fn all(client: &Client, backups: &'a [Backup]) -> Result<Vec<Self>> {
        let known = client.known_whole()?;
        let every = chained(client, backups)?;
        let listed = |backup: &'a Backup| Self::of(backup, known.get(&backup.name).copied(), &every);
        Ok(backups.iter().map(listed).collect())
    }

    pub fn one(client: &Client, backup: &'a Backup) -> Result<Self> {
        let every = chained(client, std::slice::from_ref(backup))?;
        let listed = Self::of(backup, client.known_whole()?.get(&backup.name).copied(), &every);
        let storage = client.storages()?.into_iter().find(|storage| storage.name == backup.storage);
        let of_passphrase = storage.and_then(|storage| storage.encryption?.of_passphrase);
        Ok(Self { of_passphrase, ..listed })
    }
}

/// What the chains of `backups` can be made of: all that there are, if any of them is of a chain.
fn chained(client: &Client, backups: &[Backup]) -> Result<Vec<Backup>> {
    if backups.iter().any(|backup| backup.chain.is_some()) { client.backups() } else { Ok(Vec::new()) }
}

/// The object that `backup show` prints. What the manifest says is null when it cannot be read.
#[derive(Serialize)]
pub struct Shown<'a> {
    #[serde(flatten)]
    pub listed: Listed<'a>,
    selection: Option<Selection>,
    namespaces: Option<Vec<HeldNamespace>>,
    left_out: Option<Vec<LeftOut>>,
    not_in_json: Option<Vec<LeftOut>>,
    /// Of a physical backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    files: Option<HeldFiles>,
}

impl<'a> Shown<'a> {
    /// Reads the manifest, and says so when that is not possible.
    pub async fn read(context: &Context, client: &Client, listed: Listed<'a>) -> Self {
        let backup = listed.backup;
        let mut shown =
            Self { listed, selection: None, namespaces: None, left_out: None, not_in_json: None, files: None };
        if backup.state != BackupState::Succeeded {
            return shown;
        }
        let why = match tokio::time::timeout(LIMIT, client.contents(&backup.name)).await {
            Ok(Ok(Contents { envelope, namespaces, not_in_json, files, .. })) => {
                shown.files = files;
                let (selection, left_out) = (envelope.selection, envelope.left_out);
                (shown.selection, shown.namespaces) = (Some(selection), Some(namespaces));
                (shown.left_out, shown.not_in_json) = (Some(left_out), Some(not_in_json));
                return shown;
            }
            Ok(Err(e)) => e.full(),
            Err(_) => format!("storage {} is unreachable", backup.storage),
        };
        context.out.warn(&format!("what it holds cannot be shown: {why}"));
        shown
    }

    /// What follows the pairs of a backup.
    pub fn text(&self, context: &Context) -> String {
        let mut text = String::new();
        if let Some(selection) = self.selection.as_ref().filter(|s| !s.is_everything()) {
            for (word, patterns) in [("only", &selection.include), ("without", &selection.exclude)] {
                for pattern in patterns {
                    text.push_str(&format!("{word} {}\n", escape(&pattern.to_string())));
                }
            }
        }
        for left in self.left_out.iter().flatten() {
            text.push_str(&format!("left out: {}: {}\n", escape(&left.what), escape(&left.why)));
        }
        for lacking in self.not_in_json.iter().flatten() {
            text.push_str(&format!(
                "only mongokeep restores the {}: {}\n",
                escape(&lacking.what),
                escape(&lacking.why)
            ));
        }
        if let Some(held) = &self.files {
            text.push_str(&format!(
                "{} files of {}, {}; {} blocks, of which {} ({}) were new\n{}{}\n",
                count(held.files),
                escape(&held.data_folder),
                bytes(held.bytes),
                count(held.blocks),
                count(held.new_blocks),
                bytes(held.new_bytes),
                held.copied,
                held.locked_millis.map_or_else(String::new, |held| format!(", for {}", moments(held))),
            ));
        }
        let mut table = Table::new([
            Column::new("NAMESPACE"),
            Column::right("DOCUMENTS"),
            Column::right("BSON"),
            Column::new("NOTE"),
        ]);
        for held in self.namespaces.iter().flatten() {
            let documents = held.documents.map_or_else(String::new, count);
            let size = held.bytes.map_or_else(String::new, bytes);
            let (documents, size, note) = match held.kind {
                CollectionKind::View => (String::new(), String::new(), "view"),
                CollectionKind::Timeseries => (documents, size, "time series"),
                CollectionKind::Collection => (documents, size, ""),
            };
            table.row([held.namespace.to_string(), documents, size, note.to_owned()]);
        }
        if !table.is_empty() {
            text.push_str(&context.out.table(&table));
        }
        if text.is_empty() { text } else { format!("\n{text}") }
    }
}
