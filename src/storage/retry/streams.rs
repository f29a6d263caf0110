//! Objects and listings that are read on after a break.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;

use super::repeat::{OnCancel, Repeat, Tries, may_pass};
use crate::error::{Error, Result};
use crate::storage::{Key, ObjectInfo, Storage};

/// An object being read, across several streams if need be. Each chunk that arrives gives all attempts back.
pub(super) struct Reading {
    pub(super) repeat: Repeat,
    pub(super) storage: Arc<dyn Storage>,
    pub(super) key: Key,
    /// None: to be opened again at `at`.
    pub(super) stream: Option<BoxStream<'static, Result<Bytes>>>,
    pub(super) at: u64,
    /// None: the end of the object, whatever its size.
    pub(super) end: Option<u64>,
    pub(super) tries: Tries,
}

impl Reading {
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            let repeat = self.repeat.clone();
            match repeat.once(OnCancel::GiveUp, self.try_next()).await {
                Ok(Some(chunk)) => {
                    self.at += chunk.len() as u64;
                    repeat.got_through(&std::mem::take(&mut self.tries));
                    return Ok(Some(chunk));
                }
                Err(e) if may_pass(&e) => {
                    self.stream = None;
                    repeat.wait(&mut self.tries, e).await?;
                }
                other => return other,
            }
        }
    }

    async fn try_next(&mut self) -> Result<Option<Bytes>> {
        let inner = &self.storage;
        if self.stream.is_none() {
            let end = match self.end {
                Some(end) => end,
                None => match inner.stat(&self.key).await? {
                    Some(object) => object.size,
                    None => return Err(Error::not_found("object", format!("{}/{}", inner.place(), self.key))),
                },
            };
            self.end = Some(end);
            // The last byte arrived, and then the connection broke.
            if self.at >= end {
                return Ok(None);
            }
            self.stream = Some(inner.get(&self.key, Some(self.at..end)).await?);
        }
        match &mut self.stream {
            Some(stream) => stream.next().await.transpose(),
            None => Ok(None),
        }
    }
}

/// A listing, begun again after a break: what was already seen is skipped, which the key order makes possible. A server
/// that keeps another order (s3rver 3.7.1) loses nothing by that; after a break, its listing cannot be gone on with.
pub(super) struct Listing {
    pub(super) repeat: Repeat,
    pub(super) storage: Arc<dyn Storage>,
    pub(super) prefix: Option<Key>,
    pub(super) stream: Option<BoxStream<'static, Result<ObjectInfo>>>,
    /// The greatest key so far.
    pub(super) last: Option<Key>,
    pub(super) catching_up: bool,
    pub(super) is_ordered: bool,
    pub(super) tries: Tries,
}

impl Listing {
    pub(super) async fn next(&mut self) -> Result<Option<ObjectInfo>> {
        loop {
            let repeat = self.repeat.clone();
            match repeat.once(OnCancel::GiveUp, self.try_next()).await {
                Ok(Some(object)) if self.catching_up && self.last.as_ref().is_some_and(|l| object.key <= *l) => {}
                Ok(Some(object)) => {
                    self.catching_up = false;
                    if self.last.as_ref().is_some_and(|last| object.key <= *last) {
                        self.is_ordered = false;
                    } else {
                        self.last = Some(object.key.clone());
                    }
                    repeat.got_through(&std::mem::take(&mut self.tries));
                    return Ok(Some(object));
                }
                Err(e) if may_pass(&e) && self.is_ordered => {
                    self.stream = None;
                    self.catching_up = true;
                    repeat.wait(&mut self.tries, e).await?;
                }
                other => return other,
            }
        }
    }

    async fn try_next(&mut self) -> Result<Option<ObjectInfo>> {
        if self.stream.is_none() {
            self.stream = Some(self.storage.list(self.prefix.as_ref()).await?);
        }
        match &mut self.stream {
            Some(stream) => stream.next().await.transpose(),
            None => Ok(None),
        }
    }
}
