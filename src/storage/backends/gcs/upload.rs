//! Resumable uploads.
//!
//! The service takes the bytes of an object in their order only, so that parts that come early are held until it is
//! their turn: two of them, and others wait. What was sent when an answer was lost, the service is asked.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};
use reqwest::{Method, Response};
use tokio::sync::{Mutex, Notify};

use super::failure::Refusal;
use super::{Described, Inner, MARK, PART_SIZE, written};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::http::Ask;
use crate::storage::{Key, Upload, random_name};

/// Parts that are held because an earlier one is missing.
const HELD: usize = 2;

pub(super) struct GcsUpload {
    inner: Arc<Inner>,
    key: Key,
    mark: String,
    /// The address of the upload. Whoever knows it may write to it, so it is never shown.
    session: String,
    state: Mutex<State>,
    /// A part has been sent.
    moved: Notify,
}

struct State {
    /// Parts whose bytes the service has, all of them full.
    sent: u32,
    /// Of these bytes.
    crc: Digest,
    /// A request was sent whose answer did not come: the service may have more than we know.
    unsure: bool,
    /// Parts that came before their turn, and the one that is not full, which is the last.
    held: BTreeMap<u32, Bytes>,
    end: End,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Open,
    Finished,
    Aborted,
}

/// What an upload is that was asked about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Open,
    /// The object is there.
    Made,
}

impl GcsUpload {
    pub(super) async fn begin(inner: Arc<Inner>, key: &Key) -> Result<Self> {
        let mark = random_name()?;
        let what = inner.what("beginning an upload of", key);
        let about = serde_json::json!({
            "name": inner.object(key), "contentType": "application/octet-stream", "metadata": {MARK: mark},
        });
        let ask = inner.uploading("resumable").header("content-type", "application/json; charset=UTF-8");
        let response = inner.done(&what, ask.body(about.to_string().into())).await?;
        let session = response.headers().get("location").and_then(|value| value.to_str().ok()).map(str::to_owned);
        inner.http.drain(response).await;
        let Some(session) = session else {
            return Err(Error::new(ErrorKind::Failed, format!("{what}: the server gave it no address")));
        };
        let state = State {
            sent: 0,
            crc: Digest::new(CrcAlgorithm::Crc32Iscsi),
            unsure: false,
            held: BTreeMap::new(),
            end: End::Open,
        };
        Ok(Self { inner, key: key.clone(), mark, session, state: Mutex::new(state), moved: Notify::new() })
    }

    fn what(&self, doing: &str) -> String {
        self.inner.what(doing, &self.key)
    }

    async fn call(&self, what: &str, range: String, body: Bytes) -> Result<Result<Response, Refusal>> {
        let ask = Ask::new(Method::PUT, self.session.clone()).header("content-range", &range).body(body);
        self.inner.call(what, ask).await
    }

    /// Sends the full parts that are held, as far as it is their turn.
    async fn send_held(&self, state: &mut State, what: &str) -> Result<()> {
        if state.unsure && self.ask_where(state, what).await? == Asked::Made {
            return Err(Error::new(ErrorKind::Internal, format!("{what}: the object is finished already")));
        }
        while let Some(body) = state.held.get(&state.sent).filter(|body| body.len() == PART_SIZE).cloned() {
            let first = u64::from(state.sent) * PART_SIZE as u64;
            let range = format!("bytes {first}-{}/*", first + PART_SIZE as u64 - 1);
            state.unsure = true;
            match self.call(what, range, body).await? {
                Ok(response) => {
                    let has = persisted(&response);
                    self.inner.http.drain(response).await;
                    if has < first + PART_SIZE as u64 {
                        // It took less than it was given, and says from where it wants it again.
                        return Err(self
                            .inner
                            .names
                            .passing(what, &Refusal::new(308, b"a part was taken only partly")));
                    }
                    state.unsure = false;
                    state.take(1);
                    self.moved.notify_waiters();
                }
                Err(refusal) => return Err(self.inner.names.refused(what, &refusal)),
            }
        }
        Ok(())
    }

    /// Asks the service how many bytes it has, after an answer was lost. It can have no more than what was sent, of which
    /// the last part is still held.
    async fn ask_where(&self, state: &mut State, what: &str) -> Result<Asked> {
        match self.call(what, "bytes */*".into(), Bytes::new()).await? {
            Ok(response) if response.status().as_u16() == 308 => {
                let has = persisted(&response) / PART_SIZE as u64;
                self.inner.http.drain(response).await;
                let more = has.saturating_sub(u64::from(state.sent));
                if more > 0 {
                    state.take(u32::try_from(more).unwrap_or(u32::MAX));
                    self.moved.notify_waiters();
                }
                state.unsure = false;
                Ok(Asked::Open)
            }
            Ok(response) => {
                self.inner.http.drain(response).await;
                Ok(Asked::Made)
            }
            Err(refusal) => Err(self.inner.names.refused(what, &refusal)),
        }
    }

    /// Whether the object that is there came from this upload: the answer to an earlier `finish` may have been lost.
    async fn is_there(&self, what: &str) -> Result<Option<Described>> {
        let found = self.inner.look(what, &self.key).await?;
        Ok(found.filter(|found| found.metadata.get(MARK) == Some(&self.mark)))
    }
}

impl State {
    /// The service has `parts` more of those that are held.
    fn take(&mut self, parts: u32) {
        for _ in 0..parts {
            let Some(body) = self.held.remove(&self.sent) else { return };
            self.crc.update(&body);
            self.sent += 1;
        }
    }
}

/// How many bytes the service says it has: `Range: bytes=0-N`, or no such header for none.
fn persisted(response: &Response) -> u64 {
    let range = response.headers().get("range").and_then(|value| value.to_str().ok());
    let last = range.and_then(|text| text.rsplit_once('-')).and_then(|(_, last)| last.parse::<u64>().ok());
    last.map_or(0, |last| last.saturating_add(1))
}

#[async_trait]
impl Upload for GcsUpload {
    async fn part(&self, number: u32, body: Bytes) -> Result<()> {
        let what = self.what(&format!("writing part {} of", number + 1));
        if body.len() > PART_SIZE {
            return Err(Error::new(ErrorKind::Internal, format!("{what}: it is too large")));
        }
        loop {
            // Before the look, so that nothing that happens after it is missed.
            let moved = self.moved.notified();
            {
                let mut state = self.state.lock().await;
                if state.end != End::Open {
                    return Err(Error::new(ErrorKind::NotFound, format!("{what}: the upload has ended")));
                }
                let is_next = number == state.sent;
                if number < state.sent || state.held.contains_key(&number) {
                    // Again: it is sent, or is about to be.
                    return self.send_held(&mut state, &what).await;
                }
                if is_next || state.held.len() < HELD {
                    state.held.insert(number, body);
                    return self.send_held(&mut state, &what).await;
                }
            }
            moved.await;
        }
    }

    async fn finish(&self, parts: u32) -> Result<()> {
        let what = self.what("finishing");
        let mut state = self.state.lock().await;
        match state.end {
            End::Finished => return Ok(()),
            End::Aborted => return Err(Error::new(ErrorKind::NotFound, format!("{what}: the upload has ended"))),
            End::Open => {}
        }
        // An answer to an earlier finish may have been lost: then the service has the whole, or has forgotten the upload.
        let mut told = None;
        let mut is_made = false;
        if state.unsure {
            match self.ask_where(&mut state, &what).await {
                Ok(Asked::Open) => {}
                Ok(Asked::Made) => {
                    is_made = true;
                    told = self.is_there(&what).await?;
                }
                Err(e) => match self.is_there(&what).await? {
                    Some(found) => (is_made, told) = (true, Some(found)),
                    None => return Err(e),
                },
            }
        }
        if !is_made {
            self.send_held(&mut state, &what).await?;
        }
        let last = parts.saturating_sub(1);
        let is_whole = (state.sent == parts && state.held.is_empty())
            || (state.sent == last && state.held.keys().copied().eq([last]));
        if !is_whole {
            return Err(Error::new(ErrorKind::Internal, format!("{what}: parts are missing")));
        }
        let first = u64::from(state.sent) * PART_SIZE as u64;
        let body = state.held.get(&state.sent).cloned().unwrap_or_default();
        let total = first + body.len() as u64;
        let mut crc = state.crc;
        crc.update(&body);
        let sum = written(crc.finalize() as u32);
        if !is_made {
            let range = match body.len() as u64 {
                0 => format!("bytes */{total}"),
                _ => format!("bytes {first}-{}/{total}", total - 1),
            };
            state.unsure = true;
            told = match self.call(&what, range, body).await? {
                Ok(response) if response.status().as_u16() == 308 => {
                    self.inner.http.drain(response).await;
                    let why = Refusal::new(308, b"the last part was taken only partly");
                    return Err(self.inner.names.passing(&what, &why));
                }
                Ok(response) => Some(self.inner.described(&what, response).await?),
                Err(refusal) => match self.is_there(&what).await? {
                    Some(found) => Some(found),
                    None => return Err(self.inner.names.refused(&what, &refusal)),
                },
            };
        }
        state.held.clear();
        state.end = End::Finished;
        // None: it was made, and somebody has replaced or deleted it since.
        if told.is_some_and(|told| told.size() != total || told.crc32c.is_some_and(|told| told != sum)) {
            // Another finish would find the object of this one, and be content with it.
            return Err(self.inner.differs(&what, ErrorKind::Corrupt));
        }
        Ok(())
    }

    async fn abort(&self) -> Result<()> {
        let mut state = self.state.lock().await;
        if state.end != End::Open {
            return Ok(());
        }
        let what = self.what("ending the upload of");
        // The service says 499 when it has done it.
        match self.inner.call(&what, Ask::new(Method::DELETE, self.session.clone())).await? {
            Ok(response) => self.inner.http.drain(response).await,
            Err(refusal) if matches!(refusal.status, 404 | 410 | 499) => {}
            Err(refusal) => return Err(self.inner.names.refused(&what, &refusal)),
        }
        state.held.clear();
        state.end = End::Aborted;
        self.moved.notify_waiters();
        Ok(())
    }
}
