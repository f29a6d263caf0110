//! Listing objects, a page at a time.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use reqwest::Method;
use serde::Deserialize;

use super::{Described, Inner};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::http::encoded;
use crate::storage::{Key, MOST_FOLDERS, ObjectInfo, too_many_folders};

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
    /// What the full names below `prefix` begin with: empty, or ending in a slash.
    fn below(&self, prefix: Option<&Key>) -> String {
        match prefix {
            Some(prefix) => format!("{}{prefix}/", self.base),
            None => self.base.clone(),
        }
    }

    async fn page(&self, below: &str, folders: bool, most: usize, token: Option<&str>) -> Result<Page> {
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

/// Where a listing stands between two pages.
enum Next {
    Page(Page),
    Ask(String),
}

/// All objects below `prefix`; memory: one page of at most 1,000.
pub(super) async fn objects(
    inner: &Arc<Inner>,
    prefix: Option<&Key>,
) -> Result<BoxStream<'static, Result<ObjectInfo>>> {
    let below = inner.below(prefix);
    // The first page is fetched here, so that a bucket that is not there fails the call.
    let first = inner.page(&below, false, PAGE, None).await?;
    let inner = Arc::clone(inner);
    let pages = stream::try_unfold(Some(Next::Page(first)), move |next| {
        let (inner, below) = (Arc::clone(&inner), below.clone());
        async move {
            let mut page = match next {
                None => return Ok::<_, Error>(None),
                Some(Next::Page(page)) => page,
                Some(Next::Ask(token)) => inner.page(&below, false, PAGE, Some(&token)).await?,
            };
            let next = page.next().map(Next::Ask);
            let objects = page.items.into_iter().filter_map(|object| {
                // A name that is not ours to give (`folder/`, `a//b`) is not ours.
                let key = Key::new(object.name.strip_prefix(&inner.base)?).ok()?;
                Some(Ok(ObjectInfo { key, size: object.size() }))
            });
            Ok(Some((stream::iter(objects.collect::<Vec<_>>()), next)))
        }
    });
    Ok(pages.try_flatten().boxed())
}

/// The names of the folders directly below `prefix`; memory: these, and not the objects beside them.
pub(super) async fn folders(inner: &Inner, prefix: Option<&Key>) -> Result<Vec<String>> {
    let below = inner.below(prefix);
    let mut names = BTreeSet::new();
    let mut token = None;
    loop {
        let mut page = inner.page(&below, true, PAGE, token.as_deref()).await?;
        token = page.next();
        for full in page.prefixes {
            if let Some(name) = full.strip_prefix(&below).and_then(|name| name.strip_suffix('/'))
                && Key::new(name).is_ok()
            {
                names.insert(name.to_owned());
            }
        }
        if names.len() > MOST_FOLDERS {
            return Err(too_many_folders(&inner.place));
        }
        if token.is_none() {
            return Ok(names.into_iter().collect());
        }
    }
}

/// Whether anything lies below `prefix`. Errors: those of a listing.
pub(super) async fn any(inner: &Inner, prefix: &Key) -> Result<bool> {
    let page = inner.page(&inner.below(Some(prefix)), false, 1, None).await?;
    Ok(!page.items.is_empty())
}
