//! Writing an object in parts: each goes to its place in the draft, and to the disk before the object is finished.

use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;

use super::{Draft, PART_SIZE, Wanted, begin_writeback, blocking, lock};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::{PutMode, Upload};

pub(super) struct FilesystemUpload {
    draft: Arc<Draft>,
    state: Arc<Mutex<UploadState>>,
}

impl FilesystemUpload {
    pub(super) fn new(draft: Draft) -> Self {
        Self { draft: Arc::new(draft), state: Arc::default() }
    }
}

#[derive(Debug, Default)]
struct UploadState {
    /// Length of each part that was written, by number.
    lengths: Vec<Option<u32>>,
    finished: bool,
    /// What a failed sync said. The kernel reports lost writes once: a second sync that succeeds proves nothing, so
    /// this upload can never be finished.
    lost: Option<String>,
    /// What the disk has not been told to write yet.
    unsent: Option<Range<u64>>,
    /// A thread tells it.
    sending: bool,
}

impl UploadState {
    fn next_unsent(state: &Mutex<Self>) -> Option<Range<u64>> {
        let mut state = lock(state);
        let range = state.unsent.take();
        state.sending = range.is_some();
        range
    }
}

#[async_trait]
impl Upload for FilesystemUpload {
    async fn part(&self, number: u32, body: Bytes) -> Result<()> {
        if body.len() > PART_SIZE {
            return Err(Error::new(ErrorKind::Internal, format!("a part of {} bytes", body.len())));
        }
        let draft = Arc::clone(&self.draft);
        let length = body.len() as u32;
        let offset = u64::from(number) * PART_SIZE as u64;
        blocking(move || draft.file.write_all_at(&body, offset).map_err(|e| draft.failure("writing", e))).await?;
        let begin = {
            let mut state = lock(&self.state);
            let at = number as usize;
            if state.lengths.len() <= at {
                state.lengths.resize(at + 1, None);
            }
            state.lengths[at] = Some(length);
            let written = offset..offset + u64::from(length);
            state.unsent = Some(match state.unsent.take() {
                Some(r) => r.start.min(written.start)..r.end.max(written.end),
                None => written,
            });
            !std::mem::replace(&mut state.sending, true)
        };
        if begin {
            let (draft, state) = (Arc::clone(&self.draft), Arc::clone(&self.state));
            // Nobody waits for it: on a busy disk it falls behind, and the writer does not.
            tokio::task::spawn_blocking(move || {
                while let Some(range) = UploadState::next_unsent(&state) {
                    begin_writeback(&draft.file, range);
                }
            });
        }
        Ok(())
    }

    async fn finish(&self, parts: u32) -> Result<()> {
        let (draft, state) = (Arc::clone(&self.draft), Arc::clone(&self.state));
        let wanted = Wanted::default();
        let handle = wanted.handle();
        blocking(move || {
            {
                let state = lock(&state);
                if state.finished {
                    return Ok(());
                }
                if let Some(why) = &state.lost {
                    return Err(Error::new(ErrorKind::Failed, why.clone()));
                }
                check_parts(&draft, &state.lengths, parts)?;
            }
            if let Err(e) = draft.sync() {
                lock(&state).lost = Some(e.full());
                return Err(e);
            }
            draft.publish(&handle, PutMode::Overwrite)?;
            lock(&state).finished = true;
            Ok(())
        })
        .await
    }

    async fn abort(&self) -> Result<()> {
        if lock(&self.state).finished {
            return Ok(());
        }
        let draft = Arc::clone(&self.draft);
        blocking(move || draft.discard()).await
    }
}

/// All of `0..parts` were written, none beyond, and only the last one is short.
fn check_parts(draft: &Draft, lengths: &[Option<u32>], parts: u32) -> Result<()> {
    let whole = lengths.len() == parts as usize
        && lengths.iter().enumerate().all(|(i, length)| match length {
            Some(length) => i + 1 == lengths.len() || *length as usize == PART_SIZE,
            None => false,
        });
    if whole {
        return Ok(());
    }
    let what = format!("{}/{}: finished with parts missing", draft.root.shown(), draft.key);
    Err(Error::new(ErrorKind::Internal, what))
}
