//! What runs beside the jobs for as long as the daemon does: one life cycle for all of it.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

/// Something that runs until it is told to stop, and is then given some time to end in order.
pub struct Component {
    name: &'static str,
    limit: Duration,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Component {
    /// Starts `work`, which ends soon after the token fires that it is given. `limit`: how long the end of the daemon waits
    /// for it; what it does then, the next daemon does again.
    pub fn start<F>(name: &'static str, limit: Duration, work: impl FnOnce(CancellationToken) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = CancellationToken::new();
        let task = tokio::spawn(work(stop.clone()));
        Self { name, limit, stop, task }
    }

    /// Tells it to stop, and does not wait.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Tells it to stop, and waits for its end.
    pub async fn end(&mut self) {
        self.stop();
        match tokio::time::timeout(self.limit, &mut self.task).await {
            Ok(Ok(())) => {}
            Ok(Err(e)) => error!(component = self.name, "ended by a bug: {e}"),
            Err(_) => {
                warn!(component = self.name, "did not end in time; the next daemon goes on with what it was doing");
                self.task.abort();
            }
        }
    }
}
