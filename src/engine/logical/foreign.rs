//! How the objects of another tool's backup are read, when it is presented as a logical backup.

use std::collections::BTreeMap;

use super::metadata::Definition;
use crate::artifact::foreign::ForeignObject;
use crate::domain::namespace::Namespace;
use crate::domain::timestamp::Timestamp;

/// What a manifest of ours would have said of its own objects.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Foreign {
    /// By their paths, those of the oplog among them.
    pub objects: BTreeMap<String, ForeignObject>,
    /// Of each part of the oplog, by its path: it holds every change from the first position to the second, both included.
    pub spans: BTreeMap<String, (Timestamp, Timestamp)>,
    pub definitions: BTreeMap<Namespace, Definition>,
    /// What to know before it is restored: what the tool lost.
    pub warnings: Vec<String>,
}
