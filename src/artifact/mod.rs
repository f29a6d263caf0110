//! The format of a backup: where each object lies, what the manifest says, how parts are framed and checked.
//!
//! Pure functions and streams: nothing here knows MongoDB's driver or a particular storage.
//! The data is plain concatenated BSON compressed with a standard tool's format, so `cat 0*.zst | zstd -d` gives the
//! `.bson` that `bsondump` and `mongorestore` read.

pub mod bson;
pub mod checksummed_json;
pub mod codec;
pub mod extjson;
pub mod foreign;
pub mod gunzip;
pub mod identity;
pub mod keys;
pub mod layout;
pub mod lz4;
pub mod manifest;
pub mod raw;
pub mod read;
pub mod s2;
pub mod slice;
pub mod write;
