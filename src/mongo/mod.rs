//! Everything that speaks to a MongoDB server: connecting, the replica set, prerequisites, the oplog, namespaces.
//!
//! The driver's own types stay in this module and in the engine; its errors become ours in [`error`] and nowhere
//! else. Its futures must not be dropped half way (a connection whose reply nobody reads is closed, and an
//! operation may have happened or not), so that everything that can be cancelled goes through [`run()`].

pub mod backup_cursor;
pub mod batches;
pub mod check;
pub mod connect;
pub mod error;
pub mod majority;
pub mod namespaces;
pub mod oplog;
pub mod oplog_source;
pub mod reader;
mod remedy;
pub mod run;
pub mod sharding;
pub mod topology;
pub mod watch;

pub use connect::{Hello, Server};
pub use run::run;
pub use topology::{Facts, Member, ReplicaSet};
