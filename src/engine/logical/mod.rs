//! Logical backup of a replica set: documents by raw batches from one member, with the oplog of the same time, and the
//! way back.

mod capture;
pub mod changes;
mod compatibility;
mod confirmed;
mod doubles;
pub mod dump;
pub mod export;
mod foreign;
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
mod read_by_name;
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
pub use foreign::Foreign;
pub use logical_engine::{LogicalEngine, contents_of, plan_of, restore_of};
pub use manifest::{CollectionEntry, LogicalManifest};
pub use metadata::{Definition, hex};
pub use open_backup::{OpenBackup, parse_uuid};
pub use plan::plan;
pub use probe::check;
pub use read_by_name::missed;
pub use restore::restore;
pub use verify::verify;
