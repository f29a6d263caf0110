//! Failures of the driver.

use crate::error::{Error, ErrorKind};

/// A failure of the driver while the demo does what an application does.
pub fn driver(what: impl std::fmt::Display, error: mongodb::error::Error) -> Error {
    Error::new(ErrorKind::Failed, what.to_string()).source(error)
}
