//! Listing blobs and uncommitted blocks, a page at a time.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use reqwest::Method;
use serde::Deserialize;

use super::Inner;
use crate::domain::text;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::Key;
use crate::storage::http::encoded;
use crate::storage::paged::{self, Paged};

/// Blobs of a page, and the most bytes that a page of them can have: names of 1,024 characters in XML.
const PAGE: usize = 1_000;
const PAGE_BYTES: usize = 32 << 20;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Page {
    #[serde(default)]
    blobs: Blobs,
    #[serde(default)]
    next_marker: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Blobs {
    #[serde(rename = "Blob", default)]
    blobs: Vec<Blob>,
    #[serde(rename = "BlobPrefix", default)]
    folders: Vec<Folder>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Blob {
    name: Name,
    #[serde(default)]
    properties: Properties,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Folder {
    name: Name,
}

/// What XML cannot hold is percent-encoded, and said to be.
#[derive(Debug, Default, Deserialize)]
struct Name {
    #[serde(rename = "@Encoded", default)]
    encoded: bool,
    #[serde(rename = "$text", default)]
    text: String,
}

#[derive(Debug, Default, Deserialize)]
struct Properties {
    #[serde(rename = "Content-Length", default)]
    length: u64,
    #[serde(rename = "Last-Modified", default)]
    modified: Option<String>,
    #[serde(rename = "Creation-Time", default)]
    created: Option<String>,
    /// `directory` for a folder of an account with a hierarchical namespace, which is no object.
    #[serde(rename = "ResourceType", default)]
    resource: Option<String>,
}

impl Name {
    fn plain(self) -> String {
        if !self.encoded {
            return self.text;
        }
        percent_encoding::percent_decode_str(&self.text).decode_utf8_lossy().into_owned()
    }
}

/// Which blobs are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    Committed,
    /// Those that have nothing but blocks that were never committed are among them.
    Also,
}

impl Inner {
    async fn blobs(&self, below: &str, folders: bool, which: Which, marker: Option<&str>) -> Result<Page> {
        let mut query = format!("restype=container&comp=list&maxresults={PAGE}");
        for (name, value) in [
            ("prefix", Some(below).filter(|below| !below.is_empty())),
            ("delimiter", folders.then_some("/")),
            ("include", (which == Which::Also).then_some("uncommittedblobs")),
            ("marker", marker),
        ] {
            if let Some(value) = value {
                query.push_str(&format!("&{name}={}", encoded(value, false)));
            }
        }
        let what = format!("listing {}", self.place);
        let response = self.done(&what, self.ask(Method::GET, "", &query)).await?;
        let body = self.http.whole(&what, response, PAGE_BYTES).await?;
        let page = std::str::from_utf8(&body)
            .ok()
            .and_then(|text| quick_xml::de::from_str::<Page>(text.trim_start_matches('\u{feff}')).ok());
        page.ok_or_else(|| {
            let why = format!("{what}: {} answered something that is no listing", self.names.server);
            Error::new(ErrorKind::Failed, why).hint("check the endpoint: it must be that of the blob service")
        })
    }
}

impl Page {
    fn next(&mut self) -> Option<String> {
        self.next_marker.take().filter(|marker| !marker.is_empty())
    }
}

#[async_trait]
impl Paged for Inner {
    fn base(&self) -> &str {
        &self.base
    }

    fn place(&self) -> &str {
        &self.place
    }

    async fn page(&self, below: &str, folders: bool, next: Option<String>) -> Result<paged::Page> {
        let mut page = self.blobs(below, folders, Which::Committed, next.as_deref()).await?;
        let next = page.next();
        let blobs = page.blobs.blobs.into_iter();
        let objects = blobs.filter(|blob| blob.properties.resource.as_deref() != Some("directory"));
        Ok(paged::Page {
            objects: objects.map(|blob| (blob.name.plain(), blob.properties.length)).collect(),
            folders: page.blobs.folders.into_iter().map(|folder| folder.name.plain()).collect(),
            next,
        })
    }
}

/// Drops the blocks below `prefix` that were never committed. Of those of a blob that has a content besides, Azure tells
/// nothing here; they go when it is written again, or after a week. How old they are it does not say either, so that
/// with any `age` those stay whose time is not told.
pub(super) async fn sweep(inner: &Arc<Inner>, prefix: &Key, age: Duration) -> Result<u64> {
    let below = paged::below(&inner.base, Some(prefix));
    let before = chrono::TimeDelta::from_std(age).ok().and_then(|age| Utc::now().checked_sub_signed(age));
    let mut marker = None;
    let mut dropped = 0;
    loop {
        let mut page = inner.blobs(&below, false, Which::Also, marker.as_deref()).await?;
        marker = page.next();
        for blob in page.blobs.blobs {
            // Such a blob has no length. An empty object has none either, so each is looked at.
            if blob.properties.length > 0 || blob.properties.resource.as_deref() == Some("directory") {
                continue;
            }
            let began = blob.properties.created.or(blob.properties.modified);
            let began = began.and_then(|time| DateTime::parse_from_rfc2822(&time).ok());
            if !age.is_zero() && began.zip(before).is_none_or(|(began, before)| began > before) {
                continue;
            }
            let object = blob.name.plain();
            let what = format!("ending the upload of {}/{}", inner.place, text::escape(&object));
            dropped += u64::from(inner.drop_blocks(&what, &object).await?);
        }
        if marker.is_none() {
            return Ok(dropped);
        }
    }
}
