//! Work that blocks, beside the async runtime.

use crate::error::{Error, ErrorKind, Result};

/// Runs `work` on a thread for blocking work and returns what it returns. Whoever drops this lets it run to its end.
///
/// Errors: those of `work`; `Internal`, with `what` in its words, when it panicked.
pub async fn blocking<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| Error::new(ErrorKind::Internal, format!("{what} broke off")).source(e))?
}
