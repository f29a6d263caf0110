//! The stored oplog of a backup, with the slices that follow it.

use std::ops::ControlFlow;

use tokio_util::sync::CancellationToken;

use super::open_backup::{OpenBackup, not_presented};
use crate::engine::oplog_stream::{Source, read_all};
use crate::error::{Error, ErrorKind, Result};

impl OpenBackup {
    /// Gives every entry of the stored oplog to `visit`, on a thread that may block, until it says to stop. The object
    /// in which it stops is read to its end all the same: only then is it known to be what was written.
    ///
    /// Errors: `Corrupt`, naming the object; what `visit` returns; what the storage reports.
    pub async fn for_each_entry<T, F>(&self, cancel: &CancellationToken, state: T, mut visit: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(&mut T, &[u8]) -> Result<ControlFlow<()>> + Send + 'static,
    {
        let sources = self.sources()?;
        let cancel = cancel.clone();
        let work = move || {
            let mut state = state;
            read_all(sources, None, &cancel, |entry| visit(&mut state, entry))?;
            Ok(state)
        };
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|e| Error::new(ErrorKind::Internal, "reading the stored oplog stopped unexpectedly").source(e))?
    }

    /// Bytes of BSON in the stored oplog.
    pub fn oplog_bytes(&self) -> u64 {
        let own: u64 = self.manifest.oplog.iter().map(|o| o.uncompressed).sum();
        own + self.later.iter().flat_map(|l| &l.slices).map(|s| s.uncompressed).sum::<u64>()
    }

    fn sources(&self) -> Result<Vec<Source>> {
        let own = self.manifest.oplog.iter().map(|object| {
            let key = self.root.key().join(&object.path)?;
            if let Some(foreign) = &self.foreign {
                let known = foreign.objects.get(&object.path).zip(foreign.spans.get(&object.path));
                let (object, (from, to)) = known.ok_or_else(|| not_presented(&object.path))?;
                return Ok(Source::foreign(self.storage.clone(), key, object.clone(), *from, *to));
            }
            Ok(Source::part(self.storage.clone(), key, object.clone(), self.keys.clone()))
        });
        let mut sources: Vec<Source> = own.collect::<Result<_>>()?;
        if let Some(later) = &self.later {
            sources.extend(Source::slices(later)?);
        }
        Ok(sources)
    }
}
