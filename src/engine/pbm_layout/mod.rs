//! Backups that Percona Backup for MongoDB left in a storage, read without its program.
//!
//! Each is presented as the manifest of a logical backup (see `manifest.rs`), with a word on how its objects are read, so
//! that planning, restoring, following its oplog and exporting are the same code as for a backup of ours. Nothing is ever
//! written to PBM's folders. What only PBM restores (physical ones, sharded clusters) is presented as that (see `only_pbm.rs`);
//! what nobody does (PBM before 2.0) is named and refused; what PBM lost in a backup is said before it is restored.
//!
//! Tried with real backups of PBM 2.0.1 and 2.15.0.

mod buckets;
mod chunks;
mod description;
mod discover;
mod manifest;
mod only_pbm;
mod open;
pub mod reader;
mod specs;
mod verify;

pub use buckets::identify;
pub use chunks::archive;
pub use description::{Description, describe};
pub use discover::Pbm;
pub use manifest::{PbmManifest, StoredDefinition};
pub use only_pbm::{INCREMENTAL, OnlyPbm, chain_link};
pub use open::{chunk, open, read_manifest};
pub use verify::{verify, verify_open, verify_oplog};

#[cfg(test)]
mod tests;
