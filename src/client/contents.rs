//! What a backup holds, as its manifest says: the catalogue does not know.

use serde::Serialize;

use super::Client;
use crate::domain::namespace::{Namespace, Selection};
use crate::domain::restore::{CollectionKind, LeftOut};
use crate::error::Result;

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Contents {
    pub selection: Selection,
    /// In the order of their names.
    pub namespaces: Vec<Held>,
    pub left_out: Vec<LeftOut>,
    /// What of the definitions other tools do not find in the metadata files.
    pub not_in_json: Vec<LeftOut>,
}

/// A collection, view or time series, under the name it had when it was read.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Held {
    pub namespace: Namespace,
    pub kind: CollectionKind,
    pub documents: u64,
    /// Bytes of BSON.
    pub bytes: u64,
}

impl Client {
    /// Reads the manifest of `backup` from its storage.
    pub async fn contents(&self, backup: &str) -> Result<Contents> {
        let manifest = self.manifest(backup).await?;
        let held = manifest.collections.into_iter().map(|c| Held {
            namespace: c.namespace,
            kind: c.kind,
            documents: c.documents,
            bytes: c.bytes,
        });
        let mut namespaces: Vec<Held> = held.collect();
        namespaces.sort_by(|a, b| a.namespace.cmp(&b.namespace));
        let (selection, left_out, not_in_json) = (manifest.selection, manifest.left_out, manifest.not_in_json);
        Ok(Contents { selection, namespaces, left_out, not_in_json })
    }
}
