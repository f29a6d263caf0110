//! The oplog as stored bytes: parsing entries, assembling transactions, following the catalogue, and cutting
//! operations into `applyOps` commands.
//!
//! Entries are read from a stored oplog twice. The first pass ([`catalogue`]) follows only names, options and
//! indexes, to know what every collection is at the end; nothing has been written by then, so an operation nobody
//! knows stops a restore before it begins. The second pass applies the documents' changes.
//!
//! Nothing here may skip an operation because it is unknown: what is dropped is named in [`entry::is_bookkeeping`].

pub mod apply;
pub mod catalogue;
pub mod diff;
pub mod entry;
pub mod key;
pub mod modifiers;
pub mod note;
pub mod transactions;
