//! Logical backup of a replica set: documents by raw batches from one member, with the oplog of the same time, and the
//! way back.

mod indexes;
mod load;
pub mod plan;
mod replay;
pub mod restore;
mod standing;
mod attempt;
mod capture;
pub mod dump;
mod metadata;
mod open_transactions;
mod read;
mod select;
mod split;
pub mod stored;
mod users;
pub mod verify;
mod write;

pub use plan::plan;
pub use restore::{RestoreReport, restore};
pub use attempt::discard;
pub use dump::{DumpRequest, dump};
pub use stored::Stored;
pub use verify::{Problem, VerifyReport, verify};
