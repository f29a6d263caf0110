//! Large objects: blocks, and the list of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use reqwest::Method;

use super::{Inner, PART_SIZE, etag, md5_of};
use crate::domain::text;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::http::encoded;
use crate::storage::{Key, Upload, random_name};

/// Azure's own bound.
const MAX_PARTS: u32 = 50_000;
const EMPTY_LIST: &[u8] = b"<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList></BlockList>";

pub(super) struct AzureUpload {
    inner: Arc<Inner>,
    key: Key,
    /// In the name of each block, so that nobody else's are taken for ours.
    mark: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Their lengths by number.
    parts: BTreeMap<u32, usize>,
    ended: bool,
}

impl AzureUpload {
    /// A container that is not there is told now, and not after the first block.
    pub(super) async fn begin(inner: Arc<Inner>, key: &Key) -> Result<Self> {
        let mark = random_name()?;
        inner.head(&inner.what("beginning an upload of", key), &inner.object(key)).await?;
        Ok(Self { inner, key: key.clone(), mark, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The names of all blocks of a blob have one length.
    fn block(&self, number: u32) -> String {
        BASE64.encode(format!("{}-{number:06}", self.mark))
    }
}

#[async_trait]
impl Upload for AzureUpload {
    async fn part(&self, number: u32, body: Bytes) -> Result<()> {
        let (inner, length) = (&self.inner, body.len());
        let what = inner.what(&format!("writing part {} of", number + 1), &self.key);
        if number >= MAX_PARTS {
            let most = text::bytes(u64::from(MAX_PARTS) * PART_SIZE as u64);
            return Err(Error::new(ErrorKind::Unsupported, format!("{what}: an object has at most {most}")));
        }
        // Before it is sent: an answer that is lost leaves a block, too.
        self.state().parts.entry(number).or_insert(usize::MAX);
        let query = format!("comp=block&blockid={}", encoded(&self.block(number), false));
        let ask = inner.ask(Method::PUT, &inner.object(&self.key), &query).header("content-md5", &md5_of(&body));
        let response = inner.done(&what, ask.body(body)).await?;
        inner.http.drain(response).await;
        self.state().parts.insert(number, length);
        Ok(())
    }

    async fn finish(&self, parts: u32) -> Result<()> {
        let (inner, what) = (&self.inner, self.inner.what("finishing", &self.key));
        {
            let state = self.state();
            if state.ended {
                return Ok(());
            }
            let is_whole = state.parts.keys().copied().eq(0..parts)
                && state.parts.range(..parts.saturating_sub(1)).all(|(_, length)| *length == PART_SIZE)
                && state.parts.values().all(|length| *length <= PART_SIZE);
            if !is_whole {
                return Err(Error::new(ErrorKind::Internal, format!("{what}: parts are missing")));
            }
        }
        // The latest of each: uncommitted, or committed by an earlier finish whose answer was lost.
        let blocks: String = (0..parts).map(|n| format!("<Latest>{}</Latest>", self.block(n))).collect();
        let list = format!("<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>{blocks}</BlockList>");
        let ask = inner.ask(Method::PUT, &inner.object(&self.key), "comp=blocklist");
        let ask = ask.header("x-ms-blob-content-type", "application/octet-stream");
        let ask = ask.header("content-type", "application/xml").header("content-md5", &md5_of(list.as_bytes()));
        let response = inner.done(&what, ask.body(list.into())).await?;
        inner.http.drain(response).await;
        self.state().ended = true;
        Ok(())
    }

    async fn abort(&self) -> Result<()> {
        if self.state().ended {
            return Ok(());
        }
        if !self.state().parts.is_empty() {
            let what = self.inner.what("ending the upload of", &self.key);
            self.inner.drop_blocks(&what, &self.inner.object(&self.key)).await?;
        }
        self.state().ended = true;
        Ok(())
    }
}

impl Inner {
    /// Drops the blocks of a blob that has nothing else; false when it has a content, which is left alone (its blocks go
    /// when it is written again, or after a week). The service has no call for this: an empty list of blocks takes their place, and
    /// that empty blob is deleted.
    pub(super) async fn drop_blocks(&self, what: &str, object: &str) -> Result<bool> {
        if self.head(what, object).await?.is_some() {
            return Ok(false);
        }
        let ask = self.ask(Method::PUT, object, "comp=blocklist").header("if-none-match", "*");
        let ask = ask.header("content-type", "application/xml").body(Bytes::from_static(EMPTY_LIST));
        match self.call(what, ask).await? {
            Ok(response) => {
                let version = etag(&response);
                self.http.drain(response).await;
                self.remove(what, object, version.as_deref()).await?;
                Ok(true)
            }
            // Somebody else finished it a moment ago.
            Err(refusal) if matches!(refusal.status, 409 | 412) => Ok(false),
            Err(refusal) => Err(self.names.refused(what, &refusal)),
        }
    }
}
