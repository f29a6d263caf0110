//! Logical backup of a replica set: documents by raw batches from one member, with the oplog of the same time, and the
//! way back.

mod attempt;
mod capture;
pub mod changes;
mod compatibility;
mod confirmed;
mod doubles;
pub mod dump;
pub mod export;
mod indexes;
mod load;
mod metadata;
mod open_transactions;
pub mod plan;
mod probe;
mod read;
mod reinserted;
mod replay;
pub mod restore;
mod select;
mod split;
mod staging;
mod standing;
pub mod stored;
mod translate;
mod users;
pub mod verify;
mod write;

pub use attempt::{discard, host_name};
pub use changes::{Later, op_time};
pub use dump::{DumpRequest, dump};
pub use export::{ExportReport, export};
pub use plan::plan;
pub use probe::check;
pub use restore::{RestoreReport, restore};
pub use stored::Stored;
pub use verify::{Problem, VerifyReport, verify};
