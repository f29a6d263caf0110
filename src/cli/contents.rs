//! What a backup holds: its selection, its collections, and what is not in it.
//!
//! The catalogue does not know; the manifest in the storage does. A storage that is away takes only this part of what is
//! shown with it.

use std::time::Duration;

use serde::Serialize;

use super::context::Context;
use super::table::{Column, Table};
use crate::artifact::manifest::Manifest;
use crate::client::Client;
use crate::domain::backup::{Backup, BackupState};
use crate::domain::namespace::{Namespace, Selection};
use crate::domain::restore::{CollectionKind, LeftOut};
use crate::domain::text::{bytes, count, escape};

/// How long a storage may take to say what a backup holds; the rest of what is shown does not depend on it.
const LIMIT: Duration = Duration::from_secs(30);

/// The object that `backup show` prints. What the manifest says is null when it cannot be read.
#[derive(Serialize)]
pub struct Shown<'a> {
    #[serde(flatten)]
    pub backup: &'a Backup,
    selection: Option<Selection>,
    namespaces: Option<Vec<Held>>,
    left_out: Option<Vec<LeftOut>>,
}

/// A collection, view or time series, under the name it had when it was read.
#[derive(Serialize)]
struct Held {
    namespace: Namespace,
    kind: CollectionKind,
    documents: u64,
    /// Bytes of BSON.
    bytes: u64,
}

impl<'a> Shown<'a> {
    /// Reads the manifest, and says so when that is not possible.
    pub async fn read(context: &Context, client: &Client, backup: &'a Backup) -> Self {
        let mut shown = Self { backup, selection: None, namespaces: None, left_out: None };
        if backup.state != BackupState::Succeeded {
            return shown;
        }
        let why = match tokio::time::timeout(LIMIT, client.manifest(&backup.name)).await {
            Ok(Ok(manifest)) => {
                shown.fill(manifest);
                return shown;
            }
            Ok(Err(e)) => e.full(),
            Err(_) => format!("storage {} does not answer", backup.storage),
        };
        context.out.warn(&format!("what it holds cannot be shown: {why}"));
        shown
    }

    fn fill(&mut self, manifest: Manifest) {
        let held = |c: crate::artifact::manifest::CollectionEntry| Held {
            namespace: c.namespace,
            kind: c.kind,
            documents: c.documents,
            bytes: c.bytes,
        };
        let mut all: Vec<Held> = manifest.collections.into_iter().map(held).collect();
        all.sort_by(|a, b| a.namespace.cmp(&b.namespace));
        self.selection = Some(manifest.selection);
        self.namespaces = Some(all);
        self.left_out = Some(manifest.left_out);
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
        let mut table = Table::new([
            Column::new("NAMESPACE"),
            Column::right("DOCUMENTS"),
            Column::right("BSON"),
            Column::new("NOTE"),
        ]);
        for held in self.namespaces.iter().flatten() {
            let (documents, size, note) = match held.kind {
                CollectionKind::View => (String::new(), String::new(), "view"),
                CollectionKind::Timeseries => (count(held.documents), bytes(held.bytes), "time series"),
                CollectionKind::Collection => (count(held.documents), bytes(held.bytes), ""),
            };
            table.row([held.namespace.to_string(), documents, size, note.to_owned()]);
        }
        if !table.is_empty() {
            text.push_str(&context.out.table(&table));
        }
        if text.is_empty() { text } else { format!("\n{text}") }
    }
}
