//! Failures of the driver.

use crate::error::{Error, ErrorKind};

/// A failure of the driver while the demo does what an application does.
pub fn driver(what: impl std::fmt::Display, error: mongodb::error::Error) -> Error {
    Error::new(ErrorKind::Failed, what.to_string()).source(error)
}

/// Whether what was read of a capped collection was removed meanwhile.
pub fn is_capped_position_lost(error: &mongodb::error::Error) -> bool {
    const CAPPED_POSITION_LOST: i32 = 136;
    matches!(&*error.kind, mongodb::error::ErrorKind::Command(e) if e.code == CAPPED_POSITION_LOST)
}
