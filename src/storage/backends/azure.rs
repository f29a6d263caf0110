//! A container of Azure Blob Storage as a storage.
//!
//! Our own requests, credentials and signatures by `object_store` (see docs/dependencies.md). An object is a block blob,
//! and each body carries its MD5, which Azure compares. A large one is written as blocks, which nobody sees until the list of them
//! is committed. Azure drops blocks that were never committed after a week; an abort or a sweep does not wait for that.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use md5::{Digest as _, Md5};
use object_store::azure::AzureCredentialProvider;
use reqwest::Method;
use reqwest::Response;

use crate::domain::text;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::http::{self, Http};
use crate::storage::{InFlight, Key, Level, ObjectInfo, PutMode, Storage, Upload, paged};

mod backend;
mod config;
mod connect;
mod external;
mod failure;
mod listing;
mod request;
mod upload;

pub use backend::AzureBackend;
pub use config::AzureConfig;
pub use external::{ExternalAccess, ExternalCredentials};
use failure::Names;

/// Bytes of a block. A blob has up to 50,000. Every object that is being written holds three in memory.
const PART_SIZE: usize = 5 << 20;

/// A container, or what lies below a prefix of it.
#[derive(Debug, Clone)]
pub struct Azure(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    in_flight: InFlight,
    http: Arc<Http>,
    credentials: AzureCredentialProvider,
    account: String,
    /// The address of the container, without a slash at its end.
    container: String,
    /// Empty, or ends in a slash.
    base: String,
    place: String,
    names: Names,
}

impl Azure {
    /// Reads `ca_file` and, when no credentials are given, what the environment names. Contacts nothing.
    pub async fn new(config: &AzureConfig) -> Result<Self> {
        let access = connect::Access::of(config)?;
        let http = Http::new(&access.service, config.trust()).await?;
        let credentials = access.credentials(config, &http)?;
        let prefix = config.prefix.trim_matches('/');
        if !prefix.is_empty() {
            Key::new(prefix).map_err(|_| Error::invalid("prefix", format!("{} is no prefix", text::quoted(prefix))))?;
        }
        Ok(Self(Arc::new(Inner {
            in_flight: InFlight::of_parts(),
            names: Names {
                account: text::escape(&config.account),
                container: text::escape(&config.container),
                server: http.server.clone(),
                given: access.given,
            },
            http: Arc::new(http),
            credentials,
            account: config.account.clone(),
            container: format!("{}/{}", access.service, http::encoded(&config.container, false)),
            base: if prefix.is_empty() { String::new() } else { format!("{prefix}/") },
            place: text::escape(&config.place()),
        })))
    }
}

/// The checksum of a body as `Content-MD5` wants it.
fn md5_of(body: &[u8]) -> String {
    BASE64.encode(Md5::digest(body))
}

impl Inner {
    fn object(&self, key: &Key) -> String {
        format!("{}{key}", self.base)
    }

    fn what(&self, doing: &str, key: &Key) -> String {
        format!("{doing} {}/{}", self.place, text::escape(key.as_str()))
    }

    /// The size and version of the blob named in full, or `None` when there is none.
    async fn head(&self, what: &str, object: &str) -> Result<Option<(u64, Option<String>)>> {
        let ask = self.ask(Method::HEAD, object, "");
        match self.call(what, ask).await? {
            Ok(response) => Ok(Some((length(&response), etag(&response)))),
            Err(refusal) if refusal.says_no_blob() => Ok(None),
            Err(refusal) => Err(self.names.refused(what, &refusal)),
        }
    }

    /// Removes the blob named in full; with `version`, only that one. One that does not exist is no error.
    async fn remove(&self, what: &str, object: &str, version: Option<&str>) -> Result<()> {
        let mut ask = self.ask(Method::DELETE, object, "").header("x-ms-delete-snapshots", "include");
        if let Some(version) = version {
            ask = ask.header("if-match", version);
        }
        match self.call(what, ask).await? {
            Ok(response) => {
                self.http.drain(response).await;
                Ok(())
            }
            Err(refusal) if refusal.says_no_blob() => Ok(()),
            Err(refusal) => Err(self.names.refused(what, &refusal)),
        }
    }
}

/// The size of the blob that an answer to `HEAD` or `GET` is about.
fn length(response: &Response) -> u64 {
    let header = response.headers().get("content-length").and_then(|value| value.to_str().ok());
    header.and_then(|text| text.parse().ok()).unwrap_or_default()
}

fn etag(response: &Response) -> Option<String> {
    response.headers().get("etag").and_then(|value| value.to_str().ok()).map(str::to_owned)
}

#[async_trait]
impl Storage for Azure {
    fn place(&self) -> String {
        self.0.place.clone()
    }

    fn part_size(&self) -> usize {
        PART_SIZE
    }

    fn in_flight(&self) -> Option<&InFlight> {
        Some(&self.0.in_flight)
    }

    async fn put(&self, key: &Key, body: Bytes, mode: PutMode) -> Result<()> {
        let inner = &self.0;
        let what = inner.what(if mode == PutMode::CreateNew { "creating" } else { "writing" }, key);
        let mut ask = inner.ask(Method::PUT, &inner.object(key), "").header("x-ms-blob-type", "BlockBlob");
        ask = ask.header("content-type", "application/octet-stream").header("content-md5", &md5_of(&body));
        if mode == PutMode::CreateNew {
            ask = ask.header("if-none-match", "*");
        }
        let response = inner.done(&what, ask.body(body)).await?;
        inner.http.drain(response).await;
        Ok(())
    }

    async fn upload(&self, key: &Key) -> Result<Box<dyn Upload>> {
        Ok(Box::new(upload::AzureUpload::begin(Arc::clone(&self.0), key).await?))
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<BoxStream<'static, Result<Bytes>>> {
        let inner = &self.0;
        let what = inner.what("reading", key);
        // HTTP has no empty range.
        if let Some(range) = range.as_ref().filter(|range| range.is_empty()) {
            return match inner.head(&what, &inner.object(key)).await? {
                Some((size, _)) if size >= range.end => Ok(stream::empty().boxed()),
                Some(_) => Err(http::short(&what)),
                None => Err(Error::new(ErrorKind::NotFound, format!("{what}: there is no such object"))),
            };
        }
        let ask = inner.ask(Method::GET, &inner.object(key), "").range(range.as_ref());
        match inner.call(&what, ask).await? {
            Ok(response) => {
                let expected = http::expected(&what, &response, range.as_ref())?;
                Ok(inner.http.stream(what, response, expected))
            }
            Err(refusal) if refusal.status == 416 => Err(http::short(&what)),
            Err(refusal) => Err(inner.names.refused(&what, &refusal)),
        }
    }

    async fn stat(&self, key: &Key) -> Result<Option<ObjectInfo>> {
        let found = self.0.head(&self.0.what("looking at", key), &self.0.object(key)).await?;
        Ok(found.map(|(size, _)| ObjectInfo { key: key.clone(), size }))
    }

    async fn list(&self, prefix: Option<&Key>) -> Result<BoxStream<'static, Result<ObjectInfo>>> {
        paged::objects(&self.0, prefix).await
    }

    async fn list_level(&self, prefix: Option<&Key>) -> Result<Level> {
        paged::level(&*self.0, prefix).await
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.0.remove(&self.0.what("deleting", key), &self.0.object(key), None).await
    }

    async fn sweep_older(&self, prefix: &Key, age: Duration) -> Result<u64> {
        listing::sweep(&self.0, prefix, age).await
    }

    async fn free_space(&self) -> Result<Option<u64>> {
        Ok(None)
    }
}
