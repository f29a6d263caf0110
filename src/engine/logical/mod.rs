//! Logical backup of a replica set: documents by raw batches from one member, with the oplog of the same time.
