//! Recording the oplog: slices, written for as long as point-in-time recovery is on.
//!
//! Nothing that a rollback can undo is ever stored, and nothing is stored that does not follow what was stored before:
//! where that is impossible, the next slice says so. What is held in memory is bounded; while the storage is away the
//! oplog itself waits.

mod archive_index;
mod build;
mod event;
mod follow;
pub mod lease;
pub mod reconcile;
mod resume;
mod slice_uploader;
mod watch;

pub use archive_index::read_header;
pub use event::Event;
pub use follow::{Following, follow};
