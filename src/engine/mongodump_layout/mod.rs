//! Folders and archives that `mongodump` wrote into a storage, read without its program.
//!
//! Each is presented as the manifest of a logical backup (see `manifest.rs`), with a word on how its files are read, so
//! that planning, restoring, following its oplog, verifying and exporting are the same code as for a backup of ours. Nothing
//! is ever written to them.
//!
//! A folder is known by `prelude.json`, which `mongodump` writes since 100.12: it says which server was dumped, and without
//! that nobody can say where it can be restored. An archive (`--archive`) is known by its first bytes, and is read as the
//! folder that would have been written instead of it (see `archive/`).

mod archive;
mod discover;
mod engine;
mod files;
mod manifest;
mod open;

pub use discover::{Mongodump, MongodumpArchives};
pub use engine::MongodumpEngine;
pub use open::read_manifest;
