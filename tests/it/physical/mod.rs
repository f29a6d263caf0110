//! Physical backups, as the program makes, keeps, checks and restores them.

mod blocks;
mod check;
mod cursor;
mod lock;
mod over_service;
mod restore;
mod service_managers;

use mongokeep::sandbox::ReplicaSet;
use serde_json::Value;

use crate::support::program::{Home, Ran};

/// A home with the service `src`, the storage `local`, and what is needed for a physical backup.
fn home_of(set: &ReplicaSet) -> Home {
    let home = Home::new();
    home.add_service("src", &set.uri());
    home.add_storage("local");
    home
}

fn create(name: &str) -> Vec<&str> {
    vec!["backup", "create", "--service", "src", "--storage", "local", "--model", "physical", "--name", name]
}

/// Makes a backup that must succeed, and returns it.
fn make(home: &Home, name: &str) -> Value {
    let mut args = create(name);
    args.push("--wait");
    home.ok(&args);
    home.ok(&["backup", "show", name])
}

fn restore(home: &Home, set: &ReplicaSet, name: &str, dir: &std::path::Path, more: &[&str]) -> Ran {
    let mongod = set.mongod().path.to_str().unwrap();
    let mut args = vec!["restore", name, "--to-data-dir", dir.to_str().unwrap(), "--mongod", mongod];
    args.extend(more);
    home.run(&args)
}

/// The names of the stored blocks.
fn stored_blocks(home: &Home) -> Vec<String> {
    let is_block = |file: &String| file.contains("/blocks/") && !file.ends_with(".json");
    home.files().into_iter().filter(is_block).collect()
}

fn free_ports(n: usize) -> Vec<u16> {
    let mut ports = std::collections::BTreeSet::new();
    while ports.len() < n {
        ports.insert(mongokeep::sandbox::free_port().unwrap());
    }
    ports.into_iter().collect()
}
