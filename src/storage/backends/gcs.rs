//! A bucket of Google Cloud Storage as a storage.
//!
//! Our own requests of the JSON API, credentials by `object_store` (see docs/dependencies.md). Each small object carries
//! its CRC-32C, which the server compares. A large one is a resumable upload: its parts go one after the other, and nothing
//! of it is visible, nor paid for, before the last. Google forgets an upload that was never finished after a week.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{Bytes, BytesMut};
use crc_fast::{CrcAlgorithm, checksum};
use futures_util::stream::{self, BoxStream, StreamExt};
use object_store::gcp::GcpCredentialProvider;
use reqwest::{Method, Response};
use serde::Deserialize;

use crate::domain::text;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::http::{self, Ask, Http, encoded};
use crate::storage::{InFlight, Key, Level, ObjectInfo, PutMode, Storage, Upload, paged, random_name};

mod backend;
mod config;
mod connect;
mod failure;
mod listing;
mod service_account;
mod upload;

pub use backend::GcsBackend;
pub use config::GcsConfig;
use failure::{Names, Refusal, no_credentials};
pub use service_account::ServiceAccount;

/// Bytes of a part: a multiple of 256 KiB, as Google wants it. Every object that is being written holds a few in memory.
const PART_SIZE: usize = 5 << 20;
/// What a description of an object can have.
const DESCRIPTION_BYTES: usize = 1 << 20;
/// Names the upload an object came from, so that a repeated `finish` can recognise its own work.
const MARK: &str = "mongokeep-upload";

/// A bucket, or what lies below a prefix of it.
#[derive(Debug, Clone)]
pub struct Gcs(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    in_flight: InFlight,
    http: Arc<Http>,
    /// None: requests carry no credentials.
    credentials: Option<GcpCredentialProvider>,
    /// The address of the service, without a slash at its end.
    service: String,
    bucket: String,
    /// Empty, or ends in a slash.
    base: String,
    place: String,
    names: Names,
}

/// What the service says of an object. Numbers are texts in it.
#[derive(Debug, Deserialize)]
struct Described {
    name: String,
    #[serde(default)]
    size: String,
    /// Base64, big endian.
    #[serde(default)]
    crc32c: Option<String>,
    #[serde(default)]
    metadata: std::collections::BTreeMap<String, String>,
}

impl Gcs {
    /// Reads `ca_file` and, when no credentials are given, what the environment names. Contacts nothing.
    pub async fn new(config: &GcsConfig) -> Result<Self> {
        let service = connect::service(config)?;
        let http = Http::new(&service, config.trust()).await?;
        let credentials = connect::credentials(config, &http)?;
        let prefix = config.prefix.trim_matches('/');
        if !prefix.is_empty() {
            Key::new(prefix).map_err(|_| Error::invalid("prefix", format!("{} is no prefix", text::quoted(prefix))))?;
        }
        Ok(Self(Arc::new(Inner {
            in_flight: InFlight::one_after_another(),
            names: Names {
                bucket: text::escape(&config.bucket),
                server: http.server.clone(),
                given: config.credentials.is_some(),
            },
            http: Arc::new(http),
            credentials,
            service,
            bucket: config.bucket.clone(),
            base: if prefix.is_empty() { String::new() } else { format!("{prefix}/") },
            place: text::escape(&config.place()),
        })))
    }
}

/// A CRC-32C as the service writes it.
fn written(crc: u32) -> String {
    BASE64.encode(crc.to_be_bytes())
}

fn crc32c(body: &[u8]) -> u32 {
    // 32 bits of it.
    checksum(CrcAlgorithm::Crc32Iscsi, body) as u32
}

impl Inner {
    fn object(&self, key: &Key) -> String {
        format!("{}{key}", self.base)
    }

    fn what(&self, doing: &str, key: &Key) -> String {
        format!("{doing} {}/{}", self.place, text::escape(key.as_str()))
    }

    /// About the object named in full, or all of them when it is empty.
    fn ask(&self, method: Method, object: &str, query: &str) -> Ask {
        let mut url = format!("{}/storage/v1/b/{}/o", self.service, encoded(&self.bucket, false));
        if !object.is_empty() {
            url.push('/');
            url.push_str(&encoded(object, false));
        }
        if !query.is_empty() {
            url.push('?');
            url.push_str(query);
        }
        Ask::new(method, url)
    }

    /// Where objects are sent to.
    fn uploading(&self, kind: &str) -> Ask {
        let bucket = encoded(&self.bucket, false);
        Ask::new(Method::POST, format!("{}/upload/storage/v1/b/{bucket}/o?uploadType={kind}", self.service))
    }

    /// Signs and sends. The inner error is the server's own; what is not finished (308) is none.
    async fn call(&self, what: &str, mut ask: Ask) -> Result<Result<Response, Refusal>> {
        if let Some(credentials) = &self.credentials {
            let credential = credentials.get_credential().await.map_err(|e| no_credentials(what, &e))?;
            let mut value = reqwest::header::HeaderValue::from_str(&format!("Bearer {}", credential.bearer))
                .map_err(|_| Error::new(ErrorKind::Unauthenticated, format!("{what}: the access token is no text")))?;
            value.set_sensitive(true);
            ask.headers.insert("authorization", value);
        }
        if ask.body.is_empty() && ask.method != Method::GET {
            ask.headers.insert("content-length", 0.into());
        }
        let response = self.http.send(what, ask).await?;
        if response.status().is_success() || response.status().as_u16() == 308 {
            return Ok(Ok(response));
        }
        let status = response.status().as_u16();
        let said = self.http.said(what, response).await;
        Ok(Err(Refusal::new(status, &said)))
    }

    /// The same, where a refusal is a failure.
    async fn done(&self, what: &str, ask: Ask) -> Result<Response> {
        self.call(what, ask).await?.map_err(|refusal| self.names.refused(what, &refusal))
    }

    async fn described(&self, what: &str, response: Response) -> Result<Described> {
        let body = self.http.whole(what, response, DESCRIPTION_BYTES).await?;
        serde_json::from_slice(&body).map_err(|_| {
            let why = format!("{what}: {} answered something that describes no object", self.names.server);
            Error::new(ErrorKind::Failed, why).hint("check the endpoint: it must be that of the storage")
        })
    }

    /// What the service knows of the object, or `None` when there is none.
    async fn look(&self, what: &str, key: &Key) -> Result<Option<Described>> {
        match self.call(what, self.ask(Method::GET, &self.object(key), "")).await? {
            Ok(response) => self.described(what, response).await.map(Some),
            Err(refusal) if refusal.is_missing() => {
                self.is_there(what, &refusal).await?;
                Ok(None)
            }
            Err(refusal) => Err(self.names.refused(what, &refusal)),
        }
    }

    /// After a refusal that may be about the bucket as well as the object: whether the bucket is there. A bucket that is
    /// gone is no missing object.
    async fn is_there(&self, what: &str, refusal: &Refusal) -> Result<()> {
        if refusal.names_the_object() {
            return Ok(());
        }
        let response = self.done(what, self.ask(Method::GET, "", "maxResults=1&fields=kind")).await?;
        self.http.drain(response).await;
        Ok(())
    }

    fn differs(&self, what: &str, kind: ErrorKind) -> Error {
        Error::new(kind, format!("{what}: the server says by its checksum that it holds other bytes")).hint(
            "something between here and the storage changes objects; do not keep backups there before it is found",
        )
    }
}

impl Described {
    fn size(&self) -> u64 {
        self.size.parse().unwrap_or_default()
    }
}

#[async_trait]
impl Storage for Gcs {
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
        let sum = written(crc32c(&body));
        // The description of the object, and the object, with what stands in neither between them.
        let boundary = random_name()?;
        let about = serde_json::json!({
            "name": inner.object(key), "contentType": "application/octet-stream", "crc32c": sum,
        });
        let head = format!(
            "--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{about}\r\n--{boundary}\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        );
        let tail = format!("\r\n--{boundary}--\r\n");
        let mut both = BytesMut::with_capacity(head.len() + body.len() + tail.len());
        both.extend_from_slice(head.as_bytes());
        both.extend_from_slice(&body);
        both.extend_from_slice(tail.as_bytes());
        let mut ask = inner.uploading("multipart");
        if mode == PutMode::CreateNew {
            ask.url.push_str("&ifGenerationMatch=0");
        }
        let ask = ask.header("content-type", &format!("multipart/related; boundary={boundary}")).body(both.freeze());
        let response = inner.done(&what, ask).await?;
        let told = inner.described(&what, response).await?;
        if told.crc32c.is_some_and(|told| told != sum) || told.size.parse() != Ok(body.len()) {
            return Err(inner.differs(&what, ErrorKind::Transient));
        }
        Ok(())
    }

    async fn upload(&self, key: &Key) -> Result<Box<dyn Upload>> {
        Ok(Box::new(upload::GcsUpload::begin(Arc::clone(&self.0), key).await?))
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<BoxStream<'static, Result<Bytes>>> {
        let inner = &self.0;
        let what = inner.what("reading", key);
        let missing = || Error::new(ErrorKind::NotFound, format!("{what}: there is no such object"));
        // HTTP has no empty range.
        if let Some(range) = range.as_ref().filter(|range| range.is_empty()) {
            return match inner.look(&what, key).await? {
                Some(found) if found.size() >= range.end => Ok(stream::empty().boxed()),
                Some(_) => Err(http::short(&what)),
                None => Err(missing()),
            };
        }
        let ask = inner.ask(Method::GET, &inner.object(key), "alt=media").range(range.as_ref());
        // Objects come as they are stored.
        match inner.call(&what, ask.header("accept-encoding", "gzip")).await? {
            Ok(response) => {
                let expected = http::expected(&what, &response, range.as_ref())?;
                Ok(inner.http.stream(what, response, expected))
            }
            Err(refusal) if refusal.status == 416 => Err(http::short(&what)),
            Err(refusal) if refusal.is_missing() => match inner.look(&what, key).await? {
                None => Err(missing()),
                Some(_) => Err(inner.names.passing(&what, &refusal)),
            },
            Err(refusal) => Err(inner.names.refused(&what, &refusal)),
        }
    }

    async fn stat(&self, key: &Key) -> Result<Option<ObjectInfo>> {
        let found = self.0.look(&self.0.what("looking at", key), key).await?;
        Ok(found.map(|found| ObjectInfo { key: key.clone(), size: found.size() }))
    }

    async fn list(&self, prefix: Option<&Key>) -> Result<BoxStream<'static, Result<ObjectInfo>>> {
        paged::objects(&self.0, prefix).await
    }

    async fn list_level(&self, prefix: Option<&Key>) -> Result<Level> {
        paged::level(&*self.0, prefix).await
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        let inner = &self.0;
        let what = inner.what("deleting", key);
        match inner.call(&what, inner.ask(Method::DELETE, &inner.object(key), "")).await? {
            Ok(response) => {
                inner.http.drain(response).await;
                Ok(())
            }
            Err(refusal) if refusal.is_missing() => inner.is_there(&what, &refusal).await,
            Err(refusal) => Err(inner.names.refused(&what, &refusal)),
        }
    }

    /// Uploads that were never finished cannot be listed. They are no objects, cost nothing, and are forgotten after a week.
    async fn sweep_older(&self, prefix: &Key, _: Duration) -> Result<u64> {
        // A bucket that is not there is told, as everywhere.
        listing::any(&self.0, prefix).await?;
        Ok(0)
    }

    async fn free_space(&self) -> Result<Option<u64>> {
        Ok(None)
    }
}
