//! Percona Backup for MongoDB as the engine of a service, with its real agents. Without its programs each of these ends after
//! a line that says so.

mod driven;
mod recorded;
