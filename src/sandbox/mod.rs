//! Throw-away MongoDB servers for the demo, the tests and the benchmark.
//!
//! Everything listens on free ports of 127.0.0.1, keeps its data in one temporary folder, and is gone, folder included,
//! when its owner is dropped, even when this process dies by `kill -9`. Nothing here may ever touch a server it did not
//! start, and no backup or restore depends on it.

mod binary;
mod replica_set;
mod scratch;
mod server;

pub use binary::{Mongod, Step, cache_dir};
pub use replica_set::{Member, ReplicaSet, ReplicaSetOptions};
pub use scratch::Scratch;
pub use server::{Server, ServerOptions, free_port};

use crate::error::{Error, ErrorKind};

/// A failure of the driver while it talks to a server of ours.
fn driver(what: impl std::fmt::Display, error: mongodb::error::Error) -> Error {
    Error::new(ErrorKind::Failed, what.to_string()).source(error)
}
