//! Physical backups: the files of a member on this host, and how they become a server again.
//!
//! They work with every server from 4.4 on, Community too. The copy is made while the server is locked against writes for
//! a moment, or holds a backup cursor open where it has one; whoever restores it recovers it with the server's own program, without which acknowledged writes would be lost.
//! Nothing here may leave a server locked: see [`lock_keeper`].

mod backup;
mod check;
mod clone;
mod copy;
mod cursor_copy;
mod data_folder;
mod exchange;
mod export;
mod index_builds;
mod lay_out;
mod local_member;
pub mod lock_keeper;
pub mod manifest;
mod mongod;
mod over_plan;
mod over_service;
mod physical_engine;
mod plan;
mod recorded;
mod recorded_indexes;
mod recover;
mod recovery_server;
mod restore;
mod server_lock;
mod service_commands;
mod target_folder;
mod validate;
mod verify;
mod write_manifest;

pub use physical_engine::PhysicalEngine;
