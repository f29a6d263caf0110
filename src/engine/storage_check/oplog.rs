//! Recorded oplog: the slices that the catalogue knows, compared with those that go by in the listing.

use async_trait::async_trait;

use super::known::KnownSlices;
use crate::domain::storage_check::{Amount, Finding, FindingKind, Findings};
use crate::engine::find::is_archive;
use crate::engine::pitr::reconcile::{Catalogue, Reconciliation};
use crate::error::Result;
use crate::storage::{Key, ObjectInfo, Storage};

/// The archives of a storage. One at a time goes by.
pub struct Archives<'a> {
    storage: &'a dyn Storage,
    slices: &'a dyn KnownSlices,
    /// What the storage is called, as a command names it.
    name: &'a str,
    present: Option<(Key, Reconciliation<'a, Compared<'a>>)>,
    /// Those that the catalogue knows and that have not gone by.
    left: Vec<Key>,
}

/// What was found of one.
struct Compared<'a> {
    slices: &'a dyn KnownSlices,
    name: &'a str,
    folder: Key,
    findings: Findings,
    unknown: Amount,
}

#[async_trait]
impl Catalogue for Compared<'_> {
    async fn keys(&mut self, after: Option<&str>) -> Result<Vec<String>> {
        self.slices.keys(&self.folder, after).await
    }

    async fn missing(&mut self, keys: Vec<String>) -> Result<()> {
        for key in keys {
            let finding = Finding::new(FindingKind::MissingSlice, self.folder.as_str(), None, "it is missing");
            let remedy = format!(
                "mongokeep storage sync {} brings what can be restored up to date; mongokeep pitr status shows it",
                self.name
            );
            self.findings.push(finding.object(key, 0).remedy(remedy));
        }
        Ok(())
    }

    async fn found(&mut self, objects: Vec<ObjectInfo>) -> Result<()> {
        objects.iter().for_each(|object| self.unknown.add(1, object.size));
        Ok(())
    }
}

impl<'a> Archives<'a> {
    pub async fn new(storage: &'a dyn Storage, name: &'a str, slices: &'a dyn KnownSlices) -> Result<Self> {
        Ok(Self { storage, slices, name, present: None, left: slices.folders().await? })
    }

    /// An object of the listing; given back when it is none of recorded oplog.
    pub async fn object(&mut self, object: ObjectInfo, findings: &mut Findings) -> Result<Option<ObjectInfo>> {
        let Some((folder, name)) = object.key.as_str().rsplit_once('/') else { return Ok(Some(object)) };
        let Ok(folder) = Key::new(folder) else { return Ok(Some(object)) };
        if !is_archive(&folder) {
            return Ok(Some(object));
        }
        if name == "lease.json" {
            return Ok(None);
        }
        if self.present.as_ref().is_none_or(|(present, _)| *present != folder) {
            self.close(findings).await?;
            self.left.retain(|left| *left != folder);
            self.present = Some((folder.clone(), self.begin(folder).await?));
        }
        let Some((_, comparison)) = &mut self.present else { return Ok(Some(object)) };
        Ok(if comparison.seen(object.clone()).await? { None } else { Some(object) })
    }

    async fn begin(&self, folder: Key) -> Result<Reconciliation<'a, Compared<'a>>> {
        let (findings, unknown) = (Findings::default(), Amount::default());
        let (slices, name) = (self.slices, self.name);
        let compared = Compared { slices, name, folder: folder.clone(), findings, unknown };
        Reconciliation::begin(self.storage, folder, compared).await
    }

    async fn close(&mut self, findings: &mut Findings) -> Result<()> {
        let Some((folder, comparison)) = self.present.take() else { return Ok(()) };
        let (_, compared) = comparison.end().await?;
        for finding in compared.findings.all() {
            findings.push(finding.clone());
        }
        let Amount { objects, bytes } = compared.unknown;
        if objects > 0 {
            let what = "the catalogue does not have these slices of the oplog";
            let finding = Finding::new(FindingKind::UnknownSlices, folder.as_str(), None, what).object(&folder, 0);
            let remedy = format!("mongokeep storage sync {} adds them", self.name);
            findings.push(finding.of(objects, bytes).remedy(remedy));
        }
        Ok(())
    }

    /// Those of which nothing went by.
    pub async fn end(mut self, findings: &mut Findings) -> Result<()> {
        self.close(findings).await?;
        for folder in std::mem::take(&mut self.left) {
            self.present = Some((folder.clone(), self.begin(folder).await?));
            self.close(findings).await?;
        }
        Ok(())
    }
}
