//! Logical backup of a replica set: documents by raw batches from one member, with the oplog of the same time, and the
//! way back.

mod capture;
pub mod changes;
mod compatibility;
mod confirmed;
mod doubles;
pub mod dump;
pub mod export;
mod indexes;
mod load;
mod logical_engine;
pub mod manifest;
mod metadata;
pub mod open_backup;
mod open_transactions;
pub mod plan;
mod probe;
mod read;
mod reinserted;
mod replay;
pub mod restore;
mod restore_state;
mod select;
mod split;
mod staging;
mod translate;
mod user_collections;
mod users;
mod validate;
pub mod verify;
mod write;

pub use dump::{DumpRequest, dump};
pub use export::export;
pub use logical_engine::LogicalEngine;
pub use manifest::LogicalManifest;
pub use open_backup::OpenBackup;
pub use plan::plan;
pub use probe::check;
pub use restore::restore;
pub use verify::verify;
