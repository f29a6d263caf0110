//! Percona Backup for MongoDB as the engine of a service, with its real agents. Without its programs each of these ends after
//! a line that says so.

mod buckets;
mod driven;
mod failing;
mod increments;
mod interrupted;
mod kept;
mod line;
mod mapped;
mod recorded;
mod refused;
mod sharded;
mod stopped;
