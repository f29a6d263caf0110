//! Objects that are nothing of mongokeep's: named, and never touched.

use std::collections::BTreeMap;

use crate::domain::storage_check::{Amount, Finding, FindingKind, Findings};
use crate::storage::ObjectInfo;

/// So many are named one by one; after that, by their folders.
const NAMED: u64 = 1000;
/// So many folders are named. A bucket may hold anything.
const FOLDERS: usize = 1000;

#[derive(Default)]
pub struct Strangers {
    named: u64,
    folders: BTreeMap<String, Amount>,
    elsewhere: Amount,
}

impl Strangers {
    pub fn object(&mut self, object: ObjectInfo, findings: &mut Findings) {
        let ObjectInfo { key, size } = object;
        let folder = key.as_str().rsplit_once('/').map_or("", |(folder, _)| folder);
        if self.named < NAMED {
            self.named += 1;
            let why = if folder.starts_with(".mongokeep-probe-") {
                "it is what a test of the storage left; it may be removed by hand"
            } else {
                "it is not mongokeep's; it is never touched"
            };
            findings.push(Finding::new(FindingKind::ForeignObject, folder, None, why).object(&key, size));
            return;
        }
        if self.folders.len() < FOLDERS || self.folders.contains_key(folder) {
            self.folders.entry(folder.to_owned()).or_default().add(1, size);
        } else {
            self.elsewhere.add(1, size);
        }
    }

    pub fn end(self, findings: &mut Findings) {
        let many = |folder: &str, of: Amount| {
            let why = "more objects that are not mongokeep's; they are never touched";
            Finding::new(FindingKind::ForeignObject, folder, None, why)
                .object(format!("{folder}/"), 0)
                .of(of.objects, of.bytes)
        };
        for (folder, amount) in &self.folders {
            findings.push(many(folder, *amount));
        }
        if self.elsewhere.objects > 0 {
            findings.push(many("", self.elsewhere));
        }
    }
}
