//! What was stored comes back: into the same version to the byte, into a newer one as its server writes it down.

use mongokeep::domain::restore::RestoreRequest;
use mongokeep::engine::Limits;
use mongokeep::engine::logical::{OpenBackup, plan, restore};
use mongokeep::error::Result;
use tokio_util::sync::CancellationToken;

use super::data::{self, DATABASES};
use super::ground::{Ground, Stand};
use crate::support::compare::{self, State};
use crate::support::dumps::{self, Folder};
use crate::support::pair;

/// Backs `source` up, and restores that into `target`.
pub async fn through(source: &Stand, target: &Stand) -> Result<()> {
    let folder = Folder::new();
    // Small enough that collections are split.
    let limits = Limits { split_bytes: 1 << 20, part_bytes: 1 << 20, ..Limits::default() };
    let manifest = dumps::dump_ok(&source.set, &folder, &dumps::request("b"), limits).await;
    dumps::verify_ok(&folder, &manifest).await;
    let stored = OpenBackup::new(folder.storage.clone(), manifest)?;
    let server = dumps::server(&target.set).await;
    let request: RestoreRequest = pair::request();
    let planned = plan(&CancellationToken::new(), &stored, &server, &request).await?;
    restore(&pair::context(), &stored, &server, &request, &planned).await.map(drop)
}

async fn state(stand: &Stand) -> State {
    let mut state = State::new();
    for db in DATABASES {
        let found = compare::database(&stand.client, db).await;
        state.extend(found.into_iter().map(|(name, contents)| (format!("{db}.{name}"), contents)));
    }
    state
}

pub async fn same_version(ground: Ground) {
    data::fill(&ground.source).await;
    through(&ground.source, &ground.target).await.unwrap();
    compare::assert_same(&state(&ground.source).await, &state(&ground.target).await, "what was restored");
}

/// A newer server may write options and indexes down in its own way, and may add some; documents are as they were.
pub async fn newer_version(ground: Ground) {
    data::fill(&ground.source).await;
    through(&ground.source, &ground.target).await.unwrap();
    let (expected, mut found) = (state(&ground.source).await, state(&ground.target).await);
    for (ns, expected) in &expected {
        let found = found.remove(ns).unwrap_or_else(|| panic!("{ns} is missing"));
        assert_eq!((&expected.kind, expected.documents), (&found.kind, found.documents), "{ns}");
        assert_eq!(expected.hash, found.hash, "the documents of {ns}");
        for name in expected.indexes.keys() {
            assert!(found.indexes.contains_key(name), "the index {name} of {ns} is missing");
        }
        // Which collection of buckets a time series has is the server's affair: each version checks them otherwise.
        if ns.contains(".system.buckets.") {
            continue;
        }
        for (option, value) in &expected.options {
            assert_eq!(found.options.get(option), Some(value), "the option {option} of {ns}");
        }
    }
    assert!(found.is_empty(), "{:?} were not there before", found.keys());
}

/// Refused by the plan, before anything is written.
pub async fn older_version(ground: Ground) {
    data::fill(&ground.source).await;
    let error = through(&ground.source, &ground.target).await.unwrap_err();
    assert!(error.full().contains(&ground.target.mongod.version), "{}", error.full());
    assert_eq!(state(&ground.target).await, State::new());
}
