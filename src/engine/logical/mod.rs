//! Logical backup of a replica set: documents by raw batches from one member, with the oplog of the same time, and the
//! way back.

pub mod stored;
pub mod verify;

pub use stored::Stored;
pub use verify::{Problem, VerifyReport, verify};
