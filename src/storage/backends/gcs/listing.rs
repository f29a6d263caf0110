//! Listing objects, a page at a time.

use async_trait::async_trait;
use reqwest::Method;
use serde::Deserialize;

use super::{Described, Inner};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::Key;
use crate::storage::http::encoded;
use crate::storage::paged::{self, Paged};

/// Objects of a page, and the most bytes that a page of them can have: names of 1,024 bytes in JSON.
const PAGE: usize = 1_000;
const PAGE_BYTES: usize = 32 << 20;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    #[serde(default)]
    items: Vec<Described>,
    #[serde(default)]
    prefixes: Vec<String>,
    #[serde(default)]
    next_page_token: Option<String>,
}

impl Inner {
    async fn objects(&self, below: &str, folders: bool, most: usize, token: Option<&str>) -> Result<Page> {
        // A folder that is no more than a name ending in a slash has no objects: nothing asks for it.
        let fields = "items(name,size),prefixes,nextPageToken";
        let mut query = format!("maxResults={most}&fields={}", encoded(fields, false));
        for (name, value) in [
            ("prefix", Some(below).filter(|below| !below.is_empty())),
            ("delimiter", folders.then_some("/")),
            ("pageToken", token),
        ] {
            if let Some(value) = value {
                query.push_str(&format!("&{name}={}", encoded(value, false)));
            }
        }
        let what = format!("listing {}", self.place);
        let response = self.done(&what, self.ask(Method::GET, "", &query)).await?;
        let body = self.http.whole(&what, response, PAGE_BYTES).await?;
        serde_json::from_slice(&body).map_err(|_| {
            let why = format!("{what}: {} answered something that is no listing", self.names.server);
            Error::new(ErrorKind::Failed, why).hint("check the endpoint: it must be that of the storage")
        })
    }
}

impl Page {
    fn next(&mut self) -> Option<String> {
        self.next_page_token.take().filter(|token| !token.is_empty())
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
        let mut page = self.objects(below, folders, PAGE, next.as_deref()).await?;
        let next = page.next();
        let objects = page.items.into_iter().map(|object| (object.name.clone(), object.size())).collect();
        Ok(paged::Page { objects, folders: page.prefixes, next })
    }
}

/// Whether anything lies below `prefix`. Errors: those of a listing.
pub(super) async fn any(inner: &Inner, prefix: &Key) -> Result<bool> {
    let page = inner.objects(&paged::below(&inner.base, Some(prefix)), false, 1, None).await?;
    Ok(!page.items.is_empty())
}
