//! Waiting for a driver future without ever dropping it half way.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::error::{Error, ErrorKind, Result};

/// Runs `future` on a task of its own and waits for it until `cancel` or `limit`, whichever is first. An operation
/// that is given up goes on by itself and its outcome is dropped with everything it owns.
///
/// Errors: `Cancelled`, `Unreachable` after `limit`; what the future itself returned is the inner value.
pub async fn run<T, F>(cancel: &CancellationToken, limit: Option<Duration>, future: F) -> Result<T>
where
    F: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    let mut task = tokio::spawn(future);
    let timed_out = async {
        match limit {
            Some(limit) => tokio::time::sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(Error::cancelled()),
        outcome = &mut task => {
            outcome.map_err(|e| Error::new(ErrorKind::Internal, "a task that spoke to the server stopped unexpectedly").source(e))
        }
        () = timed_out => {
            let seconds = limit.unwrap_or_default().as_secs();
            Err(Error::new(ErrorKind::Unreachable, format!("no answer within {seconds} s")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_given_up_still_runs_to_its_end() {
        let (done, ended) = tokio::sync::oneshot::channel();
        let (go, wait) = tokio::sync::oneshot::channel::<()>();
        let cancel = CancellationToken::new();
        let work = async move {
            let _ = wait.await;
            let _ = done.send(());
        };
        let caller = tokio::spawn({
            let cancel = cancel.clone();
            async move { run(&cancel, None, work).await }
        });
        cancel.cancel();
        assert_eq!(caller.await.unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
        go.send(()).unwrap();
        ended.await.unwrap();
    }

    #[tokio::test]
    async fn a_limit_ends_the_wait() {
        let cancel = CancellationToken::new();
        let error = run(&cancel, Some(Duration::from_millis(10)), std::future::pending::<()>()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unreachable);
    }
}
