//! What mongokeep keeps of a backup that PBM made for it: the envelope, and under which name PBM knows it.
//!
//! PBM's own objects lie beside, in the folder that its configuration names. Deleting is PBM's work, so that none of them is
//! named here.

use std::ops::Deref;

use serde::{Deserialize, Serialize};

use super::answers::DescribedBackup;
use super::storage_section::FOLDER;
use crate::artifact::checksummed_json;
use crate::artifact::manifest::Envelope;
use crate::error::{Error, ErrorKind, Result};

/// An envelope with more in it: it is read as one, too.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DrivenManifest {
    #[serde(flatten)]
    pub envelope: Envelope,
    pub pbm_version: String,
    /// `logical`, `physical`, in PBM's word.
    pub pbm_type: String,
    /// The folder of the storage that PBM writes to.
    pub pbm_folder: String,
    pub replica_sets: Vec<DrivenSet>,
    pub users_and_roles: bool,
}

/// One replica set of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrivenSet {
    pub name: String,
    /// The member that was read, `host:port`.
    pub node: String,
    pub is_config_server: bool,
    /// Bytes as stored.
    pub size: u64,
    /// Of a logical backup.
    pub collections: Vec<String>,
}

impl Deref for DrivenManifest {
    type Target = Envelope;

    fn deref(&self) -> &Envelope {
        &self.envelope
    }
}

impl DrivenManifest {
    /// As it is stored, with its checksum (see [`checksummed_json`]).
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        checksummed_json::to_bytes(self)
    }

    /// The name that PBM gave it.
    pub fn pbm_name(&self) -> &str {
        self.envelope.pbm_name.as_deref().unwrap_or_default()
    }

    /// The folder for which PBM writes to where it is; `None`: PBM was told another place by somebody else.
    pub fn configured_folder(&self) -> Option<&str> {
        let above = self.pbm_folder.strip_suffix(FOLDER)?;
        if above.is_empty() { Some(above) } else { above.strip_suffix('/') }
    }

    /// What no backup can be like, as sentences.
    pub fn impossible(&self) -> Vec<String> {
        let mut found = Vec::new();
        if self.pbm_name().is_empty() || self.pbm_name().contains('/') {
            found.push("PBM gave it no name".to_owned());
        }
        if self.replica_sets.is_empty() {
            found.push("it holds no replica set".to_owned());
        }
        found
    }

    /// Errors: `Corrupt`, saying what no backup can be like.
    pub fn must_be_possible(&self) -> Result<()> {
        match self.impossible().first() {
            None => Ok(()),
            Some(first) => {
                let what = format!("the manifest of backup {} says what cannot be: {first}", self.envelope.name);
                Err(Error::new(ErrorKind::Corrupt, what).hint("use another backup"))
            }
        }
    }
}

/// The replica sets of a backup, as PBM describes it.
pub fn sets_of(described: &DescribedBackup) -> Vec<DrivenSet> {
    let mut sets: Vec<DrivenSet> = described
        .replsets
        .iter()
        .map(|set| DrivenSet {
            name: set.name.clone(),
            node: set.node.clone(),
            is_config_server: set.configsvr,
            size: u64::try_from(set.size).unwrap_or(0),
            collections: set.collections.clone(),
        })
        .collect();
    sets.sort_by(|a, b| a.name.cmp(&b.name));
    sets
}
