//! How a backup is made, read back and restored.
//!
//! An engine gets a [`Context`] and a storage and returns a value; it never sees the store, never prints and never
//! decides about retries. It stops within two seconds of a cancel, and then removes what it left in the storage.

pub mod attempt;
pub mod backup_reader;
mod blocking;
pub mod blocks;
pub mod context;
pub mod contract;
pub mod find;
pub mod foreign;
pub mod logical;
pub mod mongodump_layout;
mod oplog_stream;
pub mod pbm;
pub mod pbm_layout;
pub mod physical;
pub mod pitr;
pub mod progress;
pub mod recording;
pub mod storage_check;
pub mod stored_check;
pub mod surroundings;
pub mod unlock;

pub use context::{CONNECT_LIMIT, Context, Limits};
pub use contract::Engine;
pub use progress::Meter;
pub use surroundings::Surroundings;

use crate::domain::backup::Model;
use crate::domain::service::EngineKind;
use crate::error::{Error, ErrorKind, Result};

/// Every engine there is, with what it makes: one line for each.
static ENGINES: &[(EngineKind, Model, &dyn Engine)] = &[
    (EngineKind::Native, Model::Logical, &logical::LogicalEngine),
    (EngineKind::Native, Model::Physical, &physical::PhysicalEngine),
    (EngineKind::Pbm, Model::Logical, &pbm::PbmEngine(Model::Logical)),
    (EngineKind::Pbm, Model::Physical, &pbm::PbmEngine(Model::Physical)),
    (EngineKind::Mongodump, Model::Logical, &mongodump_layout::MongodumpEngine),
];

/// The engine that makes, and reads, backups of this kind.
///
/// Errors: `Unsupported` for one that this version does not have. It is never replaced by another one.
pub fn engine(kind: EngineKind, model: Model) -> Result<&'static dyn Engine> {
    let found = ENGINES.iter().find(|(of_kind, of_model, _)| (*of_kind, *of_model) == (kind, model));
    found.map(|(_, _, engine)| *engine).ok_or_else(|| {
        let what = format!("this version makes no {} backups with the engine {}", model.word(), kind.word());
        Error::new(ErrorKind::Unsupported, what).hint("a newer version of mongokeep may")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_named_and_never_replaced() {
        assert!(engine(EngineKind::Native, Model::Logical).is_ok());
        for (kind, model) in [(EngineKind::Pbm, Model::Logical), (EngineKind::Pbm, Model::Physical)] {
            if ENGINES.iter().any(|(k, m, _)| (*k, *m) == (kind, model)) {
                continue;
            }
            let error = engine(kind, model).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.full().contains(kind.word()) && error.full().contains(model.word()), "{error}");
        }
    }
}
